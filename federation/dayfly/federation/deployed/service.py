"""A channel's service: data, state machines, journals and ledger in one process that lives on, behind a Unix-domain socket.

Claim: the service answers only what the registered server asked this channel for; runs survive `kill -9` of it (`journal.party`); when a
run is over, its journal is destroyed and the run is never opened again.
Precondition: the socket's folder lets nobody else in (0700); one service per home.
"""

import logging
import os
import re
import socket
import socketserver
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from dayfly.engine.store import LOCAL_DISK, StoreLock
from dayfly.federation.accounting import ReleaseBudget
from dayfly.federation.deployed.socket_frames import ServiceAbsent, Status, receive, send
from dayfly.federation.errors import Refused, Replayed
from dayfly.federation.grid import Party
from dayfly.federation.identity import Identities, SigningIdentity
from dayfly.federation.journal import (
    Journal,
    JournaledParty,
    JournalHead,
    RecordedClock,
    RecordedNoise,
    RecordedRandom,
    sweep,
)
from dayfly.federation.runs.data import ChannelData
from dayfly.federation.runs.seats import Seat, protocol_named
from dayfly.federation.runs.tickets import Opened, opened_parcel
from dayfly.federation.wire import SERVER
from dayfly.privacy.errors import DayflyError
from dayfly.privacy.noise import NoiseSource

__all__ = ["ChannelService", "SocketServer"]

_LOG: Final = logging.getLogger(__name__)
_DONE: Final = ".done"
_NAME: Final = re.compile(r"(?P<until>\d+)-(?P<run>[0-9a-f]+)(?P<done>\.done)?")


class ChannelService:
    """One channel, all its runs. Requests are answered one after the other.

    Args:
        identity: Of the channel's node.
        identities: All registered parties and the server.
        home: The channel's folder; journals are kept in it.
        secret: Under which journals are sealed, see `journal_secret`.
        load: Reads the channel's table.
        budget: Where a run pays; told whether it goes on from its journal.
        protocols: What the channel takes part in.
        random_bytes, noise, now_ms: Where chance and time come from.
        opened: Told each journal when it is opened.

    Raises:
        StoreLocked: another service has this home.
    """

    def __init__(
        self,
        identity: SigningIdentity,
        identities: Identities,
        *,
        home: Path,
        secret: bytes,
        load: Callable[[], ChannelData],
        budget: Callable[[bool], ReleaseBudget],
        protocols: Collection[str],
        random_bytes: Callable[[int], bytes],
        noise: NoiseSource,
        now_ms: Callable[[], int],
        opened: Callable[[Journal], object] | None = None,
    ) -> None:
        self._opened: Final = opened or (lambda _: None)
        self._identity: Final = identity
        self._identities: Final = identities
        self._folder: Final = home / "journals"
        self._secret: Final = secret
        self._load: Final = load
        self._budget: Final = budget
        self._protocols: Final = frozenset(protocols)
        self._random_bytes: Final = random_bytes
        self._noise: Final = noise
        self._now_ms: Final = now_ms
        self._busy: Final = threading.Lock()
        self._runs: Final[dict[bytes, tuple[Journal, JournaledParty]]] = {}
        self._shelf: Final = FolderShelf(home / "kept")
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock: Final = StoreLock.acquire(self._folder, started_ms=now_ms())
        sweep(self._folder)
        self._forget_old()

    @property
    def name(self) -> str:
        """The channel's."""
        return self._identity.name

    def handle(self, parcel: bytes) -> bytes:
        """The reply to a parcel of the server.

        Raises:
            FederationError: it is declined; nothing was revealed.
        """
        opened = opened_parcel(parcel, self._identities, me=self.name, now_ms=self._now_ms())
        with self._busy:
            return self._party(opened).handle(opened.frame)

    def end(self, run: bytes) -> None:
        """A run is over: its journal is destroyed."""
        with self._busy:
            found = self._runs.pop(run, None)
            if found is None:
                return
            name = self._path_name(run)
            journal, _ = found
            if name is not None:
                (self._folder / f"{name}{_DONE}").touch(mode=0o600)
            journal.end()

    def close(self) -> None:
        """Let go of everything; runs go on with the next service."""
        with self._busy:
            for journal, _ in self._runs.values():
                journal.close()
            self._runs.clear()
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _party(self, opened: Opened) -> JournaledParty:
        if opened.run in self._runs:
            return self._runs[opened.run][1]
        if opened.ticket.protocol not in self._protocols:
            raise Refused(
                f"protocol={opened.ticket.protocol!r} must be one that {self.name!r} takes part in: {sorted(self._protocols)}; agree on one"
            )
        path = self._folder / f"{opened.ticket.until_ms}-{opened.run.hex()}"
        if path.with_name(f"{path.name}{_DONE}").exists():
            raise Replayed(
                SERVER, f"must send {self.name!r} messages of a run that is not over; begin another run"
            )
        self._forget_old()
        head = JournalHead(opened.run, self.name, opened.ticket.protocol, opened.ticket.terms)
        resumed = path.exists()
        protocol = protocol_named(opened.ticket.protocol)
        data = self._load()
        budget = self._budget(resumed)

        def build(random: RecordedRandom, noise: RecordedNoise, clock: RecordedClock) -> Party:
            return protocol.party(
                Seat(
                    identity=self._identity,
                    identities=self._identities,
                    run=opened.run,
                    data=data,
                    terms=opened.ticket.terms,
                    random_bytes=random,
                    noise=noise,
                    now_ms=clock,
                    budget=budget,
                    began_ms=opened.ticket.began_ms,
                    shelf=self._shelf,
                )
            )

        journal = Journal.open(
            path, head, secret=self._secret, random_bytes=self._random_bytes, now_ms=self._now_ms
        )
        self._opened(journal)
        try:
            party = JournaledParty(
                journal,
                build,
                random_bytes=self._random_bytes,
                noise=self._noise,
                now_ms=self._now_ms,
            )
        except BaseException:
            journal.close()
            raise
        self._runs[opened.run] = (journal, party)
        _LOG.info(
            "run %s: %s %s",
            opened.run.hex()[:8],
            "goes on," if resumed else "begins,",
            opened.ticket.protocol,
        )
        return party

    def _path_name(self, run: bytes) -> str | None:
        return next((path.name for path in self._folder.glob(f"*-{run.hex()}")), None)

    def _forget_old(self) -> None:
        """Runs that are over by their ticket, and the marks of those that ended before it."""
        now_ms = self._now_ms()
        for path in sorted(self._folder.glob("*-*")):
            named = _NAME.fullmatch(path.name)
            if named is None or int(named["until"]) > now_ms:
                continue
            if named["done"]:
                path.unlink()
                continue
            run = bytes.fromhex(named["run"])
            held = self._runs.pop(run, None)
            if held is not None:
                held[0].close()
            path.rename(path.with_name(f"{path.name}.ended"))
        sweep(self._folder)


class FolderShelf:
    """A channel's shelf in a private folder: places of its own customers in rows, under its own eyes alone.

    Args:
        folder: Made with mode 0700.
    """

    def __init__(self, folder: Path) -> None:
        self._folder: Final = folder

    def put(self, key: str, content: bytes) -> None:
        """See `Shelf`."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self._folder / f"{key}.new"
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        new.replace(self._folder / key)
        LOCAL_DISK.sync_folder(self._folder)

    def get(self, key: str) -> bytes | None:
        """See `Shelf`."""
        try:
            return (self._folder / key).read_bytes()
        except FileNotFoundError:
            return None


class SocketServer:
    """Serves a channel's service at a Unix-domain socket, in threads of its own.

    Args:
        handle: Answers a parcel.
        path: Of the socket; its folder is made with mode 0700.
    """

    def __init__(self, handle: Callable[[bytes], bytes], path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            path.unlink()  # of a service that was killed; the home's lock says that it is gone

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                line: socket.socket = self.request
                with suppress(OSError, ServiceAbsent):
                    status, content = _answered(handle, receive(line))
                    send(line, content, status=status)

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True

        self._server: Final = Server(str(path), Handler)
        path.chmod(0o600)
        self._thread: Final = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._path: Final = path
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()
        with suppress(FileNotFoundError):
            self._path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _answered(handle: Callable[[bytes], bytes], parcel: bytes) -> tuple[Status, bytes]:
    try:
        return Status.ANSWERED, handle(parcel)
    except DayflyError as error:
        _LOG.warning("declined: %s", error)
        return Status.DECLINED, str(error).encode()
    except Exception:  # noqa: BLE001 - whatever it is, the coordinator is told that there is one, and no more
        _LOG.exception("a defect, or a disk that refuses")
        return Status.DECLINED, b"the channel has a defect; its operator finds it in the log"
