"""Which records bear a name: fresh ones in a dictionary, older ones in sorted runs that are written in one stroke.

A tree with one row per name (SQLite, random keys) cost 70 to 130 us per fragment at half a million of them; a run spreads the
names of `RUN` records over 4,096 rows, which SQLite writes in some tens of milliseconds; eight runs share their rows, so a search
reads one row of about 1 KB per 131,072 records.
"""

from itertools import pairwise
from typing import Final

import numpy as np

from .vault_file import VaultFile
from .vault_periods import Period

__all__ = ["RUN", "Names"]

RUN: Final = 16_384
_NAME_BYTES: Final = 8
_ENTRY: Final = np.dtype([("name", ">u8"), ("record", "<u4")])
_BUCKET_BITS: Final = 12
_GROUP_BITS: Final = 32 - _BUCKET_BITS
_RUNS_PER_ROW: Final = 8


class Names:
    """Index over one vault file."""

    def __init__(self, file: VaultFile) -> None:
        self._file = file

    def load(self, period: Period) -> None:
        """Read the names of records that are in no run yet."""
        found = self._file.rows(
            "SELECT id, names FROM records WHERE id >= ? AND id < ?",
            period.serial << 32 | period.indexed,
            (period.serial + 1) << 32,
        )
        for record, names in found:
            self.add(period, record & 0xFFFF_FFFF, names)

    def add(self, period: Period, number: int, names: bytes) -> None:
        """Enter record `number` under each of its names."""
        for at in range(0, len(names), _NAME_BYTES):
            period.recent.setdefault(names[at : at + _NAME_BYTES], []).append(number)

    def recent(self, period: Period, name: bytes) -> list[int]:
        """Records of the name that are in no run yet."""
        return list(period.recent.get(name, ()))

    def find(self, period: Period, name: bytes) -> list[int]:
        """All records of the name."""
        found = self.recent(period, name)
        if period.indexed:
            for (names,) in self._file.rows(
                "SELECT names FROM runs WHERE place >= ? AND place < ?", *_range(period, name)
            ):
                found += [int.from_bytes(names[at + 8 : at + 12], "little") for at in _places(names, name)]
        return found

    def write_run(self, period: Period) -> None:
        """Move the names of all written records into a run; within the caller's transaction."""
        first, pairs = period.indexed, []
        for name, numbers in period.recent.items():
            pairs += [(name, number) for number in numbers if number < period.written]
        if not pairs:
            return
        run = np.empty(len(pairs), _ENTRY)
        run["name"] = np.frombuffer(b"".join(name for name, _ in pairs), ">u8")
        run["record"] = [number for _, number in pairs]
        run.sort(order=("name", "record"))
        buckets = (run["name"] >> np.uint64(64 - _BUCKET_BITS)).astype(np.int64)
        edges = np.searchsorted(buckets, np.arange((1 << _BUCKET_BITS) + 1)).tolist()
        content, size = run.tobytes(), _ENTRY.itemsize
        group = first // (RUN * _RUNS_PER_ROW)
        self._file.run_many(
            "INSERT INTO runs VALUES (?, ?) ON CONFLICT (place) DO UPDATE "
            "SET names = CAST(names || excluded.names AS BLOB)",
            [
                (_place(period.serial, bucket) + group, content[low * size : high * size])
                for bucket, (low, high) in enumerate(pairwise(edges))
                if high > low
            ],
        )

    def forget_run(self, period: Period) -> None:
        """Drop from memory what `write_run` wrote, once it is committed."""
        kept: dict[bytes, list[int]] = {}
        for name, numbers in period.recent.items():
            left = [number for number in numbers if number >= period.written]
            if left:
                kept[name] = left
        period.recent, period.indexed = kept, period.written

    def remove(self, period: Period, number: int, names: bytes) -> None:
        """Take a record out of the runs; within the caller's transaction."""
        if number < period.indexed:
            for at in range(0, len(names), _NAME_BYTES):
                self._remove_from_runs(period, names[at : at + _NAME_BYTES], number)

    def forget(self, period: Period, number: int, names: bytes) -> None:
        """Take a record out of memory, once its removal is committed."""
        if number >= period.indexed:
            for at in range(0, len(names), _NAME_BYTES):
                name = names[at : at + _NAME_BYTES]
                left = [other for other in period.recent.pop(name, []) if other != number]
                if left:
                    period.recent[name] = left

    def _remove_from_runs(self, period: Period, name: bytes, number: int) -> None:
        entry = name + number.to_bytes(4, "little")
        for place, names in self._file.rows(
            "SELECT place, names FROM runs WHERE place >= ? AND place < ?", *_range(period, name)
        ):
            for at in _places(names, entry):
                left = names[:at] + names[at + len(entry) :]
                self._file.run("UPDATE runs SET names = ? WHERE place = ?", left, place)


def _place(serial: int, bucket: int) -> int:
    """First row of a bucket: serial, bucket and group of runs in one integer."""
    return (serial << 32) + (bucket << _GROUP_BITS)


def _range(period: Period, name: bytes) -> tuple[int, int]:
    """Rows in which a name may stand."""
    bucket = int.from_bytes(name[:2], "big") >> 16 - _BUCKET_BITS
    return _place(period.serial, bucket), _place(period.serial, bucket + 1)


def _places(names: bytes, wanted: bytes) -> list[int]:
    """Offsets of whole entries that begin with `wanted`."""
    found, at = [], names.find(wanted)
    while at >= 0:
        if at % _ENTRY.itemsize == 0:
            found.append(at)
        at = names.find(wanted, at + 1)
    return found
