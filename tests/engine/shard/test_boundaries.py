"""The boundary table of the specification holds for the shard, in whatever way the row's time is reached."""

from dataclasses import replace

import pytest

from dayfly.engine.events import EventBatch
from dayfly.engine.inputs import ConsentGiven, Input, Tick
from dayfly.engine.shard.shard import Shard
from dayfly.privacy.consent import (
    ConsentRecord,
    ConsentState,
    Scope,
    Terms,
    TransferBasis,
    UseBudget,
)
from tests.engine.tags.boundary_table import (
    CATALOG,
    HAS_A,
    POLICY,
    START_MS,
    SUBJECT,
    Row,
    boundary_rows,
)

ROWS = list(boundary_rows())
ANY = ("*",)
CONSENT = ConsentRecord(
    record_id="everything",
    principal=SUBJECT.hex(),
    state=ConsentState.GIVEN,
    time_ms=START_MS - 1,
    valid_from_ms=START_MS - 1,
    valid_until_ms=2**62,
    scope=Scope(
        purposes=("service",),
        topics=ANY,
        data_categories=ANY,
        recipients=ANY,
        channels=ANY,
        recipient_countries=ANY,
    ),
    use=UseBudget(max_uses=None),
    terms=Terms(transfer_basis=TransferBasis.CONTRACT),
)


def shard_of(row: Row) -> tuple[Shard, list[Input]]:
    """A shard with the row's tag, and its inputs, an event each. Who sends nothing says nothing either, and is unknown."""
    shard = Shard(replace(POLICY, tags=(HAS_A, row.tag)))
    if not row.events:
        return shard, []
    given = ConsentGiven(START_MS - 1, SUBJECT, CONSENT)
    return shard, [given, *(EventBatch.from_events([event], CATALOG) for event in row.events)]


@pytest.mark.parametrize("row", ROWS, ids=[f"line-{row.line}" for row in ROWS])
def test_row_holds_for_the_shard(row: Row) -> None:
    shard, inputs = shard_of(row)
    if inputs:
        shard.apply([inputs[0], EventBatch.from_events(row.events, CATALOG)], row.now_ms)
    shard.apply([], row.now_ms)
    assert (row.tag.name in shard.tags(SUBJECT)) is row.expected, row.tag.text


@pytest.mark.parametrize("row", ROWS, ids=[f"line-{row.line}" for row in ROWS])
def test_row_holds_when_time_stops_everywhere_and_the_shard_restarts(row: Row) -> None:
    """The same instants, but with a tick at every edge before, a restart after each event, and decisions instead of a look."""
    shard, inputs = shard_of(row)
    held = False
    for item in [*inputs, *(Tick(at) for at in (row.now_ms - 1, row.now_ms))]:
        at_ms = int(item.received_ms[0]) if isinstance(item, EventBatch) else item.at_ms
        for change in shard.apply([item], max(at_ms, shard.clock_ms)).tags:
            if change.tag == row.tag.name:
                assert held is (change.change == "leave")
                held = not held
        shard = Shard.restore(shard.snapshot(), shard.policy)
    assert held is row.expected, row.tag.text
