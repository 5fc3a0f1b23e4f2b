"""The slot file itself: header copies, slots, growth and overwriting. Knows no key in the clear and no record."""

import heapq
from collections.abc import Iterable, Sequence
from typing import Final

from dayfly.privacy.errors import KeyStoreDamaged, KeyStoreFailed, KeyStoreForeign, KeyStoreVersion

from .device import RawFile
from .layout import (
    BLOCK_BYTES,
    HEADER_COPIES,
    SLOT_BYTES,
    SLOTS_OFFSET,
    VERSION,
    Header,
    Slot,
    decode_header,
    decode_slot,
    encode_header,
    encode_slot,
    header_facts,
)

__all__ = ["GROWTH_SLOTS", "SlotFile"]

GROWTH_SLOTS: Final = 256  # 32 KiB at a time


class SlotFile:
    """Slots by number. Not thread-safe; nothing but growth is durable before `sync`, `zero` or the end of `take_over`.

    Args:
        file: The open file.
        tenant: 16 bytes.

    Raises:
        KeyStoreForeign: Another tenant's, or no slot file.
        KeyStoreVersion: A newer format.
        KeyStoreDamaged: No header copy checks.
    """

    def __init__(self, file: RawFile, tenant: bytes) -> None:
        self._file: Final = file
        self._tenant: Final = tenant
        self.header = _read_header(file, tenant)
        self._capacity = self.header.capacity
        self._free: list[int] = []

    @property
    def name(self) -> str:
        """For messages."""
        return self._file.name

    def read_all(self) -> bytes:
        """All slots that the file holds, which are fewer than the header states where it was truncated."""
        return self._file.read(SLOTS_OFFSET, self._file.size())

    def take_over(self, free: Iterable[int], present: int) -> None:
        """Begin to write, knowing which of the `present` slots are free; cut-off ones are added as free zeros."""
        self._free = sorted(free)
        wanted = max(self._capacity, present)
        if present < wanted:
            self._extend(present, wanted)
        self._capacity = wanted

    def need(self, count: int) -> None:
        """Have `count` free slots. Raises `KeyStoreFailed` when the disk is full; nothing has changed then."""
        missing = count - len(self._free)
        if missing > 0:
            end = self._capacity + -(-missing // GROWTH_SLOTS) * GROWTH_SLOTS
            self._extend(self._capacity, end)
            self._capacity = end

    def _extend(self, first: int, end: int) -> None:
        self._file.write(_offset(first), bytes((end - first) * SLOT_BYTES))
        self._file.sync()
        for index in range(first, end):
            heapq.heappush(self._free, index)

    def read(self, index: int) -> Slot | None:
        """A slot, or None where it does not check."""
        slot = decode_slot(self._file.read(_offset(index), SLOT_BYTES), self._tenant)
        return slot if isinstance(slot, Slot) else None

    def write(self, slot: Slot) -> int:
        """Write to a free slot that `need` made sure of; returns its number."""
        index = heapq.heappop(self._free)
        self._file.write(_offset(index), encode_slot(slot, self._tenant))
        return index

    def state(self, *, recorded: int, issued: int) -> None:
        """State, in the older of the two header copies, what is durable by now."""
        self.header = self.header._replace(
            sequence=self.header.sequence + 1, capacity=self._capacity, recorded=recorded, issued=issued
        )
        copy = self.header.sequence % HEADER_COPIES
        self._file.write(BLOCK_BYTES * copy, encode_header(self.header))

    def sync(self) -> None:
        """Make what was written durable."""
        self._file.sync()

    def zero(self, indices: Sequence[int]) -> None:
        """Overwrite slots with zeros, make that and all else durable, look at the device, and free them.

        Raises:
            KeyStoreFailed: The disk refuses, or the bytes are still there.
        """
        for index in indices:
            self._file.write(_offset(index), bytes(SLOT_BYTES))
        self._file.sync()
        for index in indices:
            if any(self._file.read_from_disk(_offset(index), SLOT_BYTES)):
                raise KeyStoreFailed(
                    f"slot={index!r} of {self.name!r} must read as zeros after it was overwritten; replace the disk"
                )
            heapq.heappush(self._free, index)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _offset(index: int) -> int:
    return SLOTS_OFFSET + index * SLOT_BYTES


def _read_header(file: RawFile, tenant: bytes) -> Header:
    copies = [file.read(BLOCK_BYTES * number, BLOCK_BYTES) for number in range(HEADER_COPIES)]
    facts = [header_facts(raw) for raw in copies]
    headers = [header for raw in copies if (header := decode_header(raw)) is not None]
    if not headers:
        newer = [version for ours, version in facts if ours and version > VERSION]
        if newer:
            raise KeyStoreVersion(
                f"version={max(newer)!r} of {file.name!r} must be <= {VERSION}; use a newer Dayfly"
            )
        if any(ours for ours, _ in facts):
            raise KeyStoreDamaged(f"header of {file.name!r} must check; its keys and their data are lost")
        raise KeyStoreForeign(f"path={file.name!r} must be a slot file of Dayfly; give the right path")
    header = max(headers, key=lambda one: one.sequence)
    if header.tenant != tenant:
        raise KeyStoreForeign(
            f"tenant={header.tenant.hex()!r} of {file.name!r} must be {tenant.hex()!r}; open it with its own tenant's keys"
        )
    return header
