"""Whether a query can be asked of a source, from its schema alone: no row is read, so a refusal tells nothing."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Final

from dayfly.privacy.errors import InvalidQuery, QueryTooLarge

from .language import Kind, instant_of, kind_of, known_column, parse
from .numbers import exact, whole
from .queries import (
    Count,
    Customers,
    Derive,
    Distinct,
    GroupKey,
    Mean,
    Measure,
    PerCustomer,
    PerCustomerValue,
    Quantiles,
    Query,
    Step,
    Sum,
    Variance,
    Where,
    label_of,
    output_columns,
)

__all__ = ["KEYS", "MOST_GROUPS", "Checked", "check", "value_bounds"]

KEYS: Final = "keys"
"""What the selection of unknown keys is called in shares and explanations."""

MOST_GROUPS: Final = 1 << 20
"""Known groups that one release may have."""

_MOST_GROUPS_PER_CUSTOMER: Final = 4096
_MOST_KEYS: Final = 8
_MOST_MEASURES: Final = 64
_MOST_STEPS: Final = 64
_BINS: Final = (16, 256, 4096)


@dataclass(frozen=True, slots=True)
class Checked:
    """A query that can be asked.

    Attributes:
        query: It.
        columns: Kinds of the columns after the last step.
        groups_per_customer: L0.
        rows_per_group: Rows of one customer in one group, or None where nothing counts rows.
        groups: Number of known groups; None where some keys are unknown.
    """

    query: Query
    columns: Mapping[str, Kind]
    groups_per_customer: int
    rows_per_group: int | None
    groups: int | None

    @property
    def known(self) -> bool:
        """Whether all keys are public."""
        return self.groups is not None


def check(query: Query, schema: Mapping[str, Kind]) -> Checked:
    """Check a query against the columns of its source.

    Args:
        query: As written.
        schema: Kind of each column but the customer's.

    Raises:
        InvalidQuery: a rule is broken; the message names value, rule and way out.
        QueryTooLarge: the known keys make too many groups.
    """
    columns, single = _after_steps(query.steps, dict(schema))
    groups = _groups(query.group_by, columns)
    groups_per_customer = _groups_per_customer(query, single=single)
    rows = query.bound.rows_per_group
    if rows is not None:
        whole(rows, "rows_per_group", most=(1 << 31) - 1)
    elif single:
        rows = 1
    if query.bound.method not in {"uniform", "first_come"}:
        raise InvalidQuery(f"method={query.bound.method!r} must be uniform or first_come; choose one")
    _measures(query, columns, rows)
    return Checked(query, columns, groups_per_customer, rows, groups)


def _after_steps(steps: Iterable[Step], columns: dict[str, Kind]) -> tuple[dict[str, Kind], bool]:
    """Columns after the steps, and whether every customer has one row by then."""
    single = False
    for number, step in enumerate(steps):
        if number >= _MOST_STEPS:
            raise InvalidQuery(f"steps must be at most {_MOST_STEPS}; join conditions with and")
        if isinstance(step, Where):
            found = kind_of(parse(step.condition), columns)
            if found is not Kind.BOOL:
                raise InvalidQuery(
                    f"condition={step.condition!r} must be true or false, not {found}; compare it"
                )
        elif isinstance(step, Derive):
            columns = {
                **columns,
                **{_named(name): kind_of(parse(text), columns) for name, text in step.columns.items()},
            }
        else:
            columns = _per_customer(step, columns)
            single = not step.by
    return columns, single


def _named(name: str) -> str:
    if not 0 < len(name) <= 200 or not name.isprintable():
        raise InvalidQuery(f"column={name[:200]!r} must have 1 to 200 printable characters; rename it")
    return name


def _per_customer(step: PerCustomer, columns: Mapping[str, Kind]) -> dict[str, Kind]:
    if not step.columns:
        raise InvalidQuery(
            "per_customer columns=() must name at least one column; write orders='rows' for example"
        )
    made = {name: _key_kind(name, columns) for name in step.by}
    for name, value in step.columns.items():
        if name in made:
            raise InvalidQuery(f"column={name!r} must be new; it is one of by={list(step.by)}")
        made[_named(name)] = _per_customer_kind(name, value, columns)
    return made


def _per_customer_kind(name: str, value: PerCustomerValue, columns: Mapping[str, Kind]) -> Kind:
    if (value.function == "rows") != (value.column is None):
        raise InvalidQuery(
            f"{name}={value.function!r} must have a column, and rows must have none; write it so"
        )
    if value.column is None:
        return Kind.INTEGER
    found = known_column(value.column, columns)
    if value.function == "distinct":
        _key_kind(value.column, columns)
        return Kind.INTEGER
    if not found.numeric:
        raise InvalidQuery(
            f"{name}: column={value.column!r} must hold numbers for {value.function}, not {found}"
        )
    return Kind.NUMBER


def _key_kind(name: str, columns: Mapping[str, Kind]) -> Kind:
    found = known_column(name, columns)
    if found is Kind.NUMBER:
        raise InvalidQuery(
            f"column={name!r} must not be a key, because it holds fractions; give edges=[...] to make bins of it"
        )
    return found


def _groups(keys: tuple[GroupKey, ...], columns: Mapping[str, Kind]) -> int | None:
    names = [key.column for key in keys]
    if len(set(names)) != len(names) or len(names) > _MOST_KEYS:
        raise InvalidQuery(
            f"group_by={names} must name at most {_MOST_KEYS} columns, each once; drop the others"
        )
    count = 1
    for key in keys:
        if key.keys is not None and key.edges is not None:
            raise InvalidQuery(
                f"group_by column={key.column!r} must have keys or edges, not both; choose one"
            )
        count *= _edges(key, columns) if key.edges is not None else _keys(key, _key_kind(key.column, columns))
    if count > MOST_GROUPS:
        raise QueryTooLarge(
            f"groups={count} must be at most {MOST_GROUPS}; ask for fewer keys, or leave one column's keys out"
        )
    return count if all(key.known for key in keys) else None


def _edges(key: GroupKey, columns: Mapping[str, Kind]) -> int:
    if not known_column(key.column, columns).numeric:
        raise InvalidQuery(f"edges of column={key.column!r} must be of numbers; give keys instead")
    assert key.edges is not None
    edges = [float(exact(edge, "edge")) for edge in key.edges]
    if len(edges) < 2 or any(low >= high for low, high in pairwise(edges)):
        raise InvalidQuery(
            f"edges={list(key.edges)[:8]} must be at least two, ascending; sort them and drop repeats"
        )
    return len(edges) - 1


def _keys(key: GroupKey, kind: Kind) -> int:
    if key.keys is None:
        return 1
    if not key.keys or len(set(key.keys)) != len(key.keys):
        raise InvalidQuery(
            f"keys of column={key.column!r} must be at least one, each once; there are {len(key.keys)}"
        )
    for value in key.keys:
        _check_key(value, key.column, kind)
    return len(key.keys)


def _check_key(value: object, column: str, kind: Kind) -> None:
    wanted = {Kind.TEXT: str, Kind.BOOL: bool, Kind.INTEGER: int, Kind.TIME: str}[kind]
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not Kind.BOOL):
        raise InvalidQuery(f"key={value!r} of column={column!r} must be of kind {kind}; write it so")
    if kind is Kind.TIME:
        instant_of(str(value))
    if kind is Kind.INTEGER and not -(1 << 63) <= int(str(value)) < 1 << 63:
        raise InvalidQuery(f"key={value!r} of column={column!r} must fit in 64 bits; drop it")


def _groups_per_customer(query: Query, *, single: bool) -> int:
    asked = query.bound.groups_per_customer
    if asked is None:
        if query.group_by and not single:
            raise InvalidQuery(
                "groups_per_customer=<none> must be given where there are groups; write .bound(groups_per_customer=...), "
                "suggest() proposes a number"
            )
        return 1
    whole(asked, "groups_per_customer", most=_MOST_GROUPS_PER_CUSTOMER)
    return asked if query.group_by and not single else 1


def _measures(query: Query, columns: Mapping[str, Kind], rows: int | None) -> None:
    if not 0 < len(query.measures) <= _MOST_MEASURES:
        raise InvalidQuery(
            f"measures={len(query.measures)} must be 1 to {_MOST_MEASURES}; ask for .count(), .sum(...), ..."
        )
    for measure in query.measures:
        _measure(measure, columns, rows)
    names = [name for measure in query.measures for name in output_columns(measure)]
    taken = [KEYS, *(key.column for key in query.group_by), *names]
    repeated = sorted({name for name in taken if taken.count(name) > 1})
    if repeated:
        raise InvalidQuery(f"names={repeated} must be of one column each; pass name=... to the measures")
    if query.top is not None:
        whole(query.top.groups, "top_k groups", most=MOST_GROUPS)
        if query.top.by and query.top.by not in names:
            raise InvalidQuery(f"top_k by={query.top.by!r} must be one of {', '.join(names)}; choose one")


def _measure(measure: Measure, columns: Mapping[str, Kind], rows: int | None) -> None:
    label = _named(label_of(measure))
    if isinstance(measure, Count | Mean | Variance | Quantiles) and rows is None:
        raise InvalidQuery(
            f"rows_per_group=<none> must be given for {label!r}, which counts rows; write .bound(rows_per_group=...)"
        )
    if isinstance(measure, Count | Customers):
        return
    found = known_column(measure.column, columns)
    if isinstance(measure, Distinct):
        _key_kind(measure.column, columns)
        whole(measure.values_per_customer, "values_per_customer", most=_MOST_GROUPS_PER_CUSTOMER)
        return
    if not found.numeric:
        raise InvalidQuery(
            f"column={measure.column!r} of {label!r} must hold numbers, not {found}; choose another"
        )
    value_bounds(measure)
    if isinstance(measure, Quantiles):
        _quantiles(measure)
    elif measure.step is not None and exact(measure.step, "step") <= 0:
        raise InvalidQuery(f"step={measure.step!r} of {label!r} must be > 0; leave it out to have one chosen")


def value_bounds(measure: Sum | Mean | Variance | Quantiles) -> tuple[Fraction, Fraction]:
    """Lower and upper bound of a measure, exactly.

    Raises:
        InvalidQuery: they are no numbers, or reversed, or equal where something must lie between.
    """
    label = label_of(measure)
    lower, upper = exact(measure.lower, f"lower of {label!r}"), exact(measure.upper, f"upper of {label!r}")
    if lower > upper or (lower == upper and not isinstance(measure, Sum)) or lower == upper == 0:
        raise InvalidQuery(
            f"lower={measure.lower!r} upper={measure.upper!r} of {label!r} must be in order with something between; "
            "swap them, or choose public limits of what one customer adds"
        )
    return lower, upper


def _quantiles(measure: Quantiles) -> None:
    label = label_of(measure)
    asked = measure.quantiles
    if (
        not asked
        or len(set(asked)) != len(asked)
        or not all(math.isfinite(one) and 0 < one < 1 for one in asked)
    ):
        raise InvalidQuery(
            f"quantiles={list(asked)[:8]} of {label!r} must be distinct numbers in (0, 1); 0.5 is the median"
        )
    if measure.bins not in _BINS:
        raise InvalidQuery(
            f"bins={measure.bins!r} of {label!r} must be one of {_BINS}; more bins, more noise"
        )
