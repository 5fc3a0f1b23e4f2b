"""Standard errors where noise is of the size of the moments."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from dayfly.federation.vertical.polynomial import integers
from dayfly.federation.vertical.uncertainty import root_of


def test_the_root_of_a_covariance_is_a_root() -> None:
    random = np.random.default_rng(5)
    columns = random.normal(size=(9, 4))
    covariance = columns.T @ columns
    root = root_of(covariance)
    theirs = sqrtm(covariance)
    np.testing.assert_allclose(root @ root.T, theirs @ theirs.T, rtol=1e-10)


def test_what_noise_made_indefinite_is_cut_at_zero_and_ends_no_training_that_was_paid() -> None:
    turn = np.linalg.qr(np.random.default_rng(6).normal(size=(3, 3)))[0]
    root = root_of(turn @ np.diag([4.0, 1.0, -0.5]) @ turn.T)
    np.testing.assert_allclose(root @ root.T, turn @ np.diag([4.0, 1.0, 0.0]) @ turn.T, atol=1e-12)


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1e-12), (0.37, 1e-9), (50.0, 0.1), (-50.0, 1e-12)])
def test_scores_that_noise_drew_together_or_far_away_still_give_a_cubic(
    mean: float, deviation: float
) -> None:
    found = integers(0.1, mean, deviation, limit=6.0, score_bits=8, bits=36, everywhere=1e-2)
    scores = np.clip(mean, -6.0, 6.0)
    value = sum(number * 2.0 ** (8 * power - 36) * scores**power for power, number in enumerate(found))
    assert value == pytest.approx(1 / (1 + np.exp(-0.1 - scores)), abs=0.05)
