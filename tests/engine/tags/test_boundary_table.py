"""The boundary table of the specification holds for the independent recount, and its parser reads what it says."""

from dataclasses import replace

import pytest

from dayfly.engine.events import EventBatch
from dayfly.engine.tags.check import tag_findings
from tests.engine.tags.boundary_table import (
    CATALOG,
    HAS_A,
    POLICY,
    SETTINGS,
    START_MS,
    SUBJECT,
    Row,
    boundary_rows,
)
from tests.oracles.consent_rules import Everyone
from tests.oracles.membership import OracleEngine

ROWS = list(boundary_rows())


@pytest.mark.parametrize("row", ROWS, ids=[f"line-{row.line}" for row in ROWS])
def test_row_holds_for_the_recount(row: Row) -> None:
    engine = OracleEngine(replace(POLICY, tags=(HAS_A, row.tag)), Everyone())
    if row.events:
        engine.apply([EventBatch.from_events(row.events, CATALOG)], row.now_ms)
    engine.apply([], row.now_ms)
    assert engine.member(SUBJECT, row.tag.name, row.now_ms) is row.expected, row.tag.text


@pytest.mark.parametrize("row", ROWS, ids=[f"line-{row.line}" for row in ROWS])
def test_row_may_be_published(row: Row) -> None:
    assert tag_findings(row.tag, CATALOG, {"has-a": HAS_A}, SETTINGS) == ()


@pytest.mark.parametrize(
    "function",
    [
        "count",
        "distinct",
        "sum",
        "avg",
        "min",
        "max",
        "first",
        "last",
        "absent",
        "first_time",
        "regularly",
        "stopped",
        "restarted",
        "sequence",
        "in_tag",
    ],
)
def test_every_function_has_rows_that_hold_and_rows_that_do_not(function: str) -> None:
    expected = {row.expected for row in ROWS if row.tag.text.startswith((f"{function}(", f"!{function}("))}
    assert expected == {True, False}


def test_row_format_reads_every_part_of_an_event() -> None:
    row = next(row for row in ROWS if "properties.n == 2" in row.tag.text and len(row.events) == 2)
    first, second = row.events
    assert first.event_id == second.event_id
    assert [event.properties for event in row.events] == [{"n": 1}, {"n": 2}]
    late = next(
        row
        for row in ROWS
        if any(event.time_ms == START_MS and event.received_ms == START_MS + 9999 for event in row.events)
    )
    assert [event.received_ms - START_MS for event in late.events] == [9999, 9999]
    assert any(event.channel == "app" for row in ROWS for event in row.events)
    assert any(event.properties.get("s") == "e\u0301" for row in ROWS for event in row.events)
    assert any(event.properties.get("t") == START_MS + 999 for row in ROWS for event in row.events)


def test_table_has_at_least_sixty_rows() -> None:
    assert len(ROWS) >= 60
