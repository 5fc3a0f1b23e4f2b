"""A world for `Delivery` with a clock of its own: endpoints answer after a while, fragments come when told, nothing waits."""

import heapq
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from dayfly.engine.delivery import Delivery, FeedItem, Outcome, Result, Send

Behaviour = Callable[[Send, int], tuple[int, Result]]
"""What an endpoint does with a request that begins at an instant: how long it takes, and the result."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One request that was made."""

    begin_ms: int
    end_ms: int
    endpoint: str
    body: bytes
    webhook_id: str
    result: Result


def simulate(
    delivery: Delivery,
    behaviours: dict[str, Behaviour],
    feed: Iterable[tuple[int, FeedItem]],
    *,
    until_ms: int,
) -> list[Sent]:
    """Run `delivery` over a feed of (instant, item); an attempt never outlasts its message or its endpoint's patience."""
    order = itertools.count()
    events: list[tuple[int, int, str, Any]] = [(at_ms, next(order), "feed", item) for at_ms, item in feed]
    heapq.heapify(events)
    sent: list[Sent] = []
    flying: dict[int, tuple[Send, bool]] = {}
    wake = -1
    while events and events[0][0] <= until_ms:
        now_ms, number, kind, what = heapq.heappop(events)
        if kind == "wake" and number != wake:
            continue  # each step says anew when to wake
        if kind == "feed":
            delivery.take([what], now_ms=now_ms)
        results = _landed(flying, *what) if kind == "settled" else []
        work = delivery.step(results, now_ms=now_ms)
        for job_id in work.aborts:
            if job_id in flying:
                send, reached = flying[job_id]
                aborted = (send, Result(Outcome.ABORTED, "aborted", reached=reached))
                heapq.heappush(events, (now_ms, next(order), "settled", aborted))
        for send in work.sends:
            took_ms, result = behaviours[send.endpoint.name](send, now_ms)
            limit_ms = min(round(send.endpoint.total_seconds * 1000), send.end_ms - now_ms)
            if took_ms > limit_ms:
                took_ms, result = limit_ms, Result(Outcome.FAILED, "timeout")
            flying[send.job_id] = (send, result.reached)
            heapq.heappush(events, (now_ms + took_ms, next(order), "settled", (send, result)))
            sent.append(
                Sent(now_ms, now_ms + took_ms, send.endpoint.name, send.body, send.webhook_id, result)
            )
        if work.wake_ms is not None:
            wake = next(order)
            heapq.heappush(events, (max(work.wake_ms, now_ms + 1), wake, "wake", None))
    return sent


def _landed(flying: dict[int, tuple[Send, bool]], send: Send, result: Result) -> list[tuple[int, Result]]:
    """The result of a request, unless it was broken off before."""
    if send.job_id not in flying or flying[send.job_id][0] is not send:
        return []
    del flying[send.job_id]
    return [(send.job_id, result)]
