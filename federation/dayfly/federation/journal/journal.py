"""A run's journal on disk: what was decided by chance or by others, kept until the run ends.

Claim: an entry that `append` returned for is handed back by every later opening, in order and unchanged, whenever the process is
killed; one that it did not return for is handed back whole or not at all. One process writes. Without the key nothing can be read,
and after `end` nothing at all.
Precondition: the disk keeps what it was told to sync; the secret is that of the node (`journal_secret`).
Argument: entries are frames of the engine's log (`dayfly.engine.store`), whose torn tail is cut on opening and which is synced before
`append` returns. A long entry is several frames, each but the last marked as having more to come; opening writes a mark of its own, so
that what a crash left of an entry is never continued by another. A journal is made under another name and renamed when it can be
opened, and renamed again before it is destroyed, so a crash leaves a journal, or something that `sweep` removes.
Key material in it (roots of masks, noise) lies under AES-256-GCM; its data keys are wrapped by a key derived from the node's
private key, and overwritten at the end of the run before the files are removed (`dayfly.privacy.keys.SlotKeys`).
Not claimed: that a copy of the folder made during the run (a backup) is destroyed with it.
Source: Dunlap et al., ReVirt, OSDI 2002 (recording what is not deterministic, and running again).
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from dayfly.engine.store import LOCAL_DISK, Log, LogSettings, StoreLock
from dayfly.federation.errors import JournalDiverged
from dayfly.privacy.keys import KekRing, SlotKeys

__all__ = ["Journal", "JournalHead", "journal_secret", "sweep"]

_SETTINGS: Final = LogSettings(segment_bytes=4 << 20, spare_segments=0)
_OPENED: Final = 0
_HEAD: Final = 1
_MORE: Final = 0x80
_SECRET_BYTES: Final = 32
_TENANT: Final = b"dayfly federatn\x01"
_NEW, _ENDED = ".new", ".ended"

RandomBytes = Callable[[int], bytes]
Clock = Callable[[], int]


class JournalHead(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Whose journal it is; another's is not opened.

    Attributes:
        run: 16 to 64 random bytes.
        party: The channel's name, or the server's.
        protocol: What is run.
        terms: What it is run with, encoded; the same when it is opened again.
    """

    run: bytes
    party: str
    protocol: str
    terms: bytes


def journal_secret(private_key: bytes) -> bytes:
    """32 bytes under which a node's journals are sealed, from its private key (HKDF-SHA256, RFC 5869)."""
    return HKDF(hashes.SHA256(), _SECRET_BYTES, None, b"dayfly federation v1 journal").derive(private_key)


class Journal:
    """One run's entries of one process. Made by `Journal.open`."""

    def __init__(self, folder: Path, log: Log, keys: SlotKeys, lock: StoreLock, head: JournalHead) -> None:
        self._folder: Final = folder
        self._log: Final = log
        self._keys: Final = keys
        self._lock: Final = lock
        self._found: Final = log.durable
        self.head: Final = head

    @classmethod
    def open(
        cls, folder: Path, head: JournalHead, *, secret: bytes, random_bytes: RandomBytes, now_ms: Clock
    ) -> Self:
        """Open a run's journal, made if absent.

        Args:
            folder: Of this journal alone.
            head: Whose it is.
            secret: 32 bytes, of `journal_secret`.
            random_bytes: For keys and nonces.
            now_ms: Clock of the record of destroyed keys.

        Raises:
            JournalDiverged: it is that of another run, party or protocol, or was made with other settings.
            StoreLocked: another process has it open.
            StoreError, KeyStoreError: it cannot be read, or not with this secret.
        """
        keks = KekRing({1: secret}, random_bytes)
        if not folder.exists():
            _make(folder, head, keks, random_bytes=random_bytes, now_ms=now_ms)
        opened = cls._opened(folder, head, keks, random_bytes=random_bytes, now_ms=now_ms)
        try:
            opened.insist()
            opened.append(_OPENED, b"")
        except BaseException:
            opened.close()
            raise
        return opened

    @classmethod
    def _opened(
        cls, folder: Path, head: JournalHead, keks: KekRing, *, random_bytes: RandomBytes, now_ms: Clock
    ) -> Self:
        lock = StoreLock.acquire(folder, started_ms=now_ms())
        try:
            keys = SlotKeys.open(
                folder / "keys.slots", keks, tenant=_TENANT, random_bytes=random_bytes, now_ms=now_ms
            )
            try:
                log = Log.open(
                    folder / "log", keys, tenant=_TENANT, settings=_SETTINGS, random_bytes=random_bytes
                )
            except BaseException:
                keys.close()
                raise
        except BaseException:
            lock.release()
            raise
        return cls(folder, log, keys, lock, head)

    def entries(self) -> Iterator[tuple[int, bytes]]:
        """Kind and content of everything that was there when it was opened, in order."""
        parts: list[bytes] = []
        for frame in self._log.frames(0):
            if frame.position > self._found:
                return
            if frame.kind in (_OPENED, _HEAD):
                parts = []
            elif frame.kind & _MORE:
                parts.append(frame.payload)
            else:
                yield frame.kind, b"".join((*parts, frame.payload))
                parts = []

    def append(self, kind: int, content: bytes) -> None:
        """Add an entry; it is durable when this returns.

        Args:
            kind: 2 to 127.
            content: Of any length.

        Raises:
            StoreError: it cannot be written.
        """
        size = _SETTINGS.max_payload_bytes
        view = memoryview(content)
        cuts = range(0, len(content), size) or range(1)
        frames = [
            (kind | (_MORE if start + size < len(content) else 0), bytes(view[start : start + size]))
            for start in cuts
        ]
        position = [self._log.append_all([frame]) for frame in frames][-1]
        self._log.wait(position)

    def close(self) -> None:
        """Let go of it; it can be opened again."""
        self._log.close()
        self._keys.close()
        self._lock.release()

    def end(self) -> None:
        """Destroy it: its keys first, then its files. The run is over."""
        ended = self._folder.with_name(self._folder.name + _ENDED)
        self._log.close()
        self._folder.rename(ended)
        LOCAL_DISK.sync_folder(ended.parent)
        for purpose in self._keys.purposes():
            self._keys.destroy(self._keys.live(purpose))
        self._keys.close()
        self._lock.release()
        shutil.rmtree(ended)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def insist(self) -> None:
        """The first frame says whose it is.

        Raises:
            JournalDiverged: it is another's.
        """
        first = next(self._log.frames(0))
        found = msgspec.msgpack.decode(first.payload, type=JournalHead)
        if found != self.head:
            differing = [
                name
                for name in JournalHead.__struct_fields__
                if getattr(found, name) != getattr(self.head, name)
            ]
            raise JournalDiverged(
                f"folder={self._folder.name!r} must be the journal of this run, but differs in {differing}; run with the"
                " settings that the run began with, or end it first"
            )


def sweep(folder: Path) -> int:
    """Remove what crashes left of journals that were being made or destroyed; returns how many.

    Their data keys were never used, or are of a run that has ended: the wrapped keys go with the files.
    """
    left = [path for end in (_NEW, _ENDED) for path in sorted(folder.glob(f"*{end}")) if path.is_dir()]
    for path in left:
        slots = path / "keys.slots"
        with suppress(FileNotFoundError), slots.open("r+b") as file:
            size = slots.stat().st_size
            file.write(bytes(size))
            file.flush()
            os.fsync(file.fileno())
        shutil.rmtree(path)
    return len(left)


def _make(
    folder: Path, head: JournalHead, keks: KekRing, *, random_bytes: RandomBytes, now_ms: Clock
) -> None:
    """A journal that holds its head alone, complete when it has its name."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = folder.with_name(f"{folder.name}-{random_bytes(8).hex()}{_NEW}")
    made.mkdir(mode=0o700)
    with (
        SlotKeys.new(
            made / "keys.slots", keks, tenant=_TENANT, random_bytes=random_bytes, now_ms=now_ms
        ) as keys,
        Log.open(made / "log", keys, tenant=_TENANT, settings=_SETTINGS, random_bytes=random_bytes) as log,
    ):
        log.wait(log.append(_HEAD, msgspec.msgpack.encode(head)))
    made.rename(folder)
    LOCAL_DISK.sync_folder(folder.parent)
