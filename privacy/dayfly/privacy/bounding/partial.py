"""Partial results: bounded group-by over data that comes in pieces, on one machine or many."""

import hashlib
import hmac
from dataclasses import replace
from fractions import Fraction
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dayfly.privacy.errors import InvalidPartial

from .columns import Columns, keyed
from .contribution import Bounded, Contribution
from .group_by import DEFAULT_MAX_GROUPS, batches
from .held import Held
from .kernels import Rows
from .keys import order_of_keys, present_codes
from .lattice import Lattice
from .salts import SaltedKeys
from .slots import Batch, Method, check_method

__all__ = ["Partial"]

_MAGIC: Final = b"dayfly-partial-1"
_TAG_BYTES: Final = 32


class Partial:
    """A bounded group-by that grows batch by batch and merges with others of the same salt, bounds and method.

    It holds, for each customer, at most L0 groups with the exact count and total of that customer's rows in them.

    With "uniform", any split of the data into batches and partials, merged in any order and any tree, finishes with exactly what
    `Columns.group_by` gives for the whole. A (customer, group)'s priority is a function of the salt and the two keys, so each partial keeps
    the customer's L0 smallest of those it saw; a group among the L0 smallest of the whole is among the L0 smallest of every partial that
    saw it, which therefore kept every one of its rows (`kernels` shows that a group once evicted never returns).

    With "first_come", batches added one after the other finish with what the whole gives in that order. Two partials merge only when they
    share no customer, because a group that came late in one piece may have come early in another, and its rows are gone: `merge` refuses it.

    Exact totals and customers' keys are in here, so a partial (and its bytes) is as private as the data, and so is its salt.

    Args:
        contribution: Bounds of a customer.
        method: "uniform" or "first_come".
        salt: 16 secret random bytes, the same for all partials of one release, fresh for each release.
        lattice: Where values go.
        max_groups: Largest number of groups.

    Raises:
        InvalidArgument: The salt is not 16 bytes, or the method unknown.

    Guarantees:
        Claim: as `bounded_group_by`, whatever was added or merged: the sensitivity is that of `contribution` for every salt.

        Assumes: for "first_come", that batches keep each customer's rows in the same order when another customer is taken out.
    """

    def __init__(
        self,
        contribution: Contribution,
        *,
        method: Method = "uniform",
        salt: bytes,
        lattice: Lattice | None = None,
        max_groups: int = DEFAULT_MAX_GROUPS,
    ) -> None:
        self.contribution = contribution
        self.method = check_method(method)
        self.lattice = Lattice() if lattice is None else lattice
        self._held = Held(SaltedKeys.of(salt), l0=contribution.l0, method=self.method, max_groups=max_groups)

    def add(self, columns: Columns) -> None:
        """Add a batch of rows.

        Raises:
            InvalidPartial: The batch has other key columns or types, or another lattice, than what was added before; or values where there
                were none.
            TooManyGroups: There are more groups than `max_groups`.
        """
        if columns.values is not None and columns.lattice != self.lattice:
            raise InvalidPartial(
                f"lattice={columns.lattice.step} of the batch must be {self.lattice.step}; encode it with the partial's lattice"
            )
        present = present_codes(columns.customers, len(columns.customer_keys))
        customers, groups = self._held.absorb(
            columns.customer_keys,
            present,
            columns.group_keys,
            known=columns.known,
            valued=columns.values is not None,
        )
        table = self._held.table
        for batch in batches(table, columns.customers, columns.groups, columns.values, self.lattice):
            codes = (_recoded(codes, customers) for codes in batch.customers)
            rows = (
                piece._replace(
                    customers=_recoded(piece.customers, customers), groups=_recoded(piece.groups, groups)
                )
                for piece in batch.rows
            )
            table.offer(replace(batch, customers=codes, rows=rows))

    def merge(self, other: "Partial") -> None:
        """Add everything that `other` holds; `other` stays as it is.

        Raises:
            InvalidPartial: `other` has another salt, other bounds, method, lattice or key columns; or the method is "first_come" and both
                hold rows of one customer.
            TooManyGroups: There are more groups than `max_groups`.
        """
        held, theirs = self._held, other._held  # noqa: SLF001 - another of this class
        mine = (held.salted.tag, self.contribution, self.method, self.lattice)
        if mine != (theirs.salted.tag, other.contribution, other.method, other.lattice):
            raise InvalidPartial(
                "other must have the same salt, contribution, method and lattice; make all partials of a release alike"
            )
        if theirs.group_keys is None:
            return
        if self.method == "first_come" and not held.customers.keys().isdisjoint(theirs.customers):
            raise InvalidPartial(
                "other holds customers that are here already, and first come first served cannot be merged exactly; "
                "split the data by customer, add batches in order, or use method='uniform'"
            )
        customers, groups = held.absorb(
            theirs.customer_array(),
            np.ones(len(theirs.customers), np.bool_),
            theirs.group_keys,
            known=theirs.known,
            valued=theirs.valued,
        )
        rows = theirs.table.entries()[1]
        rows = rows._replace(customers=customers[rows.customers], groups=groups[rows.groups])
        held.table.offer(Batch.of(rows))

    def finish(self) -> Bounded:
        """Totals of everything so far; more may be added afterwards.

        Returns:
            Exact bounded totals with `keys`: in the given order when keys were known, else sorted and only those that somebody kept.
        """
        bounded = self._held.table.settle(self.contribution)
        if self._held.group_keys is None:
            return Bounded(bounded.counts, bounded.sums, bounded.customers, pa.table({}))
        if self._held.known or not self._held.group_keys.num_columns:
            return keyed(bounded, self._held.group_keys, known=True)
        order = order_of_keys(self._held.group_keys)
        sorted_totals = Bounded(bounded.counts[order], bounded.sums[order], bounded.customers[order])
        return keyed(sorted_totals, self._held.group_keys.take(pa.array(order)), known=False)

    def to_bytes(self) -> bytes:
        """All of it, as an Arrow stream per table, authenticated with the salt; the salt itself is not in it."""
        _, rows = self._held.table.entries()
        entries = pa.table([pa.array(column) for column in rows], names=["customer", "group", "count", "sum"])
        keys = pa.table({}) if self._held.group_keys is None else self._held.group_keys
        body = msgspec.msgpack.encode(
            _Stored(
                contribution=(
                    self.contribution.l0,
                    self.contribution.rows_per_group,
                    self.contribution.sum_lower,
                    self.contribution.sum_upper,
                ),
                method=self.method,
                step=(self.lattice.step.numerator, self.lattice.step.denominator),
                max_groups=self._held.max_groups,
                empty=self._held.group_keys is None,
                known=self._held.known,
                valued=self._held.valued,
                customers=_written(pa.table([self._held.customer_array()], names=["customer"])),
                groups=_written(keys),
                entries=_written(entries),
            )
        )
        return _MAGIC + _tag(self._held.salted.tag, body) + body

    @classmethod
    def from_bytes(cls, data: bytes, *, salt: bytes) -> "Partial":
        """Read what `to_bytes` wrote.

        Raises:
            InvalidPartial: It is truncated or altered, or was written under another salt.
        """
        partial_tag = SaltedKeys.of(salt).tag
        head = len(_MAGIC) + _TAG_BYTES
        body = data[head:]
        if data[: len(_MAGIC)] != _MAGIC or not hmac.compare_digest(
            data[len(_MAGIC) : head], _tag(partial_tag, body)
        ):
            raise InvalidPartial(
                f"data of {len(data)} bytes must be a whole partial result of this salt; ask its maker for it again"
            )
        stored = msgspec.msgpack.decode(body, type=_Stored)
        partial = cls(
            Contribution(*stored.contribution),
            method=check_method(stored.method),
            salt=salt,
            lattice=Lattice(Fraction(*stored.step)),
            max_groups=stored.max_groups,
        )
        if not stored.empty:
            partial._fill(stored)
        return partial

    def _fill(self, stored: "_Stored") -> None:
        keys = _read(stored.customers).column(0).combine_chunks()
        everybody = np.ones(len(keys), np.bool_)
        self._held.absorb(keys, everybody, _read(stored.groups), known=stored.known, valued=stored.valued)
        customers, groups, counts, sums = (np.asarray(column) for column in _read(stored.entries).columns)
        self._held.table.offer(Batch.of(Rows(customers, groups, counts, sums)))


class _Stored(msgspec.Struct, frozen=True):
    """Bytes of a partial."""

    contribution: tuple[int, int, int, int]
    method: str
    step: tuple[int, int]
    max_groups: int
    empty: bool
    known: bool
    valued: bool
    customers: bytes
    groups: bytes
    entries: bytes


def _tag(key: bytes, body: bytes) -> bytes:
    return hashlib.blake2b(body, key=key, digest_size=_TAG_BYTES).digest()


def _written(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    written: bytes = sink.getvalue().to_pybytes()
    return written


def _read(data: bytes) -> pa.Table:
    return pa.ipc.open_stream(data).read_all().combine_chunks()


def _recoded(codes: NDArray[np.int32], new: NDArray[np.int32]) -> NDArray[np.int32]:
    """`new[code]` of each code; `new` ends with what -1 becomes."""
    recoded: NDArray[np.int32] = new[np.maximum(codes, -1)]
    return recoded
