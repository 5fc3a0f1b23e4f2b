"""The signed checkpoints of a log: the newest, and one per period for good, so that growth can be proved over years."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from dayfly.privacy.errors import InvalidReceipt, TombstoneLogError

from .files import replace_file, sync_folder
from .note import Checkpoint, NoteVerifier, open_note

__all__ = ["KeptCheckpoints", "open_checkpoint"]

_NEWEST: Final = "checkpoint"
_KEPT: Final = "checkpoints.jsonl"


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    at_ms: int
    size: int
    note: str


def open_checkpoint(note: str, verifiers: Iterable[NoteVerifier]) -> Checkpoint:
    """The checkpoint of a note that one of the keys signed.

    Raises:
        InvalidReceipt: None of them did, or it is malformed.
    """
    refusal = InvalidReceipt("verifiers=<none> must hold the key that signed the checkpoint; pass it")
    for verifier in verifiers:
        try:
            text = open_note(note, verifier)
        except InvalidReceipt as error:
            refusal = error
        else:
            return Checkpoint.from_text(text)
    raise refusal


class KeptCheckpoints:
    """`checkpoint` (the newest note, replaced atomically) and `checkpoints.jsonl` (append-only) of one folder.

    Args:
        folder: Exists.
        every_ms: A checkpoint is kept for good when the last kept one is at least so old; 0 keeps all.
    """

    def __init__(self, folder: Path, every_ms: int) -> None:
        self._folder, self._every_ms = folder, every_ms
        fresh = not (folder / _KEPT).exists()
        self._file = (folder / _KEPT).open("a+b")
        if fresh:
            sync_folder(folder)
        self._due_ms: int | None = None
        self._last: str | None = None
        try:
            for line in self._lines():
                self._due_ms, self._last = line.at_ms + every_ms, line.note
        except BaseException:
            self._file.close()
            raise

    def newest(self, verifiers: Iterable[NoteVerifier]) -> tuple[str, Checkpoint] | None:
        """The newest note with what it says, or None before the first.

        Raises:
            InvalidReceipt: One of the two files ends in a note that none of the keys signed.
        """
        keys = tuple(verifiers)
        found = [
            (note, open_checkpoint(note, keys)) for note in (self._last, self._read()) if note is not None
        ]
        return max(found, key=lambda pair: pair[1].size, default=None)

    def add(self, note: str, checkpoint: Checkpoint) -> None:
        """Keep a new checkpoint; durable when this returns."""
        if self._due_ms is None or checkpoint.at_ms >= self._due_ms:
            line = _Line(checkpoint.at_ms, checkpoint.size, note)
            self._file.write(msgspec.json.encode(line) + b"\n")
            self._file.flush()
            os.fdatasync(self._file.fileno())
            self._due_ms, self._last = checkpoint.at_ms + self._every_ms, note
        replace_file(self._folder / _NEWEST, note.encode())

    def notes(self) -> Iterator[str]:
        """All notes kept for good, oldest first, and the newest behind them."""
        for line in self._lines():
            yield line.note
        newest = self._read()
        if newest is not None and newest != self._last:
            yield newest

    def close(self) -> None:
        """Close the files."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _lines(self) -> Iterator[_Line]:
        """Every kept line; a torn last one, which a crash left, is cut off."""
        at = 0
        with (self._folder / _KEPT).open("rb") as file:
            for number, raw in enumerate(file):
                if not raw.endswith(b"\n"):
                    self._file.truncate(at)
                    return
                try:
                    yield msgspec.json.decode(raw, type=_Line)
                except (msgspec.MsgspecError, UnicodeDecodeError):
                    raise TombstoneLogError(
                        f"file={_KEPT!r} line={number + 1} must be a kept checkpoint; restore it from a copy"
                    ) from None
                at += len(raw)

    def _read(self) -> str | None:
        """The note in the file of the newest."""
        try:
            return (self._folder / _NEWEST).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            raise TombstoneLogError(
                f"file={_NEWEST!r} must hold a signed note; restore the folder from a copy"
            ) from None
