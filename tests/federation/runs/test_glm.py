"""A GLM that is run by its name leaves a model with its card, as a vertical training does."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from dayfly.federation import ChannelData, DataSettings, LocalFederation, Plan, TrialBudget
from dayfly.federation.model import load_model, save_model
from dayfly.privacy.noise import OpenDpNoise
from tests.federation.journal.worlds import NOW_MS

ROWS = {"north": 300, "south": 200, "west": 250}


def test_a_glm_that_is_run_by_its_name_is_a_model_with_its_card(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    channels, values, labels = [], [], []
    for name, rows in ROWS.items():
        columns = random.normal(size=(rows, 2))
        bought = (random.random(rows) < expit(columns @ [1.0, -0.5] - 0.3)).astype(np.float64)
        table = pa.table({"visits": columns[:, 0], "spend": columns[:, 1], "bought": bought})
        channels.append(ChannelData(name, table, DataSettings(path="-", label="bought")))
        values.append(columns)
        labels.append(bought)
    federation = LocalFederation(
        channels,
        budgets={name: TrialBudget() for name in ROWS},
        random_bytes=os.urandom,
        noise=OpenDpNoise(),
        now_ms=lambda: NOW_MS,
    )
    settings = {"label": "bought", "features": {"visits": [-6, 6], "spend": [-6, 6]}, "purpose": "analytics"}
    outcome = federation.run(Plan(protocol="glm", settings=settings))
    assert outcome.model is not None
    save_model(outcome.model, tmp_path)
    model = load_model(tmp_path)
    peer = LogisticRegression(C=1e8, tol=1e-10, solver="newton-cholesky").fit(
        np.vstack(values), np.concatenate(labels)
    )
    assert model.score(values[0]) == pytest.approx(peer.predict_proba(values[0])[:, 1], abs=1e-5)
    card = model.card
    assert (card.split, card.private, card.purpose) == ("horizontal", False, "analytics")
    assert [(one.channel, one.rows) for one in card.data_sets] == [(name, None) for name in ROWS]
    assert card.notes[-1].endswith("the last round held 750 of north, south, west together.")
