"""Channels and coordinators that do not keep to the protocol: each ends in an error that names who and why, and no rows are given out."""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from dayfly.federation.alignment import AlignmentParty
from dayfly.federation.alignment.messages import (
    AlignmentSettings,
    Blinded,
    BlindRequest,
    Bundle,
    BundleBody,
    Hello,
    Hopped,
    HopRequest,
    Joined,
    Placed,
    Placement,
    RegionPadding,
    Roster,
)
from dayfly.federation.alignment.multiplication import POINT_BYTES, multiply
from dayfly.federation.alignment.own_set import OwnSet
from dayfly.federation.alignment.sealing import Place, Seals
from dayfly.federation.errors import (
    BadMessage,
    Declined,
    FederationError,
    ManifestExpired,
    Refused,
    Replayed,
    RowsDisagree,
    TooFewParties,
    WrongIdentity,
    WrongManifest,
)
from dayfly.federation.local import Fault, garbage, late, lost_reply, lost_request, replay
from dayfly.federation.secagg.messages import decode, encode
from dayfly.federation.wire import SERVER

from .runs import HOUR_MS, NOW_MS, Run, digest, run_of

PRIME = 2**255 - 19
SETS = {"app": ["a", "b", "c"], "market": ["b", "c", "d"], "shop": ["c", "d", "e"]}
REPLIES: dict[str, Any] = {
    "hello": Hello,
    "join": Joined,
    "blind": Blinded,
    "hop": Hopped,
    "place": Placed,
}


def liar(kind: str, change: Callable[["AlignmentParty", Any], Any]) -> type[AlignmentParty]:
    """A channel that changes its replies of one kind."""

    class Liar(AlignmentParty):
        def _answer(self, asked: str, body: bytes) -> bytes:
            reply = super()._answer(asked, body)
            if asked != kind:
                return reply
            return encode(change(self, decode(reply, REPLIES[kind], party=self.name)))

    return Liar


class Forged:
    """Seals something else."""

    def __init__(
        self, party: AlignmentParty, honest: Seals, change: Callable[[AlignmentParty, Place, bytes], bytes]
    ) -> None:
        self.party, self.honest, self.change = party, honest, change

    def seal(self, recipient: str, place: Place, body: bytes) -> bytes:
        return self.honest.seal(recipient, place, self.change(self.party, place, body))

    def open(self, sender: str, place: Place, sealed: bytes) -> bytes:
        return self.honest.open(sender, place, sealed)


def forger(change: Callable[["AlignmentParty", Place, bytes], bytes]) -> type[AlignmentParty]:
    """A channel that changes what it seals for others."""

    class Forger(AlignmentParty):
        def _join(self, roster: Roster) -> Joined:
            assert self._group is not None
            group, insist = self._group, self._group.insist

            def insisting(roster: Roster) -> None:
                insist(roster)
                group.__dict__["_seals"] = Forged(self, group.seals, change)

            group.__dict__["insist"] = insisting
            return super()._join(roster)

    return Forger


def place_of(party: AlignmentParty) -> int:
    assert party._group is not None
    return party._group.ring.index


def pieces_of_own(change: Callable[[bytes], bytes]) -> type[AlignmentParty]:
    return forger(lambda party, place, body: change(body) if place[:2] == (1, place_of(party)) else body)


def pieces_of_others(change: Callable[[bytes], bytes]) -> type[AlignmentParty]:
    return forger(
        lambda party, place, body: change(body) if place[0] == 1 and place[1] != place_of(party) else body
    )


def set_of_its_own(change: Callable[[bytes], bytes]) -> type[AlignmentParty]:
    """A channel that brings other points than its customers', and signs for them."""

    class Inventor(AlignmentParty):
        def _enter(self, *given: Any) -> OwnSet:
            own = super()._enter(*given)
            points = np.frombuffer(change(own._points.tobytes()), np.uint8).reshape(-1, POINT_BYTES)
            own.__dict__["_points"] = points
            return own

    return Inventor


def random_points(points: bytes) -> bytes:
    """As many, of nobody."""
    return b"".join(
        multiply(digest("scalar"), (9 + number).to_bytes(32, "little"))
        for number in range(len(points) // POINT_BYTES)
    )


def first_point(point: bytes) -> Callable[[bytes], bytes]:
    return lambda points: point + points[POINT_BYTES:]


def failed(run: Run, error: type[FederationError], cause: str) -> None:
    """The run ends with this error, and no channel has rows that all of them confirmed."""
    with pytest.raises(error, match=cause):
        run.align()


# --- on the line -----------------------------------------------------------------------------------------------------

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


# --- keys, shares and padding ----------------------------------------------------------------------------------------


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


# --- sets ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [pieces_of_own, pieces_of_others])
@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (first_point(bytes(32)), "must send points of large order; it sent one of small order"),
        (
            first_point((1).to_bytes(32, "little")),
            "must send points of large order; it sent one of small order",
        ),
        (
            first_point((PRIME - 1).to_bytes(32, "little")),
            "must send points of large order; it sent one of small order",
        ),
        (first_point((PRIME + 9).to_bytes(32, "little")), "must send points in canonical form"),
        (first_point((2**255 + 9).to_bytes(32, "little")), "must send points in canonical form"),
        (lambda points: points[32:64] + points[32:], "must send each point once; it sent one twice"),
    ],
    ids=["zero", "one", "minus one", "not reduced", "high bit", "twice"],
)
def test_points_that_no_honest_channel_sends_name_who_sent_them(
    which: Callable[[Callable[[bytes], bytes]], type[AlignmentParty]],
    change: Callable[[bytes], bytes],
    cause: str,
) -> None:
    run = run_of(SETS, parties={"market": which(change)})
    failed(run, Declined, f"party='shop' declined 'hop': party='market' {cause}")


@pytest.mark.parametrize(
    "change",
    [
        lambda points: points[32:],
        lambda points: points + points[:32],
        lambda points: points[1:],
        lambda _: b"",
    ],
    ids=["fewer", "more", "cut", "none"],
)
def test_a_changed_number_of_points_names_who_changed_it(change: Callable[[bytes], bytes]) -> None:
    failed(
        run_of(SETS, parties={"market": pieces_of_own(change)}),
        BadMessage,
        "party='market' must send [0-9]+ points of its [0-9]+ in piece 0",
    )
    failed(
        run_of(SETS, parties={"market": pieces_of_others(change)}),
        BadMessage,
        "party='market' must pass on the [0-9]+ points of 'app' that it was given",
    )


def after_last_hop(change: Callable[[bytes], bytes]) -> type[AlignmentParty]:
    """Changes the set of its successor, which all channels have blinded."""

    def changed(party: AlignmentParty, said: Hopped) -> Hopped:
        return Hopped(said.party, said.owner, said.piece, change(said.data)) if said.owner == "shop" else said

    return liar("hop", changed)


@pytest.mark.parametrize(
    ("change", "error", "cause"),
    [
        (
            lambda points: points[32:],
            BadMessage,
            "party='market' must pass on the [0-9]+ points of 'shop' that it was given",
        ),
        (
            lambda points: points[32:64] + points[32:],
            BadMessage,
            "party='market' must pass on each point of 'shop' once; it sent one twice",
        ),
        (
            first_point(b"\xff" * 32),
            BadMessage,
            "party='market' must pass on the points of 'shop' in canonical form",
        ),
        (
            random_points,
            RowsDisagree,
            r"parties=\['shop'\] must find padding in common where the other channels find it",
        ),
    ],
    ids=["fewer", "twice", "form", "others"],
)
def test_the_last_to_blind_a_set_cannot_change_it_unseen(
    change: Callable[[bytes], bytes], error: type[FederationError], cause: str
) -> None:
    failed(run_of(SETS, parties={"market": after_last_hop(change)}, epsilon=(6, 1)), error, cause)


@pytest.mark.parametrize(("which", "whose"), [(set_of_its_own, "market"), (pieces_of_others, "app")])
def test_points_exchanged_for_others_are_found_out_by_the_padding_that_channels_have_in_common(
    which: Callable[[Callable[[bytes], bytes]], type[AlignmentParty]], whose: str
) -> None:
    run = run_of(SETS, parties={"market": which(random_points)}, epsilon=(6, 1))
    failed(
        run,
        RowsDisagree,
        rf"parties=\['{whose}'\] must find padding in common where the other channels find it",
    )


def test_a_channel_that_only_reorders_a_set_is_found_out() -> None:
    def turned(points: bytes) -> bytes:
        return points[32:] + points[:32]

    run = run_of(SETS, parties={"market": pieces_of_others(turned)}, epsilon=(6, 1))
    failed(run, RowsDisagree, r"parties=\['app'\] must find padding in common")


def test_a_channel_that_passes_a_set_on_as_it_came_is_found_out() -> None:
    class Lazy(AlignmentParty):
        def _answer(self, kind: str, body: bytes) -> bytes:
            if kind == "hop":
                asked = decode(body, HopRequest, party=SERVER)
                assert self._group is not None
                ring = self._group.ring
                place = (1, ring.channels.index(asked.owner), asked.piece)
                points = self._group.seals.open(ring.predecessor, place, asked.sealed)
                last = asked.owner == ring.successor
                data = points if last else self._group.seals.seal(ring.successor, place, points)
                super()._answer(kind, body)
                return encode(Hopped(self.name, asked.owner, asked.piece, data))
            return super()._answer(kind, body)

    failed(
        run_of(SETS, parties={"market": Lazy}, epsilon=(6, 1)), RowsDisagree, "must find padding in common"
    )


def test_a_channel_that_sends_its_predecessors_set_back_as_its_own_learns_nothing_and_is_found_out() -> None:
    taken: list[bytes] = []

    def keep(points: bytes) -> bytes:
        taken.append(points)
        return points

    run = run_of(SETS, parties={"app": pieces_of_own(keep)}, epsilon=(6, 1))
    run.align()

    def stolen(points: bytes) -> bytes:
        return (taken[0] + random_points(points))[: len(points)]

    again = run_of(SETS, parties={"market": set_of_its_own(stolen)}, epsilon=(6, 1))
    failed(again, RowsDisagree, r"parties=\['market'\] must find padding in common")


def test_other_points_than_the_manifest_says_are_found_out_by_the_next_in_the_ring() -> None:
    run = run_of(SETS, parties={"market": pieces_of_own(random_points)})
    failed(
        run,
        Declined,
        "party='shop' declined 'place': party='market' must send the manifest of the set that it sent",
    )


def test_two_channels_that_disagree_are_both_named() -> None:
    run = run_of(
        {"app": ["a"], "shop": ["a"]}, parties={"app": set_of_its_own(random_points)}, epsilon=(6, 1)
    )
    failed(run, RowsDisagree, r"parties=\['app', 'shop'\] must find padding in common")


def test_a_wrong_number_of_tags_is_refused() -> None:
    run = run_of(SETS, parties={"market": liar("place", lambda _, said: Placed(said.party, said.tags[1:]))})
    failed(run, BadMessage, "party='market' must send 3 tags, not 2")


@pytest.mark.parametrize(
    ("change", "cause"),
    [({"owner": "market"}, "not piece 0 of 'market'"), ({"piece": 1}, "not piece 1 of 'app'")],
)
def test_an_answer_about_another_piece_is_refused(change: dict[str, Any], cause: str) -> None:
    run = run_of(
        SETS, parties={"market": liar("hop", lambda _, said: msgspec.structs.replace(said, **change))}
    )
    failed(run, BadMessage, f"party='market' must pass on piece 0 of 'app', {cause}")


@pytest.mark.parametrize("count", [-1, 2**32])
def test_a_size_that_no_set_has_is_refused(count: int) -> None:
    run = run_of(
        SETS, parties={"market": liar("blind", lambda _, said: msgspec.structs.replace(said, count=count))}
    )
    failed(run, BadMessage, "party='market' must send a set of one size")


def test_a_size_that_changes_between_pieces_is_refused() -> None:
    def growing(_: AlignmentParty, said: Blinded) -> Blinded:
        return msgspec.structs.replace(said, count=said.count + (said.manifest is not None))

    run = run_of(SETS, parties={"market": liar("blind", growing)}, piece_points=20)
    failed(run, BadMessage, "party='market' must send a set of one size, not of ([0-9]+) and then of ")


# --- manifests -------------------------------------------------------------------------------------------------------


def manifest_with(*, sign: bool, **changes: Any) -> type[AlignmentParty]:
    def changed(party: AlignmentParty, said: Blinded) -> Blinded:
        assert said.manifest is not None
        manifest = msgspec.structs.replace(said.manifest, **changes)
        return msgspec.structs.replace(said, manifest=manifest.signed(party._identity) if sign else manifest)

    return liar("blind", changed)


@pytest.mark.parametrize(
    ("sign", "changes", "error", "cause"),
    [
        (False, {"count": 3}, WrongIdentity, "party='market' must sign its manifest with its registered key"),
        (
            False,
            {"signature": b""},
            WrongIdentity,
            "party='market' must sign its manifest with its registered key",
        ),
        (
            False,
            {"party": "app"},
            WrongManifest,
            "party='market' must send its own manifest with the last piece",
        ),
        (True, {"run": bytes(16)}, WrongManifest, "party='market' must send the manifest of this run"),
        (
            True,
            {"purpose": "counting"},
            WrongManifest,
            "party='market' must have a manifest for purpose='joint-model'",
        ),
        (
            True,
            {"expires_ms": NOW_MS},
            ManifestExpired,
            "party='market' must have a manifest that holds at now_ms",
        ),
        (
            True,
            {"expires_ms": NOW_MS + 2 * HOUR_MS},
            WrongManifest,
            "party='market' must sign the [0-9]+ points that it sent and the agreed",
        ),
        (
            True,
            {"count": 3},
            WrongManifest,
            "party='market' must sign the [0-9]+ points that it sent and the agreed expires_ms=[0-9]+, not 3",
        ),
    ],
)
def test_a_manifest_that_is_not_of_the_run_and_set_names_its_channel(
    sign: bool,  # noqa: FBT001 - a table
    changes: dict[str, Any],
    error: type[FederationError],
    cause: str,
) -> None:
    failed(run_of(SETS, parties={"market": manifest_with(sign=sign, **changes)}), error, cause)


def test_a_missing_manifest_is_refused() -> None:
    run = run_of(
        SETS, parties={"market": liar("blind", lambda _, said: msgspec.structs.replace(said, manifest=None))}
    )
    failed(run, WrongManifest, "party='market' must send its own manifest with the last piece of its set")


def test_a_digest_of_another_set_is_found_out_by_the_next_in_the_ring() -> None:
    class Other(AlignmentParty):
        def _blind(self, asked: BlindRequest) -> Blinded:
            said = super()._blind(asked)
            assert said.manifest is not None
            changed = msgspec.structs.replace(said.manifest, points_digest=digest("other"))
            self._manifest = changed.signed(self._identity)
            return msgspec.structs.replace(said, manifest=self._manifest)

    run = run_of(SETS, parties={"market": Other})
    failed(
        run,
        Declined,
        "party='shop' declined 'place': party='market' must send the manifest of the set that it sent",
    )


def test_a_manifest_that_expired_meanwhile_ends_the_run() -> None:
    run = run_of(SETS)
    with pytest.raises(ManifestExpired, match="party='app' must have a manifest that holds"):
        run.align(now_ms=NOW_MS + HOUR_MS)


# --- coordinators ----------------------------------------------------------------------------------------------------


def lying(run: Run, kind: str, change: Callable[[str, Any], Any]) -> Run:
    """The coordinator changes what it asks."""
    shapes: dict[str, Any] = {
        "hello": AlignmentSettings,
        "join": Roster,
        "blind": BlindRequest,
        "hop": HopRequest,
        "place": Placement,
    }
    ask = run.caller.ask

    def asking(asked: str, bodies: Any) -> Any:
        if asked == kind:
            bodies = {
                name: encode(change(name, decode(body, shapes[kind], party="?")))
                for name, body in bodies.items()
            }
        return ask(asked, bodies)

    run.caller.ask = asking  # type: ignore[method-assign,assignment]  # the lie
    return run


def for_shop(change: Callable[[Any], Any]) -> Callable[[str, Any], Any]:
    return lambda name, said: change(said) if name == "shop" else said


def test_a_coordinator_that_tells_channels_different_settings_is_found_out() -> None:
    run = lying(run_of(SETS), "hello", for_shop(lambda said: msgspec.structs.replace(said, epsilon=(64, 1))))
    failed(
        run, Declined, "party='app' declined 'join': party='server' must tell all channels the same settings"
    )


def test_a_coordinator_that_leaves_a_channel_out_of_its_own_settings_is_found_out() -> None:
    run = lying(
        run_of(SETS),
        "hello",
        for_shop(lambda said: msgspec.structs.replace(said, channels=("app", "market"))),
    )
    failed(run, Declined, "party='shop' declined 'hello': party='server' must list 'shop' among the channels")


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (
            lambda said: Roster(said.hellos[:2]),
            r"must send the keys of \['app', 'market', 'shop'\], not of \['app', 'market'\]",
        ),
        (
            lambda said: Roster(said.hellos[::-1]),
            r"must send the keys of \['app', 'market', 'shop'\], not of \['shop'",
        ),
    ],
    ids=["fewer", "turned"],
)
def test_a_coordinator_that_changes_the_roster_is_found_out(
    change: Callable[[Roster], Roster], cause: str
) -> None:
    failed(
        lying(run_of(SETS), "join", for_shop(change)),
        Declined,
        f"party='shop' declined 'join': party='server' {cause}",
    )


def test_a_coordinator_that_shows_two_rosters_is_found_out() -> None:
    """Each signed by the same nodes: one channel's key is of an earlier start of its node."""
    older = run_of(SETS, seed="older").parties["market"]
    assert older._answer("hello", encode(run_of(SETS).settings))
    assert older._group is not None
    hello = older._group.hello
    run = lying(run_of(SETS), "join", for_shop(lambda said: Roster((said.hellos[0], hello, said.hellos[2]))))
    failed(
        run,
        Declined,
        "declined 'blind': party='(market|shop)' must send '(app|market)' what it sealed for it in this run",
    )


def test_a_coordinator_that_shows_a_channel_another_key_of_its_own_is_found_out() -> None:
    older = run_of(SETS, seed="older").parties["shop"]
    older._answer("hello", encode(run_of(SETS).settings))
    assert older._group is not None
    hello = older._group.hello
    run = lying(run_of(SETS), "join", for_shop(lambda said: Roster((*said.hellos[:2], hello))))
    failed(
        run,
        Declined,
        "party='shop' declined 'join': party='server' must send 'shop' its own key back unchanged",
    )


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (
            lambda said: msgspec.structs.replace(
                said, sealed=said.sealed[:-1] + bytes([said.sealed[-1] ^ 1])
            ),
            "party='market' must send 'shop' what it sealed",
        ),
        (
            lambda said: msgspec.structs.replace(said, owner="app" if said.owner == "market" else "market"),
            "party='market' must send 'shop' what it sealed",
        ),
        (
            lambda said: msgspec.structs.replace(said, owner="shop"),
            "party='server' must hand 'shop' sets of other channels, not of 'shop'",
        ),
        (
            lambda said: msgspec.structs.replace(said, owner="wifi"),
            "party='server' must hand 'shop' sets of other channels, not of 'wifi'",
        ),
        (
            lambda said: msgspec.structs.replace(said, piece=1),
            "piece=1 of 'market' must be 0; hand each on once, in order",
        ),
        (
            lambda said: msgspec.structs.replace(said, sealed=b""),
            "party='market' must send 'shop' what it sealed",
        ),
    ],
    ids=["a bit", "owner", "own", "stranger", "piece", "nothing"],
)
def test_a_coordinator_that_changes_sets_on_their_way_is_found_out(
    change: Callable[[HopRequest], HopRequest], cause: str
) -> None:
    failed(lying(run_of(SETS), "hop", for_shop(change)), Declined, f"party='shop' declined 'hop': {cause}")


def test_a_set_of_another_run_does_not_open() -> None:
    taken: list[HopRequest] = []

    def take(said: HopRequest) -> HopRequest:
        taken.append(said)
        return said

    lying(run_of(SETS, seed=1, run=digest("earlier")[:16]), "hop", for_shop(take)).align()
    run = lying(
        run_of(SETS), "hop", for_shop(lambda said: msgspec.structs.replace(said, sealed=taken[0].sealed))
    )
    failed(
        run,
        Declined,
        "party='shop' declined 'hop': party='market' must send 'shop' what it sealed for it in this run",
    )


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (
            lambda said: msgspec.structs.replace(said, positions=said.positions[:-8]),
            "must send [0-9]+ positions of 8 bytes, not [0-9]+ bytes",
        ),
        (
            lambda said: msgspec.structs.replace(said, positions=said.positions[8:16] + said.positions[8:]),
            r"must send distinct positions in 0 \.\. [0-9]+",
        ),
        (
            lambda said: msgspec.structs.replace(
                said, positions=said.universe.to_bytes(8, "little") + said.positions[8:]
            ),
            r"must send distinct positions in 0 \.\. [0-9]+",
        ),
        (
            lambda said: msgspec.structs.replace(said, positions=b"\xff" * 8 + said.positions[8:]),
            r"must send distinct positions in 0 \.\. [0-9]+",
        ),
        (
            lambda said: msgspec.structs.replace(said, universe=3),
            "must send a universe of [0-9]+ to [0-9]+ rows",
        ),
        (
            lambda said: msgspec.structs.replace(said, universe=10**12),
            "must send a universe of [0-9]+ to [0-9]+ rows",
        ),
        (
            lambda said: msgspec.structs.replace(said, manifests=said.manifests[:2]),
            r"must send the manifests of \['app', 'market', 'shop'\]",
        ),
    ],
    ids=["fewer", "twice", "beyond", "below", "small universe", "large universe", "manifests"],
)
def test_a_coordinator_that_places_rows_wrongly_is_found_out(
    change: Callable[[Placement], Placement], cause: str
) -> None:
    failed(
        lying(run_of(SETS), "place", for_shop(change)),
        Declined,
        f"party='shop' declined 'place': party='server' {cause}",
    )


def test_a_coordinator_that_exchanges_rows_of_a_channel_is_found_out_by_the_tags() -> None:
    def turned(said: Placement) -> Placement:
        return msgspec.structs.replace(said, positions=said.positions[8:] + said.positions[:8])

    failed(
        lying(run_of(SETS, epsilon=(6, 1)), "place", for_shop(turned)),
        RowsDisagree,
        r"parties=\['shop'\] must find padding",
    )


def test_a_coordinator_that_changes_a_channels_own_manifest_is_found_out() -> None:
    def own(said: Placement) -> Placement:
        manifest = run.keys["shop"]
        changed = msgspec.structs.replace(said.manifests[2], issued_ms=NOW_MS - 1).signed(manifest)
        return msgspec.structs.replace(said, manifests=(*said.manifests[:2], changed))

    run = run_of(SETS)
    failed(
        lying(run, "place", for_shop(own)), Declined, "party='shop' must get its own manifest back unchanged"
    )


def test_a_manifest_whose_count_is_not_what_passed_is_found_out_by_other_channels() -> None:
    def fewer(said: Placement) -> Placement:
        changed = msgspec.structs.replace(said.manifests[0], count=1).signed(run.keys["app"])
        return msgspec.structs.replace(said, manifests=(changed, *said.manifests[1:]))

    run = run_of(SETS)
    failed(
        lying(run, "place", for_shop(fewer)),
        Declined,
        "party='app' must send the manifest of its set of [0-9]+ points, not of 1",
    )


# --- out of turn -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "body", "cause"),
    [
        ("join", Roster(()), "settings=<none> must be agreed on first"),
        ("blind", BlindRequest(0), "settings=<none> must be agreed on first"),
        ("hop", HopRequest("app", 0, b""), "piece=<early> must come after this channel's own set"),
        ("place", Placement(1, b"", ()), "settings=<none> must be agreed on first"),
    ],
)
def test_messages_before_the_settings_are_refused(kind: str, body: Any, cause: str) -> None:
    party = run_of(SETS).parties["shop"]
    with pytest.raises(Refused, match=cause):
        party._answer(kind, encode(body))


def test_an_unknown_message_is_refused() -> None:
    with pytest.raises(
        BadMessage, match="party='server' must send hello, join, blind, hop or place, not 'peek'"
    ):
        run_of(SETS).parties["shop"]._answer("peek", b"")


def after(step: str) -> tuple[Run, dict[str, bytes]]:
    """A run that stopped after a step, and what that step asked each channel."""
    run = run_of(SETS)
    asked: dict[str, bytes] = {}
    ask = run.caller.ask

    def stopping(kind: str, bodies: Any) -> Any:
        replies = ask(kind, bodies)
        if kind == step:
            asked.update(bodies)
            raise StopIteration
        return replies

    run.caller.ask = stopping  # type: ignore[method-assign]  # a tap
    with pytest.raises(StopIteration):
        run.align()
    return run, asked


@pytest.mark.parametrize(
    ("step", "cause"),
    [
        ("hello", "settings=<second> must be the only ones of the run"),
        ("join", "roster=<second> must be the only one of the run"),
        ("blind", "piece=0 must be 1 of 1; ask for each once, in order"),
        ("hop", "piece=0 of 'market' must be 1; hand each on once, in order"),
        ("place", "positions=<second> must be the only ones of the run"),
    ],
)
def test_a_step_is_taken_once(step: str, cause: str) -> None:
    run, asked = after(step)
    with pytest.raises(Refused, match=cause):
        run.parties["shop"]._answer(step, asked["shop"])


def test_bundles_must_come_before_a_set_leaves() -> None:
    run, _ = after("hello")
    with pytest.raises(Refused, match="roster=<none> must come before anything is sealed; send join"):
        run.parties["shop"]._answer(
            "blind", encode(BlindRequest(0, tuple(Bundle(name, "shop", b"") for name in ("app", "market"))))
        )


def test_positions_before_the_whole_set_are_refused() -> None:
    run, _ = after("join")
    with pytest.raises(Refused, match="positions=<early> must come after the whole set was sent"):
        run.parties["shop"]._answer("place", encode(Placement(1, b"", ())))


def test_the_hashs_key_needs_all_bundles() -> None:
    run, _ = after("join")
    party = run.parties["shop"]
    assert party._group is not None
    with pytest.raises(Refused, match="key=<none> needs a share of every channel; send the bundles"):
        _ = party._group.hash_key
