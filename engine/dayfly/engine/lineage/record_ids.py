"""Short forms of consent record ids: digests and UUIDs are common ids and halve in size."""

from collections.abc import Callable
from typing import Final
from uuid import UUID

from dayfly.engine.errors import LineageError

__all__ = ["pack_id", "unpack_id"]

UUID_BYTES: Final = 16


def pack_id(record_id: str) -> tuple[int, bytes]:
    """Form (0 to 3, as `dayfly.engine.lineage.block` lists them) and bytes of a record id.

    Raises:
        LineageError: not valid Unicode.
    """
    if len(record_id) == 36 and record_id.count("-") == 4:
        try:
            packed = UUID(record_id)
        except ValueError:
            pass
        else:
            if str(packed) == record_id:
                return 2, packed.bytes
    if _is_hex(record_id):
        return 1, bytes.fromhex(record_id)
    if record_id[1:2] == ":" and "a" <= record_id[0] <= "z" and _is_hex(record_id[2:]):
        return 3, record_id[0].encode() + bytes.fromhex(record_id[2:])
    try:
        text = record_id.encode()
    except UnicodeEncodeError as error:
        raise LineageError(
            f"record_id={record_id!r} must be valid Unicode; correct the consent record"
        ) from error
    return 0, text


_HEX: Final = frozenset("0123456789abcdef")


def _is_hex(text: str) -> bool:
    return bool(text) and not len(text) % 2 and not set(text) - _HEX


_UNPACK_ID: Final[tuple[Callable[[bytes], str], ...]] = (
    bytes.decode,
    bytes.hex,
    lambda packed: str(UUID(bytes=packed)) if len(packed) == UUID_BYTES else "",
    lambda packed: f"{packed[:1].decode()}:{packed[1:].hex()}",
)


def unpack_id(form: int, packed: bytes) -> str:
    """The record id that `pack_id` gives this form and these bytes for.

    Raises:
        UnicodeDecodeError: text or letter that is none; the caller checks lengths.
    """
    return _UNPACK_ID[form](packed)
