"""The policies of the random workload, their edits, and what consent banners say on their channels."""

import hashlib
import random
from dataclasses import replace
from typing import Any, Final, Literal

from dayfly.engine.catalog import Catalog, EventType, FieldSpec, FieldType
from dayfly.engine.events import ObservedConsent
from dayfly.engine.policy.model import Channel, Policy, Settings
from dayfly.engine.tags.tree import InTag, Tag
from dayfly.privacy.consent.platforms import parse_mapping
from tests.engine.workload_rules import (
    CHANNELS,
    random_tags,
    workload_catalog,
)

__all__ = ["OBSERVED", "edited", "observed_on", "random_policy"]

DAY_MS: Final = 86_400_000

_EVERY: Final = {
    name: ["*"] for name in ("topics", "data_categories", "recipients", "channels", "recipient_countries")
}
_MAPPING: Final = parse_mapping(
    {
        "categories": {
            "help": {
                "scope": {**_EVERY, "purposes": ["service"]},
                "validity_seconds": 10**6,
                "max_uses": None,
            },
            "ads": {"scope": {**_EVERY, "purposes": ["marketing"]}, "validity_seconds": 60, "max_uses": None},
        },
        "terms": {"transfer_basis": "contract"},
    }
)
_FORMS: Final[dict[str, Literal["segment", "rudderstack"]]] = {"app": "segment", "web": "rudderstack"}


def _observed(form: Literal["segment", "rudderstack", "tcf"], content: object) -> ObservedConsent:
    digest = hashlib.blake2b(f"{form}{content!r}".encode(), digest_size=8).digest()
    return ObservedConsent(form, content, int.from_bytes(digest, "little"))


OBSERVED: Final = (
    *(
        _observed("segment", {"categoryPreferences": {"help": yes, "ads": ads}})
        for yes in (True, False)
        for ads in (True, False)
    ),
    _observed("segment", {"categoryPreferences": {}}),
    _observed("segment", {"categoryPreferences": {"help": "yes"}}),
    _observed("rudderstack", {"allowedConsentIds": ["help", "ads"]}),
    _observed("rudderstack", {"allowedConsentIds": ["help"], "deniedConsentIds": ["ads"]}),
    _observed("rudderstack", {"deniedConsentIds": ["help"]}),
    _observed("rudderstack", 7),
    _observed("tcf", "CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA"),
)
"""Consent objects as banners send them, readable and not."""


def observed_on(channel: str) -> list[int]:
    """Positions in `OBSERVED` of what an event of `channel` may carry."""
    form = _FORMS.get(channel)
    return (
        [] if form is None else [index for index, seen in enumerate(OBSERVED) if seen.form in (form, "tcf")]
    )


def random_policy(rng: random.Random, tags: int, *, version: int = 1) -> Policy:
    """A policy of random tags; the channel ``shop`` is collected only under a consent."""
    channels = tuple(
        Channel(
            name,
            name,
            collect_under="analytics" if name == "shop" else None,
            form=_FORMS.get(name, ""),
            consent=_MAPPING if name in _FORMS else None,
        )
        for name in CHANNELS
    )
    settings = Settings(history_ms=40 * DAY_MS, allowed_lateness_ms=2 * DAY_MS, future_skew_ms=300_000)
    catalog = workload_catalog()
    return Policy(version, catalog, channels, random_tags(rng, tags, catalog=catalog), settings=settings)


def edited(rng: random.Random, policy: Policy) -> Policy:
    """The next version: some tags changed, some gone, some new, and the catalogue grown and in another order."""
    names = [tag.name for tag in policy.tags]
    fresh = random_tags(rng, len(names), catalog=policy.catalog, version=policy.version + 1, names=names)
    keep = [rng.random() for _ in policy.tags]
    tags = [old if share < 0.7 else new for old, new, share in zip(policy.tags, fresh, keep, strict=True)]
    asked = {name for tag in tags for name in _asked(tag)}
    tags = [tag for tag, share in zip(tags, keep, strict=True) if share < 0.93 or tag.name in asked]
    added = replace(rng.choice(fresh[:14]), name=f"tag-v{policy.version + 1}")
    types = [_grown(kind, policy.version) if rng.random() < 0.3 else kind for kind in policy.catalog.types]
    types.append(EventType(f"Extra {policy.version}", (FieldSpec("note", FieldType.STRING),)))
    rng.shuffle(types)
    catalog = Catalog(tuple(types), policy.catalog.channels)
    return replace(policy, version=policy.version + 1, catalog=catalog, tags=(*tags, added))


def _grown(kind: EventType, version: int) -> EventType:
    return EventType(kind.name, (FieldSpec(f"extra{version}", FieldType.NUMBER), *kind.fields))


def _asked(tag: Tag) -> list[str]:
    found: list[str] = []
    rest: list[Any] = [tag.when]
    while rest:
        part = rest.pop()
        found += [part.tag] if isinstance(part, InTag) else []
        rest += list(getattr(part, "parts", ())) + ([part.part] if hasattr(part, "part") else [])
    return found
