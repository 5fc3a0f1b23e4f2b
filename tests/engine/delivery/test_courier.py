"""The courier and the HTTP transport against a real server on the loopback interface."""

import asyncio
import base64
import contextlib
import hmac
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from dayfly.engine.delivery import (
    AudienceCounts,
    Courier,
    Delivery,
    HttpTransport,
    Outcome,
    Progress,
    Resolver,
    Result,
    Send,
)
from dayfly.engine.errors import DeliveryError

from .certificates import certificates
from .support import (
    NOW,
    SECRET,
    TTL,
    Answer,
    Clock,
    Receiver,
    Seen,
    endpoint,
    middle,
    ready,
    recalled,
    receiver,
    reset,
    say,
    settings_of,
    wait_until,
    wall_clock,
)

QUICK: dict[str, Any] = {"backoff": {"delays_ms": [0, 20]}}
LOCAL: dict[str, Any] = {"allow_http": True, "allow_networks": ["127.0.0.0/8"]}


def local(name: str, server: Receiver, **fields: Any) -> dict[str, Any]:
    """An endpoint on this machine, which settings must allow in words."""
    return endpoint(name, url=server.url, allow_ports=[server.port], **LOCAL, **fields)


@contextlib.contextmanager
def delivering(
    *endpoints: dict[str, Any], resolver: Resolver | None = None, **transport: Any
) -> Iterator[Delivery]:
    """A delivery with a courier that runs; an error of the courier fails the test."""
    errors: list[BaseException] = []
    if resolver is not None:
        transport["resolver"] = resolver
    with (
        Delivery(":memory:", settings_of(*endpoints), tenant="t", random=middle) as delivery,
        Courier(
            delivery,
            HttpTransport(now_ms=wall_clock, **transport),
            now_ms=wall_clock,
            on_error=errors.append,
        ),
    ):
        yield delivery
    assert errors == []


def fresh(position: int, **fields: Any) -> Any:
    """A fragment that lives from now on."""
    now_ms = wall_clock()
    return ready(position, at_ms=now_ms, **{"expires_at_ms": now_ms + 60_000, **fields})


def counts(delivery: Delivery) -> AudienceCounts:
    (found,) = delivery.counts(now_ms=wall_clock())
    return found


def test_a_thin_message_arrives_as_a_signed_cloudevent() -> None:
    with receiver() as server, delivering(local("crm-7", server)) as delivery:
        item = fresh(1, version=41)
        delivery.take([item], now_ms=wall_clock())
        wait_until(lambda: counts(delivery).delivered == 1)
    (request,) = server.seen
    event = json.loads(request.body)
    assert event["dataref"] == "https://cdp.example/fragments/jti-1"
    assert "data" not in event
    assert item.token not in request.body.decode()
    assert event["id"] == request.headers["webhook-id"]
    assert event["sequence"] == "00000000000000000041"
    assert request.headers["content-type"].startswith("application/cloudevents+json")
    assert request.headers["host"] == f"127.0.0.1:{server.port}"
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    signed = (
        f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + request.body
    )
    mac = base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    assert request.headers["webhook-signature"] == f"v1,{mac}"


def test_the_reference_receiver_accepts_what_arrives() -> None:
    peer = pytest.importorskip("standardwebhooks", reason="needs the package standardwebhooks")
    with receiver() as server, delivering(local("crm-7", server, form="full")) as delivery:
        delivery.take([fresh(1, token="sealed~fragment~")], now_ms=wall_clock())
        wait_until(lambda: counts(delivery).delivered == 1)
    (request,) = server.seen
    event = peer.Webhook(SECRET).verify(request.body, request.headers)
    assert event["data"] == {"fragment": "sealed~fragment~"}


def test_connections_are_used_again() -> None:
    with receiver() as server, delivering(local("crm-7", server, concurrency=2)) as delivery:
        delivery.take([fresh(position) for position in range(1, 61)], now_ms=wall_clock())
        wait_until(lambda: counts(delivery).delivered == 60)
    assert len(set(server.ids())) == len(server.ids()) == 60
    assert server.connections <= 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (say(500), "http_500"),
        (say(302, Location="http://127.0.0.1:1/elsewhere"), "http_302"),
        (reset, "reset"),
        (say(503), "http_503"),
    ],
)
def test_a_failure_is_retried_under_the_same_id(answer: Answer, reason: str) -> None:
    def second_time_lucky(handler: BaseHTTPRequestHandler, seen: Seen) -> None:
        (say(200) if len(server.seen) > 1 else answer)(handler, seen)

    with receiver(second_time_lucky) as server, delivering(local("crm-7", server, **QUICK)) as delivery:
        delivery.take([fresh(1)], now_ms=wall_clock())
        wait_until(lambda: counts(delivery).delivered == 1)
        assert list(counts(delivery).attempts_failed) in ([reason], ["protocol"])
    first, second = server.seen
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    assert first.path == second.path == "/hook"


def test_a_refusal_is_not_retried_and_gone_switches_the_endpoint_off() -> None:
    with receiver(say(404)) as refusing, receiver(say(410)) as gone:
        with delivering(local("a", refusing, **QUICK), local("b", gone, **QUICK)) as delivery:
            delivery.take([fresh(1)], now_ms=wall_clock())
            wait_until(lambda: sum(counts(delivery).failed.values()) == 2)
            delivery.take([fresh(2)], now_ms=wall_clock())
            wait_until(lambda: sum(counts(delivery).failed.values()) == 4)
            assert dict(counts(delivery).failed) == {"http_404": 2, "http_410": 1, "disabled": 1}
            assert [health.state for health in delivery.endpoints(now_ms=wall_clock())] == [
                "open",
                "disabled",
            ]
        assert len(refusing.seen) == 2
        assert len(gone.seen) == 1


def test_a_huge_answer_is_cut_and_counts_by_its_status() -> None:
    taken = []

    def pour(handler: BaseHTTPRequestHandler, _seen: Seen) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(10**12))
        handler.end_headers()
        while True:
            handler.wfile.write(bytes(65_536))
            taken.append(65_536)

    with receiver(pour) as server, delivering(local("crm-7", server)) as delivery:
        delivery.take([fresh(1)], now_ms=wall_clock())
        wait_until(lambda: counts(delivery).delivered == 1)
    assert sum(taken) < 50_000_000


def test_an_endless_header_is_a_failure() -> None:
    def babble(handler: BaseHTTPRequestHandler, _seen: Seen) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            handler.wfile.write(b"y" * 65_536)

    with receiver(babble) as server, delivering(local("crm-7", server)) as delivery:
        delivery.take([fresh(1)], now_ms=wall_clock())
        wait_until(lambda: bool(counts(delivery).attempts_failed))
        assert next(iter(counts(delivery).attempts_failed)) in {"protocol", "reset"}


@pytest.mark.parametrize("part", ["head", "body"])
def test_a_slow_loris_is_left_after_the_time_limit(part: str) -> None:
    done = threading.Event()

    def drip(handler: BaseHTTPRequestHandler, _seen: Seen) -> None:
        if part == "body":
            handler.send_response(200)
            handler.send_header("Content-Length", "1000")
            handler.end_headers()
        else:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        while not done.wait(0.02):
            handler.wfile.write(b"y")

    with receiver(drip) as server:
        limit_seconds = 0.3 if part == "head" else 40
        with delivering(local("crm-7", server, total_seconds=limit_seconds, connect_seconds=0.2)) as delivery:
            delivery.take([fresh(1)], now_ms=wall_clock())
            if part == "body":  # the status has come: what follows changes nothing
                wait_until(lambda: counts(delivery).delivered == 1)
            else:
                wait_until(lambda: dict(counts(delivery).attempts_failed).get("timeout", 0) >= 1)
        done.set()


def test_an_endpoint_that_never_answers_holds_up_nobody_else() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,  # connections wait in its backlog for ever
        receiver() as server,
        delivering(
            endpoint(
                "dead",
                url=f"http://127.0.0.1:{silent.getsockname()[1]}/",
                allow_ports=[silent.getsockname()[1]],
                **LOCAL,
            ),
            local("living", server),
        ) as delivery,
    ):
        delivery.take([fresh(position) for position in range(1, 101)], now_ms=wall_clock())
        wait_until(lambda: counts(delivery).delivered == 100)
        dead, living = delivery.endpoints(now_ms=wall_clock())
        assert (living.queued, dead.queued) == (0, 100)
        assert not counts(delivery).attempts_failed, "the dead one has not even timed out yet"


def test_nothing_is_sent_at_or_after_expiry_although_a_connection_is_slow_to_come() -> None:
    clock = Clock(NOW)

    def slow(host: str, port: int) -> list[str]:
        clock.now_ms = NOW + TTL
        return ["127.0.0.1"]

    with receiver() as server:
        url = f"http://crm.example:{server.port}/hook"
        settings = settings_of(endpoint(url=url, allow_ports=[server.port], **LOCAL))
        with Delivery(":memory:", settings, tenant="t", random=middle) as delivery:
            delivery.take([ready(1)], now_ms=NOW)
            (send,) = delivery.step([], now_ms=NOW).sends
            result, progress = post(send, HttpTransport(now_ms=clock, resolver=slow))
        assert (result.outcome, progress.reached) == (Outcome.ABORTED, False)
        assert server.seen == []


def test_nothing_is_sent_that_is_recalled_while_the_connection_comes() -> None:
    with receiver() as server:
        url = f"http://crm.example:{server.port}/hook"
        settings = settings_of(endpoint(url=url, allow_ports=[server.port], **LOCAL))
        with Delivery(":memory:", settings, tenant="t", random=middle) as delivery:

            def recalling(host: str, port: int) -> list[str]:
                delivery.take([recalled(2, "order-1")], now_ms=NOW)
                return ["127.0.0.1"]

            delivery.take([ready(1)], now_ms=NOW)
            (send,) = delivery.step([], now_ms=NOW).sends
            result, progress = post(send, HttpTransport(now_ms=Clock(NOW), resolver=recalling))
            assert (result.outcome, progress.reached) == (Outcome.ABORTED, False)
            assert delivery.step([(send.job_id, result)], now_ms=NOW).sends == ()
        assert server.seen == []


def test_a_recall_breaks_off_the_request_in_flight_and_follows_it() -> None:
    stuck = threading.Event()

    def hang_on_fragments(handler: BaseHTTPRequestHandler, seen: Seen) -> None:
        if json.loads(seen.body)["type"].endswith("ready"):
            stuck.wait(60)
        say(204)(handler, seen)

    with (
        receiver(hang_on_fragments) as server,
        delivering(local("crm-7", server, total_seconds=40)) as delivery,
    ):
        delivery.take([fresh(1)], now_ms=wall_clock())
        wait_until(lambda: len(server.seen) == 1)
        delivery.take([recalled(2, "order-1")], now_ms=wall_clock())
        wait_until(lambda: counts(delivery).recalls_delivered == 1)
        stuck.set()
    assert [json.loads(request.body)["type"].rpartition(".")[2] for request in server.seen] == [
        "ready",
        "recalled",
    ]


def test_stopping_notes_how_far_each_request_got(tmp_path: Path) -> None:
    path = tmp_path / "delivery.db"
    errors: list[BaseException] = []
    stuck = threading.Event()

    def hang(_handler: BaseHTTPRequestHandler, _seen: Seen) -> None:
        stuck.wait(20)

    with receiver(hang) as server:
        settings = settings_of(local("crm-7", server))
        with Delivery(path, settings, tenant="t", random=middle) as delivery:
            with Courier(
                delivery, HttpTransport(now_ms=wall_clock), now_ms=wall_clock, on_error=errors.append
            ):
                delivery.take([fresh(1)], now_ms=wall_clock())
                wait_until(lambda: len(server.seen) == 1)
            stuck.set()
        with Delivery(path, settings, tenant="t", random=middle) as delivery:
            delivery.take([recalled(2, "order-1")], now_ms=wall_clock())
            (send,) = delivery.step([], now_ms=wall_clock()).sends
            assert json.loads(send.body)["type"] == "dayfly.fragment.recalled"
    assert errors == []


def test_what_had_not_left_when_the_courier_stopped_needs_no_recall(tmp_path: Path) -> None:
    asked, waiting = threading.Event(), threading.Event()

    def hanging(host: str, port: int) -> list[str]:
        asked.set()
        waiting.wait(20)
        return ["8.8.8.8"]

    errors: list[BaseException] = []
    settings = settings_of(endpoint())
    with Delivery(tmp_path / "delivery.db", settings, tenant="t", random=middle) as delivery:
        transport = HttpTransport(now_ms=wall_clock, resolver=hanging)
        with Courier(delivery, transport, now_ms=wall_clock, on_error=errors.append):
            delivery.take([fresh(1)], now_ms=wall_clock())
            assert asked.wait(20)
        waiting.set()
    with Delivery(tmp_path / "delivery.db", settings, tenant="t", random=middle) as delivery:
        delivery.take([recalled(2, "order-1")], now_ms=wall_clock())
        assert delivery.step([], now_ms=wall_clock()).sends == ()
    assert errors == []


def test_an_error_of_the_disk_ends_the_courier_and_is_told() -> None:
    errors: list[BaseException] = []
    with receiver() as server:
        delivery = Delivery(":memory:", settings_of(local("crm-7", server)), tenant="t", random=middle)
        courier = Courier(
            delivery, HttpTransport(now_ms=wall_clock), now_ms=wall_clock, on_error=errors.append
        )
        courier.start()
        delivery.close()
        wait_until(lambda: bool(errors))
        courier.stop()
    assert isinstance(errors[0], DeliveryError)


def test_an_error_of_a_transport_ends_the_courier_and_is_told() -> None:
    class Broken:
        async def post(self, send: Send, progress: Progress) -> Result:
            raise ZeroDivisionError

        async def close(self) -> None:
            return

    errors: list[BaseException] = []
    with (
        Delivery(":memory:", settings_of(endpoint()), tenant="t", random=middle) as delivery,
        Courier(delivery, Broken(), now_ms=wall_clock, on_error=errors.append),
    ):
        delivery.take([fresh(1)], now_ms=wall_clock())
        wait_until(lambda: bool(errors))
    assert isinstance(errors[0], ZeroDivisionError)


# --- where it connects -----------------------------------------------------------------------------------------------


def post(send: Send, transport: HttpTransport) -> tuple[Result, Progress]:
    """One attempt on a loop of its own."""
    progress = Progress()

    async def attempt() -> Result:
        try:
            return await transport.post(send, progress)
        finally:
            await transport.close()

    return asyncio.run(attempt()), progress


def attempt_at(url: str, transport: HttpTransport, **fields: Any) -> tuple[Result, Progress]:
    """One attempt of a fragment to an endpoint."""
    with Delivery(
        ":memory:", settings_of(endpoint(url=url, **fields)), tenant="t", random=middle
    ) as delivery:
        delivery.take([fresh(1)], now_ms=wall_clock())
        (send,) = delivery.step([], now_ms=wall_clock()).sends
        return post(send, transport)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "169.254.169.254", "0.0.0.0"]
)
def test_a_literal_address_of_our_own_network_is_not_connected_to(host: str) -> None:
    with receiver() as server:
        result, progress = attempt_at(
            f"http://{host}:{server.port}/",
            HttpTransport(now_ms=wall_clock),
            allow_http=True,
            allow_ports=[server.port],
        )
        assert (result.outcome, result.reason, progress.reached) == (Outcome.FAILED, "address", False)
        assert server.connections == 0


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], []])
def test_a_name_that_leads_into_our_own_network_is_not_connected_to(addresses: list[str]) -> None:
    with receiver() as server:
        result, _ = attempt_at(
            f"http://crm.example:{server.port}/",
            HttpTransport(now_ms=wall_clock, resolver=lambda _host, _port: addresses),
            allow_http=True,
            allow_ports=[server.port],
        )
        assert (result.reason, result.reached) == ("address", False)
        assert server.connections == 0


def test_a_name_is_resolved_once_and_the_checked_address_is_connected_to() -> None:
    """A name that answers differently the second time (DNS rebinding) is not asked a second time."""
    asked: list[tuple[str, int]] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    with receiver() as server:
        result, _ = attempt_at(
            f"http://crm.example:{server.port}/",
            HttpTransport(now_ms=wall_clock, resolver=rebinding),
            allow_http=True,
            allow_ports=[server.port],
            allow_networks=["127.0.0.1/32"],
        )
        assert result.outcome is Outcome.DELIVERED
        assert asked == [("crm.example", server.port)]
        assert server.seen[0].headers["host"] == f"crm.example:{server.port}"


def test_the_next_address_of_a_name_is_tried() -> None:
    with receiver() as server:
        result, _ = attempt_at(
            f"http://crm.example:{server.port}/",
            HttpTransport(now_ms=wall_clock, resolver=lambda _host, _port: ["127.0.0.9", "127.0.0.1"]),
            allow_ports=[server.port],
            **LOCAL,
        )
        assert result.outcome is Outcome.DELIVERED


def test_a_name_that_is_unknown_or_slow_is_a_failure_that_did_not_reach() -> None:
    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    waiting = threading.Event()

    def slow(host: str, port: int) -> list[str]:
        waiting.wait(20)
        return ["8.8.8.8"]

    for resolver, reason in ((unknown, "name"), (slow, "timeout")):
        result, _ = attempt_at(
            "https://crm.example/",
            HttpTransport(now_ms=wall_clock, resolver=resolver),
            connect_seconds=0.1,
        )
        assert (result.outcome, result.reason, result.reached) == (Outcome.FAILED, reason, False)
    waiting.set()


def test_a_closed_port_is_a_failure_that_did_not_reach() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closing:
        port = closing.getsockname()[1]
    result, _ = attempt_at(
        f"http://127.0.0.1:{port}/", HttpTransport(now_ms=wall_clock), allow_ports=[port], **LOCAL
    )
    assert (result.outcome, result.reason, result.reached) == (Outcome.FAILED, "connect", False)


def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with receiver() as server:
        result, _ = attempt_at(
            server.url, HttpTransport(now_ms=wall_clock), allow_ports=[server.port], **LOCAL
        )
        assert result.outcome is Outcome.DELIVERED


# --- TLS -------------------------------------------------------------------------------------------------------------


def test_a_server_is_verified_by_name_although_an_address_is_connected_to(tmp_path: Path) -> None:
    authority, server_side = certificates(tmp_path, "crm.example")
    trusting = ssl.create_default_context(cafile=str(authority))
    with receiver(tls=server_side) as server:
        for host, tls, expected in (
            ("crm.example", trusting, "http_204"),
            ("other.example", trusting, "tls"),
            ("crm.example", None, "tls"),
        ):
            result, progress = attempt_at(
                f"https://{host}:{server.port}/",
                HttpTransport(now_ms=wall_clock, resolver=lambda _host, _port: ["127.0.0.1"], tls=tls),
                allow_ports=[server.port],
                allow_networks=["127.0.0.0/8"],
            )
            assert result.reason == expected
            assert progress.reached == (expected == "http_204")
        assert len(server.seen) == 1


def test_a_server_that_speaks_no_tls_gets_no_byte_of_the_message() -> None:
    with receiver() as server:
        result, progress = attempt_at(
            f"https://127.0.0.1:{server.port}/",
            HttpTransport(now_ms=wall_clock),
            allow_ports=[server.port],
            allow_networks=["127.0.0.0/8"],
        )
        assert (result.reason, progress.reached) == ("tls", False)
        assert server.seen == []
