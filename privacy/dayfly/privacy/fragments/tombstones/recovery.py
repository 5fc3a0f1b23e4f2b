"""Opening a tombstone log after a crash: what is whole stays, a torn end goes, and what was signed must be there."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from dayfly.privacy.errors import TombstoneLogError

from .files import write_at
from .merkle import HASH_BYTES, MerkleProofs, leaf_hash
from .note import Checkpoint
from .receipt import Tombstone
from .tree_file import leaf_start

__all__ = ["canonical", "check_signed", "open_headed", "sound_tail"]

_CHUNK: Final = 1 << 20
_VERSION: Final = 1
_decode: Final = msgspec.json.Decoder(Tombstone).decode


def canonical(entry: bytes) -> Tombstone:
    """The tombstone that `entry` is the log entry of.

    Raises:
        TombstoneLogError: It is none of this version.
    """
    try:
        stone = _decode(entry)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise TombstoneLogError(
            f"entry of {len(entry)} bytes must be a tombstone: {error}; open the log with the release that wrote it"
        ) from None
    if stone.v != _VERSION or stone.entry() != entry:
        raise TombstoneLogError(
            f"entry v={stone.v} must be {_VERSION} and in canonical form; open the log with the release that wrote it"
        )
    return stone


def check_signed(checkpoint: Checkpoint, tree: MerkleProofs) -> None:
    """Check that a log holds what a checkpoint of it says.

    Raises:
        TombstoneLogError: It is shorter, or something in it is different.
    """
    if checkpoint.size > len(tree):
        raise TombstoneLogError(
            f"size={len(tree)} must be at least the {checkpoint.size} entries that were signed; an older state was put "
            "back or the end was cut off, restore the newest copy"
        )
    if tree.root(checkpoint.size) != checkpoint.root:
        raise TombstoneLogError(
            f"root of {checkpoint.size} entries must be the signed one; an entry or `tree` was altered, restore them from a "
            "copy (or delete `tree` and reopen: it is made again from the entries)"
        )


def open_headed(path: Path, head: bytes, undo: ExitStack) -> int:
    """A handle of the file at `path`, which begins with `head`; made if absent.

    Raises:
        TombstoneLogError: It begins otherwise.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    undo.callback(os.close, file)
    found = os.pread(file, len(head), 0)
    if found != head:
        if not head.startswith(found):  # a crash may have cut the head itself
            raise TombstoneLogError(
                f"file={path.name!r} must begin with {head[:7]!r}, not {found[:7]!r}; it is of another kind or a newer "
                "version"
            )
        write_at(file, head, 0)
    return file


def sound_tail(entries: int, start: int, tree: int, first: int) -> Iterator[tuple[bytes, Tombstone, int]]:
    """Entries from offset `start` on, with what they say and where they end, up to the first that a crash tore.

    Torn is a line without its end, a line that is no JSON, and a line of which `tree` holds another hash.

    Args:
        entries: Handle of the entries file.
        start: Where the entry `first` begins.
        tree: Handle of the tree file; what it lacks is not compared.
        first: Index of the first entry.

    Raises:
        TombstoneLogError: A whole entry of a newer version.
    """
    rest, at, index = b"", start, first
    while chunk := os.pread(entries, _CHUNK, at + len(rest)):
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        for line in lines:
            hashed = os.pread(tree, HASH_BYTES, leaf_start(index))
            if len(hashed) == HASH_BYTES and any(hashed) and hashed != leaf_hash(line):
                return
            if not _is_json(line):
                return
            at += len(line) + 1
            yield line, canonical(line), at
            index += 1


def _is_json(line: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(line), dict)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
