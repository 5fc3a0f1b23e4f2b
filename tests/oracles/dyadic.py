"""Least-squares counts of a binary tree by the normal equations, and the variances that follow from them."""

import numpy as np


def design(depth: int) -> np.ndarray:
    """Nodes by leaves: 1 where a leaf is below a node, level 0 first."""
    rows = []
    for level in range(depth + 1):
        for node in range(1 << level):
            row = np.zeros(1 << depth)
            size = 1 << (depth - level)
            row[node * size : (node + 1) * size] = 1
            rows.append(row)
    return np.array(rows)


def least_squares(noisy: np.ndarray) -> np.ndarray:
    depth = len(noisy).bit_length() - 1
    return np.asarray(np.linalg.lstsq(design(depth), noisy, rcond=None)[0])


def prefix_variances(depth: int) -> np.ndarray:
    """Exact, of the least-squares prefix sums, in units of a node's variance."""
    matrix = design(depth)
    covariance = np.linalg.inv(matrix.T @ matrix)
    prefixes = np.tril(np.ones((1 << depth, 1 << depth)))
    return np.concatenate([[0.0], np.einsum("ij,jk,ik->i", prefixes, covariance, prefixes)])
