"""Costs: what a ledger adds up, exact rationals, every component rounded up.

A cost holds two valid statements about the same release. Basic composition: it is (`epsilon`, `delta`)-DP. Concentrated
DP: it is `delta`-approximately `rho`-zCDP. Both add over adaptively chosen releases, so a budget may be kept in either.

Claims, all for one customer added or removed:
    1. epsilon-DP implies epsilon tanh(epsilon/2) zCDP.
    2. Laplace noise on the reals with epsilon = l1/b is (epsilon + e^-epsilon - 1)-zCDP.
    3. Discrete Laplace noise on integer vectors, a = 1/b, epsilon = a l1, is
       (epsilon - a (1 - e^-epsilon) / sinh a)-zCDP.
    4. Discrete and continuous Gaussian noise is l2^2 / (2 sigma^2)-zCDP.
    5. (epsilon, delta)-DP implies delta-approximate zCDP with the rho of claim 1.
    6. A Poisson sample of rate q turns epsilon into ln(1 + q (e^epsilon - 1)) and delta into q delta, and never raises rho.

Argument:
    (1-3) For a pair P, Q with symmetric losses, E_P e^(sL) = sum sqrt(PQ) e^(yL) =: M(y) with y = s + 1/2, an even function of y.
    For randomised response M is a cosh, for Laplace e^(-epsilon/2) (cosh(epsilon y) + sinh(epsilon y)/(2y)), for the discrete
    Laplace a polynomial in e^(2ya) whose zeros solve z^l1 (z - q) = 1 - qz, q = e^-a: Blaschke's factor puts them all on the
    unit circle. In each case all zeros in y are imaginary, so by Hadamard's product M is, in v = y^2, a product of factors 1 + v/c
    with c > 0 (order 1/2), and ln M is concave in v. As (alpha - 1) D_alpha = ln M(v) - ln M(1/4) with v - 1/4 = alpha (alpha - 1),
    concavity bounds D_alpha by alpha times the slope at v = 1/4, which is the Kullback-Leibler divergence D_1: the rhos above
    are D_1, hence tight. Every epsilon-DP pair is a post-processing of randomised response (Kairouz, Oh, Viswanath 2015), and
    vectors of Laplace noise are dominated by the scalar with the same l1 (see `profiles`).
    (4) Canonne, Kamath, Steinke (2020), Theorem 14. (5) Every (epsilon, delta) pair is a post-processing of randomised response that
    leaks with probability delta (Kairouz et al.). (6) Li, Qardaji, Su (2012); joint convexity of Renyi divergence.

Source:
    Bun and Steinke (2016) for zCDP and its approximate form; Harrison and Manurangsi (2025) for claims 2 and 3, found
    independently here; the tests compare with brute-force divergences.
"""

from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Final, assert_never

from dayfly.privacy.errors import InvalidArgument

from .losses import (
    ApproxLoss,
    ComposedLoss,
    GaussianLoss,
    LaplaceLoss,
    LossEvent,
    NoLoss,
    PoissonSampledLoss,
    PureLoss,
    RandomizedResponseLoss,
    RepeatedLoss,
    ThresholdLoss,
    ZcdpLoss,
)
from .rounding import coarse_up, exact, exp_up, ln_up

__all__ = ["Cost", "cost_of", "laplace_rho", "pure_rho"]


@dataclass(frozen=True, slots=True)
class Cost:
    """A privacy loss in the two currencies that add up.

    Attributes:
        epsilon: Of basic composition; None when no finite one is known (Gaussian noise: its delta is not chosen yet).
        rho: Of zero-concentrated DP, up to `delta`.
        delta: Probability of an unbounded loss (thresholds); it adds in both currencies.
    """

    epsilon: Fraction | None
    rho: Fraction
    delta: Fraction = Fraction(0)

    def __post_init__(self) -> None:
        for name in ("epsilon", "rho", "delta"):
            value = getattr(self, name)
            if value is None and name == "epsilon":
                continue
            checked = exact(name, value)
            if checked < 0:
                raise InvalidArgument(f"{name}={value!r} must be >= 0; a privacy loss is never given back")
            object.__setattr__(self, name, checked)

    def __add__(self, other: "Cost") -> "Cost":
        if not isinstance(other, Cost):
            return NotImplemented
        epsilon = None if self.epsilon is None or other.epsilon is None else self.epsilon + other.epsilon
        return Cost(epsilon=epsilon, rho=self.rho + other.rho, delta=self.delta + other.delta)

    def __mul__(self, times: int) -> "Cost":
        if isinstance(times, bool) or not isinstance(times, int):
            return NotImplemented
        epsilon = None if self.epsilon is None and times else (self.epsilon or Fraction(0)) * times
        return Cost(epsilon=epsilon, rho=self.rho * times, delta=self.delta * times)

    @classmethod
    def zero(cls) -> "Cost":
        """Of a release that depends on no private data."""
        return cls(epsilon=Fraction(0), rho=Fraction(0))


def cost_of(event: LossEvent) -> Cost:
    """What `event` costs, every component rounded up.

    Guarantees:
        The release that `event` describes is (`epsilon`, `delta`)-DP where `epsilon` is given, and `delta`-approximately
        `rho`-zCDP; see the module for the argument.
    """
    match event:
        case NoLoss():
            return Cost.zero()
        case ThresholdLoss(noise, delta):
            return cost_of(noise) + Cost(epsilon=Fraction(0), rho=Fraction(0), delta=delta)
        case PoissonSampledLoss(part, rate):
            return _sampled(cost_of(part), rate)
        case ComposedLoss((part,)):
            return cost_of(part)
        case ComposedLoss(parts):
            return sum((cost_of(part) for part in parts), start=Cost.zero())
        case RepeatedLoss(part, times):
            return cost_of(part) * times
        case _:
            return _single(event)


def _single(
    event: LaplaceLoss | GaussianLoss | PureLoss | ApproxLoss | ZcdpLoss | RandomizedResponseLoss,
) -> Cost:
    match event:
        case LaplaceLoss():
            return Cost(epsilon=event.epsilon, rho=laplace_rho(event))
        case GaussianLoss():
            return Cost(epsilon=None if event.rho else Fraction(0), rho=event.rho)
        case PureLoss(epsilon):
            return Cost(epsilon=epsilon, rho=pure_rho(epsilon))
        case ApproxLoss(epsilon, delta):
            return Cost(epsilon=epsilon, rho=pure_rho(epsilon), delta=delta)
        case ZcdpLoss(rho, delta):
            return Cost(epsilon=None if rho else Fraction(0), rho=rho, delta=Fraction(delta))
        case RandomizedResponseLoss():
            epsilon = coarse_up(ln_up(event.odds))
            return Cost(epsilon=epsilon, rho=pure_rho(epsilon))
    assert_never(event)


def _sampled(whole: Cost, rate: Fraction) -> Cost:
    if rate == 0:
        return Cost.zero()
    if whole.epsilon is None or whole.epsilon > 1000 or rate == 1:
        return Cost(epsilon=whole.epsilon, rho=whole.rho, delta=whole.delta * rate)
    amplified = min(whole.epsilon, coarse_up(ln_up(1 + rate * (exp_up(whole.epsilon) - 1))))
    return Cost(epsilon=amplified, rho=min(whole.rho, pure_rho(amplified)), delta=whole.delta * rate)


@lru_cache(maxsize=4096)
def pure_rho(epsilon: Fraction) -> Fraction:
    """The least rho such that every epsilon-DP release is rho-zCDP, epsilon tanh(epsilon/2), rounded up."""
    if epsilon == 0:
        return Fraction(0)
    context, value = _context(epsilon)
    small = context.exp(context.minus(value))
    tanh = context.divide(context.subtract(_ONE, small), context.add(_ONE, small))
    rho = _raised(Fraction(context.multiply(value, tanh)))
    return min(rho, epsilon * epsilon / 2)


@lru_cache(maxsize=4096)
def laplace_rho(loss: LaplaceLoss) -> Fraction:
    """The least rho of Laplace noise, rounded up (claims 2 and 3); never above `pure_rho`."""
    epsilon = loss.epsilon
    if epsilon == 0:
        return Fraction(0)
    if (
        loss.scale * 1000 < 1
    ):  # noise of next to nothing: e^(1/b) cannot be written, and the plain bound is as good
        return pure_rho(epsilon)
    context, _ = _context(min(epsilon, 1 / loss.scale))
    value = context.divide(Decimal(epsilon.numerator), Decimal(epsilon.denominator))
    escaped = context.subtract(_ONE, context.exp(context.minus(value)))
    if loss.domain == "integers":
        unit = 1 / loss.scale
        a = context.divide(Decimal(unit.numerator), Decimal(unit.denominator))
        sinh = context.divide(context.subtract(context.exp(a), context.exp(context.minus(a))), Decimal(2))
        escaped = context.multiply(escaped, context.divide(a, sinh))
    rho = _raised(Fraction(context.subtract(value, escaped)))
    return rho if _below_pure(rho, epsilon) else min(rho, pure_rho(epsilon))


def _below_pure(rho: Fraction, epsilon: Fraction) -> bool:
    """Whether `rho` is at most e^2 / 2 - e^4 / 24, which `pure_rho` is not below, because tanh(x) >= x - x^3 / 3; in whole numbers."""
    above, below = epsilon.numerator**2, epsilon.denominator**2
    return 24 * rho.numerator * below * below <= rho.denominator * above * (12 * below - above)


_ONE: Final = Decimal(1)
_DIGITS: Final = 50


def _context(smallest: Fraction) -> tuple[Context, Decimal]:
    """A context in which the cancellation of terms as small as `smallest` squared still leaves 40 digits."""
    lost = max(0, smallest.denominator.bit_length() - smallest.numerator.bit_length()) * 301 // 1000
    context = Context(prec=_DIGITS + 3 * lost, Emin=-999_999, Emax=999_999)
    return context, context.divide(Decimal(smallest.numerator), Decimal(smallest.denominator))


def _raised(value: Fraction) -> Fraction:
    # The formulas above lose at most ten of at least forty digits; 2^-90 covers what is left a billion times over.
    return coarse_up(value * (1 + Fraction(1, 1 << 90)))
