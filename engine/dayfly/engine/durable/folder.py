"""The folder of a store: checked or made, locked, and its data keys opened."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from dayfly.engine.durable.outside import Outside
from dayfly.engine.durable.part import Part
from dayfly.engine.durable.recovery import fresh_parts
from dayfly.engine.errors import RunError, StoreDamaged, StoreForeign
from dayfly.engine.policy.model import Policy
from dayfly.engine.store import Snapshots, StoreLock, StoreMarker
from dayfly.privacy.keys import KeyProvider, SlotKeys

__all__ = ["KEY_FILE", "first_snapshot", "open_folder"]

KEY_FILE: Final = "keys.slots"


def open_folder(
    folder: Path,
    keys: KeyProvider,
    policy: Policy | None,
    outside: Outside,
    stack: ExitStack,
    *,
    shards: int = 1,
    part: Part | None = None,
) -> SlotKeys:
    """Check, or make, the folder; lock it; open its data keys.

    Raises:
        StoreForeign: another tenant's store, one of another number of shards, or a shard that is opened by itself.
    """
    marker = StoreMarker.find(folder)
    if marker is not None:
        _check_shards(folder, marker, shards, part)
    if marker is None and policy is None:
        raise RunError(f"policy=None must be given for a new store in {str(folder)!r}; pass its first policy")
    if marker is None:
        folder.mkdir(parents=True, exist_ok=True)
    stack.enter_context(StoreLock.acquire(folder, started_ms=outside.now_ms()))
    options: Any = {
        "tenant": keys.tenant_id,
        "random_bytes": outside.random_bytes,
        "now_ms": outside.now_ms,
    }
    if marker is None:
        StoreMarker.create(
            folder,
            tenant=keys.tenant_id,
            created_ms=outside.now_ms() if part is None else part.made_ms,
            shards=shards if part is None else part.shards,
            shard=None if part is None else part.number,
        )
    else:
        StoreMarker.read(folder, tenant=keys.tenant_id)
    path = folder / KEY_FILE
    if not path.exists() and any(name.is_dir() for name in folder.iterdir()):
        raise StoreDamaged(
            f"path={str(path)!r} must hold the data keys of what is beside it; put it back, or restore the store from a backup",
            path=str(path),
        )
    made = SlotKeys.open if path.exists() else SlotKeys.new
    slots = made(path, keys.keks(), **options)
    stack.callback(slots.close)
    return slots


def _check_shards(folder: Path, marker: StoreMarker, shards: int, part: Part | None) -> None:
    """Refuse a store that is split in another way, and a shard of another store, or in another's place."""
    if part is None and marker.shard is not None:
        raise StoreForeign(
            f"folder={str(folder)!r} must be a whole store and is shard {marker.shard} of {marker.shards}; open the folder"
            f" above it with shards={marker.shards}"
        )
    if part is None and marker.shards != shards:
        raise StoreForeign(
            f"shards={shards} must be {marker.shards}, which {str(folder)!r} was made with; open it with that number"
        )
    if part is not None and (marker.shard, marker.shards, marker.created_ms) != (
        part.number,
        part.shards,
        part.made_ms,
    ):
        raise StoreForeign(
            f"folder={str(folder)!r} must be shard {part.number} of {part.shards} of this store; put the right folder back"
        )


def first_snapshot(
    folder: Path,
    files: Snapshots,
    slots: SlotKeys,
    policy: Policy | None,
    series: Callable[[bytes, str], bytes],
    *,
    begun: bool,
) -> tuple[int, Mapping[str, bytes]]:
    """The snapshot that a new store begins with; a store whose log has begun had one."""
    if begun or slots.live("log"):
        raise StoreDamaged(
            f"folder={str(folder / 'snapshots')!r} must hold the snapshot that the log goes on from; put the missing files"
            " back, or restore the store from a backup",
            path=str(folder / "snapshots"),
        )
    if policy is None:
        raise RunError(f"policy=None must be given for a new store in {str(folder)!r}; pass its first policy")
    files.write(0, fresh_parts(policy, series))
    found = files.newest()
    assert found is not None
    return found
