"""What coordinator and channels of an alignment send each other, inside signed frames; msgpack on the wire."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Final, Literal

import msgspec

from dayfly.federation.alignment.manifest import Manifest
from dayfly.federation.alignment.padding import Padding
from dayfly.federation.errors import InvalidSetting
from dayfly.privacy.consent import ConsentRequest
from dayfly.privacy.consent.scope import request_is_sound

__all__ = [
    "AlignmentSettings",
    "BlindRequest",
    "Blinded",
    "Bundle",
    "BundleBody",
    "Hello",
    "HopRequest",
    "Hopped",
    "Joined",
    "Kind",
    "Placed",
    "Placement",
    "RegionPadding",
    "Roster",
]

Kind = Literal["email", "phone", "id"]

_CHANNELS: Final = range(2, 7)
_PIECE_POINTS: Final = range(1, (1 << 22) + 1)


class AlignmentSettings(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, kw_only=True
):
    """What all channels agree on before anything of their sets is sent.

    Attributes:
        channels: Names, sorted; the ring goes in this order.
        purpose: A path of the purpose taxonomy, which every customer who enters consented to.
        kind: Of identifier.
        expires_ms: Until when rows may be used; consents must stand until then. Int64 milliseconds UTC.
        epsilon, delta: Of the padding: numerator and denominator.
        piece_points: Most points of one message; 32 bytes and some 35 CPU microseconds each.
    """

    channels: tuple[str, ...]
    purpose: str
    kind: Kind
    expires_ms: int
    epsilon: tuple[int, int] = (1, 1)
    delta: tuple[int, int] = (1, 10**9)
    piece_points: int = 1 << 17

    @property
    def padding(self) -> Padding:
        """How much is padded."""
        return Padding(Fraction(*self.epsilon), Fraction(*self.delta))

    def check(self) -> None:
        """Insist that the settings make sense.

        Raises:
            InvalidSetting: they do not.
        """
        names = list(self.channels)
        if len(names) not in _CHANNELS or names != sorted(set(names)):
            raise InvalidSetting(f"channels={names} must be 2 to 6 names, sorted, each once; list them so")
        if not request_is_sound(ConsentRequest(self.purpose)):
            raise InvalidSetting(
                f"purpose={self.purpose!r} must be a path of the purpose taxonomy; write 'joint-model'"
            )
        if self.piece_points not in _PIECE_POINTS:
            raise InvalidSetting(
                f"piece_points={self.piece_points} must be 1 to {_PIECE_POINTS.stop - 1}; pass 131072"
            )
        if self.epsilon[1] < 1 or self.delta[1] < 1:
            raise InvalidSetting(
                f"epsilon={self.epsilon} delta={self.delta} must be fractions with denominators above 0; pass (1, 1)"
            )
        _ = self.padding


class Hello(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A channel's key of the run, signed by its node together with the settings."""

    party: str
    settings_digest: bytes
    public_key: bytes
    signature: bytes


class Roster(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """All channels, in the order of the ring."""

    hellos: tuple[Hello, ...]


class RegionPadding(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Padding that the members of a region have in common.

    Attributes:
        mask: The region.
        counts: Points on the curve and on the twist.
        seed: 32 bytes that they come from.
    """

    mask: int
    counts: tuple[int, int]
    seed: bytes


class BundleBody(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a channel tells another: its share of the hash's key, and the padding of the regions it leads and the other is in."""

    share: bytes
    regions: tuple[RegionPadding, ...]


class Bundle(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A bundle's body, sealed."""

    sender: str
    recipient: str
    sealed: bytes


class Joined(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A channel's bundles for the others, in the order of the ring."""

    party: str
    bundles: tuple[Bundle, ...]


class BlindRequest(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Asks for a piece of a channel's own set; with the first one come the bundles for it."""

    piece: int
    bundles: tuple[Bundle, ...] = ()


class Blinded(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A piece of a channel's blinded set, sealed for the next in the ring.

    Attributes:
        count: Of the whole set, padding included.
        manifest: With the last piece.
    """

    party: str
    count: int
    sealed: bytes
    manifest: Manifest | None


class HopRequest(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Hands a channel a piece of another's set, sealed by its predecessor in the ring."""

    owner: str
    piece: int
    sealed: bytes


class Hopped(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The piece, blinded once more: sealed for the next, or after the last hop the points themselves."""

    party: str
    owner: str
    piece: int
    data: bytes


class Placement(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where a channel's points are, in the order that it sent them.

    Attributes:
        positions: Little-endian int64.
        manifests: Of all channels, in the order of the ring.
    """

    universe: int
    positions: bytes
    manifests: tuple[Manifest, ...]


class Placed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """For each region of two or more that the channel is in, ascending: a tag of where its padding is."""

    party: str
    tags: tuple[bytes, ...]


def pieces_of(count: int, piece_points: int) -> int:
    """How many messages a set takes; an empty one takes one too."""
    return max(1, -(-count // piece_points))


def piece_slice(piece: int, piece_points: int) -> slice:
    """Points of one piece."""
    return slice(piece * piece_points, (piece + 1) * piece_points)


def shared_regions(regions: Sequence[int]) -> list[int]:
    """Those of two or more channels."""
    return [mask for mask in regions if mask & (mask - 1)]
