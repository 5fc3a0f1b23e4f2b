"""A whole deployment on one machine: folders, keys, cards, ledgers and settings of a server and its channels."""

import datetime as dt
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from dayfly.federation.deployed.credentials import Cards
from dayfly.federation.deployed.folders import (
    BudgetSettings,
    ChannelFolder,
    ChannelSettings,
    ServerFolder,
    ServerSettings,
)
from dayfly.federation.deployed.processes import free_port
from dayfly.federation.runs.data import DataSettings
from dayfly.federation.runs.seats import PROTOCOLS
from dayfly.privacy.ledger import Account, Ledger, Limit

__all__ = ["Tables", "open_accounts", "set_up", "trust", "write_settings"]

_ANALYST, _PURPOSE = "federation", "joint_model"


@dataclass(frozen=True, slots=True)
class Tables:
    """What the channels have.

    Attributes:
        tables: By channel.
        settings: By channel; paths are filled in.
        limit: Of every account that is opened.
        exact_sums: Whether channels take part in exact sums.
    """

    tables: Mapping[str, pa.Table]
    settings: Mapping[str, DataSettings]
    limit: Limit
    exact_sums: bool


def set_up(
    root: Path,
    world: Tables,
    *,
    random_bytes: Callable[[int], bytes],
    now: dt.datetime,
    now_ms: Callable[[], int],
) -> tuple[ServerFolder, list[ChannelFolder]]:
    """Folders in which `Server` and `Channel` start, on free ports of this machine.

    Args:
        root: Where; each gets a folder of its name.
        world: What the channels have.
        random_bytes: For keys.
        now: For certificates.
        now_ms: Clock of the ledgers.
    """
    superlink, liveness = (f"127.0.0.1:{free_port()}" for _ in range(2))
    server = ServerFolder.make(root / "server", (), random_bytes=random_bytes, now=now)
    write_settings(server.home / "server.yaml", ServerSettings(superlink=superlink, liveness=liveness))
    channels = []
    for name, table in world.tables.items():
        channel = ChannelFolder.make(root / name, name, random_bytes=random_bytes, now=now)
        pq.write_table(table, channel.home / "table.parquet")
        settings = ChannelSettings(
            name=name,
            superlink=superlink,
            liveness=liveness,
            data=msgspec.structs.replace(world.settings[name], path="table.parquet"),
            budget=BudgetSettings(
                data_set=name, analyst=_ANALYST, purpose=_PURPOSE, exact_sums=world.exact_sums
            ),
            protocols=tuple(sorted(PROTOCOLS)),
        )
        write_settings(channel.home / "channel.yaml", settings)
        accounts: tuple[tuple[Literal["data_set", "analyst", "purpose"], str], ...] = (
            ("data_set", name),
            ("analyst", _ANALYST),
            ("purpose", _PURPOSE),
        )
        open_accounts(channel.home / "budget.db", accounts, world.limit, now_ms=now_ms)
        channels.append(channel)
    folders: list[ServerFolder | ChannelFolder] = [server, *channels]
    files = [path for folder in folders for path in sorted(folder.cards.glob("*.card.json"))]
    for folder in folders:
        trust(folder, files)
    for channel in channels:
        trust(channel, [server.tls / "ca.crt"])
    return server, channels


def trust(folder: ServerFolder | ChannelFolder, files: Sequence[Path]) -> list[str]:
    """Take cards, and at a channel the server's `ca.crt`, into a folder; names of what was taken.

    Raises:
        DeploymentError: a file is no card.
    """
    taken = []
    for file in files:
        if file.suffix == ".crt":
            folder.tls.mkdir(parents=True, exist_ok=True)
            if file.resolve() != (folder.tls / "ca.crt").resolve():
                shutil.copyfile(file, folder.tls / "ca.crt")
            taken.append("ca.crt")
            continue
        card = Cards.read(file)
        Cards.write(folder.cards, card)
        taken.append(card.name)
    return taken


def write_settings(path: Path, settings: msgspec.Struct) -> None:
    """A settings file."""
    plain: Any = msgspec.to_builtins(settings)
    path.write_text(yaml.safe_dump(_without_none(plain), sort_keys=False), encoding="utf-8")


def open_accounts(
    ledger: Path,
    accounts: Sequence[tuple[Literal["data_set", "analyst", "purpose"], str]],
    limit: Limit,
    *,
    now_ms: Callable[[], int],
) -> None:
    """A ledger with these accounts, each of the same limit."""
    with Ledger.open(ledger, now_ms=now_ms, create=True) as opened:
        for scope, name in accounts:
            opened.declare(Account(scope, name, limit))


def spent(ledger: Path, data_set: str, *, now_ms: Callable[[], int]) -> tuple[Fraction, Fraction, str]:
    """What was spent and what is left of a data set's account, and its unit."""
    with Ledger.open(ledger, now_ms=now_ms) as opened:
        remaining = opened.remaining("data_set", data_set)
        return remaining.spent, remaining.left, remaining.account.limit.unit


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(one) for key, one in value.items() if one is not None}
    if isinstance(value, list | tuple):
        return [_without_none(one) for one in value]
    return value
