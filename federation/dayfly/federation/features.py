"""A channel's feature matrix: named columns and customers, from arrays, Arrow tables, files, or windows of a running Dayfly store.

Everything that cannot be trained on is refused here, before a message is sent, with the party's name, the columns and the cause.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from dayfly.engine.window_features import WindowColumns, WindowFeature
from dayfly.federation.errors import InvalidData
from dayfly.federation.feature_checks import insist_on_names, insist_on_shapes, insist_on_values
from dayfly.federation.horizontal import Shard
from dayfly.federation.runs.data import load_table
from dayfly.federation.vertical import VerticalData
from dayfly.privacy.consent import ConsentRequest

__all__ = ["Features", "StoreWindows"]

Floats = NDArray[np.float64]


class StoreWindows(Protocol):
    """A running store; `dayfly.engine.durable.Engine` is one."""

    def window_features(
        self, subjects: Sequence[bytes], wanted: Sequence[WindowFeature], need: ConsentRequest
    ) -> WindowColumns:
        """Columns of one instant, of what consent covers."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """A matrix that can be trained on.

    Attributes:
        party: The channel.
        customers: Identifiers, one per row, each once.
        names: Of the columns, each once.
        values: float64 (customers, names), finite.
        label: Name of the label; None where the channel has none.
        labels: float64 (customers,), finite; None as well.

    Raises:
        InvalidData: names the party, the columns and the cause.
    """

    party: str
    customers: tuple[str, ...]
    names: tuple[str, ...]
    values: Floats
    label: str | None = None
    labels: Floats | None = None

    def __post_init__(self) -> None:
        insist_on_names(self)
        insist_on_shapes(self)
        insist_on_values(self)

    @classmethod
    def of_arrays(
        cls,
        party: str,
        names: Sequence[str],
        values: ArrayLike,
        *,
        customers: Sequence[object],
        label: str | None = None,
        labels: ArrayLike | None = None,
    ) -> Self:
        """From NumPy arrays, or what becomes one.

        Args:
            party: The channel.
            names: Of the columns.
            values: Shape (customers, names).
            customers: Identifiers, one per row; texts, or what is written as one.
            label: Name of the label.
            labels: Shape (customers,).

        Raises:
            InvalidData: as the class, or the arrays hold no numbers.
        """
        return cls(
            party,
            tuple(str(one) for one in customers),
            tuple(names),
            _floats(party, "features", values),
            label,
            None if labels is None else _floats(party, f"label {label!r}", labels),
        )

    @classmethod
    def of_table(
        cls,
        party: str,
        table: pa.Table,
        *,
        customer: str,
        features: Sequence[str] | None = None,
        label: str | None = None,
    ) -> Self:
        """From an Arrow table.

        Args:
            party: The channel.
            table: One row per customer.
            customer: Column with the identifiers.
            features: Columns to take; by default all that are numbers or booleans and nothing else.
            label: Column with the label.

        Raises:
            InvalidData: as the class, or a column is missing, named twice, no number, or has rows without a value.
        """
        twice = sorted(name for name, times in Counter(table.column_names).items() if times > 1)
        if twice:
            raise InvalidData(party, f"names columns {twice} twice; rename or leave out one of each")
        special = {customer, *([] if label is None else [label])}
        if features is None:
            features = [
                field.name for field in table.schema if field.name not in special and _is_number(field.type)
            ]
        missing = [name for name in (*features, *sorted(special)) if name not in table.column_names]
        if missing:
            raise InvalidData(
                party, f"has no columns {missing}, only {table.column_names}; name those that are there"
            )
        known = table[customer]
        if known.null_count:
            raise InvalidData(
                party, f"has {known.null_count} rows without a customer {customer!r}; drop them"
            )
        columns = [_column(party, table, name) for name in features]
        return cls(
            party,
            tuple(str(one) for one in known.to_pylist()),
            tuple(features),
            np.column_stack(columns) if columns else np.zeros((table.num_rows, 0)),
            label,
            None if label is None else _column(party, table, label),
        )

    @classmethod
    def load(
        cls,
        party: str,
        path: Path,
        *,
        customer: str,
        features: Sequence[str] | None = None,
        label: str | None = None,
    ) -> Self:
        """From a file: .parquet, .arrow, .feather, .csv, .npz with one array per column, or .npy with a structured one.

        Raises:
            InvalidData: as `of_table`, or the file cannot be read.
        """
        return cls.of_table(party, load_table(party, path), customer=customer, features=features, label=label)

    @classmethod
    def of_store(
        cls,
        party: str,
        store: StoreWindows,
        customers: Sequence[str],
        wanted: Sequence[WindowFeature],
        need: ConsentRequest,
        *,
        pseudonym: Callable[[str], bytes],
    ) -> Self:
        """From windows over the events of a running store, as columns of one instant.

        Customers whom the store does not know, or who do not consent to the purpose, are left out; so are events that came through
        a channel which their consent does not cover.

        Args:
            party: The channel.
            store: Which is running.
            customers: Identifiers by which channels are aligned.
            wanted: The columns.
            need: Consent that is needed: the purpose of the joint model above all.
            pseudonym: Identifier to the 16 bytes by which the store knows it (`privacy.deident`).

        Raises:
            InvalidData: as the class; nobody consents, for one.
            InvalidArgument: a column names no event type or field of the store's policy.
        """
        found = store.window_features([pseudonym(one) for one in customers], wanted, need)
        names = tuple(one.name for one in wanted)
        kept = tuple(one for one, usable in zip(customers, found.usable, strict=True) if usable)
        if customers and not kept:
            raise InvalidData(
                party,
                f"has no customer in its store who consents to purpose={need.purpose!r}; ask them, or leave the channel out",
            )
        return cls(party, kept, names, found.values[found.usable])

    def table(self, *, customer: str = "customer", **columns: ArrayLike) -> pa.Table:
        """As a table that a channel's settings can name, once it is written to a file.

        Args:
            customer: Name of the column of identifiers.
            columns: More columns, one value per customer: until when consents stand, for one.

        Raises:
            InvalidData: two columns have one name, or a column has not one value per customer.
        """
        given: dict[str, ArrayLike] = {customer: np.array(self.customers)}
        given |= {name: self.values[:, place] for place, name in enumerate(self.names)}
        if self.label is not None and self.labels is not None:
            given[self.label] = self.labels
        given |= columns
        if len(given) != 1 + len(self.names) + (self.label is not None) + len(columns):
            raise InvalidData(self.party, f"names a column of {sorted(given)} twice; rename one of them")
        try:
            return pa.table({name: np.asarray(values) for name, values in given.items()})
        except (pa.ArrowInvalid, ValueError):
            raise InvalidData(
                self.party, f"has {len(self.customers)} customers; each column must have one value for each"
            ) from None

    def vertical(self) -> VerticalData:
        """For vertical training, in the order of `customers`.

        Raises:
            InvalidData: a column is constant. (In horizontal training it may be constant in one channel and vary over all.)
        """
        flat = [
            name for name, width in zip(self.names, np.ptp(self.values, axis=0), strict=True) if width == 0
        ]
        if flat:
            raise InvalidData(
                self.party, f"has constant columns {flat}; leave them out, they explain nothing"
            )
        return VerticalData(self.party, self.names, self.values, label=self.label, labels=self.labels)

    def shard(self) -> Shard:
        """For horizontal training.

        Raises:
            InvalidData: there is no label.
        """
        if self.label is None or self.labels is None:
            raise InvalidData(
                self.party, "has no label; name one, every channel needs it for the same features"
            )
        return Shard(self.party, self.names, self.values, self.label, self.labels)


def _floats(party: str, what: str, values: ArrayLike) -> Floats:
    try:
        return np.ascontiguousarray(np.asarray(values, np.float64))
    except (TypeError, ValueError):
        raise InvalidData(party, f"has {what} that are no rectangle of numbers; encode them first") from None


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _column(party: str, table: pa.Table, name: str) -> Floats:
    column = table[name]
    if not _is_number(column.type):
        raise InvalidData(
            party, f"has column {name!r} of type {column.type}; encode it as numbers, or leave it out"
        )
    values = column.combine_chunks().cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(values, np.float64)  # what is null is NaN, and counted as such
