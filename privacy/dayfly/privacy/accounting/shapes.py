"""Shapes of privacy profiles: delta(epsilon) of the known pairs, each rounded up. What they prove is in `profiles`."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from .gaussian import ULP, gaussian_delta

__all__ = [
    "GaussianProfile",
    "LaplaceProfile",
    "LeakyProfile",
    "Profile",
    "ReplacedGaussianProfile",
    "ResponseProfile",
    "SampledProfile",
    "TablePair",
    "ZcdpProfile",
]

Floats = NDArray[np.float64]

_TAIL: Final = 9.5
"""Standard deviations beyond which a Gaussian loss is moved to infinity: weighs 1e-21."""


class Profile(Protocol):
    """delta(epsilon) of one loss event, rounded up."""

    @property
    def symmetric(self) -> bool:
        """Backward equals forward."""
        ...

    @property
    def span(self) -> tuple[float, float]:
        """Least and largest loss, forward, that weigh more than next to nothing."""
        ...

    def forward(self, epsilon: Floats) -> Floats:
        """With the customer against without."""
        ...

    def backward(self, epsilon: Floats) -> Floats:
        """Without the customer against with."""
        ...


def _lifted(delta: Floats) -> Floats:
    return np.clip(delta * (1 + 64 * ULP) + 4 * ULP, 0.0, 1.0)


class _Symmetric(ABC):
    symmetric = True

    @abstractmethod
    def forward(self, epsilon: Floats) -> Floats:
        """With the customer against without."""

    def backward(self, epsilon: Floats) -> Floats:
        """Without the customer against with."""
        return self.forward(epsilon)


@dataclass(frozen=True)
class LaplaceProfile(_Symmetric):
    """Claims 1 and 2. `steps` is D on the integers and 0 on the reals."""

    epsilon: float
    steps: int

    @property
    def span(self) -> tuple[float, float]:
        """See `Profile`."""
        return -self.epsilon, self.epsilon

    def forward(self, epsilon: Floats) -> Floats:
        """With the customer against without."""
        inside = np.clip(epsilon, -self.epsilon, self.epsilon)
        if self.steps == 0:
            kept = np.exp((inside - self.epsilon) / 2)
        else:
            unit = self.epsilon / self.steps
            below = np.clip(np.floor((inside / unit + self.steps) / 2), 0, self.steps - 1)
            low = 2 * below - self.steps
            at_low, at_high = np.exp((low - self.steps) * unit / 2), np.exp((low + 2 - self.steps) * unit / 2)
            share = np.clip(np.expm1(inside - low * unit) / math.expm1(2 * unit), 0.0, 1.0)
            kept = at_low + (at_high - at_low) * share
        left = -np.expm1(np.minimum(epsilon, 0.0))
        return _lifted(
            np.where(epsilon >= self.epsilon, 0.0, np.where(epsilon <= -self.epsilon, left, 1 - kept))
        )


@dataclass(frozen=True)
class GaussianProfile(_Symmetric):
    """Claim 1 of `gaussian`: noise on the reals with l2 / sigma = `mu`."""

    mu: float

    @property
    def span(self) -> tuple[float, float]:
        """See `Profile`."""
        return self.mu * (self.mu / 2 - _TAIL), self.mu * (self.mu / 2 + _TAIL)

    def forward(self, epsilon: Floats) -> Floats:
        """With the customer against without."""
        return _lifted(gaussian_delta(self.mu, epsilon))


@dataclass(frozen=True)
class TablePair:
    """Two tables of probabilities over the same outcomes: P and Q."""

    above: Floats
    below: Floats
    symmetric: bool

    @property
    def span(self) -> tuple[float, float]:
        """Least and largest finite loss of P against Q."""
        both = (self.above > 0) & (self.below > 0)
        losses = np.log(self.above[both] / self.below[both])
        return float(losses.min()) - 1e-9, float(losses.max()) + 1e-9

    def forward(self, epsilon: Floats) -> Floats:
        """P against Q."""
        return _hockey_stick(self.above, self.below, epsilon)

    def backward(self, epsilon: Floats) -> Floats:
        """Q against P."""
        return _hockey_stick(self.below, self.above, epsilon)


def _hockey_stick(above: Floats, below: Floats, epsilon: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        losses = np.where(below > 0, np.log(above / below), np.inf)
        losses[(above == 0) & (below == 0)] = -np.inf
    order = np.argsort(losses, kind="stable")
    tail_above = np.append(np.cumsum(above[order][::-1].astype(np.longdouble))[::-1], 0)
    tail_below = np.append(np.cumsum(below[order][::-1].astype(np.longdouble))[::-1], 0)
    start = np.searchsorted(losses[order], epsilon, side="right")
    with np.errstate(over="ignore"):
        delta = tail_above[start] - np.where(tail_below[start] > 0, np.exp(epsilon) * tail_below[start], 0.0)
    return _lifted(np.asarray(delta, dtype=np.float64) + 1e-19)


@dataclass(frozen=True)
class ResponseProfile(_Symmetric):
    """Losses +-epsilon with probability `p_high`, `p_low`, else 0; the worst epsilon-DP pair has no zeros."""

    epsilon: float
    p_high: float
    p_low: float

    @property
    def span(self) -> tuple[float, float]:
        """See `Profile`."""
        return -self.epsilon, self.epsilon

    def forward(self, epsilon: Floats) -> Floats:
        """With the customer against without."""
        zero = max(0.0, 1 - self.p_high - self.p_low)
        with np.errstate(over="ignore"):
            ratio = np.exp(epsilon)
            losses = (
                np.maximum(0.0, self.p_high - ratio * self.p_low)
                + np.maximum(0.0, zero * (1 - ratio))
                + np.maximum(0.0, self.p_low - ratio * self.p_high)
            )
        return _lifted(losses)


@dataclass(frozen=True)
class LeakyProfile:
    """Claim 4."""

    part: Profile
    leak: float

    @property
    def symmetric(self) -> bool:
        """Backward equals forward."""
        return self.part.symmetric

    @property
    def span(self) -> tuple[float, float]:
        """See `Profile`."""
        return self.part.span

    def forward(self, epsilon: Floats) -> Floats:
        """With the customer against without."""
        return _lifted(self.leak + (1 - self.leak) * self.part.forward(epsilon))

    def backward(self, epsilon: Floats) -> Floats:
        """Without the customer against with."""
        return _lifted(self.leak + (1 - self.leak) * self.part.backward(epsilon))


@dataclass(frozen=True)
class SampledProfile:
    """Claim 3."""

    part: Profile
    rate: float
    symmetric: bool = False

    @property
    def span(self) -> tuple[float, float]:
        """See `Profile`."""
        low = math.log1p(-self.rate) if self.rate < 1 else self.part.span[0]
        return max(low, self.part.span[0]) - 1e-9, math.log1p(self.rate * math.expm1(self.part.span[1]))

    def forward(self, epsilon: Floats) -> Floats:
        """With the customer against without."""
        return _lifted(
            np.where(
                self._reached(epsilon),
                self.rate * self.part.forward(self._inner(epsilon)),
                -np.expm1(np.minimum(epsilon, 0)),
            )
        )

    def backward(self, epsilon: Floats) -> Floats:
        """Without the customer against with."""
        weight = np.maximum(0.0, 1 - np.exp(np.minimum(epsilon, 700)) * (1 - self.rate))
        return _lifted(
            np.where(self._reached(-epsilon), weight * self.part.backward(-self._inner(-epsilon)), 0.0)
        )

    def _reached(self, epsilon: Floats) -> NDArray[np.bool_]:
        return np.expm1(epsilon) > -self.rate

    def _inner(self, epsilon: Floats) -> Floats:
        inside = np.where(self._reached(epsilon), np.expm1(epsilon) / self.rate, 0.0)
        return np.log1p(inside)


@dataclass(frozen=True)
class ReplacedGaussianProfile(_Symmetric):
    """(1-r) N(0) + r N(mu) against (1-r) N(0) + r N(-mu), unit variance: the customer's record replaced by its opposite."""

    mu: float
    rate: float

    @property
    def span(self) -> tuple[float, float]:
        """See `Profile`."""
        edge = _TAIL + self.mu
        reach = float(self._loss(np.array([edge]))[0])
        return -reach, reach

    def _loss(self, outcome: Floats) -> Floats:
        keep, move = np.log1p(-self.rate) if self.rate < 1 else -np.inf, math.log(self.rate)
        up, down = self.mu * outcome - self.mu**2 / 2, -self.mu * outcome - self.mu**2 / 2
        return np.asarray(np.logaddexp(keep, move + up) - np.logaddexp(keep, move + down))

    def forward(self, epsilon: Floats) -> Floats:
        """With the customer against without."""
        low = np.full(np.shape(epsilon), -60.0 - self.mu)
        high = -low
        for _ in range(
            70
        ):  # any cut gives a lower bound; at the best one the slope is zero, so the last bits do not matter
            middle = (low + high) / 2
            right = self._loss(middle) > epsilon
            low, high = np.where(right, low, middle), np.where(right, middle, high)
        stay = (1 - self.rate) * ndtr(-high)
        above, below = stay + self.rate * ndtr(self.mu - high), stay + self.rate * ndtr(-self.mu - high)
        return _lifted(above - np.exp(np.minimum(epsilon, 700)) * below + 64 * ULP)


@dataclass(frozen=True)
class ZcdpProfile(_Symmetric):
    """The best of 400 orders of the conversion in `conversions`; zCDP bounds both directions, which gives the negative side."""

    rho: float

    @property
    def span(self) -> tuple[float, float]:
        """See `Profile`."""
        reach = self.rho + 2 * math.sqrt(48 * self.rho)
        return -reach, reach

    def forward(self, epsilon: Floats) -> Floats:
        """With the customer against without."""
        size = np.abs(epsilon)
        order = 1 + np.exp(np.linspace(-6, max(4.0, 2 - 0.5 * math.log(self.rho)), 400))[:, None]
        bound = np.full(size.shape, np.inf)
        flat, out = size.ravel(), bound.ravel()
        for start in range(0, flat.size, 4096):
            part = flat[start : start + 4096]
            exponent = (
                (order - 1) * (order * self.rho - part) + (order - 1) * np.log1p(-1 / order) - np.log(order)
            )
            out[start : start + 4096] = np.exp(np.minimum(exponent.min(axis=0), 0.0)) * (1 + 4096 * ULP)
        right = np.minimum(1.0, out.reshape(size.shape))
        # H(-e) = 1 - e^-e + e^-e H'(e), H' of the swapped pair, which the same rho bounds.
        return _lifted(np.where(epsilon >= 0, right, -np.expm1(-size) + np.exp(-size) * right))
