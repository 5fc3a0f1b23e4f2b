"""Filters and odometers for fully adaptive use: every next loss may depend on every earlier answer.

Claims:
    1. *Filters.* Everything that passed a `ZcdpFilter(rho, delta)` is together delta-approximately rho-zCDP; everything that passed a
       `PureFilter(epsilon, delta)` is together (epsilon, delta)-DP.
    2. *Odometer.* At every moment, chosen in any way from the answers, the releases so far are (`epsilon()`, delta)-DP.

Argument:
    (1) Sums of rho, of epsilon and of delta are valid filters: Whitehouse et al. (2023), Theorem 1, Rogers et al. (2016). They are exact
    rationals, so nothing is lost to rounding, and each check is a comparison of two sums: constant time. (2) Level j is a filter of rho_j =
    first 2^j with delta_j = delta / ((j+1)(j+2)); the deltas sum to delta. Split any event by the level in which the analyst stops: on
    level j the release is one of a run stopped by filter j, so its probability is at most e^(epsilon_j) times the other's plus delta_j, and
    the epsilon told is epsilon_j or more.

Source:
    Rogers, Roth, Ullman, Vadhan (2016); Feldman and Zrnic (2021); Whitehouse, Ramdas, Rogers, Wu (2023), https://arxiv.org/abs/2203.05481.
"""

from dataclasses import dataclass, field
from fractions import Fraction

from dayfly.privacy.errors import FilterExceeded, InvalidArgument

from .conversions import epsilon_of_rho
from .costs import Cost
from .rounding import float_up, positive_exact, probability

__all__ = ["Odometer", "PureFilter", "ZcdpFilter"]


@dataclass(slots=True)
class ZcdpFilter:
    """Lets losses through while their rhos and deltas sum to at most the budget.

    Attributes:
        rho: Budget.
        delta: Budget.
        spent: Sum of what passed.
    """

    rho: Fraction
    delta: Fraction = Fraction(0)
    spent: Cost = field(default_factory=Cost.zero, init=False)

    def __post_init__(self) -> None:
        self.rho, self.delta = positive_exact("rho", self.rho), probability("delta", self.delta)

    def spend(self, cost: Cost) -> None:
        """Add `cost` to what was spent, or refuse it and change nothing.

        Raises:
            FilterExceeded: One of the budgets would be passed.
        """
        _check("rho", cost.rho, self.rho - self.spent.rho, cost)
        _check("delta", cost.delta, self.delta - self.spent.delta, cost)
        self.spent += cost


@dataclass(slots=True)
class PureFilter:
    """Lets losses through while their epsilons and deltas sum to at most the budget.

    Attributes:
        epsilon: Budget.
        delta: Budget.
        spent: Sum of what passed.
    """

    epsilon: Fraction
    delta: Fraction = Fraction(0)
    spent: Cost = field(default_factory=Cost.zero, init=False)

    def __post_init__(self) -> None:
        self.epsilon, self.delta = positive_exact("epsilon", self.epsilon), probability("delta", self.delta)

    def spend(self, cost: Cost) -> None:
        """Add `cost` to what was spent, or refuse it and change nothing.

        Raises:
            FilterExceeded: One of the budgets would be passed, or `cost` has no finite epsilon.
        """
        left = self.epsilon - (self.spent.epsilon or Fraction(0))
        if cost.epsilon is None:
            raise FilterExceeded(
                f"epsilon={cost.epsilon!r} must be finite for a filter of epsilon; use a ZcdpFilter for Gaussian noise",
                asked=cost,
                left=left,
            )
        _check("epsilon", cost.epsilon, left, cost)
        _check("delta", cost.delta, self.delta - self.spent.delta, cost)
        self.spent += cost


def _check(name: str, asked: Fraction, left: Fraction, cost: Cost) -> None:
    if asked > left:
        raise FilterExceeded(
            f"{name}={float_up(asked)!r} must be <= what is left, {float_up(left)!r}; ask with more noise, or stop here",
            asked=cost,
            left=left,
        )


@dataclass(slots=True)
class Odometer:
    """Tells, at any moment, what the releases so far cost, with nothing fixed ahead but delta.

    Attributes:
        delta: Of every statement, on top of the deltas of the releases.
        first: rho of the lowest level; below it the statement does not get smaller.
        spent: Sum of what happened.
    """

    delta: Fraction
    first: Fraction = Fraction(1, 10_000)
    spent: Cost = field(default_factory=Cost.zero, init=False)

    def __post_init__(self) -> None:
        self.delta, self.first = probability("delta", self.delta), positive_exact("first", self.first)
        if not 0 < self.delta < 1:
            raise InvalidArgument(f"delta={self.delta!r} must lie in (0, 1); pass a small probability")

    def spend(self, cost: Cost) -> None:
        """Count one more release."""
        self.spent += cost

    def epsilon(self) -> float:
        """Epsilon of the releases so far, rounded up, at `delta` plus the sum of their own deltas."""
        if self.spent.rho == 0:
            return 0.0
        level, rho = 0, self.first
        while rho < self.spent.rho:
            level, rho = level + 1, 2 * rho
        return epsilon_of_rho(rho, self.delta / ((level + 1) * (level + 2)))
