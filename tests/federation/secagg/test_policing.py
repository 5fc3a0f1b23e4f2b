"""Members police the server: whatever it asks, nothing is opened but one sum of enough inputs per round."""

from collections.abc import Callable

import numpy as np
import pytest

from dayfly.federation.errors import (
    BadMessage,
    FederationError,
    InvalidSetting,
    Refused,
    Replayed,
    TooFewParties,
    WrongIdentity,
)
from dayfly.federation.identity import Identities, SigningIdentity
from dayfly.federation.secagg import Hello, MaskRequest, Member, Roster, Settings, Unmask
from dayfly.federation.secagg.messages import Bundle, decode, encode

from .sessions import Session, digest, identities_of, inputs_of, names_of, session_of

NAMES = names_of(5)
WORDS = 4


@pytest.fixture
def session() -> Session:
    return session_of(5, WORDS)


def asked(session: Session, late: tuple[str, ...] = ()) -> dict[str, Unmask]:
    """A round in which all but the late ones sent an input; the honest unmask requests."""
    round_ = session.server.begin(1, b"release", NAMES)
    session.ask(round_, inputs_of(NAMES, WORDS), late)
    return {name: round_.unmask_request(name) for name in round_.included}


def without(request: Unmask, *names: str) -> Unmask:
    kept = [
        (name, tag) for name, tag in zip(request.included, request.tags, strict=True) if name not in names
    ]
    return Unmask(request.round_number, tuple(name for name, _ in kept), tuple(tag for _, tag in kept))


def test_a_round_is_opened_for_one_set_only(session: Session) -> None:
    requests, member = asked(session), session.members[NAMES[0]]
    reply = member.unmasked(requests[NAMES[0]])
    assert member.unmasked(requests[NAMES[0]]) == reply
    with pytest.raises(Refused, match="round=1 must be opened for one set"):
        member.unmasked(without(requests[NAMES[0]], NAMES[4]))


def test_a_set_below_the_threshold_is_refused(session: Session) -> None:
    request = asked(session)[NAMES[0]]
    with pytest.raises(TooFewParties, match="included=2 must be at least the threshold, 3"):
        session.members[NAMES[0]].unmasked(without(request, *NAMES[2:]))


def test_a_member_that_is_said_to_be_lost_helps_to_open_nothing(session: Session) -> None:
    request = asked(session)[NAMES[0]]
    with pytest.raises(Refused, match="must hold 'channel-00'"):
        session.members[NAMES[0]].unmasked(without(request, NAMES[0]))


def test_a_member_that_was_not_present_cannot_be_slipped_into_the_sum() -> None:
    session = session_of(5, WORDS)
    round_ = session.server.begin(1, b"release", NAMES[:4])
    session.ask(round_, inputs_of(NAMES, WORDS))
    request = round_.unmask_request(NAMES[0])
    foreign = Unmask(1, (*request.included, NAMES[4]), (*request.tags, bytes(16)))
    with pytest.raises(Refused, match="only members present"):
        session.members[NAMES[0]].unmasked(foreign)


def test_rounds_that_are_over_or_not_yet_there_are_not_opened(session: Session) -> None:
    request = asked(session)[NAMES[0]]
    for number in (0, 2, 4):
        with pytest.raises(Replayed, match=f"must open round 1, not {number}"):
            session.members[NAMES[0]].unmasked(Unmask(number, request.included, request.tags))


def test_an_input_is_given_once_per_round(session: Session) -> None:
    member, words = session.members[NAMES[0]], np.zeros(WORDS, np.uint64)
    request = session.server.begin(1, b"release", NAMES).request(NAMES[0])
    first = member.masked(request, words)
    assert member.masked(request, words + np.uint64(1)) == first, (
        "a repeated request gets the bytes that were sent"
    )
    for other in (
        MaskRequest(1, b"another release", request.present, request.bundles),
        MaskRequest(1, b"release", request.present[:4], request.bundles),
    ):
        with pytest.raises(Refused, match="round=1 must be asked once"):
            member.masked(other, words)


def test_an_earlier_round_cannot_be_replayed_nor_one_without_shares_begun(session: Session) -> None:
    member, words = session.members[NAMES[0]], np.zeros(WORDS, np.uint64)
    member.masked(session.server.begin(2, b"release", NAMES).request(NAMES[0]), words)
    for number in (1, 4):
        with pytest.raises(Replayed, match=f"must ask for a round after 2 and up to 3, not {number}"):
            member.masked(session.server.begin(number, b"release", NAMES).request(NAMES[0]), words)


def test_the_members_of_a_sum_must_have_masked_with_the_same_ones(session: Session) -> None:
    """A server that tells two stories about who is present gets no shares: the proofs of the one do not fit the other."""
    words = np.zeros(WORDS, np.uint64)
    stories = {
        name: session.server.begin(1, b"release", NAMES if name == NAMES[0] else NAMES[:4])
        for name in NAMES[:4]
    }
    for name, round_ in stories.items():
        round_.add(session.members[name].masked(round_.request(name), words))
    told = stories[NAMES[1]]
    for name in (NAMES[2], NAMES[3]):
        told.add(session.members[name].masked(stories[name].request(name), words))
    forged = Unmask(
        1, tuple(NAMES[:4]), (bytes(16), b"", told._tag(NAMES[2], NAMES[1]), told._tag(NAMES[3], NAMES[1]))
    )
    with pytest.raises(BadMessage, match="party='channel-00' must prove that it took part"):
        session.members[NAMES[1]].unmasked(forged)


def test_too_few_present_get_no_input(session: Session) -> None:
    request = session.server.begin(1, b"release", NAMES).request(NAMES[0])
    with pytest.raises(TooFewParties, match="present=2 must be at least the threshold, 3"):
        session.members[NAMES[0]].masked(
            MaskRequest(1, b"release", tuple(NAMES[:2]), request.bundles), np.zeros(WORDS, np.uint64)
        )


@pytest.mark.parametrize(
    "present",
    [
        ("channel-01", "channel-00", "channel-02"),
        ("channel-00", "channel-00", "channel-01"),
        ("channel-00", "channel-01", "stranger"),
    ],
)
def test_a_set_that_is_none_is_refused(session: Session, present: tuple[str, ...]) -> None:
    request = session.server.begin(1, b"release", NAMES).request(NAMES[0])
    with pytest.raises(BadMessage, match="party='server' must name members of the session in present"):
        session.members[NAMES[0]].masked(
            MaskRequest(1, b"release", present, request.bundles), np.zeros(WORDS, np.uint64)
        )


def test_shares_that_were_changed_swapped_or_taken_from_another_session_are_refused(session: Session) -> None:
    round_ = session.server.begin(1, b"release", NAMES)
    request = round_.request(NAMES[0])
    other = session_of(5, WORDS, seed=1).server.begin(1, b"release", NAMES).request(NAMES[0])
    first, second, *rest = request.bundles
    flipped = Bundle(first.sender, first.recipient, bytes([first.sealed[0] ^ 1]) + first.sealed[1:])
    swapped = Bundle(first.sender, first.recipient, second.sealed)
    for bad in (flipped, swapped, other.bundles[0]):
        with pytest.raises(BadMessage, match="party='channel-01' must send shares that open"):
            session.members[NAMES[0]].masked(
                MaskRequest(1, b"release", round_.present, (bad, second, *rest)), np.zeros(WORDS, np.uint64)
            )
    with pytest.raises(BadMessage, match=r"must deliver the shares of \['channel-01'\]"):
        session.members[NAMES[0]].masked(
            MaskRequest(1, b"release", round_.present, (second, *rest)), np.zeros(WORDS, np.uint64)
        )


def roster_with(change: Callable[[list[Hello]], None], *, threshold: int = 2) -> tuple[Member, Roster]:
    names = names_of(3)
    keys, identities = identities_of(names)
    settings = Settings(digest("session")[:16], threshold, 2, WORDS)
    members = [Member(keys[name], identities, settings, digest("root", name)) for name in names]
    hellos = [member.hello() for member in members]
    change(hellos)
    return members[0], Roster(tuple(hellos))


def test_a_key_that_the_server_put_in_is_noticed_by_its_signature() -> None:
    mallory = Member(
        SigningIdentity("channel-01", digest("mallory")),
        Identities({}),
        Settings(digest("session")[:16], 2, 2, WORDS),
        digest("root of mallory"),
    ).hello()

    def substitute(hellos: list[Hello]) -> None:
        hellos[1] = mallory

    member, roster = roster_with(substitute)
    with pytest.raises(WrongIdentity, match="party='channel-01' must sign its hello with its registered key"):
        member.join(roster)


def test_a_key_of_an_earlier_session_is_noticed() -> None:
    names = names_of(3)
    keys, identities = identities_of(names)
    earlier = Member(
        keys[names[1]], identities, Settings(digest("earlier")[:16], 2, 2, WORDS), digest("root", names[1])
    ).hello()

    def replay(hellos: list[Hello]) -> None:
        hellos[1] = Hello(earlier.party, hellos[1].settings, earlier.public_key, earlier.signature)

    member, roster = roster_with(replay)
    with pytest.raises(WrongIdentity, match="channel-01"):
        member.join(roster)


def test_a_roster_without_me_or_with_strangers_or_doubles_is_refused() -> None:
    def drop_me(hellos: list[Hello]) -> None:
        del hellos[0]

    def double(hellos: list[Hello]) -> None:
        hellos[2] = hellos[1]

    member, roster = roster_with(drop_me)
    with pytest.raises(BadMessage, match="must list 'channel-00' with the key that it sent"):
        member.join(roster)
    member, roster = roster_with(double)
    with pytest.raises(BadMessage, match="must list each member once, sorted"):
        member.join(roster)
    member, roster = roster_with(lambda _: None)
    stranger = Hello(
        "stranger", roster.members[0].settings, roster.members[0].public_key, roster.members[0].signature
    )
    with pytest.raises(WrongIdentity, match="party='stranger' must be registered"):
        member.join(Roster((*roster.members[:2], stranger)))


def test_a_second_roster_is_refused() -> None:
    member, roster = roster_with(lambda _: None)
    joined = member.join(roster)
    assert member.join(roster) == joined
    with pytest.raises(Refused, match="must be the one joined before"):
        member.join(Roster(roster.members[:2]))


def test_a_threshold_that_is_no_majority_is_refused_by_members() -> None:
    names = names_of(4)
    keys, identities = identities_of(names)
    settings = Settings(digest("session")[:16], 2, 1, WORDS)
    members = [Member(keys[name], identities, settings, digest(name)) for name in names]
    with pytest.raises(Refused, match="threshold=2 must be from 3 to 4 with 4 members"):
        members[0].join(Roster(tuple(member.hello() for member in members)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(b"short", 2, 1, 1), "session=5 bytes must be 16 to 64"),
        (Settings(bytes(16), 2, 0, 1), "rounds=0 must be 1 to 1000"),
        (Settings(bytes(16), 2, 1, 0), "words=0 must be at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: Settings, message: str) -> None:
    names = names_of(2)
    keys, identities = identities_of(names)
    members = [Member(keys[name], identities, settings, digest(name)) for name in names]
    with pytest.raises(InvalidSetting, match=message):
        members[0].join(Roster(tuple(member.hello() for member in members)))


@pytest.mark.parametrize(
    "data",
    [b"", b"garbage", b"\x95\xa2\xff\xff", encode([1, 2, 3]), encode(["server", 1, b"x", []]) + b"more"],
)
def test_garbage_is_named_with_its_sender(data: bytes) -> None:
    with pytest.raises(BadMessage, match="party='channel-03' must send a MaskRequest"):
        decode(data, MaskRequest, party="channel-03")


def test_no_error_carries_a_secret(session: Session) -> None:
    """Errors are logged and sent on; none may hold key material."""
    requests = asked(session)
    member = session.members[NAMES[0]]
    member.unmasked(requests[NAMES[0]])
    with pytest.raises(FederationError) as caught:
        member.unmasked(without(requests[NAMES[0]], NAMES[1]))
    told = repr(caught.value) + str(caught.value.args)
    assert member._seeds.own(1).hex() not in told
    assert not any(pair.seed(1).hex() in told for pair in member._pairs.values())
