"""Spending: what is charged, what is refused, and that a refusal changes nothing."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from dayfly.privacy.errors import (
    AccountConflict,
    AccountMissing,
    BudgetExceeded,
    EpsilonUnbounded,
    InvalidArgument,
    LedgerClosed,
    ReleaseConflict,
)
from dayfly.privacy.ledger import WEEK_MS, Account, Amounts, Head, Ledger, Limit, Spend, budget_rows

from .support import NOW_MS, Clock, declare, open_ledger, opened, spend

F = Fraction


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with opened(tmp_path / "budget.db") as ledger:
        declare(ledger)
        yield ledger


def test_a_spend_charges_data_set_analyst_and_purpose(ledger: Ledger) -> None:
    receipt = ledger.spend(spend(F(1, 4)))
    assert [(one.account.scope, one.left) for one in receipt.remaining] == [
        ("data_set", F(3, 4)),
        ("analyst", F(3, 4)),
        ("purpose", F(3, 4)),
    ]
    assert receipt.fresh
    assert receipt.head == ledger.head() == ledger.verify()
    for one in receipt.remaining:
        assert ledger.remaining(one.account.scope, one.account.name) == one


def test_ten_tenths_are_exactly_one_and_the_eleventh_is_refused(ledger: Ledger) -> None:
    for _ in range(10):
        ledger.spend(spend(F(1, 10)))
    assert ledger.remaining("analyst", "ann").left == 0
    with pytest.raises(
        BudgetExceeded, match=r"epsilon=1/10 must be <= 0, which is left of the account data_set='orders'"
    ):
        ledger.spend(spend(F(1, 10)))


def test_one_hair_above_the_limit_is_refused_and_the_limit_itself_accepted(ledger: Ledger) -> None:
    with pytest.raises(BudgetExceeded) as caught:
        ledger.spend(spend(F(1) + F(1, 10**90)))
    assert caught.value.component == "epsilon"
    assert caught.value.asked > 1
    assert caught.value.left == 1
    assert caught.value.renews_at_ms is None
    ledger.spend(spend(F(1)))


def test_a_refusal_by_one_account_charges_no_other(ledger: Ledger) -> None:
    ledger.declare(Account("purpose", "marketing.mail", Limit(epsilon=F(1, 100))))
    before = ledger.head()
    with pytest.raises(BudgetExceeded, match=r"purpose='marketing.mail'"):
        ledger.spend(spend(F(1, 2), purpose="marketing.mail"))
    assert ledger.head() == before
    assert ledger.remaining("data_set", "orders").spent == 0


def test_accounts_of_all_purposes_above_are_charged(ledger: Ledger) -> None:
    ledger.declare(Account("purpose", "marketing.mail", Limit(epsilon=F(5))))
    receipt = ledger.spend(spend(F(1, 2), purpose="marketing.mail.weekly"))
    assert [one.account.name for one in receipt.remaining] == ["orders", "ann", "marketing", "marketing.mail"]
    with pytest.raises(BudgetExceeded, match=r"data_set='orders'"):
        ledger.spend(spend(F(3, 4), purpose="marketing.mail"))
    with pytest.raises(AccountMissing, match=r"purpose='marketingx' must have an account"):
        ledger.spend(spend(purpose="marketingx"))


@pytest.mark.parametrize(
    ("changes", "scope", "name"),
    [
        ({"data_set": "web"}, "data_set", "web"),
        ({"analyst": "Ann"}, "analyst", "Ann"),
        ({"purpose": "sales"}, "purpose", "sales"),
    ],
)
def test_where_an_account_is_missing_the_answer_is_no(
    ledger: Ledger, changes: dict[str, Any], scope: str, name: str
) -> None:
    with pytest.raises(
        AccountMissing, match=rf"{scope}='{name}' must have an account; the data owner"
    ) as caught:
        ledger.spend(spend(**changes))
    assert (caught.value.scope, caught.value.name) == (scope, name)
    with pytest.raises(AccountMissing):
        ledger.remaining(caught.value.scope, name)  # type: ignore[arg-type]  # checked above


def test_delta_is_limited_beside_epsilon(tmp_path: Path) -> None:
    with opened(tmp_path / "budget.db") as ledger:
        declare(ledger, Limit(epsilon=F(10), delta=F(1, 10**6)))
        ledger.spend(spend(delta=F(9, 10**7)))
        with pytest.raises(BudgetExceeded, match=r"delta=1/5000000 must be <= 1/10000000") as caught:
            ledger.spend(spend(delta=F(2, 10**7)))
        assert caught.value.component == "delta"
        ledger.spend(spend(delta=F(1, 10**7)))
        assert ledger.remaining("analyst", "ann").left_delta == 0


def test_rho_accounts_add_up_rho_and_take_gaussian_noise(tmp_path: Path) -> None:
    with opened(tmp_path / "budget.db") as ledger:
        declare(ledger, Limit(rho=F(1, 2)))
        ledger.spend(spend(None, rho=F(1, 8)))
        ledger.spend(spend(F(1, 2)))
        assert ledger.remaining("data_set", "orders").left == F(1, 4)
        with pytest.raises(BudgetExceeded, match=r"rho=3/8 must be <= 1/4"):
            ledger.spend(spend(None, rho=F(3, 8)))


def test_an_epsilon_account_refuses_a_cost_without_finite_epsilon(ledger: Ledger) -> None:
    with pytest.raises(
        EpsilonUnbounded, match=r"cost.epsilon=None must be finite for the account data_set='orders'"
    ):
        ledger.spend(spend(None, rho=F(1, 8)))


# --- release ids -----------------------------------------------------------------------------------------------------


def test_a_release_id_spends_once_and_says_that_it_is_not_fresh(ledger: Ledger) -> None:
    first = ledger.spend(spend(release_id=b"release one"))
    ledger.spend(spend())
    again = ledger.spend(spend(release_id=b"release one"))
    assert again == first
    assert (first.fresh, again.fresh) == (True, False)
    assert ledger.remaining("analyst", "ann").spent == F(2, 10)


def test_a_release_id_is_known_when_the_budget_is_gone(ledger: Ledger) -> None:
    first = ledger.spend(spend(F(1), release_id=b"release one"))
    assert ledger.spend(spend(F(1), release_id=b"release one")) == first
    ledger.check(spend(F(1), release_id=b"release one"))


@pytest.mark.parametrize("changes", [{"what": "other"}, {"epsilon": F(1, 5)}, {"delta": F(1, 100)}])
def test_a_release_id_stands_for_one_spend(ledger: Ledger, changes: dict[str, Any]) -> None:
    ledger.spend(spend(release_id=b"release one"))
    before = ledger.head()
    with pytest.raises(
        ReleaseConflict, match=r"release_id=72656c65617365206f6e65 must be new, but entry 5 spent it"
    ):
        ledger.spend(spend(release_id=b"release one", **changes))
    assert ledger.head() == before


# --- what may be asked -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cost", "message"),
    [
        (Amounts(0.1, F(1), F(0)), r"cost.epsilon=0.1 must be an exact"),  # type: ignore[arg-type]
        (Amounts(F(-1), F(1), F(0)), r"cost.epsilon=-1 must lie in"),
        (Amounts(F(1), F(-1), F(0)), r"cost.rho=-1 must lie in"),
        (Amounts(F(1), F(1), F(-1)), r"cost.delta=-1 must lie in"),
        (Amounts(F(1), F(1), F(3, 2)), r"cost.delta=3/2 must be <= 1"),
        (Amounts(F(0), F(0), F(0)), r"cost=0 must be > 0; ask for a positive"),
        (Amounts(F(1), F(0), F(0)), r"cost.rho=0 must be 0 exactly where cost.epsilon=1 is"),
        (Amounts(F(0), F(1), F(0)), r"cost.rho=1 must be 0 exactly where cost.epsilon=0 is"),
        (Amounts(None, F(0), F(0)), r"cost.rho=0 must be 0 exactly where cost.epsilon=none is"),
    ],
)
def test_a_cost_that_is_no_loss_is_refused(ledger: Ledger, cost: Amounts, message: str) -> None:
    before = ledger.head()
    asked = Spend(
        data_set="orders", analyst="ann", purpose="marketing", cost=cost, what="q", release_id=bytes(16)
    )
    with pytest.raises(InvalidArgument, match=message):
        ledger.spend(asked)
    with pytest.raises(InvalidArgument, match=message):
        ledger.check(asked)
    assert ledger.head() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"analyst": ""}, r"analyst='' must be text of 1 to 200"),
        ({"analyst": "a" * 201}, r"analyst='a+ must be text of 1 to 200"),
        ({"data_set": "a\nb"}, r"data_set='a\\nb' must be printable"),
        ({"data_set": " a"}, r"data_set=' a' must be printable with no space around"),
        ({"purpose": "a..b"}, r"purpose='a..b' must have no empty part"),
        ({"what": ""}, r"what='' must be 1 to 500 printable"),
        ({"what": "x" * 501}, r"what='x+ must be 1 to 500 printable"),
        ({"release_id": b"short"}, r"release_id=b'short' must be 8 to 64 bytes"),
        ({"release_id": bytes(65)}, r"release_id=.* must be 8 to 64 bytes"),
    ],
)
def test_names_that_break_a_rule_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        spend(**changes)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"epsilon=None rho=None must be exactly one number"),
        ({"epsilon": F(1), "rho": F(1)}, r"must be exactly one number"),
        ({"epsilon": 0}, r"epsilon=0 must be > 0"),
        ({"rho": F(-1)}, r"rho=-1 must lie in"),
        ({"epsilon": 1.0}, r"epsilon=1.0 must be an exact Fraction"),
        ({"epsilon": 1, "delta": 1}, r"delta=1 must be < 1"),
        ({"epsilon": F(1, 10**100)}, r"must have under 100 digits"),
    ],
)
def test_limits_that_limit_nothing_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        Limit(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scope": "people"}, r"scope='people' must be one of"),
        ({"name": ""}, r"analyst='' must be text"),
        ({"period_ms": 0}, r"period_ms=0 must be > 0"),
        ({"period_ms": 1.5}, r"period_ms=1.5 must be milliseconds"),
        ({"epoch_ms": 2**60}, r"epoch_ms=1152921504606846976 must be milliseconds below"),
    ],
)
def test_accounts_that_break_a_rule_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        Account(**{"scope": "analyst", "name": "ann", "limit": Limit(epsilon=F(1)), **values})


# --- accounts --------------------------------------------------------------------------------------------------------


def test_declaring_the_same_again_changes_nothing_and_another_limit_needs_amend(ledger: Ledger) -> None:
    before = ledger.head()
    declare(ledger)
    assert ledger.head() == before
    with pytest.raises(
        AccountConflict, match=r"epsilon 2.*must equal what is declared.*epsilon 1.*call amend"
    ):
        ledger.declare(Account("analyst", "ann", Limit(epsilon=F(2))))
    assert ledger.head() == before


def test_a_raised_limit_keeps_what_was_spent(ledger: Ledger) -> None:
    ledger.spend(spend(F(1)))
    for scope, name in (("data_set", "orders"), ("analyst", "ann"), ("purpose", "marketing")):
        ledger.amend(Account(scope, name, Limit(epsilon=F(3, 2))))  # type: ignore[arg-type]
    ledger.spend(spend(F(1, 2)))
    with pytest.raises(BudgetExceeded):
        ledger.spend(spend(F(1, 100)))
    ledger.verify()


def test_a_limit_lowered_below_what_is_spent_leaves_nothing(ledger: Ledger) -> None:
    ledger.spend(spend(F(1, 2)))
    ledger.amend(Account("analyst", "ann", Limit(epsilon=F(1, 4))))
    assert ledger.remaining("analyst", "ann").left == 0
    with pytest.raises(BudgetExceeded, match=r"must be <= 0, which is left of the account analyst='ann'"):
        ledger.spend(spend(F(1, 100)))
    ledger.verify()


def test_a_limit_of_delta_lowered_below_what_is_spent_leaves_pure_losses(tmp_path: Path) -> None:
    with opened(tmp_path / "budget.db") as ledger:
        declare(ledger, Limit(epsilon=F(1), delta=F(1, 100)))
        ledger.spend(spend(delta=F(1, 100)))
        ledger.amend(Account("analyst", "ann", Limit(epsilon=F(1), delta=F(1, 200))))
        ledger.spend(spend())
        with pytest.raises(BudgetExceeded, match=r"delta=1/1000 must be <= 0"):
            ledger.spend(spend(delta=F(1, 1000)))
        ledger.verify()


def test_a_limit_in_another_measure_is_refused(ledger: Ledger) -> None:
    ledger.spend(spend(F(1, 2)))
    with pytest.raises(AccountConflict, match=r"unit='rho' must stay 'epsilon'"):
        ledger.amend(Account("analyst", "ann", Limit(rho=F(1))))


def test_amending_cannot_move_a_renewal_or_make_an_account(ledger: Ledger) -> None:
    with pytest.raises(AccountConflict, match=r"period_ms=604800000 must stay None in the account"):
        ledger.amend(Account("analyst", "ann", Limit(epsilon=F(1)), period_ms=WEEK_MS))
    with pytest.raises(AccountMissing, match=r"analyst='bob' must have an account"):
        ledger.amend(Account("analyst", "bob", Limit(epsilon=F(1))))


def test_check_says_what_spend_would_say_and_spends_nothing(ledger: Ledger) -> None:
    before = ledger.head()
    ledger.check(spend(F(1)))
    with pytest.raises(BudgetExceeded):
        ledger.check(spend(F(2)))
    with pytest.raises(AccountMissing):
        ledger.check(spend(analyst="bob"))
    assert ledger.head() == before


# --- reports ---------------------------------------------------------------------------------------------------------


def test_history_tells_who_spent_what_on_which_query(ledger: Ledger) -> None:
    ledger.declare(Account("analyst", "bob", Limit(epsilon=F(1))))
    ledger.spend(spend(F(1, 4), what="sha256:one"))
    ledger.spend(spend(F(1, 8), analyst="bob", what="sha256:two", delta=F(0)))
    ledger.spend(spend(F(1, 2), what="sha256:three"))
    told = [(one.analyst, one.what, one.cost.epsilon, one.at_ms) for one in ledger.history()]
    assert told == [
        ("ann", "sha256:one", F(1, 4), NOW_MS),
        ("bob", "sha256:two", F(1, 8), NOW_MS),
        ("ann", "sha256:three", F(1, 2), NOW_MS),
    ]
    assert [one.what for one in ledger.history(scope="analyst", name="ann")] == ["sha256:one", "sha256:three"]
    assert [one.what for one in ledger.history(newest=1)] == ["sha256:three"]
    assert [one.what for one in ledger.history(scope="data_set", name="orders", newest=2)] == [
        "sha256:two",
        "sha256:three",
    ]
    with pytest.raises(InvalidArgument, match="must come together"):
        ledger.history(scope="analyst")
    with pytest.raises(AccountMissing):
        ledger.history(scope="analyst", name="eve")


def test_the_odometer_adds_up_what_each_analyst_lost(tmp_path: Path) -> None:
    with opened(tmp_path / "budget.db") as ledger:
        declare(ledger, Limit(rho=F(9), delta=F(1, 2)))
        ledger.declare(Account("analyst", "bob", Limit(epsilon=F(1))))
        ledger.spend(spend(F(1), delta=F(1, 10)))
        ledger.spend(spend(None, rho=F(1, 3), delta=F(1, 10)))
        ledger.declare(Account("data_set", "web", Limit(epsilon=F(1))))
        ledger.spend(spend(F(1, 2), analyst="bob", data_set="web"))
        ann, bob = ledger.odometer("analyst")
        assert (ann.name, ann.spends, ann.epsilon, ann.rho, ann.delta) == ("ann", 2, None, F(5, 6), F(1, 5))
        assert (bob.name, bob.spends, bob.epsilon, bob.rho, bob.delta) == ("bob", 1, F(1, 2), F(1, 8), F(0))
        with pytest.raises(InvalidArgument, match="by='people' must be one of"):
            ledger.odometer("people")  # type: ignore[arg-type]


def test_rows_of_the_budget_table(ledger: Ledger) -> None:
    ledger.spend(spend(F(1, 4)))
    row = budget_rows(ledger)[0]
    assert (row.scope, row.name, row.unit, row.limit, row.spent, row.left, row.ever) == (
        "analyst",
        "ann",
        "epsilon",
        "1",
        "1/4",
        "3/4",
        "1/4",
    )
    assert (row.share, row.delta_limit, row.delta_left, row.renews_at_ms) == (0.25, "0", "0", None)
    assert [(one.scope, one.name) for one in budget_rows(ledger)] == [
        ("analyst", "ann"),
        ("data_set", "orders"),
        ("purpose", "marketing"),
    ]


def test_a_head_reads_back_from_its_text(ledger: Ledger) -> None:
    assert Head.parse(str(ledger.head())) == ledger.head()
    with pytest.raises(InvalidArgument, match=r"head='4' must read entries:sha256"):
        Head.parse("4")
    with pytest.raises(InvalidArgument, match="must read entries:sha256"):
        Head.parse("4:" + "g" * 64)


def test_a_closed_ledger_says_so(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path / "budget.db")
    ledger.close()
    ledger.close()
    with pytest.raises(LedgerClosed, match="ledger=closed must be open"):
        ledger.spend(spend())


def test_a_clock_that_tells_no_int_is_refused(tmp_path: Path) -> None:
    clock: Any = Clock()
    with opened(tmp_path / "budget.db", now_ms=clock) as ledger:
        declare(ledger)
        clock.now_ms = 1.5
        with pytest.raises(InvalidArgument, match=r"now_ms=1\.5 must be an int"):
            ledger.spend(spend())


def test_nothing_of_a_customer_can_be_in_an_entry(ledger: Ledger) -> None:
    """The members of an entry are these; only names of analysts, data sets, purposes and a query digest are text."""
    ledger.spend(spend())
    (one,) = ledger.history()
    assert set(type(one).__slots__) == {
        "entry",
        "at_ms",
        "release_id",
        "analyst",
        "data_set",
        "purpose",
        "what",
        "cost",
    }
