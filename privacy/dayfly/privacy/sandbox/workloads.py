"""What an analyst knows, or assumes, about how customers contribute: public numbers from which errors are foreseen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dayfly.privacy.errors import InvalidQuery

__all__ = ["Distribution", "Workload"]

Distribution = Mapping[float, float]
"""Value -> weight; weights need not add up to one."""


@dataclass(frozen=True, slots=True)
class Workload:
    """How customers contribute: assumed, or from `SandboxQuery.contributions`.

    Attributes:
        customers: Customers with at least one row.
        groups_per_customer: Number of groups of a customer -> weight.
        rows_per_group: Rows of a customer in one group -> weight.
        groups: Groups that occur; needed where keys are unknown.
        totals: By column, total of a customer in one group -> weight; what bounds of sums cut off is foreseen from it.

    Raises:
        InvalidQuery: a number is not above zero, or a distribution is empty.
    """

    customers: float
    groups_per_customer: Distribution = field(default_factory=lambda: {1: 1.0})
    rows_per_group: Distribution = field(default_factory=lambda: {1: 1.0})
    groups: int | None = None
    totals: Mapping[str, Distribution] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.customers > 0:
            raise InvalidQuery(
                f"customers={self.customers!r} must be > 0; give the number of customers you expect"
            )
        named = {
            "groups_per_customer": self.groups_per_customer,
            "rows_per_group": self.rows_per_group,
            **self.totals,
        }
        for name, distribution in named.items():
            if (
                not distribution
                or any(not weight >= 0 for weight in distribution.values())
                or not sum(distribution.values()) > 0
            ):
                raise InvalidQuery(
                    f"{name} must have a weight above zero and none below; give value -> weight"
                )
        for name in ("groups_per_customer", "rows_per_group"):
            if min(named[name]) < 0:
                raise InvalidQuery(
                    f"{name}={min(named[name])!r} must be >= 0; it is a number of groups or rows"
                )

    def group_share(self, most: int) -> float:
        """Share of the (customer, group) pairs that is left when a customer keeps at most so many groups."""
        return _share(self.groups_per_customer, lambda value: min(value, most))

    def row_share(self, most: int) -> float:
        """Share of the rows that is left when a customer keeps at most so many in a group."""
        return _share(self.rows_per_group, lambda value: min(value, most))

    def total_share(self, column: str, lower: float, upper: float) -> float | None:
        """Bounded over unbounded total of a column; None where its totals are not known or add up to nothing."""
        found = self.totals.get(column)
        if found is None or _mean(found, float) == 0:
            return None
        return _share(found, lambda value: min(max(value, lower), upper))

    def pairs_per_group(self, groups: int) -> float:
        """Expected customers in a group."""
        return self.customers * _mean(self.groups_per_customer, float) / groups

    def rows_in_group(self, groups: int) -> float:
        """Expected rows in a group."""
        return self.pairs_per_group(groups) * _mean(self.rows_per_group, float)

    def total_in_group(self, column: str, groups: int) -> float | None:
        """Expected total of a column in a group; None where its totals are not known."""
        found = self.totals.get(column)
        return None if found is None else self.pairs_per_group(groups) * _mean(found, float)


def _mean(distribution: Distribution, of: Callable[[float], float]) -> float:
    return sum(of(value) * weight for value, weight in distribution.items()) / sum(distribution.values())


def _share(distribution: Distribution, bounded: Callable[[float], float]) -> float:
    whole = _mean(distribution, float)
    return _mean(distribution, bounded) / whole if whole else 1.0
