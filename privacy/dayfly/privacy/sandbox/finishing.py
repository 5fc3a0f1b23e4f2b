"""From noisy integers to the answer. Everything here is post-processing: it sees no row and costs nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .intervals import half_width
from .parts import BRANCHES, Part, Role
from .planning import Plan
from .queries import Count, Customers, Distinct, Mean, Measure, Quantiles, Sum, Variance, output_columns

__all__ = ["Estimate", "estimates", "table_of"]

Floats = NDArray[np.float64]
Noisy = Mapping[Part, NDArray[np.int64]]

_LOW: Final = "_low"
_HIGH: Final = "_high"


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """One column of the answer.

    Attributes:
        name: Of the column.
        value: Estimates, float64, one per group.
        low, high: Confidence interval of each, for the noise alone.
    """

    name: str
    value: Floats
    low: Floats
    high: Floats


def estimates(plan: Plan, noisy: Noisy, alpha: float) -> list[Estimate]:
    """The columns of the answer.

    Args:
        plan: What was asked.
        noisy: Noisy integers of each part.
        alpha: Probability with which an interval may miss, in (0, 1).
    """
    measures = zip(plan.checked.query.measures, plan.measured, strict=True)
    return [one for measure, parts in measures for one in _measured(measure, parts, plan, noisy, alpha)]


def _measured(
    measure: Measure, parts: tuple[Part, ...], plan: Plan, noisy: Noisy, alpha: float
) -> list[Estimate]:
    name = output_columns(measure)[0]
    if isinstance(measure, Count | Customers | Sum | Distinct):
        return [_plain(name, parts[0], plan, noisy, alpha)]
    if isinstance(measure, Mean):
        return [_mean(name, parts, plan, noisy, alpha)]
    if isinstance(measure, Variance):
        return [_variance(name, parts, plan, noisy, alpha)]
    return _quantiles(measure, parts[0], plan, noisy, alpha)


def _range(part: Part, plan: Plan, noisy: Noisy, alpha: float) -> tuple[Floats, Floats, Floats]:
    """Estimate, low and high of a part, in values."""
    one = plan.parts[part]
    step = float(part.lattice.step)
    value = noisy[part].astype(np.float64) * step
    width = half_width(one.noise, alpha) * step
    return value, value - width, value + width


def _plain(name: str, part: Part, plan: Plan, noisy: Noisy, alpha: float) -> Estimate:
    value, low, high = _range(part, plan, noisy, alpha)
    if part.role is not Role.SUM or part.lower >= 0:  # none of these can be below zero
        low, high = np.maximum(low, 0.0), np.maximum(high, 0.0)
    return Estimate(name, value, low, high)


def _quotient(
    top: tuple[Floats, Floats, Floats], rows: tuple[Floats, Floats, Floats]
) -> tuple[Floats, Floats, Floats]:
    """A mean and its interval, where top and number of rows both lie within theirs; a mean is over at least one row."""
    divisors = [np.maximum(edge, 1.0) for edge in rows]
    edges = np.stack([edge / divisor for edge in top[1:] for divisor in divisors[1:]])
    return top[0] / divisors[0], edges.min(axis=0), edges.max(axis=0)


def _mean(name: str, parts: tuple[Part, ...], plan: Plan, noisy: Noisy, alpha: float) -> Estimate:
    rows, total = (_range(part, plan, noisy, alpha / 2) for part in parts)
    half, middle = float(parts[1].half), float(parts[1].middle)
    value, low, high = (np.clip(edge, -half, half) + middle for edge in _quotient(total, rows))
    return Estimate(name, value, low, high)


def _variance(name: str, parts: tuple[Part, ...], plan: Plan, noisy: Noisy, alpha: float) -> Estimate:
    rows, total, squares = (_range(part, plan, noisy, alpha / 3) for part in parts)
    half, centre = float(parts[1].half), float(parts[2].centre)
    mean, mean_low, mean_high = (np.clip(edge, -half, half) for edge in _quotient(total, rows))
    square, square_low, square_high = (
        np.clip(edge + centre, 0.0, half * half) for edge in _quotient(squares, rows)
    )
    nearest = np.where((mean_low <= 0) & (mean_high >= 0), 0.0, np.minimum(abs(mean_low), abs(mean_high)))
    furthest = np.maximum(abs(mean_low), abs(mean_high))
    value, low, high = (
        np.clip(edge, 0.0, half * half)
        for edge in (square - mean**2, square_low - furthest**2, square_high - nearest**2)
    )
    return Estimate(name, value, low, high)


# --- quantiles -------------------------------------------------------------------------------------------------------


def _quantiles(measure: Quantiles, part: Part, plan: Plan, noisy: Noisy, alpha: float) -> list[Estimate]:
    one = plan.parts[part]
    below, terms = _cumulative(noisy[part], part.levels)
    total = below[:, -1]
    width = half_width(one.noise, alpha, terms=terms)
    lower, size = float(part.lower), float((part.upper - part.lower) / BRANCHES**part.levels)
    found: list[Estimate] = []
    for name, quantile in zip(output_columns(measure), measure.quantiles, strict=True):
        place = _descended(noisy[part], part.levels, quantile)
        leaf = np.floor(place)
        wanted = quantile * np.maximum(total, 0.0)
        low = _first(below - wanted[:, None] >= -width)
        high = _last(
            np.concatenate([np.zeros_like(below[:, :1]), below[:, :-1]], axis=1) - wanted[:, None] <= width
        )
        edges = np.minimum(low, leaf), place, np.maximum(high, leaf) + 1
        low, place, high = (lower + edge * size for edge in edges)
        found.append(Estimate(name, place, low, high))
    return found


def _descended(cells: NDArray[np.int64], levels: int, quantile: float) -> Floats:
    """Where a quantile lies, in leaves: from the root to the child that holds its rank, by the noisy counts of the children.

    A count below zero is taken as zero; where all children have none, the middle of their parent is the answer.
    """
    groups = np.arange(cells.shape[0])
    node, rank, start = np.zeros(groups.size, np.int64), np.full(groups.size, quantile), 0
    place = np.zeros(groups.size)
    settled = np.zeros(groups.size, np.bool_)
    for level in range(1, levels + 1):
        children = start + node[:, None] * BRANCHES + np.arange(BRANCHES)
        counts = np.maximum(np.take_along_axis(cells, children, axis=1), 0).astype(np.float64)
        total = counts.sum(axis=1)
        leaves = float(BRANCHES ** (levels - level))
        empty = (total == 0) & ~settled
        place[empty] += BRANCHES * leaves / 2
        settled |= empty
        upto = np.cumsum(counts, axis=1)
        child = np.minimum((upto < (rank * total)[:, None]).sum(axis=1), BRANCHES - 1)
        held = np.maximum(counts[groups, child], 1.0)
        rank = np.clip((rank * total - (upto[groups, child] - counts[groups, child])) / held, 0.0, 1.0)
        place = np.where(settled, place, place + child * leaves)
        node, start = node * BRANCHES + child, start + BRANCHES**level
    inside: Floats = np.where(settled, place, np.minimum(place + rank, BRANCHES**levels - 1e-9))
    return inside


def _first(true: NDArray[np.bool_]) -> Floats:
    """Number of the first true column of each row; the last column where none is."""
    return np.asarray(np.where(true.any(axis=1), true.argmax(axis=1), true.shape[1] - 1), np.float64)


def _last(true: NDArray[np.bool_]) -> Floats:
    """Number of the last true column of each row; the first column where none is."""
    return np.asarray(
        np.where(true.any(axis=1), true.shape[1] - 1 - true[:, ::-1].argmax(axis=1), 0), np.float64
    )


def _cumulative(cells: NDArray[np.int64], levels: int) -> tuple[Floats, int]:
    """Noisy number of rows up to and with each leaf, and how many noises one of them less a share of the total holds.

    Up to a leaf there are at most 15 nodes per level that cover everything before its parent, and the leaf and its elder
    siblings below that. The total is the sum of the 16 nodes of the first level, each of which is counted at most once more.
    """
    values = cells.astype(np.float64)
    groups = values.shape[0]
    start, before = 0, np.zeros((groups, 1))
    for level in range(1, levels + 1):
        width = BRANCHES**level
        nodes = values[:, start : start + width].reshape(groups, width // BRANCHES, BRANCHES)
        upto = np.cumsum(nodes, axis=2)
        if level == levels:
            return (before[:, :, None] + upto).reshape(groups, width), BRANCHES * levels
        before = (before[:, :, None] + upto - nodes).reshape(groups, width)
        start += width
    raise AssertionError(levels)


# --- the table -------------------------------------------------------------------------------------------------------


def table_of(keys: pa.Table, found: list[Estimate], plan: Plan) -> pa.Table:
    """Key columns, then each estimate with its interval; ordered as asked, or by key where keys were found in the data."""
    columns: dict[str, Any] = dict(zip(keys.column_names, keys.columns, strict=True))
    for one in found:
        columns[one.name] = pa.array(one.value)
        columns[one.name + _LOW] = pa.array(one.low)
        columns[one.name + _HIGH] = pa.array(one.high)
    table = pa.table(columns)
    top = plan.checked.query.top
    if not plan.checked.known:
        table = table.sort_by([(name, "ascending") for name in keys.column_names])
    if top is not None:
        by = top.by or found[0].name
        table = table.sort_by([(by, "descending")]).slice(0, top.groups)
    return table
