"""Builders and strategies of consent records, small enough that every instant can be checked."""

import re
from contextlib import suppress
from typing import Any

import msgspec
from hypothesis import strategies as st

from dayfly.privacy.consent import (
    ConsentRecord,
    ConsentRequest,
    ConsentState,
    PersonConsents,
    Scope,
    Terms,
    TransferBasis,
    UseBudget,
)

END = 40
"""Instants of generated states lie in `range(END)`."""

WIDE = Terms(jurisdiction="CN", transfer_basis=TransferBasis.CONTRACT)


def scope(purpose: str = "service", topic: str = "*", **other: Any) -> Scope:
    """A scope with one purpose and topic; every other dimension `*` unless given."""
    values = {
        "purposes": (purpose,),
        "topics": (topic,),
        "data_categories": ("*",),
        "recipients": ("*",),
        "channels": ("*",),
        "recipient_countries": ("*",),
    }
    return Scope(**{**values, **other})


def record(
    state: str = "given",
    at: int = 10,
    *,
    record_id: str = "c1",
    principal: str = "p1",
    window: tuple[int, int] | None = None,
    uses: int | None = None,
    **fields: Any,
) -> ConsentRecord:
    """A record at consent time `at`; a given one is valid in `window`, `[at, END)` by default."""
    low, high = window or ((at, END) if state == "given" else (0, 0))
    return ConsentRecord(
        record_id=record_id,
        principal=principal,
        state=ConsentState(state),
        time_ms=at,
        valid_from_ms=low,
        valid_until_ms=high,
        **{"use": UseBudget(max_uses=uses), "terms": WIDE, "scope": scope(), **fields},
    )


def asking(purpose: str = "service", topic: str = "sofa", **other: Any) -> ConsentRequest:
    """A request that asks for one thing in every dimension."""
    values = {
        "data_categories": ("behaviour",),
        "recipient": "crm",
        "channel": "app",
        "recipient_country": "CN",
    }
    return ConsentRequest(purpose, topic, **{**values, **other})


_ACT = re.compile(
    r"(?P<side>B:)?(?P<state>[a-z]+) (?P<id>\w+)@(?P<at>\d+) (?P<scope>\S+)(?: (?P<low>\d+)\.\.(?P<high>\d+))?(?: x(?P<uses>\d+))?"
)


def told(text: str) -> PersonConsents:
    """A person from the boundary table's `known` column; entries are added in the written order."""
    persons = {"A": PersonConsents("p1"), "B": PersonConsents("p2")}
    merged = False
    for act in text.split("; "):
        if act == "*nothing*":
            continue
        if act.startswith("merge@"):
            persons["A"] = persons["A"].merged_with(persons["B"], int(act[6:]))
            merged = True
        elif act.startswith("use "):
            persons["A"] = persons["A"].with_use(act[4:], 1, f"r{len(persons['A'].uses)}")
        else:
            found = _ACT.fullmatch(act)
            assert found, act
            side = "B" if found["side"] and not merged else "A"
            purpose, _, topic = found["scope"].partition("/")
            fields = msgspec.structs.asdict(scope(purpose, topic))
            if found["state"] == "malformed":
                obj = {"record_id": found["id"], "scope": fields, "time_ms": int(found["at"]), "state": 7}
                persons[side] = persons[side].with_malformed(obj, int(found["at"]))
                continue
            persons[side] = persons[side].with_record(
                record(
                    found["state"],
                    int(found["at"]),
                    record_id=found["id"],
                    principal="p2" if side == "B" else "p1",
                    window=(int(found["low"]), int(found["high"])) if found["low"] else None,
                    uses=int(found["uses"]) if found["uses"] else None,
                    scope=scope(purpose, topic),
                )
            )
    return persons["A"]


PURPOSES = ("service", "service.recommendation", "services", "marketing")
TOPICS = ("*", "furniture", "furniture.children", "furniture.childrens-books", "sofa")
DATA = ("*", "behaviour", "behaviour.view", "contact")
RECIPIENTS = ("*", "crm", "crm2")
CHANNELS = ("*", "app", "store")
COUNTRIES = ("*", "CN", "DE")


def some(values: tuple[str, ...], *, empty: bool = True) -> st.SearchStrategy[tuple[str, ...]]:
    """Tuples of up to two values."""
    return st.lists(st.sampled_from(values), min_size=0 if empty else 1, max_size=2, unique=True).map(tuple)


def scopes(*, grant: bool) -> st.SearchStrategy[Scope]:
    """Scopes; those of grants do not use `*` for purposes."""
    wide = st.sampled_from([("*",), ("*",), ("*",), ()])
    return st.builds(
        Scope,
        purposes=some(PURPOSES if grant else ("*", *PURPOSES)),
        topics=some(TOPICS) | wide,
        data_categories=some(DATA) | wide,
        recipients=some(RECIPIENTS) | wide,
        channels=some(CHANNELS) | wide,
        recipient_countries=some(COUNTRIES) | wide,
    )


def requests() -> st.SearchStrategy[ConsentRequest]:
    """Requests that the generated scopes may or may not cover."""
    return st.builds(
        ConsentRequest,
        purpose=st.sampled_from(PURPOSES),
        topic=st.sampled_from(("*", *TOPICS, "furniture.children.beds")),
        data_categories=st.sampled_from([(), ("behaviour",), ("behaviour.view", "contact"), ("*",)]),
        recipient=st.sampled_from(RECIPIENTS),
        channel=st.sampled_from(CHANNELS),
        recipient_country=st.sampled_from(COUNTRIES),
    )


@st.composite
def records(draw: st.DrawFn, principals: tuple[str, ...] = ("p1",)) -> ConsentRecord:
    """Records of any state, with few ids so that versions meet."""
    state = draw(st.sampled_from(["given"] * 6 + [one.value for one in ConsentState]))
    at = draw(st.integers(0, END - 1))
    low = draw(st.integers(0, END - 2))
    return record(
        state,
        at,
        record_id=draw(st.sampled_from(("c1", "c2", "c3", "c4", "c5"))),
        principal=draw(st.sampled_from(principals)),
        window=(low, draw(st.integers(low + 1, END))) if state == "given" else None,
        uses=draw(st.sampled_from((None, None, 1, 2))),
        scope=draw(scopes(grant=state == "given")),
        version=draw(st.integers(1, 3)),
    )


@st.composite
def persons(
    draw: st.DrawFn, subject: str = "p1", *, max_records: int = 5, spend: bool = True
) -> PersonConsents:
    """One identity with records, unreadable records and uses."""
    person = PersonConsents(subject)
    for one in draw(st.lists(records((subject,)), max_size=max_records)):
        person = person.with_record(one)
    if draw(st.integers(0, 3)) == 0:
        garbage = {"scope": draw(st.sampled_from([None, {"purposes": ["marketing"]}, 5])), "record_id": "m"}
        person = person.with_malformed(garbage, draw(st.integers(0, END - 1)))
    given = [one for one in person.entries if getattr(one, "state", None) == "given"]
    if spend and given and draw(st.booleans()):
        target = draw(st.sampled_from(given)).record_id
        with suppress(ValueError):  # spent already
            person = person.with_use(target, 1, f"r-{subject}-{target}")
    return person
