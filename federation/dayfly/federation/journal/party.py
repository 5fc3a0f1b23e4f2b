"""A channel's side of a run that can be killed at any point and goes on with the same bytes.

Claim: whatever the moments at which its process was killed, a party answers each request with one sequence of bytes, and draws noise
for a release once as far as anybody else can tell.
Precondition: the party is a function of its requests, its draws and its data; requests were checked to be the server's (otherwise a
stranger could fill the journal).
Argument: nothing leaves before it is durable: each draw before it is used, and the request with the digest of its reply before the
reply is handed out. On restart the party is built anew and answers its recorded requests with its recorded draws, and each reply must
have the recorded digest. A request that was cut short left nothing outside but what it paid: payments are keyed by run and release, so
that it pays once; its draws are served again if it is repeated, and dropped if the server goes on otherwise.
"""

import hashlib
from collections.abc import Callable
from typing import Final

import msgspec

from dayfly.federation.errors import FederationError, JournalDiverged, Replayed, WrongIdentity
from dayfly.federation.grid import Party
from dayfly.federation.journal.journal import Journal
from dayfly.federation.journal.recording import Draws, RecordedClock, RecordedNoise, RecordedRandom
from dayfly.privacy.noise import NoiseSource

__all__ = ["Build", "JournaledParty"]

_DREW: Final = 2
_DID: Final = 3

Build = Callable[[RecordedRandom, RecordedNoise, RecordedClock], Party]
"""Makes the party, given where its chance comes from."""


class _Drew(msgspec.Struct, frozen=True, array_like=True):
    """A draw, made while the request with this digest was answered; of the party's making, an empty one."""

    request: bytes
    what: str
    drawn: bytes


class _Did(msgspec.Struct, frozen=True, array_like=True):
    """A request and the digest of its reply; when it was declined, an empty one and why."""

    request: bytes
    reply: bytes
    error: str


class JournaledParty:
    """A party over a journal.

    Args:
        journal: Of this run; what is in it is done again first.
        build: Makes the party.
        random_bytes, noise, now_ms: Where new draws come from.

    Raises:
        JournalDiverged: the party does not do again what it did before.
    """

    def __init__(
        self,
        journal: Journal,
        build: Build,
        *,
        random_bytes: Callable[[int], bytes],
        noise: NoiseSource,
        now_ms: Callable[[], int],
    ) -> None:
        self._journal: Final = journal
        self._build: Final = build
        self._answering = b""
        self._again_now = False
        self._draws: Final = Draws(self._record)
        take = self._draws.take
        self._sources: Final = (
            RecordedRandom(take, random_bytes),
            RecordedNoise(take, noise),
            RecordedClock(take, now_ms),
        )
        self._unfinished: tuple[bytes, list[tuple[str, bytes]]] = (b"", [])
        self._last: tuple[bytes, bytes] | None = None
        self.requests = 0
        """Requests that were answered or declined, those before a restart among them."""
        self._broken = False
        self._party: Final = self._restored()

    @property
    def name(self) -> str:
        """As registered."""
        return self._party.name

    def handle(self, message: bytes) -> bytes:
        """One request, one reply; the same request again, the same reply.

        Raises:
            FederationError: the party declines.
            JournalDiverged: an earlier request ended in a defect; the party must be opened again.
        """
        if self._broken:
            raise JournalDiverged(
                f"party={self.name!r} must be opened again after a defect; restart the channel"
            )
        digest = hashlib.sha256(message).digest()
        if self._last is not None and self._last[0] == digest:
            return self._last[1]
        before, drawn = self._unfinished
        self._draws.serve(drawn if before == digest else [])
        self._answering, self._unfinished = digest, (b"", [])
        try:
            reply = self._party.handle(message)
        except JournalDiverged:
            self._broken = True
            raise
        except FederationError as error:
            if not isinstance(error, WrongIdentity | Replayed):  # these change nothing in the party
                self._finished(message, b"", str(error))
            raise
        except BaseException:
            self._broken = True
            raise
        self._finished(message, hashlib.sha256(reply).digest(), "")
        self._last = (digest, reply)
        return reply

    def _finished(self, message: bytes, reply: bytes, error: str) -> None:
        self._journal.append(_DID, msgspec.msgpack.encode(_Did(message, reply, error)))
        self.requests += 1

    def _record(self, what: str, drawn: bytes) -> None:
        if self._again_now:
            raise JournalDiverged(
                f"draw={what!r} must have been made before the restart; restart with the same version and data"
            )
        self._journal.append(_DREW, msgspec.msgpack.encode(_Drew(self._answering, what, drawn)))

    def _restored(self) -> Party:
        """Built, and told everything again."""
        pending: dict[bytes, list[tuple[str, bytes]]] = {}
        party: Party | None = None
        for kind, content in self._journal.entries():
            if kind == _DREW:
                drew = msgspec.msgpack.decode(content, type=_Drew)
                if drew.request and party is None:
                    party = self._made(pending.pop(b"", []))
                if drew.request not in pending:  # another request than the one that was cut short
                    pending = {drew.request: []}
                pending[drew.request].append((drew.what, drew.drawn))
            else:
                if party is None:
                    party = self._made(pending.pop(b"", []))
                done = msgspec.msgpack.decode(content, type=_Did)
                self._again(party, done, pending.pop(hashlib.sha256(done.request).digest(), []))
        if party is None:
            party = self._made(pending.pop(b"", []))
        self._unfinished = next(iter(pending.items()), (b"", []))
        return party

    def _made(self, drawn: list[tuple[str, bytes]]) -> Party:
        self._answering = b""
        self._draws.serve(drawn)
        return self._build(*self._sources)

    def _again(self, party: Party, done: _Did, drawn: list[tuple[str, bytes]]) -> None:
        self._draws.serve(drawn)
        self._answering = hashlib.sha256(done.request).digest()
        self._again_now = True
        try:
            reply = party.handle(done.request)
        except FederationError as error:
            same = str(error) == done.error
        else:
            same = hashlib.sha256(reply).digest() == done.reply
            self._last = (self._answering, reply)
        self._again_now = False
        self.requests += 1
        if not same or self._draws.left:
            raise JournalDiverged(
                f"request={self.requests} must be answered as before the restart; restart with the same version and data"
            )
