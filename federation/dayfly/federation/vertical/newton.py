"""What the coordinator makes of opened values: a first solution, and steps toward the optimum.

Everything here is post-processing: it costs no privacy, and may be done again by anybody who sees the opened values.
Units: rows of norm 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from dayfly.federation.errors import NotConverged, NotEstimable
from dayfly.federation.noise_shares import NoiseShares
from dayfly.federation.vertical.polynomial import EVERYWHERE, integers, largest_residual
from dayfly.federation.vertical.spec import VerticalSpec
from dayfly.federation.vertical.tasks import StepTask
from dayfly.privacy.accounting import ZcdpLoss

__all__ = [
    "Moments",
    "Release",
    "information_of",
    "raised",
    "step_size",
    "step_task",
    "summed_deviation",
]

Floats = NDArray[np.float64]
_NODES, _NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(31)
_DEPENDENT: Final = 1e-9
_EVERYWHERE: Final = (
    1e-4,
    1e-3,
    EVERYWHERE,
    0.2,
    1.0,
)  # without noise nothing depends on the residual's bound
_REACH: Final = 3.5  # standard deviations of a partial score that its limit leaves untouched


_LEAST_SLOPE: Final = 0.02  # of the inverse link, on average: flatter ones make steps that lead anywhere
_LEAST_EIGENVALUE: Final = 1e-12  # of an information matrix, relative to its norm


@dataclass(frozen=True, slots=True, eq=False)
class Release:
    """One opened value.

    Attributes:
        name: Of the release, as in the channels' ledgers.
        numbers: How many.
        loss: Of one customer; None where the sums were exact.
        asked_at: float64 (size,), the weights before the step that followed.
        deviation: Standard deviation of the noise on each number of a gradient, from all channels' shares.
    """

    name: str
    numbers: int
    loss: ZcdpLoss | None
    asked_at: Floats
    deviation: float


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Opened second moments and moments with the label.

    Attributes:
        gram: float64 (size, size), over the labelled rows as well as is known.
        cross: float64 (size,): features times the label less its middle.
        square: Of the labels less their middle; NaN where the family has no use for it.
        rows: Labelled rows, estimated where the moments are noisy.
        gram_deviation: Standard deviation of the noise on each entry of `gram`, from all channels' shares.
        cross_deviation: Of that on each number of `cross`.
        floor: Least eigenvalue of `gram` that is told from noise; smaller ones are raised to it.
        blind: float64 (size, k): directions of these, in which next to nothing is known.
    """

    gram: Floats
    cross: Floats
    square: float
    rows: float
    gram_deviation: float
    cross_deviation: float
    floor: float
    blind: Floats

    @classmethod
    def of(cls, spec: VerticalSpec, words: NDArray[np.uint64]) -> "Moments":
        """Read an opened release.

        Raises:
            NotEstimable: exact moments show columns that determine each other; names them.
        """
        size, unit = spec.size, 2.0**spec.precision.row_bits
        numbers = words.view(np.int64).astype(np.float64)
        gram = np.zeros((size, size))
        gram[np.triu_indices(size)] = numbers[: spec.gram_words] / unit**2
        gram = gram + np.triu(gram, 1).T
        half = 2 if spec.family == "logistic" else 1  # its labels enter as -1 and 1
        counts = numbers[spec.gram_words : spec.second_words] / spec.count_unit
        cross = numbers[spec.second_words : spec.second_words + size] / (unit * spec.label_unit * half)
        square = numbers[-1] / (unit * spec.label_unit) if spec.family == "linear" else float("nan")
        constant = spec.constant_unit / unit
        rows = min(max(gram[spec.intercept, spec.intercept] / constant**2, 1.0), float(spec.universe))
        shares = _labelled_shares(counts)
        gram = _labelled(spec, gram, shares)
        if spec.noise is None:
            gram = _insist_independent(spec, gram, rows, float(shares.min()))
            return cls(gram, cross, square, rows, 0.0, 0.0, 0.0, np.zeros((size, 0)))
        bits = spec.precision.row_bits
        deviation = summed_deviation(spec, spec.shares(spec.noise.gram, spec.gram_l2_squared), 2 * bits)
        cross_deviation = summed_deviation(spec, spec.shares(spec.noise.cross, spec.cross_l2_squared), bits)
        floor = deviation * size**0.5
        cross_deviation /= spec.label_unit * half
        values, vectors = np.linalg.eigh(gram)
        blind = np.asarray(vectors[:, values < floor], np.float64)
        return cls(raised(gram, floor), cross, square, rows, deviation, cross_deviation, floor, blind)

    def spread(self, spec: VerticalSpec, weights: Floats, columns: slice) -> tuple[float, float]:
        """Mean and standard deviation of a partial score over the labelled rows, without the intercept."""
        part = np.zeros(spec.size)
        part[columns] = weights[columns]
        part[spec.intercept] = 0.0
        constant = spec.constant_unit / 2.0**spec.precision.row_bits
        mean = float(self.gram[spec.intercept] @ part) / (constant * self.rows)
        square = float(part @ self.gram @ part) / self.rows
        return mean, max(square - mean**2, 1e-6) ** 0.5

    def information(self, spec: VerticalSpec, weights: Floats) -> Floats:
        """Mean of slope times x x', over the labelled rows; see `information_of`."""
        return information_of(spec, self.gram, self.rows, weights)


def information_of(spec: VerticalSpec, gram: Floats, rows: float, weights: Floats) -> Floats:
    """Sum over the labelled rows of the inverse link's slope times x x', as if rows were normal.

    With mean m and covariance C of rows, s^2 = w'Cw and f the slope at m'w + s z, z standard normal, Stein's lemma gives E[f x x'] =
    E[f] (C + m m') + E[f z] (m (Cw)' + (Cw) m') / s + E[f (z^2 - 1)] (Cw)(Cw)' / s^2. Other rows make steps less than Newton's, not other
    models: where the gradient is zero does not depend on it.

    Args:
        spec: As agreed.
        gram: float64 (size, size), second moments.
        rows: How many.
        weights: float64 (size,).

    Returns:
        float64 (size, size).
    """
    if spec.family == "linear":
        return gram
    mean = gram[spec.intercept] / (rows * spec.constant_unit / 2.0**spec.precision.row_bits)
    covariance = gram / rows - np.outer(mean, mean)
    along = covariance @ weights
    deviation = min(max(float(weights @ along), 1e-12) ** 0.5, 8.0)
    score = expit(float(mean @ weights) + deviation * _NODES)
    slope = score * (1 - score) * _NODE_WEIGHTS / _NODE_WEIGHTS.sum()
    flat, first, second = (float(slope @ part) for part in (np.ones_like(_NODES), _NODES, _NODES**2 - 1))
    flat, second = max(flat, _LEAST_SLOPE), max(second, -flat / 2)
    mixed = np.outer(mean, along) * first / deviation
    found = rows * (flat * gram / rows + mixed + mixed.T + second * np.outer(along, along) / deviation**2)
    return raised(found, _LEAST_EIGENVALUE * float(np.linalg.norm(found)))  # noise could make it singular


def step_task(spec: VerticalSpec, moments: Moments, weights: Floats, step: int) -> StepTask:
    """What channels are asked for: limits, and the polynomial that is near the inverse link where the scores are.

    Args:
        spec: As agreed.
        moments: As opened.
        weights: float64 (size,), of columns of rows of norm 1.
        step: From 1.
    """
    bits = spec.precision
    offset = float(weights[spec.intercept]) * spec.constant_unit / 2.0**bits.row_bits
    limits = []
    for name in spec.names:
        mean, deviation = moments.spread(spec, weights, spec.block(name))
        reach = min(max(abs(mean) + _REACH * deviation, 0.25), _most(spec))
        limits.append(round(reach * 2.0**bits.score_bits))
    limit = sum(limits) / 2.0**bits.score_bits
    if spec.family == "linear":
        slope = bits.residual_bits - bits.score_bits
        coefficients: Sequence[int] = (round(offset * 2.0**bits.residual_bits), 1 << slope)
    else:
        mean, deviation = moments.spread(spec, weights, slice(0, spec.size))
        coefficients = _cubic(spec, offset, mean, deviation, limit)
    return StepTask(step, tuple(weights.tolist()), tuple(limits), tuple(coefficients))


def _cubic(spec: VerticalSpec, offset: float, mean: float, deviation: float, limit: float) -> tuple[int, ...]:
    """The cubic that gives rare scores the least weight with which no residual leaves its room."""
    bits = spec.precision
    unit = 1 << bits.residual_bits
    for everywhere in _EVERYWHERE:
        if spec.noise is not None and everywhere < EVERYWHERE:
            continue
        found = integers(
            offset,
            mean,
            deviation,
            limit=limit,
            score_bits=bits.score_bits,
            bits=bits.residual_bits,
            everywhere=everywhere,
        )
        if (
            largest_residual(found, round(limit * 2.0**bits.score_bits), (0, unit))
            <= unit << spec.residual_room
        ):
            return found
    raise NotConverged(
        f"scores up to {limit:.2g} must be smaller; the labels may be separable, or the noise too large"
    )


def step_size(spec: VerticalSpec, step: int) -> float:
    """How far a gradient is followed.

    Without noise all the way. With noise so that the steps' solutions are averaged, with weights 1, 2, 3, ...: each has its own noise, and earlier
    ones still lean toward where they began.
    """
    return 1.0 if spec.noise is None else 2 / (step + 1)


def summed_deviation(spec: VerticalSpec, shares: NoiseShares, bits: int) -> float:
    """Standard deviation of all channels' shares together, in units of 2^bits integers."""
    return math.sqrt(len(spec.channels)) * float(shares.share_scale) / 2.0**bits


def raised(gram: Floats, floor: float) -> Floats:
    """The matrix with no eigenvalue below `floor`."""
    values, vectors = np.linalg.eigh(gram)
    return np.asarray((vectors * np.maximum(values, floor)) @ vectors.T, np.float64)


def _most(spec: VerticalSpec) -> float:
    """Largest partial score that a limit allows."""
    return 8.0 if spec.family == "logistic" else 4.0 / len(spec.channels)


def _labelled_shares(counts: Floats) -> Floats:
    """Of each channel but the label's, the part of its customers who have a label; 0 to 1, whatever the noise."""
    with_label, without = counts.reshape(2, -1)
    return np.asarray(np.clip(with_label / np.maximum(with_label + without, 1.0), 0.0, 1.0))


def _labelled(spec: VerticalSpec, gram: Floats, shares: Floats) -> Floats:
    """Second moments over the labelled rows: products of two other channels' columns are over all rows, and scaled by what part of them is labelled.

    Of channels j and k that is taken to be the larger of j's part and k's. It is j's own where they are the same, and right where every customer of one of
    them has a label, or labels do not depend on the channel. How many rows the space has does not count: many are nobody's. Products
    with the label channel's columns need none: these are zero where there is no label.
    """
    scale = np.ones(spec.size)
    for name, share in zip(spec.unlabelled, shares, strict=True):
        scale[spec.block(name)] = share
    factor = np.maximum.outer(scale, scale)
    own = spec.block(spec.label_channel)
    factor[own, :] = 1.0
    factor[:, own] = 1.0
    return gram * factor


def _insist_independent(spec: VerticalSpec, gram: Floats, rows: float, share: float) -> Floats:
    """Insist that no feature is a combination of others, and make of parts that are of different rows what one set of rows could have.

    Where all customers are labelled, the parts are of the same rows, and nothing is changed. Otherwise two parts may contradict each other in directions with
    next to no variance, by as much as samples differ, and what is below that is raised to it.
    """
    if share == 1.0:
        _check_independent(spec, gram, np.arange(spec.size))
        return gram
    own = spec.block(spec.label_channel)
    _check_independent(spec, gram, np.delete(np.arange(spec.size), own))
    _check_independent(spec, gram, np.arange(spec.size)[own])
    scale = np.sqrt(np.diag(gram))
    both = np.outer(scale, scale)
    return np.asarray(raised(gram / both, ((1 - share) / rows) ** 0.5) * both, np.float64)


def _check_independent(spec: VerticalSpec, gram: Floats, places: NDArray[np.int64]) -> None:
    """Insist that no feature is a combination of others, over the channels of these columns."""
    part = gram[np.ix_(places, places)]
    scale = np.sqrt(np.maximum(np.diag(part), 1e-300))
    values, vectors = np.linalg.eigh(part / np.outer(scale, scale))
    if values[0] >= _DEPENDENT * 10:
        return
    names = [*spec.features]
    names.insert(spec.intercept, "the intercept")
    found = [names[place] for place, size in zip(places, vectors[:, 0], strict=True) if abs(size) > 1e-3]
    raise NotEstimable(
        f"features={found} must not determine each other, over the channels {list(spec.names)}; leave one out"
    )
