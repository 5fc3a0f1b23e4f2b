"""Sets and manifests that no honest channel sends: each ends in an error that names who and why."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from dayfly.federation.alignment import AlignmentParty
from dayfly.federation.alignment.messages import (
    Blinded,
    BlindRequest,
    Hopped,
    HopRequest,
    Placed,
)
from dayfly.federation.errors import (
    BadMessage,
    Declined,
    FederationError,
    ManifestExpired,
    RowsDisagree,
    WrongIdentity,
    WrongManifest,
)
from dayfly.federation.secagg.messages import decode, encode
from dayfly.federation.wire import SERVER

from .lies import (
    PRIME,
    SETS,
    failed,
    first_point,
    liar,
    pieces_of_others,
    pieces_of_own,
    random_points,
    set_of_its_own,
)
from .runs import HOUR_MS, NOW_MS, digest, run_of


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
