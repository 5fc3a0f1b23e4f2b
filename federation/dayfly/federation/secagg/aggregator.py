"""The server of secure aggregation: routes what members send, and opens the sum of the inputs that arrived."""

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dayfly.federation.errors import BadMessage, InvalidSetting, SharesDisagree, TooFewParties
from dayfly.federation.identity import Identities
from dayfly.federation.secagg.messages import (
    Bundle,
    Hello,
    Joined,
    Masked,
    MaskRequest,
    Roster,
    Settings,
    Unmask,
    Unmasked,
)
from dayfly.federation.secagg.roster import Members, transcript_of
from dayfly.federation.secagg.seeds import TAG_BYTES, commitment, derive, mask
from dayfly.federation.secagg.shamir import WORDS, from_words, open_shares

__all__ = ["Aggregator", "Round"]

_COMMITMENT_BYTES: Final = 32


class Aggregator:
    """A session, seen from the server. It learns sums and who is there, nothing else.

    Args:
        identities: Registered parties.
        settings: Of the session.
    """

    def __init__(self, identities: Identities, settings: Settings) -> None:
        self._identities: Final = identities
        self.settings: Final = settings
        self._members: Members | None = None
        self._roster = Roster(())
        self._bundles: dict[str, dict[str, Bundle]] = {}
        self._commitments: dict[str, bytes] = {}
        self._delivered: set[str] = set()

    def roster(self, hellos: Iterable[Hello]) -> Roster:
        """The members' keys, for everybody.

        Raises:
            WrongIdentity: a signature is not that of the registered node.
            Refused: too few or too many members for the threshold.
        """
        self._roster = Roster(tuple(sorted(hellos, key=lambda hello: hello.party)))
        self._members = Members.checked(self._roster, self._identities, self.settings)
        return self._roster

    def joined(self, replies: Iterable[Joined]) -> tuple[str, ...]:
        """Take in the members' shares; returns who can take part in rounds.

        Raises:
            BadMessage: bundles are not one for each other member, or commitments are of another number.
        """
        members = self._checked_members()
        for reply in replies:
            recipients = sorted(bundle.recipient for bundle in reply.bundles)
            if recipients != [name for name in members.names if name != reply.party] or any(
                bundle.sender != reply.party for bundle in reply.bundles
            ):
                raise BadMessage(
                    reply.party, f"must send one bundle to each other member, not to {recipients}"
                )
            if len(reply.commitments) != self.settings.rounds * len(members.names) * _COMMITMENT_BYTES:
                raise BadMessage(
                    reply.party, "must commit to one seed per round and member; check its settings"
                )
            self._bundles[reply.party] = {bundle.recipient: bundle for bundle in reply.bundles}
            self._commitments[reply.party] = reply.commitments
        return tuple(sorted(self._commitments))

    def begin(self, round_number: int, release: bytes, present: Iterable[str]) -> "Round":
        """A round among those who are there.

        Raises:
            TooFewParties: fewer than the threshold.
        """
        there = tuple(sorted(set(present) & set(self._commitments)))
        if len(there) < self.settings.threshold:
            raise TooFewParties(
                f"present={list(there)} must be at least {self.settings.threshold} members; wait until more are back"
            )
        return Round(self, self._checked_members(), (round_number, release), there)

    def bundles_for(self, party: str) -> tuple[Bundle, ...]:
        """What the others sent to a party: with each request, until a reply shows that it arrived."""
        if party in self._delivered:
            return ()
        return tuple(bundles[party] for sender, bundles in sorted(self._bundles.items()) if sender != party)

    def delivered(self, party: str) -> None:
        """A party's reply shows that it has its bundles."""
        self._delivered.add(party)

    def committed(self, owner: str, place: int) -> bytes:
        """The commitment to one seed of `owner`."""
        return self._commitments[owner][place * _COMMITMENT_BYTES : (place + 1) * _COMMITMENT_BYTES]

    def _checked_members(self) -> Members:
        if self._members is None:
            raise InvalidSetting("session=<no roster> must have a roster; collect hellos first")
        return self._members


class Round:
    """One sum: requests, replies, and the opening."""

    def __init__(
        self, server: Aggregator, members: Members, what: tuple[int, bytes], present: tuple[str, ...]
    ) -> None:
        self._server: Final = server
        self._members: Final = members
        self._number, self._release = what
        self.present: Final = present
        self._inputs: dict[str, Masked] = {}
        self._sum: NDArray[np.uint64] = np.zeros(server.settings.words, np.uint64)

    def request(self, party: str) -> MaskRequest:
        """What to ask a present member."""
        return MaskRequest(self._number, self._release, self.present, self._server.bundles_for(party))

    def add(self, reply: Masked) -> None:
        """Take in a masked input; the same again changes nothing.

        Raises:
            BadMessage: it is of another round or size, or of somebody who was not asked.
        """
        words = np.frombuffer(reply.words, "<u8") if len(reply.words) % 8 == 0 else np.zeros(0, np.uint64)
        if reply.party not in self.present or reply.round_number != self._number:
            raise BadMessage(reply.party, f"must answer round {self._number} as one of {list(self.present)}")
        if words.size != self._server.settings.words or [len(tag) for tag in reply.tags] != [TAG_BYTES] * (
            len(self.present) - 1
        ):
            raise BadMessage(
                reply.party,
                f"must send {self._server.settings.words} words and a proof for each other member",
            )
        if reply.party in self._inputs:
            return
        self._inputs[reply.party] = reply
        self._sum = self._sum + words
        self._server.delivered(reply.party)

    @property
    def included(self) -> tuple[str, ...]:
        """Members whose inputs arrived."""
        return tuple(sorted(self._inputs))

    def unmask_request(self, party: str) -> Unmask:
        """What to ask each included member, when no more inputs are waited for.

        Raises:
            TooFewParties: fewer inputs than the threshold.
        """
        if len(self.included) < self._server.settings.threshold:
            raise TooFewParties(
                f"included={list(self.included)} must be at least {self._server.settings.threshold} inputs; nothing was opened"
            )
        return Unmask(self._number, self.included, tuple(self._tag(name, party) for name in self.included))

    def open(self, replies: Mapping[str, Unmasked]) -> NDArray[np.uint64]:
        """The sum of the included inputs, modulo 2^64: uint64 (settings.words,).

        Raises:
            TooFewParties: fewer shares than the threshold; nothing can be opened.
            BadMessage: shares of the wrong number.
            SharesDisagree: a seed put together is not the committed one; names whose.
        """
        needed = self._server.settings.threshold
        if len(replies) < needed:
            raise TooFewParties(f"answers={sorted(replies)} must be at least {needed}; nothing was opened")
        gone = [name for name in self.present if name not in self._inputs]
        wanted = [(owner, other) for owner in self.included for other in (owner, *gone)]
        chosen = sorted(replies)[:needed]
        shares = np.stack([self._shares(replies[name], len(wanted)) for name in chosen])
        points = [self._members.index(name) + 1 for name in chosen]
        seeds = from_words(open_shares(points, shares))
        transcript = transcript_of(self._members, self._number, self._release, self.present)
        total = self._sum
        for (owner, other), seed in zip(wanted, seeds, strict=True):
            place = (self._number - 1) * len(self._members.names) + self._members.index(other)
            if commitment(seed) != self._server.committed(owner, place):
                raise SharesDisagree(
                    f"seed of {owner!r} from {chosen} must be the committed one; one of them sent a wrong share, or"
                    f" {owner!r} shared another: run the round again without one of them"
                )
            pad = mask(derive(seed, "mask", transcript), total.size)
            total = total - pad if other == owner or owner < other else total + pad
        return total

    def _tag(self, sender: str, recipient: str) -> bytes:
        if sender == recipient:
            return b""
        others = [name for name in self.present if name != sender]
        return self._inputs[sender].tags[others.index(recipient)]

    def _shares(self, reply: Unmasked, count: int) -> NDArray[np.uint64]:
        if (
            reply.party not in self._inputs
            or reply.round_number != self._number
            or len(reply.shares) != 8 * WORDS * count
        ):
            raise BadMessage(
                reply.party,
                f"must send {count} shares of round {self._number} as one of {list(self.included)}",
            )
        return np.frombuffer(reply.shares, "<u8").astype(np.uint64)
