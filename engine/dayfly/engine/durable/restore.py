"""Restoring a backup: a new folder beside the old store, which takes over its data keys.

A store exists once. `keys.slots` is moved, never copied, so the old folder cannot be opened any more when the new one can; and
the keys of the old log and snapshots are destroyed, because they would be a second, later history of the same people.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from dayfly.engine.durable.backup import ABOUT, AUDIT, LINEAGE, NOTES, STONES, About
from dayfly.engine.durable.backup_file import BackupHead, read_head, read_parts
from dayfly.engine.errors import BackupEnded, StoreDamaged, StoreForeign
from dayfly.engine.store import Snapshots, StoreLock, StoreMarker
from dayfly.engine.store.files import explained
from dayfly.privacy.errors import KeyDestroyed, UnknownKey
from dayfly.privacy.fragments import NoteVerifier
from dayfly.privacy.fragments.tombstones.log import TombstoneLog
from dayfly.privacy.keys import KeyProvider, SlotKeys, record_path

__all__ = ["Restored", "restore"]

_FILE: Final = re.compile(r"lineage\.secrets/[0-9]{8}|dead/[0-9]{12}\.dead")
KEY_FILE: Final = "keys.slots"
_STONES_AT_ONCE: Final = 4_096
_OVER: Final = ("log", "snapshot")
"""Purposes whose keys belong to the old folder's files."""


@dataclass(frozen=True, slots=True)
class Restored:
    """A store that was restored.

    Attributes:
        folder: Where it is; open it with `Engine.open`.
        position: Log position up to which everything is there.
        at_ms: When the backup was taken: what was acknowledged later is not there.
        stones: Tombstones restored.
    """

    folder: Path
    position: int
    at_ms: int
    stones: int


@dataclass(slots=True)
class _Contents:
    """Parts that are not files of the store."""

    about: About = field(default_factory=lambda: About((), 0))
    parts: dict[str, bytes] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def restore(
    backup: Path,
    folder: Path,
    keys: KeyProvider,
    *,
    slots: Path,
    random_bytes: Callable[[int], bytes],
    now_ms: Callable[[], int],
    checkpoint: str | None = None,
    marker: StoreMarker | None = None,
) -> Restored:
    """Make a store from a backup. Nothing of the old one is touched before the backup was read to its end.

    Args:
        backup: The file.
        folder: The new store's folder: absent or empty, on the file system of `slots`.
        keys: The tenant's long-lived keys as they are now.
        slots: `keys.slots` of the store that the backup was taken of; it moves into `folder`.
        random_bytes: For nonces.
        now_ms: Clock of the record of destroyed keys.
        checkpoint: The newest checkpoint of the tombstone log that was published; a backup that is older than it is refused,
            because two histories would be signed with one key.
        marker: What the new store is, where it is one shard of several.

    Raises:
        BackupEnded: an erasure destroyed its key.
        StoreForeign: another tenant's, other keys, no backup, or `folder` is in use.
        StoreDamaged: cut off or altered; nothing was changed.
        StoreVersion: written by a newer version.
        StoreLocked: the old store is open.
        StoreFull, StoreUnusable: the system refuses.
        TombstoneLogError: the backup is older than `checkpoint`.
        InvalidReceipt: `checkpoint` is not signed by this tenant.
        KeyStoreError: `slots` is missing, damaged, in use or another tenant's.
    """
    head = read_head(backup)
    if head.tenant != keys.tenant_id:
        raise StoreForeign(
            f"tenant={head.tenant.hex()} of {str(backup)!r} must be {keys.tenant_id.hex()}; pass this tenant's own keys"
        )
    _check_free(folder, slots)
    _check_alone(slots, marker)
    staging = folder.with_name(f".{folder.name}.restoring")
    with ExitStack() as stack, explained(folder, "restoring a backup"):
        _put_back(staging, slots)
        if StoreMarker.find(slots.parent) is not None:
            stack.enter_context(StoreLock.acquire(slots.parent, started_ms=now_ms()))
        data_keys = stack.enter_context(
            SlotKeys.open(slots, keys.keks(), tenant=keys.tenant_id, random_bytes=random_bytes, now_ms=now_ms)
        )
        key = _key(data_keys, head, backup)
        shutil.rmtree(staging, ignore_errors=True)
        try:
            StoreMarker.create(
                staging,
                tenant=keys.tenant_id,
                created_ms=head.at_ms if marker is None else marker.created_ms,
                shards=1 if marker is None else marker.shards,
                shard=None if marker is None else marker.shard,
            )
            contents = _unpack(read_parts(backup, key), staging)
            verifier = keys.notes().verifier
            _rebuild_stones(staging, contents, verifier, checkpoint)
            old = [key_id for purpose in _OVER for key_id in data_keys.live(purpose)]
            snapshots = Snapshots(staging / "snapshots", data_keys, tenant=keys.tenant_id)
            parts = {name: contents.parts[name] for name in contents.about.snapshot}
            snapshots.write(head.position, parts, verify=True)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        data_keys.destroy(old)
        _take_over(slots, staging, folder)
    return Restored(folder, head.position, head.at_ms, contents.about.stones)


def _check_free(folder: Path, slots: Path) -> None:
    """Refuse, before anything is read, what could not be finished."""
    with explained(folder, "restoring a backup"):
        if folder.exists() and any(folder.iterdir()):
            raise StoreForeign(f"folder={str(folder)!r} must be absent or empty; choose another one")
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.parent.stat().st_dev != slots.parent.stat().st_dev:
            raise StoreForeign(
                f"folder={str(folder)!r} must be on the file system of {str(slots)!r}, whose keys may not be copied;"
                " choose one there"
            )


def _check_alone(slots: Path, marker: StoreMarker | None) -> None:
    """Refuse to make a store of one out of a shard."""
    old = StoreMarker.find(slots.parent)
    if marker is None and old is not None and old.shards > 1:
        raise StoreForeign(
            f"slots={str(slots)!r} must be of a store of one shard and is of one of {old.shards}; use restore_sharded"
        )


def _key(data_keys: SlotKeys, head: BackupHead, backup: Path) -> bytes:
    try:
        return data_keys.get(head.key_id)
    except KeyDestroyed:
        raise BackupEnded(
            f"backup={str(backup)!r} must be younger than the last erasure, which destroyed its key; use a later backup"
        ) from None
    except UnknownKey:
        raise StoreForeign(
            f"key_id={head.key_id} of {str(backup)!r} must be in the keys.slots given; pass the one of its own store"
        ) from None


def _unpack(pieces: Iterator[tuple[str, bytes]], staging: Path) -> _Contents:
    """Write files, and gather the rest.

    Raises:
        StoreDamaged: a part that no backup has, or one that every backup has and this one has not.
    """
    contents = _Contents()
    seen = set()
    for name, group in groupby(pieces, key=itemgetter(0)):
        seen.add(name)
        content = (piece for _, piece in group)
        if name in {AUDIT, LINEAGE, STONES} or _FILE.fullmatch(name):
            _write(staging / name, content)
        elif name == ABOUT:
            contents.about = msgspec.msgpack.decode(b"".join(content), type=About)
        elif name == NOTES:
            contents.notes = msgspec.json.decode(b"".join(content), type=tuple[str, ...])
        elif name in contents.about.snapshot:
            contents.parts[name] = b"".join(content)
        else:
            raise StoreDamaged(f"part={name!r} must be one that this version writes; use another backup")
    missing = {ABOUT, AUDIT, LINEAGE, STONES, NOTES, *contents.about.snapshot} - seen
    if missing:
        raise StoreDamaged(f"parts={sorted(missing)!r} must be in a backup; use another one")
    return contents


def _write(path: Path, pieces: Iterator[bytes]) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def _rebuild_stones(
    staging: Path, contents: _Contents, verifier: NoteVerifier, checkpoint: str | None
) -> None:
    """The tombstone log from its entries, held against everything that was ever signed over it."""
    lines = staging / STONES
    with (
        TombstoneLog(staging / "tombstones", verifiers=[verifier], keep_every_ms=0) as log,
        lines.open("rb") as file,
    ):
        for entries in _in_strides(file):
            log.append_from(len(log), entries)
            log.flush()
        if len(log) != contents.about.stones:
            raise StoreDamaged(
                f"tombstones={len(log)} must be {contents.about.stones}, as the backup says; use another one"
            )
        for note in contents.notes:
            log.checkpoint(note, log.must_extend(note))
        if checkpoint is not None:
            log.must_extend(checkpoint)
    lines.unlink()


def _in_strides(file: BinaryIO) -> Iterator[Sequence[bytes]]:
    while lines := list(islice(file, _STONES_AT_ONCE)):
        yield [line.removesuffix(b"\n") for line in lines]


def _moves(slots: Path, staging: Path) -> tuple[tuple[Path, Path], ...]:
    """Where the key files are, and where they go."""
    new = staging / KEY_FILE
    return (record_path(slots), record_path(new)), (slots, new)


def _put_back(staging: Path, slots: Path) -> None:
    """Undo a move that a crash interrupted: the restoration then begins again."""
    for old, new in _moves(slots, staging):
        if new.exists() and not old.exists():
            new.rename(old)


def _take_over(slots: Path, staging: Path, folder: Path) -> None:
    """Move the keys into the new folder, and give it its name."""
    for old, new in _moves(slots, staging):
        old.rename(new)
    for place in (staging, slots.parent):
        _sync_folder(place)
    staging.rename(folder)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
