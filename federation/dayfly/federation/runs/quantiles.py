"""The protocol `quantiles`: quantiles of a column over all channels' customers, from noisy counts of intervals."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final

import msgspec

from dayfly.federation.analytics import QuantileSpec, QuantileWorkload, secure_quantiles
from dayfly.federation.errors import InvalidData, InvalidSetting
from dayfly.federation.grid import Party
from dayfly.federation.horizontal import ChannelParty
from dayfly.federation.runs.seats import Chair, Outcome, Seat
from dayfly.federation.secagg.messages import decode, encode
from dayfly.federation.wire import SERVER

__all__ = ["PROTOCOL", "QuantilesPlan"]

_SESSION_BYTES: Final = 16


class QuantilesPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of a plan.

    Attributes:
        quantity: Column that every channel has.
        low, high: Public bounds of its values.
        shares: Quantiles that are wanted, each inside 0 to 1.
        scale: Standard deviation of the noise that honest channels add to each count together, in customers.
        depth: The bounds are cut into 2^depth equal parts.
        confidence: Of each quantile's interval.
        colluding: How many channels may tell others their noise.
    """

    quantity: str
    low: float
    high: float
    shares: tuple[float, ...]
    scale: float
    depth: int = 10
    confidence: float = 0.95
    colluding: int = 0

    def spec(self, channels: int) -> QuantileSpec:
        """What the channels agree on."""
        scale = Fraction(self.scale).limit_denominator(1_000)
        pair = (scale.numerator, scale.denominator)
        return QuantileSpec(self.quantity, self.low, self.high, self.depth, pair, channels, self.colluding)


class _Quantiles:
    def terms(self, settings: Mapping[str, Any]) -> bytes:
        return encode(_plan(settings))

    def party(self, seat: Seat) -> Party:
        plan = decode(seat.terms, QuantilesPlan, party=SERVER)
        customers, values = seat.data.customers(), seat.data.matrix((plan.quantity,))[:, 0]
        found = dict(zip(customers, values.tolist(), strict=True))
        if len(found) != len(customers):
            raise InvalidData(
                seat.name, f"has {len(customers) - len(found)} customers twice; keep one row for each"
            )
        workload = QuantileWorkload(seat.name, found, noise=seat.noise, run=seat.run, budget=seat.budget)
        return ChannelParty(
            seat.identity, seat.identities, workload, run=seat.run, random_bytes=seat.random_bytes
        )

    def coordinate(self, chair: Chair) -> Outcome:
        plan = _plan(chair.settings)
        spec = plan.spec(len(chair.caller.grid.parties()))
        session = chair.random_bytes(_SESSION_BYTES)
        found = secure_quantiles(chair.caller, spec, plan.shares, session=session, confidence=plan.confidence)
        document = {
            "protocol": "quantiles",
            "quantity": plan.quantity,
            "quantiles": [
                {"share": one.share, "value": one.value, "low": one.low, "high": one.high}
                for one in found.quantiles
            ],
            "customers": found.customers,
            "included": list(found.included),
            "rank_deviation": found.rank_deviation,
            "privacy": {"rho": float(found.loss.rho)},
        }
        return Outcome(document, {"edges": found.edges, "ranks": found.ranks})


def _plan(settings: Mapping[str, Any]) -> QuantilesPlan:
    try:
        return msgspec.convert(dict(settings), QuantilesPlan)
    except msgspec.ValidationError as error:
        raise InvalidSetting(
            f"settings of the plan must be those of quantiles: {error}; correct them"
        ) from None


PROTOCOL: Final = _Quantiles()
