"""The lineage block: what stands behind the fields of one fragment, in about 240 bytes.

A block travels inside the order, its SHA-256 in the fragment (claim ``lin``). What is the same for every fragment of one
trigger version (rule texts, field names, masking, channel names) stands once in a `LineageShape`; the block names it by digest.
Values of fields are in neither, so lineage is not a second copy of the profile.

Format 1, all integers unsigned LEB128 of minimal length ("uvarint", below 2**64) unless said otherwise::

    1 byte    format version, 0x01
    16 bytes  shape digest
    uvarint   as_of_ms, the instant of the decision, milliseconds UTC
    uvarint   number of consents (at most 16), then for each:
      uvarint   length << 2 | form of the record id; form 0: UTF-8 text; 1: lower-case hexadecimal text packed two digits a
                byte; 2: lower-case UUID text packed to its 16 bytes; 3: a lower-case letter and a colon before
                hexadecimal text, packed as the letter and then as form 1; the highest form that fits must be used
      bytes     record id in that form
      uvarint   record version
      uvarint   as_of_ms - valid_from_ms
      uvarint   valid_until_ms - as_of_ms, at least 1
    uvarint   number of events (at most 64), newest first, equal times by ascending digest, then for each:
      16 bytes  keyed digest of the event's original bytes
      uvarint   channel, index into the shape's channels
      uvarint   the previous event's time_ms (the first: as_of_ms) - time_ms
      uvarint   0 when the time of receipt is unknown, else 1 + zigzag(received_ms - time_ms)
    uvarint   mask of the shape's fields that the fragment carries, bit i for field i (at most 63 fields), then for each:
      bytes     ceil(events / 8) bytes, little-endian mask of the events that the field rests on
      uvarint   number of contributing events that are not listed

Nothing follows. Equal blocks have equal bytes, and `decode` accepts no other bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from dayfly.engine.errors import LineageError

from .record_ids import pack_id, unpack_id

__all__ = [
    "BLOCK_VERSION",
    "MAX_CONSENTS",
    "MAX_EVENTS",
    "MAX_FIELDS",
    "ConsentUse",
    "Covered",
    "FieldLineage",
    "LineageBlock",
    "SourceEvent",
    "covered",
    "decode",
    "encode",
    "encode_sorted",
]

BLOCK_VERSION: Final = 1
DIGEST_BYTES: Final = 16
MAX_CONSENTS: Final = 16
MAX_EVENTS: Final = 64
MAX_FIELDS: Final = 63
MAX_CHANNELS: Final = 1 << 16
MAX_RECORD_ID_BYTES: Final = 255
_LIMIT: Final = 1 << 64


@dataclass(frozen=True, slots=True)
class ConsentUse:
    """A consent record that allowed the fragment; validity is half-open, milliseconds UTC."""

    record_id: str
    version: int
    valid_from_ms: int
    valid_until_ms: int


@dataclass(frozen=True, slots=True)
class SourceEvent:
    """An event that a field rests on.

    Attributes:
        digest: 16-byte keyed hash of the original bytes (`EventBatch.digest`), never an id from outside.
        channel: Index into `LineageShape.channels`.
        time_ms: When it happened, UTC.
        received_ms: When intake took it, UTC, or None when the state that fired no longer knows.
    """

    digest: bytes
    channel: int
    time_ms: int
    received_ms: int | None = None


@dataclass(frozen=True, slots=True)
class FieldLineage:
    """What one field rests on.

    Attributes:
        field: Index into `LineageShape.fields`.
        events: Mask over `LineageBlock.events`, bit i for event i.
        total: Number of contributing events, at least those in `events`; 0 for a rule about absence.
    """

    field: int
    events: int
    total: int


@dataclass(frozen=True, slots=True)
class LineageBlock:
    """Lineage of one fragment: the shape it follows and, per value, consents and events."""

    shape: bytes
    as_of_ms: int
    consents: tuple[ConsentUse, ...]
    events: tuple[SourceEvent, ...]
    fields: tuple[FieldLineage, ...]


def encode(block: LineageBlock) -> bytes:
    """Canonical bytes of `block`.

    Raises:
        LineageError: a part is out of its range, a consent does not hold at `as_of_ms`, or parts are not in canonical order.
    """
    out = bytearray((BLOCK_VERSION,))
    out += _digest("shape", block.shape)
    _put(out, "as_of_ms", block.as_of_ms)
    _put(out, "consents", len(block.consents), below=MAX_CONSENTS + 1)
    for consent in block.consents:
        _put_consent(out, consent, block.as_of_ms)
    _put(out, "events", len(block.events), below=MAX_EVENTS + 1)
    previous = (-block.as_of_ms, b"")
    for event in block.events:
        place = (-event.time_ms, event.digest)
        if place <= previous and previous[1]:
            raise LineageError(
                f"time_ms={event.time_ms} must follow newest first, equal times by digest, each event once; use make_block"
            )
        _put_event(out, event, -previous[0])
        previous = place
    _put_fields(out, block)
    return bytes(out)


def encode_sorted(
    shape: bytes,
    as_of_ms: int,
    consent: ConsentUse,
    events: Sequence[tuple[int, bytes, int]],
    fields: Sequence[tuple[int, int, int]],
) -> bytes:
    """`encode` of a block whose parts are in canonical order already.

    Args:
        shape: Digest of the shape, 16 bytes.
        as_of_ms: Instant of the decision.
        consent: The one consent record.
        events: Minus the time, digest of 16 bytes, and channel of each; rising, so newest first.
        fields: Index, mask over `events`, and total of each; rising.

    Raises:
        LineageError: A number is out of its range.
    """
    out = bytearray((BLOCK_VERSION,))
    out += shape
    _put(out, "as_of_ms", as_of_ms)
    out.append(1)
    _put_consent(out, consent, as_of_ms)
    _put(out, "events", len(events), below=MAX_EVENTS + 1)
    before = -as_of_ms
    for minus_time, digest, channel in events:
        out += digest
        _put_small(out, "channel", channel, MAX_CHANNELS)
        _put_small(out, "age of the event", minus_time - before, _LIMIT)
        out.append(0)
        before = minus_time
    _put(out, "fields", sum([1 << index for index, _, _ in fields]), below=1 << MAX_FIELDS)
    width = (len(events) + 7) // 8
    for _, mask, total in fields:
        if width:
            out += mask.to_bytes(width, "little")
        _put_small(out, "total - listed", total - mask.bit_count(), _LIMIT)
    return bytes(out)


def _put_small(out: bytearray, name: str, value: int, below: int) -> None:
    """`_put` of what is mostly one to three bytes."""
    if 0 <= value < 0x80:
        out.append(value)
    else:
        _put(out, name, value, below=below)


def _put_consent(out: bytearray, consent: ConsentUse, as_of_ms: int) -> None:
    form, packed = pack_id(consent.record_id)
    _put(out, "record_id length", len(packed), below=MAX_RECORD_ID_BYTES + 1, shift=2, low=form)
    out += packed
    _put(out, "version", consent.version)
    _put(out, "as_of_ms - valid_from_ms", as_of_ms - consent.valid_from_ms)
    if consent.valid_until_ms <= as_of_ms:
        raise LineageError(
            f"valid_until_ms={consent.valid_until_ms} must be after as_of_ms={as_of_ms}; list only consents that hold"
        )
    _put(out, "valid_until_ms - as_of_ms", consent.valid_until_ms - as_of_ms)


def _put_event(out: bytearray, event: SourceEvent, before_ms: int) -> None:
    out += _digest("event digest", event.digest)
    _put(out, "channel", event.channel, below=MAX_CHANNELS)
    _put(out, "age of the event", before_ms - event.time_ms)
    if event.received_ms is None:
        out.append(0)
    else:
        delay = event.received_ms - event.time_ms
        _put(out, "1 + zigzag(delay)", 1 + (delay << 1 if delay >= 0 else (-delay << 1) - 1))


def _put_fields(out: bytearray, block: LineageBlock) -> None:
    present, last = 0, -1
    for entry in block.fields:
        if not last < entry.field < MAX_FIELDS:
            raise LineageError(
                f"field={entry.field} must rise from the one before ({last}) and be below {MAX_FIELDS}; sort the fields"
            )
        last = entry.field
        present |= 1 << entry.field
    _put(out, "fields", present)
    width = (len(block.events) + 7) // 8
    for entry in block.fields:
        if not 0 <= entry.events < 1 << len(block.events):
            raise LineageError(
                f"events={entry.events:#x} must be a mask over {len(block.events)} events; clear other bits"
            )
        out += entry.events.to_bytes(width, "little")
        _put(out, "total - listed", entry.total - entry.events.bit_count())


def _put(out: bytearray, name: str, value: int, *, below: int = _LIMIT, shift: int = 0, low: int = 0) -> None:
    if not 0 <= value < below:
        raise LineageError(f"{name}={value} must lie in [0, {below}); correct the block")
    value = value << shift | low
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _digest(name: str, value: bytes) -> bytes:
    if len(value) != DIGEST_BYTES:
        raise LineageError(
            f"{name}={value.hex()} must have {DIGEST_BYTES} bytes; pass the keyed digest whole"
        )
    return value


class Covered(NamedTuple):
    """What a block says about itself, without its events: enough to check it against an order.

    Attributes:
        shape: Digest of the shape.
        consents: Record id and version of each consent.
        fields: Indexes of the fields, rising.
        channels: One more than the highest channel of an event.
    """

    shape: bytes
    consents: list[tuple[str, int]]
    fields: list[int]
    channels: int


def decode(encoded: bytes) -> LineageBlock:
    """The block that `encode` gives `encoded` for.

    Raises:
        LineageError: another version, truncated, trailing bytes, or any form but the canonical one.
    """
    as_of_ms, consents, events, fields = _parse(encoded)
    return LineageBlock(
        encoded[1 : 1 + DIGEST_BYTES],
        as_of_ms,
        tuple([ConsentUse(*consent) for consent in consents]),
        tuple([SourceEvent(digest, channel, -age, received) for age, digest, channel, received in events]),
        tuple([FieldLineage(*field) for field in fields]),
    )


def covered(encoded: bytes) -> Covered:
    """What `decode` would find, for a tenth of its objects. Raises as `decode`."""
    _, consents, events, fields = _parse(encoded)
    return Covered(
        encoded[1 : 1 + DIGEST_BYTES],
        [consent[:2] for consent in consents],
        [field[0] for field in fields],
        max([event[2] for event in events], default=-1) + 1,
    )


_Consent = tuple[str, int, int, int]
_Event = tuple[
    int, bytes, int, int | None
]  # minus time, digest, channel, received: tuples sort as events stand
_Field = tuple[int, int, int]


def _parse(encoded: bytes) -> tuple[int, list[_Consent], list[_Event], list[_Field]]:
    """Read a block and refuse every form but the one that `encode` writes."""
    if not encoded or encoded[0] != BLOCK_VERSION:
        found = encoded[0] if encoded else "nothing"
        raise LineageError(
            f"block version={found} must be {BLOCK_VERSION}; read it with the release that wrote it"
        )
    try:
        as_of_ms, at = _get(encoded, 1 + DIGEST_BYTES)
        consents, at = _get_consents(encoded, at, as_of_ms)
        events, at = _get_events(encoded, at, as_of_ms)
        fields, at = _get_fields(encoded, at, len(events))
    except (IndexError, UnicodeDecodeError) as error:
        raise LineageError(
            f"block of {len(encoded)} bytes must be whole; it is truncated or damaged"
        ) from error
    if at != len(encoded):
        raise LineageError(f"block of {len(encoded)} bytes must end at byte {at}; remove what follows")
    return as_of_ms, consents, events, fields


def _odd() -> LineageError:
    return LineageError("block must be in canonical form; it was not written by encode")


def _get_consents(data: bytes, at: int, as_of_ms: int) -> tuple[list[_Consent], int]:
    count, at = _get(data, at)
    consents: list[_Consent] = []
    for _ in range(_bounded("consents", count, MAX_CONSENTS)):
        head, at = _get(data, at)
        form, length = head & 3, _bounded("record_id length", head >> 2, MAX_RECORD_ID_BYTES)
        packed, at = data[at : at + length], at + length
        if (form == 2 and length != DIGEST_BYTES) or (form == 3 and length < 2):
            raise LineageError(f"record id of {length} bytes must be of form={form}; the block is damaged")
        version, at = _get(data, at)
        since, at = _get(data, at)
        left, at = _get(data, at)
        record_id = unpack_id(form, packed)
        if left == 0 or pack_id(record_id) != (form, packed):
            raise _odd()
        consents.append((record_id, version, as_of_ms - since, as_of_ms + left))
    return consents, at


def _get_events(data: bytes, at: int, as_of_ms: int) -> tuple[list[_Event], int]:
    count, at = _get(data, at)
    events: list[_Event] = []
    time_ms, before = as_of_ms, b""
    for _ in range(_bounded("events", count, MAX_EVENTS)):
        start = at
        at += DIGEST_BYTES
        digest = data[start:at]
        channel, at = (
            data[at],
            at + 1,
        )  # most integers are one byte, and a call for each is half of what a block costs
        if channel > 0x7F:
            channel, at = _get(data, at - 1)
        age, at = data[at], at + 1
        if age > 0x7F:
            age, at = _get(data, at - 1)
        delay, at = data[at], at + 1
        if delay > 0x7F:
            delay, at = _get(data, at - 1)
        if channel >= MAX_CHANNELS or (age == 0 and digest <= before):
            raise _odd()
        time_ms, before = time_ms - age, digest
        events.append((-time_ms, digest, channel, time_ms + _unzigzag(delay - 1) if delay else None))
    return events, at


def _get_fields(data: bytes, at: int, events: int) -> tuple[list[_Field], int]:
    present, at = _get(data, at)
    width = (events + 7) // 8
    fields: list[_Field] = []
    index = 0
    if present >> MAX_FIELDS:
        raise _odd()
    while present:
        if present & 1:
            mask, at = int.from_bytes(data[at : at + width], "little"), at + width
            more, at = data[at], at + 1
            if more > 0x7F:
                more, at = _get(data, at - 1)
            if mask >> events:
                raise _odd()
            fields.append((index, mask, mask.bit_count() + more))
        present >>= 1
        index += 1
    return fields, at


def _get(data: bytes, at: int) -> tuple[int, int]:
    byte = data[at]
    if byte < 0x80:  # most integers of a block are one byte
        return byte, at + 1
    value, shift = byte & 0x7F, 7
    while True:
        at += 1
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0:
                raise _odd()
            if value >= _LIMIT:
                raise LineageError(f"integer={value} must lie in [0, {_LIMIT}); the block is damaged")
            return value, at + 1
        shift += 7
        if shift > 63:
            raise LineageError(f"integer at byte {at} must be below 2**64; the block is damaged")


def _unzigzag(value: int) -> int:
    return value >> 1 if not value & 1 else -(value + 1 >> 1)


def _bounded(name: str, value: int, most: int) -> int:
    if value > most:
        raise LineageError(f"{name}={value} must be at most {most}; the block is damaged")
    return value
