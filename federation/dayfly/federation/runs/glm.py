"""The protocol `glm`: generalised linear models over channels with the same features, by exact secure sums."""

import datetime as dt
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from dayfly.federation.errors import InvalidSetting
from dayfly.federation.grid import Party
from dayfly.federation.horizontal import (
    ChannelParty,
    GlmFit,
    GlmSettings,
    GlmSpec,
    GlmWorkload,
    RoundReport,
    Shard,
    train_glm,
)
from dayfly.federation.horizontal.messages import Family
from dayfly.federation.model import model_of_glm
from dayfly.federation.runs.seats import Chair, Outcome, Seat
from dayfly.federation.secagg.messages import decode, encode
from dayfly.federation.wire import SERVER

__all__ = ["PROTOCOL", "GlmPlan"]

_SESSION_BYTES: Final = 16


class GlmPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of a plan.

    Attributes:
        label: Name of the label.
        features: Name to lowest and highest value, which are public.
        family: With its canonical link.
        largest_label, most_rows: See `GlmSpec`.
        ridge, penalised, tolerance, most_rounds: See `GlmSettings`.
        purpose: What the model is for; on its card.
    """

    label: str
    features: dict[str, tuple[float, float]]
    family: Family = "logistic"
    largest_label: float = 1.0
    most_rows: int = 1_000_000
    ridge: float = 0.0
    penalised: Literal["standardised", "original"] = "standardised"
    tolerance: float = 1e-6
    most_rounds: int = 8
    purpose: str = "joint-model"

    @property
    def spec(self) -> GlmSpec:
        """What the channels agree on."""
        return GlmSpec(
            self.family,
            self.label,
            tuple(self.features),
            tuple(self.features.values()),
            self.largest_label,
            self.most_rows,
        )


class _Glm:
    def terms(self, settings: Mapping[str, Any]) -> bytes:
        return encode(_plan(settings).spec)

    def party(self, seat: Seat) -> Party:
        spec = decode(seat.terms, GlmSpec, party=SERVER)
        shard = Shard(
            seat.name,
            spec.features,
            seat.data.matrix(spec.features),
            spec.label,
            seat.data.labels(spec.label),
        )
        return ChannelParty(
            seat.identity,
            seat.identities,
            GlmWorkload(shard, run=seat.run, budget=seat.budget),
            run=seat.run,
            random_bytes=seat.random_bytes,
        )

    def coordinate(self, chair: Chair) -> Outcome:
        plan = _plan(chair.settings)
        settings = GlmSettings(plan.spec, plan.ridge, plan.penalised, plan.tolerance, plan.most_rounds)
        number = 0

        def shown(report: RoundReport) -> None:
            nonlocal number
            number += 1
            chair.shown({"step": "round", "number": number, **_report(report)})

        fit = train_glm(chair.caller, settings, session=chair.random_bytes(_SESSION_BYTES), shown=shown)
        model = model_of_glm(
            fit,
            settings,
            run=chair.caller.run,
            date=dt.datetime.fromtimestamp(chair.began_ms / 1_000, dt.UTC).isoformat(timespec="seconds"),
            purpose=plan.purpose,
        )
        return Outcome(_document(plan, fit), _arrays(fit), model)


def _plan(settings: Mapping[str, Any]) -> GlmPlan:
    try:
        return msgspec.convert(dict(settings), GlmPlan)
    except msgspec.ValidationError as error:
        raise InvalidSetting(f"settings of the plan must be those of a glm: {error}; correct them") from None


def _report(report: RoundReport) -> dict[str, Any]:
    return {
        "included": list(report.included),
        "rows": report.rows,
        "deviance": report.deviance,
        "largest_step": report.largest_step,
        "lost": list(report.lost),
    }


def _document(plan: GlmPlan, fit: GlmFit) -> dict[str, Any]:
    return {
        "protocol": "glm",
        "family": plan.family,
        "label": plan.label,
        "intercept": fit.intercept,
        "coefficients": dict(zip(fit.features, fit.coefficients.tolist(), strict=True)),
        "deviance": fit.deviance,
        "rounds": [_report(report) for report in fit.rounds],
        "privacy": "exact sums: no differential privacy",
    }


def _arrays(fit: GlmFit) -> dict[str, Any]:
    return {
        "coefficients": fit.coefficients,
        "standard_errors": fit.standard_errors,
        "means": fit.means,
        "deviations": fit.deviations,
    }


PROTOCOL: Final = _Glm()
