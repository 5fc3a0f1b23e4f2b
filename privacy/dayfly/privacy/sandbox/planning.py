"""From a query and a budget to a plan: which noise each part gets, and what the whole costs. No row is read.

The rule for the mechanism: discrete Laplace where epsilon stands alone (pure DP); discrete Gaussian where rho is given. With
epsilon and delta both guarantees hold, and the one with less noise is taken: Gaussian noise grows with the root of the number
of groups and columns, Laplace noise with the number itself, so Laplace wins for one number and Gaussian for many.

Claim: releasing every part with its noise costs at most `Plan.cost`. Precondition: each part's sensitivity holds. Argument:
Laplace: the epsilons of the parts are exact fractions that add up to the budget (basic composition). Gaussian: the rhos add up
(Bun and Steinke 2016, Lemma 1.7), and rho-zCDP with rho = `rho_of_epsilon_delta(epsilon, delta)` is (epsilon, delta)-DP, so
both statements of the cost are true of the same release. A selection of keys adds its delta. All else is post-processing.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal, TypeAlias

from dayfly.privacy.accounting import (
    ComposedLoss,
    Cost,
    GaussianLoss,
    LaplaceLoss,
    LossEvent,
    ThresholdLoss,
    cost_of,
    gaussian_scale,
    laplace_scale,
    rho_of_epsilon_delta,
)
from dayfly.privacy.accounting.selection import smallest_threshold
from dayfly.privacy.errors import InvalidQuery

from .checking import KEYS, Checked
from .documents import digest_of
from .numbers import Budget, Number, exact
from .parts import Part, Role, customers_part, parts_of
from .queries import Customers, label_of

__all__ = ["Mechanism", "NoisyPart", "Outline", "Plan", "outline", "plan"]

Mechanism: TypeAlias = Literal["laplace", "gaussian"]

_SMALLEST_SHARE: Final = Fraction(1, 10**6)


@dataclass(frozen=True, slots=True)
class NoisyPart:
    """A part with its noise.

    Attributes:
        part: What.
        mechanism: Kind of noise, on integers.
        scale: Of the noise, in lattice units.
        share: Of the budget, in (0, 1].
        noise: Loss of the noise alone.
        event: Its loss.
        threshold: Smallest noisy count of customers with which an unknown key is shown; 0 where all keys are known.
        labels: Columns of the answer that are made of it.
    """

    part: Part
    mechanism: Mechanism
    scale: Fraction
    share: Fraction
    noise: LaplaceLoss | GaussianLoss
    event: LossEvent
    threshold: int
    labels: tuple[str, ...]

    @property
    def std(self) -> float:
        """Standard deviation of the noise in lattice units; for the discrete kinds at most this."""
        return float(self.scale) * (math.sqrt(2) if self.mechanism == "laplace" else 1.0)


@dataclass(frozen=True, slots=True)
class Outline:
    """What a plan says whatever the budget is.

    Attributes:
        checked: The query.
        digest: Of the query's canonical JSON, SHA-256, hexadecimal.
        shares: Share of each part, adding up to one.
        labels: Columns of the answer that are made of a part.
        measured: Parts of each measure of the query.
    """

    checked: Checked
    digest: str
    shares: Mapping[Part, Fraction]
    labels: Mapping[Part, tuple[str, ...]]
    measured: tuple[tuple[Part, ...], ...]


@dataclass(frozen=True)
class Plan:
    """How a query will be answered.

    Attributes:
        checked: The query.
        digest: Of the query's canonical JSON, SHA-256, hexadecimal.
        budget: What it may cost.
        parts: Noisy vectors by part.
        measured: Parts of each measure of the query.
        event: Loss of all of it.
        cost: What the ledger is asked for.
    """

    checked: Checked
    digest: str
    budget: Budget
    parts: Mapping[Part, NoisyPart]
    measured: tuple[tuple[Part, ...], ...]
    event: LossEvent
    cost: Cost

    @property
    def mechanism(self) -> Mechanism:
        """Kind of noise."""
        return next(iter(self.parts.values())).mechanism

    @property
    def selection(self) -> NoisyPart | None:
        """The part that selects unknown keys."""
        return next((one for one in self.parts.values() if one.part.role is Role.KEYS), None)


@dataclass(frozen=True, slots=True)
class _Amounts:
    """A budget per mechanism: `total` is epsilon or rho, `claimed` the epsilon that a rho was made from."""

    mechanism: Mechanism
    total: Fraction
    claimed: Fraction | None
    conversion_delta: Fraction
    threshold_delta: Fraction


def plan(found: Outline, budget: Budget) -> Plan:
    """Plan a release.

    Args:
        found: Outline of the query, with the shares of this budget.
        budget: Epsilon, or epsilon and delta, or rho (and delta).

    Raises:
        InvalidQuery: the budget is none, or lacks the delta that unknown keys need.
    """
    plans = [_with(found, budget, amounts) for amounts in _amounts(found.checked, budget)]
    return plans[0] if len(plans) == 1 else min(plans, key=_noise)


def _noise(found: Plan) -> float:
    return sum(math.log(one.std) for one in found.parts.values())


def outline(checked: Checked, weights: Mapping[str, Number]) -> Outline:
    """Parts of a query and how they share a budget.

    Args:
        checked: A query that passed `check`.
        weights: Of columns of the answer, by name; 1 where none is given.

    Raises:
        InvalidQuery: weights name no column, or are none.
        QueryTooLarge: as `parts_of`.
    """
    weighted = _weights(checked, weights)
    shares: dict[Part, Fraction] = {}
    labels: dict[Part, tuple[str, ...]] = {}
    measured: list[tuple[Part, ...]] = []

    def add(parts: tuple[Part, ...], label: str) -> None:
        for part in parts:
            shares[part] = shares.get(part, Fraction(0)) + weighted[label] / len(parts)
            labels[part] = (*labels.get(part, ()), label)

    if not checked.known:
        add((customers_part(checked, Role.KEYS),), KEYS)
    for measure in checked.query.measures:
        if isinstance(measure, Customers) and not checked.known:
            measured.append((customers_part(checked, Role.KEYS),))  # the selection has counted them already
        else:
            measured.append(parts_of(measure, checked))
        add(measured[-1], label_of(measure))
    total = sum(shares.values())
    return Outline(
        checked,
        digest_of(checked.query).hex(),
        {part: share / total for part, share in shares.items()},
        labels,
        tuple(measured),
    )


def _weights(checked: Checked, shares: Mapping[str, Number]) -> dict[str, Fraction]:
    names = [label_of(measure) for measure in checked.query.measures] + ([] if checked.known else [KEYS])
    unknown = sorted(set(shares) - set(names))
    if unknown:
        raise InvalidQuery(
            f"shares of {unknown} must name columns of the answer: {', '.join(names)}; rename them"
        )
    weights = {name: exact(shares.get(name, 1), f"share of {name!r}") for name in names}
    largest = max(weights.values())
    for name, weight in weights.items():
        if weight <= 0 or weight < largest * _SMALLEST_SHARE:
            raise InvalidQuery(
                f"share of {name!r} must be > 0 and no millionth of another; it is {float(weight)!r}"
            )
    return weights


def _amounts(checked: Checked, budget: Budget) -> list[_Amounts]:
    """The ways in which a budget can be spent."""
    epsilon, rho, delta = budget.exact_epsilon, budget.exact_rho, budget.exact_delta
    if (epsilon is None) == (rho is None):
        raise InvalidQuery(
            f"epsilon={budget.epsilon!r} rho={budget.rho!r} must be exactly one number; give epsilon (with delta) or rho"
        )
    unknown = not checked.known
    if unknown and delta == 0:
        raise InvalidQuery(
            "delta=0 must be > 0 where keys are unknown, because a key of one customer may be shown; give a delta such as "
            "1e-6, or the keys"
        )
    if rho is not None:
        if delta and not unknown:
            raise InvalidQuery(
                f"delta={budget.delta!r} must be left out beside rho where all keys are known; drop it"
            )
        return [_Amounts("gaussian", rho, None, Fraction(0), delta)]
    assert epsilon is not None
    ways = [_Amounts("laplace", epsilon, None, Fraction(0), delta if unknown else Fraction(0))]
    if delta:
        half = delta / 2 if unknown else delta
        as_rho = rho_of_epsilon_delta(epsilon, half)
        if as_rho > 0:
            ways.append(_Amounts("gaussian", as_rho, epsilon, half, delta - half))
    return ways


def _with(found: Outline, budget: Budget, amounts: _Amounts) -> Plan:
    parts = {part: _noisy(part, amounts, share, found.labels[part]) for part, share in found.shares.items()}
    event = ComposedLoss(tuple(one.event for one in parts.values()))
    cost = cost_of(event)
    if amounts.claimed is not None:
        cost = Cost(epsilon=amounts.claimed, rho=cost.rho, delta=cost.delta + amounts.conversion_delta)
    return Plan(found.checked, found.digest, budget, parts, found.measured, event, cost)


def _noisy(part: Part, amounts: _Amounts, share: Fraction, labels: tuple[str, ...]) -> NoisyPart:
    changed, total = part.sensitivity, amounts.total * share
    noise: LaplaceLoss | GaussianLoss
    if amounts.mechanism == "laplace":
        noise = LaplaceLoss(laplace_scale(changed.l1, total), changed.l1)
    else:
        noise = GaussianLoss(gaussian_scale(changed.l2_squared, total), changed.l2_squared)
    if part.role is not Role.KEYS:
        return NoisyPart(part, amounts.mechanism, noise.scale, share, noise, noise, 0, labels)
    threshold = smallest_threshold(noise, amounts.threshold_delta, l0=changed.l0, linf=changed.linf)
    event = ThresholdLoss(noise, amounts.threshold_delta)
    return NoisyPart(part, amounts.mechanism, noise.scale, share, noise, event, threshold, labels)
