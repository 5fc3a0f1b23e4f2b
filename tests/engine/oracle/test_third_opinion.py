"""Counts, sums and distinct values of the oracle on a random life, against a dataframe that knows nothing of it."""

import random
from typing import Any

import polars as pl
import pytest

from dayfly.engine.events import EventBatch
from dayfly.engine.inputs import Erase, Merge, Publish
from dayfly.engine.policy.model import Policy
from dayfly.engine.tags.tree import EventMatch, FieldComparison, Measure, Predicate
from tests.engine.workload import Mix, as_batches, random_inputs, random_policy
from tests.engine.workload_rules import SPANS_MS
from tests.oracles.consent_rules import Everyone
from tests.oracles.membership import OracleEngine

TOTAL, QUERY = "properties.total", "properties.query"
EXPRESS = FieldComparison("properties.express", "==", value=True)


def _frame(batches: list[EventBatch], policy: Policy) -> pl.DataFrame:
    """The columns of all batches, values of two types unpacked by position; duplicates and dead events taken out."""
    names = [kind.name for kind in policy.catalog.types]
    rows = []
    for batch in batches:
        strings = batch.strings.tobytes()
        for row in range(len(batch)):
            kind = names[batch.type[row]] if batch.type[row] >= 0 else ""
            cells = [int(cell) for cell in batch.values[batch.value_offset[row] :][:4]]
            text = cells[0] if kind == "Product Searched" and cells[0] != -(2**63) else None
            rows.append(
                {
                    "id": batch.event_id[row].tobytes(),
                    "subject": batch.subject[row].tobytes(),
                    "kind": kind,
                    "time": int(batch.time_ms[row]),
                    "received": int(batch.received_ms[row]),
                    "total": cells[1] if kind == "Order Completed" and cells[1] != -(2**63) else None,
                    "express": cells[2] == 1 if kind == "Order Completed" else None,
                    "query": None if text is None else strings[text >> 20 :][: text & 0xFFFFF].decode(),
                }
            )
    settings = policy.settings
    frame = pl.DataFrame(
        rows, schema_overrides={"total": pl.Int64, "query": pl.String, "express": pl.Boolean}
    )
    alive = (pl.col("time") > pl.col("received") - settings.allowed_lateness_ms) & (
        pl.col("time") <= pl.col("received") + settings.future_skew_ms
    )
    return (
        frame.with_row_index("row")
        .filter(alive, pl.col("kind") != "")
        .unique("id", keep="first", maintain_order=True)
    )


def _asked(frame: pl.DataFrame, subject: bytes, kind: str, within_ms: int, now_ms: int) -> pl.DataFrame:
    inside = pl.col("time").is_between(now_ms - within_ms, now_ms, closed="right")
    return frame.filter(pl.col("subject") == subject, pl.col("kind") == kind, inside)


@pytest.mark.parametrize("seed", [1, 2])
def test_counts_sums_and_distinct_values_agree_with_a_dataframe(seed: int) -> None:
    rng = random.Random(seed)
    policy = random_policy(rng, 1)
    mix = Mix(merge=0, link=0, erase=0, undeclared=0.01, duplicate=0.05, late=0.1)
    inputs = list(random_inputs(rng, policy, events=2_500, people=12, edits=0, mix=mix))
    assert not any(isinstance(item, Merge | Erase | Publish) for item in inputs)
    engine = OracleEngine(policy, Everyone())
    frame = _frame([item for item in inputs if isinstance(item, EventBatch)], policy)
    checked = arrived = 0
    for part, now_ms in as_batches(inputs, rng):
        engine.apply(part, now_ms)
        arrived += sum(len(item) for item in part if isinstance(item, EventBatch))
        so_far = frame.filter(pl.col("row") < arrived)
        for _ in range(20):
            person, within_ms = rng.choice(engine.people.all()), rng.choice(SPANS_MS[5:])
            edge_ms = rng.choice(person.times() or [now_ms]) + within_ms + rng.randrange(-1, 2)
            checked += _agree(engine, so_far, person.subject, within_ms, max(edge_ms, now_ms))
    assert checked > 200


def _agree(engine: OracleEngine, frame: pl.DataFrame, person: bytes, within_ms: int, now_ms: int) -> bool:
    """Compare five measures; tells whether the window had anything in it."""

    def ours(function: str, kind: str, field: str | None = None, where: Predicate | None = None) -> Any:
        return engine.value(person, Measure(function, EventMatch(kind, where), within_ms, field), now_ms)  # type: ignore[arg-type]

    orders = _asked(frame, person, "Order Completed", within_ms, now_ms)
    searches = _asked(frame, person, "Product Searched", within_ms, now_ms)
    totals, queries = orders["total"].drop_nulls(), searches["query"].drop_nulls()
    assert ours("count", "Order Completed") == (len(orders) or None)
    assert ours("count", "Order Completed", None, EXPRESS) == (orders["express"].sum() or None)
    total = ours("sum", "Order Completed", TOTAL)
    assert (None if total is None else int(total * 10**6)) == (totals.sum() if len(totals) else None)
    largest = ours("max", "Order Completed", TOTAL)
    assert (None if largest is None else int(largest * 10**6)) == totals.max()
    assert ours("distinct", "Product Searched", QUERY) == (queries.n_unique() or None)
    return bool(len(orders) + len(searches))
