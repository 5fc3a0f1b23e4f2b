"""Plans: releases whose parameters are fixed ahead, and the sharpest epsilon that can be told for them.

Claim:
    `Plan.epsilon(delta)` is an upper bound of the exact epsilon at that delta.

Argument:
    It is the least of three upper bounds: the privacy loss distribution (`pld`), the conversion of zCDP (`conversions`), and basic
    composition (`costs`); each is one by its own argument.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .composition import compose, saddle
from .conversions import delta_of_rho, exact_epsilon_of_rho
from .costs import Cost, cost_of
from .losses import (
    ApproxLoss,
    ComposedLoss,
    GaussianLoss,
    LossEvent,
    PureLoss,
    ThresholdLoss,
    ZcdpLoss,
    leaves,
)
from .pld import LossDistribution, discretise, variance_of
from .profiles import (
    Adjacency,
    Profile,
    exactly_summed,
    gaussian_parts,
    gaussian_profile,
    profile_of,
    zcdp_profile,
)
from .rounding import Exact, coarse_down, float_down, float_up, probability

Floats = NDArray[np.float64]

_RESOLUTION: Final = 400
_FINEST: Final = 1 << 19
_MANY: Final = 600
_SHARP: Final = 10_000
"""A delta below so many times the error of the transform is asked again, tilted towards it."""


@dataclass(frozen=True)
class PrivacyLoss:
    """Loss distributions of both directions.

    Attributes:
        remove: The data with the customer against the data without.
        add: The data without the customer against the data with; the same object for symmetric noise.
    """

    remove: LossDistribution
    add: LossDistribution

    @property
    def doubt(self) -> float:
        """What rounding may have taken from delta at epsilon 0."""
        return math.exp(min(700.0, max(self.remove.doubt.log_size, self.add.doubt.log_size)))

    def epsilon(self, delta: float) -> float:
        """Upper bound of epsilon at `delta`, for adding and for removing a customer."""
        return max(self.remove.epsilon(delta), self.add.epsilon(delta))

    def delta(self, epsilon: float) -> float:
        """Upper bound of delta at `epsilon`, for adding and for removing a customer."""
        return max(self.remove.delta(epsilon), self.add.delta(epsilon))


def loss_distribution(
    event: LossEvent,
    *,
    adjacency: Adjacency = "add_or_remove",
    step: float | None = None,
    near: float | None = None,
) -> PrivacyLoss:
    """The privacy loss distribution of everything in `event`, parameters fixed ahead.

    Args:
        event: Any loss event.
        adjacency: Neighbouring relation.
        step: Grid spacing in nats; by default about a 400th of a typical loss's standard deviation.
        near: The delta at which it is wanted sharp; by default all deltas well above the error of the transform, some 1e-9.

    Raises:
        InvalidArgument: An event without a known profile, or a grid too fine.
    """
    parts = _gathered(event, adjacency)
    if not parts.profiles:
        return PrivacyLoss(parts.leaking(_NOTHING), parts.leaking(_NOTHING))
    grid = step or _step(parts.profiles)
    remove = _composed(
        [(profile.forward, profile.span, times) for profile, times in parts.profiles], grid, near
    )
    if all(profile.symmetric for profile, _ in parts.profiles):
        both = parts.leaking(remove)
        return PrivacyLoss(both, both)
    add = _composed(
        [(profile.backward, _swapped(profile), times) for profile, times in parts.profiles], grid, near
    )
    return PrivacyLoss(parts.leaking(remove), parts.leaking(add))


def _composed(
    directed: list[tuple[Callable[[Floats], Floats], tuple[float, float], int]],
    grid: float,
    near: float | None,
) -> LossDistribution:
    parts = [(discretise(profile, span, grid), times) for profile, span, times in directed]
    return compose(parts, tilt=saddle(parts, near) if near else 0.0)


def _swapped(profile: Profile) -> tuple[float, float]:
    return profile.span if profile.symmetric else (-profile.span[1], -profile.span[0])


_NOTHING: Final = LossDistribution(step=1.0, first=0, masses=np.array([1.0, 0.0]), infinite=0.0)


@dataclass(frozen=True)
class _Parts:
    """Profiles with their multiplicities, and the probability that nothing leaks outright."""

    profiles: list[tuple[Profile, int]]
    kept: Fraction

    def leaking(self, loss: LossDistribution) -> LossDistribution:
        """Claim 4 of `profiles`, for all leaks together."""
        if self.kept == 1:
            return loss
        kept, leak = float_up(self.kept), float_up(1 - self.kept)
        return replace(loss, masses=loss.masses * kept, infinite=leak + kept * loss.infinite)


def _gathered(event: LossEvent, adjacency: Adjacency) -> _Parts:
    """Equal events are counted, Gaussians and zCDP statements added up exactly before anything is put on a grid."""
    factor = 2 if adjacency == "replace" else 1
    mu_squared = rho = Fraction(0)
    kept, counted = Fraction(1), Counter[LossEvent]()
    for whole, times in leaves(event):
        leaf, leak = _parted(whole)
        kept *= coarse_down((1 - leak) ** times) if leak else 1
        if isinstance(leaf, ZcdpLoss) and factor == 1:
            rho += leaf.rho * times
        elif isinstance(leaf, GaussianLoss) and not exactly_summed(leaf, factor):
            more_mu, more_rho = gaussian_parts(leaf, factor)
            mu_squared, rho = mu_squared + more_mu * times, rho + more_rho * times
        else:
            counted[leaf] += times
    profiles = [(profile_of(leaf, adjacency=adjacency), times) for leaf, times in counted.items()]
    profiles += [(gaussian_profile(mu_squared), 1)] if mu_squared else []
    profiles += [(zcdp_profile(rho), 1)] if rho else []
    return _Parts(
        [(profile, times) for profile, times in profiles if profile.span[1] > profile.span[0]], kept
    )


def _parted(event: LossEvent) -> tuple[LossEvent, Fraction]:
    """An event without its leak, and the leak's probability."""
    match event:
        case ThresholdLoss(noise, delta):
            return noise, delta
        case ApproxLoss(epsilon, delta):
            return PureLoss(epsilon), delta
        case ZcdpLoss(rho, delta):
            return ZcdpLoss(rho), Fraction(delta)
        case _:
            return event, Fraction(0)


def _step(profiles: list[tuple[Profile, int]]) -> float:
    """A 400th of the root mean square loss, coarser where the sum of very many would need more cells than there are."""
    releases = sum(times for _, times in profiles)
    variance = math.fsum(variance_of(profile) * times for profile, times in profiles)
    widest = max(profile.span[1] - profile.span[0] for profile, _ in profiles)
    coarser = max(1.0, math.sqrt(releases) / _MANY)  # the window has some 18 * 400 * sqrt(releases) cells
    return max(math.sqrt(variance / releases) / _RESOLUTION * coarser, widest / _FINEST, 1e-9)


@dataclass(frozen=True)
class Plan:
    """Releases fixed ahead of the first answer.

    Attributes:
        events: What will be released.
    """

    events: tuple[LossEvent, ...]

    @classmethod
    def of(cls, events: Iterable[LossEvent]) -> "Plan":
        """A plan of these events."""
        return cls(tuple(events))

    @cached_property
    def cost(self) -> Cost:
        """What the events cost in the currencies of a ledger."""
        return cost_of(ComposedLoss(self.events))

    @cached_property
    def loss(self) -> PrivacyLoss:
        """The privacy loss distribution of all events together."""
        return loss_distribution(ComposedLoss(self.events))

    def epsilon(self, delta: Exact) -> float:
        """The sharpest epsilon known at `delta`, rounded up; infinity when there is none.

        Raises:
            InvalidArgument: `delta` is not an exact number in [0, 1).
        """
        target = probability("delta", delta)
        left = target - self.cost.delta
        bounds = [self.loss.epsilon(float_down(target))]
        if 0 < target < _SHARP * self.loss.doubt:
            bounds.append(
                loss_distribution(ComposedLoss(self.events), near=float_down(target)).epsilon(
                    float_down(target)
                )
            )
        if self.cost.epsilon is not None and left >= 0:
            bounds.append(float_up(self.cost.epsilon))
        if left > 0:
            bounds.append(
                float_up(exact_epsilon_of_rho(self.cost.rho, min(left, Fraction(999_999, 1_000_000))))
            )
        return min(bounds)

    def delta(self, epsilon: Exact) -> float:
        """The sharpest delta known at `epsilon`, rounded up.

        Raises:
            InvalidArgument: `epsilon` is negative or not exact.
        """
        bounds = [self.loss.delta(float_down(epsilon)), float_up(delta_of_rho_with(self.cost, epsilon))]
        if self.cost.epsilon is not None and self.cost.epsilon <= epsilon:
            bounds.append(float_up(self.cost.delta))
        return min(1.0, *bounds)


def delta_of_rho_with(cost: Cost, epsilon: Exact) -> Fraction:
    """Delta of the zCDP of `cost` at `epsilon`, its own delta included."""
    return Fraction(delta_of_rho(cost.rho, epsilon)) + cost.delta
