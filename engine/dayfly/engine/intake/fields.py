"""Declared fields of an event type: find the value, check its type, mask it. What is not declared is never looked at."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dayfly.engine.catalog import MAX_MICRO, MICRO, EventType, FieldSpec, FieldType, to_micro
from dayfly.engine.errors import IntakeError, ValueOutOfRange
from dayfly.engine.events import MAX_STRING_BYTES, Value
from dayfly.engine.intake.reasons import DeadLetterReason
from dayfly.engine.intake.times import MAX_TIME_MS, MIN_TIME_MS, rfc3339_to_ms
from dayfly.privacy.deident import DROPPED, Drop, Masking, PseudonymKeys
from dayfly.privacy.errors import DeidentificationError

__all__ = ["FieldReader", "Mask", "TypeReader", "coerce"]

_NUMBER_LIMIT = MAX_MICRO // MICRO


@dataclass(frozen=True, slots=True)
class Mask:
    """A masking rule that is ready to be applied.

    Attributes:
        rule: The rule.
        raw_type: Type that the value must have before it is masked.
        keys: For the rule `pseudonymise`.
    """

    rule: Masking
    raw_type: FieldType
    keys: PseudonymKeys = field(repr=False)

    def apply(self, value: Value, name: str) -> Any:
        """The value that may be kept, None where it is dropped.

        Raises:
            IntakeError: `MASKING_FAILED`.
        """
        try:
            masked = self.rule.apply(value, keys=self.keys)
        except DeidentificationError:
            raise IntakeError(
                DeadLetterReason.MASKING_FAILED,
                f"field={name!r} must fit its masking rule; fix the rule or the sender",
            ) from None
        return None if masked is DROPPED else masked


@dataclass(frozen=True, slots=True)
class FieldReader:
    """One declared field, ready to read: `mask` is None where the value is kept as it is."""

    spec: FieldSpec
    path: tuple[str, ...]
    mask: Mask | None

    def find(self, properties: Mapping[str, Any]) -> Any:
        """The raw value at the path, None when a step is missing or is not an object."""
        value: Any = properties
        for step in self.path:
            if not isinstance(value, dict):
                return None
            value = value.get(step)
        return value

    def read(self, properties: Mapping[str, Any], max_string_bytes: int) -> Value:
        """The checked and masked value, None when absent.

        Raises:
            IntakeError: `MISSING_FIELD`, `TYPE_MISMATCH`, `NUMBER_OUT_OF_RANGE`, `STRING_TOO_LONG`, `BAD_TIME` or
                `MASKING_FAILED`; the message names the field, never the value.
        """
        raw = self.find(properties)
        if raw is None:
            if self.spec.required:
                raise IntakeError(
                    DeadLetterReason.MISSING_FIELD,
                    f"field={self.spec.name!r} must be present; send it or declare it optional",
                )
            return None
        if self.mask is None:
            return coerce(raw, self.spec.name, self.spec.type, max_string_bytes)
        if isinstance(self.mask.rule, Drop):
            return None
        masked = self.mask.apply(
            coerce(raw, self.spec.name, self.mask.raw_type, max_string_bytes), self.spec.name
        )
        return coerce(masked, self.spec.name, self.spec.type, MAX_STRING_BYTES)


@dataclass(frozen=True, slots=True)
class TypeReader:
    """All declared fields of one event type."""

    fields: tuple[FieldReader, ...]

    @classmethod
    def compile(cls, event_type: EventType, mask_of: Callable[[FieldSpec], Mask | None]) -> "TypeReader":
        """Prepare the readers of `event_type`."""
        return cls(
            tuple(FieldReader(spec, tuple(spec.name.split(".")), mask_of(spec)) for spec in event_type.fields)
        )

    def read(self, properties: Mapping[str, Any], max_string_bytes: int) -> dict[str, Value]:
        """Every declared field that is present.

        Raises:
            IntakeError: as `FieldReader.read`.
        """
        found: dict[str, Value] = {}
        for reader in self.fields:
            value = reader.read(properties, max_string_bytes)
            if value is not None:
                found[reader.spec.name] = value
        return found


def coerce(value: Any, name: str, kind: FieldType, max_string_bytes: int) -> Value:
    """`value` when it fits `kind`; nothing is converted but RFC 3339 text for a time.

    Raises:
        IntakeError: as `FieldReader.read`.
    """
    if kind is FieldType.STRING and isinstance(value, str):
        size = len(value.encode())
        if size > max_string_bytes:
            raise IntakeError(
                DeadLetterReason.STRING_TOO_LONG,
                f"field={name!r} of {size} bytes must have at most {max_string_bytes}; shorten it or raise the limit",
            )
        return value
    if kind is FieldType.BOOLEAN and isinstance(value, bool):
        return value
    if kind is FieldType.NUMBER and isinstance(value, int | float) and not isinstance(value, bool):
        return _number(value, name)
    if kind is FieldType.TIME:
        if isinstance(value, str):
            return rfc3339_to_ms(value, place=f"field {name!r}")
        if isinstance(value, int) and not isinstance(value, bool) and MIN_TIME_MS <= value <= MAX_TIME_MS:
            return value
    raise IntakeError(
        DeadLetterReason.TYPE_MISMATCH,
        f"field={name!r} must be of type {kind.value}; fix the sender or the declaration",
    )


def _number(value: float, name: str) -> int | float:
    try:
        to_micro(value)
    except ValueOutOfRange:
        raise IntakeError(
            DeadLetterReason.NUMBER_OUT_OF_RANGE,
            f"field={name!r} must lie within ±{_NUMBER_LIMIT}; rescale the field's unit",
        ) from None
    return value
