"""The folders of a deployment: what a channel and a server keep, and their settings files.

::

    channel/  channel.yaml  keys/{identity,node,runtime}.key  tls/{ca.crt,runtime/}  cards/*.card.json  journals/  budget.db  log/
    server/   server.yaml   keys/{identity,ca,server}.key     tls/{ca.crt,server.pem} cards/*.card.json  runs/NAME/  state.db  log/
"""

import datetime as dt
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import yaml

from dayfly.federation.deployed.credentials import Card, Cards, make_identity, make_node_key, make_tls
from dayfly.federation.errors import DeploymentError
from dayfly.federation.runs.data import DataSettings
from dayfly.federation.wire import SERVER

__all__ = [
    "BudgetSettings",
    "ChannelFolder",
    "ChannelSettings",
    "ServerFolder",
    "ServerSettings",
    "address_of",
    "read_yaml",
]

T = TypeVar("T")
_LOOPBACK: Final = ("localhost", "127.0.0.1")
_LONGEST_SOCKET: Final = 100
_DAYS: Final = 365


class BudgetSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a channel pays for releases.

    Attributes:
        ledger: Its budget ledger (`dayfly sandbox account` makes one); relative to the channel's folder.
        data_set: Whose account is charged.
        analyst: Who trains; has an account.
        purpose: What for; has an account.
        exact_sums: Whether the channel takes part in exact sums, which no account covers; they are listed in `exact.jsonl`.
    """

    ledger: str = "budget.db"
    data_set: str
    analyst: str
    purpose: str = "joint_model"
    exact_sums: bool = False


class ChannelSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`channel.yaml`.

    Attributes:
        name: As registered.
        superlink: Host and port of the server's SuperLink.
        liveness: Host and port where its coordinator listens for signs of life.
        data: The channel's table.
        budget: Where it pays.
        protocols: What it takes part in.
    """

    name: str
    superlink: str
    liveness: str
    data: DataSettings
    budget: BudgetSettings
    protocols: tuple[str, ...]


class ServerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`server.yaml`.

    Attributes:
        superlink: Host and port to listen at.
        liveness: Host and port to listen at for signs of life.
        hosts: Names and addresses that channels know the server by; in its certificate.
    """

    superlink: str = "127.0.0.1:18000"
    liveness: str = "127.0.0.1:18001"
    hosts: tuple[str, ...] = _LOOPBACK


class ChannelFolder:
    """A channel's home.

    Args:
        home: Its path.
    """

    def __init__(self, home: Path) -> None:
        self.home: Final = home
        self.keys: Final = home / "keys"
        self.tls: Final = home / "tls"
        self.cards: Final = home / "cards"
        self.log: Final = home / "log"

    @classmethod
    def make(
        cls, home: Path, name: str, *, random_bytes: Callable[[int], bytes], now: dt.datetime
    ) -> "ChannelFolder":
        """Keys, certificates of the SuperNode's own port, and the channel's card.

        Raises:
            DeploymentError: the name cannot be one.
            KeyStoreError: there are keys already.
        """
        _check_name(name)
        made = cls(home)
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        identity = make_identity(made.keys / "identity.key", name, random_bytes)
        node = make_node_key(made.keys / "node.key")
        make_tls(made.keys, made.tls / "runtime", _LOOPBACK, name="runtime", now=now, days=_DAYS)
        Cards.write(made.cards, Card(name, identity.public_key.hex(), node))
        return made

    @property
    def settings(self) -> ChannelSettings:
        """Of `channel.yaml`."""
        return read_yaml(self.home / "channel.yaml", ChannelSettings)

    def socket_path(self) -> Path:
        """Where the service listens: in the home, or in a folder of its own where that path is too long for a socket."""
        path = self.home.resolve() / "run" / "channel.sock"
        if len(str(path)) <= _LONGEST_SOCKET:
            return path
        return Path(tempfile.mkdtemp(prefix="dayfly-")) / "channel.sock"


class ServerFolder:
    """A server's home.

    Args:
        home: Its path.
    """

    def __init__(self, home: Path) -> None:
        self.home: Final = home
        self.keys: Final = home / "keys"
        self.tls: Final = home / "tls"
        self.cards: Final = home / "cards"
        self.log: Final = home / "log"
        self.runs: Final = home / "runs"

    @classmethod
    def make(
        cls,
        home: Path,
        hosts: Iterable[str],
        *,
        random_bytes: Callable[[int], bytes],
        now: dt.datetime,
    ) -> "ServerFolder":
        """Keys, the certificate authority and the server's certificate, and its card.

        Raises:
            KeyStoreError: there are keys already.
        """
        made = cls(home)
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        identity = make_identity(made.keys / "identity.key", SERVER, random_bytes)
        make_tls(made.keys, made.tls, tuple(hosts) or _LOOPBACK, name=SERVER, now=now, days=_DAYS)
        Cards.write(made.cards, Card(SERVER, identity.public_key.hex()))
        return made

    @property
    def settings(self) -> ServerSettings:
        """Of `server.yaml`."""
        return read_yaml(self.home / "server.yaml", ServerSettings)


def address_of(text: str) -> tuple[str, int]:
    """Host and port.

    Raises:
        DeploymentError: it is not `host:port`.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise DeploymentError(f"address={text!r} must be host:port; correct it")
    return host, int(port)


def read_yaml(path: Path, kind: type[T]) -> T:
    """A settings file.

    Raises:
        DeploymentError: it is missing, no YAML, or says something that is no setting.
    """
    try:
        return msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")), kind)
    except FileNotFoundError:
        raise DeploymentError(
            f"file={str(path)!r} must be there; write it, or give the right folder"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise DeploymentError(f"file={str(path)!r} must hold {kind.__name__}: {error}; correct it") from None


def _check_name(name: str) -> None:
    if name == SERVER or not name.replace("-", "").replace("_", "").isalnum() or len(name) > 64:
        raise DeploymentError(
            f"name={name!r} must be letters, digits, - and _, and not {SERVER!r}; choose another"
        )
