"""How far one customer moves what is opened, in integers: never further than the loss is counted for."""

from fractions import Fraction
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from dayfly.federation.errors import InvalidSetting
from dayfly.federation.vertical import VerticalSpec, plan_noise
from dayfly.federation.vertical.newton import Moments, step_task
from dayfly.federation.vertical.polynomial import integers, largest_residual, value
from dayfly.privacy.accounting import ZcdpLoss, epsilon_of_rho
from tests.federation.vertical.runs import Channels, party_data, small_world, spec_for

Integers = np.ndarray[Any, np.dtype[np.int64]]


def integer_rows(world: Channels, spec: VerticalSpec) -> tuple[Integers, Integers, Integers]:
    """The joint matrix, presence of a label, and label, as exact integers."""
    blocks = []
    for name in spec.names:
        rows = party_data(world, name).integers(spec, world.positions[name])
        if name == spec.label_channel:
            blocks.append(rows.present[:, None] * spec.constant_unit)
            presence, labels = rows.present, rows.labels
        blocks.append(rows.values)
    return np.hstack(blocks), presence, labels


def exact_counts(world: Channels, spec: VerticalSpec) -> Integers:
    """Of each channel but the label's, customers with a label, then those without, as they are opened."""
    labelled = set(world.positions[world.label_channel].tolist()) - {-1}
    others = [set(world.positions[name].tolist()) - {-1} for name in spec.unlabelled]
    counts = [len(one & labelled) for one in others] + [len(one - labelled) for one in others]
    return np.array(counts, np.int64) * spec.count_unit


def wild_world(seed: int, scale: float) -> Channels:
    """Values far out of bounds, too."""
    world = small_world(6, seed=seed)
    random = np.random.default_rng(seed)
    columns = {
        name: values * scale * random.choice([1, 1e3, -1e6], size=values.shape)
        for name, values in world.columns.items()
    }
    return Channels.whole(columns, world.label_channel, world.labels)


@given(st.integers(0, 2**32), st.floats(1e-3, 1e3), st.floats(0.05, 5.0), st.integers(0, 5))
def test_a_customer_moves_no_release_further_than_its_stated_sensitivity(
    seed: int, scale: float, clip: float, leaving: int
) -> None:
    world = wild_world(seed, scale)
    spec = spec_for(world, clip=clip, steps=1)
    rows, presence, labels = (part.astype(object) for part in integer_rows(world, spec))
    row = rows[leaving]
    moved = np.outer(row, row)[np.triu_indices(spec.size)]
    counted = len(spec.unlabelled) * spec.count_unit**2  # in every channel: one of each channel's two counts
    assert (moved**2).sum() + counted <= spec.gram_l2_squared
    assert ((row * labels[leaving]) ** 2).sum() <= spec.cross_l2_squared
    random = np.random.default_rng(seed)
    limits = random.integers(1, 200, len(spec.names))
    coefficients = integers(
        0.3, 0.1, 0.8, limit=float(limits.sum()) / 64, score_bits=6, bits=spec.precision.residual_bits
    )
    unit = 1 << spec.precision.residual_bits
    largest = largest_residual(coefficients, int(limits.sum()), (0, unit))
    score = int(random.integers(-limits.sum(), limits.sum() + 1))
    label = unit * (int(labels[leaving]) + int(presence[leaving])) // 2
    residual = int(presence[leaving]) * value(coefficients, score) - label
    assert ((row * residual) ** 2).sum() <= spec.gradient_l2_squared(largest)


def test_the_bound_of_moments_and_counts_together_is_needed() -> None:
    """A row that is one column, as long as a row may be, moves second moments alone as far as the bound without counts."""
    world = small_world(6)
    columns = dict(world.columns) | {"app": np.array([[4.0, 0, 0]] * 6)}
    world = Channels.whole(columns, world.label_channel, world.labels)
    spec = spec_for(world, steps=0, constant=2.0**-10)
    channels = tuple(
        msgspec.structs.replace(one, clip=1.0 if one.channel == "app" else 2.0**-10) for one in spec.channels
    )
    spec = msgspec.structs.replace(spec, channels=channels)
    row = integer_rows(world, spec)[0][0].astype(object)
    moved = (np.outer(row, row)[np.triu_indices(spec.size)] ** 2).sum()
    counted = len(spec.unlabelled) * spec.count_unit**2
    assert 1 << 4 * spec.precision.row_bits < moved + counted <= spec.gram_l2_squared


@given(st.integers(0, 2**32), st.floats(0.05, 5.0))
def test_a_linear_model_s_label_counts_with_its_own_square(seed: int, clip: float) -> None:
    world = wild_world(seed, 1.0)
    spec = spec_for(world, clip=clip, family="linear", label_bounds=(0.0, 1.0))
    rows, _, labels = integer_rows(world, spec)
    wide = np.column_stack([rows * labels[:, None], labels**2 * spec.square_unit]).astype(object)
    assert (wide**2).sum(axis=1).max() <= spec.cross_l2_squared


def test_the_bound_of_the_residual_is_reached() -> None:
    coefficients = integers(-1.0, 0.0, 1.0, limit=6.0, score_bits=6, bits=32)
    values = [value(coefficients, score) for score in range(-384, 385)]
    assert largest_residual(coefficients, 384, (0, 1 << 32)) == max(
        *values, *((1 << 32) - one for one in values)
    )


@pytest.mark.parametrize("slope", [5, -5])
def test_the_ends_of_the_scores_count(slope: int) -> None:
    assert largest_residual((0, slope), 10, (0, 0)) == 50
    assert largest_residual((7, slope), 10, (-3, 40)) == 83


@pytest.mark.parametrize(("offset", "deviation"), [(-2.0, 0.5), (0.0, 1.0), (1.0, 1.5)])
def test_over_normal_scores_the_cubic_has_the_sigmoid_s_mean_and_slope(
    offset: float, deviation: float
) -> None:
    coefficients = integers(offset, 0.1, deviation, limit=4.5 * deviation, score_bits=6, bits=32)
    random = np.random.default_rng(1)
    scores = np.clip(0.1 + deviation * random.normal(size=200_000), -4.5 * deviation, 4.5 * deviation)
    cubic = np.polynomial.polynomial.polyval(np.rint(scores * 64), np.array(coefficients, float)) / 2.0**32
    error = cubic - expit(offset + scores)
    assert abs(error.mean()) < 2e-4
    assert abs((error * scores).mean()) < 4e-4 * deviation


def test_planned_losses_compose_to_the_wanted_epsilon() -> None:
    world = small_world(20)
    for epsilon, delta, steps in ((Fraction(1), Fraction(1, 10**6), 3), (Fraction(4), Fraction(1, 10**5), 7)):
        noise = plan_noise(epsilon, delta, steps)
        spec = spec_for(world, noise=noise, steps=steps, accept_few_rows=True)
        gradients = [
            spec.gradient_loss(step, 1 << spec.precision.residual_bits) for step in range(1, steps + 1)
        ]
        total = ZcdpLoss(spec.moments_loss().rho + sum(loss.rho for loss in gradients))
        assert float(epsilon) * (1 - 1e-6) < epsilon_of_rho(total.rho, delta) <= float(epsilon)


def test_noise_of_the_honest_alone_reaches_the_planned_loss() -> None:
    """With one of three channels telling others its noise, the two others' variance is what the loss is counted for."""
    world = small_world(20)
    rho = Fraction(1, 100)
    for colluding in (0, 1, 2):
        noise = plan_noise(Fraction(1), Fraction(1, 10**6), 0, colluding=colluding)
        spec = spec_for(world, noise=noise, steps=0, accept_few_rows=True)
        shares = spec.shares((1, 100), 10**12)
        assert (3 - colluding) * shares.share_scale**2 >= 10**12 / (2 * rho)
        assert (3 - colluding) * shares.share_scale**2 < 10**12 / (2 * rho) * Fraction(1_000_001, 1_000_000)


def test_everybody_colluding_is_refused() -> None:
    noise = plan_noise(Fraction(1), Fraction(1, 10**6), 0, colluding=3)
    with pytest.raises(InvalidSetting, match="honest=0 must be at least 1"):
        spec_for(small_world(20), noise=noise, steps=0, accept_few_rows=True)


def test_training_with_noise_on_few_rows_is_refused_with_the_reason() -> None:
    noise = plan_noise(Fraction(1), Fraction(1, 10**6), 1)
    with pytest.raises(InvalidSetting, match=r"universe=600 must be at least 10000 .* hides the model, too"):
        spec_for(small_world(), noise=noise, steps=1)


def test_limits_follow_the_scores() -> None:
    world = small_world(3_000)
    spec = spec_for(world, steps=1)
    rows, _, labels = integer_rows(world, spec)
    gram = rows.T @ rows
    words = np.concatenate(
        [gram[np.triu_indices(spec.size)], exact_counts(world, spec), rows.T @ labels]
    ).view(np.uint64)
    moments = Moments.of(spec, words)
    weights = np.random.default_rng(2).normal(size=spec.size)
    task = step_task(spec, moments, weights, 1)
    for name, limit in zip(spec.names, task.limits, strict=True):
        block = spec.block(name)
        part = weights[block].copy()
        if name == spec.label_channel:
            part[0] = 0
        scores = rows[:, block] @ part / 2.0**spec.precision.row_bits
        assert limit == pytest.approx(64 * max(abs(scores.mean()) + 3.5 * scores.std(), 0.25), abs=1)
