"""The tombstone log on disk: entries, tree, index and checkpoints in one folder, with memory that does not grow with it."""

import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from dayfly.privacy.errors import TombstoneConflict, TombstoneLogError

from .files import sync_folder, write_at
from .kept import KeptCheckpoints, open_checkpoint
from .merkle import leaf_hash
from .note import Checkpoint, NoteVerifier
from .receipt import Tombstone
from .recovery import canonical, check_signed, open_headed, sound_tail
from .stone_index import INDEX_HEAD, StoneIndex
from .tree_file import TREE_HEAD, TreeFile, grow, record_start

__all__ = ["KEEP_EVERY_MS", "TombstoneLog"]

KEEP_EVERY_MS: Final = 3_600_000
ENTRIES: Final = "tombstones.jsonl"
_AT_ONCE: Final = 4096
_MAX_ENTRY: Final = 65_536
_decode: Final = msgspec.json.Decoder(Tombstone).decode


class TombstoneLog:
    """An append-only log of tombstones that outlives the process. Not thread-safe: the owner holds its lock.

    Appends stay in memory until `flush`; a checkpoint covers only what was flushed and synced. Entries after the newest
    checkpoint that a crash tore are cut off on opening; the owner appends them again from its own log (`append_from`).

    Files: `tombstones.jsonl` (one entry per line, all that is needed to rebuild the rest), `tree` (RFC 9162 hashes), `find`
    (index by id), `checkpoint` and `checkpoints.jsonl` (signed notes).

    Args:
        folder: Made if absent. One process at a time may have it open.
        verifiers: Keys that signed the checkpoints in it: the current one and those before it.
        keep_every_ms: One checkpoint per so many milliseconds is kept for good; 0 keeps all.

    Raises:
        TombstoneLogError: Another process has it open; it is of another kind or a newer version; or it does not hold what its
            newest signed checkpoint says: an entry was edited, or an older state was put back.
        InvalidReceipt: The newest checkpoint is not signed by one of `verifiers`.
    """

    def __init__(
        self, folder: Path, *, verifiers: Sequence[NoteVerifier], keep_every_ms: int = KEEP_EVERY_MS
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._verifiers = folder, tuple(verifiers)
        with ExitStack() as undo:
            self._unwritten: list[bytes] = []
            self._entries = self._open_entries(undo)
            self._kept = undo.enter_context(KeptCheckpoints(folder, keep_every_ms))
            newest = self._kept.newest(self._verifiers)
            self.newest: Checkpoint | None = None if newest is None else newest[1]
            self._note = "" if newest is None else newest[0]
            tree_file = open_headed(folder / "tree", TREE_HEAD, undo)
            self._tree = self._recover(tree_file)
            find_file = open_headed(folder / "find", INDEX_HEAD, undo)
            self._index = StoneIndex(find_file, len(self._tree))
            for index in range(len(self._index), len(self._tree)):
                self._index.add(_decode(self.entry(index)).jti)
            sync_folder(folder)
            self._undo = undo.pop_all()

    def __len__(self) -> int:
        """Number of entries, flushed or not."""
        return len(self._tree)

    @property
    def flushed(self) -> int:
        """Number of entries that the operating system has."""
        return self._tree.flushed

    @property
    def note(self) -> str:
        """The newest signed checkpoint, or empty."""
        return self._note

    # --- appending ---------------------------------------------------------------------------------------------------

    def append(self, stone: Tombstone) -> int:
        """Add a tombstone and return its index."""
        return self._append(stone.entry(), stone.jti)

    def append_from(self, index: int, entries: Iterable[bytes]) -> None:
        """Add entries of which some may be there already: the first has index `index`.

        Raises:
            TombstoneConflict: A different entry stands at one of these places, or `index` would leave a gap.
            TombstoneLogError: An entry is no canonical tombstone.
        """
        for at, entry in enumerate(entries, index):
            if at > len(self):
                raise TombstoneConflict(
                    f"index={at} must not be above {len(self)}; append what is missing first"
                )
            if at == len(self):
                self._append(entry, canonical(entry).jti)
            elif self._tree.leaf(at) != leaf_hash(entry):
                raise TombstoneConflict(
                    f"index={at} must hold the entry that is given again; the two logs do not belong together"
                )

    def flush(self, size: int | None = None) -> None:
        """Hand the first `size` entries (default: all) to the operating system.

        An error leaves everything as it was, to be tried again.
        """
        size = len(self) if size is None else min(size, len(self))
        count = size - self._tree.flushed
        if count > 0:
            start = self._tree.end(self._tree.flushed - 1)
            write_at(self._entries, b"".join(entry + b"\n" for entry in self._unwritten[:count]), start)
            self._tree.flush(size)
            del self._unwritten[:count]

    def checkpoint(self, note: str, checkpoint: Checkpoint) -> None:
        """Make all entries durable, then keep a checkpoint over them."""
        self.flush()
        self.keep(note, checkpoint)

    def keep(self, note: str, checkpoint: Checkpoint) -> None:
        """Make durable what was flushed, then keep a checkpoint over it; beside appends and flushes of another thread."""
        os.fdatasync(self._entries)
        self._tree.sync()
        self._kept.add(note, checkpoint)
        self._note, self.newest = note, checkpoint

    # --- reading -----------------------------------------------------------------------------------------------------

    def entry(self, index: int) -> bytes:
        """The entry at `index`, checked against its hash.

        Raises:
            TombstoneLogError: It was altered.
        """
        if index >= self._tree.flushed:
            return self._unwritten[index - self._tree.flushed]
        start, end = self._tree.end(index - 1), self._tree.end(index)
        length = end - start - 1
        entry = os.pread(self._entries, length, start) if 0 < length <= _MAX_ENTRY else b""
        if leaf_hash(entry) != self._tree.leaf(index):
            raise TombstoneLogError(
                f"index={index} must hold the entry that was hashed; {ENTRIES} or `tree` was altered, restore them from a copy"
            )
        return entry

    def entries(self, start: int, end: int | None = None) -> Iterator[bytes]:
        """Entries [start, end), by default to the end of the log."""
        for index in range(start, len(self) if end is None else end):
            yield self.entry(index)

    def find(self, jti: str) -> tuple[int, Tombstone] | None:
        """Place and content of the tombstone of a fragment, or None."""
        for index in self._index.find(jti):
            stone = _decode(self.entry(index))
            if stone.jti == jti:
                return index, stone
        return None

    def root(self, size: int | None = None) -> bytes:
        """Root of the first `size` entries."""
        return self._tree.root(size)

    def inclusion_proof(self, index: int, size: int) -> tuple[bytes, ...]:
        """See `MerkleProofs.inclusion_proof`."""
        return self._tree.inclusion_proof(index, size)

    def consistency_proof(self, old_size: int, size: int) -> tuple[bytes, ...]:
        """See `MerkleProofs.consistency_proof`."""
        return self._tree.consistency_proof(old_size, size)

    def checkpoints(self) -> Iterator[str]:
        """Signed notes kept, oldest first; the newest is always among them."""
        return self._kept.notes()

    # --- checking ----------------------------------------------------------------------------------------------------

    def must_extend(self, note: str) -> Checkpoint:
        """Check that this log is the one of a checkpoint kept elsewhere, or a later state of it.

        Only so is it noticed when the whole folder was replaced by an older copy of itself.

        Raises:
            InvalidReceipt: `note` is not signed by this log's keys.
            TombstoneLogError: The log is shorter than the checkpoint, or what it covers is different here.
        """
        checkpoint = open_checkpoint(note, self._verifiers)
        check_signed(checkpoint, self._tree)
        return checkpoint

    def audit(self) -> int:
        """Read everything and compare it: each entry with its hash, the tree with its leaves, each checkpoint with the tree.

        Returns:
            Number of entries read.

        Raises:
            TombstoneLogError, InvalidReceipt: The first thing that does not hold.
        """
        waiting: dict[int, bytes] = {}
        for index in range(len(self)):
            if grow(waiting, index, leaf_hash(self.entry(index))) != self._tree.hashes(index):
                raise TombstoneLogError(
                    f"tree record={index} must hash its entries; delete `tree` and reopen"
                )
        for note in self.checkpoints():
            self.must_extend(note)
        return len(self)

    def close(self, size: int | None = None) -> None:
        """Flush the first `size` entries (default: all), sync and close; what was not flushed is lost."""
        self.flush(size)
        os.fdatasync(self._entries)
        self._tree.sync()
        self._index.sync()
        self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- opening -----------------------------------------------------------------------------------------------------

    def _append(self, entry: bytes, jti: str) -> int:
        if len(entry) > _MAX_ENTRY:
            raise TombstoneLogError(
                f"entry of {len(entry)} bytes must have at most {_MAX_ENTRY}; shorten its id"
            )
        end = self._tree.end(len(self) - 1) + len(entry) + 1
        self._unwritten.append(entry)
        self._index.add(jti)
        return self._tree.append(entry, end)

    def _open_entries(self, undo: ExitStack) -> int:
        file = os.open(self._folder / ENTRIES, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        undo.callback(os.close, file)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TombstoneLogError(
                f"folder={self._folder.name!r} must have one writer; close the other process first"
            ) from None
        return file

    def _recover(self, tree_file: int) -> TreeFile:
        """The tree as far as entries are whole; nothing is cut before what was signed is found to be there."""
        signed = 0 if self.newest is None else self.newest.size
        length = os.fstat(tree_file).st_size
        # A tree that is not there is made again from the entries, from the first on.
        base = 0 if length <= record_start(0) else signed
        if length < record_start(base):
            raise TombstoneLogError(
                f"tree of {length} bytes must hold {signed} signed entries; delete `tree` and reopen: it is made again"
            )
        tree = TreeFile(tree_file, base)
        if base and self.newest is not None:
            check_signed(self.newest, tree)
        start = tree.end(base - 1)
        if start > os.fstat(self._entries).st_size:
            raise TombstoneLogError(
                f"{ENTRIES} must hold {signed} signed entries; its end was cut off, restore it from a copy"
            )
        for line, _, end in sound_tail(self._entries, start, tree_file, base):
            tree.append(line, end)
            if len(tree) - tree.flushed >= _AT_ONCE:
                tree.flush(len(tree))
        if self.newest is not None:
            check_signed(self.newest, tree)
        tree.flush(len(tree))
        os.ftruncate(tree_file, record_start(len(tree)))
        os.ftruncate(self._entries, tree.end(len(tree) - 1))
        return tree
