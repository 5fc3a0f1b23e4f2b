"""Bytes of the slot file and of the record beside it. Pure: no I/O, no keys in the clear.

::

    keys.slots      header copy A (4096) | header copy B (4096) | slot 0 (128) | slot 1 | ...
    keys.destroyed  head (64) | entry 0 (64) | entry 1 | ...         rewritten nowhere, zero-filled in front of its end

All numbers are little-endian. A slot or entry never crosses a 512-byte sector, begins and ends with a fixed byte, and
carries a BLAKE2b checksum under the tenant's id. So three cases can be told apart: all zeros (free), one end zero (a write that
the power cut off), and anything else that does not check (altered).
"""

import hashlib
import re
import struct
from dataclasses import dataclass
from typing import Final, NamedTuple

from dayfly.privacy.errors import InvalidArgument

__all__ = [
    "BLOCK_BYTES",
    "ENTRY_BYTES",
    "HEADER_COPIES",
    "SLOTS_OFFSET",
    "SLOT_BYTES",
    "STORE_BYTES",
    "TENANT_BYTES",
    "VERSION",
    "Damaged",
    "Entry",
    "EntryKind",
    "Header",
    "Slot",
    "Torn",
    "checked_purpose",
    "decode_entry",
    "decode_head",
    "decode_header",
    "decode_slot",
    "encode_entry",
    "encode_head",
    "encode_header",
    "encode_slot",
    "header_facts",
    "wrap_context",
]

VERSION: Final = 1
TENANT_BYTES: Final = 16
STORE_BYTES: Final = 8
BLOCK_BYTES: Final = 4096
HEADER_COPIES: Final = 2
SLOTS_OFFSET: Final = HEADER_COPIES * BLOCK_BYTES
SLOT_BYTES: Final = 128
ENTRY_BYTES: Final = 64
WRAPPED_BYTES: Final = 60

_MAGIC: Final = b"DFSLOTS\n"
_HEAD_MAGIC: Final = b"DFGONE\n\0"
_HEADER: Final = struct.Struct("<8sHH16s8sQQQQ")  # magic, version, slot bytes, then the fields of Header
_HEAD: Final = struct.Struct("<8sH16s8s")  # magic, version, tenant, store
_SLOT: Final = struct.Struct("<BBHIQ24s60s")  # mark, 0, 0, kek version, key id, purpose, wrapped
_ENTRY: Final = struct.Struct("<BBHIQq24s")  # mark, kind, 0, 0, key id, milliseconds, purpose
_MARK: Final = 0xA5
_CHECK_BYTES: Final = 15
_HEADER_CHECK_BYTES: Final = 32
_PURPOSE: Final = re.compile(r"[a-z][a-z0-9.-]{0,23}\Z", re.ASCII)


class EntryKind:
    """What a line of the record states."""

    VOID: Final = 0
    """Nothing: a gap that a crash left."""
    DESTROY: Final = 1
    """The key is to be destroyed, from now on irrevocably."""
    COMPLETED: Final = 2
    """A crash had interrupted the destruction; now it is done."""
    DISCARDED: Final = 3
    """Its slot was damaged and was given up on the operator's word."""


class Header(NamedTuple):
    """What both header copies state; the valid one with the higher sequence counts.

    Attributes:
        tenant: 16 bytes.
        store: 8 random bytes; they tie the record to the slots.
        sequence: Rises with each rewriting.
        capacity: Slots that the file holds at least.
        recorded: Entries that the record holds at least.
        issued: Highest id known to be durable when this was written.
    """

    tenant: bytes
    store: bytes
    sequence: int
    capacity: int
    recorded: int
    issued: int


@dataclass(frozen=True, slots=True)
class Slot:
    """A used slot.

    Attributes:
        key_id: Which key.
        purpose: What it is for.
        kek: Version of the key-encryption key.
        wrapped: 60 bytes.
    """

    key_id: int
    purpose: str
    kek: int
    wrapped: bytes


class Entry(NamedTuple):
    """A line of the record."""

    kind: int
    key_id: int
    at_ms: int
    purpose: str


class Torn:
    """A write that was cut off: one end of the unit is still zero."""


class Damaged:
    """Bytes that no write of ours leaves, whole or cut off."""


def checked_purpose(purpose: str) -> str:
    """Return a purpose that a slot can hold.

    Raises:
        InvalidArgument: Not 1 to 24 of a-z, 0-9, dot and hyphen, beginning with a letter.
    """
    if not isinstance(purpose, str) or not _PURPOSE.match(purpose):
        raise InvalidArgument(
            f"purpose={purpose!r} must be 1 to 24 of a-z, 0-9, '.' and '-', first a letter; shorten it"
        )
    return purpose


def wrap_context(tenant: bytes, key_id: int, purpose: str) -> bytes:
    """What a wrapped key is bound to. Not to its slot, because rewrapping moves it."""
    return b"dayfly data key\0" + tenant + struct.pack("<Q", key_id) + purpose.encode("ascii")


def _check(body: bytes, tenant: bytes, label: bytes, size: int = _CHECK_BYTES) -> bytes:
    return hashlib.blake2b(body, digest_size=size, salt=tenant, person=label).digest()


def _framed(body: bytes, tenant: bytes, label: bytes, size: int) -> bytes:
    padded = body.ljust(size - _CHECK_BYTES - 1, b"\0")
    return padded + _check(padded, tenant, label) + bytes([_MARK])


def _unframed(raw: bytes, tenant: bytes, label: bytes) -> bytes | Torn | Damaged | None:
    if not any(raw):
        return None
    padded, check = raw[: -_CHECK_BYTES - 1], raw[-_CHECK_BYTES - 1 : -1]
    if raw[0] == _MARK and raw[-1] == _MARK and check == _check(padded, tenant, label):
        return padded
    return Torn() if raw[0] == 0 or raw[-1] == 0 else Damaged()


def encode_slot(slot: Slot, tenant: bytes) -> bytes:
    """128 bytes."""
    body = _SLOT.pack(_MARK, 0, 0, slot.kek, slot.key_id, slot.purpose.encode("ascii"), slot.wrapped)
    return _framed(body, tenant, b"dayfly slot", SLOT_BYTES)


def decode_slot(raw: bytes, tenant: bytes) -> Slot | Torn | Damaged | None:
    """A slot, or what is wrong with it; None when it is free."""
    body = _unframed(raw, tenant, b"dayfly slot")
    if not isinstance(body, bytes):
        return body
    _, _, _, kek, key_id, purpose, wrapped = _SLOT.unpack_from(body)
    return Slot(key_id, purpose.rstrip(b"\0").decode("ascii"), kek, wrapped)


def encode_entry(entry: Entry, tenant: bytes) -> bytes:
    """64 bytes."""
    body = _ENTRY.pack(_MARK, entry.kind, 0, 0, entry.key_id, entry.at_ms, entry.purpose.encode("ascii"))
    return _framed(body, tenant, b"dayfly gone", ENTRY_BYTES)


def decode_entry(raw: bytes, tenant: bytes) -> Entry | Torn | Damaged | None:
    """A line of the record, or what is wrong with it; None when it is free."""
    body = _unframed(raw, tenant, b"dayfly gone")
    if not isinstance(body, bytes):
        return body
    _, kind, _, _, key_id, at_ms, purpose = _ENTRY.unpack_from(body)
    return Entry(kind, key_id, at_ms, purpose.rstrip(b"\0").decode("ascii"))


def encode_header(header: Header) -> bytes:
    """4096 bytes."""
    body = _HEADER.pack(_MAGIC, VERSION, SLOT_BYTES, *header)
    check = _check(body, header.tenant, b"dayfly head", _HEADER_CHECK_BYTES)
    return (body + check).ljust(BLOCK_BYTES, b"\0")


def header_facts(raw: bytes) -> tuple[bool, int]:
    """Whether the block begins as ours, and which version it states; read before anything else is believed."""
    if len(raw) < _HEADER.size:
        return False, 0
    magic, version, *_ = _HEADER.unpack_from(raw)
    return magic == _MAGIC, version


def decode_header(raw: bytes) -> Header | None:
    """A header copy, or None where it does not check. It checks itself under the tenant that it names."""
    if len(raw) != BLOCK_BYTES:
        return None
    magic, version, slot_bytes, *fields = _HEADER.unpack_from(raw)
    header = Header(*fields)
    check = raw[_HEADER.size : _HEADER.size + _HEADER_CHECK_BYTES]
    if (magic, version, slot_bytes) != (_MAGIC, VERSION, SLOT_BYTES):
        return None
    if check != _check(raw[: _HEADER.size], header.tenant, b"dayfly head", _HEADER_CHECK_BYTES):
        return None
    return header


def encode_head(tenant: bytes, store: bytes) -> bytes:
    """The first 64 bytes of the record."""
    body = _HEAD.pack(_HEAD_MAGIC, VERSION, tenant, store)
    return (body + _check(body, tenant, b"dayfly gone head")).ljust(ENTRY_BYTES, b"\0")


def decode_head(raw: bytes) -> tuple[bytes, bytes] | None:
    """Tenant and store that the record's head names, or None where it does not check."""
    if len(raw) != ENTRY_BYTES:
        return None
    magic, version, tenant, store = _HEAD.unpack_from(raw)
    check = raw[_HEAD.size : _HEAD.size + _CHECK_BYTES]
    if (magic, version) != (_HEAD_MAGIC, VERSION):
        return None
    if check != _check(raw[: _HEAD.size], tenant, b"dayfly gone head"):
        return None
    return tenant, store
