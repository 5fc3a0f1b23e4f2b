"""One row of a mapped file to one event."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

import orjson

from dayfly.engine.catalog import FieldSpec, FieldType
from dayfly.engine.errors import IntakeError
from dayfly.engine.intake.context import Context, Draft
from dayfly.engine.intake.fields import Mask, coerce
from dayfly.engine.intake.identity import Known
from dayfly.engine.intake.mapping import FileMapping, MappedField, RowTest, SubjectSource, check_mapping
from dayfly.engine.intake.reasons import DeadLetterReason
from dayfly.engine.intake.results import Parsed
from dayfly.engine.intake.times import MAX_TIME_MS, MIN_TIME_MS, datetime_to_ms, rfc3339_to_ms

__all__ = ["Row", "RowReader"]

_NUMBER: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?")
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,18}")
_EPOCH_UNITS: Final = {"epoch_s": (1_000, 1), "epoch_ms": (1, 1), "epoch_us": (1, 1_000)}


@dataclass(frozen=True, slots=True)
class Row:
    """One row: `get` gives a column's value (None when absent), `raw` the bytes that its digest is over."""

    get: Callable[[str], Any]
    raw: bytes
    place: str


@dataclass(frozen=True, slots=True)
class _Target:
    spec: FieldSpec
    source: MappedField
    mask: Mask | None


class RowReader:
    """Reads rows by one mapping; `known_ms` of arrival is given per row, or the row's own time when history is replayed."""

    def __init__(self, context: Context, mapping: FileMapping) -> None:
        check_mapping(mapping, context.policy.catalog)
        self._context = context
        self._mapping = mapping
        self._channel = context.channel(mapping.channel)
        self._zone = ZoneInfo(mapping.time.zone)
        sources = mapping.field_columns()
        self._targets = {
            name: tuple(
                _Target(
                    spec,
                    sources[spec.name],
                    context.identities.mask_of_rule(sources[spec.name].masking, spec),
                )
                for spec in context.policy.catalog.types[context.policy.catalog.type_index(name)].fields
                if spec.name in sources
            )
            for name in mapping.event_names()
        }

    def wanted(self, row: Row) -> bool:
        """Whether every `where` test holds and the row's event value is mapped."""
        if not all(_holds(test, _text(row.get(test.column))) for test in self._mapping.where):
            return False
        column = self._mapping.event.column
        return column is None or _text(row.get(column)) in self._mapping.event.values

    def time_ms(self, row: Row) -> int:
        """Event time of the row.

        Raises:
            IntakeError: `BAD_TIME`.
        """
        value = row.get(self._mapping.time.column)
        form = self._mapping.time.format
        try:
            if isinstance(value, datetime):
                return datetime_to_ms(value, zone=self._zone)
            if isinstance(value, date):
                return datetime_to_ms(datetime.combine(value, time()), zone=self._zone)
            if form in _EPOCH_UNITS:
                return _epoch_ms(value, form)
            if isinstance(value, str) and form == "rfc3339":
                return rfc3339_to_ms(value)
            if isinstance(value, str) and "%" in form:
                # The pattern may lack an offset; the mapping's zone then completes the time.
                return datetime_to_ms(datetime.strptime(value, form), zone=self._zone)  # noqa: DTZ007
        except (ValueError, OverflowError):
            pass
        raise IntakeError(
            DeadLetterReason.BAD_TIME,
            f"column={self._mapping.time.column!r} must be a time as {form!r}; fix the file or the mapping",
        )

    def read(self, row: Row, time_ms: int, received_ms: int) -> Parsed:
        """The row as a checked, de-identified event.

        Raises:
            IntakeError: it may not enter.
        """
        name = self._name(row)
        identities = self._context.identities
        subject = self._known(self._mapping.subject, row, received_ms)
        if subject is None:
            raise IntakeError(
                DeadLetterReason.MISSING_IDENTITY,
                f"column={self._mapping.subject.column!r} must name the person; filter such rows with where: present",
            )
        link = None if self._mapping.link is None else self._known(self._mapping.link, row, received_ms)
        digest = identities.digest(row.raw)
        properties: dict[str, Any] = {}
        for target in self._targets[name]:
            _put(properties, target.spec.name, self._value(target, row))
        return Draft(self._context, self._channel, received_ms).finish(
            name=name,
            event_id=identities.event_id(self._channel, self._message_id(row, digest)),
            digest=digest,
            time_ms=time_ms,
            subject=subject,
            properties=properties,
            link=link,
        )

    def _name(self, row: Row) -> str:
        event = self._mapping.event
        if event.constant is not None:
            return event.constant
        assert event.column is not None
        return event.values[_text(row.get(event.column)) or ""]

    def _known(self, source: SubjectSource, row: Row, received_ms: int) -> Known | None:
        raw = self._context.identifier(_plain_id(row.get(source.column)), f"column {source.column!r}")
        if raw is None:
            return None
        return self._context.known(source.kind, raw, self._channel, received_ms)

    def _message_id(self, row: Row, digest: bytes) -> bytes:
        if self._mapping.id.row_digest:
            return b"\0digest" + digest
        parts = [_text(row.get(column)) for column in self._mapping.id.columns]
        if not any(parts):
            raise IntakeError(
                DeadLetterReason.MISSING_ID,
                f"columns={self._mapping.id.columns} must identify the row; all are empty",
            )
        return orjson.dumps(parts)

    def _value(self, target: _Target, row: Row) -> Any:
        value = row.get(target.source.column)
        if target.source.values and value is not None:
            value = target.source.values.get(_text(value) or "", value)
        if target.mask is None:
            return _converted(value, target.spec.name, target.spec.type, self._zone)
        converted = _converted(value, target.spec.name, target.mask.raw_type, self._zone)
        if converted is None:
            return None
        limit = self._context.settings.max_string_bytes
        return target.mask.apply(
            coerce(converted, target.spec.name, target.mask.raw_type, limit), target.spec.name
        )


def _put(properties: dict[str, Any], name: str, value: Any) -> None:
    if value is None:
        return
    *parents, last = name.split(".")
    for parent in parents:
        properties = properties.setdefault(parent, {})
    properties[last] = value


def _converted(value: Any, name: str, kind: FieldType, zone: ZoneInfo) -> Any:
    """A cell in the JSON form of `kind`; what cannot be converted is left for the type check to refuse."""
    if isinstance(value, float) and not math.isfinite(value):
        raise IntakeError(
            DeadLetterReason.NON_FINITE_NUMBER,
            f"field={name!r} must be finite; write null where there is no value",
        )
    if isinstance(value, Decimal):
        value = float(value)
    if isinstance(value, datetime):
        return datetime_to_ms(value, zone=zone)
    if kind is FieldType.STRING and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        return value
    if kind is FieldType.NUMBER and _NUMBER.fullmatch(value) is not None:
        return int(value) if _INTEGER.fullmatch(value) is not None else _finite(value, name)
    if kind is FieldType.BOOLEAN:
        return {"true": True, "false": False}.get(value.lower(), value)
    if kind is FieldType.TIME and _INTEGER.fullmatch(value) is not None:
        return int(value)
    return value


def _finite(text: str, name: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise IntakeError(
            DeadLetterReason.NUMBER_OUT_OF_RANGE, f"field={name!r} must fit a double; send a smaller number"
        )
    return number


def _epoch_ms(value: Any, form: str) -> int:
    number = int(value) if isinstance(value, str) and _INTEGER.fullmatch(value) is not None else value
    if isinstance(number, bool) or not isinstance(number, int):
        raise ValueError(form)  # noqa: TRY004 - the caller turns every refusal here into one dead letter
    times, over = _EPOCH_UNITS[form]
    result = number * times // over
    if not MIN_TIME_MS <= result <= MAX_TIME_MS:
        raise ValueError(form)
    return result


def _plain_id(value: Any) -> Any:
    """A nullable integer column arrives as float where a reader has no integer null: 17850.0 is customer 17850."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _text(value: Any) -> str | None:
    """A cell as text for comparisons and ids; None and empty text are absent."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return orjson.dumps(value).decode()
    return value.isoformat() if isinstance(value, datetime | date) else str(value)


def _holds(test: RowTest, text: str | None) -> bool:
    """Whether the row passes `test`; an absent value passes only `present: false`, `not_equals`, `not_in` and `not_starts_with`."""
    value = text or ""
    return all(
        (
            test.present is None or test.present == (text is not None),
            test.equals is None or text == test.equals,
            test.not_equals is None or text != test.not_equals,
            test.one_of is None or text in test.one_of,
            test.not_in is None or text not in test.not_in,
            test.starts_with is None or (text is not None and value.startswith(test.starts_with)),
            test.not_starts_with is None or not value.startswith(test.not_starts_with),
        )
    )
