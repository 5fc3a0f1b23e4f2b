"""A channel's end of secure sums: whatever is summed, only the masked vector leaves it."""

import hashlib
from collections.abc import Callable
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dayfly.federation.errors import BadMessage, Refused
from dayfly.federation.horizontal.messages import MaskBody, Opening
from dayfly.federation.identity import Identities, SigningIdentity
from dayfly.federation.secagg import Member, Roster, Unmask
from dayfly.federation.secagg.messages import decode, encode
from dayfly.federation.wire import SERVER, Desk

__all__ = ["ChannelParty", "Workload"]

_ROOT_BYTES: Final = 32


class Workload(Protocol):
    """What a channel computes from its data."""

    def prepare(self, spec: bytes, *, threshold: int) -> None:
        """Agree to a computation whose sums hold at least `threshold` parties, or raise a FederationError that says why not."""
        ...

    def words(self, task: bytes, *, members: int) -> NDArray[np.uint64]:
        """This channel's summand, uint64 (settings.words,), in an encoding that `members` of them cannot overflow."""
        ...


class ChannelParty:
    """One channel in one run.

    Claim: the coordinator sees a summand only in the sum over at least the threshold of channels (secagg.member).
    Precondition: the sum itself may be known; it is exact, so this is no differential privacy.

    Args:
        identity: Of the channel's node.
        identities: All registered parties and the server.
        workload: What it computes.
        run: 16 to 64 random bytes.
        random_bytes: Of the operating system.
    """

    def __init__(
        self,
        identity: SigningIdentity,
        identities: Identities,
        workload: Workload,
        *,
        run: bytes,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._identity: Final = identity
        self._identities: Final = identities
        self._workload: Final = workload
        self._random_bytes: Final = random_bytes
        self._desk: Final = Desk(identity, identities, run=run)
        self._member: Member | None = None
        self._members = 0

    @property
    def name(self) -> str:
        """As registered."""
        return self._identity.name

    def handle(self, message: bytes) -> bytes:
        """One request, one reply.

        Raises:
            FederationError: the message is not the server's next one, or what it asks is declined.
        """
        return self._desk.handle(message, self._answer)

    def _answer(self, kind: str, body: bytes) -> bytes:
        if kind == "hello":
            return self._hello(decode(body, Opening, party=SERVER))
        if kind == "join":
            roster = decode(body, Roster, party=SERVER)
            joined = self._joined().join(roster)
            self._members = len(roster.members)
            return encode(joined)
        if kind == "mask":
            return self._mask(decode(body, MaskBody, party=SERVER))
        if kind == "unmask":
            return encode(self._joined().unmasked(decode(body, Unmask, party=SERVER)))
        raise BadMessage(SERVER, f"must send hello, join, mask or unmask, not {kind!r}; check its version")

    def _hello(self, opening: Opening) -> bytes:
        if self._member is not None:
            raise Refused(
                "session=<second> must be the first of this run; begin another run for another session"
            )
        self._workload.prepare(opening.spec, threshold=opening.settings.threshold)
        self._member = Member(
            self._identity, self._identities, opening.settings, self._random_bytes(_ROOT_BYTES)
        )
        return encode(self._member.hello())

    def _mask(self, asked: MaskBody) -> bytes:
        if asked.request.release != hashlib.sha256(asked.task).digest():
            raise Refused("release must be the digest of its task; nothing was computed")
        words = self._workload.words(asked.task, members=self._members)
        return encode(self._joined().masked(asked.request, words))

    def _joined(self) -> Member:
        if self._member is None:
            raise Refused("session=<none> must be opened first; send hello")
        return self._member
