"""The numbers that leave the noise, drawn again and again for two neighbours, and the statistic that tells these two apart best.

An answer such as a mean is made of several noisy numbers, each paid with a part of the loss. One number of the answer shows but a part;
all noisy numbers together show as much as whoever wrote the release down could ever see, and what is computed from them shows no
more (post-processing). Rows are read and bounded once for each table; then noise alone is drawn, by the function that releases use.

Claim: no event tells the two tables apart better, at any number of false alarms, than one of the form ``log_ratio >= t``.
Precondition: the noise has the distribution that the plan says. An audit stays right without it, but sees less.
Argument: Neyman and Pearson: `log_ratio` is the logarithm of the ratio of the two probabilities of what was drawn, and noises are
independent, so logarithms add up. Laplace: ``(|y - b| - |y - a|) / scale``, a difference clipped at both ends. Gaussian: ``((y - b)^2 -
(y - a)^2) / (2 scale^2)``. A key that is not shown: the ratio of the probabilities that the noise stays below the threshold.
Source: Neyman and Pearson, Phil. Trans. R. Soc. A 231 (1933).
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from dayfly.privacy.bounding.salts import SALT_BYTES
from dayfly.privacy.noise import NoiseSource, OpenDpNoise
from dayfly.privacy.sandbox import Budget, Query, Source
from dayfly.privacy.sandbox.checking import check
from dayfly.privacy.sandbox.documents import canonical
from dayfly.privacy.sandbox.drawing import Prepared, drawn, prepared
from dayfly.privacy.sandbox.parts import Part
from dayfly.privacy.sandbox.planning import NoisyPart, Plan, outline, plan

__all__ = ["QueryParts", "query_parts"]

CERTAIN: Final = 1e3
"""Stands for an infinite logarithm; more than any loss that draws could show."""

_Matrix = NDArray[np.float64]
_Exact = dict[Part, NDArray[np.int64]]


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class QueryParts:
    """All noisy numbers of a query on two neighbouring tables.

    Attributes:
        plan: How the query is answered.
        exact: Integers of each part, (groups, cells), with and without the customer; groups of both in the same places. Of a tree, the
            nodes that the customer moves.
        noise: Where noise comes from.
    """

    plan: Plan
    exact: tuple[_Exact, _Exact]
    noise: NoiseSource

    def with_customer(self, draws: int) -> _Matrix:
        """Draw from the table with the customer: shape (draws, columns), NaN for what is not shown."""
        return self._drawn(self.exact[0], draws)

    def without_customer(self, draws: int) -> _Matrix:
        """Draw from the table without the customer, as `with_customer`."""
        return self._drawn(self.exact[1], draws)

    def log_ratio(self, rows: _Matrix) -> _Matrix:
        """How much more likely each row is with the customer than without, as a logarithm.

        Args:
            rows: As drawn, shape (draws, columns).

        Returns:
            Shape (draws,).
        """
        total, start = np.zeros(len(rows)), 0
        for part, one in self.plan.parts.items():
            one_with, without = (exact[part].reshape(-1) for exact in self.exact)
            for place in np.flatnonzero(one_with != without):
                total += _log_ratio(rows[:, start + place], int(one_with[place]), int(without[place]), one)
            start += one_with.size
        return total

    def _drawn(self, exact: _Exact, draws: int) -> _Matrix:
        """One call draws for many copies of the groups; each copy gets noise of its own."""
        copies = {part: np.tile(values, (draws, 1)) for part, values in exact.items()}
        flat = {
            part: values.reshape(-1) if values.shape[1] == 1 else values for part, values in copies.items()
        }
        shown, noisy = drawn(self.plan, flat, self.noise)
        columns = list[_Matrix]()
        for part in self.plan.parts:
            width = copies[part].shape[-1]
            found = np.full((len(copies[part]), width), np.nan)
            found[slice(None) if shown is None else shown] = noisy[part].reshape(-1, width)
            columns.append(found.reshape(draws, -1))
        return np.hstack(columns)


def query_parts(
    query: Query,
    with_customer: Source,
    without_customer: Source,
    budget: Budget,
    *,
    noise: NoiseSource | None = None,
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> QueryParts:
    """Read and bound two neighbouring tables made up for an audit. Nothing is paid, so never pass tables of real customers.

    Both are bounded with the same salt: what bounding claims holds for each salt by itself, and two salts would show as a
    difference what only chance chose.

    Args:
        query: What is asked.
        with_customer: A table.
        without_customer: The same without the rows of one customer.
        budget: Of each release.
        noise: Where noise comes from; OpenDP where none is given.
        random_bytes: Source of the salt.

    Raises:
        InvalidQuery: the query or the budget breaks a rule of the sandbox.
    """
    planned = plan(outline(check(canonical(query), with_customer.schema), budget.shares), budget)
    salt = random_bytes(SALT_BYTES)
    found = [prepared(planned, source, salt) for source in (with_customer, without_customer)]
    first, second = (_keys(one) for one in found)
    places = {key: place for place, key in enumerate(sorted({*first, *second}, key=repr))}
    exact = [
        _placed(one, [places[key] for key in keys], len(places))
        for one, keys in zip(found, (first, second), strict=True)
    ]
    return QueryParts(planned, _moved(exact[0], exact[1]), OpenDpNoise() if noise is None else noise)


def _keys(one: Prepared) -> list[tuple[Any, ...]]:
    columns = [column.to_pylist() for column in one.keys.columns]
    return list(zip(*columns, strict=True)) if columns else [()]


def _placed(one: Prepared, places: list[int], groups: int) -> _Exact:
    """Integers of each part, (groups, cells); a group that a table does not have counts nobody."""
    found: _Exact = {}
    for part, values in one.exact.items():
        rows = values.reshape(len(places), -1)
        found[part] = np.zeros((groups, rows.shape[1]), np.int64)
        found[part][places] = rows
    return found


def _moved(first: _Exact, second: _Exact) -> tuple[_Exact, _Exact]:
    """Without the nodes of a tree that are the same on both tables: their noise tells nothing, and there are thousands of them."""
    both: tuple[_Exact, _Exact] = ({}, {})
    for part, values in first.items():
        cells = (values != second[part]).any(axis=0)
        cells[0] |= not cells.any()
        both[0][part], both[1][part] = values[:, cells], second[part][:, cells]
    return both


def _log_ratio(drawn_values: _Matrix, one_with: int, without: int, one: NoisyPart) -> _Matrix:
    """Of one number, NaN where it is not shown."""
    scale = float(one.scale)
    if one.mechanism == "laplace":
        ratio = (np.abs(drawn_values - without) - np.abs(drawn_values - one_with)) / scale
    else:
        ratio = ((drawn_values - without) ** 2 - (drawn_values - one_with) ** 2) / (2 * scale**2)
    if not one.threshold:
        return np.nan_to_num(ratio, nan=0.0)  # not shown, which the selection has told already
    if 0 in (one_with, without):  # a key that nobody has is never shown
        ratio = np.where(np.isnan(ratio), ratio, CERTAIN if one_with else -CERTAIN)
    hidden = _log_hidden(one, one_with) - _log_hidden(one, without)
    return np.where(np.isnan(ratio), hidden, ratio)


def _log_hidden(one: NoisyPart, exact: int) -> float:
    """Logarithm of the probability that a key is not shown."""
    if exact == 0:
        return 0.0
    below, scale = one.threshold - 1 - exact, float(one.scale)
    if one.mechanism == "laplace":
        return float(stats.dlaplace(1 / scale).logcdf(below))
    return float(stats.norm.logcdf((below + 0.5) / scale))
