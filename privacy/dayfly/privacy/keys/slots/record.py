"""The append-only record of destroyed keys: what an erasure certificate may cite, and what a crash must not undo."""

from collections.abc import Iterable, Sequence
from typing import Final

from dayfly.privacy.errors import KeyStoreDamaged

from .device import RawFile
from .layout import (
    BLOCK_BYTES,
    ENTRY_BYTES,
    Damaged,
    Entry,
    EntryKind,
    Torn,
    decode_entry,
    encode_entry,
)

__all__ = ["DestructionRecord"]

_VOID: Final = Entry(EntryKind.VOID, 0, 0, "")


class DestructionRecord:
    """Entries in the order they were written, read once and kept; appended before the keys are overwritten.

    Space is reserved ahead, so a key can be destroyed on a full disk.

    Args:
        file: The open file, its head already checked.
        tenant: 16 bytes.
        at_least: How many entries are known to have been durable.
        discard_damaged: Overwrite altered entries with void ones instead of refusing.

    Raises:
        KeyStoreDamaged: Altered or missing entries.
    """

    def __init__(self, file: RawFile, tenant: bytes, *, at_least: int, discard_damaged: bool) -> None:
        self._file: Final = file
        self._tenant: Final = tenant
        raw = file.read(ENTRY_BYTES, file.size())
        self._room = len(raw) // ENTRY_BYTES  # a shorter rest is the end of a write that the power cut off
        found = [
            decode_entry(raw[index * ENTRY_BYTES : (index + 1) * ENTRY_BYTES], tenant)
            for index in range(self._room)
        ]
        written = max((index + 1 for index, one in enumerate(found) if isinstance(one, Entry)), default=0)
        self._gaps: Final = self._check(found, written, at_least, discard_damaged=discard_damaged)
        self.length = max([written, *(gap + 1 for gap in self._gaps)])
        self.entries: Final[list[Entry]] = [one for one in found if isinstance(one, Entry)]

    def _check(
        self,
        found: Sequence[Entry | Torn | Damaged | None],
        written: int,
        at_least: int,
        *,
        discard_damaged: bool,
    ) -> list[int]:
        """Indices to fill with void entries."""
        gaps = []
        for index, one in enumerate(found):
            known = index < at_least
            if isinstance(one, Damaged) or (known and not isinstance(one, Entry)):
                if not discard_damaged:
                    raise KeyStoreDamaged(
                        f"entry={index!r} of {self._file.name!r} must check; open with discard_damaged=True to give it up"
                    )
                gaps.append(index)
            elif isinstance(one, Torn) or (one is None and index < written):
                gaps.append(index)
        if len(found) < at_least and not discard_damaged:
            raise KeyStoreDamaged(
                f"entries={len(found)!r} of {self._file.name!r} must be >= {at_least}, as the slots say; "
                f"open with discard_damaged=True to give up what is missing"
            )
        return gaps

    def mend(self) -> None:
        """Fill what a crash left open in the middle, so that it is not taken for damage later."""
        for index in self._gaps:
            self._file.write(ENTRY_BYTES * (index + 1), encode_entry(_VOID, self._tenant))
        if self._gaps:
            self._file.sync()
            self._gaps.clear()

    def reserve(self, count: int) -> None:
        """Make room for `count` more entries. Raises `KeyStoreFailed` when the disk is full; nothing has changed then."""
        missing = self.length + count - self._room
        if missing > 0:
            size = -(-missing * ENTRY_BYTES // BLOCK_BYTES) * BLOCK_BYTES
            self._file.write(ENTRY_BYTES * (self._room + 1), bytes(size))
            self._file.sync()
            self._room += size // ENTRY_BYTES

    def append(self, entries: Iterable[Entry]) -> None:
        """Write entries and make them durable."""
        new = list(entries)
        if not new:
            return
        raw = b"".join(encode_entry(entry, self._tenant) for entry in new)
        self._file.write(ENTRY_BYTES * (self.length + 1), raw)
        self._file.sync()
        self._room = max(self._room, self.length + len(new))
        self.length += len(new)
        self.entries.extend(new)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
