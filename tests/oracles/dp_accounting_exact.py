"""Slow, plain privacy accounting in fifty digits: the definitions, summed term by term. Shares no code with Dayfly."""

from collections import defaultdict
from fractions import Fraction
from typing import Any, TypeAlias

from mpmath import erfc, exp, inf, log, mp, mpf, quad, sqrt

__all__ = [
    "compose_losses",
    "delta_of_losses",
    "discrete_gaussian",
    "discrete_laplace",
    "gaussian_delta",
    "hockey_stick",
    "laplace_delta",
    "losses_of",
    "number",
    "poisson_mixture",
    "renyi",
    "sampled_gaussian_renyi",
    "shifted",
    "vector",
    "zcdp_delta",
]

mp.dps = 50

Number: TypeAlias = Any
Table: TypeAlias = dict[Any, Number]


def number(value: object) -> Number:
    """An exact number in fifty digits."""
    if isinstance(value, Fraction):
        return mpf(value.numerator) / value.denominator
    return mpf(value)


def discrete_laplace(scale: object, reach: int) -> dict[int, Number]:
    """P(x) proportional to exp(-|x|/b), all the mass beyond `reach` left out."""
    q = exp(-1 / number(scale))
    return {x: (1 - q) / (1 + q) * q ** abs(x) for x in range(-reach, reach + 1)}


def discrete_gaussian(scale: object, reach: int) -> dict[int, Number]:
    """P(x) proportional to exp(-x^2/(2 sigma^2)) on -reach..reach."""
    sigma = number(scale)
    weights = {x: exp(-(mpf(x) ** 2) / (2 * sigma**2)) for x in range(-reach, reach + 1)}
    total = sum(weights.values())
    return {x: weight / total for x, weight in weights.items()}


def shifted(table: dict[int, Number], by: int) -> dict[int, Number]:
    """The distribution of x + by."""
    return {x + by: weight for x, weight in table.items()}


def vector(tables: list[dict[int, Number]]) -> Table:
    """The joint distribution of independent coordinates."""
    joint: Table = {(): mpf(1)}
    for table in tables:
        joint = {(*key, x): weight * p for key, weight in joint.items() for x, p in table.items()}
    return joint


def poisson_mixture(above: Table, below: Table, rate: object) -> Table:
    """(1 - r) below + r above."""
    share = number(rate)
    return {
        key: share * above.get(key, mpf(0)) + (1 - share) * below.get(key, mpf(0)) for key in {*above, *below}
    }


def hockey_stick(above: Table, below: Table, epsilon: object) -> Number:
    """sum (P - e^epsilon Q)_+, term by term."""
    ratio = exp(number(epsilon))
    return sum((max(mpf(0), p - ratio * below.get(key, mpf(0))) for key, p in above.items()), mpf(0))


def renyi(above: Table, below: Table, order: object) -> Number:
    """D_order(above || below); order 1 is the Kullback-Leibler divergence. Outcomes that only one table has are left out."""
    a, both = number(order), above.keys() & below.keys()
    if a == 1:
        return sum((above[key] * log(above[key] / below[key]) for key in both), mpf(0))
    return log(sum((above[key] ** a * below[key] ** (1 - a) for key in both), mpf(0))) / (a - 1)


def gaussian_delta(mu: object, epsilon: object) -> Number:
    """Balle and Wang (2018), Theorem 8, as it stands in the paper."""
    m, e = number(mu), number(epsilon)

    def phi(x: Number) -> Number:
        return erfc(-x / sqrt(mpf(2))) / 2

    return phi(m / 2 - e / m) - exp(e) * phi(-m / 2 - e / m)


def laplace_delta(epsilon_of_noise: object, epsilon: object) -> Number:
    """max_S P(S) - e^epsilon Q(S) of two Laplace distributions, by the cut where their ratio is e^epsilon."""
    whole, e = number(epsilon_of_noise), number(epsilon)
    if e >= whole:
        return mpf(0)
    if e <= -whole:
        return 1 - exp(e)
    cut = (whole + e) / 2  # in units of b, from the centre of Q
    return 1 - exp(cut - whole) / 2 - exp(e) * exp(-cut) / 2


def losses_of(above: Table, below: Table) -> dict[Number, Number]:
    """The distribution of ln(P/Q) under P; `inf` where Q is zero."""
    losses: dict[Number, Number] = defaultdict(lambda: mpf(0))
    for key, p in above.items():
        loss = mp.nint(log(p / below[key]) * mpf(10) ** 30) / mpf(10) ** 30 if below.get(key) else inf
        losses[loss] += p
    return dict(losses)


def compose_losses(first: dict[Number, Number], second: dict[Number, Number]) -> dict[Number, Number]:
    """Sums of independent losses."""
    together: dict[Number, Number] = defaultdict(lambda: mpf(0))
    for a, p in first.items():
        for b, q in second.items():
            together[inf if inf in (a, b) else mp.nint((a + b) * mpf(10) ** 28) / mpf(10) ** 28] += p * q
    return dict(together)


def delta_of_losses(losses: dict[Number, Number], epsilon: object) -> Number:
    """E (1 - e^(epsilon - loss))_+."""
    e = number(epsilon)
    return sum(
        (p if loss == inf else p * max(mpf(0), 1 - exp(e - loss)) for loss, p in losses.items()), mpf(0)
    )


def zcdp_delta(rho: object, epsilon: object) -> Number:
    """The conversion of Canonne, Kamath, Steinke, at the best of many orders."""
    r, e = number(rho), number(epsilon)
    best = mpf(1)
    for step in range(-400, 900):
        order = 1 + exp(mpf(step) / 100)
        best = min(best, exp((order - 1) * (order * r - e)) / (order - 1) * (1 - 1 / order) ** order)
    return best


def sampled_gaussian_renyi(noise_multiplier: object, rate: object, order: object) -> Number:
    """D_order of (1-r) N(0, s^2) + r N(1, s^2) against N(0, s^2), by quadrature."""
    s, r, a = number(noise_multiplier), number(rate), number(order)

    def integrand(x: Number) -> Number:
        return (
            exp(-(x**2) / (2 * s**2))
            / (s * sqrt(2 * mp.pi))
            * ((1 - r) + r * exp((2 * x - 1) / (2 * s**2))) ** a
        )

    points = [-16 * s, -4 * s, 0, a / 2, a, a + 4 * s, a + 16 * s]
    return log(quad(integrand, points)) / (a - 1)
