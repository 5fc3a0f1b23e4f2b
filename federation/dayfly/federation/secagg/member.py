"""A member of secure aggregation: hides its input, and helps to open nothing but a sum of enough inputs.

Claim: whatever the server asks, and with up to `2 * threshold - members - 1` other members helping it, a member's input of a
round is seen only as part of the sum over one set of at least `threshold` members that took part in that round.
Precondition: node keys are the ones that were registered; the root is 32 uniform bytes, used for one session.
Argument: an input is hidden by its own mask and one mask per other present member. Opening it alone takes its own mask and
all of these. Members give shares for one pair of sets (included, missing) per round; two different pairs would each need
`threshold` members, so one honest member would have answered twice, which it refuses. Within one pair, masks between included
members are never opened, and each included member proves by a tag that it masked with the same set of present members. All seeds
are of one round and bound to its release, so that an opened seed says nothing about another round.
Source: Bonawitz et al., CCS 2017 (double masks, the unmasking rule); Ma et al., Flamingo, S&P 2023 (one set-up for many rounds).
Changed here: each round's seeds are shared, all at set-up, so that no long-lived key is ever put together.
"""

import hmac
from collections.abc import Sequence
from typing import Final

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from numpy.typing import NDArray

from dayfly.federation.errors import BadMessage, InvalidSetting, Refused, Replayed, TooFewParties
from dayfly.federation.identity import Identities, SigningIdentity
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
from dayfly.federation.secagg.roster import Members, hello_body, transcript_of
from dayfly.federation.secagg.seeds import PairKeys, Seeds, commitment, derive, mask
from dayfly.federation.secagg.shamir import SEED_BYTES, WORDS, share, to_words

__all__ = ["Member"]

_NONCE: Final = bytes(12)  # each channel key encrypts one bundle


class Member:
    """One party's side of a session. Not thread-safe.

    Args:
        identity: Its node's signing key.
        identities: All registered parties.
        settings: Of the session; what the server sends must be the same.
        root: 32 random bytes, used for this session alone.

    Raises:
        InvalidSetting: settings are out of range, or the root is not 32 bytes.
    """

    def __init__(
        self, identity: SigningIdentity, identities: Identities, settings: Settings, root: bytes
    ) -> None:
        if len(root) != SEED_BYTES:
            raise InvalidSetting(f"root={len(root)} bytes must be {SEED_BYTES}; draw them from the system")
        self._identity: Final = identity
        self._identities: Final = identities
        self._settings: Final = settings
        self._seeds: Final = Seeds(root)
        self._members: Members | None = None
        self._pairs: dict[str, PairKeys] = {}
        self._held: dict[str, NDArray[np.uint64]] = {}
        self._round = 0
        self._asked: tuple[int, bytes, tuple[str, ...]] | None = None
        self._reply: Masked | None = None
        self._present: tuple[str, ...] = ()
        self._release = b""
        self._answered: tuple[Unmask, Unmasked] | None = None

    @property
    def name(self) -> str:
        """As registered."""
        return self._identity.name

    def hello(self) -> Hello:
        """The agreement key, signed."""
        body = hello_body(self.name, self._settings, self._seeds.public_key)
        return Hello(self.name, self._settings, self._seeds.public_key, self._identity.sign(b"hello", body))

    def join(self, roster: Roster) -> Joined:
        """Check who takes part, agree on keys, and share the seeds of all rounds.

        Raises:
            WrongIdentity: a key is not signed by the party's registered node.
            BadMessage: the roster contradicts itself or this member.
            Refused: another roster was joined before, or the threshold is too low for the number of members.
        """
        members = Members.checked(roster, self._identities, self._settings)
        if self._members is not None and members.digest != self._members.digest:
            raise Refused(f"roster={members.names} must be the one joined before; begin a new session")
        if self.hello() not in roster.members:
            raise BadMessage(
                "server", f"must list {self.name!r} with the key that it sent; it was replaced or left out"
            )
        self._members = members
        self._pairs = {
            hello.party: PairKeys(
                self._seeds.secret_with(hello.party, hello.public_key),
                members.digest,
                b"\x00".join(sorted((self.name.encode(), hello.party.encode()))),
            )
            for hello in roster.members
            if hello.party != self.name
        }
        seeds = [
            seed
            for number in range(1, self._settings.rounds + 1)
            for seed in self._round_seeds(members, number)
        ]
        words = to_words(seeds)
        size = 8 * words.size * (self._settings.threshold - 1)
        shares = share(
            words, self._settings.threshold, len(members.names), self._seeds.polynomial(members.digest, size)
        )
        self._held = {self.name: shares[members.index(self.name)]}
        bundles = tuple(
            Bundle(self.name, name, self._seal(members, name, shares[members.index(name)].tobytes()))
            for name in self._pairs
        )
        return Joined(self.name, bundles, b"".join(commitment(seed) for seed in seeds))

    def masked(self, request: MaskRequest, words: NDArray[np.uint64]) -> Masked:
        """An input under masks. The same request again gets the same reply; the input is taken once.

        Args:
            request: Of the server.
            words: uint64 (settings.words,), ring words of the input.

        Raises:
            Refused: the round was answered for another release or set of members, or too few are present.
            Replayed: the round is over.
            BadMessage: bundles or the set of members do not fit the session.
        """
        members = self._joined()
        if self._reply is not None and _asked(request) == self._asked:
            return self._reply
        self._check_round(request, members)
        if words.dtype != np.uint64 or words.shape != (self._settings.words,):
            raise InvalidSetting(
                f"words of type {words.dtype} and shape {words.shape} must be uint64 ({self._settings.words},); encode the input"
            )
        self._take(request.bundles, members)
        others = [name for name in request.present if name != self.name]
        missing = [name for name in others if name not in self._held]
        if missing:
            raise BadMessage(
                "server", f"must deliver the shares of {missing} before it asks for a sum with them"
            )
        transcript = transcript_of(members, request.round_number, request.release, request.present)
        hidden = words + mask(derive(self._seeds.own(request.round_number), "mask", transcript), words.size)
        for name in others:
            pad = mask(derive(self._pairs[name].seed(request.round_number), "mask", transcript), words.size)
            hidden = hidden + pad if self.name < name else hidden - pad
        self._round, self._present, self._release = request.round_number, request.present, request.release
        self._asked, self._answered = _asked(request), None
        tags = tuple(self._pairs[name].tag(self.name, transcript) for name in others)
        self._reply = Masked(self.name, self._round, hidden.astype("<u8").tobytes(), tags)
        return self._reply

    def unmasked(self, request: Unmask) -> Unmasked:
        """The shares that open one sum. The same request again gets the same reply, another one none.

        Raises:
            Refused: the round was opened for another set, or this member's input is not part of it.
            TooFewParties: fewer inputs than the threshold would be in the sum.
            Replayed: the round is not the one this member is in.
            BadMessage: the set is no sorted part of those present, or a proof is not the member's.
        """
        members = self._joined()
        if self._answered is not None and request == self._answered[0]:
            return self._answered[1]
        self._check_unmask(request, members)
        gone = [name for name in self._present if name not in request.included]
        shares = [self._share(name, other, members) for name in request.included for other in (name, *gone)]
        reply = Unmasked(self.name, self._round, np.concatenate(shares).astype("<u8").tobytes())
        self._answered = (request, reply)
        return reply

    def _joined(self) -> Members:
        if self._members is None:
            raise Refused("session=<not joined> must be joined first; send the roster")
        return self._members

    def _round_seeds(self, members: Members, number: int) -> list[bytes]:
        """In the members' order: the pair's seed, at the own place the self-mask's."""
        return [
            self._seeds.own(number) if name == self.name else self._pairs[name].seed(number)
            for name in members.names
        ]

    def _seal(self, members: Members, recipient: str, shares: bytes) -> bytes:
        key = self._pairs[recipient].channel(self.name)
        return ChaCha20Poly1305(key).encrypt(_NONCE, shares, members.route(self.name, recipient))

    def _take(self, bundles: Sequence[Bundle], members: Members) -> None:
        size = self._settings.rounds * len(members.names) * WORDS
        for bundle in bundles:
            if bundle.recipient != self.name or bundle.sender not in self._pairs:
                raise BadMessage(
                    bundle.sender,
                    f"must send shares of the session to {self.name!r}, not {bundle.recipient!r}",
                )
            key = self._pairs[bundle.sender].channel(bundle.sender)
            try:
                plain = ChaCha20Poly1305(key).decrypt(
                    _NONCE, bundle.sealed, members.route(bundle.sender, self.name)
                )
            except InvalidTag:
                raise BadMessage(
                    bundle.sender, "must send shares that open; they were changed or are of another session"
                ) from None
            if len(plain) != 8 * size:
                raise BadMessage(
                    bundle.sender,
                    f"must send {8 * size} bytes of shares, not {len(plain)}; check its settings",
                )
            self._held[bundle.sender] = np.frombuffer(plain, "<u8").astype(np.uint64)

    def _check_round(self, request: MaskRequest, members: Members) -> None:
        if request.round_number == self._round:
            raise Refused(f"round={self._round} must be asked once; its masks were used for another request")
        if not self._round < request.round_number <= self._settings.rounds:
            raise Replayed(
                "server",
                f"must ask for a round after {self._round} and up to {self._settings.rounds}, not {request.round_number}",
            )
        members.check_part("present", request.present)
        if self.name not in request.present:
            raise BadMessage("server", f"must count {self.name!r} as present when it asks for its input")
        if len(request.present) < self._settings.threshold:
            raise TooFewParties(
                f"present={len(request.present)} must be at least the threshold, {self._settings.threshold}; wait for more parties"
            )

    def _check_unmask(self, request: Unmask, members: Members) -> None:
        if self._answered is not None and request.round_number == self._round:
            raise Refused(
                f"round={self._round} must be opened for one set; it was for {list(self._answered[0].included)}"
            )
        if request.round_number != self._round:
            raise Replayed("server", f"must open round {self._round}, not {request.round_number}")
        members.check_part("included", request.included)
        if self.name not in request.included or not set(request.included) <= set(self._present):
            raise Refused(
                f"included={list(request.included)} must hold {self.name!r} and only members present in the round,"
                f" {list(self._present)}; nothing was opened"
            )
        if len(request.included) < self._settings.threshold:
            raise TooFewParties(
                f"included={len(request.included)} must be at least the threshold, {self._settings.threshold}; nothing was opened"
            )
        if len(request.tags) != len(request.included):
            raise BadMessage("server", f"must send {len(request.included)} proofs, not {len(request.tags)}")
        transcript = transcript_of(members, self._round, self._release, self._present)
        for name, tag in zip(request.included, request.tags, strict=True):
            if name != self.name and not hmac.compare_digest(tag, self._pairs[name].tag(name, transcript)):
                raise BadMessage(
                    name,
                    "must prove that it took part in this round with the same members; nothing was opened",
                )

    def _share(self, owner: str, other: str, members: Members) -> NDArray[np.uint64]:
        """This member's share of what `owner` shared for `other` in the round."""
        if owner not in self._held:
            raise BadMessage(owner, "must have delivered its shares; nothing was opened")
        place = ((self._round - 1) * len(members.names) + members.index(other)) * WORDS
        return self._held[owner][place : place + WORDS]


def _asked(request: MaskRequest) -> tuple[int, bytes, tuple[str, ...]]:
    """What makes two requests the same: a server that started again may deliver shares twice."""
    return request.round_number, request.release, request.present
