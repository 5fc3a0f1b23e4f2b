"""Checking a stopped store: every file is read to its end, and no file of the store is written.

Opening `keys.slots` completes a destruction or rewrapping that a crash interrupted, as every opening does; that is all.
"""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dayfly.engine.deadletters.checking import check_letters
from dayfly.engine.delivery.store import DeliveryStore
from dayfly.engine.errors import StoreDamaged, StoreForeign
from dayfly.engine.store import LOCAL_DISK, Snapshots, StoreLock, StoreMarker
from dayfly.engine.store.reading import key_for, reading
from dayfly.engine.store.recovery import survey
from dayfly.privacy.audit_log import verify_audit
from dayfly.privacy.errors import DayflyError
from dayfly.privacy.fragments.tombstones.log import TombstoneLog
from dayfly.privacy.keys import KeyProvider, SlotKeys

__all__ = ["Finding", "check_store"]

_KEY_FILE: Final = "keys.slots"
_DELIVERY_FILE: Final = "delivery.db"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about a part of a store.

    Attributes:
        part: `marker`, `keys`, `log`, `snapshots`, `tombstones`, `audit`, `lineage`, `dead`, or `delivery` where it is there.
        holds: Whether it is in order.
        told: What there is, or what does not hold.
    """

    part: str
    holds: bool
    told: str


def check_store(folder: Path, keys: KeyProvider, *, now_ms: Callable[[], int]) -> tuple[Finding, ...]:
    """Check a store that nobody has open.

    Args:
        folder: Of the store.
        keys: The tenant's.
        now_ms: The clock.

    Returns:
        One finding per part, in a fixed order; parts behind keys that do not open are left out.

    Raises:
        StoreLocked: another process writes here.
        StoreForeign, StoreVersion, StoreDamaged: the marker is missing, another tenant's, newer or damaged.
        StoreForeign: it is one of several shards, or all of them.
    """
    marker = StoreMarker.read(folder, tenant=keys.tenant_id)
    if marker.shards > 1:
        raise StoreForeign(
            f"folder={str(folder)!r} must be a store of one shard and is of {marker.shards}; opening it checks each of them"
        )
    found = [Finding("marker", holds=True, told=f"store of {keys.tenant}")]
    with StoreLock.acquire(folder, started_ms=now_ms()):
        try:
            slots = SlotKeys.open(
                folder / _KEY_FILE,
                keys.keks(),
                tenant=keys.tenant_id,
                random_bytes=os.urandom,
                now_ms=now_ms,
            )
        except DayflyError as error:
            return (*found, Finding("keys", holds=False, told=str(error)))
        with slots:
            parts: dict[str, Callable[[], str]] = {
                "keys": lambda: f"data keys of {', '.join(slots.purposes())}",
                "snapshots": lambda: _snapshots(folder, slots, keys.tenant_id),
                "log": lambda: _log(folder, slots, keys.tenant_id),
                "tombstones": lambda: _tombstones(folder, keys),
                "audit": lambda: _audit(folder),
                "lineage": lambda: _lineage(folder),
                "dead": lambda: _dead(folder, slots, keys.tenant_id),
            }
            if (folder / _DELIVERY_FILE).exists():
                parts["delivery"] = lambda: _delivery(folder, keys.tenant)
            found += [_finding(part, check) for part, check in parts.items()]
    return tuple(found)


def _finding(part: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(part, holds=True, told=check())
    except (DayflyError, OSError, sqlite3.Error) as error:
        return Finding(part, holds=False, told=str(error))


def _positions(folder: Path) -> list[int]:
    return sorted(int(path.stem) for path in (folder / "snapshots").glob("*.snap"))


def _snapshots(folder: Path, slots: SlotKeys, tenant: bytes) -> str:
    """Every snapshot by itself: beside others, a damaged one would be passed over."""
    positions = _positions(folder)
    for position in positions:
        with tempfile.TemporaryDirectory() as alone:
            name = f"{position:08d}.snap"
            (Path(alone) / name).symlink_to((folder / "snapshots" / name).resolve())
            if Snapshots(Path(alone), slots, tenant=tenant).newest() is None:
                raise StoreDamaged(f"snapshot={name!r} must have a live key; it was superseded, remove it")
    if not positions:
        raise StoreDamaged("snapshots must hold at least one; restore the store from a backup")
    return f"{len(positions)} snapshots, the newest at position {positions[-1]}"


def _log(folder: Path, slots: SlotKeys, tenant: bytes) -> str:
    """Every record of every segment, decrypted."""
    positions = _positions(folder)
    if not (folder / "log").is_dir() and not slots.live("log"):
        return "no segments yet: the store was made or restored and not opened since"
    found = survey(LOCAL_DISK, folder / "log", slots, tenant=tenant, after=positions[-1] if positions else 0)
    segments = [(one.path, one.header, one.first) for one in found.closed]
    if found.active is not None:
        segments.append((found.active.path, found.active.header, found.first))
    frames = 0
    for path, header, first in segments:
        with reading(LOCAL_DISK, path, header, key_for(slots, header.key_id, path)) as reader:
            frames += sum(record.head.count for record in reader.records(first))
    torn = found.tail is not None and found.tail.torn > found.tail.end
    told = f"{len(segments)} segments with {frames} frames"
    return f"{told}; a write that a crash tore is cut off at the next start" if torn else told


def _tombstones(folder: Path, keys: KeyProvider) -> str:
    """On a copy, because opening the log completes what a crash interrupted."""
    with tempfile.TemporaryDirectory() as place:
        copy = shutil.copytree(folder / "tombstones", Path(place) / "tombstones")
        with TombstoneLog(copy, verifiers=[keys.notes().verifier]) as log:
            entries = log.audit()
            signed = 0 if log.newest is None else log.newest.size
    return f"{entries} tombstones, {signed} of them signed"


def _audit(folder: Path) -> str:
    with (folder / "audit.jsonl").open("rb") as file:
        head = verify_audit(_whole_lines(file))
    return f"{head.lines} lines, head {head.sha256}"


def _whole_lines(lines: Iterator[bytes]) -> Iterator[bytes]:
    """All but a last line that a crash tore; the log brings it again."""
    return (line for line in lines if line.endswith(b"\n"))


def _lineage(folder: Path) -> str:
    """SQLite's own check, on a copy with its write-ahead log."""
    with _copied(folder, "lineage.db") as copy, closing(sqlite3.connect(copy)) as connection:
        ((told,),) = connection.execute("PRAGMA quick_check(1)").fetchall()
    if told != "ok":
        raise StoreDamaged(f"lineage.db must pass SQLite's check: {told}; restore the store from a backup")
    return "the database is whole"


def _dead(folder: Path, slots: SlotKeys, tenant: bytes) -> str:
    """Every block of every period, decrypted."""
    periods, letters = check_letters(folder / "dead", keys=slots, tenant=tenant)
    return f"{letters} letters in {periods} periods"


def _delivery(folder: Path, tenant: str) -> str:
    """What delivery itself looks at when it is opened, on a copy with its write-ahead log."""
    with _copied(folder, _DELIVERY_FILE) as copy, closing(DeliveryStore(copy, tenant=tenant)) as store:
        ((fragments,),) = store.rows("SELECT count(*) FROM fragments")
        ((waiting,),) = store.rows("SELECT count(*) FROM jobs WHERE state != 'done'")
    return f"{fragments} fragments, {waiting} deliveries under way"


@contextmanager
def _copied(folder: Path, name: str) -> Iterator[Path]:
    """A copy of a database and its write-ahead log."""
    with tempfile.TemporaryDirectory() as place:
        for path in folder.glob(f"{name}*"):
            shutil.copy2(path, place)
        yield Path(place) / name
