"""The sums of one channel that a generalised linear model is trained from, packed into one vector.

Layout for d features, with the intercept as feature zero: rows, deviance, gradient (d + 1), upper triangle of the
information matrix, row by row ((d + 1)(d + 2) / 2), sums of the features (d), sums of their squares (d).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from dayfly.federation.horizontal.data import Shard
from dayfly.federation.horizontal.messages import Family, GlmSpec, GlmTask

__all__ = ["GlmSums", "scale_of_labels", "sums_of", "width"]

Floats = NDArray[np.float64]


def width(features: int) -> int:
    """Length of the vector."""
    size = features + 1
    return 2 + size + size * (size + 1) // 2 + 2 * features


def scale_of_labels(spec: GlmSpec) -> float:
    """Linear labels are divided by this; others are as they are."""
    return spec.largest_label if spec.family == "linear" else 1.0


@dataclass(frozen=True, slots=True)
class GlmSums:
    """Unpacked.

    Attributes:
        rows: How many.
        deviance: Linear: residual sum of squares; otherwise twice the negative log-likelihood's difference to a perfect fit.
        gradient: Of the log-likelihood, float64 (d + 1,).
        information: Its negative Hessian, float64 (d + 1, d + 1).
        total, squares: Sums of the features and of their squares, float64 (d,).
    """

    rows: float
    deviance: float
    gradient: Floats
    information: Floats
    total: Floats
    squares: Floats

    @classmethod
    def unpacked(cls, vector: Floats, features: int) -> "GlmSums":
        """From one vector of `width(features)`."""
        size = features + 1
        triangle = 2 + size + size * (size + 1) // 2
        information = np.zeros((size, size))
        information[np.triu_indices(size)] = vector[2 + size : triangle]
        information = information + np.triu(information, 1).T
        return cls(
            float(vector[0]),
            float(vector[1]),
            vector[2 : 2 + size],
            information,
            vector[triangle : triangle + features],
            vector[triangle + features :],
        )

    def packed(self) -> Floats:
        """As one vector."""
        triangle = self.information[np.triu_indices(len(self.gradient))]
        return np.concatenate([[self.rows, self.deviance], self.gradient, triangle, self.total, self.squares])


def sums_of(shard: Shard, task: GlmTask, *, label_scale: float = 1.0) -> GlmSums:
    """The sums over a channel's rows.

    Source: McCullagh and Nelder, Generalized Linear Models, 2nd ed., section 2.5, with canonical links.
    """
    features = (shard.values - np.array(task.center)) / np.array(task.scale)
    design = np.column_stack([np.ones(len(features)), features])
    labels = shard.labels / label_scale
    predictor = design @ np.array(task.coefficients)
    mean, weight, deviance = _response(task.family, predictor, labels)
    return GlmSums(
        float(len(labels)),
        deviance,
        design.T @ (labels - mean),
        design.T @ (design * weight[:, None]),
        features.sum(axis=0),
        (features**2).sum(axis=0),
    )


def _response(family: Family, predictor: Floats, labels: Floats) -> tuple[Floats, Floats, float]:
    """Mean, weight and deviance."""
    if family == "linear":
        return predictor, np.ones_like(predictor), float(((labels - predictor) ** 2).sum())
    if family == "logistic":
        mean = 0.5 * (1.0 + np.tanh(0.5 * predictor))  # no overflow on either side
        deviance = 2.0 * float((np.logaddexp(0.0, predictor) - labels * predictor).sum())
        return mean, mean * (1.0 - mean), deviance
    with np.errstate(over="ignore"):  # what overflows does not fit the encoding, which says so
        mean = np.exp(predictor)
    deviance = 2.0 * float((xlogy(labels, labels) - labels * predictor - (labels - mean)).sum())
    return mean, mean, deviance
