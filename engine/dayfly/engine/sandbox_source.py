"""The seam between a store and the privacy sandbox: events and profiles, as far as consent covers the purpose of the queries.

What is taken is the event log as the shard knows it: within the policy's history, duplicates counted once, merged identities one
customer, erased persons gone. A row is there only if `consent.decide` says yes, now, for its customer and the channel it came
through; a profile only if it says yes for every channel that the customer's events came through. Customers are numbered for the
sandbox alone: no pseudonym leaves.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dayfly.engine.catalog import NULL, EventType, FieldType
from dayfly.engine.shard import Shard, identity, kernels_layout
from dayfly.privacy.consent import ConsentRequest
from dayfly.privacy.sandbox import Source

__all__ = ["CUSTOMER", "EVENTS", "PROFILES", "consented_channels", "sandbox_sources", "usable_events"]

EVENTS: Final = "events"
"""Name of the source with all events: customer, type, channel and time."""

PROFILES: Final = "profiles"
"""Name of the source with one row per customer: a column per tag, number of events, first and last time."""

CUSTOMER: Final = "$customer"
"""Column that says whose row it is; no declared field can be called so."""

Rows: TypeAlias = npt.NDArray[np.int64]

_MICRO: Final = 1e6
_TIME: Final = pa.timestamp("ms")


def sandbox_sources(
    shard: Shard, need: ConsentRequest, now_ms: int, *, data_set: str = "store"
) -> Mapping[str, Source]:
    """Sources of a sandbox over one shard, copies of one instant.

    Args:
        shard: Whose history; nothing of it is changed.
        need: What consent must cover: the purpose of the queries above all. Its channel is replaced by each event's own.
        now_ms: The instant at which consent is decided.
        data_set: Account of the ledger that pays for queries of all these sources, which are about the same customers.

    Returns:
        `EVENTS`, `PROFILES`, and one source per declared event type with its fields, by the type's name.

    Guarantees:
        Fail closed: a customer without a consent that covers `need` and a channel has no row of that channel in any source.
    """
    kept = consented_channels(shard, need, now_ms)
    by_person = {person: usable_events(shard, person, covered, now_ms) for person, covered in kept.items()}
    events = np.concatenate([np.zeros((0, 5), np.int64), *by_person.values()])
    sources = {
        EVENTS: _source(_event_table(shard, events), data_set),
        PROFILES: _source(_profile_table(shard, kept, by_person), data_set),
    }
    for number, kind in enumerate(shard.policy.catalog.types):
        if kind.name not in sources:
            sources[kind.name] = _source(_typed_table(shard, events[events[:, 1] == number], kind), data_set)
    return sources


def _source(table: pa.Table, data_set: str) -> Source:
    return Source(table, customer=CUSTOMER, data_set=data_set)


def consented_channels(shard: Shard, need: ConsentRequest, now_ms: int) -> dict[int, frozenset[int]]:
    """Channels that a person's consent covers, by person; nobody without one."""
    core, channels = shard.arrays.core, shard.policy.catalog.channels
    requests = [replace(need, channel=channel) for channel in channels]
    found: dict[int, frozenset[int]] = {}
    for person in np.flatnonzero(
        core.people[: int(core.control[kernels_layout.PEOPLE]), kernels_layout.ALIVE]
    ).tolist():
        covered = frozenset(
            number
            for number, request in enumerate(requests)
            if shard.consents.decide(person, request, now_ms).allowed
        )
        if covered:
            found[person] = covered
    return found


def usable_events(shard: Shard, person: int, covered: frozenset[int], now_ms: int) -> Rows:
    """Rows (person, type, channel, time, place of values) of a person's events that may be used, in order of arrival."""
    mine = shard.arrays.core.history[identity.history_of(shard.arrays, person)]
    times = mine[:, kernels_layout.H_TIME]
    since = now_ms - shard.policy.settings.history_ms
    channels = np.isin(mine[:, kernels_layout.H_CHANNEL], list(covered))
    mine = mine[(times > since) & (times <= now_ms) & channels]
    columns = [
        kernels_layout.H_TYPE,
        kernels_layout.H_CHANNEL,
        kernels_layout.H_TIME,
        kernels_layout.H_VALUES,
    ]
    return np.column_stack([np.full(len(mine), person), mine[:, columns]])


def _event_table(shard: Shard, events: Rows) -> pa.Table:
    catalog = shard.policy.catalog
    return pa.table(
        {
            CUSTOMER: events[:, 0],
            "type": _named(events[:, 1], [kind.name for kind in catalog.types]),
            "channel": _named(events[:, 2], list(catalog.channels)),
            "time": pa.array(events[:, 3]).cast(_TIME),
        }
    )


def _named(numbers: Rows, names: list[str]) -> Any:
    return pa.DictionaryArray.from_arrays(pa.array(numbers.astype(np.int32)), pa.array(names, pa.string()))


def _typed_table(shard: Shard, events: Rows, kind: EventType) -> pa.Table:
    columns: dict[str, Any] = {
        CUSTOMER: events[:, 0],
        "channel": _named(events[:, 2], list(shard.policy.catalog.channels)),
        "time": pa.array(events[:, 3]).cast(_TIME),
    }
    values = shard.arrays.core.world.rows.values
    for slot, field in enumerate(kind.fields):
        name = field.name if field.name not in columns else f"properties.{field.name}"
        columns[name] = _field(shard, values[events[:, 4] + slot], field.type)
    return pa.table(columns)


def _field(shard: Shard, cells: Rows, kind: FieldType) -> Any:
    absent = cells == NULL
    if kind is FieldType.STRING:
        codes, where = np.unique(cells[~absent], return_inverse=True)
        indices = np.zeros(len(cells), np.int32)
        indices[~absent] = where
        texts = pa.array([shard.reader.text(code) for code in codes.tolist()], pa.string())
        return pa.DictionaryArray.from_arrays(pa.array(indices, mask=absent), texts)
    if kind is FieldType.BOOLEAN:
        return pa.array(cells != 0, mask=absent)
    if kind is FieldType.TIME:
        return pa.array(np.where(absent, 0, cells), mask=absent).cast(_TIME)
    return pa.array(cells / _MICRO, mask=absent)


def _profile_table(
    shard: Shard, kept: Mapping[int, frozenset[int]], by_person: Mapping[int, Rows]
) -> pa.Table:
    core, tags = shard.arrays.core, shard.policy.tags
    rows: list[dict[str, Any]] = []
    for person, covered in kept.items():
        history = identity.history_of(shard.arrays, person)
        if not set(core.history[history, kernels_layout.H_CHANNEL].tolist()) <= covered:
            continue  # what is not covered had a part in the tags
        times = by_person[person][:, 3]
        held = {
            shard.arrays.compiled.tags[number].name for number in identity.held_tags(shard.arrays, person)
        }
        rows.append(
            {
                CUSTOMER: person,
                "events": len(times),
                "first_time": int(times.min()) if len(times) else None,
                "last_time": int(times.max()) if len(times) else None,
                **{f"tag {tag.name}": tag.name in held for tag in tags},
            }
        )
    kinds = {CUSTOMER: pa.int64(), "events": pa.int64(), "first_time": _TIME, "last_time": _TIME}
    kinds |= {f"tag {tag.name}": pa.bool_() for tag in tags}
    return pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in kinds.items()})
