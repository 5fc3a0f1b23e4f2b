"""A run's folder at the server: its plan, its progress, its journal and its result; and the coordinator's process around it.

::

    runs/NAME/  plan.yaml  run.json  journal/  progress.jsonl  pid  result.json  arrays.npz  model/  error.json

`result.json` and `error.json` appear whole. A run with neither whose process is gone was killed: starting it again goes on with it. So
does a run with an `error.json` that says `resumable`.
"""

import os
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import numpy as np

from dayfly.federation.deployed.credentials import Cards, read_identity
from dayfly.federation.deployed.folders import ServerFolder, address_of, read_yaml
from dayfly.federation.deployed.pulse import PulseListener
from dayfly.federation.errors import DeploymentError
from dayfly.federation.grid import Grid
from dayfly.federation.journal import Journal, JournalHead, journal_secret, sweep
from dayfly.federation.model import save_model
from dayfly.federation.runs.running import Plan, coordinate
from dayfly.federation.runs.seats import Outcome, Progress, protocol_named
from dayfly.federation.runs.tickets import Ticket, Tickets, checked_until
from dayfly.federation.wire import SERVER
from dayfly.privacy.errors import DayflyError
from dayfly.privacy.noise import OpenDpNoise

__all__ = ["SERVER_HOME", "Connection", "RunFolder", "run_from_folder", "with_alignment"]

SERVER_HOME: Final = "DAYFLY_FEDERATION_SERVER"
"""Environment variable with the server's folder."""

_RUN_BYTES: Final = 16


class Liveness(Protocol):
    """Who shows signs of life; see `flower.grid`."""

    def silent_seconds(self, party: str) -> float:
        """Time since the last sign of life."""
        ...

    def starts(self, party: str) -> int:
        """How often the party's service was seen to begin."""
        ...


@dataclass(frozen=True, slots=True)
class Connection:
    """What a transport needs.

    Attributes:
        nodes: Channel to the OpenSSH line of its node's registered key.
        parcel: Wraps a request to a channel.
        liveness: Who is alive.
        most_seconds: How long one that is alive is waited for.
    """

    nodes: Mapping[str, str]
    parcel: Callable[[str, bytes], bytes]
    liveness: Liveness
    most_seconds: float


class _Begun(msgspec.Struct, frozen=True):
    """`run.json`."""

    run: str
    began_ms: int
    until_ms: int


class RunFolder:
    """A run's files.

    Args:
        path: Of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path: Final = path

    @classmethod
    def named(cls, server: ServerFolder, name: str) -> "RunFolder":
        """The folder of a run's name.

        Raises:
            DeploymentError: the name cannot be one; it would lead elsewhere.
        """
        if not name.replace("-", "").replace("_", "").isalnum():
            raise DeploymentError(f"run={name!r} must be letters, digits, - and _; choose another name")
        return cls(server.runs / name)

    @classmethod
    def make(
        cls,
        server: ServerFolder,
        name: str,
        plan: bytes,
        *,
        random_bytes: Callable[[int], bytes],
        now_ms: int,
    ) -> "RunFolder":
        """A new run of a plan, or the one of this name if it has the same plan.

        Raises:
            DeploymentError: there is a run of this name with another plan, or the name cannot be one.
            InvalidSetting: the plan's hours are out of range.
        """
        folder = cls.named(server, name)
        if folder.path.exists():
            if (folder.path / "plan.yaml").read_bytes() != plan:
                raise DeploymentError(
                    f"run={name!r} must keep its plan; give another name, or the plan that it began with"
                )
            return folder
        folder.path.mkdir(mode=0o700, parents=True)
        _replace(folder.path / "plan.yaml", plan)
        until_ms = checked_until(now_ms, folder.plan.hours)
        begun = _Begun(random_bytes(_RUN_BYTES).hex(), now_ms, until_ms)
        _replace(folder.path / "run.json", msgspec.json.encode(begun))
        return folder

    @property
    def plan(self) -> Plan:
        """Of `plan.yaml`."""
        return read_yaml(self.path / "plan.yaml", Plan)

    @property
    def begun(self) -> _Begun:
        """Of `run.json`."""
        return msgspec.json.decode((self.path / "run.json").read_bytes(), type=_Begun)

    def result(self) -> dict[str, Any] | None:
        """What it ended with, if it did."""
        return self._document("result.json")

    def error(self) -> dict[str, Any] | None:
        """Why it stopped, if it did."""
        return self._document("error.json")

    def running(self) -> bool:
        """Whether its process is alive."""
        try:
            os.kill(int((self.path / "pid").read_text()), 0)
        except (OSError, ValueError):
            return False
        return True

    def progress(self, after: int) -> list[dict[str, Any]]:
        """Steps behind the first `after`."""
        try:
            lines = (self.path / "progress.jsonl").read_bytes().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        return [msgspec.json.decode(line) for line in lines[after:]]

    def write_pid(self) -> None:
        """This process runs it."""
        (self.path / "error.json").unlink(missing_ok=True)
        _replace(self.path / "pid", str(os.getpid()).encode())
        (self.path / "progress.jsonl").write_bytes(b"")

    def write_step(self, step: Progress) -> None:
        """Show a step."""
        with (self.path / "progress.jsonl").open("ab") as file:
            file.write(msgspec.json.encode(dict(step)) + b"\n")

    def write_outcome(self, outcome: Outcome) -> None:
        """The result, first its arrays."""
        arrays = self.path / "arrays.npz.new"
        with arrays.open("wb") as file:
            np.savez(file, allow_pickle=False, **outcome.arrays)
            file.flush()
            os.fsync(file.fileno())
        arrays.replace(self.path / "arrays.npz")
        if outcome.model is not None:
            shutil.rmtree(self.path / "model", ignore_errors=True)  # of a process that was killed here
            save_model(outcome.model, self.path / "model")
        _replace(
            self.path / "result.json", msgspec.json.format(msgspec.json.encode(outcome.document), indent=2)
        )

    def write_error(self, error: BaseException) -> None:
        """Why it stopped."""
        document = {"error": str(error), "kind": type(error).__name__}
        _replace(self.path / "error.json", msgspec.json.encode(document))

    def _document(self, name: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = msgspec.json.decode((self.path / name).read_bytes())
        except FileNotFoundError:
            return None
        return found


def run_from_folder(home: Path, name: str, transport: Callable[[Connection], Grid]) -> None:
    """Run the plan in a run's folder, or go on with it; leaves a result or an error there.

    Args:
        home: The server's folder.
        name: Of the run.
        transport: Makes the grid.

    Raises:
        DayflyError: the run stopped; `error.json` says the same.
    """
    server = ServerFolder(home)
    folder = RunFolder.named(server, name)
    if not folder.path.is_dir():
        raise DeploymentError(f"run={name!r} must be prepared by `dayfly federate run`; it is not")
    if folder.result() is not None:
        return
    folder.write_pid()
    try:
        _run(server, folder, transport)
    except DayflyError as error:
        folder.write_error(error)
        raise
    except Exception as error:
        folder.write_error(error)
        raise


def _run(server: ServerFolder, folder: RunFolder, transport: Callable[[Connection], Grid]) -> None:
    plan, begun = with_alignment(server, folder.plan), folder.begun
    identity, key = read_identity(server.keys / "identity.key", SERVER)
    cards = Cards(server.cards)
    protocol = protocol_named(plan.protocol)
    ticket = Ticket(plan.protocol, protocol.terms(plan.settings), begun.began_ms, begun.until_ms)
    run = bytes.fromhex(begun.run)
    channels = plan.channels or tuple(sorted(name for name in cards.found if name != SERVER))
    unknown = sorted(set(channels) - set(cards.found))
    if unknown:
        raise DeploymentError(
            f"channels={unknown} must be registered; put their cards into {server.cards.name!r} first"
        )
    sweep(folder.path)
    head = JournalHead(run, SERVER, plan.protocol, msgspec.msgpack.encode(plan))
    listener = PulseListener(
        identity, cards.identities, address_of(server.settings.liveness), random_bytes=secrets.token_bytes
    )
    with listener:
        journal = Journal.open(
            folder.path / "journal",
            head,
            secret=journal_secret(key),
            random_bytes=secrets.token_bytes,
            now_ms=_now_ms,
        )
        with journal:
            connection = Connection(
                {name: cards.found[name].node for name in channels},
                Tickets(identity, run=run, ticket=ticket),
                listener,
                plan.most_seconds,
            )
            outcome = coordinate(
                plan,
                transport(connection),
                identity=identity,
                identities=cards.identities,
                journal=journal,
                began_ms=begun.began_ms,
                random_bytes=secrets.token_bytes,
                noise=OpenDpNoise(),
                now_ms=_now_ms,
                shown=folder.write_step,
            )
            folder.write_outcome(outcome)
            journal.end()
        listener.end(run)


def with_alignment(server: ServerFolder, plan: Plan) -> Plan:
    """The plan with the settings that its alignment's result gives.

    Args:
        server: Where both are run.
        plan: As it was written.

    Raises:
        DeploymentError: the alignment has no result.
    """
    if plan.alignment is None:
        return plan
    found = RunFolder.named(server, plan.alignment).result()
    if found is None or found.get("protocol") != "align":
        raise DeploymentError(
            f"alignment={plan.alignment!r} must be a run of the protocol align that has a result; run it first"
        )
    given = {name: found[name] for name in ("alignment", "universe", "purpose")}
    return msgspec.structs.replace(plan, settings={**plan.settings, **given})


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _replace(path: Path, content: bytes) -> None:
    """A file that is there whole, durably."""
    new = path.with_name(f"{path.name}.new")
    with new.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
