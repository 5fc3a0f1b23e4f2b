"""Reach and overlap: exact without noise, as noisy as stated with it, paid for once, and blind to who is where."""

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dayfly.federation.accounting import TrialBudget
from dayfly.federation.alignment import Rows
from dayfly.federation.analytics import NoisyOverlap, OverlapParty, OverlapSpec, count_overlap
from dayfly.federation.analytics.kernels import add_patterns
from dayfly.federation.analytics.overlap import Counted, Deal, Shifted
from dayfly.federation.analytics.overlap_spec import OverlapDealer, OverlapDealt
from dayfly.federation.errors import (
    BadMessage,
    Declined,
    InvalidData,
    InvalidSetting,
    Refused,
    TooFewParties,
)
from dayfly.federation.identity import Identities, SigningIdentity
from dayfly.federation.local import LocalGrid, changed, lost_reply
from dayfly.federation.secagg.messages import decode, encode
from dayfly.federation.vertical.sealing import Hello, Roster
from dayfly.federation.wire import SERVER, Caller, unseal
from dayfly.privacy.accounting import LossEvent
from dayfly.privacy.errors import DayflyError
from dayfly.privacy.noise import NoiseSource, OpenDpNoise
from tests.federation.secagg.sessions import digest
from tests.federation.vertical.runs import ALIGNMENT, NOW_MS, PURPOSE, RUN, manifest_of
from tests.oracles.overlap import cells

NAMES = ("app", "hotline", "shop", "web", "wifi", "zoo")


class NoNoise(OpenDpNoise):
    def gaussian(
        self, values: NDArray[np.int64], scale: Fraction, *, l2_squared: int = 1
    ) -> NDArray[np.int64]:
        assert scale > 0
        assert l2_squared == 1
        return values


class Empty:
    def spend(self, *, run: bytes, release: str, loss: LossEvent) -> None:
        raise DayflyError("the budget is used up")


def spec_of(channels: int, universe: int, **changes: Any) -> OverlapSpec:
    fields: dict[str, Any] = {"scale": (10, 1), "colluding": 1} | changes
    return OverlapSpec("bought shoes", NAMES[:channels], universe, ALIGNMENT, PURPOSE, **fields)


def parties_of(
    rows: Mapping[str, set[int]], universe: int, *, noise: NoiseSource, **options: Any
) -> tuple[dict[str, OverlapParty], dict[str, SigningIdentity]]:
    """Each channel has a customer in every second row beside its audience, in an order of its own."""
    keys = {name: SigningIdentity(name, digest("node", name)) for name in (*rows, SERVER)}
    identities = Identities({name: key.public_key for name, key in keys.items()})
    budgets = options.get("budgets", {})
    found = {}
    for number, (name, mine) in enumerate(rows.items()):
        customers = sorted(mine | set(range(number % 2, universe, 2)))
        positions = np.random.default_rng(number).permutation(np.array([*customers, -1], np.int64))
        audience = np.isin(positions, sorted(mine)) | (positions == -1)  # who takes no part counts nowhere
        found[name] = OverlapParty(
            keys[name],
            identities,
            audience,
            Rows(universe, positions, options.get("manifests", {}).get(name, manifest_of(keys[name]))),
            run=options.get("run", RUN),
            random_bytes=lambda size, name=name: digest("root", name)[:size],  # type: ignore[misc]
            noise=noise,
            budget=budgets.get(name, TrialBudget()),
            now_ms=options.get("now_ms", lambda: NOW_MS),
            recheck=options.get("rechecks", {}).get(name, lambda _: None),
        )
    return found, keys


def counted(
    rows: Mapping[str, set[int]],
    universe: int,
    *,
    spec: OverlapSpec | None = None,
    noise: NoiseSource | None = None,
    seed: object = 0,
    grid: Mapping[str, Any] | None = None,
    **options: Any,
) -> tuple[NoisyOverlap, LocalGrid]:
    parties, keys = parties_of(rows, universe, noise=noise or NoNoise(), **options)
    local = LocalGrid(parties.values(), **(grid or {}))
    identities = Identities({name: key.public_key for name, key in keys.items()})
    caller = Caller(local, keys[SERVER], identities, run=RUN)
    found = count_overlap(
        caller,
        spec or spec_of(len(rows), universe),
        random_bytes=lambda size: digest("dealer", seed)[:size],
    )
    return found, local


def random_rows(channels: int, universe: int, *, seed: int = 0) -> dict[str, set[int]]:
    generator = np.random.default_rng(seed)
    return {name: set(np.flatnonzero(generator.random(universe) < 0.3).tolist()) for name in NAMES[:channels]}


# --- what is counted -------------------------------------------------------------------------------------------------


@given(st.integers(2, 6), st.integers(1, 70), st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_without_noise_every_cell_is_exact(channels: int, universe: int, seed: int) -> None:
    rows = random_rows(channels, universe, seed=seed)
    found, _ = counted(rows, universe, seed=seed)
    assert dict(found.cells) == cells(rows)


def test_reach_and_overlaps_are_those_of_the_sets() -> None:
    rows = random_rows(4, 500)
    found, grid = counted(rows, 500)
    assert found.reach == len(set().union(*rows.values()))
    assert found.overlap("app") == len(rows["app"])
    assert found.overlap("app", "web") == len(rows["app"] & rows["web"])
    assert found.overlap("web", "shop", "app") == len(rows["app"] & rows["web"] & rows["shop"])
    assert found.overlap_deviation("app", "web") == pytest.approx(2 * found.standard_deviation)
    assert found.deviation_of(15) == pytest.approx(math.sqrt(15) * found.standard_deviation)
    assert set(grid.messages.values()) == {3}
    for asked in ((), ("app", "elsewhere")):
        with pytest.raises(InvalidSetting, match="must be some of"):
            found.overlap(*asked)


def test_the_noise_is_as_large_as_stated() -> None:
    rows = random_rows(3, 60)
    truth = cells(rows)
    errors = []
    for seed in range(12):
        found, _ = counted(rows, 60, noise=OpenDpNoise(), seed=seed)
        errors += [found.cells[cell] - truth[cell] for cell in truth]
    stated = found.standard_deviation
    assert stated == pytest.approx(10 * math.sqrt(3 / 2), rel=1e-6)
    # 84 draws: the estimate of a deviation errs by 8 %, that of a mean by stated / sqrt(84); six of each.
    assert 0.5 * stated < np.std(errors) < 1.5 * stated
    assert abs(np.mean(errors)) < 6 * stated / math.sqrt(84)


def test_one_customer_costs_the_loss_of_a_change_by_one() -> None:
    assert spec_of(4, 100).loss == spec_of(4, 100).shares.loss(1, 15)
    gaussian = Fraction(1, 2 * 10**2)
    assert gaussian * Fraction(999_999, 1_000_000) < spec_of(4, 100).loss.rho <= gaussian + Fraction(1, 10**9)
    rows = random_rows(3, 50)
    someone = next(iter(rows["app"]))
    before, _ = counted(rows, 50)
    after, _ = counted({name: mine - {someone} for name, mine in rows.items()}, 50)
    assert sum(abs(before.cells[cell] - after.cells[cell]) for cell in before.cells) == 1


@given(st.integers(1, 6), st.integers(0, 40), st.integers(0, 2**32 - 1))
def test_the_kernel_adds_each_rows_table_at_its_place(bits: int, rows: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    size = 1 << bits
    tables = generator.integers(0, 2**64, (rows, size), dtype=np.uint64)
    shifted = generator.integers(0, size, rows).astype(np.uint8)
    found = generator.integers(0, 2**64, size, dtype=np.uint64)
    expected = [
        (int(found[p]) + sum(int(tables[row][(int(shifted[row]) - p) % size]) for row in range(rows))) % 2**64
        for p in range(size)
    ]
    add_patterns(tables, shifted, found)
    assert found.tolist() == expected


# --- what is seen ----------------------------------------------------------------------------------------------------


def test_dealt_tables_are_one_at_the_shift_and_no_part_says_where() -> None:
    spec = spec_of(3, 4_000)
    dealer = OverlapDealer(spec, digest("dealer"))
    parts = {name: OverlapDealt(spec, dealer.seeds[name]) for name in spec.channels}
    shift = sum(part.shift().astype(int) for part in parts.values()) % 8
    whole = dealer.correction() + parts["app"].tables() + parts["hotline"].tables()
    np.testing.assert_array_equal(whole, np.eye(8, dtype=np.uint64)[shift])
    for part in (shift, *(part.shift() for part in parts.values())):
        counts = np.bincount(part, minlength=8)
        assert ((counts - 500) ** 2 / 500).sum() < 40  # chi-square with 7 degrees of freedom, 1e-6
    high_bits = np.bincount((dealer.correction() >> np.uint64(60)).ravel().astype(int), minlength=16)
    assert ((high_bits - 2_000) ** 2 / 2_000).sum() < 60


class Overheard(LocalGrid):
    """Keeps what every party last sent."""

    def ask(self, requests: Any, **options: Any) -> Any:
        self.replies = super().ask(requests, **options)
        return self.replies


def summand(rows: Mapping[str, set[int]], universe: int, name: str, *, seed: int) -> NDArray[np.uint64]:
    run = digest("run", seed)[:16]
    parties, keys = parties_of(rows, universe, noise=NoNoise(), run=run)
    grid = Overheard(parties.values())
    identities = Identities({one: key.public_key for one, key in keys.items()})
    caller = Caller(grid, keys[SERVER], identities, run=run)
    count_overlap(
        caller, spec_of(len(rows), universe), random_bytes=lambda size: digest("dealer", seed)[:size]
    )
    with pytest.raises(Refused, match="count must follow deal, once"):
        parties[name]._answer("count", encode(Shifted(())))
    reply = grid.replies[name]
    assert isinstance(reply, bytes)
    sent = unseal(reply, identities, sender=name, receiver=SERVER, reply=True)
    return np.frombuffer(decode(sent.body, Counted, party=name).words, "<u8")


@pytest.mark.parametrize("name", NAMES[:2])
def test_the_dealer_cannot_tell_a_channels_counts_from_what_it_dealt(name: str) -> None:
    """Of one row the dealer knows all shares of the table: without a share of zero it would try the four places."""
    spec = spec_of(2, 1)
    dealer = OverlapDealer(spec, digest("dealer", 5))
    last = dealer.correction()[0]
    table = OverlapDealt(spec, dealer.seeds["app"]).tables()[0] if name == "app" else last
    sent = summand({"app": {0}, "hotline": {0}}, 1, name, seed=5)
    for place in range(4):
        assert not (sent == [table[(place - pattern) & 3] for pattern in (1, 2, 3)]).any()


def test_a_channels_summand_is_uniform_whatever_it_counted() -> None:
    rows = random_rows(3, 40)
    words = np.concatenate([summand(rows, 40, "shop", seed=seed) for seed in range(120)])
    counts = np.bincount((words >> np.uint64(61)).astype(int), minlength=8)
    assert ((counts - len(words) / 8) ** 2 / (len(words) / 8)).sum() < 40


# --- who pays, and who says no ---------------------------------------------------------------------------------------


def test_each_channel_pays_once_for_the_release() -> None:
    budgets = {name: TrialBudget() for name in NAMES[:3]}
    found, _ = counted(random_rows(3, 50), 50, budgets=budgets)
    for budget in budgets.values():
        assert list(budget.spent.values()) == [found.loss]
    assert len({key for budget in budgets.values() for key in budget.spent}) == 1


def test_a_channel_whose_budget_is_used_up_ends_the_run_before_noise_is_drawn() -> None:
    class Loud(NoNoise):
        def gaussian(self, *_: Any, **__: Any) -> NDArray[np.int64]:
            raise AssertionError

    budgets = {name: Empty() for name in NAMES[:3]}
    with pytest.raises(Declined, match="declined 'count': the budget is used up"):
        counted(random_rows(3, 50), 50, budgets=budgets, noise=Loud())


def withdrawn_later() -> Callable[[int], None]:
    calls = 0

    def recheck(_: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise DayflyError("consent was withdrawn since alignment")

    return recheck


def test_consent_that_was_withdrawn_between_alignment_and_release_costs_nothing() -> None:
    budgets = {name: TrialBudget() for name in NAMES[:3]}
    with pytest.raises(Declined, match="party='app' declined 'count': consent was withdrawn"):
        counted(random_rows(3, 50), 50, budgets=budgets, rechecks={"app": withdrawn_later()})
    assert budgets["app"].spent == {}


def test_manifests_of_another_time_purpose_or_alignment_are_refused() -> None:
    key = SigningIdentity("app", digest("node", "app"))
    for changes, cause in (
        ({"purpose": "advertising"}, "must have a manifest for purpose='analytics.joint-model'"),
        ({"expires_ms": NOW_MS}, "must have a manifest that holds at now_ms=1000"),
        ({"run": digest("another")[:16]}, "not of another one; align again"),
    ):
        with pytest.raises(Declined, match=f"party='app' declined 'hello': .*{cause}"):
            counted(random_rows(2, 50), 50, manifests={"app": manifest_of(key, **changes)})


def test_every_channel_is_needed_and_a_lost_one_is_named() -> None:
    with pytest.raises(TooFewParties, match="party='shop' was lost at 'deal'"):
        counted(random_rows(3, 50), 50, grid={"faults": {("shop", 2): lost_reply}})


def test_what_the_coordinator_changes_in_a_shifted_audience_is_noticed() -> None:
    def flipped(reply: bytes) -> bytes:
        return reply[:-1] + bytes([reply[-1] ^ 1])

    with pytest.raises(DayflyError, match="party='app'"):
        counted(random_rows(3, 50), 50, grid={"faults": {("app", 2): changed(flipped)}})


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"channels": ("app",)}, "must be 2 to 6 names"),
        ({"channels": ("web", "app")}, "sorted, each once"),
        ({"channels": ("app", "app")}, "each once"),
        ({"channels": tuple("abcdefg")}, "must be 2 to 6 names"),
        ({"universe": 0}, "universe=0 must be above 0"),
        ({"scale": (10, 0)}, "must be a fraction"),
        ({"colluding": 2}, "honest=0 must be at least 1"),
        ({"colluding": -1}, "colluding=-1 must be at least 0"),
        ({"scale": (1, 1)}, "count in finer units"),
    ],
)
def test_agreements_that_do_not_hold_together_are_refused_on_both_sides(changes: Any, cause: str) -> None:
    base = spec_of(2, 50)
    fields = {name: getattr(base, name) for name in base.__struct_fields__} | changes
    spec = OverlapSpec(**fields)
    with pytest.raises(InvalidSetting, match=cause):
        counted(random_rows(2, 50), 50, spec=spec)
    parties, _ = parties_of(random_rows(2, 50), 50, noise=NoNoise())
    with pytest.raises(BadMessage, match=f"must send an overlap that holds: .*{cause}"):
        parties["app"]._answer("hello", encode(spec))


def test_messages_out_of_order_or_of_other_sizes_are_refused() -> None:
    parties, _ = parties_of(random_rows(2, 50), 50, noise=NoNoise())
    party, spec = parties["hotline"], spec_of(2, 50)
    with pytest.raises(Refused, match="kind='deal' must follow hello"):
        party._answer("deal", b"")
    hellos = [decode(one._answer("hello", encode(spec)), Hello, party=name) for name, one in parties.items()]
    with pytest.raises(Refused, match="overlap=<second> must be the first"):
        party._answer("hello", encode(spec))
    with pytest.raises(Refused, match="count must follow deal"):
        party._answer("count", encode(Shifted(())))
    with pytest.raises(BadMessage, match="must send hello, deal or count, not 'open'"):
        party._answer("open", b"")
    roster = Roster(tuple(hellos))
    for seed, tables, cause in (
        (b"short", b"", "a seed of 32 bytes"),
        (bytes(32), b"x", "1600 bytes of tables"),
    ):
        with pytest.raises(BadMessage, match=cause):
            party._answer("deal", encode(Deal(roster, seed, tables)))
    party._answer("deal", encode(Deal(roster, bytes(32), bytes(1_600))))
    with pytest.raises(Refused, match="deal=<second> must be the first"):
        party._answer("deal", encode(Deal(roster, bytes(32), bytes(1_600))))
    with pytest.raises(BadMessage, match="must relay one vector of each of"):
        party._answer("count", encode(Shifted(())))


def test_channels_that_were_not_agreed_on_or_aligned_otherwise_are_refused() -> None:
    parties, keys = parties_of(random_rows(3, 50), 50, noise=NoNoise())
    with pytest.raises(BadMessage, match="must name 'shop' among the channels"):
        parties["shop"]._answer("hello", encode(spec_of(2, 50)))
    with pytest.raises(Refused, match="universe=51 must be that of the alignment of 'app', 50"):
        parties["app"]._answer("hello", encode(spec_of(2, 51)))
    identities = Identities({name: key.public_key for name, key in keys.items()})
    rows = Rows(50, np.arange(3), manifest_of(keys["app"]))
    for audience in (np.ones(2, np.bool_), np.ones(3)):
        with pytest.raises(InvalidData, match="party='app' must say of each of its 3 customers"):
            OverlapParty(
                keys["app"],
                identities,
                audience,  # type: ignore[arg-type]
                rows,
                run=RUN,
                random_bytes=bytes,
                noise=NoNoise(),
                budget=TrialBudget(),
                now_ms=lambda: NOW_MS,
            )


def test_the_loss_is_stated_toward_each_single_channel_by_default() -> None:
    both = OverlapSpec("shoes", ("app", "web"), 50, ALIGNMENT, PURPOSE, (10, 1))
    assert both.shares.share_scale == 10
