"""The protocol `vertical`: channels with different features of aligned customers train one model, with noise on every opened value."""

import datetime as dt
import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from dayfly.federation.alignment import Rows
from dayfly.federation.errors import InvalidSetting
from dayfly.federation.grid import Party
from dayfly.federation.model import JointModel, model_of_vertical
from dayfly.federation.runs.alignment import aligned_rows, customers_of
from dayfly.federation.runs.seats import Chair, Outcome, Seat
from dayfly.federation.secagg.messages import decode, encode
from dayfly.federation.vertical import (
    ChannelColumns,
    Release,
    VerticalData,
    VerticalFit,
    VerticalParty,
    VerticalSpec,
    agree,
    plan_noise,
    train_vertical,
)
from dayfly.federation.vertical.data import shortened, standardised
from dayfly.federation.wire import SERVER

__all__ = ["PROTOCOL", "ColumnsPlan", "VerticalPlan", "scores_of"]


class ColumnsPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A channel's part of a plan.

    Attributes:
        features: Name to lowest and highest value, which are public.
        clip: See `ChannelColumns`; by default the root of the number of features: none is shortened.
    """

    features: dict[str, tuple[float, float]]
    clip: float | None = None


class VerticalPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of a plan.

    Attributes:
        label: Name of the label.
        label_channel: Who has it.
        channels: Their features.
        alignment, universe, purpose: Of the alignment; filled in from the plan's `alignment`.
        epsilon, delta: Of all releases together, for one customer; without epsilon the sums are exact.
        family, label_bounds, steps, accept_few_rows: See `vertical.agree`.
    """

    label: str
    label_channel: str
    channels: dict[str, ColumnsPlan]
    alignment: str
    universe: int
    purpose: str = "joint-model"
    epsilon: float | None = None
    delta: float = 1e-6
    family: Literal["linear", "logistic"] = "logistic"
    label_bounds: tuple[float, float] = (0.0, 1.0)
    steps: int = 3
    accept_few_rows: bool = False

    @property
    def spec(self) -> VerticalSpec:
        """What the channels agree on.

        Raises:
            InvalidSetting: it cannot be agreed on.
        """
        columns = [
            ChannelColumns(
                name,
                tuple(part.features),
                tuple(part.features.values()),
                part.clip if part.clip is not None else math.sqrt(len(part.features)),
            )
            for name, part in self.channels.items()
        ]
        noise = None
        if self.epsilon is not None:
            noise = plan_noise(_exact(self.epsilon), _exact(self.delta), self.steps)
        return agree(
            columns,
            label=self.label,
            label_channel=self.label_channel,
            alignment=bytes.fromhex(self.alignment),
            universe=self.universe,
            purpose=self.purpose,
            family=self.family,
            label_bounds=self.label_bounds,
            steps=self.steps,
            noise=noise,
            accept_few_rows=self.accept_few_rows,
        )


def scores_of(
    spec: VerticalSpec, weights: NDArray[np.float64], columns: Mapping[str, NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Linear predictors of customers whose columns of all channels are at hand, as in a trial.

    Args:
        spec: Of the training.
        weights: As trained, float64 (spec.size,).
        columns: Channel to its features, float64 (customers, features), in one order of customers.
    """
    length = float(spec.length_squared) ** 0.5
    total = np.full(len(next(iter(columns.values()))), weights[spec.intercept] * spec.constant / length)
    for part in spec.channels:
        block = spec.block(part.channel)
        begin = block.start + (part.channel == spec.label_channel)
        rows = shortened(standardised(columns[part.channel], part.bounds), part.clip)
        total = total + rows @ weights[begin : block.stop] / length
    return total


class _Vertical:
    def terms(self, settings: Mapping[str, Any]) -> bytes:
        return encode(_plan(settings).spec)

    def party(self, seat: Seat) -> Party:
        spec = decode(seat.terms, VerticalSpec, party=SERVER)
        if seat.name not in spec.names:
            raise InvalidSetting(f"channels={list(spec.names)} must list {seat.name!r}; correct the plan")
        features = spec.columns(seat.name).features
        labelled = spec.label_channel == seat.name
        rows = aligned_rows(seat.shelf, spec.alignment, seat.name)
        placed, here = rows, rows.taking_part
        values, labels = seat.data.matrix(features), seat.data.labels(spec.label) if labelled else None
        if here.any() and here.size == len(values):  # otherwise training says what is wrong with these rows
            placed = Rows(rows.universe, rows.positions[here], rows.manifest)
            values, labels = values[here], None if labels is None else labels[here]
        data = VerticalData(
            seat.name, features, values, label=spec.label if labelled else None, labels=labels
        )
        customers = customers_of(seat.data, kind="id", purpose=spec.purpose)
        return VerticalParty(
            seat.identity,
            seat.identities,
            data,
            placed,
            run=seat.run,
            random_bytes=seat.random_bytes,
            noise=seat.noise,
            budget=seat.budget,
            now_ms=seat.now_ms,
            recheck=lambda now_ms: customers.insist(rows, now_ms),
        )

    def coordinate(self, chair: Chair) -> Outcome:
        plan = _plan(chair.settings)
        rho = Fraction(0)

        def shown(release: Release) -> None:
            nonlocal rho
            rho += release.loss.rho if release.loss is not None else 0
            chair.shown(
                {
                    "step": "release",
                    "name": release.name,
                    "numbers": release.numbers,
                    "rho": float(rho) if release.loss is not None else None,
                    "asked_at": release.asked_at.tolist(),
                }
            )

        fit = train_vertical(chair.caller, plan.spec, random_bytes=chair.random_bytes, shown=shown)
        model = model_of_vertical(
            fit,
            run=chair.caller.run,
            date=dt.datetime.fromtimestamp(chair.began_ms / 1_000, dt.UTC).isoformat(timespec="seconds"),
            delta=None if plan.epsilon is None else _exact(plan.delta),
        )
        arrays = {"weights": fit.weights, "standard_errors": model.standard_errors}
        return Outcome(_document(plan, fit, model), arrays, model)


def _document(plan: VerticalPlan, fit: VerticalFit, model: JointModel) -> dict[str, Any]:
    exact = plan.epsilon is None
    return {
        "protocol": "vertical",
        "family": plan.family,
        "label": plan.label,
        "coefficients": [
            {"name": one.name, "value": one.value, "standard_error": one.standard_error}
            for one in model.table
        ],
        "releases": [
            {
                "name": release.name,
                "numbers": release.numbers,
                "rho": None if release.loss is None else float(release.loss.rho),
            }
            for release in fit.releases
        ],
        "privacy": "exact sums: no differential privacy"
        if exact
        else {"epsilon": plan.epsilon, "delta": plan.delta},
        "manifests": {manifest.party: manifest.digest().hex() for manifest in fit.manifests},
    }


def _exact(number: float) -> Fraction:
    return Fraction(number).limit_denominator(10**12)


def _plan(settings: Mapping[str, Any]) -> VerticalPlan:
    try:
        return msgspec.convert(dict(settings), VerticalPlan)
    except msgspec.ValidationError as error:
        raise InvalidSetting(
            f"settings of the plan must be those of a vertical training: {error}; correct them"
        ) from None


PROTOCOL: Final = _Vertical()
