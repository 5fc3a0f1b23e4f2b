"""Periods of a lineage vault: each with its own data key, and for each record a secret that can be overwritten in place.

The key of a record is BLAKE2b of its secret under the key of its period. So a record becomes unreadable in every copy of the
database when either is destroyed: the period's key when retention ends, the record's 16 bytes when its person is erased.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dayfly.engine.errors import LineageError
from dayfly.privacy.errors import DayflyError, KeyDestroyed
from dayfly.privacy.keys import DataKeys

__all__ = ["PURPOSE", "Period", "Sealer", "Secrets", "key_check"]

PURPOSE: Final = "lineage"
SECRET_BYTES: Final = 16
_MAGIC: Final = b"DFLSEC1\r\n".ljust(16, b"\0")
_HEAD_BYTES: Final = 32
_NONCE: Final = bytes(12)  # every record has a key of its own, used once
_AHEAD_BYTES: Final = 1 << 16
_NO_SECRET: Final = bytes(SECRET_BYTES)


@dataclass(slots=True)
class Period:
    """What is known of one period.

    Attributes:
        serial: Its number in the file, rising.
        period: Milliseconds since 1970 over the length of a period.
        key_id: Its data key.
        key_check: Tells that the right key was given.
        next: Number of the next record.
        written: Records below it are in the file.
        indexed: Records below it are in runs.
        alive: Fragments kept.
        recent: Names of the records from `indexed` on.
        key: The data key once it was needed.
    """

    serial: int
    period: int
    key_id: int
    key_check: bytes
    next: int = 0
    written: int = 0
    indexed: int = 0
    alive: int = 0
    recent: dict[bytes, list[int]] = field(default_factory=dict)
    key: bytes = field(default=b"", repr=False)

    def load(self, keys: DataKeys, vault: bytes) -> bytes:
        """The data key.

        Raises:
            KeyDestroyed: The period has ended.
            LineageError: It is not the one that the period was made with, or there never was one.
        """
        if not self.key:
            try:
                key = keys.get(self.key_id)
            except KeyDestroyed:
                raise
            except DayflyError as error:
                raise LineageError(
                    f"key_id={self.key_id} of period {self.period} must be a live key of this store: {error}"
                ) from error
            if key_check(key, vault) != self.key_check:
                raise LineageError(
                    f"key_id={self.key_id} must be the key that period {self.period} was made with; open it with its own keys"
                )
            self.key = key
        return self.key

    def name(self, kind: bytes, value: bytes) -> bytes:
        """Eight bytes under which a record is found; they tell nothing without the period's key."""
        return hashlib.blake2b(kind + value, key=self.key, digest_size=8, person=b"dayfly-lineage-n").digest()


def key_check(key: bytes, vault: bytes) -> bytes:
    """Eight bytes that tell one key from another."""
    return hashlib.blake2b(vault, key=key, digest_size=8, person=b"dayfly-lineage-c").digest()


class Secrets:
    """One file of secrets per period, overwritten in place, never in a backup.

    Args:
        folder: Made if absent.
        vault: 16 bytes that the files carry.
    """

    def __init__(self, folder: Path, vault: bytes) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self._folder, self._head = folder, _MAGIC + vault

    def write(self, serial: int, first: int, secrets: bytes) -> None:
        """Write the secrets of records from `first` on; durable when this returns."""
        file = self._open(serial, os.O_RDWR | os.O_CREAT)
        start = _HEAD_BYTES + SECRET_BYTES * first
        end = start + len(secrets)
        try:
            if (
                end > os.fstat(file).st_size
            ):  # into zeros that are there already it is made durable without the journal
                _write(file, bytes(_AHEAD_BYTES), end)
            _write(file, secrets, start)
            os.fdatasync(file)
        finally:
            os.close(file)

    def destroy(self, serial: int, numbers: Sequence[int]) -> None:
        """Overwrite the secrets of records with zeros; durable when this returns."""
        file = self._open(serial, os.O_RDWR)
        try:
            for number in numbers:
                _write(file, _NO_SECRET, _HEAD_BYTES + SECRET_BYTES * number)
            os.fdatasync(file)
        finally:
            os.close(file)

    def read(self, serial: int, number: int) -> bytes | None:
        """The secret of a record, or None when it was destroyed."""
        file = self._open(serial, os.O_RDONLY)
        try:
            secret = os.pread(file, SECRET_BYTES, _HEAD_BYTES + SECRET_BYTES * number)
        finally:
            os.close(file)
        if len(secret) < SECRET_BYTES:
            raise LineageError(
                f"secrets of period {serial} must reach record {number}; the file was cut off, restore it from a copy"
            )
        return None if secret == _NO_SECRET else secret

    def drop(self, serial: int) -> None:
        """Remove the file of a period."""
        self._path(serial).unlink(missing_ok=True)

    def _path(self, serial: int) -> Path:
        return self._folder / f"{serial:08d}"

    def _open(self, serial: int, flags: int) -> int:
        path = self._path(serial)
        try:
            file = os.open(path, flags | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            raise LineageError(
                f"secrets={path.name!r} must exist; without it the period cannot be read, restore it from a copy"
            ) from None
        head = os.pread(file, _HEAD_BYTES, 0)
        if head == self._head:
            return file
        if not (
            flags & os.O_CREAT and self._head.startswith(head)
        ):  # a crash may have cut the head of a new file
            os.close(file)
            raise LineageError(f"secrets={path.name!r} must belong to this vault; put its own file back")
        _write(file, self._head, 0)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return file


def _write(file: int, data: bytes, start: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, start)
        view, start = view[written:], start + written


class Sealer:
    """Encrypts records and shapes of one vault.

    Args:
        vault: 16 bytes bound into every ciphertext, so that records of another file do not open.
        random_bytes: For nonces of what has no key of its own.
    """

    def __init__(self, vault: bytes, random_bytes: Callable[[int], bytes]) -> None:
        self._vault, self._random_bytes = vault, random_bytes

    def seal(self, key: bytes, secret: bytes, record: int, payload: bytes) -> bytes:
        """Ciphertext of record `record` (serial and number in one integer)."""
        return _record_key(key, secret).encrypt(_NONCE, payload, self._vault + record.to_bytes(8, "big"))

    def open(self, key: bytes, secret: bytes, record: int, sealed: bytes) -> bytes:
        """The payload of a record.

        Raises:
            LineageError: It was altered, or belongs elsewhere.
        """
        try:
            return _record_key(key, secret).decrypt(_NONCE, sealed, self._vault + record.to_bytes(8, "big"))
        except InvalidTag:
            raise LineageError(
                f"record={record} must open under its key; it was altered, restore the vault from a copy"
            ) from None

    def seal_shape(self, key: bytes, content: bytes) -> bytes:
        """Ciphertext of a shape."""
        nonce = self._random_bytes(12)
        return nonce + AESGCM(key).encrypt(nonce, content, self._vault)

    def open_shape(self, key: bytes, sealed: bytes) -> bytes:
        """Content of a shape.

        Raises:
            LineageError: It was altered.
        """
        try:
            return AESGCM(key).decrypt(sealed[:12], sealed[12:], self._vault)
        except (InvalidTag, ValueError):
            raise LineageError(
                "shape must open under its key; it was altered, restore the vault from a copy"
            ) from None


def _record_key(key: bytes, secret: bytes) -> AESGCM:
    return AESGCM(hashlib.blake2b(secret, key=key, digest_size=32, person=b"dayfly-lineage-r").digest())
