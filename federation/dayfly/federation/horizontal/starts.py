"""A channel's own optimum, of which the coordinator makes a better point to start from.

Claim: the sum of information matrices at the channels' own optima, and of their products with these optima, give an average
that is the pooled optimum where the channels' likelihoods are quadratic, and near it where their rows are alike.
Nothing else rests on it: Newton's method goes on from there, and back where the likelihood is lower than it was before.
Source: Lin and Xi, Aggregated estimating equation estimation, Statistics and Its Interface 4 (2011), equation 4.
"""

from dataclasses import replace
from typing import Final

import msgspec
import numpy as np

from dayfly.federation.horizontal.data import Shard
from dayfly.federation.horizontal.messages import GlmTask
from dayfly.federation.horizontal.sums import Floats, GlmSums, sums_of

__all__ = ["LARGEST_START", "local_optimum"]

LARGEST_START: Final = 30.0
"""Coefficients of a channel's own optimum are cut to this, so that their sums have a range."""

_STEPS: Final = 20
_HALVINGS: Final = 8
_SMALL: Final = 1e-4
_PULL: Final = 0.1  # toward the point that was sent: one channel alone may be separable, or have a single row


def local_optimum(shard: Shard, task: GlmTask, *, members: int) -> GlmSums:
    """Sums at the task's coefficients, but `information` at the channel's optimum and `gradient` its product with it."""
    sent: Floats = np.array(task.coefficients, np.float64)
    penalty = np.array(task.penalty) / members
    pull = _PULL / members
    point, sums = sent, sums_of(shard, task)
    first = sums

    def objective(at: Floats, found: GlmSums) -> float:
        return found.deviance + float(penalty @ at**2) + pull * float(((at - sent) ** 2).sum())

    for _ in range(_STEPS):
        curvature = sums.information + np.diag(penalty + pull)
        step: Floats = np.linalg.solve(
            curvature, sums.gradient - penalty * point - pull * (point - sent)
        ).astype(np.float64)
        now = objective(point, sums)
        for _ in range(_HALVINGS):
            tried: Floats = np.clip(point + step, -LARGEST_START, LARGEST_START)
            found = sums_of(shard, msgspec.structs.replace(task, coefficients=tuple(tried.tolist())))
            if objective(tried, found) <= now:
                break
            step = step / 2
        else:
            break
        point, sums = tried, found
        if np.abs(step).max() < _SMALL:
            break
    curvature = sums.information + np.diag(penalty + pull)
    return replace(first, gradient=curvature @ point, information=curvature)
