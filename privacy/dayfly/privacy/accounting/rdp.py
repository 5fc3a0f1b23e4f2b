"""Renyi differential privacy, for comparison with published figures; `pld` is sharper wherever parameters are fixed ahead.

Claim:
    `epsilon_of_renyi` is an upper bound of epsilon when the divergences are.

Argument:
    The conversion of `conversions`, order by order. The divergence of a Poisson-sampled Gaussian is an integral of an entire function that
    falls like a Gaussian on both sides, for which the trapezoidal rule converges faster than any power of its step (Trefethen and
    Weideman 2014); the mixture against the base is the larger direction (Mironov, Talwar, Zhang 2019, Theorem 5).

Source:
    Mironov (2017); Mironov, Talwar, Zhang (2019), https://arxiv.org/abs/1908.10530; Canonne, Kamath, Steinke (2020).
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from dayfly.privacy.errors import InvalidArgument

__all__ = ["ORDERS", "epsilon_of_renyi", "renyi_divergence", "renyi_of_sampled_gaussian"]

Floats = NDArray[np.float64]

ORDERS: Final = tuple(1 + math.exp(step / 32) for step in range(-96, 176))
"""Orders from 1.05 to 238, evenly in ln(order - 1)."""

_STEPS_PER_SIGMA: Final = 12
_RAISE: Final = 1 + 1e-11


def renyi_divergence(above: Floats, below: Floats, order: float) -> float:
    """D_order(above || below) of two tables of probabilities, in nats; `math.inf` is an order.

    Raises:
        InvalidArgument: `order` is not above one.
    """
    if not order > 1:
        raise InvalidArgument(f"order={order!r} must be > 1; pass a larger order")
    with np.errstate(divide="ignore"):
        p, q = np.log(above), np.log(below)
    held = above > 0
    if np.any(below[held] == 0):
        return math.inf
    if math.isinf(order):
        return float(np.max(p[held] - q[held]))
    return max(0.0, float(logsumexp(order * p[held] + (1 - order) * q[held])) / (order - 1))


def renyi_of_sampled_gaussian(noise_multiplier: float, rate: float, order: float) -> float:
    """D_order of one release with Gaussian noise on a Poisson sample, rounded up, in nats.

    Args:
        noise_multiplier: sigma / L2 sensitivity.
        rate: Sampling probability.
        order: Above one.

    Raises:
        InvalidArgument: A parameter is out of range.
    """
    if not (noise_multiplier > 0 and 0 <= rate <= 1 and order > 1):
        raise InvalidArgument(
            f"noise_multiplier={noise_multiplier!r} rate={rate!r} order={order!r} must be > 0, in [0, 1] and > 1; pass values inside"
        )
    if rate == 0:
        return 0.0
    variance = noise_multiplier**2
    if rate == 1:
        return order / (2 * variance) * _RAISE
    reach = 14 * noise_multiplier
    step = noise_multiplier / _STEPS_PER_SIGMA / max(1.0, math.sqrt(order / 16))
    outcome = np.arange(-reach, order + reach, step)
    shift = (2 * outcome - 1) / (2 * variance)
    loss = np.where(
        shift < 30,
        np.log1p(rate * np.expm1(np.minimum(shift, 30))),
        np.logaddexp(math.log1p(-rate), math.log(rate) + shift),
    )
    weight = -np.square(outcome) / (2 * variance) + math.log(
        step / (noise_multiplier * math.sqrt(2 * math.pi))
    )
    largest = float(np.max(order * loss + weight))
    if largest < 100:  # one is taken out, so that a small divergence keeps its digits
        grown = np.where(
            order * loss < 1,
            np.exp(weight) * np.expm1(np.minimum(order * loss, 1)),
            np.exp(order * loss + weight) - np.exp(weight),
        )
        above_one = math.fsum(grown)
        total = math.log1p(max(0.0, above_one))
    else:
        total = float(logsumexp(order * loss + weight))
    return total / (order - 1) * _RAISE


def epsilon_of_renyi(
    orders: Sequence[float], divergences: Sequence[float], delta: float
) -> tuple[float, float]:
    """The least epsilon over the orders, rounded up, and its order.

    Raises:
        InvalidArgument: Different lengths, an order not above one, or `delta` not in (0, 1).
    """
    if len(orders) != len(divergences) or not orders or min(orders) <= 1:
        raise InvalidArgument(
            f"orders={len(orders)} must be as many as divergences={len(divergences)}, all > 1; pass one each"
        )
    if not 0 < delta < 1:
        raise InvalidArgument(f"delta={delta!r} must lie in (0, 1); pass a small probability")
    best, at = math.inf, orders[0]
    for order, divergence in zip(orders, divergences, strict=True):
        escape = math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1)
        epsilon = max(0.0, divergence + escape + 1e-14 * (abs(divergence) + abs(escape)))
        if epsilon < best:
            best, at = epsilon, order
    return best, at
