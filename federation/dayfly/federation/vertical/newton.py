"""What the coordinator makes of opened values: a first solution, steps toward the optimum, and how far they may be off.

Everything here is post-processing: it costs no privacy, and may be done again by anybody who sees the opened values.
Units: rows of norm 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from dayfly.federation.errors import NotEstimable
from dayfly.federation.vertical.polynomial import integers
from dayfly.federation.vertical.spec import VerticalSpec
from dayfly.federation.vertical.tasks import StepTask

__all__ = ["Moments", "step_task"]

Floats = NDArray[np.float64]
_NODES, _NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(31)
_DEPENDENT: Final = 1e-9
_REACH: Final = 4.0  # standard deviations of a partial score that its limit leaves untouched


@dataclass(frozen=True, slots=True)
class Moments:
    """Opened second moments and moments with the label.

    Attributes:
        gram: float64 (size, size), over the labelled rows as well as is known.
        cross: float64 (size,): features times the label less its middle.
        rows: Labelled rows, estimated where the moments are noisy.
        floor: Least eigenvalue of `gram` that is told from noise; smaller ones are raised to it.
    """

    gram: Floats
    cross: Floats
    rows: float
    floor: float

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
        cross = numbers[spec.gram_words :] / (unit * spec.label_unit)
        if spec.family == "logistic":
            cross = cross / 2
        constant = spec.constant_unit / unit
        rows = min(max(gram[spec.intercept, spec.intercept] / constant**2, 1.0), float(spec.universe))
        gram = _labelled(spec, gram, rows / spec.universe)
        if spec.noise is None:
            _check_independent(spec, gram)
            return cls(gram, cross, rows, 0.0)
        deviation = float(spec.shares(spec.noise.gram, spec.gram_l2_squared).share_scale) / unit**2
        deviation *= len(spec.channels) ** 0.5
        floor = deviation * size**0.5
        values, vectors = np.linalg.eigh(gram)
        gram = (vectors * np.maximum(values, floor)) @ vectors.T
        return cls(gram, cross, rows, floor)

    def spread(self, spec: VerticalSpec, weights: Floats, columns: slice) -> tuple[float, float]:
        """Mean and standard deviation of a partial score over the labelled rows, without the intercept."""
        part = np.zeros(spec.size)
        part[columns] = weights[columns]
        part[spec.intercept] = 0.0
        constant = spec.constant_unit / 2.0**spec.precision.row_bits
        mean = float(self.gram[spec.intercept] @ part) / (constant * self.rows)
        square = float(part @ self.gram @ part) / self.rows
        return mean, max(square - mean**2, 1e-6) ** 0.5

    def curvature(self, spec: VerticalSpec, weights: Floats) -> float:
        """Mean slope of the inverse link over the scores, taken as normal."""
        if spec.family == "linear":
            return 1.0
        constant = spec.constant_unit / 2.0**spec.precision.row_bits
        mean, deviation = self.spread(spec, weights, slice(0, spec.size))
        score = expit(weights[spec.intercept] * constant + mean + min(deviation, 8.0) * _NODES)
        return float((score * (1 - score)) @ _NODE_WEIGHTS / _NODE_WEIGHTS.sum())


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
        coefficients = integers(
            offset, mean, deviation, limit=limit, score_bits=bits.score_bits, bits=bits.residual_bits
        )
    return StepTask(step, tuple(weights.tolist()), tuple(limits), tuple(coefficients))


def _most(spec: VerticalSpec) -> float:
    """Largest partial score that a limit allows."""
    return 8.0 if spec.family == "logistic" else 4.0 / len(spec.channels)


def _labelled(spec: VerticalSpec, gram: Floats, share: float) -> Floats:
    """Second moments over the labelled rows: products of two other channels' columns are over all rows, and scaled by the labelled share.

    Products with the label channel's columns need none: these are zero where there is no label.
    """
    own = spec.block(spec.label_channel)
    factor = np.full_like(gram, share)
    factor[own, :] = 1.0
    factor[:, own] = 1.0
    return gram * factor


def _check_independent(spec: VerticalSpec, gram: Floats) -> None:
    """Insist that no feature is a combination of others, over all channels."""
    scale = np.sqrt(np.maximum(np.diag(gram), 1e-300))
    values, vectors = np.linalg.eigh(gram / np.outer(scale, scale))
    if values[0] >= _DEPENDENT * 10:
        return
    names = [*spec.features]
    names.insert(spec.intercept, "the intercept")
    found = [name for name, part in zip(names, vectors[:, 0], strict=True) if abs(part) > 1e-3]
    raise NotEstimable(
        f"features={found} must not determine each other, over the channels {list(spec.names)}; leave one out"
    )
