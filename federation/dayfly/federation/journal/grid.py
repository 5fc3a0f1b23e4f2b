"""A coordinator that can be killed at any point: it is run again, and hears what it heard before, up to where it stopped.

Claim: however often its process is killed, a coordinator ends with what it would have ended with, and no party is ever sent two
different messages with one number.
Precondition: the coordinator is a function of what the grid says, of its draws and of its settings; the run is the same (`JournalHead`).
Argument: the digest of the requests is durable before they are sent, and the replies before the coordinator has them. Run again, it
asks the same, which is checked, and is given the recorded replies. The last question is asked again where its answer is not
recorded: parties answer a request that they have seen with the bytes that they sent (`JournaledParty`). The same goes for
parties that were away when the last question was asked, as long as nothing was sent that rests on their absence: so a run that
ended because a channel was down goes on when that channel is back.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from dayfly.federation.errors import JournalDiverged
from dayfly.federation.grid import DEAD_AFTER_SECONDS, Failure, Grid
from dayfly.federation.journal.journal import Journal
from dayfly.federation.journal.recording import Draws, RecordedClock, RecordedNoise, RecordedRandom
from dayfly.privacy.noise import NoiseSource

__all__ = ["JournaledGrid"]

_DREW: Final = 2
_PARTIES: Final = 3
_ASKS: Final = 4
_HEARD: Final = 5

Heard = dict[str, bytes | Failure]


class _Heard(msgspec.Struct, frozen=True, array_like=True):
    """Replies, and of the others the cause and whether they were lost."""

    replies: dict[str, bytes]
    failures: dict[str, tuple[str, bool]]


class JournaledGrid:
    """A grid over a journal, and the recorded draws of whoever asks through it.

    Args:
        grid: Transport.
        journal: Of this run's coordinator.
        return_within_seconds: Parties that are lost are asked again for so long; 0 where a protocol goes on without them.
        monotonic, sleep: Clock of that.
    """

    def __init__(
        self,
        grid: Grid,
        journal: Journal,
        *,
        return_within_seconds: float = 0.0,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._grid: Final = grid
        self._journal: Final = journal
        self._return_within_seconds: Final = return_within_seconds
        self._monotonic: Final = monotonic
        self._sleep: Final = sleep
        self._entries: Final = journal.entries()
        self._next = next(self._entries, None)
        self._draws: Final = Draws(lambda what, drawn: journal.append(_DREW, _encode((what, drawn))))
        self._parties: Final = self._known_parties()
        self.asked = 0
        """Questions, those before a restart among them."""
        self.served = 0
        """Questions that were answered from the journal."""

    def parties(self) -> tuple[str, ...]:
        """As when the run began."""
        return self._parties

    def random_bytes(self, source: Callable[[int], bytes]) -> RecordedRandom:
        """The coordinator's randomness, drawn once."""
        return RecordedRandom(self._take, source)

    def noise(self, source: NoiseSource) -> RecordedNoise:
        """The coordinator's noise, drawn once."""
        return RecordedNoise(self._take, source)

    def clock(self, source: Callable[[], int]) -> RecordedClock:
        """The coordinator's clock, read once."""
        return RecordedClock(self._take, source)

    def ask(self, requests: Mapping[str, bytes], *, timeout_seconds: float = DEAD_AFTER_SECONDS) -> Heard:
        """One message to each, and a reply or a failure of each.

        Raises:
            JournalDiverged: it is not what was asked before the restart.
        """
        self.asked += 1
        digest = hashlib.sha256(_encode(sorted(requests.items()))).digest()
        if self._at_end():
            self._journal.append(_ASKS, digest)
            return self._recorded(self._answers(requests, {}, timeout_seconds))
        if self._served(_ASKS) != digest:
            raise JournalDiverged(
                f"question={self.asked} must be the one that was asked before the restart; restart with the same version and"
                " settings, or begin another run"
            )
        if self._at_end():
            return self._recorded(self._answers(requests, {}, timeout_seconds))
        heard = _heard(self._served(_HEARD))
        if self._at_end() and any(isinstance(one, Failure) and one.lost for one in heard.values()):
            return self._recorded(self._answers(requests, heard, timeout_seconds))
        self.served += 1
        return heard

    def _at_end(self) -> bool:
        """Whether everything recorded was served."""
        return self._next is None

    def _answers(self, requests: Mapping[str, bytes], heard: Heard, timeout_seconds: float) -> Heard:
        """What is not heard yet, asked until it is there or the time is over."""
        until = self._monotonic() + self._return_within_seconds
        while True:
            away = {
                party: request
                for party, request in requests.items()
                if party not in heard or _is_lost(heard[party])
            }
            if away:
                heard = {**heard, **self._grid.ask(away, timeout_seconds=timeout_seconds)}
            if not any(map(_is_lost, heard.values())) or self._monotonic() >= until:
                return heard
            self._sleep(1.0)

    def _recorded(self, heard: Heard) -> Heard:
        replies = {party: one for party, one in heard.items() if isinstance(one, bytes)}
        failures = {party: (one.cause, one.lost) for party, one in heard.items() if isinstance(one, Failure)}
        self._journal.append(_HEARD, _encode(_Heard(replies, failures)))
        return heard

    def _known_parties(self) -> tuple[str, ...]:
        if self._at_end():
            parties = self._grid.parties()
            self._journal.append(_PARTIES, _encode(parties))
            return parties
        return tuple(msgspec.msgpack.decode(self._served(_PARTIES), type=list[str]))

    def _take(self, what: str, draw: Callable[[], bytes]) -> bytes:
        if not self._at_end():
            self._draws.serve([msgspec.msgpack.decode(self._served(_DREW), type=tuple[str, bytes])])
        return self._draws.take(what, draw)

    def _served(self, kind: int) -> bytes:
        """The next recorded entry, which must be of this kind."""
        assert self._next is not None
        found, content = self._next
        if found != kind:
            raise JournalDiverged(
                f"entry={found} of the journal must be {kind}: the coordinator does not repeat what it did before the restart;"
                " restart with the same version and settings, or begin another run"
            )
        self._next = next(self._entries, None)
        while (
            kind == _HEARD and self._next is not None and self._next[0] == _HEARD
        ):  # heard again, after a restart
            content = self._next[1]
            self._next = next(self._entries, None)
        return content


def _is_lost(one: bytes | Failure) -> bool:
    return isinstance(one, Failure) and one.lost


def _heard(content: bytes) -> Heard:
    found = msgspec.msgpack.decode(content, type=_Heard)
    failures = {party: Failure(party, cause, lost=lost) for party, (cause, lost) in found.failures.items()}
    return {**found.replies, **failures}


_encode: Final = msgspec.msgpack.Encoder().encode
