"""A channel's columns from windows over the events of its Dayfly store, beside the table that says whose rows they are.

Claim: a customer who is unknown to the store, or does not consent there to the purpose, brings no value: its consent is taken from its row, so that no
alignment places it, and its windows are missing values, which no training takes; where the table has no consents the row is left out.
Precondition: the table's customers are the identifiers by which the store knows them; the keys are the store's.
Argument: `window_features` decides by the store's own consents at the instant of reading. Rows keep their order from run to run, whoever consents, so that the
places of an alignment stay those of the same customers.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec
import numpy as np
import pyarrow as pa
from pyarrow import compute

from dayfly.federation.errors import InvalidData
from dayfly.privacy.errors import InvalidArgument, InvalidConsent

if TYPE_CHECKING:
    from dayfly.engine.window_features import WindowFeature
    from dayfly.federation.features import StoreWindows
    from dayfly.privacy.consent import ConsentRequest
    from dayfly.privacy.keys import FileKeyProvider

__all__ = ["StoreSettings", "WindowSettings", "with_windows"]

_DAY_MS: Final = 86_400_000
_pc: Final[Any] = compute  # its functions are made at run time, unseen by type checkers


class WindowSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One column; see `dayfly.engine.window_features.WindowFeature`.

    Attributes:
        name: Of the column.
        days: How far back, up to the policy's history.
        event: Name of the event type; nothing for any.
        aggregate: Number of events; sum, mean or largest value of a field; days since the last.
        field: That is aggregated.
    """

    name: str
    days: float
    event: str | None = None
    aggregate: Literal["count", "sum", "mean", "largest", "days_since"] = "count"
    field: str | None = None

    @property
    def feature(self) -> "WindowFeature":
        """As the engine takes it."""
        from dayfly.engine.window_features import WindowFeature  # noqa: PLC0415 - only channels with a store load the engine

        return WindowFeature(self.name, round(self.days * _DAY_MS), self.event, self.aggregate, self.field)


class StoreSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A Dayfly store, and what is taken from it.

    Attributes:
        folder: Of the store; relative to the channel's folder, as the files below.
        keys: The tenant's key file.
        windows: The columns.
        purpose: For which the store's consents must be.
        country: Where the model is used; ISO 3166-1 alpha-2.
        passphrase_file: Its first line opens the key file, where that is sealed by a passphrase.
        identifier: Kind of the identifiers that the table's customers are, as in the events: user, anonymous ...
        topic, recipient, categories: More that the consents must cover.
    """

    folder: str
    keys: str
    windows: tuple[WindowSettings, ...]
    purpose: str
    country: str
    passphrase_file: str | None = None
    identifier: str = "user"
    topic: str = "*"
    recipient: str = "*"
    categories: tuple[str, ...] = ()

    @property
    def need(self) -> "ConsentRequest":
        """What consent must cover.

        Raises:
            InvalidConsent: a field breaks its syntax.
        """
        from dayfly.privacy.consent import ConsentRequest  # noqa: PLC0415 - as above

        return ConsentRequest(
            self.purpose,
            topic=self.topic,
            data_categories=self.categories,
            recipient=self.recipient,
            recipient_country=self.country,
        ).checked()


def with_windows(
    party: str,
    table: pa.Table,
    settings: StoreSettings,
    *,
    customer: str | None,
    until: str | None,
    folder: Path,
    store: "StoreWindows | None" = None,
) -> pa.Table:
    """The table with the windows as more columns.

    Args:
        party: The channel.
        table: One row per customer.
        settings: The store and the windows.
        customer: The table's column of identifiers.
        until: Its column of consents; None where it has none.
        folder: The channel's.
        store: The running store, in the process that holds it; None opens the folder, as `dayfly sandbox` does.

    Raises:
        InvalidData: a column is missing or there already, another process holds the store, or a window is none of its policy; names the party.
        KeyStoreError: the key file cannot be opened.
    """
    missing = [name for name in (customer, until) if name is not None and name not in table.column_names]
    if customer is None or missing:
        raise InvalidData(
            party,
            f"must have a column of customers to know their windows by (missing: {missing}); name one in channel.yaml",
        )
    names = [one.name for one in settings.windows]
    twice = sorted({name for name in names if names.count(name) > 1 or name in table.column_names})
    if twice or not names:
        raise InvalidData(party, f"must have windows, each with a name of its own ({twice}); rename them")
    provider = _provider(party, settings, folder)
    pseudonyms = provider.pseudonyms()
    subjects = [
        pseudonyms.current(settings.identifier, str(one)).value for one in table[customer].to_pylist()
    ]
    try:
        wanted, need = [one.feature for one in settings.windows], settings.need
        with _opened(party, settings, provider, folder, store) as opened:
            found = opened.window_features(subjects, wanted, need)
    except (InvalidArgument, InvalidConsent) as error:
        raise InvalidData(
            party, f"has windows that its store cannot give: {error}; correct channel.yaml"
        ) from error
    for place, name in enumerate(names):
        column = np.where(found.usable, found.values[:, place], np.nan)
        table = table.append_column(name, pa.array(column, mask=~found.usable))
    usable = pa.array(found.usable)
    if until is None:
        return table.filter(usable)
    place = table.column_names.index(until)
    instants = _pc.if_else(usable, table[until], pa.scalar(None, table[until].type))
    return table.set_column(place, until, instants)


@contextmanager
def _opened(
    party: str,
    settings: StoreSettings,
    keys: "FileKeyProvider",
    folder: Path,
    store: "StoreWindows | None",
) -> "Iterator[StoreWindows]":
    if store is not None:
        yield store
        return
    from dayfly.engine.durable import Engine  # noqa: PLC0415 - only channels with a store load the engine
    from dayfly.engine.errors import StoreError, StoreLocked  # noqa: PLC0415 - as above
    from dayfly.engine.store import StoreMarker  # noqa: PLC0415 - as above

    place = folder / settings.folder
    try:
        StoreMarker.read(place, tenant=keys.tenant_id)  # a folder without a store is not made one
        engine = Engine.open(place, keys, recipients={})
    except StoreLocked as error:
        raise InvalidData(
            party,
            f"has a store that another process holds ({error}); run the channel in that process (`Channel(..., store=engine)`), or stop it while a run begins",
        ) from error
    except StoreError as error:
        raise InvalidData(party, f"has a store that cannot be opened ({error})") from error
    with engine:
        yield engine


def _provider(party: str, settings: StoreSettings, folder: Path) -> "FileKeyProvider":
    from dayfly.privacy.keys import BareSeal, FileKeyProvider, KeyringSeal, PassphraseSeal, Seal  # noqa: PLC0415 - as above
    from dayfly.privacy.keys.provider.keyfile import read_head  # noqa: PLC0415 - as above
    from dayfly.privacy.keys.provider.seals import BareFacts, KeyringFacts, PassphraseFacts  # noqa: PLC0415 - as above

    path = folder / settings.keys
    try:
        facts: Any = read_head(path.read_bytes(), str(path)).seal
    except OSError as error:
        raise InvalidData(
            party, f"has keys of its store that cannot be read ({error}); correct channel.yaml"
        ) from error
    seal: Seal
    if isinstance(facts, PassphraseFacts) and settings.passphrase_file is not None:
        seal = PassphraseSeal(_first_line(folder / settings.passphrase_file), random_bytes=os.urandom)
    elif isinstance(facts, KeyringFacts):
        seal = KeyringSeal(facts.user, service=facts.service, random_bytes=os.urandom)
    elif isinstance(facts, BareFacts):
        seal = BareSeal()
    else:
        raise InvalidData(
            party,
            "has keys of its store that this channel cannot open; name a passphrase_file, or a key file of a keyring",
        )
    return FileKeyProvider.open(path, seal=seal, random_bytes=os.urandom)


def _first_line(path: Path) -> Callable[[], str]:
    return lambda: path.read_text(encoding="utf-8").split("\n", maxsplit=1)[0].removesuffix("\r")
