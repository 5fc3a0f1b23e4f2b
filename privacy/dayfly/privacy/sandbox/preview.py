"""The error that a release would have, told before it is paid for. No row is read: the query, the budget and public
assumptions about the workload are all that goes in.

The standard deviation of counts and sums is that of their noise exactly (for discrete noise, from above). Of a mean and a variance it is
the first-order bound for a group of the expected size, whatever the values are within their bounds. Of quantiles it is in
ranks: by how large a share of the rows a quantile may be off. The bias is what bounding leaves out, from the workload.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .checking import value_bounds
from .explaining import number_text
from .intervals import half_width
from .parts import BRANCHES, Part, Role, customers_part, parts_of
from .planning import Plan
from .queries import Count, Customers, Distinct, Mean, Measure, Quantiles, Sum, Variance, output_columns
from .workloads import Workload

__all__ = ["ColumnPreview", "Preview", "preview"]


@dataclass(frozen=True, slots=True)
class ColumnPreview:
    """Expected error of one column of the answer, for one group.

    Attributes:
        name: Of the column.
        unit: `value`, or `rank` for quantiles (1 is all rows of the group).
        std: Standard deviation of the noise; None where it needs a workload.
        half_width: Of the interval.
        expected: Expected true value; None where the workload does not tell.
        bias: Expected value of what bounding adds (below zero: leaves out); None as `expected`.
        lost_share: Share of the truth that bounding leaves out; None where the workload does not tell.
        error: Root of the mean squared error, noise and bias together; None as `std`.
    """

    name: str
    unit: str
    std: float | None
    half_width: float | None
    expected: float | None
    bias: float | None
    lost_share: float | None
    error: float | None

    @property
    def relative_error(self) -> float | None:
        """Error by expected value; for ranks the error itself."""
        if self.error is None or (self.unit == "value" and not self.expected):
            return None
        return self.error if self.unit == "rank" else self.error / abs(self.expected or 1.0)


@dataclass(frozen=True, slots=True)
class Preview:
    """What a release would cost, and how far off it would be.

    Attributes:
        columns: Expected errors.
        confidence: Of the half widths.
        epsilon, rho, delta: Cost, exact, as text; epsilon None where there is none.
        key_threshold: Noisy customers that an unknown key needs to be shown; 0 where keys are known.
    """

    columns: tuple[ColumnPreview, ...]
    confidence: float
    epsilon: str | None
    rho: str | None
    delta: str | None
    key_threshold: int

    def __getitem__(self, name: str) -> ColumnPreview:
        return next(one for one in self.columns if one.name == name)

    def to_dict(self) -> Mapping[str, Any]:
        """As JSON types."""
        found = asdict(self)
        for one, column in zip(found["columns"], self.columns, strict=True):
            one["relative_error"] = column.relative_error
        return found

    def __str__(self) -> str:
        lines = [f"{'column':<24}{'std':>12}{'+/-':>12}{'bias':>12}{'error':>12}{'relative':>10}"]
        for one in self.columns:
            cells = "".join(f"{_cell(value):>12}" for value in (one.std, one.half_width, one.bias, one.error))
            lines.append(f"{one.name:<24}{cells}{_cell(one.relative_error):>10}" + (" of ranks" if one.unit == "rank" else ""))
        return "\n".join(lines)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def preview(plan: Plan, workload: Workload | None, *, alpha: float) -> Preview:
    """Foresee the errors of a plan.

    Args:
        plan: It.
        workload: What is known or assumed about contributions; without it only noise is told.
        alpha: Probability with which an interval may miss.
    """
    groups = plan.checked.groups or (workload.groups if workload else None)
    columns = [one for measure in plan.checked.query.measures for one in _measured(measure, plan, workload, groups, alpha)]
    selection = plan.selection
    return Preview(
        tuple(columns),
        1 - alpha,
        number_text(plan.cost.epsilon),
        number_text(plan.cost.rho),
        number_text(plan.cost.delta),
        selection.threshold if selection else 0,
    )


def _noise(plan: Plan, part: Part, alpha: float) -> tuple[float, float]:
    """Standard deviation and half width of a part, in the unit of its column."""
    one, step = plan.parts[part], float(part.lattice.step)
    return one.std * step, half_width(one.noise, alpha) * step


def _measured(
    measure: Measure, plan: Plan, workload: Workload | None, groups: int | None, alpha: float
) -> list[ColumnPreview]:
    checked = plan.checked
    counted = isinstance(measure, Customers) and not checked.known
    parts = (customers_part(checked, Role.KEYS),) if counted else parts_of(measure, checked)
    names = output_columns(measure)
    if isinstance(measure, Count | Customers | Sum | Distinct):
        std, width = _noise(plan, parts[0], alpha)
        expected, lost = _expected(measure, plan, workload, groups)
        return [_column(names[0], std, width, expected, lost)]
    rows = workload.rows_in_group(groups) * _kept(plan, workload) if workload and groups else None
    lost = None if workload is None else 1 - _kept(plan, workload)
    if isinstance(measure, Quantiles):
        one = plan.parts[parts[0]]
        terms = BRANCHES * parts[0].levels
        std = one.std * math.sqrt(terms) / rows if rows else None
        width = min(1.0, half_width(one.noise, alpha, terms=terms) / rows) if rows else None
        return [ColumnPreview(name, "rank", std, width, None, None, lost, std) for name in names]
    std = _ratio_std(measure, plan, parts, rows) if rows else None
    width = std * 1.96 if std is not None and alpha == 0.05 else None if std is None else std * math.sqrt(1 / alpha)
    return [ColumnPreview(names[0], "value", std, width, None, None, lost, std)]


def _ratio_std(measure: Mean | Variance, plan: Plan, parts: tuple[Part, ...], rows: float) -> float:
    """First-order bound of the standard deviation of a mean or variance over `rows` rows."""
    half = float(parts[1].half)
    count, total = (_noise(plan, part, 0.5)[0] for part in parts[:2])
    if isinstance(measure, Mean):
        return min(2 * half, math.hypot(total, half * count) / rows)
    square = _noise(plan, parts[2], 0.5)[0]
    return min(half * half, math.hypot(square, half * half * count, 2 * half * total) / rows)


def _kept(plan: Plan, workload: Workload) -> float:
    """Share of rows that bounding keeps."""
    checked = plan.checked
    return workload.group_share(checked.groups_per_customer) * workload.row_share(checked.rows_per_group or 1)


def _expected(
    measure: Count | Customers | Sum | Distinct, plan: Plan, workload: Workload | None, groups: int | None
) -> tuple[float | None, float | None]:
    """Expected truth of a group, and the share of it that bounding leaves out."""
    if workload is None or isinstance(measure, Distinct):
        return None, None
    by_groups = workload.group_share(plan.checked.groups_per_customer)
    if isinstance(measure, Customers):
        return (workload.pairs_per_group(groups) if groups else None), 1 - by_groups
    if isinstance(measure, Count):
        return (workload.rows_in_group(groups) if groups else None), 1 - _kept(plan, workload)
    lower, upper = value_bounds(measure)
    share = workload.total_share(measure.column, float(lower), float(upper))
    expected = workload.total_in_group(measure.column, groups) if groups else None
    return expected, None if share is None else 1 - by_groups * share


def _column(name: str, std: float, width: float, expected: float | None, lost: float | None) -> ColumnPreview:
    bias = None if expected is None or lost is None else -expected * lost
    return ColumnPreview(name, "value", std, width, expected, bias, lost, math.hypot(std, bias or 0.0))
