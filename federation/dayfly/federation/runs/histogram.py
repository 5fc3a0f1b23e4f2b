"""The protocol `histogram`: counts of customers per category over all channels, with noise that no party knows."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final

import msgspec
import numpy as np

from dayfly.federation.analytics.histograms import HistogramSpec, HistogramWorkload, secure_histogram
from dayfly.federation.errors import InvalidSetting
from dayfly.federation.grid import Party
from dayfly.federation.horizontal import ChannelParty
from dayfly.federation.runs.seats import Chair, Outcome, Seat

__all__ = ["PROTOCOL", "HistogramPlan"]

_SESSION_BYTES: Final = 16


class HistogramPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of a plan.

    Attributes:
        categories: What is counted; public.
        scale: Standard deviation of the noise that honest channels add together, in customers.
        colluding: How many channels may tell others their noise.
    """

    categories: tuple[str, ...]
    scale: float
    colluding: int = 0


class _Histogram:
    def terms(self, settings: Mapping[str, Any]) -> bytes:
        return msgspec.msgpack.encode(_plan(settings))

    def party(self, seat: Seat) -> Party:
        workload = HistogramWorkload(
            seat.name, seat.data.categories(), noise=seat.noise, run=seat.run, budget=seat.budget
        )
        return ChannelParty(
            seat.identity, seat.identities, workload, run=seat.run, random_bytes=seat.random_bytes
        )

    def coordinate(self, chair: Chair) -> Outcome:
        plan = _plan(chair.settings)
        scale = Fraction(plan.scale).limit_denominator(1_000)
        spec = HistogramSpec(
            plan.categories,
            (scale.numerator, scale.denominator),
            len(chair.caller.grid.parties()),
            plan.colluding,
        )
        found = secure_histogram(chair.caller, spec, session=chair.random_bytes(_SESSION_BYTES))
        document = {
            "protocol": "histogram",
            "counts": found.counts,
            "included": list(found.included),
            "standard_deviation": found.standard_deviation,
            "privacy": {"rho": float(found.loss.rho)},
        }
        return Outcome(document, {"counts": np.array(list(found.counts.values()), np.int64)})


def _plan(settings: Mapping[str, Any]) -> HistogramPlan:
    try:
        return msgspec.convert(dict(settings), HistogramPlan)
    except msgspec.ValidationError as error:
        raise InvalidSetting(
            f"settings of the plan must be those of a histogram: {error}; correct them"
        ) from None


PROTOCOL: Final = _Histogram()
