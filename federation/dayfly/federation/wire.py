"""Frames: every message is signed by its sender's node, and says for which run, for whom, and which message it is.

Claim: a request or reply that is accepted was made by the registered node for this run, this receiver and this message number.
Precondition: node keys are the registered ones; a run's identifier is random and used once.
Argument: all of these are under the signature (Ed25519, RFC 8032), with requests and replies under contexts of their own. A party
takes numbers that rise, and answers a request that it answered before with the bytes that it sent.
"""

from collections.abc import Callable, Mapping
from typing import Final, TypeVar

import msgspec

from dayfly.federation.errors import BadMessage, InvalidSetting, Replayed
from dayfly.federation.grid import DEAD_AFTER_SECONDS, Failure, Grid
from dayfly.federation.identity import Identities, SigningIdentity

__all__ = ["SERVER", "Caller", "Desk", "Envelope", "Sealed", "seal", "unseal"]

SERVER: Final = "server"
"""Name under which the coordinator is registered."""

_RUN_BYTES: Final = (16, 64)


class Envelope(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What is signed.

    Attributes:
        run: 16 to 64 random bytes.
        number: Of the request, from 1; a reply has its request's.
        kind: What `body` is.
    """

    run: bytes
    number: int
    sender: str
    receiver: str
    kind: str
    body: bytes


class Sealed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An envelope, encoded, and the signature over these bytes."""

    envelope: bytes
    signature: bytes


_encode = msgspec.msgpack.Encoder().encode
T = TypeVar("T")
_sealed = msgspec.msgpack.Decoder(Sealed)
_envelope = msgspec.msgpack.Decoder(Envelope)


def seal(identity: SigningIdentity, envelope: Envelope, *, reply: bool) -> bytes:
    """The envelope on the wire."""
    body = _encode(envelope)
    return _encode(Sealed(body, identity.sign(_context(reply=reply), body)))


def unseal(data: bytes, identities: Identities, *, sender: str, receiver: str, reply: bool) -> Envelope:
    """Insist on an envelope of `sender` for `receiver`.

    Raises:
        BadMessage: it cannot be read, or is for somebody else.
        WrongIdentity: it is not signed by the sender's registered node.
    """
    sealed = _decoded(_sealed, data, sender)
    identities.verify(sender, _context(reply=reply), sealed.envelope, sealed.signature)
    envelope = _decoded(_envelope, sealed.envelope, sender)
    if (envelope.sender, envelope.receiver) != (sender, receiver):
        raise BadMessage(
            sender,
            f"must send its own message to {receiver!r}, not one of {envelope.sender!r} to {envelope.receiver!r}",
        )
    return envelope


def _decoded(decoder: msgspec.msgpack.Decoder[T], data: bytes, sender: str) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):  # msgspec lets the latter through
        raise BadMessage(
            sender, f"must send a signed message, not {len(data)} bytes that are none; check its version"
        ) from None


def _context(*, reply: bool) -> bytes:
    return b"reply" if reply else b"request"


def _check_run(run: bytes) -> bytes:
    low, high = _RUN_BYTES
    if not low <= len(run) <= high:
        raise InvalidSetting(f"run={len(run)} bytes must be {low} to {high}; draw {low} at random")
    return run


class Caller:
    """The coordinator's end: seals requests, and opens replies.

    Args:
        grid: Transport.
        identity: Registered as `SERVER`.
        identities: All registered parties.
        run: 16 to 64 random bytes.
        timeout_seconds: A party that does not answer within it is lost.

    Raises:
        InvalidSetting: the run's identifier is too short or too long.
    """

    def __init__(
        self,
        grid: Grid,
        identity: SigningIdentity,
        identities: Identities,
        *,
        run: bytes,
        timeout_seconds: float = DEAD_AFTER_SECONDS,
    ) -> None:
        self.grid: Final = grid
        self.identities: Final = identities
        self.run: Final = _check_run(run)
        self._identity: Final = identity
        self._timeout_seconds: Final = timeout_seconds
        self._number = 0

    def ask(self, kind: str, bodies: Mapping[str, bytes]) -> dict[str, bytes | Failure]:
        """One request to each party; bodies of replies, or failures.

        Raises:
            BadMessage: a reply is no reply to this request.
            Replayed: a reply is to an earlier request, or of another run.
            WrongIdentity: a reply is not signed by the party's registered node.
        """
        self._number += 1
        me = self._identity.name
        requests = {
            party: seal(self._identity, Envelope(self.run, self._number, me, party, kind, body), reply=False)
            for party, body in bodies.items()
        }
        replies = self.grid.ask(requests, timeout_seconds=self._timeout_seconds)
        return {party: self._opened(party, kind, replies.get(party)) for party in bodies}

    def _opened(self, party: str, kind: str, reply: bytes | Failure | None) -> bytes | Failure:
        if reply is None:
            return Failure(party, "has no reply from the grid; it is lost", lost=True)
        if isinstance(reply, Failure):
            return reply
        envelope = unseal(reply, self.identities, sender=party, receiver=self._identity.name, reply=True)
        if envelope.run != self.run or envelope.number != self._number:
            raise Replayed(
                party,
                f"must answer message {self._number} of this run; it sent a reply to message {envelope.number}"
                + (" of another run" if envelope.run != self.run else ""),
            )
        if envelope.kind != kind:
            raise BadMessage(party, f"must answer {kind!r}, not {envelope.kind!r}; check its version")
        return envelope.body


class Desk:
    """A party's end: opens requests, and seals replies. One per run.

    Args:
        identity: The party's.
        identities: All registered parties and the server.
        run: 16 to 64 random bytes.

    Raises:
        InvalidSetting: the run's identifier is too short or too long.
    """

    def __init__(self, identity: SigningIdentity, identities: Identities, *, run: bytes) -> None:
        self._identity: Final = identity
        self._identities: Final = identities
        self._run: Final = _check_run(run)
        self._last: tuple[bytes, bytes] | None = None
        self._number = 0

    def handle(self, message: bytes, answer: Callable[[str, bytes], bytes]) -> bytes:
        """The sealed reply to a sealed request; `answer` takes kind and body.

        Raises:
            BadMessage: it cannot be read, or is for another party.
            Replayed: it is of another run, or not after the last one.
            WrongIdentity: the server's registered node did not sign it.
        """
        if self._last is not None and message == self._last[0]:
            return self._last[1]
        me = self._identity.name
        request = unseal(message, self._identities, sender=SERVER, receiver=me, reply=False)
        if request.run != self._run:
            raise Replayed(SERVER, f"must send {me!r} messages of this run, not of another one")
        if request.number <= self._number:
            raise Replayed(
                SERVER, f"must send {me!r} a message after number {self._number}, not {request.number}"
            )
        body = answer(request.kind, request.body)
        reply = seal(
            self._identity,
            Envelope(self._run, request.number, me, SERVER, request.kind, body),
            reply=True,
        )
        self._number, self._last = request.number, (message, reply)
        return reply
