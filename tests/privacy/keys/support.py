"""What the key tests share: settings, a raw scan of a folder, a disk that loses power, and a key-management service."""

import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dayfly.privacy.errors import KeyStoreFailed
from dayfly.privacy.keys import KekRing, ScryptCost, SlotKeys

TENANT = bytes(range(16))
NOW_MS = 1_760_000_000_000
CHEAP = ScryptCost(n=2**14)
SECTOR = 512


def draw(seed: int) -> Callable[[int], bytes]:
    """A seeded source of bytes."""
    return random.Random(seed).randbytes


def ring(*versions: int) -> KekRing:
    """Key-encryption keys that depend on their version only."""
    return KekRing({one: random.Random(one).randbytes(32) for one in versions or (1,)}, os.urandom)


def options(**changed: Any) -> dict[str, Any]:
    """Arguments of `SlotKeys.new` and `open`."""
    return {"tenant": TENANT, "random_bytes": os.urandom, "now_ms": lambda: NOW_MS, **changed}


def new_slots(folder: Path, keks: KekRing | None = None, **changed: Any) -> SlotKeys:
    """A new store in a folder."""
    return SlotKeys.new(folder / "keys.slots", keks or ring(), **options(**changed))


def open_slots(
    folder: Path, keks: KekRing | None = None, *, discard: bool = False, **changed: Any
) -> SlotKeys:
    """The store of a folder."""
    return SlotKeys.open(folder / "keys.slots", keks or ring(), discard_damaged=discard, **options(**changed))


def wrapped_forms(slots: SlotKeys, key_ids: list[int]) -> list[bytes]:
    """The wrapped bytes of live keys, as they stand on the disk."""
    found = []
    for key_id in key_ids:
        slot = slots._slots.read(slots._live[key_id].slot)
        assert slot is not None
        found.append(slot.wrapped)
    return found


def files_holding(folder: Path, secrets: list[bytes]) -> list[str]:
    """Names of the files in which any of the byte strings, or a 16-byte half of one, occurs."""
    pieces = [piece for one in secrets for piece in (one[:16], one[-16:])]
    return sorted(
        path.name
        for path in folder.rglob("*")
        if path.is_file() and any(piece in content for content in [path.read_bytes()] for piece in pieces)
    )


class PowerFile:
    """A `RawFile` in memory that knows which writes were synced."""

    def __init__(self, name: str, content: bytes = b"") -> None:
        self.name = name
        self.durable = bytearray(content)
        self.pending: list[tuple[int, bytes]] = []
        self.syncs = 0
        self.on_step: Callable[[], None] = lambda: None

    def _current(self) -> bytearray:
        now = bytearray(self.durable)
        for offset, data in self.pending:
            _put(now, offset, data)
        return now

    def size(self) -> int:
        return len(self._current())

    def read(self, offset: int, count: int) -> bytes:
        return bytes(self._current()[offset : offset + count])

    read_from_disk = read

    def write(self, offset: int, data: bytes) -> None:
        self.on_step()
        self.pending.append((offset, bytes(data)))

    def sync(self) -> None:
        self.on_step()
        self.syncs += 1
        self.durable = self._current()
        self.pending.clear()

    def close(self) -> None:
        pass

    def after_power_loss(self, chance: random.Random) -> bytes:
        """What the device may hold: of the unsynced writes any sectors, one of them perhaps cut at a byte."""
        now = bytearray(self.durable)
        pieces = []
        for offset, data in self.pending:
            start = 0
            while start < len(data):
                size = min(SECTOR - (offset + start) % SECTOR, len(data) - start)
                pieces.append((offset + start, data[start : start + size]))
                start += size
        chance.shuffle(pieces)
        kept = pieces[: chance.randint(0, len(pieces))]
        if kept and chance.random() < 0.5:
            offset, data = kept[-1]
            kept[-1] = offset, data[: chance.randint(0, len(data))]
        for offset, data in kept:
            _put(now, offset, data)
        return bytes(now)


def _put(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset + len(data):
        content.extend(bytes(offset + len(data) - len(content)))
    content[offset : offset + len(data)] = data


class FailingFile(PowerFile):
    """A disk that refuses from a given step on."""

    def __init__(self, name: str, content: bytes = b"") -> None:
        super().__init__(name, content)
        self.refuse_writes = False
        self.full = False

    def write(self, offset: int, data: bytes) -> None:
        if self.refuse_writes or (self.full and offset + len(data) > self.size()):
            raise KeyStoreFailed(f"write={self.name!r} must succeed, but refused; repair the disk")
        super().write(offset, data)


@dataclass
class DoubleKms:
    """A key-management service inside the process: AES-GCM under a key it keeps, bound to the context."""

    key: bytes = field(default_factory=lambda: os.urandom(32), repr=False)
    error: Exception | None = None
    answer: bytes | None = None
    calls: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def _bound(self, name: str, context: Mapping[str, str]) -> bytes:
        self.calls.append((name, dict(context)))
        if self.error is not None:
            raise self.error
        return repr(sorted(context.items())).encode()

    def wrap(self, plaintext: bytes, context: Mapping[str, str]) -> bytes:
        bound = self._bound("wrap", context)
        nonce = os.urandom(12)
        return self.answer or nonce + AESGCM(self.key).encrypt(nonce, plaintext, bound)

    def unwrap(self, ciphertext: bytes, context: Mapping[str, str]) -> bytes:
        bound = self._bound("unwrap", context)
        try:
            return self.answer or AESGCM(self.key).decrypt(ciphertext[:12], ciphertext[12:], bound)
        except InvalidTag:
            raise PermissionError("denied") from None
