"""Any sequence of calls, through two handles on one ledger, says what the slow model says, and no account exceeds its limit."""

import shutil
import tempfile
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dayfly.privacy.errors import (
    AccountConflict,
    ClockSteppedBack,
    LedgerError,
    LedgerUnwritable,
    ReleaseConflict,
)
from dayfly.privacy.ledger import Account, Amounts, Head, Ledger, Limit, Scope, Spend
from dayfly.privacy.ledger.accounts import covering

from ...oracles.dp_ledger import ModelAccount, ModelLedger, ModelSpend
from .support import NOW_MS, Clock, FailingConnection, open_ledger

F = Fraction
NAMES: dict[Scope, list[str]] = {
    "data_set": ["orders", "orders", "web"],
    "analyst": ["ann", "ann", "bob"],
    "purpose": ["marketing", "marketing.mail", "sales"],
}
EPSILONS = st.sampled_from([F(1, 10), F(1, 3), F(1, 7), F(1, 2), F(1), F(1, 1009), F(3, 10**30), F(2)])
DELTAS = st.sampled_from([F(0), F(0), F(1, 10**6), F(1, 3 * 10**6), F(1, 10**5 + 3)])
KEYS = st.sampled_from([(scope, name) for scope, names in NAMES.items() for name in names])
HANDLES = st.integers(0, 1)
PERIOD_MS = 1_000


class LedgerMachine(RuleBasedStateMachine):
    """Two handles on one file against a list of what was accepted."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.clock = Clock()
        self.model = ModelLedger()
        self.costs: dict[bytes, Spend] = {}
        self.handles: list[Ledger] = [self.open(), self.open()]
        self.heads: list[Head] = []
        self.count = 0
        for key, unit, period_ms in (
            (("data_set", "orders"), "rho", None),
            (("analyst", "ann"), "epsilon", PERIOD_MS),
            (("purpose", "marketing"), "epsilon", 2_500),
        ):
            self.declare(key, unit, F(2, 3), F(1, 10**5), period_ms, 0)

    def open(self) -> Ledger:
        return open_ledger(self.folder / "budget.db", now_ms=self.clock, clock_slack_ms=0)

    def teardown(self) -> None:
        if hasattr(self, "handles"):
            for one in self.handles:
                one.verify()
                one.close()
            shutil.rmtree(self.folder)

    @rule(
        key=KEYS,
        unit=st.sampled_from(["epsilon", "rho"]),
        amount=st.sampled_from([F(1), F(1, 2), F(2, 3), F(3)]),
        delta=st.sampled_from([F(0), F(1, 10**6), F(1, 100)]),
        period_ms=st.sampled_from([None, PERIOD_MS, 2_500]),
        handle=HANDLES,
    )
    def declare(
        self,
        key: tuple[Scope, str],
        unit: str,
        amount: Fraction,
        delta: Fraction,
        period_ms: int | None,
        handle: int,
    ) -> None:
        limit = Limit(epsilon=amount, delta=delta) if unit == "epsilon" else Limit(rho=amount, delta=delta)
        account = Account(*key, limit, period_ms=period_ms, epoch_ms=NOW_MS - 300)
        wanted = ModelAccount(unit, amount, delta, period_ms, NOW_MS - 300)
        known = self.model.accounts.get(key)
        if known is None or known == wanted:
            self.handles[handle].declare(account)
            self.model.accounts[key] = wanted
        else:
            with pytest.raises(AccountConflict):
                self.handles[handle].declare(account)

    @precondition(lambda self: self.model.accounts)
    @rule(data=st.data(), amount=st.sampled_from([F(1, 4), F(1), F(5, 2)]), handle=HANDLES)
    def amend(self, data: st.DataObject, amount: Fraction, handle: int) -> None:
        key = data.draw(st.sampled_from(sorted(self.model.accounts)))
        known = self.model.accounts[key]
        limit = (
            Limit(epsilon=amount, delta=known.delta)
            if known.unit == "epsilon"
            else Limit(rho=amount, delta=known.delta)
        )
        scope, name = key
        self.handles[handle].amend(
            Account(scope, name, limit, period_ms=known.period_ms, epoch_ms=known.epoch_ms)  # type: ignore[arg-type]
        )
        known.amount = amount

    @rule(
        data_set=st.sampled_from(NAMES["data_set"]),
        analyst=st.sampled_from(NAMES["analyst"]),
        purpose=st.sampled_from(NAMES["purpose"]),
        epsilon=st.one_of(st.none(), EPSILONS, EPSILONS, EPSILONS),
        delta=DELTAS,
        handle=HANDLES,
        fails=st.sampled_from([None, None, None, "INSERT INTO entries", "INSERT INTO releases", "COMMIT"]),
    )
    def spend(  # noqa: PLR0917 - Hypothesis passes by name
        self,
        data_set: str,
        analyst: str,
        purpose: str,
        epsilon: Fraction | None,
        delta: Fraction,
        handle: int,
        fails: str | None,
    ) -> None:
        self.count += 1
        cost = Amounts(epsilon, F(1, 8) if epsilon is None else epsilon * epsilon / 2, delta)
        asked = Spend(
            data_set=data_set,
            analyst=analyst,
            purpose=purpose,
            cost=cost,
            what=f"query {self.count}",
            release_id=self.count.to_bytes(8),
        )
        names = tuple(
            (str(scope), name) for scope, all_ in covering(data_set, analyst, purpose) for name in all_
        )
        wanted = ModelSpend(self.clock.now_ms, names, cost.epsilon, cost.rho, cost.delta)
        answer = self.model.answer(wanted)
        ledger = self.handles[handle]
        if answer != "yes":
            before = ledger.head()
            for call in (ledger.check, ledger.spend):
                with pytest.raises(LedgerError) as caught:
                    call(asked)
                assert type(caught.value).__name__ == answer
            assert ledger.head() == before
        elif fails is not None:
            self.fail(ledger, asked, fails)
        else:
            ledger.check(asked)
            receipt = ledger.spend(asked)
            assert receipt.fresh
            self.model.record(asked.release_id, wanted)
            self.costs[asked.release_id] = asked
            self.heads.append(receipt.head)
            for one in receipt.remaining:
                key = (one.account.scope, one.account.name)
                assert (one.spent, one.spent_delta) == self.model.spent(key, self.clock.now_ms)

    def fail(self, ledger: Ledger, asked: Spend, statement: str) -> None:
        """A statement that fails leaves both handles as they were."""
        before = self.handles[0].head()
        inner = ledger._file._connection
        ledger._file._connection = FailingConnection(inner, statement)  # type: ignore[assignment]
        with pytest.raises(LedgerUnwritable):
            ledger.spend(asked)
        ledger._file._connection = inner
        assert [one.head() for one in self.handles] == [before, before]

    @precondition(lambda self: self.costs)
    @rule(data=st.data(), handle=HANDLES)
    def repeat(self, data: st.DataObject, handle: int) -> None:
        asked = self.costs[data.draw(st.sampled_from(sorted(self.costs)))]
        before = self.handles[handle].head()
        assert not self.handles[handle].spend(asked).fresh
        other = Spend(
            data_set=asked.data_set,
            analyst=asked.analyst,
            purpose=asked.purpose,
            cost=asked.cost,
            what="other",
            release_id=asked.release_id,
        )
        with pytest.raises(ReleaseConflict):
            self.handles[handle].spend(other)
        assert self.handles[handle].head() == before

    @rule(by_ms=st.sampled_from([1, 299, 300, 699, 700, 701, 1_000, 2_499, 2_500, 10_000]))
    def advance(self, by_ms: int) -> None:
        self.clock.now_ms += by_ms

    @precondition(
        lambda self: self.model.spends and self.handles[0].history(newest=1)[0].at_ms == self.clock.now_ms
    )
    @rule(by_ms=st.sampled_from([1, 1_000, 10_000]), handle=HANDLES)
    def step_back(self, by_ms: int, handle: int) -> None:
        ledger = self.handles[handle]
        before = ledger.head()
        asked = next(iter(self.costs.values()))
        self.clock.now_ms -= by_ms
        fresh = Spend(
            data_set=asked.data_set,
            analyst=asked.analyst,
            purpose=asked.purpose,
            cost=asked.cost,
            what="back",
            release_id=b"step back",
        )
        with pytest.raises(ClockSteppedBack):
            ledger.spend(fresh)
        self.clock.now_ms += by_ms
        assert ledger.head() == before

    @rule(handle=HANDLES)
    def reopen(self, handle: int) -> None:
        self.handles[handle].close()
        self.handles[handle] = self.open()

    @precondition(lambda self: self.heads)
    @rule(data=st.data())
    def reopen_expecting(self, data: st.DataObject) -> None:
        head = data.draw(st.sampled_from(self.heads))
        open_ledger(self.folder / "budget.db", now_ms=self.clock, expected_head=head).close()

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "handles"):
            return
        for (scope, name), account in self.model.accounts.items():
            spent, delta = self.model.spent((scope, name), self.clock.now_ms)
            for ledger in self.handles:
                told = ledger.remaining(scope, name)  # type: ignore[arg-type]
                assert (told.spent, told.spent_delta) == (spent, delta)
                assert told.left == max(F(0), account.amount - spent)
        history = [(one.release_id, one.at_ms) for one in self.handles[0].history()]
        assert history == [(release_id, one.at_ms) for release_id, one in self.model.spends.items()]


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=15, stateful_step_count=30, deadline=None)


class LimitMachine(LedgerMachine):
    """The property by itself: within each account and period, exact losses never exceed the limit."""

    @rule(amount=st.none())
    def amend(self, amount: None) -> None:
        """Limits stay, so that what was accepted may be compared with them."""

    @invariant()
    def no_account_exceeds_its_limit(self) -> None:
        if not hasattr(self, "handles"):
            return
        for key, account in self.model.accounts.items():
            for now in self.model.spends.values():
                within = [
                    one
                    for one in self.model.spends.values()
                    if key in one.names and account.same_period(now.at_ms, one.at_ms)
                ]
                exact = sum(
                    (one.epsilon or F(0) if account.unit == "epsilon" else one.rho for one in within), F(0)
                )
                assert exact <= account.amount
                assert sum((one.delta for one in within), F(0)) <= account.delta


TestLimitMachine = pytest.mark.slow(LimitMachine.TestCase)
TestLimitMachine.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
