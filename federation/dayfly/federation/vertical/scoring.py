"""What channels agree on before they score customers together, and what of a customer each adds."""

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from dayfly.federation.errors import InvalidSetting
from dayfly.federation.vertical.data import shortened, standardised
from dayfly.federation.vertical.spec import ChannelColumns

__all__ = ["ScoringSpec"]

Floats = NDArray[np.float64]
_TWO: Final = 2


class ScoringSpec(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What all channels agree on.

    Attributes:
        channels: Sorted by name, as in the training.
        weights: Of each channel's features, mapped from their bounds to -1 and 1.
        intercept: Of the model.
        acting: Who learns the scores.
        alignment: Run of the alignment of the customers to be scored.
        universe: Rows of the common space.
        purpose: For which their consents must be.
        band: Partial scores are rounded to multiples of it.
        limit: Largest partial score.
    """

    channels: tuple[ChannelColumns, ...]
    weights: tuple[tuple[float, ...], ...]
    intercept: float
    acting: str
    alignment: bytes
    universe: int
    purpose: str
    band: float = 0.125
    limit: float = 8.0

    @property
    def names(self) -> tuple[str, ...]:
        """The channels."""
        return tuple(columns.channel for columns in self.channels)

    @property
    def others(self) -> tuple[str, ...]:
        """Who adds to the scores of the acting channel."""
        return tuple(name for name in self.names if name != self.acting)

    def check(self) -> None:
        """Insist on an agreement that can be kept.

        Raises:
            InvalidSetting: names what breaks its rule.
        """
        names = self.names
        if list(names) != sorted(set(names)) or self.acting not in names or len(names) < _TWO:
            raise InvalidSetting(
                f"channels={names} must be two or more, sorted, each once, with acting={self.acting!r} among them"
            )
        widths = tuple(len(columns.features) for columns in self.channels)
        if tuple(map(len, self.weights)) != widths:
            raise InvalidSetting(f"weights must be {widths}, one per feature; take them from the model")
        if not 2**-20 <= self.band <= self.limit <= 2**10 or not 1 <= self.universe < 1 << 32:
            raise InvalidSetting(
                f"band={self.band} must be at least 2^-20 and at most limit={self.limit}, and that at most 1024; pass 0.125 and 8"
            )

    def partial(self, channel: str, values: Floats) -> Floats:
        """A channel's partial scores.

        Args:
            channel: Its name.
            values: float64 (customers, features), as they are.
        """
        place = self.names.index(channel)
        columns = self.channels[place]
        rows = shortened(standardised(values, columns.bounds), columns.clip)
        return np.asarray(rows @ np.array(self.weights[place]))
