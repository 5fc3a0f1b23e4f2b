"""The noise seam: OpenDP's own privacy map must confirm the claim, what cannot be drawn is refused, and the draws have the right law."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dayfly.privacy import noise as module
from dayfly.privacy.accounting import GaussianLoss, LaplaceLoss, cost_of, smallest_threshold
from dayfly.privacy.errors import InvalidArgument, NoiseRefused
from dayfly.privacy.noise import NoiseSource, OpenDpNoise

from ..oracles.dp_accounting_exact import discrete_gaussian, discrete_laplace

SOURCE: NoiseSource = OpenDpNoise()
INT64 = np.iinfo(np.int64)
SIGNIFICANT = 1e-6  # a right sampler fails one run in a million
SCALES = st.fractions(min_value=Fraction(1, 3), max_value=10**12)


def zeros(size: int) -> Any:
    return np.zeros(size, dtype=np.int64)


def chi_square(draws: Any, pmf: dict[int, Any]) -> float:
    """p-value of draws against a table; cells with few expected draws are put together at both ends."""
    outcomes = sorted(x for x, p in pmf.items() if float(p) * draws.size >= 8)
    low, high = outcomes[0], outcomes[-1]
    expected = np.array([float(pmf[x]) for x in range(low, high + 1)])
    below = float(sum(p for x, p in pmf.items() if x < low))
    cells = np.concatenate([[below], expected, [1 - below - expected.sum()]])
    seen = np.bincount(np.clip(draws, low - 1, high + 1) - (low - 1), minlength=cells.size)
    keep = cells * draws.size > 1e-9
    return float(stats.chisquare(seen[keep], cells[keep] / cells[keep].sum() * draws.size).pvalue)


def check_laws(draws: int) -> None:
    for scale in (Fraction(1, 2), Fraction(10, 3), Fraction(25)):
        table = discrete_laplace(scale, math.ceil(60 * scale))
        drawn = SOURCE.laplace(zeros(draws), scale)
        assert chi_square(drawn, table) > SIGNIFICANT
        wrong = discrete_laplace(scale * Fraction(13, 10), math.ceil(80 * scale))
        assert chi_square(drawn, wrong) < SIGNIFICANT
        bell = discrete_gaussian(scale, math.ceil(15 * scale))
        drawn = SOURCE.gaussian(zeros(draws), scale)
        assert chi_square(drawn, bell) > SIGNIFICANT
        wrong = discrete_gaussian(scale * Fraction(13, 10), math.ceil(20 * scale))
        assert chi_square(drawn, wrong) < SIGNIFICANT


def test_draws_have_the_law_of_the_claim_and_the_test_sees_thirty_percent() -> None:
    check_laws(4_000)


@pytest.mark.slow
def test_many_draws_have_the_law_of_the_claim() -> None:
    check_laws(100_000)


@settings(max_examples=30)
@given(scale=SCALES, l1=st.integers(1, 10**15))
def test_opendp_confirms_every_laplace_claim(scale: Fraction, l1: int) -> None:
    measurement = module._laplace(scale, l1)
    assert Fraction(measurement.map(l1)) <= LaplaceLoss(scale, l1).epsilon
    assert measurement.map(l1) >= float(LaplaceLoss(scale, l1).epsilon) * (1 - 1e-14)


@settings(max_examples=30)
@given(scale=SCALES, l2_squared=st.integers(1, 10**15))
def test_opendp_confirms_every_gaussian_claim(scale: Fraction, l2_squared: int) -> None:
    measurement = module._gaussian(scale, l2_squared)
    claim = cost_of(GaussianLoss(scale, l2_squared)).rho
    assert Fraction(measurement.map(math.nextafter(math.sqrt(l2_squared), math.inf))) <= claim * (
        1 + Fraction(1, 2**50)
    )
    assert measurement.map(math.sqrt(l2_squared)) >= float(claim) * (1 - 1e-13)


class Reporting:
    """A measurement whose map states what it is told to, as a float may do after a wrong rounding."""

    def __init__(self, scale: float, factor: float) -> None:
        self.scale, self.factor = scale, factor

    def map(self, distance: float) -> float:
        return distance / self.scale * self.factor


def test_a_source_that_states_a_larger_loss_is_refused() -> None:
    with pytest.raises(
        NoiseRefused, match=r"scale=10\.0.* must have the claimed loss in OpenDP's own privacy map"
    ):
        module._accepted(
            Fraction(10),
            lambda scale: Reporting(scale, 1.001),
            lambda source: source.map(1.0) <= Fraction(1, 10),
        )


def test_a_scale_is_never_handed_over_below_its_fraction() -> None:
    handed: list[float] = []

    def build(scale: float) -> Reporting:
        handed.append(scale)
        return Reporting(scale, 1.0)

    module._accepted(Fraction(1, 3), build, lambda source: source.map(1.0) <= 3)
    assert all(Fraction(scale) >= Fraction(1, 3) for scale in handed)
    assert len(handed) == 1  # one construction: the headroom covers what the map rounds


def test_a_map_that_rounds_up_gets_a_larger_scale_not_a_larger_loss() -> None:
    built: list[float] = []

    def build(scale: float) -> Reporting:
        built.append(scale)
        return Reporting(scale, 1 + 2.0**-49)

    accepted = module._accepted(
        Fraction(10), build, lambda source: Fraction(source.map(1.0)) <= Fraction(1, 10)
    )
    assert len(built) > 1
    assert Fraction(accepted.map(1.0)) <= Fraction(1, 10)


def test_values_keep_their_shape_and_are_not_changed_in_place() -> None:
    values = np.array([5, -7, 10**12], dtype=np.int64)
    noisy = SOURCE.laplace(values, Fraction(1, 50))
    assert noisy.dtype == np.int64
    assert noisy.tolist() == [5, -7, 10**12]  # noise of scale 1/50 is zero but once in e^50
    assert values.tolist() == [5, -7, 10**12]
    assert noisy is not values
    assert SOURCE.gaussian(zeros(0), Fraction(3)).shape == (0,)
    assert SOURCE.laplace(values[::2], Fraction(1, 50)).tolist() == [5, 10**12]


@pytest.mark.parametrize("draw", [SOURCE.laplace, SOURCE.gaussian])
def test_noisy_values_beyond_int64_are_clamped_not_wrapped(draw: Any) -> None:
    high = draw(np.full(200, INT64.max, dtype=np.int64), Fraction(1000))
    low = draw(np.full(200, INT64.min, dtype=np.int64), Fraction(1000))
    assert high.min() > 0
    assert low.max() < 0
    assert (high == INT64.max).sum() > 50
    assert (low == INT64.min).sum() > 50


NAN: Any = float("nan")
FLOAT: Any = 0.5


@pytest.mark.parametrize("draw", [SOURCE.laplace, SOURCE.gaussian])
@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (Fraction(0), r"scale=Fraction\(0, 1\) must be > 0"),
        (Fraction(-1), r"scale=Fraction\(-1, 1\) must be > 0"),
        (NAN, "scale=nan must be an int or a Fraction"),
        (FLOAT, r"scale=0\.5 must be an int or a Fraction"),
        (Fraction(2**63), r"scale=9\.223372036854776e\+18 must be <= 2\^62"),
    ],
)
def test_scales_that_cannot_be_drawn_are_refused(draw: Any, scale: Fraction, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        draw(zeros(2), scale)


@pytest.mark.parametrize(
    "values", [[1, 2], np.zeros(2), np.zeros((2, 2), dtype=np.int64), np.zeros(2, dtype=np.int32)]
)
def test_only_vectors_of_int64_get_noise(values: Any) -> None:
    with pytest.raises(
        InvalidArgument,
        match=r"values=.* must be a one-dimensional int64 array; put floats on a lattice first",
    ):
        SOURCE.laplace(values, Fraction(1))


@pytest.mark.parametrize("l1", [0, -1, True, 1.0, 2**63])
def test_noise_needs_something_to_hide(l1: Any) -> None:
    with pytest.raises(InvalidArgument, match=rf"l1={l1!r} must be an integer >= 1"):
        SOURCE.laplace(zeros(1), Fraction(1), l1=l1)


@pytest.mark.parametrize(
    ("sensitivity", "message"),
    [
        ((0, 1, 1), "l0=0 must"),
        ((2**32, 1, 1), "l0=4294967296 must"),
        ((1, 0, 1), "norm=0 must"),
        ((1, 1, 0), "linf=0 must"),
    ],
)
def test_thresholds_need_the_three_norms(sensitivity: tuple[int, int, int], message: str) -> None:
    for draw in (SOURCE.laplace_threshold, SOURCE.gaussian_threshold):
        with pytest.raises(InvalidArgument, match=message):
            draw({1: 1}, Fraction(1), 10, sensitivity=sensitivity)


def test_thresholds_show_large_values_and_hide_small_ones() -> None:
    scale = Fraction(3)
    for draw, noise in (
        (SOURCE.laplace_threshold, LaplaceLoss(scale, 2)),
        (SOURCE.gaussian_threshold, GaussianLoss(scale, 2)),
    ):
        threshold = smallest_threshold(noise, Fraction(1, 10**9), l0=2, linf=1)
        shown = draw({7: 10**6, -3: 1, 2**62: 10**6 + 5}, scale, threshold, sensitivity=(2, 2, 1))
        assert set(shown) == {7, 2**62}
        assert abs(shown[7] - 10**6) < 200
        assert draw({}, scale, threshold) == {}


def test_a_key_of_one_customer_is_shown_as_often_as_the_threshold_charges() -> None:
    keys = 20_000
    shown = SOURCE.laplace_threshold(dict.fromkeys(range(keys), 1), Fraction(1), 3)
    assert stats.binomtest(len(shown), keys, math.exp(-2) / (1 + math.exp(-1))).pvalue > SIGNIFICANT
    assert min(shown.values()) == 3


@pytest.mark.parametrize(
    ("values", "threshold", "message"),
    [
        ({1: 2**63}, 10, r"values=9223372036854775808 must fit int64"),
        ({2**70: 1}, 10, r"values=\d+ must fit int64"),
        ({1: 1}, 1, r"threshold=1 must be an integer above linf=1 and below 2\^63"),
        ({1: 1}, 2**63, r"threshold=9223372036854775808 must be an integer above linf"),
    ],
)
def test_bad_thresholds_and_values_are_refused(values: dict[int, int], threshold: int, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        SOURCE.laplace_threshold(values, Fraction(1), threshold)


def test_a_repeated_scale_is_constructed_once() -> None:
    module._laplace.cache_clear()
    for _ in range(5):
        SOURCE.laplace(zeros(1), Fraction(17, 3), l1=2)
    assert module._laplace.cache_info().misses == 1
    assert module._laplace.cache_info().hits == 4
