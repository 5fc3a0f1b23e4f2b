"""Quantiles of what all channels' customers have, from noisy counts of dyadic intervals that no party could undo.

Claim: the opened counts are rho-zCDP for one customer, whatever values it has in all channels together (`QuantileSpec.loss`). The edge that is
reported for a quantile q has a noisy rank whose error to q times the noisy total has a standard deviation of at most `rank_deviation`;
between `low` and `high` the true quantile of the binned values lies with the stated confidence, at each quantile.
Precondition: as `noise_shares`; each channel has one value per customer (checked), and a customer may be in every channel.
Argument: a customer adds 1 to one node of each level in each channel, in the worst case to the same: squared sensitivity channels^2 (depth + 1).
Ranks: `trees`. Rank of an edge less q times the total is a difference of unbiased estimates, whose deviation is at most the sum of
theirs. The discrete Gaussian is subgaussian, so a half-width of z deviations with z = sqrt(2 ln(2 / (1 - confidence))) holds for
any sum of shares. The interval begins one edge before the first whose rank may reach q, and ends one edge after the last whose rank may
not: it misses the leaf in which the true rank crosses q only where the noise at that one edge, fixed beforehand, is beyond z deviations.
Not claimed: more than the width of a leaf. Values outside low .. high count in the outermost leaves. A customer of several channels counts
once in each; quantiles of a customer's total over channels need an alignment.
Source: Hay et al., VLDB 2010 (`trees`); Kairouz, Liu, Steinke 2021 (`noise_shares`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from dayfly.federation.accounting import ReleaseBudget
from dayfly.federation.analytics.noisy_counts import CountsWorkload
from dayfly.federation.analytics.trees import consistent, nodes, prefix_variances, tree_of
from dayfly.federation.errors import BadMessage, InvalidData, InvalidSetting
from dayfly.federation.horizontal.session import SecureSession
from dayfly.federation.noise_shares import NoiseShares
from dayfly.federation.secagg import least_threshold
from dayfly.federation.secagg.messages import decode, encode
from dayfly.federation.wire import SERVER, Caller
from dayfly.privacy.accounting import ZcdpLoss
from dayfly.privacy.noise import NoiseSource

__all__ = ["Quantile", "QuantileSpec", "QuantileWorkload", "Quantiles", "secure_quantiles"]

Floats = NDArray[np.float64]
_MOST_CUSTOMERS: Final = 1 << 48
_DEPTHS: Final = range(1, 17)


class QuantileSpec(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What all channels agree on.

    Attributes:
        quantity: Name of what is measured.
        low, high: Public bounds of the values, not taken from the data.
        depth: Leaves are 2^depth equal parts of low .. high; 1 to 16.
        scale: Of the noise that honest channels add to each count together, in customers: numerator and denominator.
        channels: How many there are; a customer may be in all of them.
        colluding: How many of them may tell others their noise.
    """

    quantity: str
    low: float
    high: float
    depth: int
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
        """Of the release, for one customer."""
        return self.shares.loss(self.channels**2 * (self.depth + 1), nodes(self.depth))

    def edges(self) -> Floats:
        """Of the leaves, float64 (2^depth + 1,)."""
        return np.linspace(self.low, self.high, (1 << self.depth) + 1)

    def broken(self) -> str | None:
        """What contradicts itself, if anything does."""
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            return f"low={self.low} must be below high={self.high}, both finite; pass public bounds"
        if self.depth not in _DEPTHS:
            return f"depth={self.depth} must be 1 to 16; pass 10 for 1,024 leaves"
        if self.scale[1] < 1 or self.channels < 2:
            return f"scale={self.scale} must be a fraction, and channels={self.channels} at least 2"
        return None


class QuantileWorkload(CountsWorkload[QuantileSpec]):
    """A channel's part.

    Args:
        party: Its name.
        customers: Customer to value; one each.
        noise: Where its shares come from.
        run: Of the protocol.
        budget: Is charged `QuantileSpec.loss` once, before anything is computed.

    Raises:
        InvalidData: there are no customers, or a value is no finite number.
    """

    kind = "quantiles"

    def __init__(
        self,
        party: str,
        customers: Mapping[str, float],
        *,
        noise: NoiseSource,
        run: bytes,
        budget: ReleaseBudget,
    ) -> None:
        if not customers:
            raise InvalidData(party, "has no customers; leave it out of the run")
        super().__init__(noise=noise, run=run, budget=budget)
        self._values: Final = np.array(list(customers.values()), np.float64)
        if not np.isfinite(self._values).all():
            raise InvalidData(
                party,
                "has values that are not finite; leave these customers out, or say what stands for them",
            )

    def _read(self, spec: bytes) -> QuantileSpec:
        agreed = decode(spec, QuantileSpec, party=SERVER)
        broken = agreed.broken()
        if broken is not None:
            raise BadMessage(SERVER, f"must send a spec that holds: {broken}")
        return agreed

    def _counts(self, spec: QuantileSpec) -> NDArray[np.int64]:
        leaves = np.searchsorted(spec.edges(), self._values, side="right") - 1
        inside = np.clip(leaves, 0, (1 << spec.depth) - 1)
        return tree_of(np.bincount(inside, minlength=1 << spec.depth).astype(np.int64))


@dataclass(frozen=True, slots=True)
class Quantile:
    """One quantile.

    Attributes:
        share: q, of customers below it.
        value: Estimated, inside a leaf by interpolation.
        low, high: Between them the true quantile lies with the confidence asked for, up to values outside the bounds.
    """

    share: float
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Quantiles:
    """What was released.

    Attributes:
        quantiles: As asked for.
        customers: Noisy total; a customer counts in each of its channels.
        included: Whose customers were counted, sorted.
        loss: Of each channel's customers.
        rank_deviation: Largest standard deviation of a rank's error, in customers.
        edges: Of the leaves, float64 (2^depth + 1,).
        ranks: Estimated number of customers below each edge, float64 (2^depth + 1,), never falling.
    """

    quantiles: tuple[Quantile, ...]
    customers: float
    included: tuple[str, ...]
    loss: ZcdpLoss
    rank_deviation: float
    edges: Floats
    ranks: Floats


def secure_quantiles(
    caller: Caller, spec: QuantileSpec, shares: Sequence[float], *, session: bytes, confidence: float = 0.95
) -> Quantiles:
    """Quantiles of the values of all channels' customers; any number of them costs one release.

    Args:
        caller: The coordinator's end of the wire.
        spec: What is measured, and how noisy.
        shares: Each inside 0 to 1.
        session: 16 random bytes, never used again.
        confidence: Of each quantile's interval.

    Raises:
        InvalidSetting: the spec contradicts itself, or a number is out of range.
        Declined: a channel's budget is used up; names it.
        TooFewParties: fewer than the threshold are there; nothing was opened.
    """
    parties = caller.grid.parties()
    if spec.channels != len(parties):
        raise InvalidSetting(f"channels={spec.channels} must be the number of parties, {len(parties)}")
    broken = spec.broken()
    if broken is not None:
        raise InvalidSetting(broken)
    if not all(0 < share < 1 for share in (*shares, confidence)):
        raise InvalidSetting(
            f"shares={list(shares)} and confidence={confidence} must lie inside 0 to 1; pass 0.5 for the median"
        )
    noise, loss = spec.shares, spec.loss
    secure = SecureSession(caller, session=session, rounds=1, words=nodes(spec.depth))
    secure.start(encode(spec))
    opened = secure.sum(b"quantiles")
    sigma = float(noise.share_scale) * len(opened.included) ** 0.5
    exact = np.concatenate([[0.0], np.cumsum(consistent(opened.words.view(np.int64).astype(np.float64)))])
    spread = sigma * np.sqrt(prefix_variances(spec.depth))
    found = tuple(
        _quantile(share, spec.edges(), exact, spread + share * sigma, confidence=confidence)
        for share in shares
    )
    worst = float(spread.max()) + max(shares, default=0.0) * sigma
    ranks = np.maximum.accumulate(exact)
    return Quantiles(found, float(exact[-1]), opened.included, loss, worst, spec.edges(), ranks)


def _quantile(
    share: float, edges: Floats, ranks: Floats, deviations: Floats, *, confidence: float
) -> Quantile:
    above = ranks - share * ranks[-1]
    width = math.sqrt(2 * math.log(2 / (1 - confidence))) * deviations
    maybe_above, maybe_below = np.flatnonzero(above + width >= 0), np.flatnonzero(above - width <= 0)
    low = max(int(maybe_above[0]) - 1, 0) if maybe_above.size else len(edges) - 1
    high = min(int(maybe_below[-1]) + 1, len(edges) - 1) if maybe_below.size else 0
    monotone = np.maximum.accumulate(above)
    place = int(np.clip(np.searchsorted(monotone, 0.0, side="right"), 1, len(edges) - 1))
    before, after = float(monotone[place - 1]), float(monotone[place])
    part = min(max(-before / (after - before), 0.0), 1.0) if after > before else 0.5
    value = float(edges[place - 1] + part * (edges[place] - edges[place - 1]))
    return Quantile(share, value, float(edges[low]), float(edges[high]))
