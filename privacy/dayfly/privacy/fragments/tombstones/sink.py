"""Where the log's bytes go. The tree itself stays in memory; a sink makes it outlive the process."""

import os
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from dayfly.privacy.errors import InvalidReceipt

__all__ = ["AppendOnlyFile", "TombstoneSink", "read_entries"]


class TombstoneSink(Protocol):
    """Receives log entries in order, before anybody is told about them."""

    def tombstone(self, entry: bytes) -> None:
        """One entry."""

    def checkpoint(self, note: str) -> None:
        """A signed checkpoint over all entries so far; durable when this returns."""


class AppendOnlyFile:
    """A folder with `tombstones.jsonl` (one entry per line) and `checkpoint` (the newest note, replaced atomically).

    Entries are flushed to the device at each checkpoint, so a signed checkpoint never promises an entry that a power
    cut can take away.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._entries = (folder / "tombstones.jsonl").open("ab")

    def tombstone(self, entry: bytes) -> None:
        """Append one entry."""
        self._entries.write(entry + b"\n")

    def checkpoint(self, note: str) -> None:
        """Flush all entries, then replace the checkpoint."""
        self._entries.flush()
        os.fdatasync(self._entries.fileno())
        fresh = self._folder / "checkpoint.new"
        with fresh.open("w", encoding="utf-8") as file:
            file.write(note)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._folder / "checkpoint")

    def close(self) -> None:
        """Flush and close."""
        self._entries.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_entries(folder: Path) -> list[bytes]:
    """The entries of a closed log, in order.

    Raises:
        InvalidReceipt: The last line is cut.
    """
    raw = (folder / "tombstones.jsonl").read_bytes()
    if raw and not raw.endswith(b"\n"):
        raise InvalidReceipt("tombstones.jsonl must end in a newline; cut the unfinished last line off")
    return raw.split(b"\n")[:-1]
