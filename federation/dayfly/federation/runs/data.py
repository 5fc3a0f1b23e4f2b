"""A channel's table: customers, features, label; from Parquet, Arrow, CSV or NumPy files, and from windows of a Dayfly store beside them."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dayfly.federation.errors import InvalidData
from dayfly.federation.runs.store_windows import StoreSettings, with_windows

if TYPE_CHECKING:
    from dayfly.federation.features import StoreWindows

__all__ = ["ChannelData", "ConsentColumn", "DataSettings", "load_table"]

Floats = NDArray[np.float64]
_ARROW: Final = (".arrow", ".feather", ".ipc")


class ConsentColumn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a table says who consented to a joint model.

    Attributes:
        until: Column with the instant until which a customer's consent stands: a timestamp, or milliseconds UTC; nothing means no.
        country: Where the model is used; ISO 3166-1 alpha-2.
    """

    until: str
    country: str


class DataSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a channel's table is and what its columns are.

    Attributes:
        path: A .parquet, .arrow, .feather, .csv, .npz (one array per column) or .npy (structured) file; relative to the channel's folder.
        features: Columns that may be trained on; by default every numeric one that is nothing else.
        label: Column with the label, in the channel that has it.
        customer: Column that names the customer.
        category: Column that may be counted by.
        consent: Where consents are; needed for alignment.
        phone_region: Country of phone numbers without country code.
        store: Windows over the events of a Dayfly store, as more columns of the file's customers.
    """

    path: str
    features: tuple[str, ...] | None = None
    label: str | None = None
    customer: str | None = None
    category: str | None = None
    consent: ConsentColumn | None = None
    phone_region: str | None = None
    store: StoreSettings | None = None

    @property
    def special(self) -> tuple[str, ...]:
        """Columns that are no features."""
        named = (self.label, self.customer, self.category, self.consent.until if self.consent else None)
        return tuple(name for name in named if name is not None)


@dataclass(frozen=True, slots=True)
class ChannelData:
    """What a channel brings.

    Attributes:
        party: Its name.
        table: As it was read; one row per customer or event.
        settings: What its columns are.
    """

    party: str
    table: pa.Table
    settings: DataSettings

    @classmethod
    def load(
        cls, party: str, settings: DataSettings, *, folder: Path, store: "StoreWindows | None" = None
    ) -> "ChannelData":
        """Read the file, and the windows of the store where one is named, and check the columns.

        Args:
            party: The channel.
            settings: Where its table is.
            folder: The channel's; paths are relative to it.
            store: The running store, in the process that holds it; without it a store that is named is opened from its folder.

        Raises:
            InvalidData: the file or the store cannot be read, a column is missing or named twice, or there are no rows; names the party.
        """
        table = load_table(party, folder / settings.path)
        if settings.store is not None:
            table = with_windows(
                party,
                table,
                settings.store,
                customer=settings.customer,
                until=settings.consent.until if settings.consent else None,
                folder=folder,
                store=store,
            )
        named = [*settings.special, *(settings.features or ())]
        missing = [name for name in named if name not in table.column_names]
        if missing:
            raise InvalidData(
                party,
                f"has no columns {missing} in {settings.path!r}, only {table.column_names}; correct channel.yaml",
            )
        twice = sorted(name for name, times in Counter(table.column_names).items() if times > 1)
        if twice:
            raise InvalidData(party, f"names columns {twice} twice in {settings.path!r}; rename one of each")
        if not table.num_rows:
            raise InvalidData(party, f"has no rows in {settings.path!r}; leave it out of the run")
        return cls(party, table, settings)

    @property
    def features(self) -> tuple[str, ...]:
        """Columns that may be trained on, in order."""
        if self.settings.features is not None:
            return self.settings.features
        others = set(self.settings.special)
        return tuple(
            field.name for field in self.table.schema if field.name not in others and _is_number(field.type)
        )

    def matrix(self, features: tuple[str, ...]) -> Floats:
        """Columns as float64 (rows, len(features)); missing values are NaN.

        Raises:
            InvalidData: the channel does not have one of them, or does not offer it.
        """
        missing = [name for name in features if name not in self.features]
        if missing:
            raise InvalidData(
                self.party, f"does not offer features {missing}, only {list(self.features)}; agree on others"
            )
        if not features:
            return np.zeros((self.table.num_rows, 0))
        return np.column_stack([_floats(self.party, name, self.table[name]) for name in features])

    def labels(self, label: str) -> Floats:
        """The label as float64 (rows,).

        Raises:
            InvalidData: the channel has none of this name.
        """
        if self.settings.label != label:
            raise InvalidData(
                self.party,
                f"has label {self.settings.label!r}, not {label!r}; name it in channel.yaml, or ask for that one",
            )
        return _floats(self.party, label, self.table[label])

    def instants(self, name: str) -> list[int | None]:
        """A column of instants in milliseconds UTC; None where there is none.

        Raises:
            InvalidData: they are no instants.
        """
        column = self.table[name]
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp("ms"))
        if not (pa.types.is_timestamp(column.type) or pa.types.is_integer(column.type)):
            raise InvalidData(
                self.party,
                f"has {column.type} in {name!r}, which is no instant; write timestamps or milliseconds UTC",
            )
        found: list[int | None] = column.cast(pa.int64()).to_pylist()
        return found

    def categories(self) -> dict[str, str]:
        """Customer to category, one each.

        Raises:
            InvalidData: there is no such column, or a customer is there twice.
        """
        customers = self.customers()
        if self.settings.category is None:
            raise InvalidData(self.party, "has no category column; name one in channel.yaml")
        values = self.table[self.settings.category].cast(pa.string()).fill_null("").to_pylist()
        found = dict(zip(customers, values, strict=True))
        if len(found) != len(customers):
            raise InvalidData(
                self.party, f"has {len(customers) - len(found)} customers twice; keep one row for each"
            )
        return found

    def customers(self) -> list[str]:
        """Names of the customers, row by row.

        Raises:
            InvalidData: there is no such column, or a name is missing.
        """
        if self.settings.customer is None:
            raise InvalidData(self.party, "has no customer column; name one in channel.yaml")
        column = self.table[self.settings.customer]
        if column.null_count:
            raise InvalidData(
                self.party, f"has {column.null_count} rows without {self.settings.customer!r}; drop them"
            )
        return [str(name) for name in column.to_pylist()]


def load_table(party: str, path: Path) -> pa.Table:
    """A file as a table.

    Raises:
        InvalidData: it is not there, is of no known kind, or cannot be read; names the party.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            import pyarrow.parquet as pq  # noqa: PLC0415 - each reader is loaded by the files that need it

            return pq.read_table(path)
        if suffix in _ARROW:
            with pa.OSFile(str(path)) as file:
                return pa.ipc.open_file(file).read_all()
        if suffix == ".csv":
            import pyarrow.csv as pa_csv  # noqa: PLC0415 - as above

            return pa_csv.read_csv(path)
        if suffix in (".npz", ".npy"):
            return _from_numpy(path)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise InvalidData(
            party, f"has data in {path.name!r} that cannot be read ({error}); check the file"
        ) from error
    raise InvalidData(
        party,
        f"has data in {path.name!r}, which is no .parquet, .arrow, .feather, .csv, .npz or .npy; convert it",
    )


def _from_numpy(path: Path) -> pa.Table:
    loaded: Any = np.load(path, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        if loaded.dtype.names is None:
            raise ValueError("an .npy file must hold a structured array, one field per column")
        return pa.table({name: np.ascontiguousarray(loaded[name]) for name in loaded.dtype.names})
    with loaded:
        return pa.table({name: loaded[name] for name in loaded.files})


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _floats(party: str, name: str, column: pa.ChunkedArray) -> Floats:
    if not _is_number(column.type):
        raise InvalidData(party, f"has {column.type} in {name!r}, which is no number; encode it first")
    values = pc.fill_null(pc.cast(column, pa.float64()), float("nan"))
    return np.asarray(values.to_numpy(zero_copy_only=False), np.float64)
