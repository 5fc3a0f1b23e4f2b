"""Vertical training against the pooled model."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from tests.federation.vertical.runs import small_world, spec_for, trained


def test_without_noise_the_model_ranks_customers_as_the_pooled_model_does() -> None:
    world = small_world()
    spec = spec_for(world, steps=5)
    fit, run = trained(world, spec)
    pooled = np.hstack([world.columns[name] for name in spec.names])
    peer = LogisticRegression(C=1e8, tol=1e-10).fit(pooled, world.labels)
    ours = pooled @ fit.weights[[place for place in range(spec.size) if place != spec.intercept]]
    theirs = roc_auc_score(world.labels, peer.decision_function(pooled))
    assert roc_auc_score(world.labels, ours) == pytest.approx(theirs, abs=2e-3)
    assert max(run.grid.messages.values()) == 3 + 3 * spec.steps
