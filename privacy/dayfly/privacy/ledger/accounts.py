"""Accounts: whose budget, how much, how often it renews; and the rule by which a spend is charged.

Proof note.
    *Claim.* The losses charged to an account within one of its periods compose to at most its limit, even when every
    query, and its cost, is chosen in view of all earlier answers.
    *Precondition.* Each cost bounds its release's loss for the same unit (one customer added or removed), and every
    release on these data is charged before its noise is drawn.
    *Argument.* `charge` accepts only if the total stays within the limit in each component; a total only grows within
    a period. For ``(epsilon, delta)`` this is the basic-composition privacy filter (Rogers, Roth, Ullman, Vadhan 2016,
    arXiv 1605.08294); for ``(rho, delta)`` the filter of approximate zCDP (Whitehouse, Ramdas, Rogers,
    Wu 2023, arXiv 2203.05481; Bun and Steinke 2016, section 8, for the non-adaptive sum).
    *What renewal means.* A renewed budget is a new promise, not an old one kept: over ``k`` periods the same customer may lose
    ``k`` limits. `Remaining.ever` tells the sum over all periods.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final, Literal, Protocol, get_args

from dayfly.privacy._check import positive
from dayfly.privacy.errors import AccountMissing, BudgetExceeded, EpsilonUnbounded, InvalidArgument

from .amounts import exact, round_up, shown, written

__all__ = [
    "DAY_MS",
    "MONDAY_MS",
    "WEEK_MS",
    "Account",
    "Amounts",
    "CostLike",
    "Limit",
    "Remaining",
    "Scope",
    "Standing",
    "charge",
    "charged_amounts",
    "check_name",
    "covering",
    "limit_text",
    "missing",
    "told",
]

Scope = Literal["data_set", "analyst", "purpose"]
"""What an account belongs to."""

DAY_MS: Final = 86_400_000
WEEK_MS: Final = 7 * DAY_MS
MONDAY_MS: Final = 4 * DAY_MS
"""Monday 1970-01-05T00:00Z: weeks counted from it begin on Mondays, days at midnight UTC."""

_NAME_CHARACTERS: Final = 200
_LONGEST_NUMBER: Final = 10**100
_FAR_MS: Final = 2**60


class CostLike(Protocol):
    """What a release costs at most, as `dayfly.privacy.accounting.Cost` says it."""

    @property
    def epsilon(self) -> Fraction | None:
        """Of approximate differential privacy; None where no finite one is claimed."""
        ...

    @property
    def rho(self) -> Fraction:
        """Of (approximate) zero-concentrated differential privacy."""
        ...

    @property
    def delta(self) -> Fraction:
        """Adds up beside either."""
        ...


@dataclass(frozen=True, slots=True)
class Amounts:
    """A cost as it is charged: each component rounded up onto the grid of `amounts`.

    Attributes:
        epsilon: Of approximate differential privacy; None where no finite one is claimed.
        rho: Of (approximate) zero-concentrated differential privacy.
        delta: Adds up beside either.
    """

    epsilon: Fraction | None
    rho: Fraction
    delta: Fraction


def charged_amounts(cost: CostLike) -> Amounts:
    """Check a cost and round it up.

    Raises:
        InvalidArgument: a component is no exact number >= 0, delta is above 1, or the cost claims that a release loses
            nothing by one measure and something by another.
    """
    epsilon = None if cost.epsilon is None else exact(cost.epsilon, "cost.epsilon")
    rho, delta = exact(cost.rho, "cost.rho"), exact(cost.delta, "cost.delta")
    if delta > 1:
        raise InvalidArgument(f"cost.delta={shown(delta)} must be <= 1; it is a probability")
    if epsilon == 0 and rho == 0 and delta == 0:
        raise InvalidArgument("cost=0 must be > 0; ask for a positive epsilon or rho, no answer is free")
    if (epsilon != 0) != (rho != 0):
        raise InvalidArgument(
            f"cost.rho={shown(rho)} must be 0 exactly where cost.epsilon={shown(epsilon)} is; take the cost from accounting"
        )
    return Amounts(None if epsilon is None else round_up(epsilon), round_up(rho), round_up(delta))


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The most that an account may lose per period, by one of two measures.

    Attributes:
        epsilon: Of ``(epsilon, delta)``, added up by basic composition; or None.
        rho: Of ``(rho, delta)``-zCDP; or None. `dayfly.privacy.accounting.rho_of_epsilon_delta` gives the largest rho that
            keeps a promise in epsilon and delta, and Gaussian noise needs an account of this kind.
        delta: The most that the deltas of thresholds and approximate mechanisms may add up to.

    Raises:
        InvalidArgument: not exactly one of `epsilon` and `rho`, not above zero, or `delta` not in [0, 1).
    """

    epsilon: Fraction | None = None
    rho: Fraction | None = None
    delta: Fraction = Fraction(0)

    def __post_init__(self) -> None:
        if (self.epsilon is None) == (self.rho is None):
            raise InvalidArgument(
                f"epsilon={self.epsilon!r} rho={self.rho!r} must be exactly one number; limit either, not both"
            )
        for name in (self.unit, "delta"):
            value = exact(getattr(self, name), name)
            if value.numerator >= _LONGEST_NUMBER or value.denominator >= _LONGEST_NUMBER:
                raise InvalidArgument(f"{name}={shown(value)} must have under 100 digits; round it down")
            object.__setattr__(self, name, value)
        if self.amount == 0:
            raise InvalidArgument(f"{self.unit}=0 must be > 0; an account that allows nothing need not exist")
        if self.delta >= 1:
            raise InvalidArgument(f"delta={shown(self.delta)} must be < 1; 1 would allow publishing the data")

    @property
    def unit(self) -> Literal["epsilon", "rho"]:
        """Which measure it limits."""
        return "rho" if self.epsilon is None else "epsilon"

    @property
    def amount(self) -> Fraction:
        """The limit in that measure."""
        amount = self.rho if self.epsilon is None else self.epsilon
        assert amount is not None
        return amount


@dataclass(frozen=True, slots=True)
class Account:
    """A budget.

    Attributes:
        scope: What it belongs to.
        name: Of the data set or analyst, or a dotted purpose; a purpose's account covers what lies below it.
        limit: The most that it may lose, per period where there is one.
        period_ms: How long until all of it is free again; None for never.
        epoch_ms: A start of a period (int64 ms UTC); the others follow in steps of `period_ms`.

    Raises:
        InvalidArgument: a name is empty, long or not printable, or a time out of range.
    """

    scope: Scope
    name: str
    limit: Limit
    period_ms: int | None = field(default=None, kw_only=True)
    epoch_ms: int = field(default=MONDAY_MS, kw_only=True)

    def __post_init__(self) -> None:
        if self.scope not in get_args(Scope):
            raise InvalidArgument(f"scope={self.scope!r} must be one of {get_args(Scope)}; choose one")
        check_name(self.name, self.scope)
        if self.period_ms is not None:
            positive(period_ms=self.period_ms)
        for name, value in (("period_ms", self.period_ms or 0), ("epoch_ms", self.epoch_ms)):
            if type(value) is not int or abs(value) >= _FAR_MS:
                raise InvalidArgument(
                    f"{name}={value!r} must be milliseconds below 2**60; pass an int in range"
                )

    def period(self, at_ms: int) -> int:
        """Which period an instant lies in, counted from the epoch; always 0 where the budget never renews."""
        return 0 if self.period_ms is None else (at_ms - self.epoch_ms) // self.period_ms

    def renews_at(self, at_ms: int) -> int | None:
        """When the period of `at_ms` ends (ms UTC); that instant belongs to the next one."""
        if self.period_ms is None:
            return None
        return self.epoch_ms + (self.period(at_ms) + 1) * self.period_ms


@dataclass(frozen=True, slots=True)
class Standing:
    """What an account was charged.

    Attributes:
        period: The period of the last charge.
        spent: In the limit's unit, within that period.
        delta: Within that period.
        ever: In the limit's unit, over all periods.
        ever_delta: Over all periods.
    """

    period: int
    spent: Fraction
    delta: Fraction
    ever: Fraction
    ever_delta: Fraction

    def at(self, period: int) -> "Standing":
        """The same at a later period, in which nothing was spent yet."""
        if period <= self.period:
            return self
        return Standing(period, Fraction(0), Fraction(0), self.ever, self.ever_delta)


_NOTHING: Final = Standing(-(2**62), *([Fraction(0)] * 4))


@dataclass(frozen=True, slots=True)
class Remaining:
    """Where an account stands.

    Attributes:
        account: Which, with its limit.
        spent: In the limit's unit, within the current period.
        spent_delta: Within the current period.
        ever: In the limit's unit, over all periods.
        ever_delta: Over all periods.
        as_of_ms: The instant (ms UTC) of which this is told.
        renews_at_ms: When all of it is free again; None for never.
    """

    account: Account
    spent: Fraction
    spent_delta: Fraction
    ever: Fraction
    ever_delta: Fraction
    as_of_ms: int
    renews_at_ms: int | None

    @property
    def left(self) -> Fraction:
        """What may still be spent, in the limit's unit; 0 where the limit was lowered below what is spent."""
        return max(Fraction(0), self.account.limit.amount - self.spent)

    @property
    def left_delta(self) -> Fraction:
        """How much delta may still be spent."""
        return max(Fraction(0), self.account.limit.delta - self.spent_delta)

    @classmethod
    def of(cls, account: Account, standing: Standing | None, at_ms: int) -> "Remaining":
        """An account at an instant, given its last charge."""
        now = (standing or _NOTHING).at(account.period(at_ms))
        return cls(account, now.spent, now.delta, now.ever, now.ever_delta, at_ms, account.renews_at(at_ms))


def charge(account: Account, standing: Standing | None, asked: Amounts, at_ms: int) -> Standing:
    """The account after a spend.

    Args:
        account: Whose limit holds.
        standing: Its last charge, if any.
        asked: The cost, rounded up.
        at_ms: When, not before the last charge.

    Raises:
        BudgetExceeded: the total would exceed the limit, in the measure or in delta.
        EpsilonUnbounded: the account counts epsilon and the cost has none.

    Guarantees:
        The result is never above the limit of the account in a component that the spend adds to (see the module's proof note).
    """
    limit, period = account.limit, account.period(at_ms)
    before = (standing or _NOTHING).at(period)
    amount = asked.rho if limit.unit == "rho" else asked.epsilon
    if amount is None:
        raise EpsilonUnbounded(
            f"cost.epsilon=None must be finite for {told(account)}, which counts epsilon; "
            "ask with Laplace noise, or let the data owner give the account a limit in rho"
        )
    spent, delta = _sum(before.spent, amount), _sum(before.delta, asked.delta)
    if amount and spent > limit.amount:
        raise _exceeded(Remaining.of(account, standing, at_ms), limit.unit, amount)
    if asked.delta and delta > limit.delta:
        raise _exceeded(Remaining.of(account, standing, at_ms), "delta", asked.delta)
    if account.period_ms is None:
        return Standing(0, spent, delta, spent, delta)
    return Standing(
        max(period, before.period),
        spent,
        delta,
        _sum(before.ever, amount),
        _sum(before.ever_delta, asked.delta),
    )


def _sum(total: Fraction, more: Fraction) -> Fraction:
    return total + more if more else total


def _exceeded(before: Remaining, component: str, asked: Fraction) -> BudgetExceeded:
    left = before.left_delta if component == "delta" else before.left
    way_out = f"ask for {component} of at most {shown(left)}"
    if before.renews_at_ms is not None:
        way_out += f" or wait until {before.renews_at_ms} ms UTC, when it renews"
    return BudgetExceeded(
        f"{component}={shown(asked)} must be <= {shown(left)}, which is left of {told(before.account)}; {way_out}",
        account=before.account,
        component=component,
        asked=asked,
        left=left,
        renews_at_ms=before.renews_at_ms,
    )


def covering(data_set: str, analyst: str, purpose: str) -> tuple[tuple[Scope, tuple[str, ...]], ...]:
    """Names of the accounts that a spend charges where they exist; at least one of each scope must.

    A purpose is covered by its own account and by that of each purpose above it.
    """
    parts = purpose.split(".")
    above = tuple(".".join(parts[:end]) for end in range(1, len(parts) + 1))
    return (("data_set", (data_set,)), ("analyst", (analyst,)), ("purpose", above))


def missing(scope: Scope, name: str) -> AccountMissing:
    """The refusal where no account covers a spend."""
    return AccountMissing(
        f"{scope}={name!r} must have an account; the data owner declares one with its limit",
        scope=scope,
        name=name,
    )


def check_name(name: object, what: str) -> str:
    """A name of a data set, analyst or purpose.

    Raises:
        InvalidArgument: it is not 1 to 200 printable characters without space around, or a purpose with an empty part.
    """
    if not isinstance(name, str) or not 0 < len(name) <= _NAME_CHARACTERS:
        raise InvalidArgument(
            f"{what}={name!r:.80} must be text of 1 to {_NAME_CHARACTERS} characters; name it"
        )
    if not name.isprintable() or name != name.strip():
        raise InvalidArgument(f"{what}={name!r} must be printable with no space around; write it plainly")
    if what == "purpose" and "" in name.split("."):
        raise InvalidArgument(f"purpose={name!r} must have no empty part; write it like marketing.analytics")
    return name


def told(account: Account) -> str:
    """An account in messages."""
    limit = account.limit
    return f"the account {account.scope}={account.name!r} ({limit.unit} {shown(limit.amount)}, delta {shown(limit.delta)})"


def limit_text(limit: Limit) -> tuple[str, str, str]:
    """Unit, amount and delta as they are stored."""
    return limit.unit, written(limit.amount), written(limit.delta)
