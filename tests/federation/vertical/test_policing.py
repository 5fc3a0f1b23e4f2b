"""Channels and coordinator that go wrong: each ends in an error that names party and cause; nothing is spent twice, nothing opened."""

from collections.abc import Callable
from fractions import Fraction
from itertools import chain, repeat
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy import stats

from dayfly.federation.accounting import TrialBudget
from dayfly.federation.errors import (
    BadMessage,
    ConsentWithdrawn,
    Declined,
    InvalidData,
    InvalidSetting,
    NotEstimable,
    PartyFault,
    Replayed,
    SpendRefused,
    TooFewParties,
)
from dayfly.federation.local import changed, garbage, lost_reply, lost_request, replay
from dayfly.federation.secagg.messages import encode
from dayfly.federation.vertical import ChannelColumns, VerticalData, agree, plan_noise, train_vertical
from dayfly.federation.vertical.randomness import Dealer
from dayfly.federation.vertical.sealing import Hello, Letter, Roster
from dayfly.federation.vertical.tasks import Exchange, MomentsRequest, ResidualRequest, StepTask
from dayfly.federation.wire import Caller
from dayfly.privacy.accounting import LossEvent
from tests.federation.secagg.sessions import digest
from tests.federation.vertical.runs import (
    ALIGNMENT,
    PURPOSE,
    RUN,
    Channels,
    Run,
    prepared,
    small_world,
    spec_for,
    trained,
)

WORLD = small_world(60)
SPEC = spec_for(WORLD, steps=1)
NOISY = spec_for(WORLD, steps=2, noise=plan_noise(Fraction(1), Fraction(1, 10**6), 2), accept_few_rows=True)
MESSAGES = 6
"""To a channel, in a run of one step."""


class Broke(TrialBudget):
    """Refuses from one release on."""

    def __init__(self, release: str) -> None:
        super().__init__()
        self.release = release

    def spend(self, *, run: bytes, release: str, loss: LossEvent) -> None:
        if release == self.release:
            raise SpendRefused("wifi", f"refuses release={release!r}: its budget is used up")
        super().spend(run=run, release=release, loss=loss)


class Counting:
    """No noise; counts how often it was asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def gaussian(self, values: Any, scale: Fraction, *, l2_squared: int = 1) -> Any:
        del scale, l2_squared
        self.asked += 1
        return values


@pytest.mark.parametrize("message", range(1, MESSAGES + 1))
@pytest.mark.parametrize("fault", [lost_request, lost_reply])
def test_a_lost_channel_ends_the_run_by_name(message: int, fault: Any) -> None:
    with pytest.raises(TooFewParties, match=r"party='wifi' was lost .* 10 s"):
        trained(WORLD, SPEC, faults={("wifi", message): fault})


@pytest.mark.parametrize("message", range(1, MESSAGES + 1))
@pytest.mark.parametrize("data", [b"", b"\x00", b"garbage" * 40])
def test_garbage_is_named(message: int, data: bytes) -> None:
    with pytest.raises(BadMessage, match="party='app' must send a signed message"):
        trained(WORLD, SPEC, faults={("app", message): garbage(data)})


@pytest.mark.parametrize("message", range(2, MESSAGES + 1))
def test_a_replayed_reply_is_named(message: int) -> None:
    with pytest.raises(Replayed, match="party='app'"):
        trained(WORLD, SPEC, faults={("app", message): replay(message - 1)})


@pytest.mark.parametrize("message", range(1, MESSAGES + 1))
@pytest.mark.parametrize("place", [10, -10])
def test_a_reply_that_was_changed_on_its_way_is_named(message: int, place: int) -> None:
    def flip(data: bytes) -> bytes:
        found = bytearray(data)
        found[place] ^= 1
        return bytes(found)

    with pytest.raises(PartyFault, match="party='app'"):
        trained(WORLD, SPEC, faults={("app", message): changed(flip)})


def test_a_budget_that_is_used_up_ends_the_run_before_noise_is_drawn() -> None:
    noise = Counting()
    budgets = {"wifi": Broke("gradient 1"), "app": TrialBudget(), "hotline": TrialBudget()}
    with pytest.raises(Declined, match=r"party='wifi' declined 'gradient': .*refuses release='gradient 1'"):
        trained(WORLD, NOISY, budgets=budgets, noise=noise)
    assert list(budgets["wifi"].spent) == [(RUN, "moments")]
    # Moments have two parts, of three channels; of the gradient, those who answered before wifi drew.
    assert noise.asked == 3 * 2 + 2
    for budget in budgets.values():
        assert len(budget.spent) == len(set(budget.spent)) <= 2


@pytest.mark.parametrize(
    ("at_ms", "cause"), [(-1, "holds at now_ms=-1"), (3_600_000, "holds at now_ms=3600000")]
)
def test_an_expired_manifest_is_refused_and_nothing_is_spent(at_ms: int, cause: str) -> None:
    budgets = {name: TrialBudget() for name in WORLD.columns}
    with pytest.raises(Declined, match=rf"party='app' declined 'hello': party='app' .*{cause}"):
        trained(WORLD, SPEC, budgets=budgets, now_ms=lambda: at_ms)
    assert not any(budget.spent for budget in budgets.values())


def test_noise_that_a_single_channel_could_take_off_is_refused() -> None:
    noise = plan_noise(Fraction(1), Fraction(1, 10**6), 1, colluding=0)
    budgets = {name: TrialBudget() for name in WORLD.columns}
    with pytest.raises(Declined, match=r"party='app' declined 'hello': colluding=0 must be at least 1"):
        trained(WORLD, spec_for(WORLD, steps=1, noise=noise, accept_few_rows=True), budgets=budgets)
    assert not any(budget.spent for budget in budgets.values())


def test_a_manifest_that_expires_on_the_way_stops_before_the_next_release() -> None:
    times = chain([0] * 6, repeat(3_600_000))
    budgets = {name: TrialBudget() for name in WORLD.columns}
    with pytest.raises(Declined, match="party='app' declined 'gradient'"):
        trained(WORLD, SPEC, budgets=budgets, now_ms=lambda: next(times))
    assert {tuple(budget.spent) for budget in budgets.values()} == {((RUN, "moments"),)}


def test_a_consent_withdrawn_since_the_alignment_stops_training_by_name() -> None:
    def withdrawn(now_ms: int) -> None:
        del now_ms
        raise ConsentWithdrawn("wifi", "has rows whose consent was withdrawn since they were aligned")

    budgets = {name: TrialBudget() for name in WORLD.columns}
    with pytest.raises(Declined, match=r"party='wifi' declined 'hello': .* withdrawn since"):
        trained(WORLD, SPEC, budgets=budgets, rechecks={"wifi": withdrawn})
    assert not any(budget.spent for budget in budgets.values())


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"alignment": digest("another")[:16]}, "not of another one; align again"),
        ({"purpose": "marketing.ads"}, "must have a manifest for purpose='marketing.ads'"),
        ({"universe": 61}, "universe=61 must be that of the alignment"),
    ],
)
def test_an_agreement_that_is_not_the_alignment_s_is_refused(changes: dict[str, Any], cause: str) -> None:
    with pytest.raises(Declined, match=cause):
        trained(WORLD, msgspec.structs.replace(SPEC, **changes))


# --- data ---------------------------------------------------------------------------------------------------------------


def declined(data: Callable[[], VerticalData], match: str) -> None:
    with pytest.raises((Declined, InvalidData), match=match):
        trained(WORLD, SPEC, data={"hotline": data()})


def hotline(values: Any, **changes: Any) -> VerticalData:
    given = {"label": "bought", "labels": WORLD.labels} | changes
    return VerticalData("hotline", ("hotline_0", "hotline_1"), values, **given)


def column(place: int, value: float) -> np.ndarray:
    values = WORLD.columns["hotline"].copy()
    values[:, place] = value
    return values


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (lambda: hotline(WORLD.columns["hotline"][:, :1]), r"shape \(60, 1\); they must be \(customers, 2\)"),
        (lambda: hotline(WORLD.columns["hotline"].ravel()), "they must be"),
        (lambda: hotline(WORLD.columns["hotline"], labels=WORLD.labels[:-1]), r"must be \(60,\)"),
        (lambda: hotline([["a", "b"]]), "no rectangle of numbers"),
        (lambda: hotline(column(1, np.nan)), r"NaN or infinite values in \['hotline_1'\]"),
        (lambda: hotline(column(0, 2.0)), r"constant columns \['hotline_0'\]"),
        (lambda: hotline(np.repeat(WORLD.columns["hotline"][:, :1], 2, axis=1)), r"\['hotline_0', 'hotline_1'\] that determine each"),
        (lambda: hotline(WORLD.columns["hotline"], label=None, labels=None), "has no label 'bought'"),
        (lambda: hotline(WORLD.columns["hotline"], labels=None), "not both"),
        (lambda: hotline(WORLD.columns["hotline"], label="sold"), "has label 'sold', not 'bought'"),
        (lambda: hotline(WORLD.columns["hotline"], labels=WORLD.labels * 2), "they must be 0 or 1"),
        (lambda: hotline(WORLD.columns["hotline"], labels=WORLD.labels * 0), "only one value of the label"),
        (lambda: hotline(WORLD.columns["hotline"], labels=np.full(60, np.nan)), "60 rows without a label"),
        (lambda: hotline(np.zeros((0, 2)), labels=np.zeros(0)), "has no rows"),
        (lambda: VerticalData("hotline", ("a", "a"), np.zeros((60, 2))), r"columns \['a'\] twice"),
        (lambda: VerticalData("hotline", (), np.zeros((60, 0))), "has no features"),
        (lambda: VerticalData("hotline", ("hotline_0", "x"), WORLD.columns["hotline"], label="bought", labels=WORLD.labels), r"missing \['hotline_1'\], not agreed \['x'\]"),
        (lambda: hotline(WORLD.columns["hotline"][:50], labels=WORLD.labels[:50]), "50 customers, but .* were aligned"),
    ],
)  # fmt: skip
def test_data_that_cannot_be_trained_on_is_named(data: Callable[[], VerticalData], cause: str) -> None:
    declined(data, rf"party='hotline' .*{cause}")


def test_a_channel_none_of_whose_customers_is_aligned_is_named() -> None:
    positions = dict(WORLD.positions) | {"wifi": np.full(60, -1)}
    world = Channels(WORLD.columns, "hotline", WORLD.labels, positions, 60)
    with pytest.raises(Declined, match="party='wifi' has no customer among the aligned ones"):
        trained(world, SPEC)


def test_columns_of_two_channels_that_determine_each_other_are_named() -> None:
    columns = dict(WORLD.columns)
    columns["app"] = np.column_stack([columns["app"][:, :2], columns["wifi"][:, 1]])
    world = Channels.whole(columns, "hotline", WORLD.labels)
    with pytest.raises(NotEstimable, match=r"features=\['app_2', 'wifi_1'\] must not determine each other"):
        trained(world, SPEC)


@pytest.mark.parametrize(
    ("channels", "options", "cause"),
    [
        ([("a", ("x",)), ("b", ("x",))], {}, "feature='x' of channel='b' must be named once, but is also a name of 'a'"),
        ([("a", ("x",)), ("b", ("y",))], {"label": "y"}, "feature='y' of channel='b' must be named once"),
        ([("a", ("x",))], {}, "must be two or more"),
        ([("a", ("x",)), ("a", ("y",))], {}, "must be two or more, sorted, each once"),
        ([("a", ("x",)), ("b", ())], {}, "channel='b' must have a feature"),
        ([("a", ("x",)), ("b", ("y",))], {"label_channel": "c"}, "label_channel='c' must be one of"),
        ([("a", ("x",)), ("b", ("y",))], {"steps": -1}, "steps=-1 must be 0 to 100"),
        ([("a", ("x",)), ("b", ("y",))], {"label_bounds": (0, 2)}, r"label_bounds=\(0, 2\) must rise, and be \(0, 1\)"),
        ([("a", ("x",)), ("b", ("y",))], {"universe": 1 << 27}, "must be below 2\\^22 rows"),
        ([("a", ("x",)), ("b", ("y",))], {"constant": 0.0}, "constant=0.0 must be"),
    ],
)  # fmt: skip
def test_agreements_that_cannot_be_kept_are_refused(
    channels: list[tuple[str, tuple[str, ...]]], options: dict[str, Any], cause: str
) -> None:
    columns = [ChannelColumns(name, names, ((-1, 1),) * len(names), 1.0) for name, names in channels]
    given: dict[str, Any] = {
        "label": "bought", "label_channel": "a", "alignment": ALIGNMENT, "universe": 60, "purpose": PURPOSE, "noise": None,
    } | options  # fmt: skip
    with pytest.raises(InvalidSetting, match=cause):
        agree(columns, **given)


# --- a coordinator that lies ----------------------------------------------------------------------------------------------


def asked(run: Run, kind: str, bodies: dict[str, bytes]) -> dict[str, Any]:
    return run.caller.ask(kind, bodies)


def joined() -> tuple[Run, Dealer, dict[str, Letter], Roster]:
    """A run up to the masked inputs."""
    run = prepared(WORLD)
    hellos = {
        name: msgspec.msgpack.decode(body, type=Hello)
        for name, body in asked(run, "hello", dict.fromkeys(SPEC.names, encode(SPEC))).items()
    }
    roster = Roster(tuple(hellos[name] for name in SPEC.names))
    dealer = Dealer(SPEC, digest("dealer"))
    letters = {
        name: msgspec.msgpack.decode(body, type=Letter)
        for name, body in asked(
            run, "exchange", {name: encode(Exchange(roster, dealer.seed(name))) for name in SPEC.names}
        ).items()
    }
    return run, dealer, letters, roster


def cause(reply: Any) -> str:
    found: str = reply.cause
    return found


def moments(run: Run, dealer: Dealer, letters: dict[str, Letter], to: str, **changes: Letter) -> Any:
    sent = {**letters, **changes}
    others = tuple(sent[name] for name in SPEC.names if name != to)
    correction = dealer.gram().tobytes() + dealer.counts().tobytes() if to == "hotline" else b""
    return asked(run, "moments", {to: encode(MomentsRequest(others, correction))})[to]


def test_a_vector_that_another_channel_made_is_refused() -> None:
    run, dealer, letters, _ = joined()
    forged = msgspec.structs.replace(letters["wifi"], sender="app")
    assert "party='app' must sign its 'inputs'" in cause(moments(run, dealer, letters, "hotline", app=forged))


def test_a_vector_whose_content_was_changed_is_refused() -> None:
    run, dealer, letters, _ = joined()
    content = letters["app"].content
    forged = msgspec.structs.replace(letters["app"], content=content[:-1] + bytes([content[-1] ^ 1]))
    assert "party='app' must sign its 'inputs'" in cause(moments(run, dealer, letters, "hotline", app=forged))


def test_a_roster_with_another_key_is_refused() -> None:
    run = prepared(WORLD)
    hellos = {
        name: msgspec.msgpack.decode(body, type=Hello)
        for name, body in asked(run, "hello", dict.fromkeys(SPEC.names, encode(SPEC))).items()
    }
    own = msgspec.structs.replace(hellos["wifi"], public_key=bytes(range(32)))
    roster = Roster((hellos["app"], hellos["hotline"], own))
    found = asked(run, "exchange", dict.fromkeys(SPEC.names, encode(Exchange(roster, bytes(32)))))
    assert "party='wifi' must sign its vertical hello" in cause(found["app"])
    assert "with the key that it sent; it was replaced" in cause(found["wifi"])


def test_channels_that_are_told_different_tasks_cannot_open_each_other_s_vectors() -> None:
    run, dealer, letters, _ = joined()
    for name in SPEC.names:
        assert isinstance(moments(run, dealer, letters, name), bytes)
    unit = 1 << SPEC.precision.residual_bits
    cubic = (unit // 2, unit // 512, 0, 0)
    tasks = {
        name: StepTask(1, (0.0,) * SPEC.size, (64, 64, 64 + (name == "app")), cubic) for name in SPEC.names
    }
    scores = {
        name: msgspec.msgpack.decode(body, type=Letter)
        for name, body in asked(run, "score", {name: encode(task) for name, task in tasks.items()}).items()
    }

    others = tuple(scores[name] for name in ("app", "hotline"))
    reply = asked(run, "residual", {"wifi": encode(ResidualRequest(1, others, b""))})["wifi"]
    assert "party='app' must sign its 'scores 1' for this run and for what 'wifi' was told" in cause(reply)


@pytest.mark.parametrize(
    ("task", "why"),
    [
        (StepTask(2, (0.0,) * SPEC.size, (64,) * 3, (1, 1, 1, 1)), "message=score 2 must be score 1"),
        (StepTask(1, (0.0,) * 3, (64,) * 3, (1, 1, 1, 1)), "must send weights, limits and coefficients for"),
        (
            StepTask(1, (0.0,) * SPEC.size, (64,) * 3, (1, 1)),
            "must send weights, limits and coefficients for",
        ),
        (StepTask(1, (float("nan"),) * SPEC.size, (64,) * 3, (1, 1, 1, 1)), "must send finite weights"),
        (
            StepTask(1, (0.0,) * SPEC.size, (1 << 20,) * 3, (1, 1, 1, 1)),
            "must send finite weights, and limits",
        ),
        (StepTask(1, (0.0,) * SPEC.size, (0, 1, 1), (1, 1, 1, 1)), "must send finite weights, and limits"),
        (
            StepTask(1, (0.0,) * SPEC.size, (64,) * 3, (1 << 62, 0, 0, 0)),
            "must send a step that fits the ring",
        ),
    ],
)
def test_tasks_that_ask_for_more_than_was_agreed_are_refused(task: StepTask, why: str) -> None:
    run, dealer, letters, _ = joined()
    for name in SPEC.names:
        moments(run, dealer, letters, name)
    assert why in cause(asked(run, "score", {"app": encode(task)})["app"])


def test_nothing_is_answered_twice_or_out_of_order() -> None:
    run, dealer, letters, roster = joined()
    again = asked(run, "exchange", {"app": encode(Exchange(roster, bytes(32)))})["app"]
    assert "message=exchange 0 must be moments 0" in cause(again)
    assert isinstance(moments(run, dealer, letters, "app"), bytes)
    assert "message=moments 0 must be score 1" in cause(moments(run, dealer, letters, "app"))
    assert "training=<second> must be the first" in cause(asked(run, "hello", {"app": encode(SPEC)})["app"])
    assert "must send hello, exchange" in cause(asked(run, "peek", {"app": b""})["app"])
    budget = run.budgets["app"]
    assert isinstance(budget, TrialBudget)
    assert list(budget.spent) == [(RUN, "moments")]


def test_messages_before_hello_are_refused() -> None:
    run = prepared(WORLD)
    assert "must follow hello" in cause(asked(run, "moments", {"app": b""})["app"])


def test_corrections_for_other_channels_are_refused() -> None:
    run, dealer, letters, _ = joined()
    others = tuple(letters[name] for name in SPEC.names if name != "app")
    body = encode(MomentsRequest(others, dealer.gram().tobytes()))
    assert "must send corrections to 'hotline' alone" in cause(asked(run, "moments", {"app": body})["app"])


# --- what others see ------------------------------------------------------------------------------------------------------


class Watching:
    """A grid that keeps the bodies of replies."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.grid, self.identities, self.run = caller.grid, caller.identities, caller.run
        self.seen: list[tuple[str, str, bytes]] = []

    def ask(self, kind: str, bodies: Any) -> Any:
        found = self.caller.ask(kind, bodies)
        self.seen += [(kind, party, reply) for party, reply in found.items() if isinstance(reply, bytes)]
        return found


def uniform(data: bytes) -> bool:
    counts = np.bincount(np.frombuffer(data, np.uint8), minlength=256)
    expected = len(data) / 256
    statistic = float(((counts - expected) ** 2 / expected).sum())
    return float(stats.chi2.ppf(1e-7, 255)) < statistic < float(stats.chi2.ppf(1 - 1e-7, 255))


def test_what_the_coordinator_sees_of_a_channel_is_uniform() -> None:
    """Letters under keys it does not have, and summands whose zero shares it does not know; the same data each time."""
    ciphertexts, summands = [], []
    for seed in range(12):
        ready = prepared(WORLD, seed=seed, run=digest("run", seed)[:16])
        watching = Watching(ready.caller)
        train_vertical(watching, SPEC, random_bytes=bytes)  # type: ignore[arg-type]
        for kind, party, body in watching.seen:
            if party != "app":
                continue
            parts = msgspec.msgpack.decode(body)
            if kind in ("exchange", "score", "residual"):
                ciphertexts.append(parts[2])
            elif kind in ("moments", "gradient"):
                summands.append(parts[2])
    assert uniform(b"".join(ciphertexts))
    assert uniform(b"".join(summands))


def test_what_other_channels_open_is_uniform() -> None:
    """Inputs, scores and residuals less the dealer's masks, over dealers; the channel's data are the same each time."""
    opened: dict[str, list[bytes]] = {"inputs": [], "presence": [], "scores": [], "residuals": []}
    for seed in range(8):
        ready = prepared(WORLD, seed=seed)
        party = ready.parties["app"]
        train_vertical(ready.caller, SPEC, random_bytes=lambda size, seed=seed: digest("d", seed)[:size])  # type: ignore[misc]
        training: Any = party._training
        opened["inputs"].append(training.masked["app"].tobytes())
        opened["presence"].append((training.presence - training.dealt.presence()).tobytes())
        opened["scores"].append(training.scores.tobytes())
        opened["residuals"].append(training.residuals.tobytes())
    for name, parts in opened.items():
        assert uniform(b"".join(parts)), name


def test_zero_shares_cancel_over_all_channels() -> None:
    run, _, _, _ = joined()
    total = np.zeros(40, np.uint64)
    for party in run.parties.values():
        training: Any = party._training
        total += training.sealer.zero_share("test", 40)
    assert not total.any()


def test_a_channel_refuses_the_agreement_that_another_sent_as_garbage() -> None:
    run = prepared(WORLD)
    assert "must send a VerticalSpec" in cause(asked(run, "hello", {"app": b"\xc1"})["app"])
    unkept = msgspec.structs.replace(SPEC, steps=-1)
    assert "must send an agreement that can be kept" in cause(
        asked(run, "hello", {"app": encode(unkept)})["app"]
    )
