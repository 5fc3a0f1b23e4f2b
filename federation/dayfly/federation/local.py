"""A grid in one process, with counters, a clock that does not run, and faults for tests."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from dayfly.federation.errors import InvalidSetting
from dayfly.federation.grid import DEAD_AFTER_SECONDS, Failure, Party
from dayfly.privacy.errors import DayflyError

__all__ = [
    "Call",
    "Fault",
    "LocalGrid",
    "Outcome",
    "changed",
    "garbage",
    "late",
    "lost_reply",
    "lost_request",
    "replay",
]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What comes back of a call.

    Attributes:
        reply: None when nothing ever does.
        after_seconds: When it arrives.
    """

    reply: bytes | None
    after_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Call:
    """One message to one party.

    Attributes:
        handle: Has the party answer the request.
        earlier: Its earlier replies, in order.
    """

    handle: Callable[[], bytes]
    earlier: tuple[bytes, ...]


Fault = Callable[[Call], Outcome]
"""What goes wrong with a call."""


def lost_request(_: Call) -> Outcome:
    """The request never arrives: the party is gone before it answers."""
    return Outcome(None)


def lost_reply(call: Call) -> Outcome:
    """The party answers and is gone: its reply never arrives."""
    call.handle()
    return Outcome(None)


def late(seconds: float) -> Fault:
    """The reply takes so long."""
    return lambda call: Outcome(call.handle(), seconds)


def garbage(data: bytes) -> Fault:
    """The party sends these bytes."""
    return lambda _: Outcome(data)


def replay(number: int) -> Fault:
    """The party sends its reply number `number`, from 1, once more."""
    return lambda call: Outcome(call.earlier[number - 1])


def changed(change: Callable[[bytes], bytes]) -> Fault:
    """The reply is changed on its way."""
    return lambda call: Outcome(change(call.handle()))


@dataclass
class _Line:
    """What was said to and by a party."""

    requests: int = 0
    replies: list[bytes] = field(default_factory=list)


class LocalGrid:
    """Runs parties in this process, one after the other.

    Time is counted, not waited for: a late reply adds its seconds to `elapsed_seconds`, up to the limit.

    Args:
        parties: Each with a name of its own.
        faults: (party, number of its message from 1) to what goes wrong.
        dead_from: Party to the number of the message from which on nothing reaches it any more.
        dead_after_seconds: A party that does not answer within it is lost, whatever longer timeout is asked for.
        keep_replies: Keep all replies for `replay`; for tests.

    Raises:
        InvalidSetting: two parties have one name, or the limit is not above 0.
    """

    def __init__(
        self,
        parties: Iterable[Party],
        *,
        faults: Mapping[tuple[str, int], Fault] | None = None,
        dead_from: Mapping[str, int] | None = None,
        dead_after_seconds: float = DEAD_AFTER_SECONDS,
        keep_replies: bool = False,
    ) -> None:
        listed = list(parties)
        self._parties: Final = {party.name: party for party in listed}
        if len(self._parties) != len(listed):
            names = sorted(party.name for party in listed)
            raise InvalidSetting(f"parties={names} must have names of their own; rename one")
        if not dead_after_seconds > 0:
            raise InvalidSetting(
                f"dead_after_seconds={dead_after_seconds} must be above 0; pass 10, or what a reply may take"
            )
        self._faults: Final = dict(faults or {})
        self._dead_from: Final = dict(dead_from or {})
        self._dead_after_seconds: Final = dead_after_seconds
        self._keep: Final = keep_replies or bool(self._faults)
        self._lines: Final = {name: _Line() for name in self._parties}
        self.elapsed_seconds = 0.0
        self.messages: Final[Counter[str]] = Counter()
        """Round trips per party, also those that failed."""
        self.bytes_asked: Final[Counter[str]] = Counter()
        self.bytes_answered: Final[Counter[str]] = Counter()

    def parties(self) -> tuple[str, ...]:
        """All parties, sorted."""
        return tuple(sorted(self._parties))

    def ask(
        self, requests: Mapping[str, bytes], *, timeout_seconds: float = DEAD_AFTER_SECONDS
    ) -> dict[str, bytes | Failure]:
        """One message to each, and a reply or a failure of each.

        Raises:
            InvalidSetting: a party is asked that is not of this grid.
        """
        unknown = sorted(set(requests) - set(self._parties))
        if unknown:
            raise InvalidSetting(f"requests to {unknown} must be to parties of the grid, {self.parties()}")
        limit = min(timeout_seconds, self._dead_after_seconds)
        waited = 0.0
        found: dict[str, bytes | Failure] = {}
        for name, request in sorted(requests.items()):
            found[name], seconds = self._one(name, request, limit)
            waited = max(waited, seconds)
        self.elapsed_seconds += waited
        return found

    def _one(self, name: str, request: bytes, limit: float) -> tuple[bytes | Failure, float]:
        line = self._lines[name]
        line.requests += 1
        self.messages[name] += 1
        self.bytes_asked[name] += len(request)
        try:
            outcome = self._call(name, request, line)
        except DayflyError as error:
            return Failure(name, str(error), lost=False), 0.0
        if outcome.reply is None or outcome.after_seconds >= limit:
            return Failure(name, f"did not answer within {limit:g} s; it is lost", lost=True), limit
        self.bytes_answered[name] += len(outcome.reply)
        return outcome.reply, outcome.after_seconds

    def _call(self, name: str, request: bytes, line: _Line) -> Outcome:
        if line.requests >= self._dead_from.get(name, line.requests + 1):
            return Outcome(None)

        def handle() -> bytes:
            reply = self._parties[name].handle(request)
            if self._keep:
                line.replies.append(reply)
            return reply

        fault = self._faults.get((name, line.requests))
        if fault is None:
            return Outcome(handle())
        return fault(Call(handle, tuple(line.replies)))
