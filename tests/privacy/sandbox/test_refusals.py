"""Bad questions: each is refused with value, rule and way out, from public facts, and spends nothing."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from dayfly.privacy.errors import (
    AccountMissing,
    BudgetExceeded,
    EpsilonUnbounded,
    InvalidQuery,
    QueryTooLarge,
)
from dayfly.privacy.ledger import Ledger
from dayfly.privacy.sandbox import Sandbox, SandboxQuery, Source, col

from .support import NoNoise, orders, sandbox_over

Build = Callable[[SandboxQuery], SandboxQuery]


class Unread(NoNoise):
    """Noise that must not be drawn."""

    def laplace(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("noise was drawn")

    gaussian = laplace_threshold = gaussian_threshold = laplace


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return sandbox_over(tmp_path, orders(50), noise=Unread())


def spends(sandbox: Sandbox) -> int:
    ledger: Ledger = sandbox._ledger
    return len(ledger.history())


REFUSED: list[tuple[Build, str]] = [
    (
        lambda q: q.where("missing > 1").count(),
        r"column='missing' must be one of at, country, invoice, new, price, quantity",
    ),
    (lambda q: q.where("customer == 3").count(), "column='customer' must be one of"),
    (lambda q: q.where("quantity").count(), "must be true or false, not integer"),
    (lambda q: q.derive(**{"": col("price")}).count(), "1 to 200 printable characters"),
    (lambda q: q, r"measures=0 must be 1 to 64"),
    (lambda q: q.count(), r"rows_per_group=<none> must be given for 'count'"),
    (lambda q: q.mean("price", lower=0, upper=9), r"rows_per_group=<none> must be given for 'price_mean'"),
    (lambda q: q.bound(rows_per_group=0).count(), r"rows_per_group=0 must be a whole number"),
    (lambda q: q.bound(rows_per_group=True).count(), r"rows_per_group=True must be a whole number"),
    (
        lambda q: q.group_by("country", keys=["France"]).customers(),
        r"groups_per_customer=<none> must be given",
    ),
    (
        lambda q: q.group_by("country", keys=["France"]).bound(groups_per_customer=5000).customers(),
        r"groups_per_customer=5000 must be a whole number in \[1, 4096\]",
    ),
    (
        lambda q: q.sum("country", lower=0, upper=1),
        "column='country' of 'country_sum' must hold numbers, not text",
    ),
    (lambda q: q.sum("price", lower=2, upper=1), r"lower=2 upper=1 of 'price_sum' must be in order"),
    (
        lambda q: q.sum("price", lower=0, upper=0),
        r"lower=0 upper=0 of 'price_sum' must be in order with something",
    ),
    (
        lambda q: q.sum("price", lower=float("nan"), upper=1),
        r"lower of 'price_sum'=nan must be a finite number",
    ),
    (lambda q: q.sum("price", lower=0, upper=1, step=0), r"step=0 of 'price_sum' must be > 0"),
    (
        lambda q: q.sum("price", lower=0, upper=1, step="1/3"),
        r"step of 'price_sum': step=1/3 must be a decimal",
    ),
    (
        lambda q: q.bound(rows_per_group=1).mean("price", lower=1, upper=1),
        r"must be in order with something between",
    ),
    (
        lambda q: q.bound(rows_per_group=1).quantiles("price", [0.0], lower=0, upper=1),
        r"must be distinct numbers in \(0, 1\)",
    ),
    (
        lambda q: q.bound(rows_per_group=1).quantiles("price", lower=0, upper=1, bins=100),
        r"bins=100 .* must be one of",
    ),
    (lambda q: q.distinct("price", values_per_customer=1), "must not be a key, because it holds fractions"),
    (lambda q: q.distinct("country", values_per_customer=0), r"values_per_customer=0 must be a whole number"),
    (lambda q: q.customers().customers(), r"names=\['customers'\] must be of one column each"),
    (lambda q: q.customers().top_k(2, by="count"), r"top_k by='count' must be one of customers"),
    (
        lambda q: q.group_by("price").bound(groups_per_customer=1).customers(),
        "must not be a key, because it holds fractions",
    ),
    (
        lambda q: q.group_by("country", keys=[]).bound(groups_per_customer=1).customers(),
        "must be at least one, each once",
    ),
    (
        lambda q: q.group_by("country", keys=["F", "F"]).bound(groups_per_customer=1).customers(),
        "must be at least one, each once",
    ),
    (
        lambda q: q.group_by("country", keys=[3]).bound(groups_per_customer=1).customers(),
        "key=3 of column='country' must be of kind text",
    ),
    (
        lambda q: q.group_by("quantity", keys=[True]).bound(groups_per_customer=1).customers(),
        "key=True .* must be of kind integer",
    ),
    (
        lambda q: q.group_by("quantity", keys=[2**63]).bound(groups_per_customer=1).customers(),
        "must fit in 64 bits",
    ),
    (
        lambda q: q.group_by("at", keys=["soon"]).bound(groups_per_customer=1).customers(),
        "must be a date or time",
    ),
    (
        lambda q: q.group_by("price", edges=[1]).bound(groups_per_customer=1).customers(),
        "must be at least two, ascending",
    ),
    (
        lambda q: q.group_by("price", edges=[1, 1]).bound(groups_per_customer=1).customers(),
        "must be at least two, ascending",
    ),
    (
        lambda q: q.group_by("country", edges=[1, 2]).bound(groups_per_customer=1).customers(),
        "must be of numbers",
    ),
    (
        lambda q: q.group_by("price", keys=[1], edges=[1, 2]).bound(groups_per_customer=1).customers(),
        "keys or edges, not both",
    ),
    (
        lambda q: q.group_by("new").group_by("new").bound(groups_per_customer=1).customers(),
        "each once; drop the others",
    ),
    (lambda q: q.per_customer(n=("sum", "country")).customers(), "must hold numbers for sum, not text"),
    (lambda q: q.per_customer(by=["country"], country="rows").customers(), "column='country' must be new"),
    (lambda q: q.per_customer().customers(), "must name at least one column"),
    (lambda q: q.per_customer(n="rows").where("price > 1").customers(), "column='price' must be one of n"),
    (lambda q: q.per_customer(n=("rows", "price")).customers(), "rows must have none"),
]


@pytest.mark.parametrize(("build", "match"), REFUSED, ids=range(len(REFUSED)))
def test_a_bad_query_is_refused_and_spends_nothing(sandbox: Sandbox, build: Build, match: str) -> None:
    query = build(sandbox.query("orders"))
    for ask in (query.release, query.explain, query.preview):
        with pytest.raises(InvalidQuery, match=match):
            ask(epsilon=1, delta="1e-6")
    assert spends(sandbox) == 0


BUDGETS: list[tuple[dict[str, Any], str]] = [
    ({}, "must be exactly one number; give epsilon"),
    ({"epsilon": 1, "rho": 1}, "must be exactly one number"),
    ({"epsilon": 0}, r"epsilon=0.0 must be > 0"),
    ({"epsilon": -1}, r"epsilon=-1.0 must be > 0"),
    ({"epsilon": float("nan")}, r"epsilon=nan must be a finite number"),
    ({"epsilon": "much"}, r"epsilon='much' must be a finite number"),
    ({"rho": 0}, r"rho=0.0 must be > 0"),
    ({"rho": 1, "delta": "1e-6"}, "must be left out beside rho where all keys are known"),
    ({"epsilon": 1, "delta": 1}, r"delta=1 must lie in \[0, 1\)"),
    ({"epsilon": 1, "shares": {"sum": 1}}, r"shares of \['sum'\] must name columns of the answer: customers"),
    ({"epsilon": 1, "shares": {"customers": 0}}, "share of 'customers' must be > 0"),
    ({"epsilon": 1, "confidence": 1}, r"confidence=1 must lie in \(0, 1\)"),
]


@pytest.mark.parametrize(("budget", "match"), BUDGETS, ids=range(len(BUDGETS)))
def test_a_bad_budget_is_refused_and_spends_nothing(
    sandbox: Sandbox, budget: dict[str, Any], match: str
) -> None:
    with pytest.raises(InvalidQuery, match=match):
        sandbox.query("orders").customers().release(**budget)
    assert spends(sandbox) == 0


def test_unknown_keys_need_a_delta(sandbox: Sandbox) -> None:
    query = sandbox.query("orders").group_by("country").bound(groups_per_customer=1).customers()
    with pytest.raises(InvalidQuery, match="delta=0 must be > 0 where keys are unknown"):
        query.release(epsilon=1)


def test_a_group_explosion_is_refused_by_the_number_of_keys(sandbox: Sandbox) -> None:
    query = (
        sandbox.query("orders")
        .group_by("invoice", keys=range_texts(1025))
        .group_by("quantity", keys=range(1024))
    )
    with pytest.raises(QueryTooLarge, match="groups=1049600 must be at most 1048576"):
        query.bound(groups_per_customer=1).customers().release(epsilon=1)
    trees = (
        sandbox.query("orders")
        .group_by("invoice", keys=range_texts(1000))
        .bound(groups_per_customer=1, rows_per_group=1)
    )
    with pytest.raises(QueryTooLarge, match="bins=4096 in groups=1000"):
        trees.quantiles("price", lower=0, upper=1, bins=4096).release(epsilon=1)


def range_texts(count: int) -> list[str]:
    return [str(one) for one in range(count)]


def test_an_overflow_of_the_fixed_point_range_is_refused_by_the_bounds(sandbox: Sandbox) -> None:
    query = sandbox.query("orders")
    with pytest.raises(
        QueryTooLarge, match="bounds of 'price_sum' in steps are 10000000000 and must be at most 4294967296"
    ):
        query.sum("price", lower=0, upper=10**8, step="0.01").release(epsilon=1)
    with pytest.raises(QueryTooLarge, match="must lie between"):
        query.sum("price", lower=0, upper="1e-40").release(epsilon=1)
    with pytest.raises(QueryTooLarge, match="must lie between"):
        query.sum("price", lower=0, upper="1e40").release(epsilon=1)


def test_an_exhausted_or_missing_budget_is_refused(tmp_path: Path) -> None:
    sandbox = sandbox_over(tmp_path, orders(50), noise=Unread(), epsilon=Fraction(1))
    query = sandbox.query("orders").customers()
    with pytest.raises(BudgetExceeded, match="epsilon=2 must be <= 1"):
        query.release(epsilon=2)
    with pytest.raises(EpsilonUnbounded, match="must be finite for the account"):
        query.release(rho=1)
    stranger = Sandbox(
        ledger=sandbox._ledger, sources=sandbox._sources, analyst="bob", purpose="marketing", noise=Unread()
    )
    with pytest.raises(AccountMissing, match="analyst='bob' must have an account"):
        stranger.query("orders").customers().release(epsilon=1)
    assert spends(sandbox) == 0


def test_an_unknown_source_and_a_wrong_customer_column_are_refused(sandbox: Sandbox) -> None:
    with pytest.raises(InvalidQuery, match="source='visits' must be one of orders"):
        sandbox.query("visits")
    with pytest.raises(InvalidQuery, match="customer='who' must be a column of"):
        Source(orders(5), customer="who")
    with pytest.raises(InvalidQuery, match="customer='price' must hold integers or texts"):
        Source(orders(5), customer="price")
    with pytest.raises(InvalidQuery, match="paths of a source must be at least one"):
        Source([], customer="customer")


def test_a_document_without_budget_is_not_answered(sandbox: Sandbox) -> None:
    with pytest.raises(InvalidQuery, match="budget=<none> must be in a document"):
        sandbox.ask("query: {source: orders, measures: [{measure: customers}]}")
