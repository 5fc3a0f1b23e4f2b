"""Proposals for what a query leaves open: bounds of a customer's contribution, and the split of the budget.

A tight bound leaves out data (bias), a loose one needs noise; the proposal has the least foreseen error, added up over the columns
of the answer as squares of relative errors. It is made of the query, the budget and a workload, so it reads no row.

Split: with shares w the noise of part i has variance c_i^2 / w_i^2 (Laplace) or c_i^2 / w_i (Gaussian), where c_i is its relative
size at equal shares; the sum is least where w_i is proportional to c_i^(2/3), or to c_i (Lagrange).
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from .checking import value_bounds
from .numbers import Budget
from .planning import Plan
from .preview import Preview
from .queries import Query, Sum, label_of, output_columns
from .workloads import Distribution, Workload

__all__ = ["Suggestion", "suggest"]

_MOST_CHOICES: Final = 10
_LEAST_SHARE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A query with bounds and split of least foreseen error.

    Attributes:
        query: It, bounds included.
        shares: Weights of the columns; empty where equal ones are as good as any.
        preview: Its foreseen errors.
    """

    query: Query
    shares: Mapping[str, float]
    preview: Preview

    def __str__(self) -> str:
        bound = self.query.bound
        sums = [
            f"{label_of(one)} in [{one.lower}, {one.upper}]"
            for one in self.query.measures
            if isinstance(one, Sum)
        ]
        shares = ", ".join(f"{name} {share:.2g}" for name, share in self.shares.items())
        return (
            f"groups_per_customer={bound.groups_per_customer}, rows_per_group={bound.rows_per_group}"
            f"{', ' if sums else ''}{', '.join(sums)}; shares: {shares or 'equal'}\n{self.preview}"
        )


def suggest(
    query: Query,
    budget: Budget,
    workload: Workload,
    *,
    plan: Callable[[Query, Budget], Plan],
    preview: Callable[[Plan, Workload], Preview],
) -> Suggestion:
    """The proposal.

    Args:
        query: Its bounds are the place where the search begins, and may be missing.
        budget: What it may cost.
        workload: How customers contribute.
        plan: Plans a query.
        preview: Foresees the errors of a plan.

    Raises:
        InvalidQuery: as planning the query with bounds.
    """

    def error(candidate: Query) -> float:
        return _error(preview(plan(candidate, budget), workload))

    best = _bounded(query, _largest(workload.groups_per_customer), _largest(workload.rows_per_group))
    choices = [
        _bounded(best, groups, rows)
        for groups in (_choices(workload.groups_per_customer) if query.group_by else [1])
        for rows in _choices(workload.rows_per_group)
    ]
    best = min(choices, key=error)
    for number, measure in enumerate(best.measures):
        if isinstance(measure, Sum) and measure.column in workload.totals:
            best = min((_with_sum(best, number, one) for one in _sums(measure, workload)), key=error)
    best = min(
        (
            _bounded(best, one.bound.groups_per_customer or 1, one.bound.rows_per_group or 1)
            for one in choices
        ),
        key=error,
    )
    shares = _split(plan(best, budget), preview(plan(best, budget), workload))
    weighted = msgspec.structs.replace(budget, shares=shares)
    return Suggestion(best, shares, preview(plan(best, weighted), workload))


def _error(found: Preview) -> float:
    """Sum of squared relative errors; where nothing typical is known, of the noise itself."""
    return sum(
        ((one.relative_error if one.relative_error is not None else one.error) or 0.0) ** 2
        for one in found.columns
    )


def _largest(distribution: Distribution) -> int:
    return max(1, math.ceil(max(distribution)))


def _choices(distribution: Distribution) -> list[int]:
    """Whole numbers up to the largest value, growing by a constant factor."""
    most = _largest(distribution)
    factor = max(1.25, most ** (1 / _MOST_CHOICES))
    found = {1, most}
    value = 1.0
    while value < most:
        found.add(math.ceil(value))
        value *= factor
    return sorted(found)


def _bounded(query: Query, groups: int, rows: int) -> Query:
    bound = msgspec.structs.replace(query.bound, groups_per_customer=groups, rows_per_group=rows)
    return msgspec.structs.replace(query, bound=bound)


def _sums(measure: Sum, workload: Workload) -> Iterable[Sum]:
    """The sum with other bounds: values of its totals, each between the bounds that were given."""
    lower, upper = (float(edge) for edge in value_bounds(measure))
    totals = sorted(workload.totals[measure.column])
    step = max(1, len(totals) // (4 * _MOST_CHOICES))
    for edge in (*totals[::step], upper):
        if max(lower, 0.0) < edge <= upper:
            yield msgspec.structs.replace(
                measure, lower=max(lower, -edge) if lower < 0 else measure.lower, upper=edge
            )
    yield measure


def _with_sum(query: Query, number: int, measure: Sum) -> Query:
    measures = (*query.measures[:number], measure, *query.measures[number + 1 :])
    return msgspec.structs.replace(query, measures=measures)


def _split(plan: Plan, found: Preview) -> dict[str, float]:
    """Weights of the columns, by the rule of the module; none below a twentieth of the largest."""
    power = 2 / 3 if plan.mechanism == "laplace" else 1.0
    sizes: dict[str, float] = {}
    for measure in plan.checked.query.measures:
        column = found[output_columns(measure)[0]]
        if column.std is None or not column.typical:
            return {}
        sizes[label_of(measure)] = column.std / abs(column.typical)
    weights = {name: size**power for name, size in sizes.items()}
    largest = max(weights.values())
    return {name: round(max(weight / largest, _LEAST_SHARE), 3) for name, weight in weights.items()}
