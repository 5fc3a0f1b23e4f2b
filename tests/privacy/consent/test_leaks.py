"""Consent states that are *no* by construction: a grant that would allow, and one defect. None may let data through."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from dayfly.privacy.consent import (
    ConsentRecord,
    ConsentRequest,
    ConsentState,
    PersonConsents,
    Requirements,
    Scope,
    Terms,
    TransferBasis,
    UseBudget,
    compile_mask,
    decide,
    malformed_record,
    parse_record,
)
from dayfly.privacy.errors import InvalidConsent

TERMS = Terms(jurisdiction="CN", transfer_basis=TransferBasis.CONTRACT)
NOW = 1_000_000
REQUEST = ConsentRequest(
    "service.recommendation", "furniture.children", ("behaviour.view", "contact"), "crm-eu-1", "app", "DE"
)
NEEDS = Requirements([REQUEST])
Case = tuple[PersonConsents, PersonConsents | None]
"""A person who must be refused and, where there is one, the twin without the defect, who must not."""
GOOD = {
    "purposes": ("service.recommendation",),
    "topics": ("furniture.children",),
    "data_categories": ("behaviour", "contact"),
    "recipients": ("crm-eu-1",),
    "channels": ("app",),
    "recipient_countries": ("DE",),
}
WIDER = {
    "purposes": ("service",),
    "topics": ("furniture", "*"),
    "data_categories": ("*",),
    "recipients": ("crm-eu-1", "*"),
    "channels": ("*",),
    "recipient_countries": ("*",),
}
MISSES = {
    "purposes": (
        (), ("services",), ("service.recommendation.beds",), ("marketing",), ("service.recommendations",), ("serv",),
        ("service-recommendation",),
    ),
    "topics": ((), ("furniture.childrens-books",), ("furniture.children.beds",), ("sofa",), ("furniture.child",), ("furnitur",)),
    "data_categories": ((), ("behaviour",), ("contact",), ("behaviour.view",), ("behaviour.view.deep", "contact"), ("behav", "contact")),
    "recipients": ((), ("crm-eu-10",), ("crm-eu",), ("CRM-EU-1",), ("crm-us-1", "crm-eu-2")),
    "channels": ((), ("apps",), ("store",), ("wifi", "market")),
    "recipient_countries": ((), ("CN",), ("FR", "CN"), ("DK",)),
}  # fmt: skip
JUNK: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1.5,
    2**70,
    "",
    "yes",
    "*",
    [],
    {},
    [None],
    {"a": 1},
    [[]],
    "\ud800",
    "given ",
    float("nan"),
)


def grant(
    rng: random.Random, *, at: int | None = None, record_id: str = "c1", principal: str = "p1", **changes: Any
) -> ConsentRecord:
    """A given record that covers the request, now, with some dimensions wider than needed."""
    picked = {name: (rng.choice(WIDER[name]),) if rng.random() < 0.3 else GOOD[name] for name in GOOD}
    if "*" in picked["purposes"]:
        picked["purposes"] = GOOD["purposes"]
    fields = {
        "record_id": record_id,
        "principal": principal,
        "state": ConsentState.GIVEN,
        "time_ms": rng.randrange(NOW - 500, NOW) if at is None else at,
        "valid_from_ms": rng.randrange(NOW - 500, NOW + 1),
        "valid_until_ms": rng.randrange(NOW + 1, NOW + 500),
        "scope": Scope(**picked),
        "use": UseBudget(max_uses=rng.choice((None, 1, 3))),
        "terms": TERMS,
    }
    return ConsentRecord(**{**fields, **changes})


def one(record: ConsentRecord) -> PersonConsents:
    return PersonConsents("p1").with_record(record)


def denial(
    rng: random.Random, state: str, at: int, *, record_id: str = "d1", principal: str = "p1"
) -> ConsentRecord:
    """A denial that touches the request: each dimension equal, broader, narrower, or not stated."""
    near = {
        "purposes": ((), ("*",), ("service",), ("service.recommendation",), ("service.recommendation.beds",)),
        "topics": ((), ("*",), ("furniture",), ("furniture.children.beds", "sofa")),
        "data_categories": ((), ("*",), ("contact",), ("behaviour.view.deep",)),
        "recipients": ((), ("*",), ("crm-eu-1", "x")),
        "channels": ((), ("*",), ("app",)),
        "recipient_countries": ((), ("*",), ("DE",)),
    }
    picked = {name: rng.choice(values) for name, values in near.items()}
    return ConsentRecord(
        record_id=record_id,
        principal=principal,
        state=ConsentState(state),
        time_ms=at,
        scope=Scope(**picked),
        terms=TERMS,
    )


def absent(rng: random.Random) -> Iterator[Case]:
    yield PersonConsents("p1"), None


def out_of_scope(rng: random.Random) -> Iterator[Case]:
    name = rng.choice(list(MISSES))
    good = grant(rng)
    bad = msgspec.structs.replace(
        good, scope=msgspec.structs.replace(good.scope, **{name: rng.choice(MISSES[name])})
    )
    yield one(bad), one(good)


def out_of_time(rng: random.Random) -> Iterator[Case]:
    good = grant(rng)
    low = rng.choice((NOW + 1, NOW + rng.randrange(1, 400)))
    high = rng.choice((NOW, NOW - rng.randrange(400)))
    window = rng.choice(((low, low + 9), (high - rng.randrange(1, 99), high)))
    changes = {"valid_from_ms": window[0], "valid_until_ms": window[1]}
    if rng.random() < 0.3:
        changes = {"time_ms": NOW + rng.choice((1, 60))}
    yield one(msgspec.structs.replace(good, **changes)), one(good)


def denied(rng: random.Random) -> Iterator[Case]:
    good = grant(rng)
    at = rng.choice((good.time_ms, good.time_ms + 1, NOW, NOW + rng.randrange(1, 99)))
    no = denial(rng, rng.choice(("withdrawn", "refused", "invalidated")), at)
    acts = [good, no]
    if rng.random() < 0.3:  # an older, wider consent does not revive
        acts.append(grant(rng, at=good.time_ms - 1, record_id="c0"))
    rng.shuffle(acts)
    person = PersonConsents("p1")
    for act in acts:
        person = person.with_record(act)
    earlier = msgspec.structs.replace(no, time_ms=good.time_ms - 1)
    yield person, one(good).with_record(earlier)


def ended(rng: random.Random) -> Iterator[Case]:
    good = grant(rng)
    state = ConsentState(rng.choice(("used", "expired", "withdrawn", "refused", "invalidated")))
    end = msgspec.structs.replace(
        good, state=state, version=2, time_ms=rng.randrange(good.time_ms, NOW + 9), scope=Scope(**GOOD)
    )
    acts = [good, end]
    if rng.random() < 0.5:  # given again in the same record
        acts.append(
            msgspec.structs.replace(
                good, version=3, time_ms=max(end.time_ms, good.time_ms) + rng.choice((0, 1))
            )
        )
    rng.shuffle(acts)
    person = PersonConsents("p1")
    for act in acts:
        person = person.with_record(act)
    yield person, one(good)


def spent(rng: random.Random) -> Iterator[Case]:
    uses = rng.randrange(1, 5)
    good = grant(rng, use=UseBudget(max_uses=uses))
    person = one(good)
    for number in range(uses):
        before = person
        person = person.with_use("c1", 1, f"r{number}")
    if rng.random() < 0.3:  # another version refills nothing
        person = person.with_record(
            msgspec.structs.replace(good, version=2, time_ms=min(good.time_ms + 1, NOW))
        )
    yield person, before


def superseded(rng: random.Random) -> Iterator[Case]:
    good = grant(rng, at=NOW - 600)
    name = rng.choice(list(MISSES))
    narrow = msgspec.structs.replace(
        good, version=2, time_ms=rng.randrange(NOW - 599, NOW + 1),
        scope=msgspec.structs.replace(good.scope, **{name: rng.choice(MISSES[name])}),
    )  # fmt: skip
    acts = [good, narrow]
    rng.shuffle(acts)
    yield one(acts[0]).with_record(acts[1]), one(good)


def malformed(rng: random.Random) -> Iterator[Case]:
    good = grant(rng)
    field = rng.choice([name for name in ConsentRecord.__struct_fields__ if name != "principal"])
    broken = msgspec.structs.replace(good, **{field: rng.choice(JUNK)})
    try:  # some junk is a legal value of some fields; then it is no defect
        parse_record(msgspec.to_builtins(broken))
    except (InvalidConsent, TypeError, ValueError):
        base = one(good) if rng.random() < 0.5 else PersonConsents("p1")
        yield base.with_record(broken), one(good)


def unparsed(rng: random.Random) -> Iterator[Case]:
    good = grant(rng)
    obj = msgspec.to_builtins(denial(rng, "withdrawn", rng.randrange(good.time_ms, NOW)))
    obj[rng.choice(("state", "time_ms", "version", "extra", "scope"))] = rng.choice(([1], "?", 1.5))
    with pytest.raises(InvalidConsent):
        parse_record(obj)
    yield one(good).with_malformed(obj, NOW), one(good).with_record(malformed_elsewhere(good))


def malformed_elsewhere(good: ConsentRecord) -> ConsentRecord:
    """A readable record about something else changes nothing."""
    other = Scope(**{**GOOD, "purposes": ("marketing",)})
    return msgspec.structs.replace(good, record_id="x", state=ConsentState.REFUSED, time_ms=NOW, scope=other)


def merged(rng: random.Random) -> Iterator[Case]:
    good = grant(rng)
    merge_ms = rng.randrange(good.time_ms, NOW + 9)
    kind = rng.choice(("denied", "expired", "spent", "malformed"))
    other, at = PersonConsents("p2"), rng.randrange(NOW - 900, merge_ms + 1)
    if kind == "denied":
        other = other.with_record(
            denial(rng, rng.choice(("withdrawn", "refused", "invalidated")), at, principal="p2")
        )
    elif kind == "expired":
        other = other.with_record(
            grant(rng, at=min(at, NOW), record_id="c2", principal="p2", valid_from_ms=1, valid_until_ms=NOW)
        )
    elif kind == "spent":
        yes = grant(rng, at=min(at, NOW), record_id="c2", principal="p2", use=UseBudget(max_uses=1))
        other = other.with_record(yes).with_use("c2", 1, "r")
    else:
        other = other.with_malformed({"record_id": "m"}, at)
    sides = [one(good), other]
    rng.shuffle(sides)
    person = sides[0].merged_with(sides[1], merge_ms)
    if rng.random() < 0.3:  # a third, silent identity settles nothing
        person = person.merged_with(PersonConsents(rng.choice(("p0", "p9"))), merge_ms + 5)
    settled = max(merge_ms, NOW - 1) + 1
    yield (
        person,
        person.with_record(grant(rng, at=settled, record_id="c9", valid_from_ms=NOW))
        if settled <= NOW
        else None,
    )


DEFECTS: tuple[Callable[[random.Random], Iterator[Case]], ...] = (
    absent,
    out_of_scope,
    out_of_time,
    denied,
    ended,
    spent,
    superseded,
    malformed,
    unparsed,
    merged,
)


def noise(rng: random.Random, person: PersonConsents) -> PersonConsents:
    """Records that bear on something else must not matter."""
    if rng.random() < 0.3:
        miss = rng.choice(list(MISSES))
        other = grant(rng, record_id="n1", scope=Scope(**{**GOOD, miss: rng.choice(MISSES[miss])}))
        person = person.with_record(msgspec.structs.replace(other, principal=person.subject))
    return person


def leaks(seed: int, cases: int) -> tuple[list[tuple[str, PersonConsents]], dict[str, int]]:
    """Run `cases` states; return how many let data through, and how often each defect was the only obstacle."""
    rng = random.Random(seed)
    found, healed, done = [], dict.fromkeys((kind.__name__ for kind in DEFECTS), 0), 0
    while done < cases:
        kind = rng.choice(DEFECTS)
        for broken, sound in kind(rng):
            person = noise(rng, broken)
            done += 1
            if decide(REQUEST, person, NOW).allowed or compile_mask(NEEDS, person, NOW)[0]:
                found.append((kind.__name__, person))
            if sound is not None and done % 10 == 0:
                healed[kind.__name__] += decide(REQUEST, sound, NOW).allowed
    return found, healed


def test_no_consent_state_that_is_no_by_construction_lets_data_through() -> None:
    found, healed = leaks(seed=1, cases=10_000)
    assert found == []
    assert all(count > 20 for name, count in healed.items() if name != "absent"), healed


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 12))
def test_a_million_consent_states_let_nothing_through(seed: int) -> None:
    found, _ = leaks(seed=seed, cases=100_000)
    assert found == []


def test_malformed_records_are_kept_with_what_could_be_read() -> None:
    kept = malformed_record(
        {"record_id": "m", "time_ms": 7, "scope": {"purposes": ["service"], "topics": 3}}, principal="p1"
    )
    assert (kept.record_id, kept.time_ms, kept.scope.purposes, kept.scope.topics) == (
        "m",
        7,
        ("service",),
        ("*",),
    )
