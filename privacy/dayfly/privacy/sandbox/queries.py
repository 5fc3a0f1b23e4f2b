"""Queries as data: frozen, free of any row, the same in Python and in a YAML or JSON document."""

from typing import Literal, TypeAlias

import msgspec

from .language import Scalar
from .numbers import Number

__all__ = [
    "Bound",
    "Count",
    "Customers",
    "Derive",
    "Distinct",
    "GroupKey",
    "Mean",
    "Measure",
    "PerCustomer",
    "PerCustomerValue",
    "Quantiles",
    "Query",
    "Step",
    "Sum",
    "Top",
    "Variance",
    "Where",
    "label_of",
    "output_columns",
]


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What all parts of a query have in common: immutable, unknown fields refused."""


# --- steps: from rows to rows, each customer's rows becoming that customer's rows ------------------------------------


class Where(_Part, tag_field="step", tag="where", frozen=True, kw_only=True):
    """Keep the rows for which a condition is true."""

    condition: str


class Derive(_Part, tag_field="step", tag="derive", frozen=True, kw_only=True):
    """Add columns, or replace them; all see the columns as they were before this step."""

    columns: dict[str, str]


class PerCustomerValue(_Part, frozen=True, kw_only=True):
    """One column of a per-customer table.

    Attributes:
        function: `rows`, `sum`, `mean`, `min`, `max` or `distinct`, over the customer's rows that have a value.
        column: What it is of; none for `rows`.
    """

    function: Literal["rows", "sum", "mean", "min", "max", "distinct"]
    column: str | None = None


class PerCustomer(_Part, tag_field="step", tag="per_customer", frozen=True, kw_only=True):
    """One row per customer (and per value of the columns `by`) in place of all rows of the customer."""

    columns: dict[str, PerCustomerValue]
    by: tuple[str, ...] = ()


Step: TypeAlias = Where | Derive | PerCustomer


# --- groups and bounds -----------------------------------------------------------------------------------------------


class GroupKey(_Part, frozen=True, kw_only=True):
    """One column of the key of a group.

    Attributes:
        column: Its name.
        keys: The values that are asked for, whether they occur or not. Without them (and without edges) the keys are
            found in the data, which needs a delta and shows only keys with enough customers.
        edges: Ascending edges of the bins of a numeric column: [edge, next edge), the last bin closed.
    """

    column: str
    keys: tuple[Scalar, ...] | None = None
    edges: tuple[Number, ...] | None = None

    @property
    def known(self) -> bool:
        """Whether the keys are public."""
        return self.keys is not None or self.edges is not None


class Bound(_Part, frozen=True, kw_only=True):
    """What one customer may contribute.

    Attributes:
        groups_per_customer: To at most so many groups (L0); which ones is drawn uniformly.
        rows_per_group: At most so many rows to one group.
        method: `uniform`, or `first_come` (faster; which groups count depends on the order of the rows).
    """

    groups_per_customer: int | None = None
    rows_per_group: int | None = None
    method: Literal["uniform", "first_come"] = "uniform"


# --- measures --------------------------------------------------------------------------------------------------------


class _Measure(_Part, frozen=True, kw_only=True):
    """A column of the answer; without a name it is called after what it is (`label_of`)."""

    name: str = ""


class Count(_Measure, tag_field="measure", tag="count", frozen=True, kw_only=True):
    """Number of rows; of one customer at most `rows_per_group` count in a group."""


class Customers(_Measure, tag_field="measure", tag="customers", frozen=True, kw_only=True):
    """Number of distinct customers."""


class Sum(_Measure, tag_field="measure", tag="sum", frozen=True, kw_only=True):
    """Sum of a column.

    Attributes:
        column: What is summed; rows without a value add nothing.
        lower, upper: Within these is what one customer adds to one group in total.
        step: Values are rounded to multiples of it; chosen from the bounds where none is given.
    """

    column: str
    lower: Number
    upper: Number
    step: Number | None = None


class Mean(_Measure, tag_field="measure", tag="mean", frozen=True, kw_only=True):
    """Mean of a column over rows that have a value: a noisy sum, centred at the middle of the bounds, by a noisy count.

    Attributes:
        column: Of what.
        lower, upper: Values are clamped to these.
        step: As for `Sum`.
    """

    column: str
    lower: Number
    upper: Number
    step: Number | None = None


class Variance(_Measure, tag_field="measure", tag="variance", frozen=True, kw_only=True):
    """Variance (population) of a column over rows that have a value, through centred squares.

    Attributes:
        column: Of what.
        lower, upper: Values are clamped to these.
        step: As for `Sum`; the squares' is chosen from their bounds.
    """

    column: str
    lower: Number
    upper: Number
    step: Number | None = None


class Quantiles(_Measure, tag_field="measure", tag="quantile", frozen=True, kw_only=True):
    """Quantiles of a column, from a noisy tree of counts over equal bins between the bounds.

    Attributes:
        column: Of what.
        quantiles: Each in (0, 1).
        lower, upper: Values are clamped to these.
        bins: 16, 256 or 4,096; a quantile is the middle of a bin.
    """

    column: str
    quantiles: tuple[float, ...]
    lower: Number
    upper: Number
    bins: int = 256


class Distinct(_Measure, tag_field="measure", tag="distinct", frozen=True, kw_only=True):
    """Number of distinct values of a column.

    Attributes:
        column: Of what; no value is none of them.
        values_per_customer: Of one customer at most so many (group, value) pairs count, drawn uniformly.
    """

    column: str
    values_per_customer: int


Measure: TypeAlias = Count | Customers | Sum | Mean | Variance | Quantiles | Distinct


def label_of(measure: Measure) -> str:
    """The name of a column of the answer, such as ``count`` or ``net_sum``."""
    if measure.name:
        return measure.name
    kind = measure.__struct_config__.tag
    return str(kind) if isinstance(measure, Count | Customers) else f"{measure.column}_{kind}"


def output_columns(measure: Measure) -> tuple[str, ...]:
    """Names of the columns of the answer that a measure gives, without their intervals."""
    label = label_of(measure)
    return (
        tuple(f"{label}_{one:g}" for one in measure.quantiles) if isinstance(measure, Quantiles) else (label,)
    )


class Top(_Part, frozen=True, kw_only=True):
    """Show only the `groups` groups with the largest released value of a column; costs nothing more.

    Attributes:
        groups: How many.
        by: Name of the column; the first one where none is given.
    """

    groups: int
    by: str = ""


class Query(_Part, frozen=True, kw_only=True):
    """A question about the customers of a source. Holds no data and no budget.

    Attributes:
        source: Name of the source.
        steps: From its rows to those that are aggregated.
        group_by: Key columns of the groups; one group where there are none.
        bound: What one customer may contribute.
        measures: Columns of the answer.
        top: Which groups are shown.
    """

    source: str
    steps: tuple[Step, ...] = ()
    group_by: tuple[GroupKey, ...] = ()
    bound: Bound = Bound()
    measures: tuple[Measure, ...] = ()
    top: Top | None = None
