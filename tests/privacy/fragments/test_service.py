"""Minting, expiry, withdrawal, supersession and the law of conservation."""

import hashlib
import threading
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dayfly.privacy.errors import (
    ConsentError,
    ExpiredFragment,
    FragmentServiceClosed,
    InvalidArgument,
    InvalidFragment,
    InvalidOrder,
    LeaseRefused,
    MintRefused,
)
from dayfly.privacy.fragments import (
    ConsentRef,
    DestroyReason,
    Fragment,
    FragmentOrder,
    OrderField,
    Profile,
    ReplayGuard,
    ServiceSettings,
    SuiteName,
)
from dayfly.privacy.fragments.tombstones import Checkpoint, open_note
from dayfly.privacy.fragments.wire import AnswerClaims, ClearClaims, SealedClaims, b64url

from .world import AUDIENCE, FIELDS, LEASE_URL, NOW_MS, World, order

VALUES = {field.name: field.value for field in FIELDS}


def balance(world: World, now_ms: int) -> Checkpoint:
    return Checkpoint.from_text(open_note(world.cdp.checkpoint(now_ms), world.note_verifier))


# --- the three profiles ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", list(SuiteName))
def test_a_sealed_fragment_is_verified_leased_and_opened(suite: SuiteName) -> None:
    world = World()
    verified = world.crm.verify(world.cdp.mint(order(), NOW_MS).token, NOW_MS)
    pending = world.ask(verified, suite=suite)
    opened = world.crm.open(verified, pending, world.lease(pending.request), NOW_MS)
    assert opened.values == VALUES
    assert opened.until_ms == NOW_MS + 300_000


def test_the_claims_say_what_the_order_said() -> None:
    world = World()
    claims = world.crm.verify(world.cdp.mint(order(use=1, version=4), NOW_MS).token, NOW_MS).claims
    assert isinstance(claims, SealedClaims)
    assert (claims.iss, claims.aud, claims.iat) == ("https://cdp.example", AUDIENCE, NOW_MS // 1000)
    assert (claims.pur, claims.topic, claims.use, claims.ver) == (
        "dpv:Personalisation",
        "furniture.children",
        "once",
        4,
    )
    assert claims.lin == b64url(hashlib.sha256(b"lineage block").digest())
    assert claims.cnf.jkt == world.crm.jkt
    assert [(ref.id, ref.ver) for ref in claims.cst] == [("c:7Q2mZk1b", 3)]
    assert claims.lease == "/v1/lease"
    assert len(claims.sd) == len(FIELDS)


def test_the_subject_is_pairwise_and_never_the_internal_pseudonym() -> None:
    world = World()
    world.recipients["crm-8"] = world.crm.jkt
    tokens = [world.cdp.mint(order(f"o-{name}", audience=name), NOW_MS).token for name in (AUDIENCE, "crm-8")]
    subs = {
        world.client(audience=name).verify(token, NOW_MS).claims.sub
        for name, token in zip((AUDIENCE, "crm-8"), tokens, strict=True)
    }
    assert len(subs) == 2
    assert b64url(order().subject) not in subs


def test_a_clear_fragment_carries_its_values_for_a_minute() -> None:
    world = World()
    fragment = world.cdp.mint(order(profile=Profile.F0), NOW_MS)
    claims = world.crm.verify(fragment.token, NOW_MS).claims
    assert isinstance(claims, ClearClaims)
    assert claims.val == VALUES
    assert claims.exp - claims.iat == 60


def test_a_clear_fragment_is_refused_where_somebody_would_have_to_count() -> None:
    with pytest.raises(InvalidOrder, match="use=1 must be None in profile F0"):
        World().cdp.mint(order(profile=Profile.F0, use=1), NOW_MS)


def test_a_replay_guard_lets_a_clear_fragment_through_once() -> None:
    guard = ReplayGuard(capacity=2)
    guard.admit("a", 100, 0)
    with pytest.raises(InvalidFragment):
        guard.admit("a", 100, 99_999)
    guard.admit("b", 200, 0)
    with pytest.raises(InvalidFragment):
        guard.admit("c", 200, 99_999)
    guard.admit("c", 200, 100_000)
    with pytest.raises(InvalidArgument, match="capacity=0 must be > 0"):
        ReplayGuard(capacity=0)


def answers(world: World, **changes: Any) -> Fragment:
    fields = (OrderField("green_channel", value=True), OrderField("over_5000", value=False))
    return world.cdp.mint(order(profile=Profile.F2, fields=fields, **changes), NOW_MS)


@pytest.mark.parametrize(("question", "yes"), [("green_channel", True), ("over_5000", False)])
def test_an_answer_fragment_answers_and_holds_no_value(question: str, yes: bool) -> None:  # noqa: FBT001
    world = World()
    verified = world.crm.verify(answers(world).token, NOW_MS)
    assert isinstance(verified.claims, AnswerClaims)
    assert verified.claims.ask == ("green_channel", "over_5000")
    pending = world.ask(verified, question=question)
    answer = world.crm.answer(verified, pending, world.lease(pending.request), NOW_MS)
    assert (answer.question, answer.yes) == (question, yes)


def test_the_token_of_an_answer_fragment_does_not_depend_on_the_answers() -> None:
    world = World()
    sizes = {
        len(
            world.cdp.mint(
                order(str(yes), profile=Profile.F2, fields=(OrderField("q", value=yes),)), NOW_MS
            ).token
        )
        for yes in (True, False)
    }
    assert len(sizes) == 1


def test_an_answer_uses_up_the_budget() -> None:
    world = World()
    verified = world.crm.verify(answers(world, use=1).token, NOW_MS)
    world.lease(world.ask(verified, question="green_channel").request)
    with pytest.raises(LeaseRefused, match="gone"):
        world.lease(world.ask(verified, question="over_5000").request)


# --- what an order must be -------------------------------------------------------------------------------------------

BAD_ORDERS: dict[str, tuple[dict[str, Any], str]] = {
    "short subject": ({"subject": b"x"}, r"len\(subject\)=1"),
    "long trigger": ({"trigger_id": bytes(17)}, r"len\(trigger_id\)=17"),
    "no audience": ({"audience": ""}, "must not be empty"),
    "no purpose": ({"purpose": ""}, "must not be empty"),
    "no order id": ({"order_id": ""}, "must not be empty"),
    "unknown audience": ({"audience": "crm-9"}, "audience='crm-9' must be a registered recipient"),
    "no consent": ({"consent": ()}, r"len\(consent\)=0"),
    "65 consents": ({"consent": order().consent * 65}, r"len\(consent\)=65"),
    "no use": ({"use": 0}, r"use=0 must lie in \[1"),
    "endless use": ({"use": 2**53}, "must lie in"),
    "no life": ({"ttl_seconds": 0}, "ttl_seconds=0 must lie in"),
    "long life": ({"ttl_seconds": 1801}, "ttl_seconds=1801 must lie in"),
    "no fields": ({"fields": ()}, r"len\(fields\)=0"),
    "65 fields": ({"fields": tuple(OrderField(f"f{n}", 1) for n in range(65))}, r"len\(fields\)=65"),
    "field twice": ({"fields": (OrderField("a", 1), OrderField("a", 2))}, "must differ"),
    "claim name": ({"fields": (OrderField("exp", 1),)}, "'exp' must match"),
    "odd name": ({"fields": (OrderField("a b", 1),)}, "'a b' must match"),
    "long text": ({"fields": (OrderField("a", "x" * 257),)}, r"fields\['a'\] must be a string"),
    "huge int": ({"fields": (OrderField("a", 2**53),)}, r"fields\['a'\]"),
    "infinite": ({"fields": (OrderField("a", float("inf")),)}, r"fields\['a'\]"),
    "not a number": ({"fields": (OrderField("a", float("nan")),)}, r"fields\['a'\]"),
    "nested": ({"fields": (OrderField("a", ((1,),)),)}, r"fields\['a'\]"),  # type: ignore[arg-type]
    "object": ({"fields": (OrderField("a", {"b": 1}),)}, r"fields\['a'\]"),  # type: ignore[arg-type]
    "list of 65": ({"fields": (OrderField("a", (1,) * 65),)}, r"fields\['a'\]"),
    "negative version": ({"version": -1}, "version=-1"),
    "huge version": ({"version": 2**53}, "must lie in"),
    "huge consent version": (
        {"consent": (ConsentRef("c", 2**53, NOW_MS + 9_000),)},
        "consent version=.* must lie in",
    ),
    "answer that is no yes or no": ({"profile": Profile.F2}, "true or false in profile F2"),
    "too long a token": (
        {"fields": tuple(OrderField(f"f{n}", "x" * 200) for n in range(30))},
        r"len\(token\)=\d+ must be <= 8192",
    ),
}


@pytest.mark.parametrize("name", BAD_ORDERS)
def test_a_bad_order_is_refused_and_leaves_nothing(name: str) -> None:
    changes, message = BAD_ORDERS[name]
    world = World()
    with pytest.raises(InvalidOrder, match=message) as caught:
        world.cdp.mint(order(**changes), NOW_MS)
    assert "xxxx" not in str(caught.value)
    assert world.cdp.live() == ()
    assert world.cdp.minted == world.cdp.tombstones == (1 if name == "too long a token" else 0)


LIMITS = st.sampled_from([1, 255, 256])


@given(
    st.dictionaries(
        st.text("abcXYZ019_.:-", min_size=1, max_size=64),
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(-(2**53) + 1, 2**53 - 1),
            st.floats(allow_nan=False, allow_infinity=False),
            st.text(max_size=40, alphabet=st.characters(exclude_categories=["Cs"])),
            st.tuples(st.integers(-9, 9), st.booleans()),
            st.just(()),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_whatever_goes_in_comes_out(values: dict[str, Any]) -> None:
    fields = tuple(OrderField(name, value) for name, value in values.items())
    try:
        fragment = SHARED.cdp.mint(order(f"h-{next(COUNT)}", fields=fields), NOW_MS)
    except InvalidOrder as refusal:
        told = str(refusal)
        assume("be no claim name" not in told)
        raise
    verified = SHARED.crm.verify(fragment.token, NOW_MS)
    pending = SHARED.ask(verified)
    opened = SHARED.crm.open(verified, pending, SHARED.lease(pending.request), NOW_MS)
    assert opened.values == values
    assert list(map(type, opened.values.values())) == list(map(type, values.values()))


# --- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "exp_ms"),
    [
        ({}, NOW_MS - 250 + 1_800_000),
        ({"ttl_seconds": 10}, NOW_MS - 250 + 10_000),
        ({"expires_at_ms": NOW_MS + 5_750}, NOW_MS + 5_750),
        ({"expires_at_ms": NOW_MS + 5_749}, NOW_MS + 4_750),
        ({"expires_at_ms": NOW_MS + 86_400_000}, NOW_MS - 250 + 1_800_000),
        ({"issued_at_ms": NOW_MS - 1_000_000}, NOW_MS - 250 + 800_000),
        (
            {"consent": (ConsentRef("a", 1, NOW_MS + 60_750), ConsentRef("b", 1, NOW_MS + 30_750))},
            NOW_MS + 30_750,
        ),
        ({"fields": (OrderField("a", 1, NOW_MS + 7_750), OrderField("b", 2))}, NOW_MS + 7_750),
    ],
)
def test_a_fragment_lives_until_the_earliest_end(changes: dict[str, Any], exp_ms: int) -> None:
    world = World()
    fragment = world.cdp.mint(order(**changes), NOW_MS)
    assert fragment.expires_at_ms == exp_ms
    verified = world.crm.verify(fragment.token, exp_ms - 1)
    world.lease(world.ask(verified, exp_ms - 1).request, exp_ms - 1)
    assert world.cdp.expire(exp_ms - 1) == ()
    with pytest.raises(ExpiredFragment):
        world.crm.verify(fragment.token, exp_ms)
    with pytest.raises(LeaseRefused, match="gone"):
        world.lease(world.ask(verified, exp_ms).request, exp_ms)
    (death,) = world.cdp.expire(exp_ms)
    assert (death.jti, death.reason, death.leases) == (fragment.jti, DestroyReason.EXPIRED, 1)


@pytest.mark.parametrize("left_ms", [-1, 0, 1, 749])
def test_an_order_without_a_whole_second_left_is_refused(left_ms: int) -> None:
    with pytest.raises(MintRefused, match="nothing is left of its time"):
        World().cdp.mint(order(expires_at_ms=NOW_MS + left_ms), NOW_MS)


def test_a_lease_never_outlives_the_fragment() -> None:
    world = World()
    fragment = world.cdp.mint(order(ttl_seconds=100), NOW_MS)
    verified = world.crm.verify(fragment.token, NOW_MS)
    pending = world.ask(verified)
    lease = world.lease(pending.request)
    assert lease.until_ms == fragment.expires_at_ms
    assert world.crm.open(verified, pending, lease, lease.until_ms - 1).values == VALUES
    with pytest.raises(ExpiredFragment):
        world.crm.open(verified, pending, lease, lease.until_ms)


def test_a_clock_that_steps_back_revives_nothing() -> None:
    world = World()
    fragment = world.cdp.mint(order(ttl_seconds=10), NOW_MS)
    verified = world.crm.verify(fragment.token, NOW_MS)
    assert len(world.cdp.expire(NOW_MS + 10_000)) == 1
    with pytest.raises(LeaseRefused, match="gone"):
        world.lease(world.ask(verified).request, NOW_MS)
    late = world.cdp.mint(order("o-2"), NOW_MS)
    assert late.issued_at_ms == (NOW_MS + 10_000) // 1000 * 1000
    with pytest.raises(MintRefused, match="nothing is left"):
        world.cdp.mint(order("o-3", ttl_seconds=10, issued_at_ms=NOW_MS), NOW_MS)


def test_what_expired_unopened_is_told_with_its_consent() -> None:
    world = World()
    world.cdp.mint(order(), NOW_MS)
    (death,) = world.cdp.expire(NOW_MS + 1_800_000)
    assert (death.leases, death.reason, death.consent, death.subject) == (
        0,
        "expired",
        order().consent,
        order().subject,
    )
    assert world.cdp.expire(NOW_MS + 1_800_000) == ()


# --- withdrawal, supersession, erasure -------------------------------------------------------------------------------


def test_withdrawing_a_consent_destroys_every_fragment_that_rests_on_it() -> None:
    world = World()
    both = (*order().consent, ConsentRef("other", 1, NOW_MS + 9_000_000))
    world.cdp.mint(order("o-1"), NOW_MS)
    world.cdp.mint(order("o-2", consent=both), NOW_MS)
    world.cdp.mint(order("o-3", consent=both[1:]), NOW_MS)
    dead = world.cdp.shred_consent("c:7Q2mZk1b", NOW_MS)
    assert {death.order_id for death in dead} == {"o-1", "o-2"}
    assert {death.reason for death in dead} == {DestroyReason.WITHDRAWN}
    assert [alive.order_id for alive in world.cdp.live()] == ["o-3"]


def test_a_new_version_of_a_consent_destroys_fragments_of_the_old_one_only() -> None:
    world = World()
    world.cdp.mint(order("old"), NOW_MS)
    world.cdp.mint(order("new", consent=(ConsentRef("c:7Q2mZk1b", 4, NOW_MS + 9_000_000),)), NOW_MS)
    dead = world.cdp.shred_consent("c:7Q2mZk1b", NOW_MS, below_version=4)
    assert [death.order_id for death in dead] == ["old"]


def test_erasing_a_subject_destroys_its_fragments() -> None:
    world = World()
    world.cdp.mint(order("mine"), NOW_MS)
    world.cdp.mint(order("theirs", subject=bytes(16)), NOW_MS)
    assert [death.order_id for death in world.cdp.shred_subject(order().subject, NOW_MS)] == ["mine"]
    assert world.cdp.shred_subject(order().subject, NOW_MS) == ()


def test_shredding_twice_destroys_once() -> None:
    world = World()
    fragment = world.cdp.mint(order(), NOW_MS)
    assert len(world.cdp.shred(fragment.jti, DestroyReason.OPERATOR, NOW_MS)) == 1
    assert world.cdp.shred(fragment.jti, DestroyReason.OPERATOR, NOW_MS) == ()
    assert world.cdp.shred("A" * 22, DestroyReason.OPERATOR, NOW_MS) == ()


def test_a_mint_destroys_the_fragments_it_supersedes() -> None:
    world = World()
    world.cdp.mint(order("shipping"), NOW_MS)
    world.cdp.mint(order("cancelled", supersedes=("shipping",)), NOW_MS)
    assert [alive.order_id for alive in world.cdp.live()] == ["cancelled"]
    (death,) = world.cdp.expire(NOW_MS)
    assert (death.order_id, death.reason) == ("shipping", DestroyReason.SUPERSEDED)


def test_a_superseded_order_cannot_be_minted_late() -> None:
    world = World()
    assert world.cdp.supersede(["late"], NOW_MS) == ()
    with pytest.raises(MintRefused, match="order_id='late' must be new and not superseded"):
        world.cdp.mint(order("late"), NOW_MS)


def test_an_order_is_minted_once_even_after_its_fragment_died() -> None:
    world = World()
    fragment = world.cdp.mint(order(), NOW_MS)
    with pytest.raises(MintRefused, match="order_id='o-1'"):
        world.cdp.mint(order(), NOW_MS)
    world.cdp.shred(fragment.jti, DestroyReason.WITHDRAWN, NOW_MS)
    with pytest.raises(MintRefused, match="order_id='o-1'"):
        world.cdp.mint(order(), NOW_MS + 1_799_000)


def test_order_ids_are_forgotten_once_no_order_of_that_time_can_be_minted() -> None:
    world = World()
    world.cdp.mint(order(), NOW_MS)
    world.cdp.expire(NOW_MS + 1_802_000)
    assert world.cdp._state._known_orders == set()
    with pytest.raises(MintRefused, match="nothing is left"):
        world.cdp.mint(order(expires_at_ms=NOW_MS + 86_400_000), NOW_MS + 1_802_000)


def test_a_version_floor_destroys_older_fragments_and_refuses_older_orders() -> None:
    world = World()
    world.cdp.mint(order("v1", version=1), NOW_MS)
    world.cdp.mint(order("v2", version=2), NOW_MS)
    world.cdp.mint(order("other", version=1, subject=bytes(16)), NOW_MS)
    dead = world.cdp.supersede_subject(order().subject, AUDIENCE, 2, NOW_MS)
    assert [death.order_id for death in dead] == ["v1"]
    with pytest.raises(MintRefused, match="version=1 must not be superseded"):
        world.cdp.mint(order("late", version=1), NOW_MS)
    world.cdp.supersede_subject(order().subject, AUDIENCE, 1, NOW_MS + 1_000_000)
    with pytest.raises(MintRefused, match="version=1"):
        world.cdp.mint(
            order("later", version=1, issued_at_ms=NOW_MS + 2_000_000, expires_at_ms=NOW_MS + 3_000_000),
            NOW_MS + 2_000_000,
        )
    world.cdp.expire(NOW_MS + 2_802_000)
    assert world.cdp._state._floors == {}


# --- the gate --------------------------------------------------------------------------------------------------------


class Switch:
    """A gate with a switch, remembering what it was asked."""

    def __init__(self) -> None:
        self.open = True
        self.views: list[Any] = []

    def __call__(self, view: Any) -> None:
        self.views.append(view)
        if not self.open:
            raise ConsentError("reason=withdrawn must not hold; ask for consent")


def test_the_gate_is_asked_at_mint_and_at_every_lease() -> None:
    switch = Switch()
    world = World(gate=switch)
    verified = world.crm.verify(world.cdp.mint(order(), NOW_MS).token, NOW_MS)
    world.lease(world.ask(verified).request)
    world.lease(world.ask(verified).request)
    assert [(view.at, view.uses) for view in switch.views] == [("mint", 0), ("lease", 0), ("lease", 1)]
    assert switch.views[0].field_names == tuple(VALUES)
    assert "small flat" not in repr(switch.views)


def test_a_closed_gate_stops_mint_and_lease_and_changes_nothing() -> None:
    switch = Switch()
    world = World(gate=switch)
    verified = world.crm.verify(world.cdp.mint(order(), NOW_MS).token, NOW_MS)
    switch.open = False
    with pytest.raises(LeaseRefused, match="consent") as caught:
        world.lease(world.ask(verified).request)
    assert caught.value.reason == "consent"
    with pytest.raises(MintRefused, match="withdrawn"):
        world.cdp.mint(order("o-2"), NOW_MS)
    assert (world.cdp.minted, world.cdp.live()[0].leases) == (1, 0)
    switch.open = True
    world.cdp.mint(order("o-2"), NOW_MS)


def test_a_gate_that_breaks_gives_nothing_away() -> None:
    def broken(view: Any) -> None:
        raise ZeroDivisionError

    world = World(gate=broken)
    with pytest.raises(ZeroDivisionError):
        world.cdp.mint(order(), NOW_MS)
    assert world.cdp.minted == 0


def test_a_gate_may_destroy_the_very_fragment_it_is_asked_about() -> None:
    world: World

    def withdrawing(view: Any) -> None:
        if view.at == "lease":
            world.cdp.shred_consent("c:7Q2mZk1b", view.now_ms)

    world = World(gate=withdrawing)
    verified = world.crm.verify(world.cdp.mint(order(), NOW_MS).token, NOW_MS)
    with pytest.raises(LeaseRefused, match="gone"):
        world.lease(world.ask(verified).request)


# --- batches and failures --------------------------------------------------------------------------------------------


def test_a_batch_gives_one_outcome_per_order() -> None:
    world = World()
    fragments = world.cdp.mint_many([order("a"), order("a"), order("b", fields=()), order("c")], NOW_MS)
    assert [type(outcome) for outcome in fragments] == [Fragment, MintRefused, InvalidOrder, Fragment]
    assert world.cdp.live_count() == 2


@pytest.mark.parametrize("fail_at", [1, 2, 3])
def test_a_failure_in_the_middle_of_a_batch_destroys_what_was_begun(fail_at: int) -> None:
    calls = iter(range(1, 10))

    def broken_sub(subject: bytes, audience: str) -> bytes:
        if next(calls) == fail_at:
            raise RuntimeError("key store is down")
        return bytes(16)

    world = World(pairwise_sub=broken_sub)
    with pytest.raises(RuntimeError, match="down"):
        world.cdp.mint_many([order("a"), order("b"), order("c")], NOW_MS)
    assert (world.cdp.minted, world.cdp.tombstones, world.cdp.live_count(), len(world.cdp._state.slab)) == (
        3,
        3,
        0,
        0,
    )
    assert {death.reason for death in world.cdp.expire(NOW_MS)} == {DestroyReason.ABORTED}


def test_a_withdrawal_during_the_mint_stops_the_token() -> None:
    world: World

    def withdrawing(subject: bytes, audience: str) -> bytes:
        world.cdp.shred_consent("c:7Q2mZk1b", NOW_MS)
        return bytes(16)

    world = World(pairwise_sub=withdrawing)
    with pytest.raises(MintRefused, match="must stay consented while it is minted"):
        world.cdp.mint(order(), NOW_MS)
    assert (world.cdp.minted, world.cdp.tombstones, world.cdp.live_count()) == (1, 1, 0)


def test_the_lease_path_must_exist() -> None:
    assert LEASE_URL.endswith("/v1/lease")
    with pytest.raises(InvalidArgument, match=r"lease_url='https://cdp\.example' must have a path"):
        _with_lease_url("https://cdp.example")


def _with_lease_url(url: str) -> None:
    from dayfly.privacy.fragments import FragmentService, note_signer

    world = World()
    FragmentService(
        issuer="x",
        keys=world.cdp._keys,
        recipients={},
        pairwise_sub=lambda s, a: s,
        gate=lambda v: None,
        note_signer=note_signer("x", world.log_key),
        lease_url=url,
        random_bytes=bytes,
    )


@pytest.mark.parametrize(
    "settings", [{"clear_ttl_seconds": 301}, {"clear_ttl_seconds": 0}, {"max_lease_seconds": 301}]
)
def test_settings_stay_inside_the_documented_limits(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=r"must lie in \[1, 300\]"):
        ServiceSettings(**settings)


# --- closing and conservation ----------------------------------------------------------------------------------------


def test_closing_destroys_everything_and_refuses_the_rest() -> None:
    world = World()
    verified = world.crm.verify(world.cdp.mint(order(), NOW_MS).token, NOW_MS)
    pending = world.ask(verified)
    (death,) = world.cdp.close()
    assert death.reason == DestroyReason.CLOSED
    assert world.cdp.close() == ()
    for act in (
        lambda: world.cdp.mint(order("o-2"), NOW_MS),
        lambda: world.lease(pending.request),
        lambda: world.cdp.checkpoint(NOW_MS),
        lambda: world.cdp.expire(NOW_MS),
        lambda: world.cdp.shred("x", DestroyReason.OPERATOR, NOW_MS),
    ):
        with pytest.raises(FragmentServiceClosed, match="must be open"):
            act()
    assert world.cdp.receipt(death.jti).tombstone.reason == "closed"


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["mint", "once", "lease", "shred", "consent", "supersede", "wait", "subject"]),
        st.integers(0, 9),
    ),
    max_size=30,
)


@given(ACTS)
def test_minted_is_live_plus_tombstones_whatever_happens(  # noqa: C901 - one branch per kind of act
    acts: list[tuple[str, int]],
) -> None:
    world = World()
    now_ms, tokens = NOW_MS, {}
    told: list[str] = []
    reasons: set[str] = set()

    def make(number: int, use: int | None) -> FragmentOrder:
        ref = ConsentRef(f"c{number % 3}", 1, now_ms + 9_000_000)
        return order(
            f"o{number}",
            use=use,
            consent=(ref,),
            subject=bytes([number % 2]) * 16,
            issued_at_ms=now_ms,
            expires_at_ms=now_ms + 1_800_000,
            ttl_seconds=60 * (1 + number),
        )

    for act, number in acts:
        if act in ("mint", "once"):
            (outcome,) = world.cdp.mint_many([make(number, 1 if act == "once" else None)], now_ms)
            if isinstance(outcome, Fragment):
                tokens[number] = world.crm.verify(outcome.token, now_ms)
        elif act == "lease" and number in tokens:
            try:
                world.lease(world.ask(tokens[number], now_ms).request, now_ms)
            except LeaseRefused as refusal:
                reasons.add(refusal.reason)
        elif act == "shred" and number in tokens:
            told += [
                d.jti for d in world.cdp.shred(tokens[number].claims.jti, DestroyReason.OPERATOR, now_ms)
            ]
        elif act == "consent":
            told += [d.jti for d in world.cdp.shred_consent(f"c{number % 3}", now_ms)]
        elif act == "subject":
            told += [d.jti for d in world.cdp.shred_subject(bytes([number % 2]) * 16, now_ms)]
        elif act == "supersede":
            told += [d.jti for d in world.cdp.supersede([f"o{number}"], now_ms)]
        elif act == "wait":
            now_ms += number * 30_000
            told += [d.jti for d in world.cdp.expire(now_ms)]
        found = balance(world, now_ms)
        assert found.minted == found.live + found.size == world.cdp.minted
        assert found.live == world.cdp.live_count() == len(world.cdp._state.slab) == len(world.cdp.live())
    told += [d.jti for d in world.cdp.close()]
    assert reasons <= {"gone"}
    assert len(told) == len(set(told)) == world.cdp.minted == world.cdp.tombstones
    assert not any(
        (
            world.cdp._state.live._by_consent,
            world.cdp._state.live._by_subject,
            world.cdp._state.live._by_order,
        )
    )


def test_many_threads_minting_and_withdrawing_lose_nothing() -> None:
    world = World()
    failures: list[BaseException] = []

    def mint(worker: int) -> None:
        for number in range(60):
            ref = ConsentRef(f"c{number % 4}", 1, NOW_MS + 9_000_000)
            (outcome,) = world.cdp.mint_many([order(f"{worker}-{number}", consent=(ref,))], NOW_MS)
            if isinstance(outcome, Fragment):
                world.crm.verify(outcome.token, NOW_MS)
            elif not isinstance(outcome, MintRefused):
                failures.append(outcome)

    def withdraw() -> None:
        for number in range(200):
            world.cdp.shred_consent(f"c{number % 4}", NOW_MS)

    threads = [threading.Thread(target=mint, args=(worker,)) for worker in range(4)] + [
        threading.Thread(target=withdraw)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = balance(world, NOW_MS)
    assert failures == []
    assert found.minted == found.live + found.size == 240


def test_the_log_tells_acts_and_no_secret() -> None:
    world = World()
    fragment = world.cdp.mint(order(), NOW_MS)
    verified = world.crm.verify(fragment.token, NOW_MS)
    world.lease(world.ask(verified).request)
    world.cdp.shred(fragment.jti, DestroyReason.OPERATOR, NOW_MS)
    assert [event.kind for event in world.events] == ["minted", "leased", "destroyed"]
    assert not any(word in repr(world.events) for word in ("small flat", "internal", fragment.token[:40]))


SHARED = World()
COUNT = iter(range(10**9))
