"""What the oracle takes in, when it counts, and which changes it tells: by hand, times in milliseconds after the start."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from dayfly.engine.catalog import Catalog, EventType, FieldSpec, FieldType
from dayfly.engine.events import ObservedConsent
from dayfly.engine.inputs import ConsentGiven, ConsentWithdrawn, Erase, Merge, Publish, Tick
from dayfly.engine.policy.model import Channel, Policy, Settings
from dayfly.engine.tags.tree import Absent, And, Capture, Comparison, FirstTime, InTag, Measure, Sequence, Tag
from dayfly.privacy.consent import ConsentRecord, ConsentState, Scope, Terms, TransferBasis, UseBudget
from dayfly.privacy.consent.platforms import parse_mapping
from tests.engine.oracle.cases import ANN, BEN, CAT, CATALOG, START, batch, event, match, oracle, policy, tag
from tests.oracles.consent_real import RealConsent
from tests.oracles.consent_rules import ConsentRules, ScriptedConsent
from tests.oracles.membership import FOREVER, OracleEngine

VIEWS = tag(Comparison(Measure("count", match("view"), 100), ">=", Decimal(2)))
QUIET = tag(Absent(match("view"), 100), name="quiet")
LEFT = tag(Sequence((match("cart"),), 200, None, match("order"), 30), name="left")
ANY = ("*",)


def told(engine: OracleEngine, name: str = "t") -> list[tuple[int, bytes, str]]:
    """The changes so far as (offset, subject, change)."""
    return [(item.at_ms - START, item.subject, item.change) for item in engine.log if item.tag == name]


def record(
    at: int,
    *,
    subject: bytes = ANN,
    purpose: str = "service",
    topic: str = "*",
    start: int | None = None,
    end: int = 10**6,
    granted: bool = True,
) -> ConsentRecord:
    """A consent record at offset `at` that is valid from `start` to `end`."""
    return ConsentRecord(
        record_id=f"r{at}-{purpose}-{granted}",
        principal=subject.hex(),
        state=ConsentState.GIVEN if granted else ConsentState.REFUSED,
        time_ms=START + at,
        valid_from_ms=START + (at if start is None else start),
        valid_until_ms=START + end,
        scope=Scope(
            purposes=(purpose,),
            topics=(topic,),
            data_categories=ANY,
            recipients=ANY,
            channels=ANY,
            recipient_countries=ANY,
        ),
        use=UseBudget(max_uses=None),
        terms=Terms(transfer_basis=TransferBasis.CONTRACT),
    )


def given(at: int, *, subject: bytes = ANN, **more: Any) -> ConsentGiven:
    """A consent record as an input."""
    return ConsentGiven(START + at, subject, record(at, subject=subject, **more))


# --- what is taken in --------------------------------------------------------------------------------------------------


def test_the_same_id_counts_once_also_long_after() -> None:
    engine = oracle(VIEWS)
    engine.apply([batch(event("view", 0, id=7), event("view", 1, id=7), event("view", 90, id=7))], START + 90)
    assert engine.counts == {"accepted": 1, "duplicate": 2}
    assert not engine.member(ANN, "t")


def test_a_copy_of_a_waiting_event_is_a_duplicate() -> None:
    engine = oracle(VIEWS)
    engine.apply(
        [batch(event("view", 50, received=0, id=7), event("view", 50, received=1, id=7))], START + 60
    )
    assert engine.counts == {"waiting": 1, "duplicate": 1, "accepted": 1}


@pytest.mark.parametrize(
    ("late", "outcome"), [(99_999, "accepted"), (100_000, "too_late"), (100_001, "too_late")]
)
def test_an_event_exactly_as_late_as_allowed_is_dead(late: int, outcome: str) -> None:
    engine = oracle(VIEWS)
    engine.apply([batch(event("view", 0, received=late))], START + late)
    assert engine.counts == {outcome: 1}
    assert engine.dead == ([] if outcome == "accepted" else [(0, 0, "too_late")])


@pytest.mark.parametrize(
    ("ahead", "outcome"), [(0, "accepted"), (10_000, "waiting"), (10_001, "too_far_ahead")]
)
def test_an_event_further_ahead_than_the_skew_is_dead(ahead: int, outcome: str) -> None:
    engine = oracle(VIEWS)
    engine.apply([batch(event("view", ahead, received=0))], START)
    assert engine.counts == {outcome: 1}


def test_a_dead_event_is_not_remembered() -> None:
    engine = oracle(VIEWS)
    engine.apply(
        [batch(event("view", 20_000, received=0, id=7), event("view", 20_000, received=15_000, id=7))],
        START + 15_000,
    )
    assert engine.counts == {"too_far_ahead": 1, "waiting": 1}


def test_an_undeclared_type_is_ignored() -> None:
    engine = oracle(VIEWS)
    engine.apply([batch(event("nothing we know", 0))], START)
    assert engine.counts == {"undeclared": 1}
    assert engine.people.known(ANN) is None


def test_a_waiting_event_counts_from_its_own_instant() -> None:
    engine = oracle(VIEWS, track=True)
    engine.apply([batch(event("view", 0), event("view", 50, received=1))], START + 49)
    assert not engine.member(ANN, "t")
    assert engine.member(ANN, "t", START + 50)
    engine.apply([], START + 200)
    assert told(engine) == [(50, ANN, "enter"), (100, ANN, "leave")]


def test_an_input_before_the_clock_is_applied_at_the_clock() -> None:
    engine = oracle(VIEWS, track=True)
    engine.apply([Tick(START + 90)], START + 90)
    engine.apply([batch(event("view", 0), event("view", 1))], START + 50)
    engine.apply([Tick(START + 200)], 0)
    assert told(engine) == [(90, ANN, "enter"), (100, ANN, "leave")]
    assert engine.clock_ms == START + 200


def test_a_channel_with_a_purpose_is_closed_until_the_person_consents() -> None:
    engine = oracle(VIEWS, consents=RealConsent(), collect_under="service")
    first, again = event("view", 0, id=7, channel="shop"), event("view", 0, received=3, id=7, channel="shop")
    engine.apply([batch(first), given(2), batch(again)], START + 4)
    assert engine.counts == {"refused": 1, "accepted": 1}


# --- changes -----------------------------------------------------------------------------------------------------------


def test_a_tag_is_left_at_the_instant_its_deciding_event_is_out() -> None:
    engine = oracle(VIEWS, track=True)
    engine.apply([batch(event("view", 0), event("view", 40), event("view", 60))], START + 1_000)
    assert told(engine) == [(40, ANN, "enter"), (140, ANN, "leave")]
    assert engine.log[0].until_ms == START + 100
    assert engine.log[1].reasons == {"when"}


def test_two_flips_at_one_instant_by_time_leave_no_trace() -> None:
    swap = tag(Comparison(Measure("count", match("view"), 50), "==", Decimal(1)))
    engine = oracle(swap, track=True)
    engine.apply([batch(event("view", 0), event("view", 50, received=10))], START + 200)
    assert told(engine) == [(0, ANN, "enter"), (100, ANN, "leave")]


def test_an_input_may_flip_back_what_expired_at_its_instant() -> None:
    swap = tag(Comparison(Measure("count", match("view"), 50), "==", Decimal(1)))
    engine = oracle(swap, track=True)
    engine.apply([batch(event("view", 0), event("view", 50))], START + 60)
    assert told(engine) == [(0, ANN, "enter"), (50, ANN, "leave"), (50, ANN, "enter")]


def test_what_did_not_follow_is_told_when_the_quiet_time_ends() -> None:
    engine = oracle(LEFT, track=True)
    engine.apply([batch(event("cart", 0))], START + 1_000)
    assert told(engine, "left") == [(30, ANN, "enter"), (200, ANN, "leave")]


def test_absence_enters_by_itself_and_never_ends_by_itself() -> None:
    engine = oracle(QUIET, track=True)
    engine.apply([batch(event("view", 0))], START + 150)
    assert told(engine, "quiet") == [(100, ANN, "enter")]
    assert engine.log[0].until_ms == FOREVER


def test_a_tag_changes_when_an_event_leaves_the_history() -> None:
    settings = Settings(history_ms=1_000, allowed_lateness_ms=100, future_skew_ms=10)
    engine = oracle(tag(FirstTime(match("view"), 100)), track=True, settings=settings)
    engine.apply([batch(event("view", 0), event("view", 950))], START + 2_000)
    assert told(engine) == [
        (0, ANN, "enter"),
        (100, ANN, "leave"),
        (1_000, ANN, "enter"),
        (1_050, ANN, "leave"),
    ]


def test_no_window_reaches_beyond_the_history() -> None:
    settings = Settings(history_ms=50, allowed_lateness_ms=100, future_skew_ms=10)
    engine = oracle(VIEWS, track=True, settings=settings)
    engine.apply([batch(event("view", 0), event("view", 10))], START + 200)
    assert told(engine) == [(10, ANN, "enter"), (50, ANN, "leave")]


def test_a_tag_changes_at_the_instant_at_which_the_tag_it_asks_for_changes() -> None:
    engine = oracle(VIEWS, tag(And((InTag("t"), Absent(match("order"), 7))), name="asks"), track=True)
    engine.apply([batch(event("view", 0), event("view", 40))], START + 1_000)
    assert told(engine, "asks") == [(40, ANN, "enter"), (100, ANN, "leave")]


def test_changes_tells_the_past_from_the_log_and_the_future_by_recounting() -> None:
    engine = oracle(VIEWS, track=True)
    engine.apply([batch(event("view", 0), event("view", 40))], START + 50)
    assert engine.changes(ANN, "t", START, START + 1_000) == [(START + 40, "enter"), (START + 100, "leave")]
    assert engine.changes(ANN, "t", START + 40, START + 99) == []


def test_the_past_is_not_recounted() -> None:
    engine = oracle(VIEWS)
    engine.apply([Tick(START)], START)
    with pytest.raises(ValueError, match=rf"now_ms={START - 1} must be >= clock_ms={START}"):
        engine.member(ANN, "t", START - 1)


def test_captures_are_there_while_the_tag_is() -> None:
    shown = Capture("materials", Measure("distinct", match("view"), 100, "properties.material"))
    dearest = Capture("dearest", Measure("max", match("view"), 100, "properties.price"))
    engine = oracle(Tag("t", "service", "furniture", VIEWS.when, (shown, dearest)))
    engine.apply(
        [batch(event("view", 0, material="oak", price=1.5), event("view", 1, material="elm"))], START + 1
    )
    assert engine.captures(ANN, "t") == {"materials": {"oak", "elm"}, "dearest": Decimal("1.5")}
    assert engine.captures(ANN, "t", START + 100) == {}
    assert engine.value(ANN, shown.measure, START + 100) == 1
    assert engine.value(ANN, shown.measure, START + 101) is None


# --- consent -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("consents", [RealConsent(), ScriptedConsent()], ids=["real", "scripted"])
def test_a_tag_follows_the_validity_and_the_withdrawal_of_consent(consents: ConsentRules) -> None:
    engine = oracle(QUIET, consents=consents, track=True)
    engine.apply(
        [given(0, start=10, end=50), given(60), ConsentWithdrawn(START + 80, ANN, "service", "*")], START + 90
    )
    assert told(engine, "quiet") == [
        (10, ANN, "enter"),
        (50, ANN, "leave"),
        (60, ANN, "enter"),
        (80, ANN, "leave"),
    ]
    assert [item.reasons for item in engine.log if item.change == "leave"] == [{"consent"}, {"consent"}]
    assert [item.until_ms - START for item in engine.log if item.change == "enter"] == [50, 10**6]


@pytest.mark.parametrize("consents", [RealConsent(), ScriptedConsent()], ids=["real", "scripted"])
@pytest.mark.parametrize(
    ("purpose", "topic", "carries"),
    [
        ("service", "furniture", True),
        ("service", "*", True),
        ("serv", "*", False),
        ("service.more", "*", False),
        ("marketing", "*", False),
        ("service", "furniture.sofa", False),
        ("service", "kitchen", False),
    ],
)
def test_a_tag_needs_consent_for_its_purpose_and_topic(
    consents: ConsentRules, purpose: str, topic: str, *, carries: bool
) -> None:
    engine = oracle(QUIET, consents=consents)
    engine.apply([given(0, purpose=purpose, topic=topic)], START)
    assert engine.member(ANN, "quiet") is carries


def test_somebody_who_said_nothing_carries_nothing() -> None:
    engine = oracle(QUIET, consents=RealConsent())
    engine.apply([batch(event("cart", 0))], START + 500)
    assert not engine.member(ANN, "quiet")


@pytest.mark.parametrize("consents", [RealConsent(), ScriptedConsent()], ids=["real", "scripted"])
def test_merged_people_who_disagree_have_no_consent_until_one_speaks_again(consents: ConsentRules) -> None:
    engine = oracle(QUIET, consents=consents, track=True)
    no = given(5, subject=BEN, granted=False)
    engine.apply([given(0), no, Merge(START + 10, ANN, BEN), given(20, subject=BEN)], START + 30)
    assert told(engine, "quiet") == [(0, ANN, "enter"), (10, ANN, "leave"), (20, ANN, "enter")]


# --- merges, erasures, rule changes --------------------------------------------------------------------------------------


def test_merged_people_share_one_history_and_the_other_leaves_as_merged() -> None:
    engine = oracle(VIEWS, QUIET, track=True)
    engine.apply(
        [batch(event("view", 0), event("view", 10, subject=BEN), event("view", 20, subject=BEN))], START + 30
    )
    engine.apply([Merge(START + 30, ANN, BEN), Tick(START + 119)], START + 119)
    assert told(engine) == [(20, BEN, "enter"), (30, BEN, "leave"), (30, ANN, "enter"), (110, ANN, "leave")]
    assert [item.reasons for item in engine.log if item.subject == BEN and item.change == "leave"] == [
        {"merged"}
    ]
    assert engine.tags(BEN, START + 120) == engine.tags(ANN, START + 120) == {"quiet"}


def test_a_chain_of_merges_is_one_person() -> None:
    engine = oracle(VIEWS)
    engine.apply([batch(event("view", 0, subject=CAT), event("view", 1, subject=ANN))], START + 1)
    engine.apply(
        [Merge(START + 2, BEN, CAT), Merge(START + 3, ANN, BEN), Merge(START + 4, CAT, ANN)], START + 4
    )
    assert [engine.member(subject, "t") for subject in (ANN, BEN, CAT)] == [True, True, True]
    assert len(engine.people.all()) == 1
    assert engine.people.all()[0].subject == ANN


def test_a_link_inside_an_event_merges_when_the_event_counts() -> None:
    engine = oracle(VIEWS, track=True)
    engine.apply([batch(event("view", 0, subject=BEN), event("view", 50, received=1, link=BEN))], START + 49)
    assert not engine.member(BEN, "t")
    assert engine.member(BEN, "t", START + 50)
    engine.apply([], START + 60)
    assert told(engine) == [(50, ANN, "enter")]


def test_an_erased_person_starts_anew_and_waiting_events_are_gone() -> None:
    engine = oracle(VIEWS, track=True)
    before = [event("view", 0), event("view", 1, link=BEN), event("view", 90, received=2, subject=BEN)]
    engine.apply([batch(*before), Erase(START + 3, BEN)], START + 3)
    assert told(engine) == [(1, ANN, "enter"), (3, ANN, "leave")]
    assert engine.log[-1].reasons == {"erased"}
    engine.apply([batch(event("view", 4), event("view", 5, subject=BEN))], START + 95)
    assert not engine.member(ANN, "t")
    assert not engine.member(BEN, "t")


def test_a_rule_change_takes_effect_on_everybody_from_history() -> None:
    engine = oracle(VIEWS, QUIET, track=True)
    engine.apply(
        [batch(event("view", 0), event("view", 1), event("view", 0, received=2, subject=BEN))], START + 10
    )
    once = tag(Comparison(Measure("count", match("view"), 100), ">=", Decimal(1)))
    engine.apply([Publish(START + 10, policy(once, version=2))], START + 200)
    assert told(engine) == [(1, ANN, "enter"), (10, BEN, "enter"), (100, BEN, "leave"), (101, ANN, "leave")]


def test_a_tag_that_is_gone_from_the_policy_is_left_as_unpublished() -> None:
    engine = oracle(QUIET, track=True)
    engine.apply([batch(event("cart", 0)), Publish(START + 5, policy(VIEWS, version=2))], START + 5)
    assert [item.change for item in engine.log] == ["enter", "leave"]
    assert engine.log[-1].reasons == {"unpublished"}


def test_history_keeps_only_the_fields_that_were_declared_when_the_event_came() -> None:
    grown = Catalog(
        (EventType("order", (FieldSpec("note", FieldType.STRING),)), *CATALOG.types[:2]), CATALOG.channels
    )
    noted = tag(Comparison(Measure("count", match("order"), 100, "properties.note"), ">=", Decimal(1)))
    engine = oracle(VIEWS)
    engine.apply([batch(event("order", 0, note="x"), event("view", 0), event("view", 0))], START)
    engine.apply([Publish(START, Policy(2, grown, tags=(noted, Tag("views", "s", "f", VIEWS.when))))], START)
    assert not engine.member(ANN, "t")
    assert engine.member(ANN, "views")
    engine.apply([batch(event("order", 1, note="x"), catalog=grown)], START + 1)
    assert engine.member(ANN, "t")


@pytest.mark.parametrize(
    ("content", "carries"), [({"shop": True}, True), ({"shop": False}, False), ({}, False)]
)
def test_a_consent_object_inside_an_event_is_read_before_the_door_decides(
    content: dict[str, bool], *, carries: bool
) -> None:
    scope = {name: ["*"] for name in ("topics", "data_categories", "recipients", "channels")}
    grant = {
        "scope": {**scope, "purposes": ["service"], "recipient_countries": ["CN"]},
        "validity_seconds": 60,
    }
    terms = {"jurisdiction": "CN"}
    mapping = parse_mapping({"categories": {"shop": {**grant, "max_uses": None}}, "terms": terms})
    rules = policy(QUIET, collect_under="service")
    engine = OracleEngine(
        replace(rules, channels=(Channel("shop", collect_under="service", consent=mapping),)), RealConsent()
    )
    seen = ObservedConsent("segment", {"categoryPreferences": content}, 7)
    arrived = replace(event("cart", 0, channel="shop"), consent=seen)
    engine.apply([batch(arrived)], START)
    assert engine.counts == {"accepted" if carries else "refused": 1}
    assert engine.member(ANN, "quiet") is carries
    assert not engine.member(ANN, "quiet", START + 60_000)
