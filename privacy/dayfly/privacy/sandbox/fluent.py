"""The fluent way to write a query: every method returns a new one; nothing is read, checked or spent yet."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Literal, Self

import msgspec

from dayfly.privacy.errors import InvalidQuery

from .language import Expression, literal, text_from
from .numbers import Number
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
    Top,
    Variance,
    Where,
)

__all__ = ["Fluent", "calendar_keys"]

_Function = Literal["rows", "sum", "mean", "min", "max", "distinct"]
_VALUES = "rows, or ('sum' | 'mean' | 'min' | 'max' | 'distinct', column)"


class Fluent(ABC):
    """Methods that write a query. A subclass says where the query is kept."""

    __slots__ = ()

    @abstractmethod
    def _query(self) -> Query:
        """The query as written so far."""

    @abstractmethod
    def _with(self, query: Query) -> Self:
        """The same with another query."""

    def _step(self, step: Step) -> Self:
        query = self._query()
        return self._with(msgspec.structs.replace(query, steps=(*query.steps, step)))

    def _measure(self, measure: Measure) -> Self:
        query = self._query()
        return self._with(msgspec.structs.replace(query, measures=(*query.measures, measure)))

    def where(self, condition: Expression | str) -> Self:
        """Keep the rows for which a condition is true.

        Args:
            condition: Such as ``col("quantity") > 0`` or ``"quantity > 0"``.
        """
        return self._step(Where(condition=text_from(condition)))

    def derive(self, **columns: Expression | str) -> Self:
        """Add columns, or replace them.

        Args:
            **columns: Expressions by name; all see the columns as they are before this step.
        """
        return self._step(Derive(columns={name: text_from(value) for name, value in columns.items()}))

    def per_customer(self, *, by: Sequence[str] = (), **columns: str | tuple[str, str]) -> Self:
        """Aggregate each customer's rows into one, such as ``per_customer(orders=("distinct", "invoice"))``.

        Args:
            by: Further columns to keep apart by: one row per customer and value of these.
            **columns: ``"rows"``, or ``(function, column)`` with function sum, mean, min, max or distinct, by name.

        Raises:
            InvalidQuery: a column is written in another way.
        """
        found = {name: _per_customer_value(name, value) for name, value in columns.items()}
        return self._step(PerCustomer(columns=found, by=tuple(by)))

    def group_by(
        self, column: str, *, keys: Iterable[object] | None = None, edges: Iterable[Number] | None = None
    ) -> Self:
        """Answer for each value of a column; called again, for each combination.

        Args:
            column: The key.
            keys: The values asked for. Without `keys` and `edges` they are found in the data, which needs a delta.
            edges: Edges of the bins of a numeric column, ascending.
        """
        key = GroupKey(
            column=column,
            keys=None if keys is None else tuple(literal(value) for value in keys),
            edges=None if edges is None else tuple(edges),
        )
        query = self._query()
        return self._with(msgspec.structs.replace(query, group_by=(*query.group_by, key)))

    def histogram(
        self, column: str, *, keys: Iterable[object] | None = None, edges: Iterable[Number] | None = None
    ) -> Self:
        """Count of rows for each of some known values, or in each bin, of a column.

        Args:
            column: The column.
            keys: As for `group_by`; these or edges must be given.
            edges: As for `group_by`.

        Raises:
            InvalidQuery: neither is given.
        """
        if keys is None and edges is None:
            raise InvalidQuery(
                f"histogram of column={column!r} must have keys or edges; for unknown keys write group_by(...).count()"
            )
        return self.group_by(column, keys=keys, edges=edges).count()

    def bound(
        self,
        *,
        groups_per_customer: int | None = None,
        rows_per_group: int | None = None,
        method: Literal["uniform", "first_come"] = "uniform",
    ) -> Self:
        """State what one customer may contribute; more of it is left out, at random.

        Args:
            groups_per_customer: To at most so many groups.
            rows_per_group: At most so many rows to one group.
            method: `uniform` sample of a customer's groups, or `first_come`, which depends on the order of the rows.
        """
        query = self._query()
        bound = msgspec.structs.replace(query.bound, method=method)
        if groups_per_customer is not None:
            bound = msgspec.structs.replace(bound, groups_per_customer=groups_per_customer)
        if rows_per_group is not None:
            bound = msgspec.structs.replace(bound, rows_per_group=rows_per_group)
        return self._with(msgspec.structs.replace(query, bound=bound))

    def count(self, *, name: str = "") -> Self:
        """Number of rows."""
        return self._measure(Count(name=name))

    def customers(self, *, name: str = "") -> Self:
        """Number of distinct customers."""
        return self._measure(Customers(name=name))

    def sum(
        self, column: str, *, lower: Number, upper: Number, step: Number | None = None, name: str = ""
    ) -> Self:
        """Sum of a column; one customer adds a total within [lower, upper] to one group."""
        return self._measure(Sum(column=column, lower=lower, upper=upper, step=step, name=name))

    def mean(
        self, column: str, *, lower: Number, upper: Number, step: Number | None = None, name: str = ""
    ) -> Self:
        """Mean of a column whose values are clamped to [lower, upper]."""
        return self._measure(Mean(column=column, lower=lower, upper=upper, step=step, name=name))

    def variance(
        self, column: str, *, lower: Number, upper: Number, step: Number | None = None, name: str = ""
    ) -> Self:
        """Population variance of a column whose values are clamped to [lower, upper]."""
        return self._measure(Variance(column=column, lower=lower, upper=upper, step=step, name=name))

    def quantiles(
        self,
        column: str,
        quantiles: Sequence[float] = (0.25, 0.5, 0.75),
        *,
        lower: Number,
        upper: Number,
        bins: int = 256,
        name: str = "",
    ) -> Self:
        """Quantiles of a column whose values are clamped to [lower, upper]; each is known to one bin."""
        measure = Quantiles(
            column=column,
            quantiles=tuple(quantiles),
            lower=lower,
            upper=upper,
            bins=bins,
            name=name,
        )
        return self._measure(measure)

    def distinct(self, column: str, *, values_per_customer: int, name: str = "") -> Self:
        """Number of distinct values of a column; of one customer at most `values_per_customer` of them count."""
        return self._measure(Distinct(column=column, values_per_customer=values_per_customer, name=name))

    def top_k(self, groups: int, *, by: str = "") -> Self:
        """Show only the groups with the largest released values of a column; the loss is that of releasing all."""
        return self._with(msgspec.structs.replace(self._query(), top=Top(groups=groups, by=by)))


def _per_customer_value(name: str, value: str | tuple[str, str]) -> PerCustomerValue:
    made = (
        {"function": value}
        if isinstance(value, str)
        else dict(zip(("function", "column"), value, strict=False))
    )
    try:
        return msgspec.convert(made, PerCustomerValue)
    except msgspec.ValidationError:
        raise InvalidQuery(f"{name}={value!r} must be {_VALUES}; write one of them") from None


def calendar_keys(unit: Literal["day", "week", "month"], first: date, last: date) -> tuple[str, ...]:
    """Known keys for a truncated time: the days, Mondays or first days of months from `first` through `last`.

    Raises:
        InvalidQuery: `last` lies before `first`, or the unit is another.

    >>> calendar_keys("month", date(2011, 11, 5), date(2012, 1, 1))
    ('2011-11-01', '2011-12-01', '2012-01-01')
    """
    start, end = (one.date() if isinstance(one, datetime) else one for one in (first, last))
    if end < start or unit not in {"day", "week", "month"}:
        raise InvalidQuery(
            f"unit={unit!r} first={start} last={end} must be day, week or month, in order; check them"
        )
    if unit == "month":
        months = range(start.year * 12 + start.month - 1, end.year * 12 + end.month)
        return tuple(date(month // 12, month % 12 + 1, 1).isoformat() for month in months)
    if unit == "week":
        start -= timedelta(days=start.weekday())
    days = range(0, (end - start).days + 1, 7 if unit == "week" else 1)
    return tuple((start + timedelta(days=day)).isoformat() for day in days)
