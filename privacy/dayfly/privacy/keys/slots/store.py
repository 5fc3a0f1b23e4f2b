"""Data keys in a file of fixed slots, so that a destroyed key is overwritten where it stood (`SlotKeys`)."""

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from dayfly.privacy.errors import (
    InvalidArgument,
    KeyDestroyed,
    KeyStoreDamaged,
    KeyStoreFailed,
    UnknownKey,
    WrongKey,
)
from dayfly.privacy.keys.interfaces import KEY_BYTES, DestroyedKey
from dayfly.privacy.keys.kek import KekRing

from .checks import Failing, check_head, check_whole
from .device import FolderFile, RawFile
from .layout import (
    ENTRY_BYTES,
    HEADER_COPIES,
    SLOT_BYTES,
    STORE_BYTES,
    TENANT_BYTES,
    Entry,
    EntryKind,
    Header,
    Slot,
    checked_purpose,
    encode_head,
    encode_header,
    encode_slot,
    wrap_context,
)
from .record import DestructionRecord
from .slotfile import GROWTH_SLOTS, SlotFile
from .survey import Place, Survey, survey

__all__ = ["CHECK_ID", "SlotKeys", "record_path"]

CHECK_ID: Final = 1
"""A key that the store keeps for itself, so that a wrong key-encryption key is noticed at once."""
_CHECK_PURPOSE: Final = "store.check"


def record_path(path: Path) -> Path:
    """Where the record of destroyed keys lies: beside the slot file. Only the record may go into backups."""
    return path.with_suffix(".destroyed")


class SlotKeys:
    """`DataKeys` in one file. Thread-safe; one process at a time.

    A slot holds a key wrapped by a key-encryption key (AES-256-GCM, bound to tenant, id and purpose). Creating writes a free
    slot and syncs. Destroying first records the intent, syncs, then overwrites the slots with zeros, syncs once for all of
    them and reads them back from the device. No plain key is cached: `get` unwraps anew.

    Guarantees:
        When `create` has returned, the key is there after any crash; when `destroy` has returned, neither the key nor its
        wrapped form is in any file of the folder, and no crash brings it back. An interrupted `create` leaves no key, an
        interrupted `destroy` is completed by the next `open` for every key whose intent was durable, an interrupted `rewrap`
        leaves every key readable and is completed by the next `open`. An id never comes again. Altered bytes raise.

    What cannot be promised: `create` and `get` return `bytes`, which Python cannot overwrite; copy-on-write file systems, SSD
    remapping, snapshots of the machine and backups of the slot file keep what was overwritten. Keep the file out of backups.
    """

    def __init__(
        self,
        file: RawFile,
        record: RawFile,
        keks: KekRing,
        *,
        tenant: bytes,
        random_bytes: Callable[[int], bytes],
        now_ms: Callable[[], int],
        discard_damaged: bool = False,
    ) -> None:
        self._slots: Final = SlotFile(file, tenant)
        self._keks = keks
        self._tenant: Final = tenant
        self._random_bytes: Final = random_bytes
        self._now_ms: Final = now_ms
        self._lock: Final = threading.Lock()
        self._closed = False
        self._failed = False
        header = self._slots.header
        check_head(record, header)
        self._record: Final = DestructionRecord(
            record, tenant, at_least=header.recorded, discard_damaged=discard_damaged
        )
        raw = self._slots.read_all()
        recorded = {one.key_id: one for one in self._record.entries if one.kind != EntryKind.VOID}
        found = survey(raw, tenant, recorded=recorded.keys(), issued=header.issued)
        if not discard_damaged:
            check_whole(found, len(raw) // SLOT_BYTES, header.capacity, file.name)
        self._live: Final = found.live
        self._highest = found.highest
        self._destroyed: Final = {
            one.key_id: DestroyedKey(one.key_id, one.purpose, one.at_ms) for one in recorded.values()
        }
        self._check_keks(keks)
        self._mend(found, len(raw) // SLOT_BYTES)

    @classmethod
    def new(
        cls,
        path: Path,
        keks: KekRing,
        *,
        tenant: bytes,
        random_bytes: Callable[[int], bytes],
        now_ms: Callable[[], int],
    ) -> Self:
        """Make a store and open it: `path` with the slots, and the record beside it.

        Args:
            path: For example `keys.slots`, in an existing folder.
            keks: Key-encryption keys; the highest version wraps.
            tenant: 16 bytes that the store is tied to.
            random_bytes: Source of keys and nonces, for example `os.urandom`.
            now_ms: Clock of the record, int64 milliseconds UTC.

        Raises:
            InvalidArgument: `tenant` is not 16 bytes long.
            KeyStoreBusy: There is a slot file already.
            KeyStoreDamaged: There is none, but a record that says that there was one.
            KeyStoreFailed: The operating system refuses.
        """
        if len(tenant) != TENANT_BYTES:
            raise InvalidArgument(
                f"tenant=<{len(tenant)} bytes> must be {TENANT_BYTES} bytes; pass the store's tenant id"
            )
        store = random_bytes(STORE_BYTES)
        record = record_path(path)
        if record.exists() and not path.exists():
            if record.stat().st_size > ENTRY_BYTES:
                raise KeyStoreDamaged(
                    f"path={str(path)!r} must exist, as {str(record)!r} does; restore it, or move the record away"
                )
            record.unlink()  # a crash between the two files of `new`
        if not path.exists():
            FolderFile.make(record, encode_head(tenant, store))
        check = Slot(
            CHECK_ID,
            _CHECK_PURPOSE,
            keks.current,
            keks.wrap(random_bytes(KEY_BYTES), wrap_context(tenant, CHECK_ID, _CHECK_PURPOSE)),
        )
        header = encode_header(Header(tenant, store, 0, GROWTH_SLOTS, 0, CHECK_ID))
        slots = encode_slot(check, tenant).ljust(GROWTH_SLOTS * SLOT_BYTES, b"\0")
        FolderFile.make(path, header * HEADER_COPIES + slots)
        return cls.open(path, keks, tenant=tenant, random_bytes=random_bytes, now_ms=now_ms)

    @classmethod
    def open(
        cls,
        path: Path,
        keks: KekRing,
        *,
        tenant: bytes,
        random_bytes: Callable[[int], bytes],
        now_ms: Callable[[], int],
        discard_damaged: bool = False,
    ) -> Self:
        """Open a store and complete what a crash interrupted; keys under older key-encryption keys are rewrapped.

        Args:
            path: The slot file.
            keks: Key-encryption keys, with every older one that some key is still under.
            tenant: 16 bytes, as at `new`.
            random_bytes: Source of keys and nonces.
            now_ms: Clock of the record.
            discard_damaged: Treat altered slots and entries as destroyed keys instead of refusing.

        Raises:
            KeyStoreDamaged: Missing, truncated or altered. Nothing was overwritten.
            KeyStoreForeign: Another tenant's, or no slot file.
            KeyStoreVersion: A newer format.
            WrongKey: Not the key-encryption keys of this store.
            KeyFileUnsafe: Others may read or write it.
            KeyStoreBusy: Another process has it open.
            KeyStoreFailed: The operating system refuses.
        """
        with ExitStack() as undo:
            file, record = (
                undo.enter_context(closing(FolderFile.open(name))) for name in (path, record_path(path))
            )
            store = cls(
                file,
                record,
                keks,
                tenant=tenant,
                random_bytes=random_bytes,
                now_ms=now_ms,
                discard_damaged=discard_damaged,
            )
            undo.pop_all()
        return store

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        """Count the keys."""
        return f"SlotKeys(live={len(self._live) - 1}, destroyed={len(self._destroyed)})"

    # --- DataKeys ----------------------------------------------------------------------------------------------------

    def create(self, purpose: str) -> tuple[int, bytes]:
        """A new key: its id and 32 bytes; durable when it returns.

        Raises:
            InvalidArgument: A purpose that a slot cannot hold.
            KeyStoreFailed: The disk is full (nothing has changed) or refuses (the store must be opened again), or closed.
        """
        name = checked_purpose(purpose)
        with self._lock:
            self._check_usable()
            # room for every key's destruction, and for completing it after a crash
            self._record.reserve(2 * (len(self._live) + 1))
            self._slots.need(1)
            key = self._random_bytes(KEY_BYTES)
            if len(key) != KEY_BYTES:
                raise InvalidArgument(
                    f"random_bytes({KEY_BYTES})=<{len(key)} bytes> must be as many as asked; repair the source"
                )
            key_id = self._highest + 1
            slot = self._wrapped(key_id, name, key)
            with self._failing_for_good():
                self._slots.state(recorded=self._record.length, issued=self._highest)
                place = self._write(slot)
                self._slots.sync()
            self._highest = key_id
            self._live[key_id] = place
            return key_id, key

    def get(self, key_id: int) -> bytes:
        """The key's 32 bytes.

        Raises:
            KeyDestroyed: It is gone.
            UnknownKey: It was never made here.
            KeyStoreDamaged: Its slot was altered since the store was opened.
            KeyStoreFailed: The disk refuses, or closed.
        """
        with self._lock:
            self._check_open()
            place = self._known(key_id)
            if place is None:
                gone = self._destroyed[key_id]
                raise KeyDestroyed(key_id, gone.purpose)
            plain = self._unwrapped(key_id, place)
            key = bytes(plain)
            plain[:] = bytes(len(plain))
            return key

    def destroy(self, key_ids: Iterable[int]) -> None:
        """Destroy keys: recorded, overwritten with zeros and read back when it returns. Needs no space on the disk.

        Raises:
            UnknownKey: An id that was never made here; nothing was destroyed.
            KeyStoreFailed: The disk refuses; keys whose record was durable are destroyed by the next `open`.
        """
        with self._lock:
            self._check_usable()
            chosen = sorted(set(key_ids))
            places = {key_id: place for key_id in chosen if (place := self._known(key_id)) is not None}
            if not places:
                return
            now = self._now_ms()
            with self._failing_for_good():
                self._record_gone(places, EntryKind.DESTROY, now)
                self._zero([place.slot for place in places.values()])

    def live(self, purpose: str) -> tuple[int, ...]:
        """Ids of the keys that exist for a purpose, ascending. After a crash an id may be here that nobody was told."""
        with self._lock:
            return tuple(
                sorted(
                    key_id
                    for key_id, place in self._live.items()
                    if place.purpose == purpose and key_id != CHECK_ID
                )
            )

    def purposes(self) -> tuple[str, ...]:
        """Purposes with at least one live key, sorted."""
        with self._lock:
            return tuple(
                sorted({place.purpose for key_id, place in self._live.items() if key_id != CHECK_ID})
            )

    # --- beyond DataKeys ---------------------------------------------------------------------------------------------

    def destroyed(self, key_ids: Iterable[int]) -> tuple[DestroyedKey, ...]:
        """What the record says of destroyed keys, in the order asked: the evidence of an erasure certificate.

        Raises:
            UnknownKey: A key that was not destroyed.
        """
        found = []
        with self._lock:
            for key_id in key_ids:
                gone = self._destroyed.get(key_id)
                if gone is None:
                    raise UnknownKey(f"key_id={key_id!r} must have been destroyed; destroy it first")
                found.append(gone)
        return tuple(found)

    def keks_in_use(self) -> tuple[int, ...]:
        """Versions of key-encryption keys that some key is under; a version not among them can be retired."""
        with self._lock:
            return tuple(sorted({place.kek for place in self._live.values()}))

    def rewrap(self, keks: KekRing) -> int:
        """Put every key under the current version of `keks`, which must still hold the older ones.

        Each key is copied to a free slot under the new version; once all copies are durable the old slots are zeroed.

        Returns:
            How many keys were rewrapped.

        Raises:
            WrongKey: `keks` lacks a version that some key is under; nothing has changed.
            KeyStoreFailed: As `create`.
        """
        with self._lock:
            self._check_usable()
            self._check_keks(keks)
            self._keks = keks
            return self._rewrap()

    def close(self) -> None:
        """Close the files; nothing of a key stays in this object."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._slots.close()
                self._record.close()

    # --- opening -----------------------------------------------------------------------------------------------------

    def _mend(self, found: Survey, present: int) -> None:
        """Complete what a crash, or a rewrapping under way, left behind."""
        self._record.mend()
        self._slots.take_over(found.free, present)
        left = [*found.torn, *found.spare, *found.damaged, *(one.slot for one in found.unfinished.values())]
        if left:
            self._zero(left)
        if found.unfinished or found.missing:
            now = self._now_ms()
            self._record_gone(found.unfinished, EntryKind.COMPLETED, now)
            self._record_gone(dict.fromkeys(found.missing, Place(0, "", 0)), EntryKind.DISCARDED, now)
        self._rewrap()

    def _check_keks(self, keks: KekRing) -> None:
        """Open one key of each version."""
        samples = {place.kek: (key_id, place) for key_id, place in self._live.items()}
        for version, (key_id, place) in sorted(samples.items()):
            if version not in keks.versions:
                raise WrongKey(
                    f"kek version={version!r} must be one of {keks.versions!r}; keep an old key until `rewrap` has finished"
                )
            slot = self._read_slot(key_id, place)
            try:
                plain = keks.unwrap(version, slot.wrapped, wrap_context(self._tenant, key_id, slot.purpose))
            except WrongKey as error:
                raise WrongKey(
                    f"kek version={version!r} must be the one that wrapped {self._slots.name!r}; use that tenant's keys"
                ) from error
            plain[:] = bytes(len(plain))

    # --- under the lock ----------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise KeyStoreFailed("keys=<closed> must be open; open the store again")

    def _check_usable(self) -> None:
        self._check_open()
        if self._failed:
            raise KeyStoreFailed(
                f"path={self._slots.name!r} must be whole, but a write had failed; open the store again"
            )

    def _failing_for_good(self) -> Failing:
        return Failing(self._fail)

    def _fail(self) -> None:
        self._failed = True

    def _known(self, key_id: int) -> Place | None:
        """The place of a live key, None for a destroyed one."""
        place = self._live.get(key_id)
        if (place is None and key_id not in self._destroyed) or key_id == CHECK_ID:
            raise UnknownKey(f"key_id={key_id!r} must have been created here; use an id of `live`")
        return place

    def _wrapped(self, key_id: int, purpose: str, key: bytes | bytearray) -> Slot:
        context = wrap_context(self._tenant, key_id, purpose)
        return Slot(key_id, purpose, self._keks.current, self._keks.wrap(key, context))

    def _read_slot(self, key_id: int, place: Place) -> Slot:
        slot = self._slots.read(place.slot)
        if slot is None or slot.key_id != key_id:
            raise KeyStoreDamaged(
                f"key_id={key_id!r} slot={place.slot!r} must check; somebody altered {self._slots.name!r} while it was open"
            )
        return slot

    def _unwrapped(self, key_id: int, place: Place) -> bytearray:
        slot = self._read_slot(key_id, place)
        try:
            return self._keks.unwrap(slot.kek, slot.wrapped, wrap_context(self._tenant, key_id, slot.purpose))
        except WrongKey as error:  # the keys were checked at open, so this slot was made by somebody else
            raise KeyStoreDamaged(
                f"key_id={key_id!r} slot={place.slot!r} must open under its key; somebody altered {self._slots.name!r}"
            ) from error

    def _write(self, slot: Slot) -> Place:
        return Place(self._slots.write(slot), slot.purpose, slot.kek)

    def _record_gone(self, places: dict[int, Place], kind: int, now_ms: int) -> None:
        self._record.append(Entry(kind, key_id, now_ms, place.purpose) for key_id, place in places.items())
        for key_id, place in places.items():
            self._live.pop(key_id, None)
            self._destroyed[key_id] = DestroyedKey(key_id, place.purpose, now_ms)

    def _zero(self, slots: Sequence[int]) -> None:
        self._slots.state(recorded=self._record.length, issued=self._highest)
        self._slots.zero(slots)

    def _rewrap(self) -> int:
        old = {key_id: place for key_id, place in self._live.items() if place.kek != self._keks.current}
        if not old:
            return 0
        self._slots.need(len(old))
        with self._failing_for_good():
            for key_id, place in old.items():
                plain = self._unwrapped(key_id, place)
                self._live[key_id] = self._write(self._wrapped(key_id, place.purpose, plain))
                plain[:] = bytes(len(plain))
            self._slots.sync()
            self._zero([place.slot for place in old.values()])
        return len(old)
