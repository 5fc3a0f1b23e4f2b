r"""Between the currencies: zCDP, (epsilon, delta)-DP and Gaussian DP, every result rounded against the one who asks.

Claim:
    rho-zCDP implies (epsilon, delta)-DP with delta = e^((alpha - 1)(alpha rho - epsilon)) / (alpha - 1) * (1 - 1/alpha)^alpha for
    *every* alpha > 1.

Argument:
    Canonne, Kamath, Steinke (2020), Corollary 13 (Asoodeh et al. 2021 show it optimal for a single alpha). Because each alpha is a
    proof by itself, the alpha may be found with plain floats: it moves the tightness, never the validity. Only the last
    evaluation, at that alpha, is done in sixty-digit arithmetic and rounded outwards.

Source:
    Canonne, Kamath, Steinke, "The Discrete Gaussian for Differential Privacy" (2020), https://arxiv.org/abs/2004.00010.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Final

from dayfly.privacy.errors import InvalidArgument

from .rounding import Exact, coarse_down, coarse_up, exact, exp_up, float_up, ln_down, ln_up, positive_exact

__all__ = ["delta_of_rho", "epsilon_of_rho", "exact_epsilon_of_rho", "group_loss", "rho_of_epsilon_delta"]

_GOLDEN: Final = (math.sqrt(5) - 1) / 2


def _open_unit(name: str, value: object) -> Fraction:
    checked = exact(name, value)
    if not 0 < checked < 1:
        raise InvalidArgument(
            f"{name}={value!r} must lie in (0, 1); pass a small probability such as Fraction('1e-6')"
        )
    return checked


def _best_order(cost: Callable[[float], float]) -> Fraction:
    """An alpha > 1 near the minimum of `cost`; golden section over ln(alpha - 1), where the curves have one valley."""
    low, high = -30.0, 30.0
    inner, outer = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_inner, at_outer = cost(1 + math.exp(inner)), cost(1 + math.exp(outer))
    for _ in range(60):
        if at_inner <= at_outer:
            high, outer, at_outer = outer, inner, at_inner
            inner = high - _GOLDEN * (high - low)
            at_inner = cost(1 + math.exp(inner))
        else:
            low, inner, at_inner = inner, outer, at_outer
            outer = low + _GOLDEN * (high - low)
            at_outer = cost(1 + math.exp(outer))
    # A few bits are enough: the minimum is flat, and a short fraction keeps the last evaluation cheap.
    return 1 + Fraction(math.exp((low + high) / 2)).limit_denominator(1 << 48)


def _escape(alpha: float) -> float:
    """(alpha - 1) ln(1 - 1/alpha) - ln alpha, in floats."""
    return (alpha - 1) * math.log1p(-1 / alpha) - math.log(alpha)


def _escape_up(alpha: Fraction) -> Fraction:
    return (alpha - 1) * ln_up(1 - 1 / alpha) - ln_down(alpha)


def exact_epsilon_of_rho(rho: Exact, delta: Exact) -> Fraction:
    """An epsilon >= 0, exact and rounded up, such that rho-zCDP implies (epsilon, delta)-DP.

    Raises:
        InvalidArgument: `rho` is negative or not exact, or `delta` is not in (0, 1).
    """
    rho, delta = exact("rho", rho), _open_unit("delta", delta)
    if rho < 0:
        raise InvalidArgument(f"rho={rho!r} must be >= 0; pass rho=0 or more")
    if rho == 0:
        return Fraction(0)
    r, lost = float(rho), -math.log(delta)
    order = _best_order(lambda alpha: alpha * r + (lost + _escape(alpha)) / (alpha - 1))
    return _epsilon_at(order, rho, delta)


def _epsilon_at(order: Fraction, rho: Fraction, delta: Fraction) -> Fraction:
    """The bound of one order, rounded up."""
    return coarse_up(max(Fraction(0), order * rho + (_escape_up(order) - ln_down(delta)) / (order - 1)))


def epsilon_of_rho(rho: Exact, delta: Exact) -> float:
    """`exact_epsilon_of_rho` as a float, rounded up."""
    return float_up(exact_epsilon_of_rho(rho, delta))


def delta_of_rho(rho: Exact, epsilon: Exact) -> float:
    """A delta in [0, 1], rounded up, such that rho-zCDP implies (epsilon, delta)-DP.

    Raises:
        InvalidArgument: `rho` or `epsilon` is negative or not exact.
    """
    rho, epsilon = exact("rho", rho), exact("epsilon", epsilon)
    if rho < 0 or epsilon < 0:
        raise InvalidArgument(f"rho={rho!r} epsilon={epsilon!r} must both be >= 0; pass zero or more")
    if rho == 0:
        return 0.0
    r, e = float(rho), float(epsilon)
    order = _best_order(lambda alpha: (alpha - 1) * (alpha * r - e) + _escape(alpha))
    return _delta_at(order, rho, epsilon)


def _delta_at(order: Fraction, rho: Fraction, epsilon: Fraction) -> float:
    """The bound of one order, rounded up."""
    exponent = (order - 1) * (order * rho - epsilon) + _escape_up(order)
    return min(1.0, float_up(exp_up(min(exponent, Fraction(1)))))


def rho_of_epsilon_delta(epsilon: Exact, delta: Exact) -> Fraction:
    """The largest rho, rounded down, whose zCDP implies (epsilon, delta)-DP: `exact_epsilon_of_rho` solved for rho.

    Raises:
        InvalidArgument: `epsilon` is not above zero or not exact, or `delta` is not in (0, 1).
    """
    epsilon, delta = positive_exact("epsilon", epsilon), _open_unit("delta", delta)
    e, lost = float(epsilon), -math.log(delta)
    order = _best_order(lambda alpha: ((lost + _escape(alpha)) / (alpha - 1) - e) / alpha)
    return _rho_at(order, epsilon, delta)


def _rho_at(order: Fraction, epsilon: Fraction, delta: Fraction) -> Fraction:
    """The bound of one order, rounded down."""
    return coarse_down((epsilon - (_escape_up(order) - ln_down(delta)) / (order - 1)) / order)


def group_loss(epsilon: Exact, delta: Exact, size: int) -> tuple[Fraction, Fraction]:
    """What (epsilon, delta)-DP for one is for a group of `size`: (k epsilon, delta (e^(k epsilon) - 1)/(e^epsilon - 1)).

    Source:
        Vadhan, "The Complexity of Differential Privacy" (2017), Lemma 2.2.
    """
    epsilon, delta = exact("epsilon", epsilon), exact("delta", delta)
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise InvalidArgument(
            f"size={size!r} must be an integer >= 1; pass the number of people in the group"
        )
    if epsilon * size > 1000:
        return epsilon * size, Fraction(1)
    growth = sum((exp_up(epsilon * i) for i in range(size)), start=Fraction(0))
    return epsilon * size, min(Fraction(1), delta * growth)
