"""A coordinator that does not keep to the protocol: channels decline, and say what it did."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from dayfly.federation.alignment.messages import (
    BlindRequest,
    Bundle,
    HopRequest,
    Placement,
    Roster,
)
from dayfly.federation.errors import (
    BadMessage,
    Declined,
    Refused,
    RowsDisagree,
)
from dayfly.federation.secagg.messages import encode

from .lies import (
    SETS,
    failed,
    for_shop,
    lying,
)
from .runs import NOW_MS, Run, digest, run_of


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


def test_an_earlier_piece_does_not_open_in_the_place_of_another() -> None:
    first: dict[str, bytes] = {}

    def earlier(said: HopRequest) -> HopRequest:
        return msgspec.structs.replace(said, sealed=first.setdefault(said.owner, said.sealed))

    run = lying(run_of(SETS, piece_points=20), "hop", for_shop(earlier))
    failed(
        run,
        Declined,
        "party='shop' declined 'hop': party='market' must send 'shop' what it sealed for it in this run",
    )


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


def test_places_exchanged_on_their_way_to_a_channel_are_found_out_by_the_tags() -> None:
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


def test_a_piece_beyond_the_last_is_refused() -> None:
    run, _ = after("blind")
    with pytest.raises(Refused, match="piece=1 must be 1 of 1; ask for each once, in order"):
        run.parties["shop"]._answer("blind", encode(BlindRequest(1)))


@pytest.mark.parametrize("size", [31, 33, 32 * 2**17 + 32])
def test_a_piece_of_another_length_is_refused_even_where_the_coordinator_looks_away(size: int) -> None:
    run, _ = after("blind")
    market = run.parties["market"]._group
    assert market is not None
    sealed = market.seals.seal("shop", (1, 0, 0), bytes(size))
    with pytest.raises(
        BadMessage, match=f"party='market' must send at most 131072 points of 32 bytes, not {size} bytes"
    ):
        run.parties["shop"]._answer("hop", encode(HopRequest("app", 0, sealed)))
