"""Liveness: a connection that a channel's service keeps to the coordinator while a run is on.

Claim: a party counts as alive only by what its registered node signed for this listener; a run ends at a channel only by the server's word.
Argument: the listener draws a nonce for each connection, and every sign of life is signed over that nonce and a rising number, so that
nothing old counts. The word that a run is over is signed by the server and names the run.
Not claimed: secrecy. Names, instants and the ends of runs can be read on the way; nothing else is said here. Who cuts the connection makes
a channel look dead, as who cuts its cable does.
"""

import socket
import socketserver
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

import msgspec

from dayfly.federation.errors import BadMessage, DeploymentError, FederationError
from dayfly.federation.identity import Identities, SigningIdentity
from dayfly.federation.wire import SERVER, Envelope, seal, unseal

__all__ = ["Pulse", "PulseListener"]

_NONCE_BYTES: Final = 32
_LARGEST: Final = 4_096
_PATIENCE_SECONDS: Final = 5.0
_ALIVE, _ENDED = "alive", "ended"
_encode: Final = msgspec.msgpack.Encoder().encode


class PulseListener:
    """The coordinator's end; `silent_seconds` and `starts` are the `Liveness` of a Flower grid.

    Args:
        identity: The server's.
        identities: All registered parties.
        address: Host and port to listen at; port 0 takes a free one.
        random_bytes: For nonces.
        monotonic: Clock.

    Raises:
        DeploymentError: the address cannot be listened at.
    """

    def __init__(
        self,
        identity: SigningIdentity,
        identities: Identities,
        address: tuple[str, int],
        *,
        random_bytes: Callable[[int], bytes],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._identity: Final = identity
        self._identities: Final = identities
        self._random_bytes: Final = random_bytes
        self._monotonic: Final = monotonic
        self._began: Final = monotonic()
        self._seen: Final[dict[str, float]] = {}
        self._starts: Final[dict[str, int]] = {}
        self._lines: Final[dict[str, socket.socket]] = {}
        listener = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                listener.serve(self.request)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

        try:
            self._server: Final = Server(address, Handler)
        except OSError as error:
            raise DeploymentError(
                f"liveness={address[0]}:{address[1]} must be an address of this machine that is free ({error.strerror});"
                " correct server.yaml, or end what listens there"
            ) from error
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def silent_seconds(self, party: str) -> float:
        """Time since the last sign of life, or since listening began."""
        return self._monotonic() - self._seen.get(party, self._began)

    def starts(self, party: str) -> int:
        """How often it connected."""
        return self._starts.get(party, 0)

    def end(self, run: bytes) -> None:
        """Tell every channel that is connected that a run is over."""
        for party, line in list(self._lines.items()):
            word = seal(self._identity, Envelope(run, 1, SERVER, party, _ENDED, b""), reply=False)
            with suppress(OSError):
                _send(line, word)

    def serve(self, line: socket.socket) -> None:
        """One connection, to its end."""
        party, number = "", 0
        with suppress(OSError, FederationError, msgspec.MsgspecError, UnicodeDecodeError):
            line.settimeout(_PATIENCE_SECONDS)
            nonce = self._random_bytes(_NONCE_BYTES)
            _send(line, nonce)
            while True:
                name, signed = msgspec.msgpack.decode(_receive(line), type=tuple[str, bytes])
                sign = unseal(signed, self._identities, sender=name, receiver=SERVER, reply=True)
                if (
                    sign.kind != _ALIVE
                    or sign.run != nonce
                    or sign.number <= number
                    or party not in ("", name)
                ):
                    raise BadMessage(name, "must send signs of life of its own for this connection")
                if not party:
                    self._lines[name] = line
                    self._starts[name] = self.starts(name) + 1
                party, number = name, sign.number
                self._seen[party] = self._monotonic()
        if self._lines.get(party) is line:
            del self._lines[party]

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Pulse:
    """A channel's end: connects whenever a coordinator listens, and shows life each second.

    Args:
        identity: The channel's.
        identities: All registered parties and the server.
        address: Host and port of the coordinator's listener.
        healthy: Whether the channel can answer; otherwise it shows no life.
        ended: Told the runs that are over.
        every_seconds: Between signs of life.
    """

    def __init__(
        self,
        identity: SigningIdentity,
        identities: Identities,
        address: tuple[str, int],
        *,
        healthy: Callable[[], bool] = lambda: True,
        ended: Callable[[bytes], object] = lambda _: None,
        every_seconds: float = 1.0,
    ) -> None:
        self._identity: Final = identity
        self._identities: Final = identities
        self._address: Final = address
        self._healthy: Final = healthy
        self._ended: Final = ended
        self._every_seconds: Final = every_seconds
        self._stop: Final = threading.Event()
        self._thread: Final = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Show no more life."""
        self._stop.set()
        self._thread.join(timeout=5.0)

    def _beat(self) -> None:
        while not self._stop.is_set():
            with (
                suppress(OSError, FederationError),
                socket.create_connection(self._address, timeout=_PATIENCE_SECONDS) as line,
            ):
                self._show(line)
            self._stop.wait(self._every_seconds)

    def _show(self, line: socket.socket) -> None:
        nonce, number, name = _receive(line), 0, self._identity.name
        line.settimeout(self._every_seconds)
        while not self._stop.is_set():
            if self._healthy():
                number += 1
                sign = seal(self._identity, Envelope(nonce, number, name, SERVER, _ALIVE, b""), reply=True)
                _send(line, _encode((name, sign)))
            try:
                word = _receive(line)
            except TimeoutError:
                continue
            found = unseal(word, self._identities, sender=SERVER, receiver=name, reply=False)
            if found.kind == _ENDED:
                self._ended(found.run)


def _send(line: socket.socket, content: bytes) -> None:
    line.sendall(len(content).to_bytes(2, "big") + content)


def _receive(line: socket.socket) -> bytes:
    size = int.from_bytes(_exactly(line, 2), "big")
    if size > _LARGEST:
        raise ConnectionError("a longer message than any that is sent here")
    return _exactly(line, size)


def _exactly(line: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = line.recv(size - len(found))
        if not part:
            raise ConnectionError("the connection ended")
        found += part
    return found
