"""The noisy vectors that a query consists of, with the sensitivity of each as data.

A *part* is one vector of exact integers to which noise is added once. Measures share parts: a mean and a variance of the same
column use one noisy count and one noisy sum.

Claim: adding or removing one customer changes the integers of a part by at most its `sensitivity`, in each of the four norms.
Precondition: the integers come from `dayfly.privacy.bounding` with this part's contribution. Argument: ``COUNT``, ``CUSTOMERS``,
``SUM``, ``CENTRED`` and ``SQUARES`` are bounded group-bys. ``TREE`` counts each of the at most `l0 * rows` kept rows once per
level, in the worst case all `rows` of a group in one node. ``DISTINCT``: of a customer at most m (group, value) pairs are
kept; each can change the number of distinct values of its group by one, in the worst case all in one group; a pair that others
have too changes nothing. Source: Wilson et al., "Differentially Private SQL with Bounded User Contribution" (2020).
"""

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Final

from dayfly.privacy.accounting import Sensitivity
from dayfly.privacy.bounding import Contribution, Lattice
from dayfly.privacy.errors import InvalidArgument, InvalidQuery, QueryTooLarge

from .checking import Checked, value_bounds
from .numbers import exact
from .queries import Count, Customers, Distinct, Mean, Measure, Quantiles, Sum, Variance, label_of

__all__ = ["BRANCHES", "Part", "Role", "parts_of"]

BRANCHES: Final = 16
"""Children of a node of a quantile tree."""

_MOST_CELLS: Final = 1 << 22
_MOST_UNITS: Final = 1 << 32
_FINE: Final = 1 << 28
"""A chosen step makes the bound of one customer and group between this and half of it."""


class Role(StrEnum):
    """What a part counts or adds."""

    COUNT = "rows"
    CUSTOMERS = "customers"
    SUM = "sum"
    CENTRED = "centred sum"
    SQUARES = "centred squares"
    TREE = "tree of counts"
    DISTINCT = "distinct values"
    KEYS = "selection of keys"


@dataclass(frozen=True, slots=True)
class Part:
    """One vector that noise is added to.

    Attributes:
        role: What it holds.
        column: Whose values; empty where none are looked at.
        lower, upper: Values are clamped to these before they are put on the lattice (not for `SUM`, whose totals are clamped).
        centre: Subtracted from a value (for `SQUARES`: from its square, after the middle of the bounds was subtracted).
        lattice: Value of one unit.
        contribution: What a customer contributes.
        sensitivity: Of the integers.
        levels: Of the tree.
    """

    role: Role
    column: str
    lattice: Lattice
    contribution: Contribution
    sensitivity: Sensitivity
    lower: Fraction = Fraction(0)
    upper: Fraction = Fraction(0)
    centre: Fraction = Fraction(0)
    levels: int = 0

    def __hash__(self) -> int:
        """Of what tells most parts of a query apart; hashing every fraction anew at each look-up would cost more than noise."""
        return hash((self.role, self.column, self.levels))

    @property
    def cells(self) -> int:
        """Integers per group."""
        return sum(BRANCHES**level for level in range(1, self.levels + 1)) if self.role is Role.TREE else 1

    @property
    def middle(self) -> Fraction:
        """Middle of the bounds."""
        return (self.lower + self.upper) / 2

    @property
    def half(self) -> Fraction:
        """Half the width of the bounds."""
        return (self.upper - self.lower) / 2


_WHOLE: Final = Lattice(Fraction(1))


def parts_of(measure: Measure, checked: Checked) -> tuple[Part, ...]:
    """The parts that a measure needs.

    Raises:
        QueryTooLarge: a bound does not fit the fixed-point range with the step that was given, or a tree has too many cells.
        InvalidQuery: the step is no decimal or binary fraction.
    """
    if isinstance(measure, Count):
        return (_count(checked, ""),)
    if isinstance(measure, Customers):
        return (customers_part(checked, Role.CUSTOMERS),)
    if isinstance(measure, Sum):
        return (_sum(measure, checked),)
    if isinstance(measure, Mean):
        return (_count(checked, measure.column), _centred(measure, checked))
    if isinstance(measure, Variance):
        return (_count(checked, measure.column), _centred(measure, checked), _squares(measure, checked))
    if isinstance(measure, Quantiles):
        return (_tree(measure, checked),)
    return (_distinct(measure, checked),)


def customers_part(checked: Checked, role: Role) -> Part:
    """Distinct customers per group."""
    bound = Contribution(checked.groups_per_customer)
    return Part(role, "", _WHOLE, bound, bound.customer_sensitivity())


def _rows(checked: Checked) -> int:
    return checked.rows_per_group or 1


def _count(checked: Checked, column: str) -> Part:
    bound = Contribution(checked.groups_per_customer, _rows(checked))
    return Part(Role.COUNT, column, _WHOLE, bound, bound.count_sensitivity())


def _sum(measure: Sum, checked: Checked) -> Part:
    lower, upper = value_bounds(measure)
    lattice = _lattice(measure, max(abs(lower), abs(upper)))
    bound = _bound(checked, lattice.lower(lower), lattice.upper(upper), label_of(measure))
    return Part(Role.SUM, measure.column, lattice, bound, bound.sum_sensitivity(), lower, upper)


def _centred(measure: Mean | Variance, checked: Checked) -> Part:
    lower, upper = value_bounds(measure)
    half = (upper - lower) / 2
    lattice = _lattice(measure, half * _rows(checked))
    most = lattice.upper(half) * _rows(checked)
    bound = _bound(checked, -most, most, label_of(measure))
    return Part(
        Role.CENTRED,
        measure.column,
        lattice,
        bound,
        bound.sum_sensitivity(),
        lower,
        upper,
        (lower + upper) / 2,
    )


def _squares(measure: Variance, checked: Checked) -> Part:
    """Squares of centred values lie in [0, half**2]; less half of that they lie around zero, which halves what one adds."""
    lower, upper = value_bounds(measure)
    centre = ((upper - lower) / 2) ** 2 / 2
    lattice = Lattice(_step(centre * _rows(checked), label_of(measure)))
    most = lattice.upper(centre) * _rows(checked)
    bound = _bound(checked, -most, most, label_of(measure))
    return Part(Role.SQUARES, measure.column, lattice, bound, bound.sum_sensitivity(), lower, upper, centre)


def _tree(measure: Quantiles, checked: Checked) -> Part:
    lower, upper = value_bounds(measure)
    levels = {16: 1, 256: 2, 4096: 3}[measure.bins]
    bound = Contribution(checked.groups_per_customer, _rows(checked))
    one = bound.row_sensitivity()
    changed = Sensitivity(
        l0=one.l0 * levels, l1=one.l1 * levels, l2_squared=one.l2_squared * levels, linf=one.linf
    )
    part = Part(Role.TREE, measure.column, _WHOLE, bound, changed, lower, upper, levels=levels)
    if part.cells * (checked.groups or 1) > _MOST_CELLS:
        raise QueryTooLarge(
            f"bins={measure.bins} in groups={checked.groups} must be at most {_MOST_CELLS} noisy counts; "
            "take fewer bins or ask for fewer keys"
        )
    return part


def _distinct(measure: Distinct, checked: Checked) -> Part:
    most = measure.values_per_customer
    changed = Sensitivity(
        l0=most if checked.query.group_by else 1, l1=most, l2_squared=most * most, linf=most
    )
    return Part(Role.DISTINCT, measure.column, _WHOLE, Contribution(most), changed)


def _lattice(measure: Sum | Mean | Variance, bound: Fraction) -> Lattice:
    label = label_of(measure)
    step = exact(measure.step, "step") if measure.step is not None else _step(bound, label)
    try:
        return Lattice(step)
    except InvalidArgument as error:
        raise InvalidQuery(f"step of {label!r}: {error}") from None


def _step(bound: Fraction, label: str) -> Fraction:
    """A power of two such that the bound is between `_FINE / 2` and `_FINE` steps; whole numbers stay whole where they can."""
    ratio = bound / _FINE
    exponent = ratio.numerator.bit_length() - ratio.denominator.bit_length()
    step = Fraction(2) ** exponent
    while step < ratio:
        step *= 2
    if not Fraction(1, 1 << 52) <= step <= 1 << 52:
        raise QueryTooLarge(
            f"bounds of {label!r} must lie between 2**-20 and 2**80 in size; change the unit of the column"
        )
    return step


def _bound(checked: Checked, lower: int, upper: int, label: str) -> Contribution:
    if max(abs(lower), abs(upper)) > _MOST_UNITS:
        raise QueryTooLarge(
            f"bounds of {label!r} in steps are {max(abs(lower), abs(upper))} and must be at most {_MOST_UNITS} so that no total can "
            "leave the fixed-point range; take a larger step or tighter bounds"
        )
    return Contribution(checked.groups_per_customer, _rows(checked), lower, upper)
