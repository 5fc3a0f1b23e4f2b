"""Counts over all channels' customers, with noise that no party knows.

Claim: the opened counts are rho-zCDP for one customer, whatever rows it has in all channels together (`HistogramSpec.loss`).
Precondition: as `noise_shares`; each channel has one row per customer (checked), and a customer may be in every channel.
Argument: one customer adds at most 1 to one count of each of `channels` channels, in the worst case to the same: sensitivity
`channels` in the L2 norm. The noise of a release is drawn once and kept, so that asking again gives the same integers.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from dayfly.federation.accounting import ReleaseBudget
from dayfly.federation.analytics.noisy_counts import CountsWorkload
from dayfly.federation.errors import BadMessage, InvalidData, InvalidSetting
from dayfly.federation.horizontal.session import SecureSession
from dayfly.federation.noise_shares import NoiseShares
from dayfly.federation.secagg import least_threshold
from dayfly.federation.secagg.messages import decode, encode
from dayfly.federation.wire import SERVER, Caller
from dayfly.privacy.accounting import ZcdpLoss
from dayfly.privacy.noise import NoiseSource

__all__ = ["HistogramSpec", "HistogramWorkload", "NoisyHistogram", "secure_histogram"]


_MOST_CUSTOMERS: Final = 1 << 48


class HistogramSpec(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What all channels agree on.

    Attributes:
        categories: What is counted; public, not taken from the data. Customers of others are not counted.
        scale: Of the noise that honest channels add together, in customers: numerator and denominator.
        channels: How many there are; a customer may be in all of them.
        colluding: How many of them may tell others their noise.
    """

    categories: tuple[str, ...]
    scale: tuple[int, int]
    channels: int
    colluding: int = 0

    @property
    def shares(self) -> NoiseShares:
        """How the noise is spread.

        Raises:
            InvalidSetting: too many may collude, or the noise is too small to be spread, or too large for the ring.
        """
        shares = NoiseShares.among(
            Fraction(*self.scale), members=least_threshold(self.channels), colluding=self.colluding
        )
        shares.check_room(self.channels * _MOST_CUSTOMERS, parties=self.channels)
        return shares

    @property
    def loss(self) -> ZcdpLoss:
        """Of one release, for one customer."""
        return self.shares.loss(self.channels**2, len(self.categories))


class HistogramWorkload(CountsWorkload[HistogramSpec]):
    """A channel's part.

    Args:
        party: Its name.
        customers: Customer to category; one each.
        noise: Where its shares come from.
        run: Of the protocol.
        budget: Is charged `HistogramSpec.loss` once, before anything is computed.

    Raises:
        InvalidData: there are no customers.
    """

    kind = "histogram"

    def __init__(
        self,
        party: str,
        customers: Mapping[str, str],
        *,
        noise: NoiseSource,
        run: bytes,
        budget: ReleaseBudget,
    ) -> None:
        if not customers:
            raise InvalidData(party, "has no customers; leave it out of the run")
        super().__init__(noise=noise, run=run, budget=budget)
        self._categories: Final = Counter(customers.values())

    def _read(self, spec: bytes) -> HistogramSpec:
        agreed = decode(spec, HistogramSpec, party=SERVER)
        if len(set(agreed.categories)) != len(agreed.categories) or not agreed.categories:
            raise BadMessage(SERVER, "must name categories, each once")
        if agreed.scale[1] < 1 or agreed.channels < 2:
            raise BadMessage(SERVER, "must send a scale that is a fraction, and at least two channels")
        return agreed

    def _counts(self, spec: HistogramSpec) -> NDArray[np.int64]:
        return np.array([self._categories[name] for name in spec.categories], np.int64)


@dataclass(frozen=True, slots=True)
class NoisyHistogram:
    """What was released.

    Attributes:
        counts: Category to its noisy count; may be negative.
        included: Whose customers were counted, sorted.
        loss: Of each channel's customers.
        standard_deviation: Of a count, from all shares that were added.
    """

    counts: dict[str, int]
    included: tuple[str, ...]
    loss: ZcdpLoss
    standard_deviation: float


def secure_histogram(caller: Caller, spec: HistogramSpec, *, session: bytes) -> NoisyHistogram:
    """Count the customers of all channels of the caller's grid per category.

    Args:
        caller: The coordinator's end of the wire.
        spec: What is counted, and how noisy.
        session: 16 random bytes, never used again.

    Raises:
        InvalidSetting: `channels` is not the number of parties, or the noise cannot be spread.
        Declined: a channel's budget is used up; names it.
        TooFewParties: fewer than the threshold are there; nothing was opened.
    """
    parties = caller.grid.parties()
    if spec.channels != len(parties):
        raise InvalidSetting(f"channels={spec.channels} must be the number of parties, {len(parties)}")
    shares, loss = spec.shares, spec.loss
    secure = SecureSession(caller, session=session, rounds=1, words=len(spec.categories))
    secure.start(encode(spec))
    opened = secure.sum(b"histogram")
    counts = opened.words.view(np.int64).tolist()
    return NoisyHistogram(
        dict(zip(spec.categories, counts, strict=True)),
        opened.included,
        loss,
        float(shares.share_scale) * len(opened.included) ** 0.5,
    )
