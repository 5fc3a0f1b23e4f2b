"""Audits of mechanisms that stand outside our code: `dayfly.privacy.audit` must let the right ones pass and refuse the wrong ones."""

import numpy as np
from numpy.typing import NDArray

from dayfly.privacy.audit import audit
from tests.privacy.mutants.sparse import above_threshold

DRAWS = 40_000


def sparse(first: list[float], second: list[float], *, cutoff: int) -> None:
    """Audit the sparse vector technique on two vectors of answers that differ by at most one each."""

    def drawn(answers: list[float], seed: int, count: int) -> NDArray[np.float64]:
        generator = np.random.default_rng(seed)
        return above_threshold(np.array(answers), count, epsilon=1.0, cutoff=cutoff, generator=generator)

    seeds = iter(range(100))
    audit(
        lambda count: drawn(first, next(seeds), count),
        lambda count: drawn(second, next(seeds), count),
        epsilon=1.0,
        draws=DRAWS,
    ).check()


def sparse_vectors_keep_their_claim() -> None:
    """Neighbours that the papers' counterexamples are made of."""
    sparse([0.0, 1.0], [1.0, 0.0], cutoff=1)
    sparse([1.0] * 10 + [0.0] * 10, [0.0] * 10 + [1.0] * 10, cutoff=1)
    sparse([1.0] * 40 + [0.0] * 40, [0.0] * 40 + [1.0] * 40, cutoff=40)
