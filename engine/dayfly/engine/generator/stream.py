"""The generator: people arrive as an inhomogeneous Poisson process, act, and their messages come out in received order."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from dayfly.engine.errors import GeneratorError

from .draw import Draw
from .faults import Fault, Shares, break_payload
from .payloads import FORMS, Form, render
from .people import Person, new_person
from .sessions import Action, hotline_call, marketplace_order, shopping, store_visit
from .times import DAY_MS, local_hour

__all__ = ["Generator", "RawEvent"]

HOURLY: Final = (3, 1.5, 1, 0.7, 0.7, 1, 2, 4, 6, 8, 10, 11, 13, 12, 9, 8, 9, 10, 12, 16, 20, 22, 16, 8)
"""Relative number of sessions per local hour: a dip at night, a bump at noon, the peak in the evening."""

EXPORT_EVERY_MS: Final = 300_000
"""The marketplace exports every five minutes."""


class RawEvent(msgspec.Struct, frozen=True, gc=False):
    """One message as it reached the company.

    Attributes:
        channel: Name of the channel, as in the example policy.
        received_ms: When it arrived, UTC.
        payload: Its bytes; for `csv` one row without line end, columns `MARKETPLACE_COLUMNS`.
        form: Its format.
        fault: What is wrong with it, known because the generator did it; empty for most.
    """

    channel: str
    received_ms: int
    payload: bytes
    form: Form
    fault: Fault = ""


@dataclass(frozen=True, slots=True)
class Generator:
    """A seeded stream of realistic multi-channel events. Equal settings give equal bytes.

    Iterating yields `RawEvent` in received order, all received in `[start_ms, start_ms + duration_ms)`. Memory grows with the
    people who appeared and the messages on their way, not with the number of events.

    Attributes:
        seed: Seed of every draw.
        people: Size of the population.
        start_ms, duration_ms: Span of receipt, milliseconds UTC.
        sessions_per_day: Average sessions of a person per day, over all channels.
        shares: Share of messages with each fault.

    Raises:
        GeneratorError: a setting is out of its range.
    """

    seed: int
    people: int
    start_ms: int
    duration_ms: int
    sessions_per_day: float = 2.0
    shares: Shares = Shares()  # noqa: RUF009 - a frozen value

    def __post_init__(self) -> None:
        """Refuse settings that describe nothing."""
        for name in ("people", "duration_ms", "sessions_per_day"):
            if getattr(self, name) <= 0:
                raise GeneratorError(f"{name}={getattr(self, name)!r} must be > 0; pass a larger {name}")

    def __iter__(self) -> Iterator[RawEvent]:
        """The stream, from its beginning."""
        return _Run(self).events()


class _Run:
    """One pass of a generator: its people so far and the messages on their way."""

    def __init__(self, settings: Generator) -> None:
        self._settings = settings
        self._draw = Draw(settings.seed)
        self._people: dict[int, Person] = {}
        self._on_the_way: list[tuple[int, int, RawEvent]] = []
        self._sequence = 0

    def events(self) -> Iterator[RawEvent]:
        end_ms = self._settings.start_ms + self._settings.duration_ms
        waiting = self._on_the_way
        for start_ms in self._arrivals(end_ms):
            # Nothing of this or a later session can arrive before it starts.
            while waiting and waiting[0][0] < start_ms:
                yield heapq.heappop(waiting)[2]
            self._session(start_ms, end_ms)
        while waiting:
            yield heapq.heappop(waiting)[2]

    def _arrivals(self, end_ms: int) -> Iterator[int]:
        """Session starts by thinning (Lewis and Shedler 1979)."""
        settings, draw = self._settings, self._draw
        peak = max(HOURLY)
        rate_per_ms = settings.people * settings.sessions_per_day * peak / (sum(HOURLY) / 24) / DAY_MS
        time_ms = float(settings.start_ms)
        while True:
            time_ms += draw.exponential(1.0 / rate_per_ms)
            if time_ms >= end_ms:
                return
            if draw.uniform() * peak < HOURLY[local_hour(int(time_ms))]:
                yield int(time_ms)

    def _session(self, start_ms: int, end_ms: int) -> None:
        draw = self._draw
        # The square favours low numbers: some people come often, most seldom.
        number = int(draw.uniform() ** 2 * self._settings.people)
        person = self._people.get(number)
        if person is None:
            person = self._people[number] = new_person(number, draw)
        for action in _script(person, start_ms, draw):
            self._send(person, action, end_ms)

    def _send(self, person: Person, action: Action, end_ms: int) -> None:
        draw, shares = self._draw, self._settings.shares
        sent_ms = action.at_ms + 20 + int(draw.exponential(60))
        if action.channel == "marketplace":
            sent_ms = -(-action.at_ms // EXPORT_EVERY_MS) * EXPORT_EVERY_MS
        elif action.channel == "hotline":
            sent_ms = action.at_ms + _call_ms(action)
        fault: Fault = ""
        point = draw.uniform()
        if point < shares.late:
            sent_ms += int(draw.log_between(60_000, 6 * 3_600_000))
            fault = "late"
        elif point < shares.late + shares.disordered:
            sent_ms += draw.between(1_000, 30_000)
            fault = "disordered"
        received_ms = sent_ms + 5 + int(draw.exponential(40))
        payload = render(person, action, sent_ms, draw)
        if draw.chance(shares.malformed):
            payload, fault = break_payload(payload, draw), "malformed"
        form = FORMS[action.channel]
        self._put(RawEvent(action.channel, received_ms, payload, form, fault), end_ms)
        if fault != "malformed" and draw.chance(shares.duplicate):
            again_ms = received_ms + int(draw.log_between(50, 60_000))
            self._put(RawEvent(action.channel, again_ms, payload, form, "duplicate"), end_ms)

    def _put(self, event: RawEvent, end_ms: int) -> None:
        if event.received_ms < end_ms:
            self._sequence += 1
            heapq.heappush(self._on_the_way, (event.received_ms, self._sequence, event))


def _call_ms(action: Action) -> int:
    seconds = action.properties["duration_s"]
    return seconds * 1_000 if isinstance(seconds, int) else 0


def _script(person: Person, start_ms: int, draw: Draw) -> Iterator[Action]:
    point = draw.uniform()
    if point < 0.52:
        return shopping(person, "app", start_ms, draw)
    if point < 0.86:
        return shopping(person, "web", start_ms, draw)
    if point < 0.95:
        return store_visit(person, start_ms, draw)
    if point < 0.98:
        return marketplace_order(person, start_ms, draw)
    return hotline_call(person, start_ms, draw)
