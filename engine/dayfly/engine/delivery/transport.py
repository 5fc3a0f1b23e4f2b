"""One attempt over HTTP: to the checked address, once, within its time, with a bounded answer.

httpcore2 does HTTP/1.1 and keeps connections. It asks a network backend for each connection, which is where the guard sits: the
name is resolved once, all its addresses are checked, and the connection goes to one of them, whatever the name says a moment later.
TLS still verifies the name. There are no redirects, no proxies and no retries here.
"""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

import httpcore2

from dayfly.engine.errors import AddressRefused

from .addresses import check_addresses
from .letters import Send
from .outcomes import Outcome, Result, from_status
from .settings import Endpoint
from .signing import signed_headers

__all__ = ["HttpTransport", "Progress", "Resolver", "Transport", "system_resolver"]

Resolver = Callable[[str, int], Sequence[str]]
"""Addresses of a host for a port; may block; raises `OSError` when there are none."""

_DRAIN_SECONDS: Final = 1.0
_KEEP_ALIVE_SECONDS: Final = 30.0
_WRITING: Final = "http11.send_request_headers.started"
_HTTP_ERRORS: Final = (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException)


@dataclass(slots=True)
class Progress:
    """How far an attempt got; readable after it was cancelled."""

    reached: bool = False
    """A byte of the request may have been sent."""
    answer: tuple[int, str | None] | None = None
    """Status and Retry-After, once they were read: nothing after them changes the result."""


class Transport(Protocol):
    """Makes attempts. Raises nothing but `asyncio.CancelledError`."""

    async def post(self, send: Send, progress: Progress) -> Result:
        """Make one attempt."""
        ...

    async def close(self) -> None:
        """Close what is open."""
        ...


class _Withdrawn(Exception):  # noqa: N818 - an event inside this module, not an error
    """The message was recalled, superseded or expired before its first byte."""


def system_resolver(host: str, port: int) -> Sequence[str]:
    """Addresses as the operating system finds them."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(entry[4][0]) for entry in found]


class HttpTransport:
    """Posts messages; one pool of connections and one resolving thread for each endpoint.

    Args:
        now_ms: The clock: time stamps of signatures, and the end of each message.
        resolver: Finds addresses; called in a thread of the endpoint.
        tls: Verifies servers; the system's trust by default.
    """

    def __init__(
        self,
        *,
        now_ms: Callable[[], int],
        resolver: Resolver = system_resolver,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._now_ms = now_ms
        self._resolver = resolver
        self._tls = tls if tls is not None else ssl.create_default_context()
        self._lines: dict[str, _Line] = {}

    async def post(self, send: Send, progress: Progress) -> Result:
        """Make one attempt.

        Guarantees:
            - connects only to addresses that the guard has passed, and to exactly those
            - sends no byte when the message is no longer wanted or has ended
            - ends within the endpoint's `total_seconds` and at the latest at `send.end_ms`
            - reads at most `max_response_bytes` of the answer (and a chunk), for at most a second
        """
        line = self._lines.get(send.endpoint.name)
        if line is None:
            line = self._lines[send.endpoint.name] = _Line(send.endpoint, self._resolver, self._tls)
        remaining = (send.end_ms - self._now_ms()) / 1000
        failure = Result(Outcome.FAILED, "protocol")
        try:
            async with asyncio.timeout(min(send.endpoint.total_seconds, remaining)):
                await self._exchange(line, send, progress)
        except _Withdrawn:
            return Result(Outcome.ABORTED, "withdrawn", reached=False)
        except (OSError, AddressRefused, *_HTTP_ERRORS) as error:
            failure = Result(Outcome.FAILED, _reason(error, progress), reached=progress.reached)
        if progress.answer is None:
            return failure
        status, retry_after = progress.answer
        return from_status(status, retry_after, now_ms=self._now_ms())

    async def close(self) -> None:
        """Close all connections."""
        for line in self._lines.values():
            await line.close()
        self._lines.clear()

    async def _exchange(self, line: "_Line", send: Send, progress: Progress) -> None:
        """Send the request and note the answer."""
        target = send.endpoint.target

        async def trace(event: str, _info: Mapping[str, Any]) -> None:
            if event == _WRITING:
                if not send.wanted() or self._now_ms() >= send.end_ms:
                    raise _Withdrawn
                progress.reached = True

        signed = signed_headers(send.webhook_id, send.body, send.endpoint.secrets, now_ms=self._now_ms())
        request = line.pool.stream(
            "POST",
            httpcore2.URL(scheme=target.scheme, host=target.host, port=target.port, target=target.path),
            headers=[
                ("Host", target.authority),
                ("User-Agent", "dayfly"),
                ("Content-Type", "application/cloudevents+json; charset=utf-8"),
                ("Accept-Encoding", "identity"),
                ("Content-Length", str(len(send.body))),
                *signed,
            ],
            content=send.body,
            extensions={"trace": trace},
        )
        async with request as response:
            retry_after = None
            for name, value in response.headers:
                if name.lower() == b"retry-after":
                    retry_after = value.decode("latin-1")
            progress.answer = response.status, retry_after
            await _drain(response, send.endpoint.max_response_bytes)


class _Line:
    """Connections to one endpoint."""

    def __init__(self, endpoint: Endpoint, resolver: Resolver, tls: ssl.SSLContext) -> None:
        self._backend = _GuardedBackend(endpoint, resolver)
        self.pool = httpcore2.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=endpoint.concurrency,
            keepalive_expiry=_KEEP_ALIVE_SECONDS,
            network_backend=self._backend,
        )

    async def close(self) -> None:
        await self.pool.aclose()
        self._backend.close()


class _GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Connects to checked addresses only.

    Names are resolved in a thread of the endpoint's own: a name server that does not answer holds up nobody else.
    """

    def __init__(self, endpoint: Endpoint, resolver: Resolver) -> None:
        self._endpoint = endpoint
        self._resolver = resolver
        self._network = cast("httpcore2.AsyncNetworkBackend", httpcore2.AnyIOBackend())
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"dayfly-resolve-{endpoint.name}")

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109 - httpcore2's signature; the endpoint's own limit holds
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Resolve, check, connect to the first address that answers."""
        addresses = check_addresses(await self._resolve(host, port), allowed=self._endpoint.allow_networks)
        failure: Exception | None = None
        share_seconds = self._endpoint.connect_seconds / len(addresses)
        for address in addresses:
            try:
                return await self._network.connect_tcp(
                    address,
                    port,
                    timeout=share_seconds,
                    local_address=local_address,
                    socket_options=socket_options,
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise httpcore2.ConnectError(f"{len(addresses)} addresses refused the connection") from failure

    def close(self) -> None:
        """Start no more resolving."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _resolve(self, host: str, port: int) -> Sequence[str]:
        with contextlib.suppress(ValueError):
            return [str(ipaddress.ip_address(host))]
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._endpoint.connect_seconds):
            return await loop.run_in_executor(self._thread, self._resolver, host, port)


async def _drain(response: httpcore2.Response, max_bytes: int) -> None:
    """Read the answer's body so that the connection can be used again; a long or slow one costs the connection instead."""
    left = max_bytes
    with contextlib.suppress(TimeoutError, httpcore2.NetworkError, httpcore2.ProtocolError):
        async with asyncio.timeout(_DRAIN_SECONDS):
            async for chunk in response.aiter_stream():
                left -= len(chunk)
                if left < 0:
                    return


def _reason(error: Exception, progress: Progress) -> str:
    """Code of a failed attempt."""
    if isinstance(error, AddressRefused):
        return "address"
    if isinstance(error, socket.gaierror):
        return "name"
    if isinstance(error, TimeoutError | httpcore2.TimeoutException):
        return "timeout"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return "tls"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpcore2.ProtocolError):
        return "protocol"
    return "reset" if progress.reached else "connect"
