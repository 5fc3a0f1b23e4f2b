"""Padding: what it costs, worked out again from probabilities alone, and who draws what."""

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from dayfly.federation.alignment import Padding
from dayfly.federation.alignment.padding import members_of, regions_led_by, regions_of
from dayfly.federation.errors import InvalidSetting
from dayfly.privacy.accounting import ApproxLoss
from dayfly.privacy.noise import OpenDpNoise

Masses = np.ndarray[tuple[int], np.dtype[np.float64]]


def masses(padding: Padding, size: int) -> Masses:
    """Probabilities of 0 .. size - 1 padding points: max(0, shift + L) with discrete Laplace L, by its definition."""
    scale = float(padding.scale)
    points = np.arange(-60 * math.ceil(scale) - padding.shift, size)
    weights = np.exp(-np.abs(points - padding.shift) / scale)
    weights /= weights.sum()
    found = weights[points >= 0].copy()
    found[0] += weights[points < 0].sum()
    return found


def hockey_stick(one: Masses, other: Masses, epsilon: float, places: int) -> float:
    """Most by which any event's probability passes e^epsilon times that of the neighbour, in so many places that each differ by one."""
    left, right = np.array([1.0]), np.array([1.0])
    for _ in range(places):
        left, right = np.outer(left, one).ravel(), np.outer(right, other).ravel()
    return float(np.maximum(left - math.exp(epsilon) * right, 0).sum())


@pytest.mark.parametrize(
    ("epsilon", "delta"), [(3, Fraction(1, 100)), (6, Fraction(1, 1000)), (30, Fraction(1, 2))]
)
def test_three_places_that_differ_by_one_stay_within_epsilon_and_delta(epsilon: int, delta: Fraction) -> None:
    padding = Padding(Fraction(epsilon), delta)
    size = padding.shift + 30 * math.ceil(padding.scale)
    fewer = masses(padding, size)
    more = np.concatenate(([0.0], fewer))[:size]
    for signs in itertools.product((0, 1), repeat=3):
        left, right = np.array([1.0]), np.array([1.0])
        for sign in signs:
            one, other = (fewer, more) if sign else (more, fewer)
            left, right = np.outer(left, one).ravel(), np.outer(right, other).ravel()
        assert float(np.maximum(left - math.exp(epsilon) * right, 0).sum()) <= float(delta)


def test_a_shift_of_zero_would_not_stay_within_delta() -> None:
    padding = Padding(Fraction(3), Fraction(1, 100))
    padding.__dict__["shift"] = 0
    fewer = masses(padding, 40)
    more = np.concatenate(([0.0], fewer))[:40]
    assert hockey_stick(fewer, more, 3.0, 3) > 0.1


@pytest.mark.parametrize(
    ("epsilon", "delta"),
    [((1, 1), (1, 10**9)), ((1, 2), (1, 10**6)), ((5, 1), (1, 10**12)), ((64, 1), (1, 2))],
)
def test_the_shift_is_the_smallest_that_keeps_delta(epsilon: tuple[int, int], delta: tuple[int, int]) -> None:
    padding = Padding(Fraction(*epsilon), Fraction(*delta))
    scale = float(padding.scale)

    def cut(shift: int) -> float:
        """3 (1 + e^epsilon) (P(L < -shift) + P(L > 64 scales)), of the geometric series."""
        below = math.exp(-(shift + 1) / scale) / (1 + math.exp(-1 / scale))
        above = math.exp(-(64 * math.ceil(scale) + 1) / scale) / (1 + math.exp(-1 / scale))
        return 3 * (1 + math.exp(float(padding.epsilon))) * (below + above)

    assert cut(padding.shift) <= float(padding.delta) * (1 + 1e-9)
    assert padding.shift == 0 or cut(padding.shift - 1) > float(padding.delta)
    assert padding.loss == ApproxLoss(padding.epsilon, padding.delta)


@pytest.mark.parametrize(
    ("epsilon", "delta"),
    [
        (0, Fraction(1, 10)),
        (-1, Fraction(1, 10)),
        (65, Fraction(1, 10)),
        (1, 0),
        (1, 1),
        (1, Fraction(1, 2**65)),
    ],
)
def test_epsilon_and_delta_have_bounds(epsilon: int, delta: Fraction) -> None:
    with pytest.raises(InvalidSetting, match="must be above 0 and at most 64, and delta from"):
        Padding(Fraction(epsilon), Fraction(delta))


class Shifts:
    """Noise that is known."""

    def __init__(self, shifts: list[int]) -> None:
        self.shifts = shifts
        self.asked: list[tuple[list[int], Fraction, int]] = []

    def laplace(self, values: Any, scale: Fraction, *, l1: int = 1) -> Any:
        self.asked.append((values.tolist(), scale, l1))
        return values + np.array(self.shifts)


def test_draws_are_of_the_noise_source_and_cut_at_zero_and_at_most() -> None:
    padding = Padding(Fraction(1), Fraction(1, 10**9))
    noise = Shifts([0, -padding.shift, -padding.shift - 1, 64 * 3, 64 * 3 + 1])
    assert padding.draw(5, noise).tolist() == [padding.shift, 0, 0, padding.most, padding.most]  # type: ignore[arg-type]  # its one method
    assert noise.asked == [([padding.shift] * 5, Fraction(3), 1)]


def test_drawn_padding_has_the_mean_of_its_shift() -> None:
    padding = Padding(Fraction(1), Fraction(1, 10**9))
    drawn = padding.draw(4_000, OpenDpNoise())
    assert abs(drawn.mean() - padding.shift) < 5 * 3 * 2**0.5 / 4_000**0.5
    assert drawn.min() >= 0


@pytest.mark.parametrize("channels", range(2, 7))
def test_every_region_has_one_leader_who_is_in_it(channels: int) -> None:
    led = [regions_led_by(channel, channels) for channel in range(channels)]
    assert sorted(mask for masks in led for mask in masks) == list(range(1, 2**channels))
    for channel in range(channels):
        assert regions_of(channel, channels) == [
            mask for mask in range(1, 2**channels) if f"{mask:06b}"[::-1][channel] == "1"
        ]
        assert set(led[channel]) <= set(regions_of(channel, channels))


def test_members_of_a_region_are_named_in_order() -> None:
    assert members_of(0b101, ("a", "b", "c")) == ("a", "c")
