r"""Where the tombstone of a fragment stands in the log: sorted runs of hashed names, 10 bytes per tombstone on disk.

A tree of random keys (SQLite) costs 20 us and more per tombstone at millions of them, with stalls of half a second; names are
random, so they are kept as they come instead. The newest `RUN` at most stand in a dictionary; a full one is sorted and appended
to the file as a run and never touched again. A search interpolates in every run (names are hashed, so evenly spread): one read
of 2 KiB per 65,536 tombstones. The file is derived from the entries: a run that does not match its checksum is made again.

Format 1: 16 bytes ``DFFIND1\r\n`` and zeros, then runs of equal length: CRC-32 of what follows and four zero bytes, `RUN`
ascending names (u64, little-endian: the first eight bytes of BLAKE2b of the id), and for each name the place within the run
(u16): run r covers the tombstones [r * RUN, (r + 1) * RUN).
"""

import hashlib
import os
import struct
import zlib
from collections.abc import Iterator
from typing import Final

import numpy as np

from .files import write_at

__all__ = ["INDEX_HEAD", "RUN", "StoneIndex"]

INDEX_HEAD: Final = b"DFFIND1\r\n".ljust(16, b"\0")
RUN: Final = 1 << 16
_CHECK: Final = struct.Struct("<Q")
_RUN_BYTES: Final = _CHECK.size + RUN * 10
_REACH: Final = 1024
"""Names on either side of the expected place that one read covers; 65,536 evenly spread names stray by some 128."""


class StoneIndex:
    """Index over an open file. Names must be added in the order of the log.

    Args:
        file: Handle of a file that begins with `INDEX_HEAD`.
        size: Tombstones in the log; runs beyond it are dropped.
    """

    def __init__(self, file: int, size: int) -> None:
        self._file = file
        self._recent: dict[bytes, list[int]] = {}
        self._count = 0
        self._runs = self._sound_runs(size)
        os.ftruncate(file, len(INDEX_HEAD) + self._runs * _RUN_BYTES)

    def __len__(self) -> int:
        """Number of names; the log adds what is missing."""
        return self._runs * RUN + self._count

    def add(self, jti: str) -> None:
        """Add the name of the next tombstone."""
        self._recent.setdefault(_name(jti), []).append(self._count)
        self._count += 1
        if self._count == RUN:
            self._write_run()

    def find(self, jti: str) -> Iterator[int]:
        """Tombstones that may bear this name, newest run first; the log compares the whole name."""
        name = _name(jti)
        for place in self._recent.get(name, ()):
            yield self._runs * RUN + place
        wanted = int.from_bytes(name, "little")
        for run in range(self._runs - 1, -1, -1):
            for place in self._search(run, wanted):
                yield run * RUN + place

    def sync(self) -> None:
        """Make the runs durable."""
        os.fdatasync(self._file)

    def _search(self, run: int, wanted: int) -> list[int]:
        start = len(INDEX_HEAD) + run * _RUN_BYTES + _CHECK.size
        low = min(max((wanted * RUN >> 64) - _REACH, 0), RUN - 2 * _REACH)
        names = self._names(start, low, 2 * _REACH)
        if (low and names[0] >= wanted) or (low + len(names) < RUN and names[-1] <= wanted):
            low, names = 0, self._names(start, 0, RUN)  # an uneven run: look through all of it
        first, last = (int(np.searchsorted(names, np.uint64(wanted), side)) for side in ("left", "right"))
        places = os.pread(self._file, 2 * (last - first), start + 8 * RUN + 2 * (low + first))
        return [int(place) for place in np.frombuffer(places, "<u2")]

    def _names(self, start: int, low: int, count: int) -> "np.ndarray[tuple[int], np.dtype[np.uint64]]":
        return np.frombuffer(os.pread(self._file, 8 * count, start + 8 * low), "<u8")

    def _write_run(self) -> None:
        names, places = np.empty(RUN, "<u8"), np.empty(RUN, "<u2")
        at = 0
        for name, found in self._recent.items():
            for place in found:
                names[at], places[at] = int.from_bytes(name, "little"), place
                at += 1
        order = np.argsort(names, kind="stable")
        content = names[order].tobytes() + places[order].tobytes()
        write_at(
            self._file,
            _CHECK.pack(zlib.crc32(content)) + content,
            len(INDEX_HEAD) + self._runs * _RUN_BYTES,
        )
        self._runs += 1
        self._recent, self._count = {}, 0

    def _sound_runs(self, size: int) -> int:
        """Leading runs that are whole and belong to the log."""
        for run in range(size // RUN):
            raw = os.pread(self._file, _RUN_BYTES, len(INDEX_HEAD) + run * _RUN_BYTES)
            if len(raw) < _RUN_BYTES or _CHECK.unpack_from(raw)[0] != zlib.crc32(raw[_CHECK.size :]):
                return run
        return size // RUN


def _name(jti: str) -> bytes:
    return hashlib.blake2b(jti.encode(), digest_size=8).digest()
