"""Quantiles and overlaps as runs by name: the plan's settings, the channels' tables, and what comes out."""

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dayfly.federation import ChannelData, DataSettings, LocalFederation, Plan, TrialBudget
from dayfly.federation.errors import FederationError, InvalidSetting
from dayfly.federation.runs import ConsentColumn
from dayfly.privacy.noise import OpenDpNoise

NOW_MS = 1_795_996_800_000
CONSENT = ConsentColumn(until="consent", country="DE")


class Draws:
    """Test randomness: every draw is another one."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, size: int) -> bytes:
        self.number += 1
        return hashlib.shake_256(f"draw {self.number}".encode()).digest(size)


def channel(name: str, people: list[int], *, twice: bool = False) -> ChannelData:
    generator = np.random.default_rng(len(name))
    rows = people + people[:1] if twice else people
    table = pa.table(
        {
            "who": [f"c{person:04d}" for person in rows],
            "spend": generator.gamma(2.0, 20.0, len(rows)),
            "visits": np.array([person % 4 for person in rows], np.float64),
            "consent": np.full(len(rows), NOW_MS + 2 * 86_400_000),
        }
    )
    return ChannelData(name, table, DataSettings(path="table.parquet", customer="who", consent=CONSENT))


PEOPLE = {"app": list(range(300)), "shop": list(range(200, 600)), "web": list(range(100, 400))}


def federation(**options: Any) -> LocalFederation:
    return LocalFederation(
        [channel(name, people, **options) for name, people in PEOPLE.items()],
        budgets={name: TrialBudget() for name in PEOPLE},
        random_bytes=Draws(),
        noise=OpenDpNoise(),
        now_ms=lambda: NOW_MS,
    )


def test_quantiles_of_a_column_over_all_channels() -> None:
    settings = {"quantity": "spend", "low": 0, "high": 256, "shares": [0.25, 0.75], "scale": 4, "depth": 8}
    outcome = federation().run(Plan(protocol="quantiles", settings=settings))
    everybody = np.concatenate(
        [channel(name, people).matrix(("spend",))[:, 0] for name, people in PEOPLE.items()]
    )
    assert outcome.document["customers"] == pytest.approx(1_000, abs=60)
    for one, truth in zip(outcome.document["quantiles"], np.quantile(everybody, [0.25, 0.75]), strict=True):
        assert one["low"] - 1 <= truth <= one["high"] + 1
        assert one["value"] == pytest.approx(truth, abs=5)
    assert len(outcome.arrays["ranks"]) == 257


def test_overlap_of_audiences_after_an_alignment() -> None:
    trial = federation()
    aligned = trial.run(Plan(protocol="align", settings={}))
    given = {key: aligned.document[key] for key in ("alignment", "universe", "purpose")}
    settings: dict[str, Any] = {
        "audience": "at least one visit",
        "channels": {name: {"visits": [1, 9]} for name in PEOPLE},
        "scale": 3,
        **given,
    }
    found = trial.run(Plan(protocol="overlap", settings=settings)).document
    sets = {name: {person for person in people if person % 4} for name, people in PEOPLE.items()}
    assert found["reach"] == pytest.approx(len(set().union(*sets.values())), abs=6 * found["reach_deviation"])
    for cell in found["cells"]:
        inside = set.intersection(*(sets[name] for name in cell["channels"]))
        outside = set().union(*(sets[name] for name in sets if name not in cell["channels"]))
        assert cell["customers"] == pytest.approx(len(inside - outside), abs=6 * found["standard_deviation"])
    assert trial.messages == dict.fromkeys(PEOPLE, 3)


@pytest.mark.parametrize(
    ("protocol", "settings", "cause"),
    [
        ("quantiles", {"quantity": "spend"}, "settings of the plan must be those of quantiles"),
        ("overlap", {"audience": "x"}, "settings of the plan must be those of an overlap"),
        (
            "overlap",
            {"audience": "x", "channels": {"zoo": {}}, "scale": 3, "alignment": "00" * 16, "universe": 9},
            r"channels=\['zoo'\] must list 'app'",
        ),
    ],
)
def test_plans_that_cannot_be_run_are_refused(protocol: str, settings: Any, cause: str) -> None:
    with pytest.raises(InvalidSetting, match=cause):
        federation().run(Plan(protocol=protocol, settings=settings))


def test_a_customer_with_two_values_has_no_quantile() -> None:
    settings = {"quantity": "spend", "low": 0, "high": 256, "shares": [0.5], "scale": 4}
    with pytest.raises(FederationError, match="party='app' has 1 customers twice"):
        federation(twice=True).run(Plan(protocol="quantiles", settings=settings))
