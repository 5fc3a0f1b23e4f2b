"""How far trained weights may be off: what sampling, and the noise of every release, make of them.

Claim: errors are those of the same steps, done again with other samples and other noise, to first order in both the score and the gradient.
Precondition: the model is right, rows are about normal where the link is curved, and the opened moments are near the true ones.
Argument: the steps are known, and so is the noise of each release; what a sample adds to a gradient has the information as its covariance. So the
whole path is done again, with draws that are public and always the same. It is post-processing: it costs no privacy.
Not claimed: errors of a model that is wrong (no sandwich), or of what bounds and clips cut off.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dayfly.federation.vertical.newton import Moments, Release, information_of, raised, step_size
from dayfly.federation.vertical.spec import VerticalSpec

__all__ = ["covariance_of"]

Floats = NDArray[np.float64]
_REPLICATES: Final = 100


def covariance_of(
    spec: VerticalSpec, moments: Moments, weights: Floats, releases: Sequence[Release]
) -> Floats:
    """Covariance of the weights: mean square error of the same steps, done again with other samples and other noise.

    Taken as true are the final weights, and second moments as opened. Each
    replicate draws a sample's score, and the noise of every release; the model is taken to be right (no sandwich). Where second moments are not told
    from noise, weights hardly leave zero, whatever is true; there a variance is added as if the score's part in that direction had a standard
    deviation of 1 over the customers.

    Args:
        spec: As agreed.
        moments: As opened.
        weights: The final ones.
        releases: All, in order.

    Returns:
        float64 (size, size).
    """
    information = moments.information(spec, weights)
    if spec.family == "linear":
        explained = float(2 * weights @ moments.cross - weights @ moments.gram @ weights)
        variance = max(moments.square - explained, 1e-9 * max(moments.square, 1.0)) / max(
            moments.rows - spec.size, 1.0
        )
    else:
        variance = 1.0
    sampling = variance * np.linalg.inv(information)
    if spec.noise is None:
        return np.asarray(sampling, np.float64)
    errors = np.stack(list(_replicates(spec, moments, weights, releases, information * variance)))
    unknown = moments.blind @ moments.blind.T * (moments.rows / moments.floor)
    return np.asarray(errors.T @ errors / len(errors) + unknown, np.float64)


def root_of(covariance: Floats) -> Floats:
    """A matrix whose product with its transpose is `covariance`, float64 (n, n), and where noise made that indefinite, its nearest semidefinite one."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)), np.float64)


def _replicates(
    spec: VerticalSpec,
    moments: Moments,
    weights: Floats,
    releases: Sequence[Release],
    score_covariance: Floats,
) -> Iterator[Floats]:
    """Errors of weights, float64 (size,) each; the draws are public and always the same."""
    random = np.random.default_rng(0)
    root = root_of(score_covariance)
    information = moments.information(spec, weights)
    for _ in range(_REPLICATES):
        noise = np.triu(random.normal(scale=moments.gram_deviation, size=moments.gram.shape))
        gram = raised(moments.gram + noise + np.triu(noise, 1).T, moments.floor)
        score = root @ random.normal(size=spec.size)
        cross = moments.cross + score + random.normal(scale=moments.cross_deviation, size=spec.size)
        found = np.linalg.solve(information_of(spec, gram, moments.rows, np.zeros(spec.size)), cross)
        for step, release in enumerate(releases[1:], 1):
            gradient = information @ (found - weights) - score
            gradient = gradient + random.normal(scale=release.deviation, size=spec.size)
            found = found - step_size(spec, step) * np.linalg.solve(
                information_of(spec, gram, moments.rows, release.asked_at), gradient
            )
        yield found - weights
