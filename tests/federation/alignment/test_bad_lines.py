"""Lost, garbled and stale messages, false keys and false padding: each ends in an error that names who and why."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from dayfly.federation.alignment import AlignmentParty
from dayfly.federation.alignment.messages import (
    Bundle,
    BundleBody,
    Hello,
    Joined,
    RegionPadding,
    Roster,
)
from dayfly.federation.alignment.sealing import Place
from dayfly.federation.errors import (
    BadMessage,
    Declined,
    FederationError,
    Replayed,
    RowsDisagree,
    TooFewParties,
    WrongIdentity,
)
from dayfly.federation.local import Fault, garbage, late, lost_reply, lost_request, replay
from dayfly.federation.secagg.messages import decode, encode

from .lies import (
    REPLIES,
    SETS,
    failed,
    forger,
    liar,
)
from .runs import digest, run_of

MESSAGES = {1: "hello", 2: "join", 3: "blind", 4: "hop", 5: "hop", 6: "place"}


@pytest.mark.parametrize("number", list(MESSAGES))
@pytest.mark.parametrize("fault", [lost_request, lost_reply, late(11)])
def test_a_lost_channel_ends_the_run_and_is_named(number: int, fault: Fault) -> None:
    run = run_of(SETS, faults={("market", number): fault})
    failed(
        run,
        TooFewParties,
        "party='market' did not answer within 10 s; it is lost; an alignment needs all of its channels",
    )


@pytest.mark.parametrize("number", list(MESSAGES))
def test_garbage_names_who_sent_it(number: int) -> None:
    run = run_of(SETS, faults={("market", number): garbage(b"\x93garbage")})
    failed(run, BadMessage, "party='market' must send a signed message")


@pytest.mark.parametrize("number", [2, 3, 4, 5, 6])
def test_a_stale_reply_names_who_sent_it(number: int) -> None:
    run = run_of(SETS, faults={("market", number): replay(number - 1)})
    failed(
        run,
        Replayed,
        f"party='market' must answer message {number} of this run; it sent a reply to message {number - 1}",
    )


@pytest.mark.parametrize(("kind", "change"), [(kind, {"party": "app"}) for kind in REPLIES])
def test_an_answer_in_anothers_name_is_refused(kind: str, change: dict[str, Any]) -> None:
    run = run_of(
        SETS, parties={"market": liar(kind, lambda _, said: msgspec.structs.replace(said, **change))}
    )
    failed(run, BadMessage, f"party='market' must answer '{kind}' in its own name")


@pytest.mark.parametrize("kind", list(REPLIES))
def test_an_answer_of_another_shape_is_refused(kind: str) -> None:
    class Odd(AlignmentParty):
        def _answer(self, asked: str, body: bytes) -> bytes:
            return encode({"party": 7}) if asked == kind else super()._answer(asked, body)

    run = run_of(SETS, parties={"market": Odd})
    failed(run, BadMessage, f"party='market' must send a {REPLIES[kind].__name__}, not")


@pytest.mark.parametrize(
    ("change", "error", "cause"),
    [
        (
            {"public_key": digest("a key of somebody")},
            WrongIdentity,
            "party='market' must sign its alignment hello",
        ),
        ({"signature": bytes(64)}, WrongIdentity, "party='market' must sign its alignment hello"),
        (
            {"settings_digest": digest("others")},
            WrongIdentity,
            "party='market' must sign its alignment hello",
        ),
    ],
)
def test_a_key_that_is_not_signed_for_these_settings_is_refused(
    change: dict[str, Any], error: type[FederationError], cause: str
) -> None:
    run = run_of(
        SETS, parties={"market": liar("hello", lambda _, said: msgspec.structs.replace(said, **change))}
    )
    failed(run, Declined, f"party='app' declined 'join': {cause}")


def test_a_key_of_small_order_is_refused() -> None:
    def small(party: AlignmentParty, said: Hello) -> Hello:
        key = bytes(32)
        body = b"".join(len(part).to_bytes(4) + part for part in (party._run, said.settings_digest, key))
        return Hello(said.party, said.settings_digest, key, party._identity.sign(b"alignment hello", body))

    run = run_of(SETS, parties={"market": liar("hello", small)})
    failed(run, Declined, "party='app' declined 'join': party='market' must send a valid X25519 key")


def test_another_channels_settings_are_found_out_by_the_channels() -> None:
    def others(party: AlignmentParty, said: Hello) -> Hello:
        other = digest("other settings")
        body = b"".join(len(part).to_bytes(4) + part for part in (party._run, other, said.public_key))
        return Hello(said.party, other, said.public_key, party._identity.sign(b"alignment hello", body))

    run = run_of(SETS, parties={"market": liar("hello", others)})
    failed(
        run,
        Declined,
        "party='app' declined 'join': party='server' must tell all channels the same settings; it told 'market' others than 'app'",
    )


def dropped(_: AlignmentParty, said: Joined) -> Joined:
    return Joined(said.party, said.bundles[1:])


def swapped(_: AlignmentParty, said: Joined) -> Joined:
    one, other = said.bundles
    return Joined(
        said.party,
        (Bundle(one.sender, one.recipient, other.sealed), Bundle(other.sender, other.recipient, one.sealed)),
    )


def test_a_missing_bundle_is_refused() -> None:
    run = run_of(SETS, parties={"market": liar("join", dropped)})
    failed(
        run,
        Declined,
        r"party='app' declined 'blind': party='server' must send 'app' one bundle of each of \['market', 'shop'\]",
    )


def test_exchanged_bundles_do_not_open() -> None:
    run = run_of(SETS, parties={"market": liar("join", swapped)})
    failed(
        run,
        Declined,
        "party='app' declined 'blind': party='market' must send 'app' what it sealed for it in this run",
    )


def bundle_with(change: Callable[[BundleBody], BundleBody]) -> type[AlignmentParty]:
    return forger(
        lambda _, place, body: encode(change(decode(body, BundleBody, party="?"))) if place[0] == 0 else body
    )


def regions_with(**changes: Any) -> Callable[[BundleBody], BundleBody]:
    return lambda body: BundleBody(
        body.share, tuple(msgspec.structs.replace(region, **changes) for region in body.regions)
    )


@pytest.mark.parametrize(
    "change",
    [
        regions_with(counts=(-1, 0)),
        regions_with(counts=(0, 10**9)),
        regions_with(mask=7),
        regions_with(seed=b"short"),
        lambda body: BundleBody(body.share[1:], body.regions),
        lambda body: BundleBody(body.share, (*body.regions, RegionPadding(7, (0, 0), bytes(32)))),
    ],
    ids=["below zero", "too many", "foreign region", "short seed", "short share", "one region more"],
)
def test_padding_that_is_not_the_senders_to_draw_is_refused(
    change: Callable[[BundleBody], BundleBody],
) -> None:
    run = run_of(SETS, parties={"market": bundle_with(change)})
    failed(
        run,
        Declined,
        "declined 'blind': party='market' must send a share of the key, and 0 to 67 padding points a side",
    )


def test_the_most_padding_that_an_honest_channel_draws_is_taken() -> None:
    most = run_of(SETS).settings.padding.most

    class Most(AlignmentParty):
        def _join(self, roster: Roster) -> Joined:
            assert self._group is not None
            self.__dict__["_noise"] = type(
                "Most", (), {"laplace": lambda _, values, scale, *, l1=1: values + 64}
            )()
            return super()._join(roster)

    run = run_of(SETS, parties={"market": Most})
    run.align()
    assert run.report is not None
    assert run.report.regions["market", "shop"] >= 2 * most + 1


def test_a_channel_that_tells_two_others_different_shares_is_found_out() -> None:
    told: list[bytes] = []

    def other_share(_: AlignmentParty, place: Place, body: bytes) -> bytes:
        if place[0]:
            return body
        told.append(body)
        read = decode(body, BundleBody, party="?")
        return encode(BundleBody(digest("share", len(told)), read.regions))

    failed(
        run_of(SETS, parties={"market": forger(other_share)}),
        RowsDisagree,
        "must find padding in common where",
    )
