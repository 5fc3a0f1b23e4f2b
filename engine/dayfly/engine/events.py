"""Events at rest: `Event`, one de-identified event as a value, and `EventBatch`, many of them in columns.

Intake fills batches, the shard's kernels read them. Strings travel as slices of one buffer, numbers as int64 millionths,
booleans as 0 or 1, times as int64 milliseconds, absent values as `NULL`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from dayfly.engine.catalog import NULL, Catalog, FieldType, from_micro, to_micro
from dayfly.engine.errors import ValueOutOfRange

__all__ = [
    "LENGTH_BITS",
    "MAX_STRING_BYTES",
    "Event",
    "EventBatch",
    "ObservedConsent",
    "Value",
    "pack_string",
    "unpack_string",
]

LENGTH_BITS: Final = 20
"""Low bits of a packed string that hold its length in bytes; the rest is its offset in the batch's buffer."""

MAX_STRING_BYTES: Final = (1 << LENGTH_BITS) - 1

Value: TypeAlias = str | int | float | Decimal | bool | None
"""A property value before packing: text, a number, a boolean, a time as int milliseconds, or absent."""


def pack_string(offset: int, length: int) -> int:
    """One int64 for a slice of `EventBatch.strings`."""
    return offset << LENGTH_BITS | length


def unpack_string(packed: int) -> tuple[int, int]:
    """Offset and length of a packed string."""
    return packed >> LENGTH_BITS, packed & MAX_STRING_BYTES


@dataclass(frozen=True, slots=True)
class ObservedConsent:
    """A consent object that travelled inside an event, not yet interpreted.

    Attributes:
        form: Where it stood: Segment's ``context.consent``, RudderStack's ``context.consentManagement``, or an IAB TC
            string (kept as evidence, never a grant).
        content: The parsed JSON value, whatever it was.
        digest: Eight bytes of BLAKE2b over form and original bytes, as an unsigned integer; equal objects have equal digests.
    """

    form: Literal["segment", "rudderstack", "tcf"]
    content: object
    digest: int


@dataclass(frozen=True, slots=True)
class Event:
    """One checked, de-identified event.

    Attributes:
        event_id: 16 bytes: keyed hash of source and message id; equal ids are duplicates.
        channel: Name of a declared channel.
        subject: 16-byte pseudonym of the person or device.
        type: Event type name.
        time_ms: When it happened, UTC.
        received_ms: When intake took it, UTC.
        properties: Declared fields, already masked.
        digest: 16-byte keyed hash of the original bytes, for lineage.
        link: 16-byte pseudonym that this event says is the same person, or None.
        consent: A consent object inside the event, or None.
    """

    event_id: bytes
    channel: str
    subject: bytes
    type: str
    time_ms: int
    received_ms: int
    properties: Mapping[str, Value] = field(default_factory=dict)
    digest: bytes = bytes(16)
    link: bytes | None = None
    consent: ObservedConsent | None = None


@dataclass(frozen=True, slots=True)
class EventBatch:
    """`N` events in columns, in the order of arrival; `received_ms` never falls.

    Attributes:
        received_ms, time_ms: int64[N].
        subject, link, event_id, digest: uint64[N, 2], 16 bytes as two little-endian words; a zero `link` is none.
        type: int32[N], index into `Catalog.types`, -1 for an undeclared type.
        channel: int32[N], index into `Catalog.channels`.
        consent: int32[N], index into `consents`, -1 for none.
        consent_digest: uint64[N], `ObservedConsent.digest`, 0 for none.
        value_offset: int64[N], start of the event's row in `values`; its width is the number of the type's fields.
        values: int64[M].
        strings: uint8[S], UTF-8 bytes that packed strings in `values` point into.
        consents: Consent objects, each distinct one once.
    """

    received_ms: npt.NDArray[np.int64]
    time_ms: npt.NDArray[np.int64]
    subject: npt.NDArray[np.uint64]
    link: npt.NDArray[np.uint64]
    event_id: npt.NDArray[np.uint64]
    digest: npt.NDArray[np.uint64]
    type: npt.NDArray[np.int32]
    channel: npt.NDArray[np.int32]
    consent: npt.NDArray[np.int32]
    consent_digest: npt.NDArray[np.uint64]
    value_offset: npt.NDArray[np.int64]
    values: npt.NDArray[np.int64]
    strings: npt.NDArray[np.uint8]
    consents: tuple[ObservedConsent, ...] = ()

    def __len__(self) -> int:
        """Number of events."""
        return len(self.time_ms)

    @classmethod
    def from_events(cls, events: Sequence[Event], catalog: Catalog) -> "EventBatch":
        """Pack `events`; fields that `catalog` does not declare are left out.

        Raises:
            CatalogError: an event's channel is not declared.
            ValueOutOfRange: a value does not fit its field's type.
        """
        values: list[int] = []
        offsets: list[int] = []
        buffer = bytearray()
        consents: dict[int, int] = {}
        objects: list[ObservedConsent] = []
        for event in events:
            offsets.append(len(values))
            position = catalog.type_index(event.type)
            if position >= 0:
                fields = catalog.types[position].fields
                values.extend(_pack(event.properties.get(spec.name), spec.type, buffer) for spec in fields)
            if event.consent is not None and event.consent.digest not in consents:
                consents[event.consent.digest] = len(objects)
                objects.append(event.consent)
        digests = [0 if event.consent is None else event.consent.digest for event in events]
        return cls(
            received_ms=np.array([event.received_ms for event in events], np.int64),
            time_ms=np.array([event.time_ms for event in events], np.int64),
            subject=words([event.subject for event in events]),
            link=words([event.link or bytes(16) for event in events]),
            event_id=words([event.event_id for event in events]),
            digest=words([event.digest for event in events]),
            type=np.array([catalog.type_index(event.type) for event in events], np.int32),
            channel=np.array([catalog.channel_index(event.channel) for event in events], np.int32),
            consent=np.array([consents.get(digest, -1) for digest in digests], np.int32),
            consent_digest=np.array(digests, np.uint64),
            value_offset=np.array(offsets, np.int64),
            values=np.array(values, np.int64),
            strings=np.frombuffer(bytes(buffer), np.uint8),
            consents=tuple(objects),
        )


def words(ids: Sequence[bytes]) -> npt.NDArray[np.uint64]:
    """16-byte ids as uint64[N, 2], little-endian."""
    return np.frombuffer(b"".join(ids), dtype="<u8").reshape(len(ids), 2).astype(np.uint64)


def _pack(value: Value, kind: FieldType, buffer: bytearray) -> int:
    if value is None:
        return NULL
    if kind is FieldType.STRING and isinstance(value, str):
        encoded = value.encode()
        if len(encoded) > MAX_STRING_BYTES:
            raise ValueOutOfRange(
                f"string of {len(encoded)} bytes must have at most {MAX_STRING_BYTES}; mask it by truncation"
            )
        buffer += encoded
        return pack_string(len(buffer) - len(encoded), len(encoded))
    if kind is FieldType.BOOLEAN and isinstance(value, bool):
        return int(value)
    if kind is FieldType.TIME and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind is FieldType.NUMBER and isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return to_micro(value)
    raise ValueOutOfRange(f"value={value!r} must be of type {kind.value}; fix the event or its declaration")


def unpack_value(packed: int, kind: FieldType, text: str = "") -> object:
    """The value of a packed cell as JSON-like Python: `Decimal` numbers, `text` for strings, None for absent."""
    if packed == NULL:
        return None
    if kind is FieldType.STRING:
        return text
    if kind is FieldType.BOOLEAN:
        return bool(packed)
    return packed if kind is FieldType.TIME else from_micro(packed)
