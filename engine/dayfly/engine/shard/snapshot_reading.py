"""A fresh shard is filled from a snapshot: tables are allocated once, at their size, and filled by kernels."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt

from dayfly.engine.catalog import NULL
from dayfly.engine.errors import SnapshotError
from dayfly.engine.events import LENGTH_BITS, EventBatch
from dayfly.engine.shard import kernels_layout
from dayfly.engine.shard.batches import single_event
from dayfly.engine.shard.kernels_people import put_ids
from dayfly.engine.shard.kernels_snapshot import Cells, Columns, arm_all, join_events, put_members
from dayfly.engine.shard.kernels_strings import intern_texts
from dayfly.engine.shard.moves import read_moves
from dayfly.engine.shard.orders import LiveOrder
from dayfly.engine.shard.publishing import fill_windows
from dayfly.engine.shard.snapshot_format import Page, unframed
from dayfly.engine.shard.snapshot_image import load_kernels
from dayfly.engine.shard.snapshot_writing import MEMBER_COLUMNS, PEOPLE_COLUMNS, WAITING_COLUMNS

if TYPE_CHECKING:
    from dayfly.engine.shard.shard import Shard

__all__ = ["add_waiting", "read"]

Words = npt.NDArray[np.int64]


def read(shard: "Shard", data: bytes) -> None:
    """Fill a fresh shard.

    Raises:
        SnapshotError: foreign or damaged bytes, another format version, or another policy.
    """
    page = unframed(data)
    head, policy = page.head, shard.policy
    names = tuple(tag.name for tag in shard.arrays.compiled.tags)
    if (head.policy_version, head.policy_digest, head.tag_names) != (policy.version, policy.digest, names):
        raise SnapshotError(
            f"policy version={policy.version} must be the snapshot's version {head.policy_version} with the same"
            " content; restore with the policy that was in force"
        )
    control = shard.arrays.core.control
    control[kernels_layout.CLOCK], control[kernels_layout.SEQUENCE] = head.clock_ms, head.sequence
    _read_people(shard, page)
    _read_history(shard, page)
    fill_windows(shard.arrays)
    _read_members(shard, page)
    _read_consents(shard, page)
    _read_orders(shard, page)
    _read_waiting(shard, page)
    if "moves" in head.parts:
        shard.moves = read_moves(page.part("moves"))
    load_kernels()


def _read_people(shard: "Shard", page: Page) -> None:
    arrays = shard.arrays
    names = page.array("people.name", np.uint64, 2)
    count = len(names)
    seen = np.column_stack([page.array(f"seen.{half}", np.uint64, 1) for half in ("low", "high")])
    until = page.column("seen.until")
    alias_names, alias_persons = page.array("alias.name", np.uint64, 2), page.column("alias.person")
    arrays.reserve_people(count, ids=count + len(alias_names), seen=len(seen))
    core = arrays.core
    core.control[kernels_layout.PEOPLE] = count
    people = core.people[:count]
    for name, column in PEOPLE_COLUMNS.items():
        people[:, column] = page.column(name)
    people[:, kernels_layout.LAST_EVENT] = -1
    people[:, kernels_layout.NEWEST] = NULL
    for word in range(core.masks.shape[1]):
        core.masks[:count, word] = page.column(f"mask.{word}").view(np.uint64)
    core.names[:count] = names
    alive = np.flatnonzero(people[:, kernels_layout.ALIVE])
    for table, ids, values in (
        (core.ids, core.names[alive], alive),
        (core.ids, alias_names, alias_persons),
        (core.seen, seen, until),
    ):
        rows = np.column_stack((ids, values.view(np.uint64))).astype(np.uint64, copy=False)
        put_ids(table, rows)
    aliases = alias_names.astype("<u8").tobytes()
    for place, person in enumerate(alias_persons.tolist()):
        shard.aliases[person] = (*shard.aliases.get(person, ()), aliases[16 * place : 16 * place + 16])


def _read_history(shard: "Shard", page: Page) -> None:
    arrays = shard.arrays
    tests = arrays.compiled.tests
    text, length = np.array(page.part("text"), np.uint8), page.column("text.length")
    arrays.make_room_for_strings(len(length), len(text))
    packed = ((np.cumsum(length) - length) << LENGTH_BITS) | length
    intern_texts(arrays.strings, tests, page.column("text.field"), packed, text)
    values, starts = page.joined_columns(
        [f"value.{number}" for number in range(int(tests.fields[:, 1].sum()))]
    )
    cells = Cells(values, tests.fields, tests.is_text, starts)
    columns = Columns(
        page.column("event.time"),
        page.column("event.person"),
        page.short_column("event.type"),
        page.short_column("event.channel"),
        page.array("event.digest", np.int64, 2),  # type: ignore[arg-type]
    )
    arrays.reserve_events(len(columns.time), len(cells.values))
    core = arrays.core
    join_events(columns, cells, core.history, core.world.rows.values, core.people)
    core.control[kernels_layout.EVENTS] = len(columns.time)
    core.control[kernels_layout.VALUES] = len(cells.values)


def _read_members(shard: "Shard", page: Page) -> None:
    """Memberships, and the timers of these and of consents."""
    arrays = shard.arrays
    keys = (page.column("member.person") << kernels_layout.SHIFT) | page.column("member.tag")
    rows = np.column_stack((keys + 1, *(page.column(name) for name, _ in MEMBER_COLUMNS)))
    count = int(arrays.core.control[kernels_layout.PEOPLE])
    due = int(np.count_nonzero(arrays.core.people[:count, kernels_layout.CONSENT_DUE_AT]))
    arrays.reserve_members(len(rows), timers=due + int(np.count_nonzero(rows[:, 3])))
    core = arrays.core
    put_members(core.world.members, core.world.meta, rows)
    arm_all(core.heap, core.control, core.people[:count], rows)


def _read_consents(shard: "Shard", page: Page) -> None:
    ends = np.cumsum(page.column("consent.size")).tolist()
    data = page.part("consent")
    states, start = {}, 0
    for person, end in zip(page.column("consent.person").tolist(), ends, strict=True):
        states[person] = bytes(data[start:end])
        start = end
    shard.consents.states.restore(states)
    sources, names = page.head.names["sources"], page.part("watched.name").hex()
    chosen = page.column("watched.source").tolist()
    for place, person in enumerate(page.column("watched.person").tolist()):
        shard.consents.watched[person] = names[32 * place : 32 * place + 32], sources[chosen[place]]


def _read_orders(shard: "Shard", page: Page) -> None:
    data, start = page.part("order"), 0
    decode = msgspec.msgpack.Decoder(list[LiveOrder]).decode
    for size in page.column("order.size").tolist():
        for order in decode(data[start : start + size]):
            shard.orders.add(order)
        start += size
    triggers = page.head.names["triggers"]
    columns = (page.column(name).tolist() for name in ("fired.person", "fired.trigger", "fired.at"))
    for person, trigger, at_ms in zip(*columns, strict=True):
        shard.orders.last_fired[person, triggers[trigger]] = at_ms


def _read_waiting(shard: "Shard", page: Page) -> None:
    add_waiting(
        shard, {name: page.array(f"waiting.{name}", *shape) for name, shape in WAITING_COLUMNS.items()}
    )


def add_waiting(shard: "Shard", columns: Mapping[str, npt.NDArray[np.generic]]) -> None:
    """Let events wait, given by `WAITING_COLUMNS`."""
    count = len(columns["time_ms"])
    batch = EventBatch(
        **columns,  # type: ignore[arg-type]
        consent=np.full(count, -1, np.int32),
        consent_digest=np.zeros(count, np.uint64),
    )
    for index in range(count):
        shard.waiting.add(single_event(batch, index, shard.policy.catalog))
    shard.arrays.core.control[kernels_layout.WAITING] = shard.waiting.next_ms
