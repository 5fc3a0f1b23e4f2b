"""The protocol `overlap`: how many aligned customers are in the audiences of exactly which channels."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from dayfly.federation.analytics import OverlapParty, OverlapSpec, count_overlap
from dayfly.federation.errors import InvalidSetting
from dayfly.federation.grid import Party
from dayfly.federation.runs.alignment import aligned_rows, customers_of
from dayfly.federation.runs.data import ChannelData
from dayfly.federation.runs.seats import Chair, Outcome, Seat
from dayfly.federation.secagg.messages import decode, encode
from dayfly.federation.wire import SERVER

__all__ = ["PROTOCOL", "OverlapPlan"]


class OverlapPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of a plan.

    Attributes:
        audience: What is counted, in words.
        channels: Channel to the columns that decide and the range, ends included, in which their values must lie; no column: all customers.
        scale: Standard deviation of the noise that honest channels add to each count together, in customers.
        alignment, universe, purpose: Of the alignment; filled in from the plan's `alignment`.
        colluding: How many channels may tell others their noise.
    """

    audience: str
    channels: dict[str, dict[str, tuple[float, float]]]
    scale: float
    alignment: str
    universe: int
    purpose: str = "joint-model"
    colluding: int = 1

    @property
    def spec(self) -> OverlapSpec:
        """What the channels agree on.

        Raises:
            InvalidSetting: it does not hold together.
        """
        scale = Fraction(self.scale).limit_denominator(1_000)
        spec = OverlapSpec(
            self.audience,
            tuple(sorted(self.channels)),
            self.universe,
            bytes.fromhex(self.alignment),
            self.purpose,
            (scale.numerator, scale.denominator),
            self.colluding,
        )
        spec.check()
        return spec


class _Overlap:
    def terms(self, settings: Mapping[str, Any]) -> bytes:
        return encode(_plan(settings))

    def party(self, seat: Seat) -> Party:
        plan = decode(seat.terms, OverlapPlan, party=SERVER)
        if seat.name not in plan.channels:
            raise InvalidSetting(
                f"channels={sorted(plan.channels)} must list {seat.name!r}; correct the plan"
            )
        rows = aligned_rows(seat.shelf, bytes.fromhex(plan.alignment), seat.name)
        customers = customers_of(seat.data, kind="id", purpose=plan.purpose)
        return OverlapParty(
            seat.identity,
            seat.identities,
            _audience(seat.data, plan.channels[seat.name]),
            rows,
            run=seat.run,
            random_bytes=seat.random_bytes,
            noise=seat.noise,
            budget=seat.budget,
            now_ms=seat.now_ms,
            recheck=lambda now_ms: customers.insist(rows, now_ms),
        )

    def coordinate(self, chair: Chair) -> Outcome:
        plan = _plan(chair.settings)
        found = count_overlap(chair.caller, plan.spec, random_bytes=chair.random_bytes)
        document = {
            "protocol": "overlap",
            "audience": plan.audience,
            "cells": [{"channels": list(cell), "customers": count} for cell, count in found.cells.items()],
            "standard_deviation": found.standard_deviation,
            "reach": found.reach,
            "reach_deviation": found.deviation_of(len(found.cells)),
            "privacy": {"rho": float(found.loss.rho)},
        }
        return Outcome(document, {"counts": np.array(list(found.cells.values()), np.int64)})


def _audience(data: ChannelData, ranges: Mapping[str, tuple[float, float]]) -> NDArray[np.bool_]:
    values = data.matrix(tuple(ranges))
    found = np.ones(len(values), np.bool_)
    for column, (low, high) in enumerate(ranges.values()):
        found &= (values[:, column] >= low) & (values[:, column] <= high)  # a missing value is in no range
    return found


def _plan(settings: Mapping[str, Any]) -> OverlapPlan:
    try:
        return msgspec.convert(dict(settings), OverlapPlan)
    except msgspec.ValidationError as error:
        raise InvalidSetting(
            f"settings of the plan must be those of an overlap: {error}; correct them"
        ) from None


PROTOCOL: Final = _Overlap()
