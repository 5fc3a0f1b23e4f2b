"""The courier and the HTTP transport against a real server on the loopback interface."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from dayfly.engine.delivery import Courier, Delivery, HttpTransport
from dayfly.engine.delivery.transport import Resolver

from .support import (
    Receiver,
    endpoint,
    middle,
    ready,
    receiver,
    settings_of,
    wait_until,
    wall_clock,
)

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


def test_a_thin_message_arrives_as_a_signed_cloudevent() -> None:
    with receiver() as server, delivering(local("crm-7", server)) as delivery:
        item = fresh(1, version=41)
        delivery.take([item], now_ms=wall_clock())
        wait_until(lambda: delivery.counts(now_ms=0)[0].delivered == 1)
    (request,) = server.seen
    event = json.loads(request.body)
    assert event["dataref"] == "https://cdp.example/fragments/jti-1"
    assert "data" not in event
    assert item.token not in request.body.decode()
    assert event["id"] == request.headers["webhook-id"]
    assert event["sequence"] == "00000000000000000041"
    assert request.headers["content-type"].startswith("application/cloudevents+json")
    assert request.headers["host"] == f"127.0.0.1:{server.port}"
