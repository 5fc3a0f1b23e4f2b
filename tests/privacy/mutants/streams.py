"""Checks of continual release and local DP: dense matrices, impulse responses in fractions, and whole distributions of reports."""

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import combinations, pairwise, product

import numpy as np
from numpy.typing import NDArray

from dayfly.privacy.continual import Participation, ParticipationLimiter, RunningTotals, StreamPlan
from dayfly.privacy.continual.factors import FRACTION_BITS, Blt, SquareRoot
from dayfly.privacy.localdp import HadamardResponse, RandomizedResponse, UnaryEncoding

BLT = Blt((1_000_000_007, 400_000_009), (200_000_003, 500_000_009))


class Fixed:
    """Noise that a test chose, step by step, and that counts its draws."""

    def __init__(self, values: NDArray[np.int64]) -> None:
        self.values = values
        self.draws = 0
        self.centres: list[NDArray[np.int64]] = []

    def gaussian(self, centres: NDArray[np.int64], _scale: Fraction, **_: int) -> NDArray[np.int64]:
        """The next values, whatever the centres are: the neighbours publish the same, and differ in the centres."""
        self.centres.append(centres.copy())
        self.draws += 1
        drawn: NDArray[np.int64] = self.values[(self.draws - 1) % len(self.values)].copy()
        return drawn


def impulse(factor: Blt | SquareRoot, length: int) -> list[Fraction]:
    """First column of the factor, in fractions, from its definition."""
    if isinstance(factor, SquareRoot):
        return [Fraction(math.comb(2 * k, k), 4**k) for k in range(length)]
    unit = 1 << FRACTION_BITS
    rows = list(zip(factor.decays, factor.scales, strict=True))
    later = (
        sum((Fraction(scale, unit) * Fraction(decay, unit) ** (k - 1) for decay, scale in rows), Fraction(0))
        for k in range(1, length)
    )
    return [Fraction(1), *later]


def the_reach_of_a_contribution_is_rounded_up() -> None:
    """Never below the exact response of the factor, in fractions."""
    for factor, guard in ((BLT, 0), (BLT, 12), (SquareRoot(), 0)):
        reach = factor.reach(10**6 + 3, 24, guard_bits=guard)
        slack = Fraction(10**6 + 3, 1 << FRACTION_BITS)  # the root's coefficients are rounded themselves
        exact = [(10**6 + 3) * one for one in impulse(factor, 24)]
        assert all(
            bound >= one - (slack if isinstance(factor, SquareRoot) else 0)
            for bound, one in zip(reach, exact, strict=True)
        )


def the_sensitivity_of_a_stream_covers_every_pattern() -> None:
    """Dense columns of the factor, at every allowed pair and triple of steps."""
    length = 9
    for steps, gap, series in ((1, 1, 1), (2, 1, 1), (2, 3, 2), (3, 2, 1)):
        bounds = Participation(magnitude=3, steps=steps, min_separation=gap, series=series)
        plan = StreamPlan(series, length, BLT, bounds)
        unit = 3 << plan.shifts.fraction
        column = [float(one) * unit for one in impulse(BLT, length)]
        for chosen in combinations(range(length), steps):
            if all(later - earlier >= gap for earlier, later in pairwise(chosen)):
                moved = np.zeros(length)
                for start in chosen:
                    moved[start:] += column[: length - start]
                assert plan.l2_squared >= series * float(moved @ moved) * (1 - 1e-12)


def neighbours_centres_stay_within_the_sensitivity() -> None:
    """The kernels themselves: two streams that publish the same, one customer apart."""
    length, rng = 12, np.random.default_rng(3)
    plan = StreamPlan(1, length, BLT, Participation(magnitude=2, steps=2, min_separation=4))
    published = rng.integers(-(10**9), 10**9, (length, 1))
    others = rng.integers(0, 50, (length, 1))
    for chosen in ((0, 4), (0, 11), (3, 8)):
        centres = []
        for change in (0, 2):
            increments = others.copy()
            increments[list(chosen)] += change
            noise = Fixed(published)
            stream = RunningTotals(plan, plan.scale(1))
            for step in range(length):
                stream.publish(step, np.ascontiguousarray(increments[step]), noise)  # type: ignore[arg-type]
            centres.append(np.concatenate(noise.centres))
        apart = [int(a) - int(b) for a, b in zip(*centres, strict=True)]
        assert sum(one * one for one in apart) <= plan.l2_squared


def a_repeated_step_is_the_same_answer() -> None:
    """Bit for bit, and no noise is drawn for it, because two noises around one total average away."""
    plan = StreamPlan.running(3, 16)
    noise = Fixed(np.random.default_rng(5).integers(-(10**6), 10**6, (8, 3)))
    stream = RunningTotals(plan, plan.scale(1))
    for step in range(3):
        first = stream.publish(step, np.ones(3, np.int64), noise)  # type: ignore[arg-type]
        again = stream.publish(step, np.ones(3, np.int64), noise)  # type: ignore[arg-type]
        assert first.values.tolist() == again.values.tolist()
        assert noise.draws == step + 1


def nobody_takes_part_more_often_than_allowed() -> None:
    """Nor more densely, however often they come."""
    for steps, gap in ((1, 1), (2, 1), (3, 2)):
        limiter = ParticipationLimiter(Participation(steps=steps, min_separation=gap))
        let = [step for step in range(12) if limiter.admit(step, np.array([5], np.int64))[0]]
        assert len(let) == steps
        assert all(later - earlier >= gap for earlier, later in pairwise(let))


# --- local DP ----------------------------------------------------------------------------------------------------------


def coins(lengths: tuple[int, ...]) -> Iterator[tuple[bytes, ...]]:
    """Every outcome of calls for one random byte each."""
    for drawn in product(*(range(length) for length in lengths)):
        yield tuple(bytes([one]) for one in drawn)


def fed(outcome: tuple[bytes, ...]) -> Callable[[int], bytes]:
    """A random source that gives these bytes, call by call."""
    source = iter(outcome)
    return lambda _: next(source)


def reports_differ_by_no_more_than_e_to_the_epsilon() -> None:
    """All 256 outcomes of each coin: the ratio of the probabilities of every report, between any two categories."""
    epsilon = Fraction(1)
    for mechanism in (
        RandomizedResponse(("a", "b", "c"), epsilon, precision_bytes=1),
        HadamardResponse(("a", "b", "c"), epsilon, precision_bytes=1),
        UnaryEncoding(("a", "b"), epsilon, precision_bytes=1),
        UnaryEncoding(("a", "b"), epsilon, symmetric=True, precision_bytes=1),
    ):
        calls = 1 if isinstance(mechanism, RandomizedResponse) else 2
        words = (8, 256) if isinstance(mechanism, HadamardResponse) else (256,) * calls
        seen: dict[str, dict[object, int]] = {category: {} for category in mechanism.categories}
        for category, counts in seen.items():
            for outcome in coins(words):
                report = mechanism.encode(category, fed(outcome))
                counts[report] = counts.get(report, 0) + 1
        for one, other in product(seen.values(), repeat=2):
            assert all(count <= math.exp(epsilon) * other.get(report, 0) for report, count in one.items())


def decoding_is_unbiased() -> None:
    """Supports as expected of known numbers of people decode to these numbers."""
    for mechanism in (
        RandomizedResponse(("a", "b", "c", "d"), Fraction(1)),
        HadamardResponse(("a", "b", "c", "d"), Fraction(1)),
        UnaryEncoding(("a", "b", "c", "d"), Fraction(1)),
    ):
        true = np.array([500_000, 300_000, 200_000, 0])
        people = int(true.sum())
        expected = true * float(mechanism.keep) + (people - true) * float(mechanism.stray)
        found = mechanism.estimate(np.rint(expected).astype(np.int64), people).counts
        assert np.abs(found - true).max() < 10
