"""Persons move from one shard to another, and nobody notices: what they did, said and carry goes along, timers included.

A move has three steps, each an input of one shard. `Depart` takes persons out and keeps them in the outbox as a parcel;
`Arrive` makes them known in the other shard; `Confirm` empties the outbox. The parcel is in the state of a shard until the
other one has it, so that a crash in between loses nobody and doubles nobody: an `Arrive` with a number that has come
before changes nothing.

Neither step changes what is decided: no tag is left or entered and no trigger fires. Live orders do not move, because the
keys of their fragments are in the memory of the process that minted them: they are recalled.
"""

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt

from dayfly.engine.errors import ShardError
from dayfly.engine.inputs import Arrive, Depart
from dayfly.engine.shard import identity, kernels_layout, parcels
from dayfly.engine.shard.kernels_people import VALUE, find_id
from dayfly.engine.shard.orders import LiveOrder
from dayfly.engine.shard.snapshot_reading import add_waiting

if TYPE_CHECKING:
    from dayfly.engine.shard.shard import Shard

__all__ = ["arrive", "depart", "guests_of", "seen_before"]


# --- leaving ------------------------------------------------------------------------------------------------------------


def depart(shard: "Shard", item: Depart) -> list[LiveOrder]:
    """Take the persons behind `item.subjects` out and put them into the outbox; returns their live orders, now ended.

    Somebody whom a waiting event will make one with them goes along, since that merge must find both.
    """
    names = _together(shard, item.subjects)
    people = list(
        dict.fromkeys(person for name in names if (person := identity.find(shard.arrays, name)) >= 0)
    )
    taken = set(names)
    shard.moves.departures += 1
    control = shard.arrays.core.control
    parcel = parcels.Parcel(
        format=parcels.FORMAT,
        source=item.source,
        to=item.to,
        number=shard.moves.departures,
        names=names,
        clock_ms=shard.clock_ms,
        sequence=int(control[kernels_layout.SEQUENCE]),
        policy=(shard.policy.version, shard.policy.digest),
        people=[parcels.packed(shard, person) for person in people],
        waiting=parcels.packed_waiting(
            shard, [event for event in shard.waiting.in_order() if event.subject in taken]
        ),
    )
    shard.moves.outbox[parcel.number] = msgspec.msgpack.encode(parcel)
    ended: list[LiveOrder] = []
    for person in people:
        ended += _take_out(shard, person)
    shard.waiting.forget(names)
    shard.moves.forget(names)
    control[kernels_layout.WAITING] = shard.waiting.next_ms
    return ended


def _together(shard: "Shard", subjects: tuple[bytes, ...]) -> list[bytes]:
    """All pseudonyms that must stay together with these, in a fixed order."""
    pairs = [(event.subject, event.link) for event in shard.waiting.in_order() if event.link is not None]
    found: dict[bytes, None] = {}
    open_names = list(subjects)
    while open_names:
        name = open_names.pop()
        if name in found:
            continue
        mine = shard.names_of(name)
        found.update(dict.fromkeys(mine))
        open_names += [other for pair in pairs if not set(pair).isdisjoint(mine) for other in pair]
    return sorted(found)


def _take_out(shard: "Shard", person: int) -> list[LiveOrder]:
    names = [shard.orders.name(person), *shard.aliases.pop(person, ())]
    identity.drop_memberships(shard.arrays, person)
    ended = shard.orders.forget(person)
    shard.consents.forget(person)
    identity.erase(shard.arrays, person, names)
    return ended


# --- arriving -----------------------------------------------------------------------------------------------------------


def arrive(shard: "Shard", item: Arrive) -> None:
    """Make the persons of a parcel known; one that came before changes nothing.

    Raises:
        ShardError: it was packed under another policy, or somebody in it is known here; nothing was changed.
    """
    parcel = parcels.read_parcel(item.parcel)
    if parcel.number <= shard.moves.arrived.get(parcel.source, 0):
        return
    _check(shard, parcel)
    control = shard.arrays.core.control
    control[kernels_layout.SEQUENCE] = max(int(control[kernels_layout.SEQUENCE]), parcel.sequence)
    for image in parcel.people:
        parcels.unpack(shard, image)
    add_waiting(shard, parcels.waiting_of(parcel))
    shard.moves.guests.update(parcel.names)
    shard.moves.arrived[parcel.source] = parcel.number


def _check(shard: "Shard", parcel: parcels.Parcel) -> None:
    if parcel.policy != (shard.policy.version, shard.policy.digest):
        raise ShardError(
            f"policy of parcel number={parcel.number} must be the one in force; publish to all shards, then move"
        )
    for image in parcel.people:
        if any(identity.find(shard.arrays, name) >= 0 for name in (image.name, *image.aliases)):
            raise ShardError(
                f"persons of parcel number={parcel.number} must be unknown here; a person lives in one shard only"
            )


# --- asking -------------------------------------------------------------------------------------------------------------


def seen_before(
    shard: "Shard", ids: npt.NDArray[np.uint64], received_ms: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Which event ids this shard took in and still remembers at the given instants.

    Args:
        shard: The shard asked.
        ids: uint64[n, 2].
        received_ms: int64[n].
    """
    seen = shard.arrays.core.seen
    found = np.zeros(len(ids), bool)
    for index, (low, high) in enumerate(ids):
        row = find_id(seen, low, high)
        found[index] = row >= 0 and seen.values[row, VALUE] > received_ms[index]
    return found


def guests_of(shard: "Shard") -> list[bytes]:
    """Pseudonyms that came by a move, in order."""
    return sorted(shard.moves.guests)
