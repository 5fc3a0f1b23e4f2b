"""How much noise a loss asks for: closed forms, rounded up, nothing searched per query.

Claim:
    Noise of the returned scale has at most the asked loss.

Argument:
    Laplace: epsilon = l1 / b exactly, and b is an exact fraction. Gaussian: rho = l2^2 / (2 sigma^2), and `sqrt_up` returns a fraction
    whose square is not below l2^2 / (2 rho).

Source:
    Dwork et al. (2006); Bun and Steinke (2016), Proposition 1.6; Canonne, Kamath, Steinke (2020), Theorem 14.
"""

from fractions import Fraction

from .rounding import Exact, positive_exact, sqrt_up

__all__ = ["gaussian_scale", "laplace_scale"]


def laplace_scale(l1: Exact, epsilon: Exact) -> Fraction:
    """Scale b = l1 / epsilon, exactly.

    Raises:
        InvalidArgument: Either is not above zero, or not exact.
    """
    return positive_exact("l1", l1) / positive_exact("epsilon", epsilon)


def gaussian_scale(l2_squared: Exact, rho: Exact) -> Fraction:
    """Scale sigma = sqrt(l2^2 / (2 rho)), rounded up.

    Raises:
        InvalidArgument: Either is not above zero, or not exact.
    """
    return sqrt_up(positive_exact("l2_squared", l2_squared) / (2 * positive_exact("rho", rho)))
