"""The order of a release: plan, spend durably, read, noise, answer. Nothing leaks, nothing is refunded, nothing is free."""

import pickle
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dayfly.privacy.accounting import GaussianLoss, LaplaceLoss, ThresholdLoss, cost_of, epsilon_of_rho
from dayfly.privacy.errors import BudgetExceeded, InvalidQuery, ReleaseFailed
from dayfly.privacy.ledger import Ledger
from dayfly.privacy.noise import OpenDpNoise
from dayfly.privacy.sandbox import QueryDocument, Sandbox, Source, frames, parse_document, to_json
from dayfly.privacy.sandbox import drawing as drawing_module
from dayfly.privacy.sandbox.checking import check
from dayfly.privacy.sandbox.numbers import Budget
from dayfly.privacy.sandbox.planning import outline, plan

from .support import NOW_MS, NoNoise, opened, orders, salts, sandbox_over


class Told(NoNoise):
    """Noise that tells how much is spent at the moment when it is drawn."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self.ledger = ledger
        self.spent: list[Fraction] = []

    def laplace(self, values: Any, scale: Fraction, *, l1: int = 1) -> Any:
        self.spent.append(self.ledger.remaining("analyst", "ann").spent)
        return super().laplace(values, scale, l1=l1)


class Broken(NoNoise):
    """Noise that fails with a text that holds what it was given."""

    def laplace(self, values: Any, scale: Fraction, *, l1: int = 1) -> Any:
        raise RuntimeError(f"cannot add noise to {values.tolist()}")


def test_the_loss_is_on_disk_before_a_row_is_read_and_before_noise_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = opened(tmp_path)
    noise = Told(ledger)
    sandbox = Sandbox(
        ledger=ledger,
        sources={"orders": Source(orders(), customer="customer")},
        analyst="ann",
        purpose="marketing",
        noise=noise,
    )
    seen: list[int] = []
    real = frames.frame_of

    def frame_of(*arguments: Any) -> Any:
        with Ledger.open(
            tmp_path / "budget.db", now_ms=lambda: NOW_MS
        ) as again:  # what another process would see
            seen.append(len(again.history()))
        return real(*arguments)

    monkeypatch.setattr(drawing_module, "frame_of", frame_of)
    sandbox.query("orders").customers().release(epsilon="0.25")
    assert seen == [1]
    assert noise.spent == [Fraction(1, 4)]


def test_what_fails_after_the_spend_stays_spent_and_shows_no_value(tmp_path: Path) -> None:
    sandbox = sandbox_over(tmp_path, {"customer": np.arange(123457)}, noise=Broken(), epsilon=Fraction(1))
    with pytest.raises(ReleaseFailed, match=r"must be finished and was not .RuntimeError.") as caught:
        sandbox.query("orders").customers().release(epsilon="0.6")
    assert "123457" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    with pytest.raises(BudgetExceeded, match="epsilon=3/5 must be <= 2/5"):
        sandbox.query("orders").customers().release(epsilon="0.6")


def test_nothing_that_can_be_printed_holds_a_value_of_a_row(tmp_path: Path) -> None:
    table = pa.table({"customer": ["secret-customer"], "city": ["secret-city"], "v": [8_675_309]})
    source = Source(table, customer="customer")
    sandbox = Sandbox(
        ledger=opened(tmp_path),
        sources={"orders": source},
        analyst="ann",
        purpose="marketing",
        noise=NoNoise(),
    )
    query = (
        sandbox.query("orders")
        .group_by("city")
        .bound(groups_per_customer=1, rows_per_group=1)
        .count()
        .sum("v", lower=0, upper=9)
    )
    release = query.release(epsilon=1, delta="1e-6")
    texts = [repr(one) for one in (source, sandbox, query, release, sandbox.schema("orders"))]
    texts += [
        str(query.explain(epsilon=1, delta="1e-6")),
        str(query.preview(epsilon=1, delta="1e-6")),
        str(release.to_dict()),
    ]
    for text in texts:
        assert "secret" not in text
        assert "8675309" not in text
    with pytest.raises(InvalidQuery, match="must not be pickled"):
        pickle.dumps(source)


def test_a_release_id_answers_once(tmp_path: Path) -> None:
    sandbox = sandbox_over(tmp_path, orders(), epsilon=Fraction(1))
    query = sandbox.query("orders").customers()
    first = query.release(epsilon="0.5", release_id=b"job 17 of tonight")
    with pytest.raises(ReleaseFailed, match="must be new, because its answer was drawn before"):
        query.release(epsilon="0.5", release_id=b"job 17 of tonight")
    assert first.remaining[0].left == Fraction(1, 2)
    assert sandbox.remaining()[0].left == Fraction(1, 2)


def test_a_release_carries_loss_remaining_budget_and_lineage(tmp_path: Path) -> None:
    sandbox = sandbox_over(tmp_path, orders(), epsilon=Fraction(1))
    query = sandbox.query("orders").bound(rows_per_group=3).count()
    release = query.release(epsilon=Fraction(1, 3))
    assert release.loss.epsilon == Fraction(1, 3)
    assert [one.left for one in release.remaining] == [Fraction(2, 3)] * 3
    assert release.lineage.analyst == "ann"
    assert release.lineage.release_id == release.receipt.release_id.hex()
    (spending,) = sandbox._ledger.history()
    assert spending.what == f"query {release.lineage.query_digest}"
    assert (
        parse_document(to_json(release.document))
        == release.document
        == QueryDocument(query=query.query, budget=Budget(epsilon="1/3"))
    )
    assert release.to_dict()["loss"] == {
        "epsilon": "1/3",
        "rho": release.to_dict()["loss"]["rho"],
        "delta": "0",
    }


def test_sources_about_the_same_customers_share_a_budget(tmp_path: Path) -> None:
    ledger = opened(tmp_path, epsilon=Fraction(1))
    sources = {
        name: Source(orders(), customer="customer", data_set="orders") for name in ("sales", "returns")
    }
    sandbox = Sandbox(ledger=ledger, sources=sources, analyst="ann", purpose="marketing", noise=NoNoise())
    sandbox.query("sales").customers().release(epsilon="0.7")
    with pytest.raises(BudgetExceeded):
        sandbox.query("returns").customers().release(epsilon="0.7")
    assert {one.account.name for one in sandbox.remaining()} == {"orders", "ann", "marketing"}


def test_a_document_is_answered_as_the_fluent_query(tmp_path: Path) -> None:
    sandbox = sandbox_over(tmp_path, orders())
    query = (
        sandbox.query("orders")
        .group_by("country", keys=["France", "Spain"])
        .bound(groups_per_customer=3, rows_per_group=100)
        .count()
    )
    fluent = query.release(epsilon=1)
    answered = sandbox.ask(to_json(fluent.document))
    assert answered.table.equals(fluent.table)
    assert answered.lineage.query_digest == fluent.lineage.query_digest


# --- plans -----------------------------------------------------------------------------------------------------------


def planned(sandbox: Sandbox, build: Callable[[Any], Any], **budget: Any) -> Any:
    query = build(sandbox.query("orders")).query
    asked = Budget(**budget)
    return plan(outline(check(query, sandbox._source("orders").schema), asked.shares), asked)


def many(query: Any) -> Any:
    return (
        query.group_by("country", keys=["France"])
        .bound(groups_per_customer=4, rows_per_group=5)
        .count()
        .sum("price", lower=0, upper=9)
        .mean("price", lower=0, upper=8)
    )


def test_shares_add_up_to_the_budget_exactly(tmp_path: Path) -> None:
    found = planned(
        sandbox_over(tmp_path, orders()), many, epsilon="0.7", shares={"price_sum": 5, "count": "0.3"}
    )
    assert sum(one.share for one in found.parts.values()) == 1
    assert sum(one.event.epsilon for one in found.parts.values()) == Fraction(7, 10) == found.cost.epsilon
    by_name = {one.labels: one.share for one in found.parts.values()}
    assert by_name[("price_sum",)] / by_name[("count",)] == Fraction(50, 3)


def test_rho_is_spent_as_gaussian_noise_that_costs_no_more(tmp_path: Path) -> None:
    found = planned(sandbox_over(tmp_path, orders()), many, rho="0.01")
    assert {type(one.event) for one in found.parts.values()} == {GaussianLoss}
    assert Fraction("0.0099999") < found.cost.rho <= Fraction("0.01")
    assert found.cost.epsilon is None


def test_with_epsilon_and_delta_the_smaller_noise_is_taken(tmp_path: Path) -> None:
    sandbox = sandbox_over(tmp_path, orders())
    few = planned(sandbox, lambda query: query.customers(), epsilon=1, delta="1e-6")
    assert few.mechanism == "laplace"
    assert (few.cost.epsilon, few.cost.delta) == (1, 0)

    def wide(query: Any) -> Any:
        return query.group_by("country", keys=["France"]).bound(groups_per_customer=200).customers()

    much = planned(sandbox, wide, epsilon=1, delta="1e-6")
    assert much.mechanism == "gaussian"
    assert (much.cost.epsilon, much.cost.delta) == (1, Fraction(1, 10**6))
    assert epsilon_of_rho(much.cost.rho, Fraction(1, 10**6)) <= 1 + 1e-12  # itself rounded up
    (part,) = much.parts.values()
    assert part.std < 200 * 2**0.5


def test_a_selection_of_keys_pays_the_delta(tmp_path: Path) -> None:
    sandbox = sandbox_over(tmp_path, orders())

    def unknown(query: Any) -> Any:
        return query.group_by("country").bound(groups_per_customer=300).customers()

    laplace = planned(
        sandbox,
        lambda query: query.group_by("country").bound(groups_per_customer=1).customers(),
        epsilon=1,
        delta="1e-6",
    )
    assert laplace.mechanism == "laplace"
    assert laplace.cost.delta == Fraction(1, 10**6)
    (one,) = laplace.parts.values()
    assert isinstance(one.event, ThresholdLoss)
    assert isinstance(one.noise, LaplaceLoss)
    gaussian = planned(sandbox, unknown, epsilon=1, delta="1e-6")
    assert gaussian.mechanism == "gaussian"
    assert gaussian.cost.delta == Fraction(1, 10**6)
    (two,) = gaussian.parts.values()
    assert cost_of(two.event).delta == Fraction(1, 2 * 10**6)


def test_the_scales_that_are_drawn_are_those_of_the_plan(tmp_path: Path) -> None:
    noise = NoNoise()
    sandbox = sandbox_over(tmp_path, orders(), noise=noise)
    query = many(sandbox.query("orders"))
    query.release(epsilon=1)
    wanted = sorted((one.scale_units, one.l1_units) for one in query.explain(epsilon=1).parts)
    assert sorted((scale, l1) for _, _, scale, l1 in noise.asked) == wanted


def test_an_explanation_states_sensitivities_in_units_and_in_values(tmp_path: Path) -> None:
    sandbox = sandbox_over(tmp_path, orders())
    found = (
        sandbox.query("orders")
        .group_by("country", keys=["France"])
        .bound(groups_per_customer=4)
        .sum("price", lower=-3, upper=2, step="0.5")
        .explain(epsilon=2)
    )
    (one,) = found.parts
    assert (one.l0, one.l1_units, one.l2_squared_units, one.linf_units) == (4, 24, 144, 6)
    assert (one.l1, one.l2, one.linf, one.step) == (12.0, 6.0, 3.0, Fraction(1, 2))
    assert (one.mechanism, one.scale_units, one.scale) == ("laplace", Fraction(12), 6.0)
    assert "one customer changes L0 4, L1 12, L2 6, Linf 3" in str(found)


def test_open_dp_draws_noise_of_the_size_that_is_explained(tmp_path: Path) -> None:
    sandbox = sandbox_over(
        tmp_path, {"customer": np.arange(500), "k": np.zeros(500, np.int64)}, noise=OpenDpNoise()
    )
    keys = range(2000)
    query = sandbox.query("orders").group_by("k", keys=keys).bound(groups_per_customer=3, rows_per_group=2)
    for budget in ({"epsilon": "0.5"}, {"epsilon": "0.5", "delta": "1e-6"}):
        asked = query.count()
        release = asked.release(**budget)  # type: ignore[arg-type]
        (part,) = asked.explain(**budget).parts  # type: ignore[arg-type]
        noise = np.array(release.table["count"].to_pylist()[1:])
        assert 0.9 < noise.std() / part.std < 1.1
        low, high = (np.array(release.table[f"count_{edge}"].to_pylist()[1:]) for edge in ("low", "high"))
        covered = ((low <= 0) & (high >= 0)).mean()
        assert covered > 0.93


def test_salts_are_of_the_random_source(tmp_path: Path) -> None:
    drawn: list[int] = []

    def random_bytes(size: int) -> bytes:
        drawn.append(size)
        return bytes(salts()(size))

    sandbox = Sandbox(
        ledger=opened(tmp_path),
        sources={"orders": Source(orders(), customer="customer")},
        analyst="ann",
        purpose="marketing",
        noise=NoNoise(),
        random_bytes=random_bytes,
    )
    sandbox.query("orders").customers().release(epsilon=1)
    assert drawn == [16, 16]
