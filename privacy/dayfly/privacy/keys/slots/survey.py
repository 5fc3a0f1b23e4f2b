"""What is in a slot file after a clean end, a crash or damage. Pure: reads bytes, decides, writes nothing."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from .layout import SLOT_BYTES, Damaged, Slot, Torn, decode_slot

__all__ = ["Place", "Survey", "survey"]


class Place(NamedTuple):
    """Where a live key stands.

    Attributes:
        slot: Slot number.
        purpose: What the key is for.
        kek: Version of the key-encryption key.
    """

    slot: int
    purpose: str
    kek: int


@dataclass(frozen=True, slots=True)
class Survey:
    """The state of a slot file.

    Attributes:
        live: Key id -> place.
        free: Slots that hold zeros.
        torn: Slots that a cut-off write left; to be zeroed.
        spare: Older copies that an interrupted rewrapping left; to be zeroed.
        unfinished: Live keys whose destruction is recorded; to be destroyed. They are not in `live`.
        damaged: Slots that do not check.
        missing: Ids that are neither live nor recorded although they were durable once.
        highest: Highest id ever seen.
    """

    live: dict[int, Place]
    free: list[int]
    torn: list[int]
    spare: list[int]
    unfinished: dict[int, Place]
    damaged: list[int]
    missing: list[int]
    highest: int


def survey(raw: bytes, tenant: bytes, *, recorded: Collection[int], issued: int) -> Survey:
    """Sort the slots of a file.

    Args:
        raw: All slots.
        tenant: 16 bytes.
        recorded: Ids that the record calls destroyed.
        issued: Highest id known to have been durable.
    """
    found = Survey({}, [], [], [], {}, [], [], 0)
    for index in range(len(raw) // SLOT_BYTES):
        slot = decode_slot(raw[index * SLOT_BYTES : (index + 1) * SLOT_BYTES], tenant)
        if slot is None:
            found.free.append(index)
        elif isinstance(slot, Torn):
            found.torn.append(index)
        elif isinstance(slot, Damaged):
            found.damaged.append(index)
        else:
            _place(found, index, slot)
    for key_id in [one for one in found.live if one in recorded]:
        found.unfinished[key_id] = found.live.pop(key_id)
    highest = max([issued, *found.live, *found.unfinished, *recorded])
    missing = [one for one in range(1, highest + 1) if one not in found.live and one not in recorded]
    return Survey(
        found.live, found.free, found.torn, found.spare, found.unfinished, found.damaged, missing, highest
    )


def _place(found: Survey, index: int, slot: Slot) -> None:
    other = found.live.get(slot.key_id)
    place = Place(index, slot.purpose, slot.kek)
    if other is None:
        found.live[slot.key_id] = place
    elif other.kek < slot.kek:  # so that the older key is no longer needed
        found.spare.append(other.slot)
        found.live[slot.key_id] = place
    else:
        found.spare.append(index)
