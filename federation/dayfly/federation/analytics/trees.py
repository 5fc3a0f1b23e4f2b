"""Binary trees of counts: one count per dyadic interval, and the estimate that is best among all that use the noisy ones.

Layout: level 0 is the root, level l has 2^l nodes from left to right; a vector holds level 0 first. Depth L has 2^L leaves.

Claim: `consistent` gives the least-squares counts, in which every parent is the sum of its children. Its prefix sum of the first b leaves has a
standard deviation of at most sigma sqrt(popcount(b)) when all nodes have independent noise of standard deviation sigma.
Argument: those are Hay et al.'s two passes for equal variances. The prefix is a sum of popcount(b) nodes, one per set bit of b, which is
unbiased with that variance; least squares has the least variance of all linear unbiased estimates (Gauss and Markov).
Source: Hay, Rastogi, Miklau, Suciu, Boosting the accuracy of differentially private histograms through consistency, VLDB 2010, section 4.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["consistent", "nodes", "prefix_variances", "tree_of"]

Floats = NDArray[np.float64]


def nodes(depth: int) -> int:
    """Length of the vector."""
    return (2 << depth) - 1


def tree_of(leaves: NDArray[np.int64]) -> NDArray[np.int64]:
    """All nodes of a tree.

    Args:
        leaves: int64 (2^depth,).
    """
    levels = [leaves]
    while len(levels[0]) > 1:
        levels.insert(0, levels[0].reshape(-1, 2).sum(axis=1))
    return np.concatenate(levels)


def consistent(noisy: Floats) -> Floats:
    """Least-squares leaves.

    Args:
        noisy: Nodes with equally distributed, independent noise, float64 (2^(depth + 1) - 1,).

    Returns:
        float64 (2^depth,).
    """
    depth = len(noisy).bit_length() - 1
    levels = [noisy[(1 << level) - 1 : (2 << level) - 1] for level in range(depth + 1)]
    upward = [levels[depth]]
    for level in range(depth - 1, -1, -1):
        height = depth - level + 1
        own = (2.0**height - 2.0 ** (height - 1)) / (2.0**height - 1)
        upward.insert(0, own * levels[level] + (1 - own) * _pairs(upward[0]))
    found = upward[0]
    for level in range(1, depth + 1):
        surplus = found - _pairs(upward[level])
        found = upward[level] + np.repeat(surplus / 2, 2)
    return found


def prefix_variances(depth: int) -> Floats:
    """Bound on the variance of the sum of the first b leaves, b = 0 .. 2^depth, in units of a node's: bits set in b."""
    return np.array([float(b.bit_count()) for b in range((1 << depth) + 1)])


def _pairs(values: Floats) -> Floats:
    return np.asarray(values.reshape(-1, 2).sum(axis=1))
