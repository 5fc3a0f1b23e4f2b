"""What releases cost: paid before noise, once, in the ledger of each channel's data set; exact sums are refused or written down."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.federation.accounting import (
    EXACT,
    ExactSums,
    LedgerBudget,
    TrialBudget,
    customer_loss,
    release_name,
)
from dayfly.federation.analytics import HistogramSpec, HistogramWorkload, secure_histogram
from dayfly.federation.errors import AlreadyReleased, Declined, InvalidSetting, SpendRefused
from dayfly.federation.horizontal import GlmSettings, GlmWorkload, Shard, train_glm
from dayfly.privacy.accounting import ApproxLoss, NoLoss, PureLoss, ZcdpLoss, cost_of
from dayfly.privacy.errors import BudgetExceeded, ReleaseConflict
from dayfly.privacy.ledger import Account, Amounts, Ledger, Limit, Spend, Spending
from dayfly.privacy.noise import OpenDpNoise
from tests.federation.horizontal.runs import RUN, grid_of, spec_of
from tests.federation.secagg.sessions import digest

NOW_MS = 1_800_000_000_000
LOSS = ZcdpLoss(Fraction(1, 8))
OTHER_RUN = digest("other run")[:16]


def opened(path: Path, *data_sets: str, limit: Limit | None = None) -> Ledger:
    ledger = Ledger.open(path, now_ms=lambda: NOW_MS, create=True)
    wide = Limit(rho=Fraction(100), delta=Fraction(999, 1_000))
    for name in data_sets:
        ledger.declare(Account("data_set", name, limit or Limit(rho=Fraction(1, 4))))
    ledger.declare(Account("analyst", "ann", wide))
    ledger.declare(Account("purpose", "joint_model", wide))
    return ledger


def budget_of(ledger: Ledger, data_set: str = "orders", **changes: Any) -> LedgerBudget:
    return LedgerBudget(
        ledger, channel="shop", data_set=data_set, analyst="ann", purpose="joint_model.training", **changes
    )


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with opened(tmp_path / "budget.db", "orders", "visits") as found:
        yield found


def spent(ledger: Ledger, data_set: str = "orders") -> Fraction:
    return ledger.remaining("data_set", data_set).spent


def test_a_release_is_on_disk_under_its_run_and_name_before_noise_is_drawn(ledger: Ledger) -> None:
    budget_of(ledger).spend(run=RUN, release="step 1", loss=LOSS)
    (entry,) = ledger.history()
    assert (entry.data_set, entry.analyst, entry.purpose) == ("orders", "ann", "joint_model.training")
    assert entry.what == f"federation run {RUN.hex()} release step 1"
    assert entry.cost == Amounts(None, Fraction(1, 8), Fraction(0))


def test_a_replay_after_a_crash_pays_nothing_and_gives_nothing_back(tmp_path: Path) -> None:
    path = tmp_path / "budget.db"
    with opened(path, "orders") as ledger:
        budget_of(ledger).spend(run=RUN, release="step 1", loss=LOSS)
    for _ in range(3):
        with opened(path, "orders") as ledger:
            budget_of(ledger, resumed=True).spend(run=RUN, release="step 1", loss=LOSS)
            assert spent(ledger) == LOSS.rho
            assert len(ledger.history()) == 1


def test_a_run_that_begins_anew_under_its_old_name_draws_no_second_noise(ledger: Ledger) -> None:
    first = budget_of(ledger)
    first.spend(run=RUN, release="step 1", loss=LOSS)
    first.spend(run=RUN, release="step 1", loss=LOSS)  # its own answer, asked for again
    with pytest.raises(
        AlreadyReleased, match="party='shop' paid for release='step 1' of this run before; resume"
    ):
        budget_of(ledger).spend(run=RUN, release="step 1", loss=LOSS)
    assert spent(ledger) == LOSS.rho


def test_another_loss_under_the_same_key_is_refused(ledger: Ledger) -> None:
    budget = budget_of(ledger)
    budget.spend(run=RUN, release="step 1", loss=LOSS)
    with pytest.raises(
        SpendRefused, match="party='shop' refuses release='step 1', nothing was drawn"
    ) as caught:
        budget.spend(run=RUN, release="step 1", loss=ZcdpLoss(Fraction(1, 16)))
    assert isinstance(caught.value.__cause__, ReleaseConflict)
    assert spent(ledger) == LOSS.rho
    trial = TrialBudget()
    trial.spend(run=RUN, release="step 1", loss=LOSS)
    trial.spend(run=RUN, release="step 1", loss=LOSS)
    with pytest.raises(InvalidSetting, match="release='step 1' must keep its loss"):
        trial.spend(run=RUN, release="step 1", loss=NoLoss())
    assert trial.spent == {(RUN, "step 1"): LOSS}


def test_over_budget_names_the_channel_and_charges_nothing(ledger: Ledger) -> None:
    budget = budget_of(ledger)
    for step in (1, 2):
        budget.spend(run=RUN, release=f"step {step}", loss=LOSS)
    with pytest.raises(
        SpendRefused, match=r"party='shop' refuses release='step 3'.* must be <= 0, which is left"
    ) as caught:
        budget.spend(run=RUN, release="step 3", loss=LOSS)
    assert isinstance(caught.value.__cause__, BudgetExceeded)
    assert caught.value.party == "shop"
    assert len(ledger.history()) == 2


def test_an_account_in_epsilon_takes_no_gaussian_noise(tmp_path: Path) -> None:
    with opened(tmp_path / "budget.db", "orders", limit=Limit(epsilon=Fraction(1))) as ledger:
        with pytest.raises(SpendRefused, match=r"cost\.epsilon=None must be finite"):
            budget_of(ledger).spend(run=RUN, release="step 1", loss=LOSS)
        with pytest.raises(SpendRefused, match="analyst='bob' must have an account"):
            LedgerBudget(
                ledger, channel="shop", data_set="orders", analyst="bob", purpose="joint_model"
            ).spend(run=RUN, release="step 1", loss=PureLoss(Fraction(1, 2)))


def test_a_release_is_one_of_its_run_its_data_set_and_its_question(ledger: Ledger) -> None:
    tiny = ZcdpLoss(Fraction(1, 100))
    for data_set in ("orders", "visits"):
        for run in (RUN, OTHER_RUN):
            for asked in (b"a", b"b"):
                budget_of(ledger, data_set).spend(run=run, release=release_name("step 1", asked), loss=tiny)
    assert spent(ledger) == spent(ledger, "visits") == 4 * tiny.rho
    assert release_name("step", b"a", b"b") != release_name("step", b"ab")
    assert release_name("step", b"a") == release_name("step", b"a")


def test_what_depends_on_nobody_is_free(ledger: Ledger) -> None:
    budget_of(ledger).spend(run=RUN, release="names of features", loss=NoLoss())
    assert ledger.history() == []


@pytest.mark.parametrize(
    ("run", "release", "cause"),
    [(b"short", "step", "run=5 bytes"), (RUN, "", "release='' must"), (RUN, "a\nb", "printable")],
)
def test_keys_that_name_nothing_are_refused(ledger: Ledger, run: bytes, release: str, cause: str) -> None:
    for budget in (budget_of(ledger), TrialBudget()):
        with pytest.raises(InvalidSetting, match=cause):
            budget.spend(run=run, release=release, loss=LOSS)


# --- exact sums ------------------------------------------------------------------------------------------------------


def test_no_account_of_any_ledger_can_pay_for_an_exact_sum(tmp_path: Path) -> None:
    almost = Fraction(10**90 - 1, 10**90)
    limit = Limit(rho=Fraction(10**12), delta=almost)
    with opened(tmp_path / "budget.db", "orders", limit=limit) as ledger, pytest.raises(BudgetExceeded):
        ledger.spend(
            Spend(
                data_set="orders",
                analyst="ann",
                purpose="joint_model",
                cost=cost_of(EXACT),
                what="exact",
                release_id=bytes(16),
            )
        )


def test_exact_sums_are_refused_unless_the_channel_lets_them(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(
        SpendRefused, match="party='shop' refuses release='glm': an exact sum is no differential privacy"
    ):
        budget_of(ledger).spend(run=RUN, release="glm", loss=EXACT)
    listed = ExactSums(tmp_path / "exact.jsonl", now_ms=lambda: NOW_MS)
    for _ in range(2):
        budget_of(ledger, exact=listed).spend(run=RUN, release="glm", loss=EXACT)
    budget_of(ledger, "visits", exact=listed).spend(
        run=RUN, release="glm", loss=ApproxLoss(Fraction(0), Fraction(1))
    )
    assert [(one.data_set, one.run, one.release, one.at_ms) for one in listed.history()] == [
        ("orders", RUN.hex(), "glm", NOW_MS),
        ("visits", RUN.hex(), "glm", NOW_MS),
    ]
    assert ledger.history() == []
    assert (tmp_path / "exact.jsonl").stat().st_mode & 0o777 == 0o600


@given(cut=st.integers(1, 60))
def test_a_line_that_a_crash_cut_short_is_dropped_and_written_again(tmp_path_factory: Any, cut: int) -> None:
    path = tmp_path_factory.mktemp("exact") / "exact.jsonl"
    listed = ExactSums(path, now_ms=lambda: NOW_MS)
    listed.record(data_set="orders", run=RUN, release="one")
    whole = path.read_bytes()
    listed.record(data_set="orders", run=RUN, release="two")
    path.write_bytes(path.read_bytes()[: len(whole) + cut])
    assert [one.release for one in listed.history()] == ["one"]
    listed.record(data_set="orders", run=RUN, release="three")
    assert [one.release for one in listed.history()] == ["one", "three"]
    path.write_bytes(b"no record\n" + path.read_bytes())
    with pytest.raises(InvalidSetting, match="must hold one record per line"):
        listed.history()


def test_a_glm_workload_computes_nothing_where_exact_sums_are_refused(ledger: Ledger) -> None:
    rows = {
        "shop": (np.zeros((4, 1)), np.array([0.0, 1.0, 0.0, 1.0])),
        "web": (np.ones((4, 1)), np.array([0.0, 1.0, 0.0, 1.0])),
    }
    spec = spec_of(rows, "logistic")
    workloads = {
        name: GlmWorkload(
            Shard(name, spec.features, values, spec.label, labels), run=RUN, budget=budget_of(ledger)
        )
        for name, (values, labels) in rows.items()
    }
    _, caller = grid_of(workloads)
    with pytest.raises(
        Declined, match=r"party='shop' declined 'mask'.*an exact sum is no differential privacy"
    ):
        train_glm(caller, GlmSettings(spec), session=digest("session")[:16])


# --- one customer in several channels --------------------------------------------------------------------------------


def histories(*ledgers: Ledger) -> list[list[Spending]]:
    return [ledger.history(scope="data_set", name="orders") for ledger in ledgers]


def test_a_joint_release_is_lost_once_and_separate_ones_add_up(tmp_path: Path) -> None:
    with opened(tmp_path / "a.db", "orders") as one, opened(tmp_path / "b.db", "orders") as two:
        for ledger in (one, two):
            budget_of(ledger).spend(run=RUN, release="joint", loss=LOSS)
        assert customer_loss(histories(one, two)) == Amounts(None, LOSS.rho, Fraction(0))
        assert customer_loss(histories(one)) == Amounts(None, LOSS.rho, Fraction(0))
        budget_of(two).spend(run=OTHER_RUN, release="joint", loss=LOSS)
        assert customer_loss(histories(one, two)).rho == 2 * LOSS.rho
        assert customer_loss(histories(one)).rho == LOSS.rho


def test_what_the_sandbox_released_counts_in_each_channel(tmp_path: Path) -> None:
    with opened(tmp_path / "a.db", "orders") as one, opened(tmp_path / "b.db", "orders") as two:
        for ledger in (one, two):
            ledger.spend(
                Spend(
                    data_set="orders",
                    analyst="ann",
                    purpose="joint_model",
                    cost=cost_of(LOSS),
                    what="count",
                    release_id=bytes(16),
                )
            )
        assert customer_loss(histories(one, two)).rho == 2 * LOSS.rho


def test_channels_that_charged_one_release_differently_are_found(tmp_path: Path) -> None:
    with opened(tmp_path / "a.db", "orders") as one, opened(tmp_path / "b.db", "orders") as two:
        budget_of(one).spend(run=RUN, release="joint", loss=LOSS)
        budget_of(two).spend(run=RUN, release="joint", loss=ZcdpLoss(Fraction(1, 16)))
        with pytest.raises(InvalidSetting, match="must cost the same in every channel"):
            customer_loss(histories(one, two))


def test_a_histogram_is_paid_for_by_every_channel_and_lost_once(tmp_path: Path) -> None:
    spec = HistogramSpec(("a", "b"), (40, 1), 3)
    ledgers = [opened(tmp_path / f"{number}.db", "orders") for number in range(3)]
    workloads = {
        f"shop-{number}": HistogramWorkload(
            f"shop-{number}", {"ann": "a"}, noise=OpenDpNoise(), run=RUN, budget=budget_of(ledger)
        )
        for number, ledger in enumerate(ledgers)
    }
    _, caller = grid_of(workloads)
    found = secure_histogram(caller, spec, session=digest("session")[:16])
    charged = [spent(ledger) for ledger in ledgers]
    assert charged[0] == charged[1] == charged[2] >= found.loss.rho
    assert customer_loss(histories(*ledgers)).rho == charged[0]
    for ledger in ledgers:
        ledger.close()
