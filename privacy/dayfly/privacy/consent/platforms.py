"""Consent states that other platforms send inside events, turned into records by a declarative mapping.

Sources: Segment's `context.consent.categoryPreferences` and RudderStack's `context.consentManagement`. An IAB TC string
is carried as evidence and grants nothing: TCF purposes are advertising purposes and no answer to ours.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from dayfly.privacy.errors import InvalidConsent

from .observation import Observation
from .parsing import checked_record, malformed_record
from .record import ConsentRecord, ConsentState, Count, Evidence, Notice, Terms, UseBudget
from .scope import DIMENSIONS, Scope

__all__ = [
    "CategoryRule",
    "PlatformMapping",
    "parse_mapping",
    "records_from_rudderstack",
    "records_from_segment",
    "tc_string_evidence",
]


class CategoryRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a yes to one category of the platform grants.

    Attributes:
        scope: What is granted; no list may be empty.
        validity_seconds: For how long, from the person's answer.
        max_uses: Use budget; has to be written, null for no limit.
        restore_if_unopened: Whether a use comes back when its fragment died unopened.
    """

    scope: Scope
    validity_seconds: Annotated[int, Meta(ge=1, le=10**10)]
    max_uses: Count | None
    restore_if_unopened: bool = False


class PlatformMapping(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Category id of the platform to what it grants; a category that is not listed grants nothing."""

    categories: dict[str, CategoryRule]
    terms: Terms = Terms()
    notice: Notice = Notice()


def parse_mapping(obj: Mapping[str, Any]) -> PlatformMapping:
    """Read a mapping from JSON or YAML values, strictly.

    Raises:
        InvalidConsent: Unknown fields, wrong types, an empty list, or a grant that no record could hold.
    """
    try:
        mapping = msgspec.convert(obj, PlatformMapping)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidConsent(
            f"mapping={str(obj)[:80]!r} must follow the schema ({error}); correct the policy"
        ) from None
    for category, rule in mapping.categories.items():
        empty = [dimension for dimension in DIMENSIONS if not getattr(rule.scope, dimension)]
        if empty:
            raise InvalidConsent(
                f"categories[{category!r}].scope={empty!r} must not be empty; list values, or '*' for all"
            )
        checked_record(_record(mapping, category, principal="p", source="s", time_ms=0, granted=True))
    return mapping


def _record(
    mapping: PlatformMapping, category: str, *, principal: str, source: str, time_ms: int, granted: bool
) -> ConsentRecord:
    rule = mapping.categories[category]
    name = "\x1f".join((source, principal, category, str(time_ms), str(granted)))
    return ConsentRecord(
        record_id="o:" + hashlib.sha256(name.encode(errors="backslashreplace")).hexdigest()[:32],
        principal=principal,
        state=ConsentState.GIVEN if granted else ConsentState.REFUSED,
        time_ms=time_ms,
        valid_from_ms=time_ms if granted else 0,
        valid_until_ms=time_ms + rule.validity_seconds * 1000 if granted else 0,
        scope=rule.scope,
        use=UseBudget(max_uses=rule.max_uses, restore_if_unopened=rule.restore_if_unopened),
        notice=mapping.notice,
        terms=mapping.terms,
        evidence=Evidence(source=source, reference=category),
    )


def _digest(obj: object) -> str:
    try:
        data = msgspec.json.encode(obj, order="sorted")
    except (TypeError, ValueError, RecursionError):
        data = repr(type(obj)).encode()
    return hashlib.sha256(data).hexdigest()


def _anything(mapping: PlatformMapping) -> dict[str, list[str]]:
    """Everything that the mapping could grant, the extent of an unreadable object's denial."""
    return {
        dimension: sorted(
            {value for rule in mapping.categories.values() for value in getattr(rule.scope, dimension)}
        )
        for dimension in DIMENSIONS
    }


def _segment_answers(obj: Any) -> set[str]:
    preferences = obj["categoryPreferences"]
    if not all(isinstance(answer, bool) for answer in preferences.values()):
        raise TypeError("answers must be true or false")
    return {category for category, answer in preferences.items() if answer}


def _rudderstack_answers(obj: Any) -> set[str]:
    lists = [obj[name] for name in ("allowedConsentIds", "deniedConsentIds") if name in obj]
    if not lists or not all(
        isinstance(one, list) and all(isinstance(item, str) for item in one) for one in lists
    ):
        raise TypeError("allowedConsentIds or deniedConsentIds must be lists of ids")
    return set(obj.get("allowedConsentIds", [])) - set(obj.get("deniedConsentIds", []))


def _observation(
    answers: Callable[[Any], set[str]],
    obj: object,
    mapping: PlatformMapping,
    *,
    subject: str,
    time_ms: int,
    source: str,
) -> Observation:
    digest = _digest(obj)
    try:
        granted = answers(obj)
    except (TypeError, KeyError, AttributeError) as error:
        malformed = malformed_record(
            {"scope": _anything(mapping), "time_ms": time_ms, "record_id": f"o:{digest[:32]}"},
            principal=subject,
            received_ms=time_ms,
            error=f"consent object of {source}: {error}",
            source=source,
        )
        return Observation(
            principal=subject, source=source, time_ms=time_ms, digest=digest, malformed=malformed
        )
    records = tuple(
        _record(
            mapping, category, principal=subject, source=source, time_ms=time_ms, granted=category in granted
        )
        for category in sorted(mapping.categories)
    )
    return Observation(principal=subject, source=source, time_ms=time_ms, digest=digest, records=records)


def records_from_segment(
    obj: object, mapping: PlatformMapping, *, subject: str, time_ms: int, source: str
) -> Observation:
    """Read Segment's `context.consent` object.

    Args:
        obj: The object as received, whatever it holds.
        mapping: What each category grants.
        subject: The person's pseudonym.
        time_ms: Event time of the event that carried it, int64 milliseconds UTC.
        source: Name of the source; repeated answers are told apart per source.

    Returns:
        An observation for `PersonConsents.with_observation`. A mapped category that is absent or false is refused, one
        that is not mapped grants nothing. An unreadable object denies everything that the mapping could grant.
    """
    return _observation(_segment_answers, obj, mapping, subject=subject, time_ms=time_ms, source=source)


def records_from_rudderstack(
    obj: object, mapping: PlatformMapping, *, subject: str, time_ms: int, source: str
) -> Observation:
    """Read RudderStack's `context.consentManagement` object; a yes is an id that is allowed and not denied.

    Arguments and result as in `records_from_segment`.
    """
    return _observation(_rudderstack_answers, obj, mapping, subject=subject, time_ms=time_ms, source=source)


def tc_string_evidence(tc_string: str, *, source: str) -> Evidence:
    """Carry an IAB TC or GPP string as opaque evidence, cut to 4,096 characters. It is never decoded and grants nothing."""
    return Evidence(source=source, tc_string=tc_string[:4096])
