"""How a query will be answered, as data: sensitivity, mechanism, scale and cost of every noisy vector."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from dayfly.privacy.accounting import cost_of

from .parts import Role
from .planning import NoisyPart, Plan

__all__ = ["Explanation", "PartExplanation", "explain", "number_text"]


@dataclass(frozen=True, slots=True)
class PartExplanation:
    """One noisy vector.

    Attributes:
        columns: Columns of the answer that are made of it.
        role: What it counts or adds.
        column: Whose values; empty where none are looked at.
        cells: Numbers per group.
        step: Value of one lattice unit.
        l0: Numbers that one customer can change.
        l1, l2, linf: Sum, root of the sum of squares, and largest of these changes, in the unit of the column.
        l1_units, l2_squared_units, linf_units: The same in lattice units; exact.
        mechanism: `laplace` or `gaussian`, both discrete.
        scale: Of the noise, in the unit of the column.
        scale_units: In lattice units; exact.
        std: Standard deviation of the noise, in the unit of the column.
        share: Of the budget; exact.
        epsilon, rho, delta: What it costs at most; epsilon is None for Gaussian noise, whose epsilon is the whole plan's.
        threshold: Noisy customers that an unknown key needs to be shown; 0 where keys are known.
    """

    columns: tuple[str, ...]
    role: str
    column: str
    cells: int
    step: Fraction
    l0: int
    l1: float
    l2: float
    linf: float
    l1_units: int
    l2_squared_units: int
    linf_units: int
    mechanism: str
    scale: float
    scale_units: Fraction
    std: float
    share: Fraction
    epsilon: Fraction | None
    rho: Fraction
    delta: Fraction
    threshold: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a query will be answered.

    Attributes:
        parts: Its noisy vectors.
        epsilon, rho, delta: What the whole costs at most.
        groups: Number of known groups; None where keys are found in the data.
        groups_per_customer, rows_per_group: What of one customer counts.
        unit: What is protected.
    """

    parts: tuple[PartExplanation, ...]
    epsilon: Fraction | None
    rho: Fraction
    delta: Fraction
    groups: int | None
    groups_per_customer: int
    rows_per_group: int | None
    unit: str = "one customer added or removed, with all rows"

    def to_dict(self) -> Mapping[str, Any]:
        """As JSON types, exact numbers as texts."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    def __str__(self) -> str:
        lines = [
            f"protects {self.unit}",
            f"costs at most epsilon {number_text(self.epsilon)}, rho {_short(self.rho)}, delta {_short(self.delta)}",
            f"of one customer count at most {self.groups_per_customer} groups"
            + (f" and {self.rows_per_group} rows in each" if self.rows_per_group else ""),
        ]
        lines += [
            f"{', '.join(one.columns)}: {one.role}{f' of {one.column}' if one.column else ''}; one customer changes L0 {one.l0}, "
            f"L1 {one.l1:g}, L2 {one.l2:g}, Linf {one.linf:g}; discrete {one.mechanism} noise of scale {one.scale:g} "
            f"(std {one.std:g}) on steps of {float(one.step):g}; share {_short(one.share)}"
            + (f"; keys need {one.threshold} noisy customers" if one.threshold else "")
            for one in self.parts
        ]
        return "\n".join(lines)


def explain(plan: Plan) -> Explanation:
    """What a plan does."""
    checked = plan.checked
    return Explanation(
        parts=tuple(_part(one) for one in plan.parts.values()),
        epsilon=plan.cost.epsilon,
        rho=plan.cost.rho,
        delta=plan.cost.delta,
        groups=checked.groups,
        groups_per_customer=checked.groups_per_customer,
        rows_per_group=checked.rows_per_group,
    )


def _part(one: NoisyPart) -> PartExplanation:
    part, changed, cost = one.part, one.part.sensitivity, cost_of(one.event)
    step = part.lattice.step
    value = float(step)
    return PartExplanation(
        columns=tuple(dict.fromkeys(one.labels)),
        role=part.role.value,
        column=part.column,
        cells=part.cells if part.role is Role.TREE else 1,
        step=step,
        l0=changed.l0,
        l1=changed.l1 * value,
        l2=float(changed.l2_squared) ** 0.5 * value,
        linf=changed.linf * value,
        l1_units=changed.l1,
        l2_squared_units=changed.l2_squared,
        linf_units=changed.linf,
        mechanism=one.mechanism,
        scale=float(one.scale) * value,
        scale_units=one.scale,
        std=one.std * value,
        share=one.share,
        epsilon=cost.epsilon,
        rho=cost.rho,
        delta=cost.delta,
        threshold=one.threshold,
    )


def number_text(value: Fraction | None) -> str | None:
    """An exact number as text: a decimal where it is a short one, else a fraction; None stays None.

    >>> number_text(Fraction(1, 10)), number_text(Fraction(1, 3))
    ('0.1', '1/3')
    """
    if value is None:
        return None
    text = repr(float(value))
    if Fraction(text) == value:
        return text.removesuffix(".0")
    return f"{value.numerator}/{value.denominator}"


def _short(value: Fraction) -> str:
    return f"{float(value):.6g}"


def _plain(value: Any) -> Any:
    if isinstance(value, Fraction):
        return number_text(value)
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return value
