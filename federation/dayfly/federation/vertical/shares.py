"""What a channel computes from its own values, the masked vectors and the dealt shares; all modulo 2^64.

Claim: over all channels, `gram_share` sums to X'X and X'z, `count_share` to the counts, and `residual_share` to m (P(t) - P(D)); the label channel adds m P(D) - y by itself.
"""

from collections.abc import Mapping, Sequence
from math import comb

import numpy as np
from numpy.typing import NDArray

from dayfly.federation.vertical.kernels import add_gram
from dayfly.federation.vertical.randomness import places_of
from dayfly.federation.vertical.spec import VerticalSpec

__all__ = ["added", "count_share", "gram_share", "residual_share", "shifted"]

Words = NDArray[np.uint64]


def added(own: Words, others: Mapping[str, Words]) -> Words:
    """The sum of all channels' vectors."""
    found = own.copy()
    for words in others.values():
        found += words
    return found


def gram_share(
    spec: VerticalSpec, me: str, inputs: Words, masked: Mapping[str, Words], dealt: Words
) -> tuple[Words, Words]:
    """A channel's share of the moments.

    X_j'X_k = X_j'E_k + E_j'U_k + U_j'U_k: for j before k the first is computed by j, the second by k, the third was dealt.

    Args:
        spec: As agreed.
        me: The channel.
        inputs: Its columns, uint64 (universe, columns).
        masked: Every channel's columns less their masks.
        dealt: Its share of products of masks, uint64 (all columns, all columns).

    Returns:
        Two parts: uint64 (gram_words,), the upper triangle of the model's columns, row by row; uint64 (cross_words,), their products with the label,
        and for a linear family the label's square.
    """
    places = places_of(spec)
    whole = np.zeros_like(dealt)
    before = True
    for name in spec.names:
        block = np.zeros((inputs.shape[1], len(places[name])), np.uint64)
        if name == me:
            before = False
            add_gram(inputs, inputs, block)
            whole[np.ix_(places[me], places[me])] = block
        elif before:  # the other channel is before this one
            add_gram(inputs - masked[me], masked[name], block)
            whole[np.ix_(places[name], places[me])] = block.T
        else:
            add_gram(inputs, masked[name], block)
            whole[np.ix_(places[me], places[name])] = block
    whole += dealt
    constant = np.uint64(spec.constant_unit)
    whole[spec.intercept, :] *= constant
    whole[:, spec.intercept] *= constant
    after = spec.block(spec.label_channel).stop  # of these columns, the label's channel is the one before
    cross = np.concatenate([whole[:after, spec.size], whole[spec.size, after : spec.size]])
    if spec.family == "linear":
        cross = np.append(cross, whole[spec.size :, spec.size] * np.uint64(spec.square_unit))
    return whole[np.triu_indices(spec.size)], cross


def count_share(
    spec: VerticalSpec, labelled: Mapping[str, int], rows: Mapping[str, int], dealt: Words
) -> Words:
    """A channel's share of the counts.

    Of channel j with presence p = P + c and the label's m = M + b, customers who have a label are m'p = M'p + b'P + b'c: the first is computed by j, the
    second by the label channel, the third was dealt. Those who have none are the rest of j's.

    Args:
        spec: As agreed.
        labelled: Of another channel than the label's: what this one adds to m'p, one word.
        rows: Of this channel, where it is not the label's: how many customers it has.
        dealt: Its share of products of masks, uint64 (other channels,).

    Returns:
        uint64 (count_words,): of each channel but the label's those with a label, then of each those without, in units of `count_unit`.
    """
    with_label = dealt + np.array([labelled.get(name, 0) for name in spec.unlabelled], np.uint64)
    whole = np.array([rows.get(name, 0) for name in spec.unlabelled], np.uint64)
    return np.concatenate([with_label, whole - with_label]) * np.uint64(spec.count_unit)


def shifted(coefficients: Sequence[int], total: Words) -> list[Words]:
    """Coefficients in a of P(D + a), from the first power on, for every row.

    Args:
        coefficients: Of P, constant first.
        total: D, uint64 (rows,).
    """
    found = []
    for power in range(1, len(coefficients)):
        terms = [
            np.uint64(coefficient * comb(degree, power) % (1 << 64))
            for degree, coefficient in enumerate(coefficients)
            if degree >= power
        ]
        value = np.zeros(len(total), np.uint64)
        for term in reversed(terms):
            value = value * total + term
        found.append(value)
    return found


def residual_share(
    coefficients: Sequence[int], total: Words, presence: Words, scores: Words, powers: Words
) -> Words:
    """A channel's share of (M + b) (P(D + a) - P(D)).

    Args:
        coefficients: Of P, constant first.
        total: D, uint64 (rows,).
        presence: M, uint64 (rows,).
        scores: The channel's summand of a, uint64 (rows,).
        powers: Its shares of a^2 .. a^n and b a .. b a^n, uint64 (2 n - 1, rows).
    """
    degree = len(coefficients) - 1
    plain, with_presence = [scores, *powers[: degree - 1]], powers[degree - 1 :]
    found = np.zeros(len(total), np.uint64)
    for factor, one, other in zip(shifted(coefficients, total), plain, with_presence, strict=True):
        found += factor * (presence * one + other)
    return found
