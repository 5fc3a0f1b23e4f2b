"""The event catalogue: which events and fields exist, their types, and how each field is masked before anything is kept.

The catalogue is an allow-list. A field that is not declared is never read, an event type that is not declared is counted
and dropped, so nothing reaches the engine that no rule, trigger or officer asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from dayfly.engine.errors import CatalogError, ValueOutOfRange

__all__ = [
    "MAX_MICRO",
    "MICRO",
    "NULL",
    "Catalog",
    "EventType",
    "FieldSpec",
    "FieldType",
    "from_micro",
    "to_micro",
]

NULL: Final = -(2**63)
"""Value of an absent field in a row of `EventBatch.values`."""

MICRO: Final = 1_000_000
"""Numbers are held as int64 millionths, so that sums are exact and do not depend on the order of events."""

MAX_MICRO: Final = 10**15
"""Largest magnitude of one number in millionths (one thousand million units): 9,000 of them still sum inside int64."""


class FieldType(StrEnum):
    """Type of a declared field. `time` is int64 milliseconds UTC; the wire form is RFC 3339 text or milliseconds."""

    STRING = "string"
    NUMBER = "number"
    BOOLEAN = "boolean"
    TIME = "time"


def to_micro(value: float | str | Decimal) -> int:
    """Convert a number to int64 millionths, rounding half to even at the sixth decimal of its shortest decimal text.

    Raises:
        ValueOutOfRange: not finite, not a number, or beyond `MAX_MICRO`.
    """
    try:
        number = Decimal(repr(value) if isinstance(value, float) else value)
        if not number.is_finite():
            raise ValueOutOfRange(
                f"number={value!r} must be finite; send a decimal number or leave the field out"
            )
        if abs(number) > MAX_MICRO // MICRO:
            raise ValueOutOfRange(
                f"number={value!r} must lie within ±{MAX_MICRO // MICRO}; rescale the field's unit"
            )
        return int((number * MICRO).to_integral_value(rounding=ROUND_HALF_EVEN))
    except InvalidOperation as error:
        raise ValueOutOfRange(
            f"number={value!r} must be a decimal number; fix the field or its mapping"
        ) from error


def from_micro(micro: int) -> Decimal:
    """Exact decimal of an int64 in millionths, without trailing zeros.

    >>> from_micro(19_990_000)
    Decimal('19.99')
    """
    number = (Decimal(micro) / MICRO).normalize()
    return number.quantize(Decimal(1)) if number == number.to_integral_value() else number


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One declared field of an event type.

    Attributes:
        name: Dotted path inside `properties` (or `traits`), for example ``query`` or ``address.city``.
        type: Type every kept value has; a value that does not fit makes the event a dead letter.
        masking: Masking rule as in `dayfly.privacy.deident` (for example ``keep`` or ``truncate: 2``), applied at intake.
        required: An event without it becomes a dead letter.
    """

    name: str
    type: FieldType
    masking: object = "keep"
    required: bool = False


@dataclass(frozen=True, slots=True)
class EventType:
    """One declared event type; its fields' positions are the slots of a row."""

    name: str
    fields: tuple[FieldSpec, ...] = ()

    def slot(self, name: str) -> int:
        """Position of field `name` in a row.

        Raises:
            CatalogError: the field is not declared.
        """
        for index, spec in enumerate(self.fields):
            if spec.name == name:
                return index
        known = ", ".join(spec.name for spec in self.fields) or "none"
        raise CatalogError(
            f"field={name!r} must be declared for event {self.name!r}; declare it or use one of: {known}"
        )


@dataclass(frozen=True, slots=True)
class Catalog:
    """All declared event types and channels; indexes are stable for one policy version.

    Reserved event types of the Segment spec: ``$identify`` (fields from ``traits``), ``$page``, ``$screen`` (``properties``
    with ``name`` and ``category`` beside them), ``$group`` (``traits`` with ``groupId``), ``$alias``.
    """

    types: tuple[EventType, ...]
    channels: tuple[str, ...]
    _type_index: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse double names and freeze the index."""
        _refuse_doubles("event type", [event.name for event in self.types])
        _refuse_doubles("channel", self.channels)
        for event in self.types:
            _refuse_doubles(f"field of {event.name!r}", [spec.name for spec in event.fields])
        index = {event.name: position for position, event in enumerate(self.types)}
        object.__setattr__(self, "_type_index", MappingProxyType(index))

    def type_index(self, name: str) -> int:
        """Position of event type `name`, or -1 when it is not declared."""
        return self._type_index.get(name, -1)

    def channel_index(self, name: str) -> int:
        """Position of channel `name`.

        Raises:
            CatalogError: the channel is not declared.
        """
        if name not in self.channels:
            raise CatalogError(
                f"channel={name!r} must be declared; declare it or use one of: {', '.join(self.channels)}"
            )
        return self.channels.index(name)


def _refuse_doubles(what: str, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise CatalogError(f"{what}={name!r} must be declared once; remove the second declaration")
        seen.add(name)
