"""What the channels of a run have in common: keys, the hash's key, and the padding of every region.

A channel makes a `Group` from its own randomness, takes in the roster, then the others' bundles. All it draws comes in this order from
`random_bytes` and `noise`, so that a replay gives the same bytes.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from dayfly.federation.alignment.messages import (
    AlignmentSettings,
    Bundle,
    BundleBody,
    Hello,
    Joined,
    RegionPadding,
    Roster,
)
from dayfly.federation.alignment.padding import regions_led_by, regions_of
from dayfly.federation.alignment.sealing import Agreement, Seals, framed, group_key
from dayfly.federation.errors import BadMessage, Refused
from dayfly.federation.identity import Identities, SigningIdentity
from dayfly.federation.secagg.messages import decode, encode
from dayfly.federation.wire import SERVER
from dayfly.privacy.noise import NoiseSource

__all__ = ["Group", "Ring"]

_SEED_BYTES: Final = 32
_HELLO: Final = b"alignment hello"
_BUNDLE: Final = 0


@dataclass(frozen=True, slots=True)
class Ring:
    """A channel's place in the ring.

    Attributes:
        channels: All, in order.
        me: This one.
    """

    channels: tuple[str, ...]
    me: str

    @property
    def index(self) -> int:
        """This channel's place."""
        return self.channels.index(self.me)

    @property
    def successor(self) -> str:
        """Whom this channel hands sets to."""
        return self.channels[(self.index + 1) % len(self.channels)]

    @property
    def predecessor(self) -> str:
        """From whom it gets them."""
        return self.channels[self.index - 1]


class Group:
    """A channel's view of the run that it is in.

    Args:
        identity: Of the channel's node.
        identities: All registered parties and the server.
        settings: Checked.
        run: Its identifier.
        random_bytes: Of the operating system.
    """

    def __init__(
        self,
        identity: SigningIdentity,
        identities: Identities,
        settings: AlignmentSettings,
        *,
        run: bytes,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self.ring: Final = Ring(settings.channels, identity.name)
        self._identities: Final = identities
        self._settings: Final = settings
        self._run: Final = run
        self._random_bytes: Final = random_bytes
        self._agreement: Final = Agreement(random_bytes(_SEED_BYTES))
        self._share: Final = random_bytes(_SEED_BYTES)
        digest = hashlib.sha256(encode(settings)).digest()
        body = _hello_body(run, digest, self._agreement.public_key)
        self.hello: Final = Hello(
            identity.name, digest, self._agreement.public_key, identity.sign(_HELLO, body)
        )
        self._roster = b""
        self._seals: Seals | None = None
        self._regions: dict[int, RegionPadding] = {}
        self._key = b""

    @property
    def seals(self) -> Seals:
        """Sealed lines to the others.

        Raises:
            Refused: there is no roster yet.
        """
        if self._seals is None:
            raise Refused("roster=<none> must come before anything is sealed; send join")
        return self._seals

    @property
    def hash_key(self) -> bytes:
        """32 bytes that all channels know, and the coordinator does not.

        Raises:
            Refused: not all bundles are there yet.
        """
        if not self._key:
            raise Refused("key=<none> needs a share of every channel; send the bundles")
        return self._key

    @property
    def regions(self) -> list[RegionPadding]:
        """Padding of all regions that this channel is in, ascending."""
        return [self._regions[mask] for mask in regions_of(self.ring.index, len(self.ring.channels))]

    def insist(self, roster: Roster) -> None:
        """Take in who is in the run.

        Raises:
            BadMessage: channels are missing, foreign, in another order, or were told other settings.
            Refused: there is a roster already.
            WrongIdentity: a key is not signed by its registered node.
        """
        if self._seals is not None:
            raise Refused("roster=<second> must be the only one of the run; begin another run")
        names = tuple(hello.party for hello in roster.hellos)
        if names != self.ring.channels:
            raise BadMessage(
                SERVER, f"must send the keys of {list(self.ring.channels)}, not of {list(names)}"
            )
        for hello in roster.hellos:
            body = _hello_body(self._run, hello.settings_digest, hello.public_key)
            self._identities.verify(hello.party, _HELLO, body, hello.signature)
            if hello.settings_digest != self.hello.settings_digest:
                raise BadMessage(
                    SERVER,
                    f"must tell all channels the same settings; it told {hello.party!r} others than {self.ring.me!r}",
                )
        if roster.hellos[self.ring.index] != self.hello:
            raise BadMessage(SERVER, f"must send {self.ring.me!r} its own key back unchanged")
        self._roster = hashlib.sha256(framed(self._run, encode(roster))).digest()
        secrets = [
            (hello.party, self._agreement.secret_with(hello.party, hello.public_key))
            for hello in roster.hellos
            if hello.party != self.ring.me
        ]
        self._seals = Seals(self.ring.me, secrets, self._roster)

    def bundles(self, noise: NoiseSource) -> Joined:
        """Draw the padding of the regions that this channel leads, and tell their members."""
        names, me = self.ring.channels, self.ring.index
        led = regions_led_by(me, len(names))
        drawn = self._settings.padding.draw(2 * len(led), noise).reshape(-1, 2).tolist()
        for mask, (curve, twist) in zip(led, drawn, strict=True):
            self._regions[mask] = RegionPadding(mask, (curve, twist), self._random_bytes(_SEED_BYTES))
        found: list[Bundle] = []
        for place, name in enumerate(names):
            if place != me:
                regions = tuple(self._regions[mask] for mask in led if mask >> place & 1)
                body = encode(BundleBody(self._share, regions))
                found.append(Bundle(self.ring.me, name, self.seals.seal(name, (_BUNDLE, me, 0), body)))
        return Joined(self.ring.me, tuple(found))

    def complete(self, bundles: Sequence[Bundle]) -> None:
        """Take in what the others sealed for this channel.

        Raises:
            BadMessage: a bundle is missing or foreign, was changed, or holds padding that is not its sender's to draw.
        """
        names, me = self.ring.channels, self.ring.index
        others = [name for name in names if name != self.ring.me]
        if [(bundle.sender, bundle.recipient) for bundle in bundles] != [
            (name, self.ring.me) for name in others
        ]:
            raise BadMessage(SERVER, f"must send {self.ring.me!r} one bundle of each of {others}")
        shares = {self.ring.me: self._share}
        for bundle in bundles:
            place = names.index(bundle.sender)
            opened = self.seals.open(bundle.sender, (_BUNDLE, place, 0), bundle.sealed)
            body = decode(opened, BundleBody, party=bundle.sender)
            expected = [mask for mask in regions_led_by(place, len(names)) if mask >> me & 1]
            self._check(bundle.sender, body, expected)
            shares[bundle.sender] = body.share
            self._regions.update((padding.mask, padding) for padding in body.regions)
        self._key = group_key(self._roster, [shares[name] for name in names])

    def _check(self, sender: str, body: BundleBody, expected: list[int]) -> None:
        most = self._settings.padding.most
        counts = np.array([padding.counts for padding in body.regions], np.float64).reshape(-1, 2)
        if (
            [padding.mask for padding in body.regions] != expected
            or len(body.share) != _SEED_BYTES
            or any(len(padding.seed) != _SEED_BYTES for padding in body.regions)
            or ((counts < 0) | (counts > most)).any()
        ):
            raise BadMessage(
                sender,
                f"must send a share of the key, and 0 to {most} padding points a side for each region that it leads",
            )


def _hello_body(run: bytes, digest: bytes, public_key: bytes) -> bytes:
    return framed(run, digest, public_key)
