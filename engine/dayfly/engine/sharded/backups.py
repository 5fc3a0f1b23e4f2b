"""Backups of a sharded store: one file for each shard, of one instant, and a list that says which belong together."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import msgspec

from dayfly.engine.durable.backup import BackupInfo
from dayfly.engine.durable.backup_file import read_head
from dayfly.engine.durable.restore import KEY_FILE, Restored, restore
from dayfly.engine.errors import StoreDamaged, StoreForeign
from dayfly.engine.sharded.clients import Port
from dayfly.engine.sharded.member import Keys, ShardNotes
from dayfly.engine.sharded.opening import shard_folder
from dayfly.engine.store import LOCAL_DISK, StoreLock, StoreMarker
from dayfly.engine.store.files import explained, replace_file
from dayfly.privacy.keys import record_path

__all__ = ["restore_sharded", "write_backups"]

_LIST: Final = "backups.json"


class _List(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which files belong together: data key and position of each, in the order of the shards. Written last."""

    made_ms: int
    files: list[tuple[int, int]]


def _file(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:02}.backup"


def write_backups(
    ports: Sequence[Port], folder: Path, made_ms: int, do: Callable[[Callable[[int], Any]], Any]
) -> tuple[BackupInfo, ...]:
    """As `ShardedEngine.backup`.

    Args:
        ports: The shards.
        folder: Must not exist.
        made_ms: When the store was made.
        do: Runs something on the router's thread: what is begun there at once is of one instant, since nobody moves then.
    """
    with explained(folder, "writing backups"):
        try:
            folder.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            raise StoreForeign(f"folder={str(folder)!r} must not exist; choose another one") from None
    begun: list[Future[BackupInfo]] = do(
        lambda _: [port.client.call("backup", _file(folder, number)) for number, port in enumerate(ports)]
    )
    infos = tuple(future.result() for future in begun)
    files = _List(made_ms, [(info.key_id, info.position) for info in infos])
    replace_file(LOCAL_DISK, folder / _LIST, msgspec.json.encode(files))
    return infos


def restore_sharded(
    backups: Path,
    folder: Path,
    keys: Keys,
    *,
    old: Path,
    random_bytes: Callable[[int], bytes],
    now_ms: Callable[[], int],
    checkpoints: Sequence[str] = (),
) -> tuple[Restored, ...]:
    """Make a sharded store from what `ShardedEngine.backup` wrote; see `restore`. After a crash, call it again: it goes on.

    Args:
        backups: Their folder.
        folder: The new store's folder: absent or empty, on the file system of `old`.
        keys: Opens the tenant's keys.
        old: Folder of the store that the backups were taken of; its data keys move into `folder`.
        random_bytes: For nonces.
        now_ms: Clock of the record of destroyed keys.
        checkpoints: The newest checkpoint that was published, of each shard.

    Raises:
        StoreDamaged: a file of the set is missing or of another set; nothing was changed.
        StoreForeign: `folder` is in use; and as `restore`.
        StoreLocked: the old store is open.
    """
    secrets = keys()
    files = _checked_list(backups)
    marker = StoreMarker.read(old, tenant=secrets.tenant_id)
    if (marker.created_ms, marker.shards) != (files.made_ms, len(files.files)):
        raise StoreForeign(
            f"old={str(old)!r} must be the store that {str(backups)!r} was taken of; pass its folder"
        )
    restored = []
    with ExitStack() as stack:
        stack.enter_context(StoreLock.acquire(old, started_ms=now_ms()))
        _make(folder, marker)
        for number, (_, position) in enumerate(files.files):
            place = shard_folder(folder, number)
            if StoreMarker.find(place) is not None:  # restored before a crash
                head = read_head(_file(backups, number))
                restored.append(Restored(place, position, head.at_ms, 0))
                continue
            one: Any = ShardNotes(secrets, number)
            restored.append(
                restore(
                    _file(backups, number),
                    place,
                    one,
                    slots=shard_folder(old, number) / KEY_FILE,
                    random_bytes=random_bytes,
                    now_ms=now_ms,
                    checkpoint=checkpoints[number] if checkpoints else None,
                    marker=msgspec.structs.replace(marker, shard=number),
                )
            )
        for name in (record_path(old / KEY_FILE), old / KEY_FILE):
            if name.exists():
                name.rename(folder / name.name)
    return tuple(restored)


def _checked_list(backups: Path) -> _List:
    path = backups / _LIST
    try:
        files = msgspec.json.decode(path.read_bytes(), type=_List)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StoreDamaged(
            f"path={str(path)!r} must list the files of the backup: {error}; use another backup",
            path=str(path),
        ) from error
    for number, (key_id, position) in enumerate(files.files):
        head = read_head(_file(backups, number))
        if (head.key_id, head.position) != (key_id, position):
            raise StoreDamaged(
                f"file={str(_file(backups, number))!r} must be of the same backup as the others; put the right one back",
                path=str(_file(backups, number)),
            )
    return files


def _make(folder: Path, marker: StoreMarker) -> None:
    """The folder of the whole store, which cannot be opened before it has its data keys."""
    known = StoreMarker.find(folder)
    if known is None:
        StoreMarker.create(
            folder,
            tenant=marker.tenant_bytes,
            created_ms=marker.created_ms,
            shards=marker.shards,
        )
    elif known != marker or (folder / KEY_FILE).exists():
        raise StoreForeign(f"folder={str(folder)!r} must be absent or empty; choose another one")
