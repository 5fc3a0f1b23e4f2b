"""Frozen descriptions of privacy loss: what was released with which noise, kept apart from every accountant that adds them up.

An event states public facts only (noise scale, sensitivity, probabilities), never a value, so it may be printed, logged and stored.
Scales and sensitivities are in lattice units: the integers on which sums are kept and noise is drawn.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from dayfly.privacy.errors import InvalidArgument

from .rounding import exact, positive_exact, probability

__all__ = [
    "ApproxLoss",
    "ComposedLoss",
    "GaussianLoss",
    "LaplaceLoss",
    "LossEvent",
    "NoLoss",
    "PoissonSampledLoss",
    "PureLoss",
    "RandomizedResponseLoss",
    "RepeatedLoss",
    "Sensitivity",
    "ThresholdLoss",
    "ZcdpLoss",
    "leaves",
]

Domain = Literal["integers", "reals"]


def _count(name: str, value: object, *, least: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidArgument(f"{name}={value!r} must be an integer >= {least}; pass a count")
    return value


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """How far one customer, added or removed, can move a vector of integers.

    Attributes:
        l0: Number of coordinates that can change.
        l1: Sum of the changes' sizes.
        l2_squared: Sum of the changes' squares.
        linf: Largest single change.

    Raises:
        InvalidArgument: Negative, not integers, or norms that no vector has (`l1 > l0 * linf`, `l2_squared > l1 * linf`).
    """

    l0: int
    l1: int
    l2_squared: int
    linf: int

    def __post_init__(self) -> None:
        for name in ("l0", "l1", "l2_squared", "linf"):
            _count(name, getattr(self, name))
        if self.l1 > self.l0 * self.linf or self.l2_squared > self.l1 * self.linf:
            raise InvalidArgument(
                f"l0={self.l0!r} l1={self.l1!r} l2_squared={self.l2_squared!r} linf={self.linf!r} must be norms of one vector; "
                "use Sensitivity.bounded(l0, linf) for contributions bounded by count and size"
            )

    @classmethod
    def bounded(cls, l0: int, linf: int) -> "Sensitivity":
        """Of at most `l0` changed coordinates, each by at most `linf`: l1 = l0 linf, l2^2 = l0 linf^2."""
        return cls(l0=l0, l1=l0 * linf, l2_squared=l0 * linf * linf, linf=linf)


def _set(event: object, name: str, value: Fraction) -> None:
    object.__setattr__(event, name, value)


def _whole(event: object, name: str, value: Fraction, domain: Domain) -> None:
    if domain == "integers" and value.denominator != 1:
        raise InvalidArgument(
            f"{name}={value!r} must be a whole number of lattice units; round it up, or pass domain='reals' for continuous noise"
        )
    if domain not in ("integers", "reals"):
        raise InvalidArgument(
            f"domain={domain!r} must be 'integers' or 'reals'; Dayfly draws on the integers"
        )
    _set(event, name, value)


@dataclass(frozen=True, slots=True)
class LaplaceLoss:
    """Laplace noise of `scale` on each coordinate of a vector with L1 sensitivity `l1`: pure DP with epsilon = l1 / scale.

    Attributes:
        scale: b of a probability proportional to exp(-|x| / b).
        l1: L1 sensitivity in the same unit.
        domain: `"integers"` for the discrete Laplace that Dayfly draws; `"reals"` for the textbook one.
    """

    scale: Fraction
    l1: Fraction | int
    domain: Domain = "integers"

    def __post_init__(self) -> None:
        _set(self, "scale", positive_exact("scale", self.scale))
        _whole(self, "l1", _not_negative("l1", self.l1), self.domain)

    @property
    def epsilon(self) -> Fraction:
        """Pure-DP epsilon, exactly."""
        return Fraction(self.l1) / self.scale


@dataclass(frozen=True, slots=True)
class GaussianLoss:
    """Gaussian noise of standard-deviation parameter `scale` on a vector with squared L2 sensitivity `l2_squared`.

    Attributes:
        scale: sigma of a probability proportional to exp(-x^2 / (2 sigma^2)).
        l2_squared: Squared L2 sensitivity in the same unit.
        domain: `"integers"` for the discrete Gaussian that Dayfly draws; `"reals"` for the textbook one.
    """

    scale: Fraction
    l2_squared: Fraction | int
    domain: Domain = "integers"

    def __post_init__(self) -> None:
        _set(self, "scale", positive_exact("scale", self.scale))
        _whole(self, "l2_squared", _not_negative("l2_squared", self.l2_squared), self.domain)

    @property
    def rho(self) -> Fraction:
        """Of zCDP: rho = l2^2 / (2 sigma^2), exactly (Canonne, Kamath, Steinke 2020, Theorem 14)."""
        return Fraction(self.l2_squared) / (2 * self.scale * self.scale)


def _not_negative(name: str, value: object) -> Fraction:
    checked = exact(name, value)
    if checked < 0:
        raise InvalidArgument(f"{name}={value!r} must be >= 0; pass {name}=0 or more")
    return checked


@dataclass(frozen=True, slots=True)
class PureLoss:
    """Anything that is epsilon-DP."""

    epsilon: Fraction

    def __post_init__(self) -> None:
        _set(self, "epsilon", _not_negative("epsilon", self.epsilon))


@dataclass(frozen=True, slots=True)
class ApproxLoss:
    """Anything that is (epsilon, delta)-DP."""

    epsilon: Fraction
    delta: Fraction

    def __post_init__(self) -> None:
        _set(self, "epsilon", _not_negative("epsilon", self.epsilon))
        _set(self, "delta", probability("delta", self.delta))


@dataclass(frozen=True, slots=True)
class ZcdpLoss:
    """Anything that is delta-approximately rho-zCDP: continual releases state theirs so."""

    rho: Fraction
    delta: Fraction | int = 0

    def __post_init__(self) -> None:
        _set(self, "rho", _not_negative("rho", self.rho))
        _set(self, "delta", probability("delta", self.delta))


@dataclass(frozen=True, slots=True)
class NoLoss:
    """A release that depends on no private data."""


@dataclass(frozen=True, slots=True)
class ThresholdLoss:
    """Noisy values of which only those at or above a threshold are shown, so that the keys themselves stay private.

    Attributes:
        noise: The loss of the noise on the values of keys that both neighbours have.
        delta: Bound on the probability that any key which only one neighbour has is shown (`selection.threshold_delta`).
    """

    noise: LaplaceLoss | GaussianLoss
    delta: Fraction

    def __post_init__(self) -> None:
        if not isinstance(self.noise, LaplaceLoss | GaussianLoss):
            raise InvalidArgument(
                f"noise={self.noise!r} must be a LaplaceLoss or GaussianLoss; a threshold needs noise"
            )
        _set(self, "delta", probability("delta", self.delta))


@dataclass(frozen=True, slots=True)
class RandomizedResponseLoss:
    """k-ary randomised response: the true category, or with `noise` probability one drawn evenly from all `categories`.

    The neighbouring relation is replacement of the one answer that a person gives.

    Attributes:
        noise: Probability of answering evenly at random, in (0, 1].
        categories: Number of answers, at least 2.
    """

    noise: Fraction
    categories: int

    def __post_init__(self) -> None:
        _count("categories", self.categories, least=2)
        _set(self, "noise", positive_exact("noise", self.noise))
        probability("noise", self.noise)

    @property
    def odds(self) -> Fraction:
        """e^epsilon = P(truth) / P(one given other answer), exactly."""
        other = self.noise / self.categories
        return (1 - self.noise + other) / other


@dataclass(frozen=True, slots=True)
class PoissonSampledLoss:
    """`part` run on a Poisson sample: every customer is in it with probability `rate`, independently, unseen by the analyst."""

    part: "LossEvent"
    rate: Fraction

    def __post_init__(self) -> None:
        _event("part", self.part)
        _set(self, "rate", probability("rate", self.rate))


@dataclass(frozen=True, slots=True)
class ComposedLoss:
    """All of `parts`, on the same customers."""

    parts: tuple["LossEvent", ...]

    def __post_init__(self) -> None:
        for part in self.parts:
            _event("parts", part)


@dataclass(frozen=True, slots=True)
class RepeatedLoss:
    """`part`, `times` times over with fresh noise, on the same customers."""

    part: "LossEvent"
    times: int

    def __post_init__(self) -> None:
        _event("part", self.part)
        _count("times", self.times)


LossEvent = (
    LaplaceLoss
    | GaussianLoss
    | PureLoss
    | ApproxLoss
    | ZcdpLoss
    | NoLoss
    | ThresholdLoss
    | RandomizedResponseLoss
    | PoissonSampledLoss
    | ComposedLoss
    | RepeatedLoss
)


def _event(name: str, value: object) -> None:
    if not isinstance(value, LossEvent):
        raise InvalidArgument(f"{name}={value!r} must be a loss event; see dayfly.privacy.accounting.losses")


def leaves(event: LossEvent, *, times: int = 1) -> Iterator[tuple[LossEvent, int]]:
    """The events without composition and repetition, each with how often it happens."""
    match event:
        case ComposedLoss(parts):
            for part in parts:
                yield from leaves(part, times=times)
        case RepeatedLoss(part, again):
            if times * again:
                yield from leaves(part, times=times * again)
        case NoLoss():
            return
        case _:
            yield event, times
