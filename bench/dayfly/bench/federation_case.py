"""Federated training and secure aggregation: accuracy against the pooled model, and what the protocol costs."""

import hashlib
import importlib.util
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dayfly.federation.accounting import TrialBudget
from dayfly.federation.horizontal import (
    ChannelParty,
    GlmFit,
    GlmSettings,
    GlmSpec,
    GlmWorkload,
    Shard,
    train_glm,
)
from dayfly.federation.identity import Identities, SigningIdentity
from dayfly.federation.local import Fault, LocalGrid, lost_request
from dayfly.federation.secagg import Aggregator, Member, Settings, least_threshold
from dayfly.federation.wire import SERVER, Caller, Desk

from .measuring import median
from .rows import Row, at_most, missing_peer

__all__ = ["run"]

SUITE: Final = "federation"
COEFFICIENT_BAR, ROUND_BAR, AUC_BAR = 1e-6, 8, 1e-5
AGGREGATION_BARS_MS: Final = {10: (40.0, 398.0), 30: (300.0, 6_450.0)}
"""Members to our bar and to what Flower's SecAgg+ took when the bar was set (not measured here)."""
WORDS: Final = 31
MESSAGE_BAR_MS: Final = 1.0
MESSAGE_BYTES: Final = 4_096

BOOKING: Final[dict[str, tuple[float, float]]] = {
    "lead_time": (0, 800),
    "stays_in_weekend_nights": (0, 25),
    "stays_in_week_nights": (0, 60),
    "adults": (0, 60),
    "babies": (0, 10),
    "is_repeated_guest": (0, 1),
    "previous_cancellations": (0, 30),
    "previous_bookings_not_canceled": (0, 100),
    "booking_changes": (0, 30),
    "days_in_waiting_list": (0, 400),
    "adr": (-10, 600),
    "required_car_parking_spaces": (0, 10),
    "total_of_special_requests": (0, 5),
}
CREDIT: Final[dict[str, tuple[float, float]]] = {
    "LIMIT_BAL": (0, 2e6),
    "SEX": (1, 2),
    "EDUCATION": (0, 6),
    "MARRIAGE": (0, 3),
    "AGE": (18, 100),
    **{f"PAY_{month}": (-2, 9) for month in (0, 2, 3, 4, 5, 6)},
    **{f"BILL_AMT{month}": (-1e6, 3e6) for month in range(1, 7)},
    **{f"PAY_AMT{month}": (0, 3e6) for month in range(1, 7)},
}
"""Bounds that the meaning of a column gives, not its rows."""

Floats = NDArray[np.float64]
Rows = Mapping[str, tuple[Floats, Floats]]


def run(*, quick: bool) -> list[Row]:
    """Rows of horizontal accuracy, secure aggregation and messages."""
    rows = [_aggregation(members, sessions=3 if quick else 9) for members in AGGREGATION_BARS_MS]
    rows.append(_message(200 if quick else 2_000))
    root = _data()
    if root is None or importlib.util.find_spec("sklearn") is None:
        why = "install the test group, and set DAYFLY_SHARED_DATA to a copy of the data"
        return [*rows, missing_peer(SUITE, "horizontal logistic", "scikit-learn on the public data", why)]
    bookings = _split(
        pq.read_table(root / "hotel_bookings" / "resort_hotel_h1.parquet").to_pydict(),
        BOOKING,
        "is_canceled",
        "distribution_channel",
    )
    credit = _split(
        pa_csv.read_csv(root / "default_credit" / "default_credit_24000.csv.gz").to_pydict(),
        CREDIT,
        "default_next_month",
        "fate_homo_party",
    )
    rows += _horizontal("hotel_bookings by distribution_channel", bookings, BOOKING, "Direct")
    rows += _horizontal("default_credit, FATE's three parties", credit, CREDIT, "host_1")
    return rows


def _data() -> Path | None:
    named = os.environ.get("DAYFLY_SHARED_DATA")
    for root in (Path(named) if named else None, Path("../shared/data")):
        if root is not None and (root / "hotel_bookings").is_dir():
            return root
    return None


def _split(
    table: Mapping[str, list[Any]], bounds: Mapping[str, tuple[float, float]], label: str, by: str
) -> Rows:
    values = np.array([table[name] for name in bounds], np.float64).T
    labels, party = np.array(table[label], np.float64), np.array(table[by])
    return {str(name): (values[party == name], labels[party == name]) for name in np.unique(party)}


def _digest(*parts: object) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()


def _keys(names: tuple[str, ...]) -> tuple[dict[str, SigningIdentity], Identities]:
    keys = {name: SigningIdentity(name, _digest("node", name)) for name in names}
    return keys, Identities({name: key.public_key for name, key in keys.items()})


def _trained(
    rows: Rows, bounds: Mapping[str, tuple[float, float]], faults: Mapping[tuple[str, int], Fault]
) -> GlmFit:
    keys, identities = _keys((*rows, SERVER))
    spec = GlmSpec("logistic", "label", tuple(bounds), tuple(bounds.values()), 1.0, 40_000)
    run_id = _digest("run")[:16]
    parties = [
        ChannelParty(
            keys[name],
            identities,
            GlmWorkload(
                Shard(name, spec.features, values, spec.label, labels), run=run_id, budget=TrialBudget()
            ),
            run=run_id,
            random_bytes=os.urandom,
        )
        for name, (values, labels) in rows.items()
    ]
    caller = Caller(LocalGrid(parties, faults=faults), keys[SERVER], identities, run=run_id)
    return train_glm(caller, GlmSettings(spec, ridge=1.0), session=os.urandom(16))


def _horizontal(name: str, rows: Rows, bounds: Mapping[str, tuple[float, float]], lost: str) -> list[Row]:
    """Worst of three fates of one party: lost before its masked input of round 4, after it, and not at all."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - a peer, not a dependency
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415 - as above
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415 - as above

    values = np.concatenate([part[0] for part in rows.values()])
    labels = np.concatenate([part[1] for part in rows.values()])
    scaled = StandardScaler().fit_transform(values)
    peer = LogisticRegression(solver="newton-cholesky", C=1.0, tol=1e-10, max_iter=200).fit(scaled, labels)
    theirs = float(roc_auc_score(labels, peer.decision_function(scaled)))
    worst, worst_auc, most_rounds, seconds = 0.0, 0.0, 0, 0.0
    fates: tuple[dict[tuple[str, int], Fault], ...] = (
        {},
        {(lost, 9): lost_request},
        {(lost, 10): lost_request},
    )
    for faults in fates:
        begin = time.process_time()
        fit = _trained(rows, bounds, faults)
        seconds = max(seconds, time.process_time() - begin)
        worst = max(worst, float(np.abs(fit.standardised - peer.coef_[0]).max()))
        ours = float(roc_auc_score(labels, values @ fit.coefficients + fit.intercept))
        worst_auc, most_rounds = max(worst_auc, abs(ours - theirs)), max(most_rounds, len(fit.rounds))
    note = f"worst of: nobody lost, {lost} lost before and after its masked input of round 4; {seconds:.2f} CPU s in one process"
    peer_name = "scikit-learn on the pooled rows"
    return [
        Row(
            suite=SUITE,
            case=f"{name}: largest coefficient difference",
            measured=worst,
            unit="standard deviations",
            peer=peer_name,
            note=note,
            **at_most(worst, COEFFICIENT_BAR, "standard deviations"),
        ),
        Row(
            suite=SUITE,
            case=f"{name}: rounds",
            measured=most_rounds,
            unit="rounds",
            note=note,
            **at_most(most_rounds, ROUND_BAR, "rounds"),
        ),
        Row(
            suite=SUITE,
            case=f"{name}: AUC difference",
            measured=worst_auc,
            unit="AUC",
            peer=peer_name,
            note=f"pooled {theirs:.4f}",
            **at_most(worst_auc, AUC_BAR, "AUC"),
        ),
    ]


def _aggregation(count: int, *, sessions: int) -> Row:
    """A session of one round: keys, shares, masked inputs, and the opening; one member is lost before its input.

    Flower's protocol sets up keys and shares in every round, so the set-up is in our figure too; the note has it apart.
    """
    names = tuple(f"channel-{number:02d}" for number in range(count))
    keys, identities = _keys(names)
    settings = Settings(_digest("session")[:16], least_threshold(count), 1, WORDS)
    inputs = np.arange(WORDS, dtype=np.uint64)
    whole, rounds = [], []
    for _ in range(sessions + 1):
        begin = time.process_time()
        members = {name: Member(keys[name], identities, settings, os.urandom(32)) for name in names}
        server = Aggregator(identities, settings)
        roster = server.roster(member.hello() for member in members.values())
        server.joined(member.join(roster) for member in members.values())
        middle = time.process_time()
        round_ = server.begin(1, b"release", names)
        for name in names[1:]:
            round_.add(members[name].masked(round_.request(name), inputs))
        total = round_.open({name: members[name].unmasked(round_.unmask_request(name)) for name in names[1:]})
        end = time.process_time()
        assert (total == inputs * np.uint64(count - 1)).all()
        whole.append((end - begin) * 1e3)
        rounds.append((end - middle) * 1e3)
    bar, flower_ms = AGGREGATION_BARS_MS[count]
    measured = median(whole[1:])
    return Row(
        suite=SUITE,
        case=f"secure aggregation, n={count}, d={WORDS}, one member lost: CPU of all parties, set-up and one round",
        measured=round(measured, 1),
        unit="ms",
        note=f"median of {sessions} sessions; the round alone {median(rounds[1:]):.1f} ms; Flower's SecAgg+ was {flower_ms:g} ms when"
        " the bar was set, and is not measured here",
        **at_most(measured, bar, "ms"),
    )


class _Echo:
    """A party that answers with what it was asked."""

    def __init__(self, identity: SigningIdentity, identities: Identities, run_id: bytes) -> None:
        self.name = identity.name
        self._desk = Desk(identity, identities, run=run_id)

    def handle(self, message: bytes) -> bytes:
        return self._desk.handle(message, lambda _, body: body)


def _message(messages: int) -> Row:
    keys, identities = _keys(("shop", SERVER))
    run_id = _digest("run")[:16]
    grid = LocalGrid([_Echo(keys["shop"], identities, run_id)])
    caller = Caller(grid, keys[SERVER], identities, run=run_id)
    body = {"shop": bytes(MESSAGE_BYTES)}
    spent = []
    for _ in range(messages):
        begin = time.thread_time_ns()
        caller.ask("ping", body)
        spent.append((time.thread_time_ns() - begin) / 1e6)
    measured = median(spent)
    return Row(
        suite=SUITE,
        case=f"a message of {MESSAGE_BYTES:,} bytes and its reply, in one process: sealed, checked, counted",
        measured=round(measured, 3),
        unit="ms",
        note=f"CPU, median of {messages:,}; two signatures made and two checked; no transport below it",
        **at_most(measured, MESSAGE_BAR_MS, "ms"),
    )
