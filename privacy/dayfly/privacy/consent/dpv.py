"""Import of consent records written with the W3C Data Privacy Vocabulary (27560 community guide, JSON-LD)."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any, Final, Self

from dayfly.privacy.errors import InvalidConsent

from .parsing import parse_record
from .record import ConsentRecord, ConsentState

__all__ = ["DpvTaxonomy", "load_json_ld", "record_from_dpv"]

_STATES: Final = {
    "ConsentRequested": ConsentState.REQUESTED,
    "ConsentGiven": ConsentState.GIVEN,
    "RenewedConsentGiven": ConsentState.GIVEN,
    "ConsentRefused": ConsentState.REFUSED,
    "ConsentWithdrawn": ConsentState.WITHDRAWN,
    "ConsentRevoked": ConsentState.WITHDRAWN,
    "ConsentExpired": ConsentState.EXPIRED,
    "ConsentInvalidated": ConsentState.INVALIDATED,
}


def _word(term: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", term).lower()


@dataclass(frozen=True, slots=True)
class DpvTaxonomy:
    """Purpose names of DPV as dotted paths below `dpv`, so that broader purposes cover narrower ones.

    Attributes:
        paths: DPV term (`ServicePersonalisation`) to path (`dpv.personalisation.service-personalisation`).
    """

    paths: Mapping[str, str]

    @classmethod
    def from_rows(cls, rows: Iterable[Mapping[str, str]]) -> Self:
        """Build it from DPV's published table.

        Args:
            rows: Rows with `term` and `hasbroader` (IRIs, several separated by `;`); of several parents the
                alphabetically first decides the path.
        """
        parents: dict[str, str] = {}
        for row in rows:
            if row["hasbroader"]:
                parents[row["term"]] = min(iri.rpartition("#")[2] for iri in row["hasbroader"].split(";"))
        paths: dict[str, str] = {}
        for term, parent in parents.items():
            steps, at = [term], parent
            while at != "Purpose" and at in parents and at not in steps:
                steps.append(at)
                at = parents[at]
            paths[term] = ".".join(["dpv", *(_word(step) for step in reversed(steps))])
        return cls(paths)

    def path(self, name: str) -> str:
        """Path of `dpv:Name` or `Name`.

        Raises:
            InvalidConsent: The vocabulary has no such purpose.
        """
        term = name.rpartition(":")[2].rpartition("#")[2]
        if term not in self.paths:
            raise InvalidConsent(f"purpose={name!r} must be a purpose of the vocabulary; map it by hand")
        return self.paths[term]


def _no_duplicates(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InvalidConsent(f"keys={repeated!r} must occur once per object; write several values as a list")
    return dict(pairs)


def load_json_ld(text: str) -> dict[str, Any]:
    """Parse JSON, refusing repeated keys, which other parsers would silently drop.

    Raises:
        InvalidConsent: Not a JSON object, or a key occurs twice.
    """
    try:
        obj = json.loads(text, object_pairs_hook=_no_duplicates)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InvalidConsent(f"text={text[:40]!r} must be JSON ({error}); repair the export") from None
    if not isinstance(obj, dict):
        raise InvalidConsent(f"text={text[:40]!r} must be a JSON object; pass one record")
    return obj


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _identifier(value: Any, field: str) -> str:
    if isinstance(value, dict):
        value = value.get("@id") or value.get("dct:identifier")
    if not isinstance(value, str) or not value:
        raise InvalidConsent(
            f"{field}={value!r} must name one thing; the record does not hold what is needed"
        )
    return value


def _one(value: Any, field: str) -> dict[str, Any]:
    values = _list(value)
    if len(values) != 1 or not isinstance(values[0], dict):
        raise InvalidConsent(
            f"{field}={str(value)[:60]!r} must be exactly one object; split the record per process"
        )
    return values[0]


def _instant(value: Any, field: str, zone: tzinfo | None) -> int:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise InvalidConsent(f"{field}={value!r} must be a date and time; correct the export") from None
    if moment.tzinfo is None:
        if zone is None:
            raise InvalidConsent(f"{field}={value!r} must have a time zone; pass naive_zone if it is known")
        moment = moment.replace(tzinfo=zone)
    elapsed = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (elapsed.days * 86_400 + elapsed.seconds) * 1000 + elapsed.microseconds // 1000


def _until(duration: Any, start_ms: int, zone: tzinfo | None) -> int:
    if isinstance(duration, int) and not isinstance(duration, bool):
        return start_ms + duration * 1000
    if isinstance(duration, dict) and duration.get("@type") == "dpv:UntilTimeDuration":
        return _instant(duration.get("rdf:value"), "dpv:hasDuration", zone)
    raise InvalidConsent(
        f"dpv:hasDuration={duration!r} must be seconds or an UntilTimeDuration; state when it ends"
    )


def _state(status: Mapping[str, Any]) -> ConsentState:
    found = {
        _STATES[kind.removeprefix("dpv:")]
        for kind in _list(status.get("@type"))
        if isinstance(kind, str) and kind.removeprefix("dpv:") in _STATES
    }
    if len(found) != 1:
        raise InvalidConsent(
            f"dpv:hasConsentStatus={status.get('@type')!r} must be one known status; correct it"
        )
    return found.pop()


def record_from_dpv(
    obj: Mapping[str, Any],
    taxonomy: DpvTaxonomy,
    *,
    topics: Sequence[str] = (),
    channels: Sequence[str] = (),
    recipient_countries: Sequence[str] = (),
    max_uses: int | None = 1,
    naive_zone: tzinfo | None = None,
) -> ConsentRecord:
    """Import one DPV consent record; what DPV cannot say is passed in and defaults to nothing.

    Args:
        obj: JSON-LD object of type `dpv:ConsentRecord` with one process and one status.
        taxonomy: The vocabulary's purposes.
        topics: Topics that the notice named.
        channels: Channels that the notice named.
        recipient_countries: Countries of the recipients.
        max_uses: Use budget.
        naive_zone: Zone of times that carry none.

    Raises:
        InvalidConsent: The record lacks subject, purpose, data, controller, recipient, status, time or end, or uses
            terms that have no unambiguous meaning here. The message names the field.
    """
    status = _one(obj.get("dpv:hasConsentStatus"), "dpv:hasConsentStatus")
    process = _one(obj.get("dpv:hasProcess"), "dpv:hasProcess")
    state = _state(status)
    time_ms = _instant(status.get("dpv:isIndicatedAtTime"), "dpv:isIndicatedAtTime", naive_zone)
    given = state is ConsentState.GIVEN
    until_ms = _until(status.get("dpv:hasDuration"), time_ms, naive_zone) if given else 0
    wanted = {
        name: _list(process.get(f"dpv:{name}")) for name in ("hasPurpose", "hasPersonalData", "hasRecipient")
    }
    empty = [f"dpv:{name}" for name, values in wanted.items() if not values]
    if empty:
        raise InvalidConsent(f"process={empty!r} must not be empty; the record does not hold what is needed")
    data = [_identifier(one, "dpv:hasPersonalData").rpartition(":")[2] for one in wanted["hasPersonalData"]]
    jurisdiction = process.get("dpv:hasJurisdiction") or ""
    values = {
        "record_id": _identifier(obj.get("dct:identifier") or obj.get("@id"), "dct:identifier"),
        "principal": _identifier(obj.get("dpv:hasDataSubject"), "dpv:hasDataSubject"),
        "state": state.value,
        "time_ms": time_ms,
        "valid_from_ms": time_ms if given else 0,
        "valid_until_ms": until_ms,
        "scope": {
            "purposes": [taxonomy.path(_identifier(one, "dpv:hasPurpose")) for one in wanted["hasPurpose"]],
            "topics": list(topics),
            "data_categories": ["pd." + _word(term) for term in data],
            "recipients": [_identifier(one, "dpv:hasRecipient") for one in wanted["hasRecipient"]],
            "channels": list(channels),
            "recipient_countries": list(recipient_countries),
        },
        "use": {"max_uses": max_uses},
        "terms": {
            "controllers": [
                _identifier(one, "dpv:hasDataController")
                for one in _list(process.get("dpv:hasDataController"))
            ],
            "jurisdiction": jurisdiction.removeprefix("loc:")
            if isinstance(jurisdiction, str)
            else jurisdiction,
        },
    }
    return parse_record(values)
