"""Federated models are scikit-learn's pooled ones, on public data, also when a party is lost in the middle of a round."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
import pytest
from pyarrow import parquet
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from dayfly.federation.horizontal import GlmFit, GlmSettings, GlmSpec
from dayfly.federation.local import lost_reply, lost_request

from .runs import Rows, pooled, trained

MOST_DIFFERENCE, MOST_ROUNDS, MOST_AUC_DIFFERENCE = 1e-6, 8, 1e-5
BOOKING = {
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
"""Bounds from the meaning of the columns (a rate, nights of a stay), not from the rows."""


def bookings(folder: Path) -> tuple[Rows, GlmSpec]:
    table = parquet.read_table(folder / "hotel_bookings" / "resort_hotel_h1.parquet").to_pydict()
    values = np.array([table[name] for name in BOOKING], float).T
    labels, channel = np.array(table["is_canceled"], float), np.array(table["distribution_channel"])
    rows = {
        name.replace("/", "-"): (values[channel == name], labels[channel == name])
        for name in ("TA/TO", "Direct", "Corporate", "Undefined")
    }
    return rows, GlmSpec("logistic", "label", tuple(BOOKING), tuple(BOOKING.values()), 1.0, 40_000)


def credit(folder: Path) -> tuple[Rows, GlmSpec]:
    with gzip.open(folder / "default_credit" / "default_credit_24000.csv.gz") as file:
        table = pyarrow.csv.read_csv(file).to_pydict()
    left_out = ("ID", "default_next_month", "fate_homo_party")
    names = tuple(name for name in table if name not in left_out)
    bounds: dict[str, tuple[float, float]] = {
        "LIMIT_BAL": (0, 2e6),
        "SEX": (1, 2),
        "EDUCATION": (0, 6),
        "MARRIAGE": (0, 3),
        "AGE": (18, 100),
    }
    kinds: dict[str, tuple[float, float]] = {"PAY_AMT": (0, 3e6), "BILL_AMT": (-1e6, 3e6), "PAY_": (-2, 9)}
    for name in names:
        bounds.setdefault(name, next((kinds[kind] for kind in kinds if name.startswith(kind)), (0, 0)))
    values = np.array([table[name] for name in names], float).T
    labels, party = np.array(table["default_next_month"], float), np.array(table["fate_homo_party"])
    rows = {
        name.replace("_", "-"): (values[party == name], labels[party == name])
        for name in ("guest", "host_1", "host_2")
    }
    spec_bounds = tuple((float(low), float(high)) for low, high in (bounds[name] for name in names))
    return rows, GlmSpec("logistic", "label", names, spec_bounds, 1.0, 10_000)


def check_against_scikit_learn(fit: GlmFit, rows: Rows, included: tuple[str, ...]) -> None:
    values, labels = pooled(rows, *included)
    scaler = StandardScaler().fit(values)
    peer = LogisticRegression(solver="newton-cholesky", C=1.0, tol=1e-10, max_iter=200)
    peer.fit(scaler.transform(values), labels)
    assert np.abs(fit.standardised - peer.coef_[0]).max() <= MOST_DIFFERENCE
    assert abs(fit.intercept + fit.coefficients @ fit.means - peer.intercept_[0]) <= MOST_DIFFERENCE
    assert len(fit.rounds) <= MOST_ROUNDS
    everything, truth = pooled(rows)
    ours = roc_auc_score(truth, everything @ fit.coefficients + fit.intercept)
    theirs = roc_auc_score(truth, peer.decision_function(scaler.transform(everything)))
    assert abs(ours - theirs) <= MOST_AUC_DIFFERENCE


# Messages of a party: hello, join, then masked input and unmask of round 1 (3, 4), of round 2 (5, 6), and so on.
FATES: dict[str, dict[str, Any]] = {
    "nobody is lost": {},
    "lost before its input of round 1, back in round 2": {"at": (3, lost_request)},
    "lost between input and unmask of round 1, back in round 2": {"at": (4, lost_request)},
    "lost after its input of round 4 was masked, its reply never arrives": {"at": (9, lost_reply)},
    "dead from the unmask of round 2 on": {"dead": 6},
    "dead before its input of round 3": {"dead": 7},
}


def fate_of(party: str, fate: dict[str, Any]) -> dict[str, Any]:
    if "at" in fate:
        number, fault = fate["at"]
        return {"faults": {(party, number): fault}}
    return {"dead_from": {party: fate["dead"]}} if "dead" in fate else {}


@pytest.mark.parametrize("fate", FATES)
def test_cancelled_bookings_over_distribution_channels_equal_the_pooled_model(
    shared_data: Path, fate: str
) -> None:
    rows, spec = bookings(shared_data)
    fit, grid = trained(rows, GlmSettings(spec, ridge=1.0), **fate_of("Direct", FATES[fate]))
    gone = {"Direct"} if "dead" in FATES[fate] else set()
    assert fit.rounds[-1].included == tuple(sorted(set(rows) - gone))
    check_against_scikit_learn(fit, rows, fit.rounds[-1].included)
    assert grid.messages["TA-TO"] == 2 + 2 * len(fit.rounds)


@pytest.mark.parametrize("fate", FATES)
def test_defaults_over_the_three_fate_parties_equal_the_pooled_model(shared_data: Path, fate: str) -> None:
    rows, spec = credit(shared_data)
    fit, _ = trained(rows, GlmSettings(spec, ridge=1.0), **fate_of("host-1", FATES[fate]))
    gone = {"host-1"} if "dead" in FATES[fate] else set()
    assert fit.rounds[-1].included == tuple(sorted(set(rows) - gone))
    check_against_scikit_learn(fit, rows, fit.rounds[-1].included)
