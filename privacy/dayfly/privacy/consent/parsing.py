"""From JSON values to records: strictly, or as much as can be read of something malformed."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from dayfly.privacy.errors import InvalidConsent

from .record import (
    INT64_MAX,
    SCHEMA_VERSION,
    ConsentRecord,
    ConsentState,
    MalformedRecord,
    TransferBasis,
    canonical_bytes,
)
from .scope import DIMENSIONS, Scope
from .taxonomy import ANY

__all__ = ["checked_record", "malformed_record", "parse_record"]


def _value_at(obj: object, path: str) -> object:
    """Value at a msgspec error path such as `$.scope.topics[0]`; the nearest readable ancestor otherwise."""
    for step in re.findall(r"\.(\w+)|\[(\d+)\]", path):
        name, index = step
        if name and isinstance(obj, Mapping) and name in obj:
            obj = obj[name]
        elif index and isinstance(obj, (list, tuple)) and int(index) < len(obj):
            obj = obj[int(index)]
        else:
            break
    return obj


def _unreadable(obj: object, error: Exception) -> InvalidConsent:
    rule, _, path = str(error).partition(" - at ")
    path = path.strip("`") or "$"
    shown = _shown(_value_at(obj, path))
    if len(shown) > 120:
        shown = shown[:117] + "..."
    return InvalidConsent(
        f"record{path[1:]}={shown} must follow the schema ({rule}); correct it or ask the person again"
    )


def _check_grant(record: ConsentRecord) -> None:
    scope, terms = record.scope, record.terms
    if record.valid_from_ms >= record.valid_until_ms:
        raise InvalidConsent(
            f"valid_until_ms={record.valid_until_ms} must be > valid_from_ms={record.valid_from_ms} in a given consent;"
            " state the validity"
        )
    if ANY in scope.purposes:
        raise InvalidConsent("purposes='*' must not be granted; name each purpose")
    abroad = [country for country in scope.recipient_countries if country != terms.jurisdiction]
    if abroad and terms.transfer_basis is TransferBasis.NONE:
        raise InvalidConsent(
            f"recipient_countries={abroad!r} must have a transfer basis because jurisdiction={terms.jurisdiction!r};"
            " set terms.transfer_basis or drop them"
        )


def _check_rules(record: ConsentRecord) -> ConsentRecord:
    if record.schema_version != SCHEMA_VERSION:
        raise InvalidConsent(
            f"schema_version={record.schema_version!r} must be {SCHEMA_VERSION!r}; convert the record first"
        )
    if ANY in (record.record_id, record.principal):
        raise InvalidConsent("record_id and principal='*' must name one record and one person; give both")
    if record.state is ConsentState.GIVEN:
        _check_grant(record)
    return record


def parse_record(obj: Mapping[str, Any]) -> ConsentRecord:
    """Read one record from JSON values, strictly.

    Args:
        obj: Mapping with the fields of `ConsentRecord`; nested parts are mappings, lists are JSON arrays.

    Returns:
        The record.

    Raises:
        InvalidConsent: An unknown or missing field, a wrong type, bad taxonomy syntax, a given consent without
            validity, with purpose `"*"`, or with a foreign country and no transfer basis.
    """
    try:
        record = msgspec.convert(obj, ConsentRecord)
        canonical_bytes(record)  # text that UTF-8 cannot hold is found here, not in a snapshot
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise _unreadable(obj, error) from None
    return _check_rules(record)


def checked_record(record: object) -> ConsentRecord:
    """Return an equal record all of whose fields have been checked.

    Raises:
        InvalidConsent: `record` is no `ConsentRecord`, or one of its fields breaks its rule.
    """
    if not isinstance(record, ConsentRecord):
        raise InvalidConsent(
            f"record={type(record).__name__} must be a ConsentRecord; parse it with parse_record"
        )
    try:
        values = msgspec.to_builtins(record)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidConsent(
            f"record={type(record).__name__} must hold JSON values ({error}); parse it first"
        ) from None
    return parse_record(values)


def _readable_scope(scope: object) -> Scope:
    """The dimensions that can be read; `"*"` for each that cannot, empty lists included."""
    known: dict[str, tuple[str, ...]] = {}
    for dimension in DIMENSIONS:
        values = scope.get(dimension) if isinstance(scope, Mapping) else getattr(scope, dimension, None)
        try:
            part = msgspec.convert({dimension: values}, Scope)
        except (TypeError, ValueError, OverflowError, RecursionError):
            known[dimension] = (ANY,)
        else:
            known[dimension] = getattr(part, dimension) or (ANY,)
    return msgspec.convert(known, Scope)


def _shown(obj: object) -> str:
    try:
        return repr(obj)
    except RecursionError:
        return type(obj).__name__


def _readable(obj: object, field: str) -> Any:
    return obj.get(field) if isinstance(obj, Mapping) else getattr(obj, field, None)


def malformed_record(
    obj: object, *, principal: str, received_ms: int = INT64_MAX, error: str = "unreadable", source: str = ""
) -> MalformedRecord:
    """Keep what can be read of something that was meant as a consent.

    Guarantees:
        Total: never raises on any `obj`. The result denies every request that the unreadable consent could have been
        about, until an act with a later consent time.

    Args:
        obj: Mapping or `ConsentRecord` with any content.
        principal: Whose consent it is.
        received_ms: When it was received, used where it holds no readable time; no later act can overtake the default.
        error: Why it could not be read.
        source: Source whose next readable observation lifts it.
    """
    record_id, time_ms = _readable(obj, "record_id"), _readable(obj, "time_ms")
    named = isinstance(record_id, str) and re.match(r"\A[A-Za-z0-9][A-Za-z0-9._:/@#+-]{0,199}\Z", record_id)
    if not named:
        record_id = (
            "malformed:" + hashlib.sha256(_shown(obj).encode(errors="backslashreplace")).hexdigest()[:32]
        )
    if isinstance(time_ms, bool) or not isinstance(time_ms, int) or not 0 <= time_ms <= INT64_MAX:
        time_ms = received_ms
    return MalformedRecord(
        record_id=record_id,
        principal=principal,
        time_ms=time_ms,
        scope=_readable_scope(_readable(obj, "scope")),
        error=error[:500],
        source=source,
    )
