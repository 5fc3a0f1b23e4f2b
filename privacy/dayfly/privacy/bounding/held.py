"""What a partial result holds: the slot table, and the keys that its codes stand for."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dayfly.privacy.errors import InvalidPartial, TooManyGroups

from .keys import key_tuples
from .salts import SaltedKeys
from .slots import Method, SlotTable

__all__ = ["Held"]


class Held:
    """Slots with growing key tables; codes are in order of appearance.

    Args:
        salted: Sub-keys of the salt.
        l0: Groups a customer may be in.
        method: "uniform" or "first_come".
        max_groups: Largest number of groups.
    """

    __slots__ = (
        "customer_type",
        "customers",
        "group_keys",
        "groups",
        "known",
        "max_groups",
        "salted",
        "table",
        "valued",
    )

    def __init__(self, salted: SaltedKeys, *, l0: int, method: Method, max_groups: int) -> None:
        self.salted = salted
        self.max_groups = max_groups
        self.table = SlotTable(np.empty(0, np.uint64), np.empty(0, np.uint64), l0, method)
        self.customers: dict[Any, int] = {}
        self.customer_type: pa.DataType = pa.int64()
        self.groups: dict[tuple[Any, ...], int] = {}
        self.group_keys: pa.Table | None = None
        self.known = False
        self.valued = False

    def customer_array(self) -> pa.Array:
        """Keys of customers, by code."""
        return pa.array(list(self.customers), self.customer_type)

    def absorb(
        self,
        customer_keys: pa.Array,
        present: NDArray[np.bool_],
        group_keys: pa.Table,
        *,
        known: bool,
        valued: bool,
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Give codes to new keys; nothing changes when they do not fit.

        Args:
            customer_keys: Key of each customer code.
            present: Which of them have rows.
            group_keys: Key of each group code.
            known: Whether group keys were given.
            valued: Whether rows have values.

        Returns:
            The code here of each customer code and of each group code, with a last entry of -1 for code -1.
        """
        self._fits(customer_keys, group_keys, known=known, valued=valued)
        groups = self._absorb_groups(group_keys)
        used = customer_keys.filter(pa.array(present))
        new = [key for key in used.to_pylist() if key not in self.customers]
        self.table.add_customers(self.salted.customer_words(pa.array(new, customer_keys.type)))
        self.customers.update(
            zip(new, range(len(self.customers), len(self.customers) + len(new)), strict=True)
        )
        customers = np.full(len(customer_keys) + 1, -1, np.int32)
        customers[:-1][present] = [self.customers[key] for key in used.to_pylist()]
        self.known, self.valued = known, valued
        if len(customer_keys):
            self.customer_type = customer_keys.type
        return customers, groups

    def _fits(self, customer_keys: pa.Array, group_keys: pa.Table, *, known: bool, valued: bool) -> None:
        if self.customers and len(customer_keys) and customer_keys.type != self.customer_type:
            raise InvalidPartial(
                f"customer keys are {customer_keys.type}, must be {self.customer_type} as before; cast the column"
            )
        if self.group_keys is None:
            return
        if (known, valued) != (self.known, self.valued):
            raise InvalidPartial(
                f"known keys={known}, values={valued} must be as before ({self.known}, {self.valued}); encode batches alike"
            )
        if not group_keys.schema.equals(self.group_keys.schema):
            raise InvalidPartial(
                f"group keys are {_columns(group_keys)}, must be {_columns(self.group_keys)} as before; encode batches alike"
            )
        if known and group_keys.num_columns and not group_keys.equals(self.group_keys):
            raise InvalidPartial(
                "known keys must be the same, in the same order, in every batch; pass one list to all"
            )

    def _absorb_groups(self, keys: pa.Table) -> NDArray[np.int32]:
        rows = key_tuples(keys) if keys.num_columns else [()]
        new = [place for place, key in enumerate(rows) if key not in self.groups]
        if len(self.groups) + len(new) > self.max_groups:
            raise TooManyGroups(
                f"max_groups={self.max_groups} must be at least the number of groups; group by coarser keys or raise max_groups"
            )
        fresh = keys.take(pa.array(new, pa.int64())) if keys.num_columns else keys
        words = self.salted.group_words(fresh) if keys.num_columns else np.zeros(len(new), np.uint64)
        together = np.concatenate((self.table.group_words, words))
        if np.unique(together).size < together.size:
            raise InvalidPartial(
                "salt gives two groups one priority, so pieces could disagree; draw another salt"
            )
        self.table.add_groups(words)
        first = len(self.groups)
        self.groups.update({rows[place]: first + step for step, place in enumerate(new)})
        if self.group_keys is None:
            self.group_keys = keys
        elif new:
            self.group_keys = pa.concat_tables([self.group_keys, fresh]).combine_chunks()
        return np.array([*(self.groups[key] for key in rows), -1], np.int32)


def _columns(keys: pa.Table) -> dict[str, str]:
    return {field.name: str(field.type) for field in keys.schema}
