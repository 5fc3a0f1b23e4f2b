"""The members of a session, checked, and the bytes that they sign and bind their masks to."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dayfly.federation.errors import BadMessage, InvalidSetting, Refused
from dayfly.federation.identity import Identities
from dayfly.federation.secagg.messages import Roster, Settings, encode

__all__ = ["MOST_MEMBERS", "Members", "hello_body", "least_threshold", "transcript_of"]

MOST_MEMBERS: Final = 50
LEAST_MEMBERS: Final = 2
_SESSION_BYTES: Final = (16, 64)
_MOST_ROUNDS: Final = 1_000


def least_threshold(members: int) -> int:
    """A majority, and never less than two: below it two halves could be played against each other."""
    return max(2, members // 2 + 1)


def hello_body(party: str, settings: Settings, public_key: bytes) -> bytes:
    """What a node signs."""
    return encode((party, settings, public_key))


@dataclass(frozen=True, slots=True)
class Members:
    """Who takes part.

    Attributes:
        names: Sorted.
        digest: 32 bytes over settings and all keys: two rosters that differ in anything have different ones.
    """

    names: tuple[str, ...]
    digest: bytes

    @classmethod
    def checked(cls, roster: Roster, identities: Identities, settings: Settings) -> "Members":
        """Insist on a roster.

        Raises:
            WrongIdentity: a key is not signed by its party's registered node.
            BadMessage: a party is listed twice, unsorted, or with other settings.
            Refused: there are too few or too many members, or the threshold is no majority.
            InvalidSetting: settings are out of range.
        """
        check_settings(settings)
        names = tuple(hello.party for hello in roster.members)
        if list(names) != sorted(set(names)):
            raise BadMessage("server", f"must list each member once, sorted, not {list(names)}")
        if not LEAST_MEMBERS <= len(names) <= MOST_MEMBERS:
            raise Refused(
                f"members={len(names)} must be {LEAST_MEMBERS} to {MOST_MEMBERS}; add or leave out parties"
            )
        if not least_threshold(len(names)) <= settings.threshold <= len(names):
            raise Refused(
                f"threshold={settings.threshold} must be from {least_threshold(len(names))} to {len(names)} with"
                f" {len(names)} members; set it there"
            )
        for hello in roster.members:
            if hello.settings != settings:
                raise BadMessage(
                    hello.party, "must have the same settings as everybody; restart it with the run's"
                )
            identities.verify(
                hello.party,
                b"hello",
                hello_body(hello.party, hello.settings, hello.public_key),
                hello.signature,
            )
        return cls(names, hashlib.sha256(b"dayfly secagg v1 roster" + encode(roster)).digest())

    def index(self, name: str) -> int:
        """Place of a member; its share's point is one more."""
        return self.names.index(name)

    def route(self, sender: str, recipient: str) -> bytes:
        """Associated data of a bundle: session, roster, sender and receiver."""
        return encode((self.digest, sender, recipient))

    def check_part(self, what: str, names: Sequence[str]) -> None:
        """Insist on a sorted set of members.

        Raises:
            BadMessage: it is none.
        """
        if list(names) != sorted(set(names)) or not set(names) <= set(self.names):
            raise BadMessage(
                "server",
                f"must name members of the session in {what}, sorted and once each, not {list(names)}",
            )


def check_settings(settings: Settings) -> None:
    """Insist on settings that can be.

    Raises:
        InvalidSetting: a number is out of range, or the session's name too short.
    """
    low, high = _SESSION_BYTES
    if not low <= len(settings.session) <= high:
        raise InvalidSetting(
            f"session={len(settings.session)} bytes must be {low} to {high}; draw {low} at random"
        )
    if not 1 <= settings.rounds <= _MOST_ROUNDS:
        raise InvalidSetting(
            f"rounds={settings.rounds} must be 1 to {_MOST_ROUNDS}; begin a new session for more"
        )
    if settings.words < 1:
        raise InvalidSetting(f"words={settings.words} must be at least 1; pass the size of an input")


def transcript_of(members: Members, round_number: int, release: bytes, present: Sequence[str]) -> bytes:
    """What a round's masks and proofs are bound to."""
    return hashlib.sha256(
        b"dayfly secagg v1 round" + encode((members.digest, round_number, release, list(present)))
    ).digest()
