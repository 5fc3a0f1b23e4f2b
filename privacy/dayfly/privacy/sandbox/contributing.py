"""How much customers contribute, asked privately: the one paid query from which bounds are chosen and bias is foreseen."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from dayfly.privacy.errors import InvalidQuery

from .language import col, literal, text_from
from .numbers import exact, whole
from .queries import Bound, Customers, GroupKey, PerCustomer, PerCustomerValue, Query, Step, Where
from .results import Release
from .workloads import Workload

__all__ = ["Contributions", "contribution_query", "workload_of"]

_GROUPS: Final = "groups"
_ROWS: Final = "rows"
_STEPS: Final = (
    1,
    2,
    3,
    4,
    6,
    8,
    12,
    16,
    24,
    32,
    48,
    64,
    96,
    128,
    192,
    256,
    384,
    512,
    768,
    1024,
    1536,
    2048,
    3072,
    4096,
)


@dataclass(frozen=True, slots=True, eq=False)
class Contributions:
    """A paid histogram of customers by number of groups and rows per group.

    Attributes:
        release: What was released and paid.
        workload: The same as a workload; cells that noise alone could have made are taken as empty.
    """

    release: Release
    workload: Workload


def contribution_query(query: Query, *, most_groups: int, most_rows: int) -> Query:
    """A query for the number of customers by groups per customer and mean rows per group, each customer in one cell.

    Args:
        query: Its steps and keys are taken.
        most_groups: Last edge of the bins of groups; customers with more are not counted.
        most_rows: Last edge of the bins of rows.
    """
    asked = tuple(_only_asked(key) for key in query.group_by)
    per_group = PerCustomer(
        columns={_ROWS: PerCustomerValue(function="rows")}, by=tuple(key.column for key in query.group_by)
    )
    per_customer = PerCustomer(
        columns={
            _GROUPS: PerCustomerValue(function="rows"),
            _ROWS: PerCustomerValue(function="mean", column=_ROWS),
        }
    )
    if any(key.edges is not None for key in query.group_by):
        raise InvalidQuery(
            "contributions must be over keys, not edges; derive a column with the bins and group by it"
        )
    if _ROWS in per_group.by or _GROUPS in per_group.by:
        raise InvalidQuery(
            f"group_by={list(per_group.by)} must not be called rows or groups here; derive another name"
        )
    return Query(
        source=query.source,
        steps=(*query.steps, *asked, per_group, per_customer),
        group_by=(
            GroupKey(column=_GROUPS, edges=_edges(whole(most_groups, "most_groups", most=4096))),
            GroupKey(column=_ROWS, edges=_edges(whole(most_rows, "most_rows", most=4096))),
        ),
        bound=Bound(groups_per_customer=1, rows_per_group=1),
        measures=(Customers(),),
    )


def _only_asked(key: GroupKey) -> Step:
    """Rows whose key is asked for."""
    column = col(key.column)
    asked = ~column.is_null() if key.keys is None else column.isin([literal(value) for value in key.keys])
    return Where(condition=text_from(asked))


def _edges(most: int) -> tuple[int, ...]:
    return (*(edge for edge in _STEPS if edge <= most), most + 1)


def workload_of(release: Release, width: float) -> Workload:
    """The workload that a released histogram tells of.

    Args:
        release: It.
        width: What noise alone can make of an empty cell.

    Raises:
        InvalidQuery: no cell stands out of the noise; the release stays paid.
    """
    first, second = (_middles(key) for key in release.query.group_by)
    groups, rows, customers = dict.fromkeys(first, 0.0), dict.fromkeys(second, 0.0), 0.0
    counts = release.table["customers"].to_pylist()
    for number, count in enumerate(counts):
        if count > width:
            customers += count
            groups[first[number // len(second)]] += count
            rows[second[number % len(second)]] += count * first[number // len(second)]
    if customers == 0:
        raise InvalidQuery(
            f"customers must stand out of noise of +/- {width:.4g} in some cell, and none does; pay more, or ask with smaller "
            "most_groups and most_rows"
        )
    return Workload(
        customers=customers,
        groups_per_customer={value: weight for value, weight in groups.items() if weight},
        rows_per_group={value: weight for value, weight in rows.items() if weight},
    )


def _middles(key: GroupKey) -> list[float]:
    assert key.edges is not None
    edges = [int(exact(edge, "edge")) for edge in key.edges]
    return [(low + high - 1) / 2 for low, high in pairwise(edges)]
