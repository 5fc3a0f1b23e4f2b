"""What channels agree on when they count in how many of their audiences customers are, and what is dealt for it.

Claim: one customer, whatever is changed or removed of it in all channels together, changes the released counts by the sensitivity of `OverlapSpec.loss`.
Argument: a customer has one row of the common space, so it is in one cell, the set of channels in whose audience it is. Added or removed, it
changes one count by 1.
"""

import hashlib
from collections.abc import Mapping
from fractions import Fraction
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from dayfly.federation.errors import BadMessage, InvalidSetting
from dayfly.federation.noise_shares import NoiseShares
from dayfly.federation.secagg.messages import decode, encode
from dayfly.federation.secagg.seeds import derive, mask, stream
from dayfly.federation.wire import SERVER
from dayfly.privacy.accounting import ZcdpLoss

__all__ = ["OverlapDealer", "OverlapDealt", "OverlapSpec", "decode_overlap"]

Words = NDArray[np.uint64]
Bytes = NDArray[np.uint8]
_CHANNELS: Final = range(2, 7)
_MOST_ROWS: Final = 1 << 32


class OverlapSpec(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What all channels agree on.

    Attributes:
        audience: What makes a customer one of the audience, in words; each channel decides by its own data.
        channels: Sorted; a customer may be in all of them.
        universe: Rows of the common space.
        alignment: Run of the alignment that made it.
        purpose: For which the customers' consents must be.
        scale: Of the noise that honest channels add to each count together, in customers: numerator and denominator.
        colluding: How many channels may tell others their noise; with 1, the loss is the stated one also toward each single channel.
    """

    audience: str
    channels: tuple[str, ...]
    universe: int
    alignment: bytes
    purpose: str
    scale: tuple[int, int]
    colluding: int = 1

    @property
    def cells(self) -> int:
        """Sets of channels, the empty one included."""
        return 1 << len(self.channels)

    @property
    def shares(self) -> NoiseShares:
        """How the noise is spread; every channel is in the sum.

        Raises:
            InvalidSetting: too many may collude, or the noise is too small to be spread, or too large for the ring.
        """
        shares = NoiseShares.among(
            Fraction(*self.scale), members=len(self.channels), colluding=self.colluding
        )
        shares.check_room(self.universe, parties=len(self.channels))
        return shares

    @property
    def loss(self) -> ZcdpLoss:
        """Of the release, for one customer in all channels together."""
        return self.shares.loss(1, self.cells - 1)

    @property
    def agreement(self) -> bytes:
        """32 bytes that name it."""
        return hashlib.sha256(b"dayfly overlap v1" + encode(self)).digest()

    def check(self) -> None:
        """Insist that it holds together.

        Raises:
            InvalidSetting: names what breaks its rule.
        """
        if len(self.channels) not in _CHANNELS or sorted(set(self.channels)) != list(self.channels):
            raise InvalidSetting(f"channels={list(self.channels)} must be 2 to 6 names, sorted, each once")
        if not 0 < self.universe < _MOST_ROWS:
            raise InvalidSetting(f"universe={self.universe} must be above 0 and below 2^32; align first")
        if self.scale[1] < 1:
            raise InvalidSetting(f"scale={self.scale} must be a fraction; pass a numerator and a denominator")
        _ = self.loss


def decode_overlap(data: bytes) -> OverlapSpec:
    """Read what a channel is asked to agree on.

    Raises:
        BadMessage: it cannot be read, or does not hold together.
    """
    spec = decode(data, OverlapSpec, party=SERVER)
    try:
        spec.check()
    except InvalidSetting as error:
        raise BadMessage(SERVER, f"must send an overlap that holds: {error}") from error
    return spec


class OverlapDealt:
    """A channel's part of what is dealt: expanded from its seed.

    Args:
        spec: As agreed.
        seed: 32 bytes of the dealer.
    """

    def __init__(self, spec: OverlapSpec, seed: bytes) -> None:
        self._spec: Final = spec
        self._seed: Final = seed

    def shift(self) -> Bytes:
        """Its summand of every row's shift, uint8 (universe,), uniform below `cells`."""
        data = stream(derive(self._seed, "overlap shift"), self._spec.universe)
        return np.frombuffer(data, np.uint8) & np.uint8(self._spec.cells - 1)

    def tables(self) -> Words:
        """Its shares of every row's table, uint64 (universe, cells)."""
        cells = self._spec.cells
        return mask(derive(self._seed, "overlap tables"), self._spec.universe * cells).reshape(-1, cells)


class OverlapDealer:
    """The dealer's part: shifts, and tables that are 1 at the row's shift and 0 elsewhere, in shares.

    Args:
        spec: As agreed.
        root: 32 random bytes, used for this run alone.
    """

    def __init__(self, spec: OverlapSpec, root: bytes) -> None:
        self._spec: Final = spec
        self.seeds: Final[Mapping[str, bytes]] = {
            name: derive(root, "overlap dealer", name.encode()) for name in spec.channels
        }

    def correction(self) -> Words:
        """The last channel's shares of the tables, which are not expanded: the tables less all others' shares."""
        spec = self._spec
        shift = np.zeros(spec.universe, np.uint8)
        tables = np.zeros((spec.universe, spec.cells), np.uint64)
        for name in spec.channels:
            part = OverlapDealt(spec, self.seeds[name])
            shift += part.shift()
            if name != spec.channels[-1]:
                tables -= part.tables()
        tables[np.arange(spec.universe), shift & np.uint8(spec.cells - 1)] += np.uint64(1)
        return tables
