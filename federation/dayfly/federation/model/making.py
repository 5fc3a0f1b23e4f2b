"""From what training gives to a model with its card."""

from collections.abc import Mapping
from fractions import Fraction

import numpy as np

from dayfly.federation.errors import InvalidSetting
from dayfly.federation.horizontal.glm import GlmFit, GlmSettings
from dayfly.federation.model.card import CardRelease, DataSetCard, ModelCard
from dayfly.federation.model.joint import JointModel
from dayfly.federation.vertical.plan import LEAST_PRIVATE_ROWS
from dayfly.federation.vertical.scoring import ScoringSpec
from dayfly.federation.vertical.training import VerticalFit
from dayfly.privacy.accounting import epsilon_of_rho

__all__ = ["model_of_glm", "model_of_vertical", "scoring_of"]

_EXACT = "What was opened is exact: this is no differential privacy, and the coefficients may tell about single customers."
_SCORES = "Scores are about single customers, and are not covered by the loss stated here."


def model_of_vertical(
    fit: VerticalFit,
    *,
    run: bytes,
    date: str,
    delta: Fraction | None = None,
    data_sets: Mapping[str, str] | None = None,
) -> JointModel:
    """The model of a vertical training.

    Args:
        fit: From `train_vertical`.
        run: Of the training.
        date: ISO 8601.
        delta: At which the loss is stated as an epsilon; needed where there was noise.
        data_sets: Channel to what its ledger calls its data; its own name where it is left out.

    Raises:
        InvalidSetting: there was noise, and no delta to state its loss at.
    """
    spec = fit.spec
    unit = float(spec.length_squared) ** 0.5
    low, high = np.array([pair for columns in spec.channels for pair in columns.bounds]).T
    place = spec.intercept
    order = [place, *(column for column in range(spec.size) if column != place)]
    weights, covariance = fit.weights[order], fit.covariance[np.ix_(order, order)]
    change = np.diag(
        np.concatenate([[spec.constant_unit / 2.0**spec.precision.row_bits], 2 / (high - low) / unit])
    )
    change[0, 1:] = -(high + low) / (high - low) / unit
    middle, half = 0.0, 1.0
    if spec.family == "linear":
        bottom, top = spec.label_bounds
        middle, half = (top + bottom) / 2, (top - bottom) / 2
    values = change @ weights * half
    errors = np.sqrt(np.maximum(np.diag(change @ covariance @ change.T), 0.0)) * half
    return JointModel(
        spec.family,
        spec.label,
        spec.features,
        float(values[0]) + middle,
        values[1:],
        errors,
        spec.channels,
        _vertical_card(fit, run, date, delta, data_sets or {}),
    )


def _vertical_card(
    fit: VerticalFit, run: bytes, date: str, delta: Fraction | None, data_sets: Mapping[str, str]
) -> ModelCard:
    spec, notes = fit.spec, [_SCORES]
    epsilon = None
    if spec.noise is None:
        notes.append(_EXACT)
    else:
        if delta is None:
            raise InvalidSetting(
                "delta=None must be given to state the loss of a training with noise; pass the planned one"
            )
        total = sum((release.loss.rho for release in fit.releases if release.loss is not None), Fraction(0))
        epsilon = epsilon_of_rho(total, delta)
        notes.append(
            "The loss counts all rows of a customer in all channels; it holds toward everybody if the dealer colludes with no channel, channels follow"
            f" the protocol, and at most {spec.noise.colluding} of them tell others their noise."
        )
        blind = fit.moments.blind.shape[1]
        if blind:
            notes.append(
                f"In {blind} of {spec.size} directions the features' spread is not told from the noise: coefficients are drawn to zero there, and standard"
                " errors widened."
            )
        if spec.universe < LEAST_PRIVATE_ROWS:
            notes.append(
                f"Trained with noise on fewer than {LEAST_PRIVATE_ROWS} rows: noise that hides one customer among so few hides the model, too;"
                " look at the standard errors before any use."
            )
    manifests = tuple(
        DataSetCard(
            manifest.party,
            data_sets.get(manifest.party, manifest.party),
            manifest.count,
            manifest.digest().hex(),
            manifest.expires_ms,
        )
        for manifest in fit.manifests
    )
    releases = tuple(
        CardRelease(release.name, release.numbers, None if release.loss is None else str(release.loss.rho))
        for release in fit.releases
    )
    return ModelCard(
        "vertical",
        run.hex(),
        date,
        spec.purpose,
        manifests,
        len(fit.releases),
        spec.noise is not None,
        epsilon,
        None if spec.noise is None else str(delta),
        0 if spec.noise is None else spec.noise.colluding,
        releases,
        tuple(notes),
    )


def model_of_glm(
    fit: GlmFit,
    settings: GlmSettings,
    *,
    run: bytes,
    date: str,
    purpose: str,
    rows: Mapping[str, int] | None = None,
    data_sets: Mapping[str, str] | None = None,
) -> JointModel:
    """The model of a horizontal training of a generalised linear model.

    Args:
        fit: From `train_glm`.
        settings: Of the training.
        run: Of the training.
        date: ISO 8601.
        purpose: For which customers consented.
        rows: Rows of each channel; None where it is not known, as to a coordinator, who sees the sum over channels alone: the card then has that of the
            last round.
        data_sets: Channel to what its ledger calls its data; its own name where it is left out.
    """
    named, last = data_sets or {}, fit.rounds[-1]
    notes: tuple[str, ...] = (_SCORES, _EXACT)
    known: Mapping[str, int | None] = dict.fromkeys(last.included) if rows is None else rows
    if rows is None:
        notes += (
            f"How many rows each channel has is not known: the last round held {last.rows} of {', '.join(sorted(last.included))} together.",
        )
    card = ModelCard(
        "horizontal",
        run.hex(),
        date,
        purpose,
        tuple(DataSetCard(name, named.get(name, name), known[name], "", None) for name in sorted(known)),
        len(fit.rounds),
        private=False,
        epsilon=None,
        delta=None,
        colluding=0,
        releases=tuple(CardRelease(f"sums {number}", 0, None) for number in range(1, len(fit.rounds) + 1)),
        notes=notes,
    )
    spec = settings.spec
    return JointModel(
        spec.family, spec.label, fit.features, fit.intercept, fit.coefficients, fit.standard_errors, (), card
    )


def scoring_of(
    model: JointModel, *, acting: str, alignment: bytes, universe: int, purpose: str, band: float = 0.125
) -> ScoringSpec:
    """What channels agree on to score new customers with a vertical model.

    Args:
        model: From `model_of_vertical`.
        acting: Who learns the scores.
        alignment: Run of the alignment of the customers to be scored.
        universe: Rows of its common space.
        purpose: For which their consents must be.
        band: Partial scores are rounded to multiples of it.

    Raises:
        InvalidSetting: the model is not of a vertical training.
    """
    if not model.channels:
        raise InvalidSetting(
            "model must be of a vertical training; each channel scores its own rows with another one"
        )
    weights, begin = [], 0
    for columns in model.channels:
        low, high = np.array(columns.bounds).T
        end = begin + len(low)
        weights.append(tuple((model.coefficients[begin:end] * (high - low) / 2).tolist()))
        begin = end
    return ScoringSpec(
        model.channels, tuple(weights), model.middle, acting, alignment, universe, purpose, band
    )
