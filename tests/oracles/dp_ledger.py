"""Slow model of the budget ledger: a list of what was accepted, summed from scratch at every question."""

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

__all__ = ["ModelAccount", "ModelLedger", "ModelSpend"]

_DENOMINATOR = math.lcm(*range(1, 41)) * 10**24 * 2**40


def up(value: Fraction) -> Fraction:
    """Rounded up to the grid, by the definition."""
    return Fraction(math.ceil(value * _DENOMINATOR), _DENOMINATOR)


@dataclass
class ModelAccount:
    """A limit in `unit`, renewed every `period_ms` from `epoch_ms` where there is a period."""

    unit: str
    amount: Fraction
    delta: Fraction
    period_ms: int | None
    epoch_ms: int

    def same_period(self, one_ms: int, other_ms: int) -> bool:
        if self.period_ms is None:
            return True
        start = self.epoch_ms
        while start > one_ms:
            start -= self.period_ms
        while start + self.period_ms <= one_ms:
            start += self.period_ms
        return start <= other_ms < start + self.period_ms


class ModelSpend(NamedTuple):
    """A spend that was accepted."""

    at_ms: int
    names: tuple[tuple[str, str], ...]
    epsilon: Fraction | None
    rho: Fraction
    delta: Fraction


@dataclass
class ModelLedger:
    """Accounts by scope and name, and every accepted spend by its release id."""

    accounts: dict[tuple[str, str], ModelAccount] = field(default_factory=dict)
    spends: dict[bytes, ModelSpend] = field(default_factory=dict)

    def spent(self, key: tuple[str, str], at_ms: int) -> tuple[Fraction, Fraction]:
        """Sums of the account's unit and of delta, in the period of `at_ms`."""
        account = self.accounts[key]
        amount = delta = Fraction(0)
        for one in self.spends.values():
            if key in one.names and account.same_period(at_ms, one.at_ms):
                cost = one.epsilon if account.unit == "epsilon" else one.rho
                assert cost is not None
                amount += up(cost)
                delta += up(one.delta)
        return amount, delta

    def record(self, release_id: bytes, spend: ModelSpend) -> None:
        """Accept a spend: it counts in the accounts there are by now, and in none that is declared later."""
        there = tuple(key for key in spend.names if key in self.accounts)
        self.spends[release_id] = spend._replace(names=there)

    def answer(self, spend: ModelSpend) -> str:
        """`yes`, or the name of the error."""
        for scope in ("data_set", "analyst", "purpose"):
            keys = [key for key in spend.names if key[0] == scope]
            if not any(key in self.accounts for key in keys):
                return "AccountMissing"
            for key in keys:
                if key not in self.accounts:
                    continue
                account = self.accounts[key]
                cost = spend.epsilon if account.unit == "epsilon" else spend.rho
                if cost is None:
                    return "EpsilonUnbounded"
                amount, delta = self.spent(key, spend.at_ms)
                if amount + up(cost) > account.amount or delta + up(spend.delta) > account.delta:
                    return "BudgetExceeded"
        return "yes"
