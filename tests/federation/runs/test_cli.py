"""`dayfly federate` as a person uses it: keys, cards, local runs, and what it says when something is missing."""

import importlib.util
import json
import signal
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from dayfly.engine.cli import ExitCode
from dayfly.federation.cli.demo import _world
from dayfly.federation.cli.display import step_line
from dayfly.federation.deployed.credentials import Cards
from dayfly.federation.deployed.demo_world import area_under_curve, logistic_scores, synthetic
from dayfly.federation.deployed.serving import now_ms
from dayfly.federation.deployed.setting_up import open_accounts, spent
from dayfly.privacy.ledger import Limit
from tests.engine.cli.support import dayfly
from tests.federation.journal.worlds import CHANNELS, write_tables


def channel_yaml(root: Path, name: str) -> Path:
    import time

    import pyarrow.parquet as pq

    table = pq.read_table(root / name / "table.parquet")
    until = [int(time.time() * 1000) + 10**9] * table.num_rows
    pq.write_table(table.set_column(1, "until", [until]), root / name / "table.parquet")
    for file in (root / name).glob("budget.db*"):
        file.unlink()  # of the year in which the other tests live
    wide = Limit(rho=Fraction(1_000), delta=Fraction(1, 2))
    accounts: Any = (("data_set", name), ("analyst", "ann"), ("purpose", "joint_model"))
    open_accounts(root / name / "budget.db", accounts, wide, now_ms=now_ms)
    document = {
        "name": name,
        "superlink": "127.0.0.1:18000",
        "liveness": "127.0.0.1:18001",
        "data": {
            "path": "table.parquet",
            "customer": "customer",
            "category": "city",
            "consent": {"until": "until", "country": "DE"},
            **({"label": "bought"} if name == "shop" else {}),
        },
        "budget": {"data_set": name, "analyst": "ann"},
        "protocols": ["align", "vertical", "histogram"],
    }
    path = root / name / "channel.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def plan(path: Path, **document: Any) -> Path:
    path.write_text(yaml.safe_dump(document))
    return path


def test_keys_stay_where_they_were_made_and_cards_are_taken(tmp_path: Path) -> None:
    hub, shop = tmp_path / "hub", tmp_path / "shop"
    assert dayfly("federate", "keys", "server", hub, "--host", "hub.example").exit_code == 0
    made = dayfly("federate", "keys", "channel", shop, "--name", "shop")
    assert made.exit_code == 0
    assert "shop.card.json" in made.stdout
    for folder in (hub / "keys", shop / "keys"):
        assert folder.stat().st_mode & 0o077 == 0
        assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())
    again = dayfly("federate", "keys", "channel", shop, "--name", "shop")
    assert again.exit_code == ExitCode.BAD_INPUT
    assert "must not exist" in again.output
    taken = dayfly("federate", "trust", shop, hub / "cards" / "server.card.json", hub / "tls" / "ca.crt")
    assert taken.stdout.split() == ["taken:", "server", "taken:", "ca.crt"]
    assert (shop / "tls" / "ca.crt").read_bytes() == (hub / "tls" / "ca.crt").read_bytes()
    assert set(Cards(shop / "cards").found) == {"shop", "server"}


@pytest.mark.parametrize("name", ["server", "a b", "../x", ""])
def test_a_name_that_cannot_be_one_is_refused(tmp_path: Path, name: str) -> None:
    refused = dayfly("federate", "keys", "channel", tmp_path / "x", "--name", name)
    assert refused.exit_code == ExitCode.BAD_INPUT
    assert "must be letters, digits, - and _" in refused.output


def test_a_card_of_somebody_else_is_refused(tmp_path: Path) -> None:
    dayfly("federate", "keys", "channel", tmp_path / "shop", "--name", "shop")
    (tmp_path / "wifi.card.json").write_bytes((tmp_path / "shop" / "cards" / "shop.card.json").read_bytes())
    (tmp_path / "app.card.json").write_text("garbage")
    for name, told in (
        ("wifi", "must be that of 'wifi'"),
        ("app", "must be one that `dayfly federate keys` made"),
    ):
        refused = dayfly("federate", "trust", tmp_path / "shop", tmp_path / f"{name}.card.json")
        assert refused.exit_code == ExitCode.BAD_INPUT
        assert told in refused.output


def test_local_runs_align_and_train_and_pay(tmp_path: Path) -> None:
    write_tables(tmp_path)
    channels = [argument for name in CHANNELS for argument in ("--channel", channel_yaml(tmp_path, name))]
    align = plan(tmp_path / "align.yaml", protocol="align", settings={"epsilon": 30.0, "delta": 0.25})
    train = plan(
        tmp_path / "train.yaml",
        protocol="vertical",
        alignment="align",
        settings={
            "label": "bought",
            "label_channel": "shop",
            "channels": {
                name: {"features": {f"{name}_a": [-3, 3], f"{name}_b": [-3, 3]}} for name in CHANNELS
            },
            "epsilon": 8.0,
            "steps": 1,
            "accept_few_rows": True,
        },
    )
    ran = dayfly("federate", "local", align, train, *channels)
    assert ran.exit_code == 0, ran.output
    results = json.loads(ran.stdout[ran.stdout.index("{") :])
    assert results["train"]["privacy"] == {"epsilon": 8.0, "delta": 1e-06}
    assert len(results["train"]["coefficients"]) == 7
    assert spent(tmp_path / "wifi" / "budget.db", "wifi", now_ms=now_ms)[0] > 0
    alone = dayfly("federate", "local", train, *channels)
    assert alone.exit_code == ExitCode.BAD_INPUT
    assert "alignment='align' must be an earlier plan" in alone.output
    assert "must be at least two" in dayfly("federate", "local", align, *channels[:2]).output


def test_exact_sums_that_no_channel_allowed_are_refused_with_the_party(tmp_path: Path) -> None:
    write_tables(tmp_path)
    channels = [argument for name in CHANNELS for argument in ("--channel", channel_yaml(tmp_path, name))]
    glm = plan(
        tmp_path / "glm.yaml",
        protocol="glm",
        channels=["shop", "wifi"],
        settings={"label": "bought", "features": {"shop_a": [-3, 3]}},
    )
    refused = dayfly("federate", "local", glm, *channels)
    assert refused.exit_code == ExitCode.BAD_INPUT
    assert "party='wifi' does not offer features ['shop_a']" in refused.output


@pytest.mark.parametrize("command", ["server", "client", "run", "demo"])
def test_without_flower_the_deployed_commands_say_so_with_status_3(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "flwr" else found(name))
    plan(tmp_path / "plan.yaml", protocol="glm")
    arguments = {"run": [tmp_path, tmp_path / "plan.yaml"], "demo": []}.get(command, [tmp_path])
    refused = dayfly("federate", command, *arguments)
    assert refused.exit_code == ExitCode.MISSING_PART
    assert "python -m pip install 'dayfly[federation]'" in refused.output


@pytest.mark.skipif(
    importlib.util.find_spec("flwr") is None, reason="the extra `federation` (flwr) is not installed"
)
def test_folders_that_are_not_ready_are_told_with_what_is_missing(tmp_path: Path) -> None:
    nothing = dayfly("federate", "client", tmp_path / "nothing")
    assert nothing.exit_code == ExitCode.BAD_INPUT
    assert "channel.yaml' must be there" in nothing.output
    (tmp_path / "server.yaml").write_text("superlink: 5\nports: 7\n")
    assert "must hold ServerSettings" in dayfly("federate", "server", tmp_path).output
    write_tables(tmp_path)
    dayfly("federate", "keys", "channel", tmp_path / "shop", "--name", "shop")
    channel_yaml(tmp_path, "shop")
    missing = dayfly("federate", "client", tmp_path / "shop")
    assert "party='shop' must have the card of 'server'" in missing.output
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine").write_text("x")
    assert "must be empty or an earlier demo" in dayfly("federate", "demo", "--out", other).output
    assert (other / "mine").exists()


def test_signals_are_only_noted_while_something_is_kept_running() -> None:
    from dayfly.federation.cli.serve import until_stopped

    lives = iter([False, True])
    told: list[int] = []

    def revive() -> bool:
        found = next(lives, None)
        if found is None:
            signal.raise_signal(signal.SIGTERM)
            return False
        return found

    until_stopped(revive, told=lambda: told.append(1), every_seconds=0.0)
    assert told == [1]


def test_steps_are_told_in_words() -> None:
    round_ = {
        "step": "round",
        "number": 2,
        "rows": 30.0,
        "included": ["a"],
        "deviance": 5.0,
        "largest_step": 0.1,
        "lost": ["b"],
    }
    assert step_line(round_) == "round 2: 30 rows of a, deviance 5, largest step 0.1, lost: b"
    release = {"step": "release", "name": "moments", "numbers": 7, "rho": None}
    assert step_line(release) == "release moments: 7 numbers opened, exact: no privacy"
    assert step_line({**release, "rho": 0.25}).endswith("rho spent 0.2500")
    assert step_line({"step": "message", "kind": "hop", "number": 3, "of": 6}) == "message 3 of 6: hop"
    assert step_line({"what": 1}) == "what 1"


def test_without_data_the_demo_takes_real_patients_and_else_says_that_customers_are_made_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("sklearn.datasets")
    for data in (None, tmp_path):
        real = _world(data, None, 4.0)
        assert real.epsilon is None
        assert "569 patients in three channels, real; below 10,000 rows noise hides the model" in real.told
        assert real.tables(0).exact_sums
    assert _world(None, 2_000, 4.0).told.startswith("2000 made-up customers")
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    made_up = _world(None, None, 4.0)
    assert made_up.epsilon == 4.0
    assert made_up.told.startswith("20000 made-up customers")


def test_the_demos_figures_are_those_of_scikit_learn() -> None:
    metrics, linear = pytest.importorskip("sklearn.metrics"), pytest.importorskip("sklearn.linear_model")
    world = synthetic(3_000, epsilon=4.0)
    training = np.column_stack(list(world.training.values()))
    testing = np.column_stack(list(world.testing.values()))
    ours = area_under_curve(logistic_scores(training, world.training_labels, testing), world.testing_labels)
    peer = linear.LogisticRegression(C=1e3, max_iter=500).fit(training, world.training_labels)
    theirs = metrics.roc_auc_score(world.testing_labels, peer.decision_function(testing))
    assert ours == pytest.approx(theirs, abs=1e-4)
    tied = np.round(training[:, 0])
    assert area_under_curve(tied, world.training_labels) == pytest.approx(
        metrics.roc_auc_score(world.training_labels, tied), abs=1e-12
    )
