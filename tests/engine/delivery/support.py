"""What the tests of delivery share: settings, feed items, a receiver that behaves as it is told."""

import base64
import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

from dayfly.engine.delivery import (
    Delivery,
    DeliverySettings,
    FragmentEnded,
    FragmentReady,
    FragmentRecalled,
    Outcome,
    Result,
    load_settings,
)

CRM = "https://crm.example"
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER_SECRET = "whsec_" + base64.b64encode(bytes(range(32, 64))).decode()
OK = Result(Outcome.DELIVERED, "http_200")
ERROR = Result(Outcome.FAILED, "http_500")
UNREACHED = Result(Outcome.FAILED, "connect", reached=False)
NOW = 1_800_000_000_000
TTL = 1_800_000


def middle() -> float:
    """Randomness that leaves waiting times as they are written."""
    return 0.5


def endpoint(name: str = "crm-7", **fields: Any) -> dict[str, Any]:
    """An endpoint as written in settings."""
    return {
        "name": name,
        "audience": CRM,
        "url": f"https://{name}.example/hook",
        "secrets": [SECRET],
        **fields,
    }


def settings_of(*endpoints: dict[str, Any], pull: Sequence[str] = ()) -> DeliverySettings:
    """Checked settings of these endpoints."""
    return load_settings(
        yaml.safe_dump(
            {
                "source": "https://cdp.example",
                "dataref": "https://cdp.example/fragments/{jti}",
                "endpoints": list(endpoints),
                "pull": list(pull),
            }
        )
    )


def open_delivery(path: Any = ":memory:", settings: DeliverySettings | None = None) -> Delivery:
    """A delivery whose jitter is nothing."""
    return Delivery(path, settings or settings_of(endpoint()), tenant="t", random=middle)


def ready(position: int, **fields: Any) -> FragmentReady:
    """A fragment of half an hour, minted at `NOW`."""
    return FragmentReady(
        **{
            "position": position,
            "at_ms": NOW,
            "jti": f"jti-{position}",
            "order_id": f"order-{position}",
            "audience": CRM,
            "version": position,
            "token": f"token-{position}",
            "expires_at_ms": NOW + TTL,
            **fields,
        }
    )


def recalled(position: int, *order_ids: str, **fields: Any) -> FragmentRecalled:
    """A recall by order ids."""
    return FragmentRecalled(
        **{
            "position": position,
            "at_ms": NOW,
            "audience": CRM,
            "reason": "contradicted",
            "order_ids": order_ids,
            **fields,
        }
    )


def ended(position: int, jti: str, *, reason: str = "expired", leases: int = 0) -> FragmentEnded:
    """The end of a fragment."""
    return FragmentEnded(position=position, at_ms=NOW, jti=jti, audience=CRM, reason=reason, leases=leases)


class Clock:
    """A clock that is set by hand."""

    def __init__(self, now_ms: int = NOW) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


def wall_clock() -> int:
    """Milliseconds of the machine, for the tests that talk to a real server."""
    return time.time_ns() // 1_000_000


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Return when it holds; fail after `seconds`, which only a broken build needs."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.005)


@dataclass
class Seen:
    """One request that a receiver got."""

    path: str
    headers: dict[str, str]
    body: bytes
    peer: tuple[str, int]


@dataclass
class Receiver:
    """A web server on the loopback interface that keeps what it gets; `answer` decides what it says."""

    port: int
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def ids(self) -> list[str]:
        return [request.headers["webhook-id"] for request in self.seen]


Answer = Callable[[BaseHTTPRequestHandler, Seen], None]


def say(status: int, body: bytes = b"", **headers: str) -> Answer:
    """An answer with a status."""

    def answer(handler: BaseHTTPRequestHandler, _seen: Seen) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def reset(handler: BaseHTTPRequestHandler, _seen: Seen) -> None:
    """Cut the connection with RST after the request was read."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.connection.close()


@contextlib.contextmanager
def receiver(answer: Answer | None = None, *, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A running receiver."""
    reply = answer or say(204)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            kept.connections += 1
            super().setup()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            seen = Seen(self.path, headers, body, self.client_address)
            kept.seen.append(seen)
            with contextlib.suppress(OSError):
                reply(self, seen)

        def finish(self) -> None:
            with contextlib.suppress(OSError, ValueError):
                super().finish()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
            return

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            return

        def get_request(self) -> tuple[Any, Any]:
            connection, address = super().get_request()
            if tls is not None:
                connection.settimeout(5)
                connection = tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            return connection, address

        def shutdown_request(self, request: Any) -> None:
            with contextlib.suppress(OSError):
                super().shutdown_request(request)

    server = Server(("127.0.0.1", 0), Handler)
    kept = Receiver(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield kept
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
