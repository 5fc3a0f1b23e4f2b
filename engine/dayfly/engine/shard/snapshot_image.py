"""An image of a shard: what a snapshot needs, held still while the shard goes on.

Most of a shard's bytes are in rows that do not change once they are there: history, values, names, texts. The image refers to
these, and the shard gives itself copies before it does change them (`Arrays.own`: merges, erasures, new policies). The rest is
copied: people and their masks, memberships, ids of seen events, and dictionaries of immutable values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dayfly.engine.events import Event
from dayfly.engine.policy.model import Policy
from dayfly.engine.shard import kernels_layout
from dayfly.engine.shard.kernels_snapshot import live_ids, live_members
from dayfly.engine.shard.moves import Moves
from dayfly.engine.shard.orders import LiveOrder
from dayfly.engine.shard.state import Loan

if TYPE_CHECKING:
    from dayfly.engine.shard.shard import Shard

__all__ = ["Image", "Past", "load_kernels", "take"]

Words = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Past:
    """Rows that are read where they are; they do not change for as long as `loan` exists."""

    loan: Loan
    history: Words
    values: Words
    names: Bits
    where: Words
    text: npt.NDArray[np.uint8]


@dataclass(slots=True)
class Image:
    """What a snapshot needs of a shard. `past` is given back when it was read."""

    policy: Policy
    tag_names: tuple[str, ...]
    fields: Words
    is_text: Words
    clock_ms: int
    sequence: int
    past: Past | None
    people: Words
    masks: Bits
    seen: Words
    members: Words
    aliases: Mapping[int, Sequence[bytes]]
    consents: Mapping[int, bytes]
    watched: Mapping[int, tuple[str, str]]
    orders: Sequence[LiveOrder]
    fired: Mapping[tuple[int, str], int]
    waiting: Sequence[Event]
    moves: Moves


def take(shard: "Shard") -> Image:
    """A shard as it is now, in the time that copying takes."""
    arrays = shard.arrays
    core, compiled = arrays.core, arrays.compiled
    clock_ms, people = int(core.control[kernels_layout.CLOCK]), int(core.control[kernels_layout.PEOPLE])
    seen = np.empty((int(core.seen.meta[0]), 3), np.int64)
    members = np.empty((int(core.world.meta[0]), 6), np.int64)
    texts = int(arrays.strings.meta[0])
    return Image(
        policy=shard.policy,
        tag_names=tuple(tag.name for tag in compiled.tags),
        fields=compiled.tests.fields,
        is_text=compiled.tests.is_text,
        clock_ms=clock_ms,
        sequence=int(core.control[kernels_layout.SEQUENCE]),
        past=Past(
            arrays.lend(),
            core.history[: int(core.control[kernels_layout.EVENTS])],
            core.world.rows.values,
            core.names[:people],
            arrays.strings.where[:texts],
            arrays.strings.text,
        ),
        people=core.people[:people].copy(),
        masks=core.masks[:people].copy(),
        seen=seen[: live_ids(core.seen.keys, clock_ms, seen)],
        members=members[: live_members(core.world.members, members)],
        aliases=shard.aliases.copy(),
        consents=shard.consents.states.encoded(),
        watched=shard.consents.watched.copy(),
        orders=list(shard.orders.live.values()),
        fired=shard.orders.last_fired.copy(),
        waiting=shard.waiting.in_order(),
        moves=shard.moves.copy(),
    )


def load_kernels() -> None:
    """Have the machine code of `take` loaded, so that the first image of a process does not stand still for that."""
    live_ids(np.zeros((1, 4), np.uint64), 0, np.zeros((1, 3), np.int64))
    live_members(np.zeros((1, 8), np.int64), np.zeros((1, 6), np.int64))
