"""A run's ticket: what the server wants of a channel, signed by it, so that any message of a run can open the run.

Claim: a channel begins a run that its registered server asked this channel for, with these terms, and none that is over.
Argument: run, receiver, protocol, terms and end are under the server's signature, in an envelope that is no request (its number is 0,
which no desk takes). The frame that comes with it is of the same run, and signed as well.
"""

from typing import Final

import msgspec

from dayfly.federation.errors import BadMessage, InvalidSetting, Replayed
from dayfly.federation.identity import Identities, SigningIdentity
from dayfly.federation.wire import SERVER, Envelope, seal, unseal

__all__ = ["Opened", "Parcel", "Ticket", "Tickets", "checked_until", "opened_parcel"]

_KIND: Final = "ticket"
_encode: Final = msgspec.msgpack.Encoder().encode


class Ticket(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What is run.

    Attributes:
        protocol: Its name.
        terms: Its settings, encoded by the protocol.
        began_ms: When the run began at the server, milliseconds UTC.
        until_ms: When it is over at the latest.
    """

    protocol: str
    terms: bytes
    began_ms: int
    until_ms: int


class Parcel(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What travels: a sealed ticket and a sealed request."""

    ticket: bytes
    frame: bytes


class Opened(msgspec.Struct, frozen=True):
    """A parcel that was checked."""

    run: bytes
    ticket: Ticket
    frame: bytes


class Tickets:
    """The server's end: wraps requests.

    Args:
        identity: The server's.
        run: 16 to 64 random bytes.
        ticket: Of this run.
    """

    def __init__(self, identity: SigningIdentity, *, run: bytes, ticket: Ticket) -> None:
        self._identity: Final = identity
        self._run: Final = run
        self._body: Final = _encode(ticket)
        self._sealed: Final[dict[str, bytes]] = {}

    def __call__(self, party: str, frame: bytes) -> bytes:
        """The parcel for a party."""
        if party not in self._sealed:
            envelope = Envelope(self._run, 0, self._identity.name, party, _KIND, self._body)
            self._sealed[party] = seal(self._identity, envelope, reply=False)
        return _encode(Parcel(self._sealed[party], frame))


def opened_parcel(data: bytes, identities: Identities, *, me: str, now_ms: int) -> Opened:
    """Insist on a parcel of the server for this channel.

    Raises:
        BadMessage: it cannot be read, or is for somebody else.
        WrongIdentity: ticket or frame is not signed by the server's registered node.
        Replayed: they are of different runs, or the run is over.
    """
    try:
        parcel = msgspec.msgpack.decode(data, type=Parcel)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise BadMessage(
            SERVER, f"must send a parcel, not {len(data)} bytes that are none; check its version"
        ) from None
    sealed = unseal(parcel.ticket, identities, sender=SERVER, receiver=me, reply=False)
    frame = unseal(parcel.frame, identities, sender=SERVER, receiver=me, reply=False)
    if sealed.kind != _KIND or sealed.number != 0:
        raise BadMessage(
            SERVER, f"must send a ticket with each message, not {sealed.kind!r}; check its version"
        )
    if frame.run != sealed.run:
        raise Replayed(SERVER, f"must send {me!r} messages of the run that it opened, not of another one")
    try:
        ticket = msgspec.msgpack.decode(sealed.body, type=Ticket)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise BadMessage(SERVER, "must send a ticket that can be read; check its version") from None
    if ticket.until_ms <= now_ms:
        raise Replayed(SERVER, f"must send {me!r} messages of a run that is not over; begin another run")
    return Opened(sealed.run, ticket, parcel.frame)


def checked_until(now_ms: int, hours: float) -> int:
    """When a run that begins now is over.

    Raises:
        InvalidSetting: that is no sensible time.
    """
    if not 0 < hours <= 24 * 90:
        raise InvalidSetting(f"hours={hours} must be above 0 and at most 90 days; pass 24")
    return now_ms + int(hours * 3_600_000)
