"""The long-lived processes: a server's SuperLink, a channel's service with its SuperNode, and the start of a run."""

import secrets
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from dayfly.federation.accounting import ExactSums, LedgerBudget
from dayfly.federation.deployed.credentials import Cards, read_identity
from dayfly.federation.deployed.folders import ChannelFolder, ChannelSettings, ServerFolder, address_of
from dayfly.federation.deployed.processes import Child, end_orphans, flower_environment, flower_program
from dayfly.federation.deployed.pulse import Pulse
from dayfly.federation.deployed.run_folder import SERVER_HOME, RunFolder
from dayfly.federation.deployed.service import ChannelService, SocketServer
from dayfly.federation.errors import DeploymentError, RunFailed
from dayfly.federation.journal import journal_secret
from dayfly.federation.runs.data import ChannelData
from dayfly.federation.runs.seats import Progress
from dayfly.federation.wire import SERVER
from dayfly.privacy.ledger import Ledger
from dayfly.privacy.noise import OpenDpNoise

if TYPE_CHECKING:
    from dayfly.federation.features import StoreWindows

__all__ = ["Channel", "FlowerCommands", "Server", "ledger_budget", "now_ms"]

_START_SECONDS: Final = 60.0
_GONE_SECONDS: Final = 3.0
_AGAIN_SECONDS: Final = 1.0
_HELD_SECONDS: Final = 100.0
_SETTLED_SECONDS: Final = 60.0
_REFUSED, _TAKEN = "Failed to activate SuperNode", "SuperNode ID:"
_SOCKET_KEY: Final = "dayfly-socket"
_CONNECTION: Final = "dayfly"
_CHANNEL_HOME: Final = "DAYFLY_FEDERATION_CHANNEL"


def now_ms() -> int:
    """The system's clock, milliseconds UTC."""
    return time.time_ns() // 1_000_000


class FlowerCommands:
    """What the server's operator asks of its SuperLink: to register nodes, and to start runs.

    Args:
        folder: The server's.
    """

    def __init__(self, folder: ServerFolder) -> None:
        self.folder: Final = folder
        self.host, self.port = address_of(folder.settings.superlink)
        home = folder.home / "flower"
        self.environment: Final = flower_environment(home) | {SERVER_HOME: str(folder.home.resolve())}
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "{_CONNECTION}"\n[superlink.{_CONNECTION}]\n'
            f'address = "{self.reached}:{self.port}"\nroot-certificates = "{(folder.tls / "ca.crt").resolve()}"\n',
            encoding="utf-8",
        )
        self._app: Final = home / "app"

    @property
    def reached(self) -> str:
        """Address at which the SuperLink is reached on its own machine."""
        return "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host  # noqa: S104 - compared, not bound

    def register(self) -> tuple[str, ...]:
        """Register the node of every card; names that are new to the SuperLink.

        Raises:
            DeploymentError: Flower refuses a key.
        """
        waiting: dict[str, subprocess.Popen[str]] = {}
        for name, card in Cards(self.folder.cards).found.items():
            if name == SERVER:
                continue
            public = self.folder.home / "flower" / f"{name}.pub"
            public.write_text(card.node + "\n", encoding="utf-8")
            waiting[name] = self._flwr("supernode", "register", str(public.resolve()), _CONNECTION)
        new = []
        for name, process in waiting.items():
            said, _ = process.communicate(timeout=_START_SECONDS)
            if process.returncode == 0:
                new.append(name)
            elif "in use" not in said:
                raise DeploymentError(f"node of {name!r} must be registered, but Flower says: {said[-500:]}")
        return tuple(new)

    def submit(self, run: RunFolder) -> None:
        """Have Flower start the coordinator of a run.

        Raises:
            RunFailed: Flower does not take it.
        """
        if not self._app.exists():
            with as_file(files("dayfly.federation.flower") / "app") as resource:
                shutil.copytree(resource, self._app, ignore=shutil.ignore_patterns("__pycache__"))
        process = self._flwr(
            "run", str(self._app.resolve()), _CONNECTION, "--run-config", f'run="{run.path.name}"'
        )
        said, _ = process.communicate(timeout=_START_SECONDS)
        if process.returncode != 0:
            raise RunFailed(f"run={run.path.name!r} must be taken by Flower, but it says: {said[-800:]}")

    def follow(
        self,
        run: RunFolder,
        *,
        shown: Callable[[Progress], object],
        alive: Callable[[], object] = lambda: None,
        most_starts: int = 5,
    ) -> dict[str, Any]:
        """Start a run, or go on with it, and show its steps until it has a result.

        Args:
            run: Its folder.
            shown: Told each step; after a restart, the steps from the first on are not told again.
            alive: Called several times a second; may raise to stop.
            most_starts: A coordinator that is killed is started again so often.

        Returns:
            The result.

        Raises:
            RunFailed: it ended with an error, or its process was killed again and again.
        """
        told = 0
        for _ in range(most_starts):
            (run.path / "error.json").unlink(missing_ok=True)
            if not run.running():
                self.submit(run)
            until = time.monotonic() + _START_SECONDS
            while run.result() is None and run.error() is None:
                for step in run.progress(told):
                    shown(step)
                    told += 1
                alive()
                if run.running():
                    until = time.monotonic() + _GONE_SECONDS
                elif time.monotonic() > until:
                    break
                time.sleep(0.2)
            for step in run.progress(told):
                shown(step)
            result, error = run.result(), run.error()
            if result is not None:
                return result
            if error is not None:
                raise RunFailed(f"run={run.path.name!r} must end with a result, but: {error['error']}")
        raise RunFailed(
            f"run={run.path.name!r} must end with a result, but its coordinator was killed {most_starts} times; see {self.folder.log}"
        )

    def _flwr(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(  # noqa: S603 - Flower's program with arguments of ours
            [flower_program("flwr"), *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


class Server:
    """A SuperLink.

    Args:
        folder: The server's.

    Raises:
        DeploymentError: it does not start; says why.
    """

    def __init__(self, folder: ServerFolder) -> None:
        self.folder: Final = folder
        self.commands: Final = FlowerCommands(folder)
        self.superlink = self._started()
        try:
            self._wait()
        except BaseException:
            self.superlink.stop()
            raise

    def revive(self) -> bool:
        """Start the SuperLink again if it ended; it goes on with its database."""
        if self.superlink.running():
            return False
        self.superlink.stop()
        self.superlink = self._started()
        self._wait()
        return True

    def close(self) -> None:
        """Stop."""
        self.superlink.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _started(self) -> Child:
        tls, keys = self.folder.tls.resolve(), self.folder.keys.resolve()
        return Child(
            "SuperLink",
            [
                flower_program("flower-superlink"),
                "--ssl-ca-certfile",
                str(tls / "ca.crt"),
                "--ssl-certfile",
                str(tls / "server.pem"),
                "--ssl-keyfile",
                str(keys / "server.key"),
                "--enable-supernode-auth",
                "--host",
                self.commands.host,
                "--port",
                str(self.commands.port),
                "--database",
                str((self.folder.home / "state.db").resolve()),
                "--disable-runtime-dependency-installation",
            ],
            environment=self.commands.environment,
            log=self.folder.log / "superlink.log",
        )

    def _wait(self) -> None:
        """Until it listens, with our certificate."""
        context = ssl.create_default_context(cafile=str(self.folder.tls / "ca.crt"))
        until, reached = time.monotonic() + _START_SECONDS, self.commands.reached
        while True:
            if not self.superlink.running():
                raise DeploymentError(f"SuperLink must start, but ended: {self.superlink.tail()}")
            try:
                with (
                    socket.create_connection((reached, self.commands.port), timeout=5.0) as line,
                    context.wrap_socket(line, server_hostname=reached),
                ):
                    return
            except ssl.SSLCertVerificationError as error:
                raise DeploymentError(
                    f"certificate of {reached!r} must be one of this server's ({error.verify_message}); something else listens at"
                    f" port {self.commands.port}, or tls/ was changed"
                ) from error
            except OSError:
                if time.monotonic() > until:
                    raise DeploymentError(
                        f"SuperLink must listen at port {self.commands.port} within {_START_SECONDS:g} s; see {self.superlink.log}"
                    ) from None
                time.sleep(0.1)


class Channel:
    """A channel's service, its SuperNode and its signs of life.

    Args:
        folder: The channel's.
        port: Of the SuperNode's own interface on this machine.
        store: The running store that `channel.yaml` names, where this process holds it (`dayfly.engine.durable.Engine`).

    Raises:
        DeploymentError, InvalidData, LedgerError: settings, cards, data or ledger are not as they must be; names the party.
    """

    def __init__(self, folder: ChannelFolder, *, port: int, store: "StoreWindows | None" = None) -> None:
        self.folder: Final = folder
        self._store: Final = store
        self._settings: Final = folder.settings
        self._port: Final = port
        self._node_began = time.monotonic()
        self._refused_since: float | None = None
        name = self._settings.name
        identity, key = read_identity(folder.keys / "identity.key", name)
        cards = Cards(folder.cards)
        for wanted in (name, SERVER):
            if wanted not in cards.found:
                raise DeploymentError(
                    f"party={name!r} must have the card of {wanted!r} in {folder.cards}; ask for it"
                )
        if cards.found[name].identity != identity.public_key.hex():
            raise DeploymentError(f"party={name!r} must have a card of its own key; make keys and card again")
        for file in (folder.tls / "ca.crt", folder.keys / "node.key"):
            if not file.exists():
                raise DeploymentError(
                    f"party={name!r} must have {file}; copy it from the server, or make the keys"
                )
        address = address_of(self._settings.liveness)
        self.load()
        self._ledger: Final = Ledger.open(folder.home / self._settings.budget.ledger, now_ms=now_ms)
        self.service: Final = ChannelService(
            identity,
            cards.identities,
            home=folder.home,
            secret=journal_secret(key),
            load=self.load,
            budget=self._budget,
            protocols=self._settings.protocols,
            random_bytes=secrets.token_bytes,
            noise=OpenDpNoise(),
            now_ms=now_ms,
        )
        socket_path = folder.socket_path()
        self._server: Final = SocketServer(self.service.handle, socket_path)
        end_orphans(_CHANNEL_HOME, str(folder.home.resolve()))  # the service has the home's lock
        self.supernode = self._started(socket_path)
        self._socket: Final = socket_path
        self._pulse: Final = Pulse(
            identity,
            cards.identities,
            address,
            healthy=self.healthy,
            ended=self.service.end,
        )

    @property
    def name(self) -> str:
        """The channel's."""
        return self._settings.name

    def healthy(self) -> bool:
        """Whether messages can reach the service."""
        return self.supernode.running()

    def load(self) -> ChannelData:
        """The channel's table, read anew."""
        return ChannelData.load(
            self._settings.name, self._settings.data, folder=self.folder.home, store=self._store
        )

    def revive(self) -> bool:
        """Start the SuperNode again if it ended.

        Raises:
            DeploymentError: it ended for a cause that will not pass; says which.
        """
        if self.supernode.running():
            return False
        cause = _lasting_cause(self.name, self.supernode.tail())
        if cause is not None and not self._may_pass():
            raise DeploymentError(cause)
        self.supernode.stop()
        time.sleep(_AGAIN_SECONDS)
        self._node_began = time.monotonic()
        self.supernode = self._started(self._socket)
        return True

    def _may_pass(self) -> bool:
        """Whether the SuperLink may take the node later: it holds one that was killed for alive for a minute, and takes no second one."""
        now = time.monotonic()
        if self._refused_since is None or now > self._node_began + _SETTLED_SECONDS:
            self._refused_since = now
        refused = _REFUSED in self.supernode.tail() and self.supernode.said_before(_TAKEN)
        return refused and now < self._refused_since + _HELD_SECONDS

    def close(self) -> None:
        """Stop; runs go on when it is started again."""
        self._pulse.close()
        self.supernode.stop()
        self._server.close()
        self.service.close()
        self._ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _started(self, socket_path: Path) -> Child:
        folder = self.folder
        keys, tls = folder.keys.resolve(), folder.tls.resolve()
        flower = folder.home / "flower"
        flower.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Child(
            f"SuperNode of {self._settings.name}",
            [
                flower_program("flower-supernode"),
                "--superlink",
                self._settings.superlink,
                "--root-certificates",
                str(tls / "ca.crt"),
                "--auth-supernode-private-key",
                str(keys / "node.key"),
                "--ssl-ca-certfile",
                str(tls / "runtime" / "ca.crt"),
                "--ssl-certfile",
                str(tls / "runtime" / "runtime.pem"),
                "--ssl-keyfile",
                str(keys / "runtime.key"),
                "--port",
                str(self._port),
                "--node-config",
                f'{_SOCKET_KEY}="{socket_path}"',
            ],
            environment=flower_environment(flower) | {_CHANNEL_HOME: str(folder.home.resolve())},
            log=folder.log / "supernode.log",
        )

    def _budget(self, resumed: bool) -> LedgerBudget:  # noqa: FBT001 - the service's call
        return ledger_budget(self._ledger, self._settings, self.folder.home, resumed=resumed)


def ledger_budget(ledger: Ledger, settings: ChannelSettings, home: Path, *, resumed: bool) -> LedgerBudget:
    """Where a run of a channel pays.

    Args:
        ledger: The channel's.
        settings: The channel's.
        home: Its folder; exact sums are listed in it.
        resumed: Whether the run goes on from its journal.
    """
    budget = settings.budget
    return LedgerBudget(
        ledger,
        channel=settings.name,
        data_set=budget.data_set,
        analyst=budget.analyst,
        purpose=budget.purpose,
        exact=ExactSums(home / "exact.jsonl", now_ms=now_ms) if budget.exact_sums else None,
        resumed=resumed,
    )


def _lasting_cause(name: str, said: str) -> str | None:
    low = said.lower()
    if "certificate" in low and "verify" in low:
        return (
            f"party={name!r} must trust the SuperLink's certificate, but it is not of tls/ca.crt; copy the server's tls/ca.crt, and find"
            " out who answers there"
        )
    if _REFUSED in said:
        return (
            f"party={name!r} must be registered with the SuperLink, but it does not take its node key; send its card to the server's operator,"
            " and see that no other SuperNode has this key"
        )
    if "address already in use" in low:
        return f"party={name!r} must have a free port for its SuperNode; pass another --port"
    return None
