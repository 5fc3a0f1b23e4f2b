"""Alignment of 2 to 6 channels against plain sets: who has whose row, who sees what, what it costs, and that it can be done again."""

from collections import Counter
from collections.abc import Callable, Mapping
from fractions import Fraction
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dayfly.federation.alignment import AlignmentParty
from dayfly.federation.alignment.multiplication import POINT_BYTES, multiply
from dayfly.federation.alignment.own_set import OwnSet
from dayfly.federation.alignment.points import hashed
from dayfly.federation.errors import Declined, InvalidData, InvalidSetting, Refused, SpendRefused
from dayfly.privacy.accounting import LossEvent
from dayfly.privacy.noise import OpenDpNoise

from ...oracles.alignment import regions_of_sets, same_rows
from .runs import NOW_MS, YES, Run, digest, run_of

NAMES = ("app", "hotline", "market", "shop", "till", "wifi")


class NoNoise:
    """Padding of a known size: what is drawn is the shift."""

    def laplace(self, values: Any, scale: Fraction, *, l1: int = 1) -> Any:
        return values


def split(run: Run) -> dict[str, list[int]]:
    return {name: rows.positions.tolist() for name, rows in run.rows.items()}


sets_of_customers = st.integers(2, 6).flatmap(
    lambda count: st.fixed_dictionaries(
        {name: st.lists(st.sampled_from([f"c{n}" for n in range(9)]), unique=True) for name in NAMES[:count]}
    )
)


@given(sets_of_customers, st.integers(0, 3))
@settings(max_examples=8, deadline=None)
def test_rows_are_equal_exactly_where_customers_are(sets: dict[str, list[str]], seed: int) -> None:
    check_rows(sets, seed)


@pytest.mark.slow
@given(sets_of_customers, st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_rows_are_equal_exactly_where_customers_are_in_many_runs(
    sets: dict[str, list[str]], seed: int
) -> None:
    check_rows(sets, seed)


def check_rows(sets: dict[str, list[str]], seed: int) -> None:
    run = run_of(sets, seed=seed)
    report = run.align(seed=seed)
    assert same_rows(sets, split(run))
    for name, rows in run.rows.items():
        assert rows.universe == report.universe > max(rows.positions.tolist(), default=-1)
        assert rows.manifest == report.manifests[name]
        assert rows.manifest.count == report.counts[name] >= len(sets[name])


EDGES: dict[str, dict[str, list[str]]] = {
    "nobody": {"app": [], "shop": []},
    "one channel is empty": {"app": ["a", "b"], "shop": [], "till": ["b"]},
    "one in common": {"app": ["a", "b", "c"], "shop": ["d", "c", "e"]},
    "all in common": {name: ["a", "b", "c"] for name in NAMES},
    "nobody in common": {name: [f"{name}-{number}" for number in range(3)] for name in NAMES[:4]},
}


@pytest.mark.parametrize("edge", list(EDGES))
def test_the_coordinator_counts_regions_as_plain_sets_do_and_padding_on_top(edge: str) -> None:
    sets = EDGES[edge]
    run = run_of(sets, noise=NoNoise(), epsilon=(6, 1), delta=(1, 100))
    run.align()
    assert same_rows(sets, split(run))
    assert run.report is not None
    expected = regions_of_sets(sets)
    padding = 2 * run.settings.padding.shift
    assert padding > 8
    assert run.report.regions == {
        region: expected.get(region, 0) + padding
        for size in range(1, len(sets) + 1)
        for region in combinations(sorted(sets), size)
    }
    assert run.report.universe >= sum(run.report.regions.values())
    for name, count in run.report.counts.items():
        assert count == sum(many for region, many in run.report.regions.items() if name in region)


@pytest.mark.parametrize("piece_points", [3, 7, 20])
def test_sets_in_pieces_give_rows_as_well(piece_points: int) -> None:
    sets = {"app": ["a", "b", "c", "d"], "shop": ["c", "e"], "till": []}
    run = run_of(sets, piece_points=piece_points)
    report = run.align()
    assert same_rows(sets, split(run))
    most = max(-(-count // piece_points) for count in report.counts.values())
    assert len(run.steps) == 3 + 3 * most >= max(run.grid.messages.values())
    assert run.steps[-1] == ("place", 3 + 3 * most, 3 + 3 * most)


def test_the_universe_has_empty_rows_that_the_coordinator_drew() -> None:
    run = run_of({"app": ["a", "b"], "shop": ["b"]}, epsilon=(6, 1), delta=(1, 100))
    report = run.align(noise=NoNoise())
    assert report.universe == sum(report.regions.values()) + run.settings.padding.shift


def test_rows_are_in_an_order_that_the_coordinator_drew() -> None:
    sets = {"app": ["a", "b", "c"], "shop": ["b"]}
    one, other = run_of(sets, noise=NoNoise()), run_of(sets, noise=NoNoise())
    one.align(noise=NoNoise())
    other.align(seed="other", noise=NoNoise())
    assert one.report is not None
    assert other.report is not None
    assert one.report.regions == other.report.regions
    assert split(one) != split(other)


@pytest.mark.parametrize("channels", range(2, 7))
def test_a_channel_gets_three_messages_and_one_per_channel(channels: int) -> None:
    run = run_of({name: ["a"] for name in NAMES[:channels]})
    run.align()
    assert set(run.grid.messages.values()) == {3 + channels}
    assert [step for step, _, _ in run.steps] == [
        "hello",
        "join",
        "blind",
        *["hop"] * (channels - 1),
        "place",
    ]
    assert [(done, of) for _, done, of in run.steps] == [(n, 3 + channels) for n in range(1, 4 + channels)]


def test_who_does_not_consent_has_no_row() -> None:
    sets = {"app": ["a", "b", "c"], "shop": ["c", "b"]}
    run = run_of(sets, persons={"app": [YES, None, YES], "shop": [YES, YES]}, noise=NoNoise())
    report = run.align()
    app, shop = run.rows["app"].positions, run.rows["shop"].positions
    assert app[1] == -1
    assert min(app[0], app[2]) >= 0
    assert app[2] == shop[0]
    assert shop[1] not in app.tolist()
    padding = 2 * run.settings.padding.shift
    assert report.regions == {("app",): 1 + padding, ("shop",): 1 + padding, ("app", "shop"): 1 + padding}


def test_the_same_randomness_gives_the_same_bytes_and_rows() -> None:
    sets = {"app": ["a", "b"], "shop": ["b", "c"], "till": ["c"]}
    first, again, other = (
        run_of(sets, noise=NoNoise()),
        run_of(sets, noise=NoNoise()),
        run_of(sets, noise=NoNoise(), seed=1),
    )
    for run in (first, again, other):
        run.align()
    assert first.report == again.report
    assert split(first) == split(again)
    assert split(first) != split(other)
    lines, other_lines = ([line.replies for line in run.grid._lines.values()] for run in (first, other))
    assert lines == [line.replies for line in again.grid._lines.values()]
    assert all(a[0] != b[0] for a, b in zip(lines, other_lines, strict=True))


def test_a_party_that_is_rebuilt_with_its_draws_and_requests_gives_its_replies_and_rows() -> None:
    sets = {"app": ["a", "b"], "shop": ["b", "c"]}
    run = run_of(sets, noise=NoNoise())
    run.align()
    rebuilt = run_of(sets, noise=NoNoise()).parties["app"]
    requests = Recorded(run_of(sets, noise=NoNoise()))
    assert [rebuilt.handle(request) for request in requests.of("app")] == run.grid._lines["app"].replies
    assert rebuilt.rows.positions.tolist() == run.rows["app"].positions.tolist()


class Recorded:
    """What a run asked."""

    def __init__(self, run: Run) -> None:
        self.requests: dict[str, list[bytes]] = {name: [] for name in run.parties}
        ask = run.grid.ask

        def recording(requests: Mapping[str, bytes], **limits: Any) -> Any:
            for name, request in requests.items():
                self.requests[name].append(request)
            return ask(requests, **limits)

        run.grid.ask = recording  # type: ignore[method-assign]  # a tap
        run.align()

    def of(self, name: str) -> list[bytes]:
        return self.requests[name]


# --- who pays --------------------------------------------------------------------------------------------------------


class Counting(OpenDpNoise):
    """Counts draws."""

    def __init__(self) -> None:
        self.draws = 0

    def laplace(self, values: Any, scale: Fraction, *, l1: int = 1) -> Any:
        self.draws += 1
        return super().laplace(values, scale, l1=l1)


def test_every_channel_pays_the_stated_loss_once() -> None:
    run = run_of({"app": ["a"], "shop": ["b"], "till": []})
    report = run.align()
    for budget in run.budgets.values():
        ((spent, loss),) = budget.spent.items()
        assert spent[0] == run.caller.run
        assert spent[1].startswith("alignment ")
        assert loss == report.loss == run.settings.padding.loss


def test_a_channel_whose_budget_is_used_up_draws_nothing_and_is_named() -> None:
    noise = Counting()
    run = run_of({"app": ["a"], "shop": ["b"]}, noise=noise)

    def refuse(*, run: bytes, release: str, loss: LossEvent) -> None:
        assert not noise.draws
        raise SpendRefused("app", "refuses: used up")

    run.budgets["app"].spend = refuse  # type: ignore[method-assign]  # an account that is used up
    with pytest.raises(Declined, match="party='app' declined 'join': party='app' refuses: used up"):
        run.align()
    assert noise.draws == 1  # the other channel's


# --- who sees what ---------------------------------------------------------------------------------------------------


def halves(run: Run) -> dict[str, dict[tuple[str, str], set[bytes]]]:
    """Channel to what it saw in clear: (whose set, before or after its own hop) to points."""
    seen: dict[str, dict[tuple[str, str], set[bytes]]] = {}
    for name, party in run.parties.items():
        assert party._passing is not None
        assert party._own is not None
        own = multiply(party._scalar, party._own._points.tobytes())
        seen[name] = {(name, "after"): cut(own)}
        for owner, points in party._passing._seen.items():
            seen[name][owner, "before"] = cut(points)
            seen[name][owner, "after"] = cut(multiply(party._scalar, points))
    return seen


def cut(points: bytes) -> set[bytes]:
    return {points[at : at + POINT_BYTES] for at in range(0, len(points), POINT_BYTES)}


@pytest.mark.parametrize("channels", range(2, 6))
def test_no_channel_sees_two_sets_that_it_could_compare_even_where_all_customers_are_the_same(
    channels: int,
) -> None:
    run = run_of({name: ["a", "b", "c"] for name in NAMES[:channels]}, noise=NoNoise())
    run.align()
    for views in halves(run).values():
        assert len(views) == 2 * channels - 1
        for one, other in combinations(views, 2):
            assert not views[one] & views[other]


def test_two_neighbours_together_can_compare_which_the_module_does_not_deny() -> None:
    run = run_of({name: ["a", "b", "c"] for name in NAMES[:3]}, noise=NoNoise())
    run.align()
    views = halves(run)
    app, hotline = views["app"], views["hotline"]
    assert app["hotline", "after"] & hotline["market", "after"]  # both blinded by all


def test_the_coordinator_is_not_shown_partly_blinded_points() -> None:
    run = run_of({name: ["a", "b", "c"] for name in NAMES[:3]}, noise=NoNoise())
    run.align()
    names = sorted(run.parties)
    said = b"".join(reply for line in run.grid._lines.values() for reply in line.replies)
    for channel, views in halves(run).items():
        for (owner, when), points in views.items():
            last = when == "after" and names[(names.index(owner) - 1) % 3] == channel
            assert all((point in said) == last for point in points)


def test_channels_are_told_nothing_but_their_own_places() -> None:
    run = run_of({"app": ["a", "b"], "shop": ["b"]}, noise=NoNoise())
    requests = Recorded(run)
    placements = [requests.of(name)[-1] for name in ("app", "shop")]
    fully_blinded = [bytes(point) for point in halves(run)["app"]["shop", "after"]]
    assert not any(point in placement for point in fully_blinded for placement in placements)


def chi_square(found: Counter[int], cells: int) -> float:
    expected = sum(found.values()) / cells
    return sum((found[cell] - expected) ** 2 / expected for cell in range(cells))


@pytest.mark.slow
def test_a_place_does_not_tell_whether_another_channel_has_the_customer() -> None:
    """Rows of a channel's shared and unshared customers are spread evenly, and alike, over the universe."""
    shared: Counter[int] = Counter()
    alone: Counter[int] = Counter()
    cells, runs = 8, 400
    for seed in range(runs):
        run = run_of({"app": ["a", "b"], "shop": ["b", "c"]}, seed=seed, epsilon=(64, 1))
        run.align(seed=seed)
        one, other = run.rows["app"].positions.tolist()
        universe = run.rows["app"].universe
        alone[one * cells // universe] += 1
        shared[other * cells // universe] += 1
    assert (
        chi_square(shared, cells) < 40
    )  # of 7 degrees of freedom, rows in unequal cells: below 1e-5 without any dependence
    assert chi_square(alone, cells) < 40


def test_the_order_in_which_a_set_is_sent_is_not_the_channels_own() -> None:
    customers = [f"c{number}" for number in range(6)]
    where: Counter[int] = Counter()
    for seed in range(300):
        own = OwnSet(digest("key"), "id", customers, [], order_seed=digest("order", seed))
        sent = own.blinded(0, digest("scalar"), 100, executor=None, done=lambda _: None)
        first = multiply(digest("scalar"), hashed(digest("key"), "id", [b"c0"]))
        where[sent.index(first) // POINT_BYTES] += 1
    assert chi_square(where, 6) < 30.9  # of 5 degrees of freedom: exceeded with probability 1e-5


# --- what is refused before anything is sent -------------------------------------------------------------------------


def wrong(**changes: Any) -> Callable[[], Run]:
    return lambda: run_of({"app": ["a"], "shop": ["b"]}, **changes)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"channels": ("app",)}, r"channels=\['app'\] must be 2 to 6 names"),
        ({"channels": tuple("abcdefg")}, "must be 2 to 6 names, sorted, each once"),
        ({"channels": ("shop", "app")}, "must be 2 to 6 names, sorted, each once"),
        ({"channels": ("app", "app")}, "must be 2 to 6 names, sorted, each once"),
        (
            {"channels": ("app", "till")},
            r"channels=\['app', 'till'\] must be the grid's parties, \['app', 'shop'\]",
        ),
        ({"purpose": "Joint Model"}, "purpose='Joint Model' must be a path of the purpose taxonomy"),
        ({"piece_points": 0}, "piece_points=0 must be 1 to 4194304"),
        ({"piece_points": 2**22 + 1}, "piece_points=4194305 must be 1 to 4194304"),
        ({"epsilon": (1, 0)}, "must be fractions with denominators above 0"),
        ({"delta": (1, 0)}, "must be fractions with denominators above 0"),
        ({"epsilon": (0, 1)}, "epsilon=0 delta=0.5 must be above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_anything_is_sent(
    changes: dict[str, Any], cause: str
) -> None:
    run = wrong(**changes)()
    with pytest.raises(InvalidSetting, match=cause):
        run.align()
    assert not run.grid.messages


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        (
            {"purpose": "counting"},
            "purpose='counting' must be 'joint-model', which the channel's customers were asked about",
        ),
        ({"expires_ms": NOW_MS}, f"party='app' cannot sign a manifest that expires at {NOW_MS}, before now"),
    ],
)
def test_a_channel_declines_settings_that_are_not_its_own(changes: dict[str, Any], cause: str) -> None:
    run = wrong(**changes)()
    with pytest.raises(Declined, match=f"party='app' declined 'hello': {cause}"):
        run.align()
    assert not any(budget.spent for budget in run.budgets.values())


def test_another_kind_of_identifier_is_declined() -> None:
    run = run_of({"app": ["a"], "shop": ["b"]})
    run.settings = type(run.settings)(
        **{**{name: getattr(run.settings, name) for name in run.settings.__struct_fields__}, "kind": "email"}
    )
    with pytest.raises(Declined, match="kind='email' must be 'id', the identifiers of the channel"):
        run.align()


def test_a_party_brings_its_own_customers() -> None:
    run = run_of({"app": ["a"], "shop": ["b"]})
    with pytest.raises(InvalidData, match="party='app' must bring its own customers, not those of 'shop'"):
        AlignmentParty(
            run.keys["app"],
            run.identities,
            run.parties["shop"]._customers,
            run=run.caller.run,
            random_bytes=digest,
            noise=OpenDpNoise(),
            budget=run.budgets["app"],
            now_ms=NOW_MS,
        )


def test_rows_come_with_the_end() -> None:
    run = run_of({"app": ["a"], "shop": ["b"]})
    with pytest.raises(Refused, match="rows=<none> come with the end of the alignment"):
        _ = run.parties["app"].rows
