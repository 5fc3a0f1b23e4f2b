"""The error that a release would have, told before it is paid for.

No row is read: the query, the budget and public assumptions about the workload are all that goes in. The standard deviation of counts and sums is that of their noise exactly (for discrete noise, from above). Of a mean and a variance it is
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
        typical: What the error is compared with: the expected value, or (of sums whose totals are not known) its bound, of
            means half the width of the bounds, of variances its square, of quantiles all ranks; None without a workload.
        error: Root of the mean squared error, noise and bias together; None as `std`.
    """

    name: str
    unit: str
    std: float | None
    half_width: float | None
    expected: float | None
    bias: float | None
    lost_share: float | None
    typical: float | None
    error: float | None

    @property
    def relative_error(self) -> float | None:
        """Noise by what is typical, and the lost share, together; None where nothing typical is known."""
        if self.std is None or not self.typical:
            return None
        return math.hypot(self.std / abs(self.typical), self.lost_share or 0.0)


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
            lines.append(
                f"{one.name:<24}{cells}{_cell(one.relative_error):>10}"
                + (" of ranks" if one.unit == "rank" else "")
            )
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
    columns = [
        one
        for measure in plan.checked.query.measures
        for one in _measured(measure, plan, workload, groups, alpha)
    ]
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
        return [_column(names[0], std, width, *_expected(measure, plan, workload, groups))]
    rows = workload.rows_in_group(groups) * _kept(plan, workload) if workload and groups else None
    if isinstance(measure, Quantiles):
        return [_rank(name, plan, parts[0], rows, alpha) for name in names]
    half = float(parts[1].half)
    typical = half if isinstance(measure, Mean) else half * half
    if rows is None:
        return [ColumnPreview(names[0], "value", None, None, None, None, None, None, None)]
    wide = _ratio_std(measure, plan, parts, rows)
    return [
        ColumnPreview(names[0], "value", wide, wide * math.sqrt(1 / alpha), None, None, None, typical, wide)
    ]


def _rank(name: str, plan: Plan, part: Part, rows: float | None, alpha: float) -> ColumnPreview:
    one, terms = plan.parts[part], BRANCHES * part.levels
    if rows is None:
        return ColumnPreview(name, "rank", None, None, None, None, None, None, None)
    std = min(1.0, one.std * math.sqrt(terms) / rows)
    width = min(1.0, half_width(one.noise, alpha, terms=terms) / rows)
    return ColumnPreview(name, "rank", std, width, None, None, None, 1.0, std)


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
) -> tuple[float | None, float | None, float | None]:
    """Expected truth of a group, the share of it that bounding leaves out, and what an error is compared with."""
    if workload is None or isinstance(measure, Distinct):
        return None, None, None
    by_groups = workload.group_share(plan.checked.groups_per_customer)
    pairs = workload.pairs_per_group(groups) if groups else None
    if isinstance(measure, Customers):
        return pairs, 1 - by_groups, pairs
    if isinstance(measure, Count):
        expected = workload.rows_in_group(groups) if groups else None
        return expected, 1 - _kept(plan, workload), expected
    lower, upper = (float(edge) for edge in value_bounds(measure))
    share = workload.total_share(measure.column, lower, upper)
    if share is None:
        return None, 1 - by_groups, None if pairs is None else pairs * max(abs(lower), abs(upper))
    expected = workload.total_in_group(measure.column, groups) if groups else None
    return expected, 1 - by_groups * share, expected


def _column(
    name: str, std: float, width: float, expected: float | None, lost: float | None, typical: float | None
) -> ColumnPreview:
    bias = None if expected is None or lost is None else -expected * lost
    return ColumnPreview(
        name, "value", std, width, expected, bias, lost, typical, math.hypot(std, bias or 0.0)
    )
