"""Generalised linear models over the rows of all channels, by secure sums: the pooled model, not an average of models.

Claim: the coefficients are those of the penalised maximum likelihood on the rows of the channels in the last round together,
up to the tolerance and the fixed point, whose error per summed value is at most half a unit of 2^-fraction_bits per channel.
Precondition: at least the threshold of channels stay; the channels' bounds hold, which each checks for itself.
Argument: gradient, information matrix, deviance and moments are sums over rows, so sums over channels of channel sums. Each
round is one step of Newton's method on the rows it included; it converges wherever it starts on the way. The penalty is
taken on the scale of the rows included in that same round.
Not claimed: differential privacy. The sums are exact and are known to the coordinator.
Source: McCullagh and Nelder, Generalized Linear Models, 2nd ed., section 2.5 (Fisher scoring; Newton for canonical links).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from dayfly.federation.errors import InvalidSetting, NotConverged, NotEstimable
from dayfly.federation.horizontal.messages import Family, GlmSpec, GlmTask
from dayfly.federation.horizontal.ranges import encoding_of
from dayfly.federation.horizontal.session import SecureSession
from dayfly.federation.horizontal.sums import GlmSums, scale_of_labels, width
from dayfly.federation.secagg import FixedPoint
from dayfly.federation.secagg.messages import encode
from dayfly.federation.wire import Caller

__all__ = ["GlmFit", "GlmSettings", "RoundReport", "train_glm"]

Floats = NDArray[np.float64]
_NONE: Final = np.zeros(0)
_FLAT: Final = (
    1e-6  # a standard deviation, relative to half the bounds, that fixed point cannot tell from zero
)
_DEPENDENT: Final = 1e-9  # an eigenvalue of the correlation matrix that stands for a linear dependence


@dataclass(frozen=True, slots=True)
class GlmSettings:
    """How a model is trained.

    Attributes:
        spec: What the channels agree on.
        ridge: Weight of half the squared coefficients, intercept not counted; scikit-learn's 1 / C.
        penalised: Which coefficients: of standardised features, or of features as they are.
        tolerance: Largest last step, in standardised coefficients; it is still taken, so the error is of its square.
        most_rounds: Most secure sums.

    Raises:
        InvalidSetting: a number is out of range.
    """

    spec: GlmSpec
    ridge: float = 0.0
    penalised: Literal["standardised", "original"] = "standardised"
    tolerance: float = 1e-6
    most_rounds: int = 8

    def __post_init__(self) -> None:
        if not 0 <= self.ridge < float("inf"):
            raise InvalidSetting(f"ridge={self.ridge} must be at least 0 and finite; pass 1 / C")
        if not 0 < self.tolerance <= 1e-2:
            raise InvalidSetting(f"tolerance={self.tolerance} must be above 0 and at most 0.01; pass 1e-6")
        if self.most_rounds < 2:
            raise InvalidSetting(f"most_rounds={self.most_rounds} must be at least 2; pass 8")


@dataclass(frozen=True, slots=True)
class RoundReport:
    """One secure sum.

    Attributes:
        included: Whose rows it holds.
        rows: How many.
        deviance: At the coefficients that were sent, without the penalty; of the first round, the sum of squared labels.
        largest_step: Of the step that followed, in standardised coefficients.
        lost: Parties that were lost in it.
    """

    included: tuple[str, ...]
    rows: int
    deviance: float
    largest_step: float
    lost: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GlmFit:
    """A trained model.

    Attributes:
        features: Names.
        coefficients: Of the features as they are, float64 (d,).
        intercept: Of the model.
        standard_errors: Of intercept and coefficients, float64 (d + 1,); with a ridge, of the penalised estimator's variance alone.
        means, deviations: Of the features over the rows of the last round, float64 (d,).
        rounds: What happened.
        deviance: At the last coefficients that were sent.
    """

    features: tuple[str, ...]
    coefficients: Floats
    intercept: float
    standard_errors: Floats
    means: Floats
    deviations: Floats
    rounds: tuple[RoundReport, ...]
    deviance: float

    @property
    def standardised(self) -> Floats:
        """Coefficients of features with mean 0 and standard deviation 1, float64 (d,)."""
        return self.coefficients * self.deviations


def train_glm(
    caller: Caller,
    settings: GlmSettings,
    *,
    session: bytes,
    shown: Callable[[RoundReport], object] = lambda _: None,
) -> GlmFit:
    """Train over all parties of the caller's grid.

    Args:
        caller: The coordinator's end of the wire.
        settings: Of the training.
        session: 16 random bytes, never used again.
        shown: Told each round.

    Raises:
        Declined: a party's rows do not fit; names the party and its cause.
        NotEstimable: a feature is constant or a combination of others, or all labels are the same.
        NotConverged: the rounds were too few.
        TooFewParties: fewer than the threshold are left.
    """
    training = _Training(caller, settings, session, shown)
    training.begin()
    if settings.spec.family != "linear":
        training.jump()
    return training.finish()


class _Training:
    """State between rounds. Coefficients are of features scaled as in the first round."""

    def __init__(
        self,
        caller: Caller,
        settings: GlmSettings,
        session: bytes,
        shown: Callable[[RoundReport], object],
    ) -> None:
        self.settings: Final = settings
        self.spec: Final = settings.spec
        self.size: Final = len(settings.spec.features)
        words = width(self.size)
        self.session: Final = SecureSession(caller, session=session, rounds=settings.most_rounds, words=words)
        self.shown: Final = shown
        self.center, self.scale = _middle(settings.spec)
        self.coefficients: Floats = np.zeros(self.size + 1)
        self.reports: list[RoundReport] = []
        self.included: tuple[str, ...] = ()
        self.before: tuple[Floats, float, tuple[str, ...]] = (self.coefficients, float("inf"), ())

    def begin(self) -> None:
        """Set up, and from the moments take the first step."""
        self.session.start(encode(self.spec))
        sums, lost = self._sums("linear")
        rows = sums.rows
        means = sums.total / rows
        deviations = np.sqrt(np.maximum(sums.squares / rows - means**2, 0.0))
        self._check_varies(deviations)
        moments = (sums.information[1:, 1:] / rows - np.outer(means, means)) / np.outer(
            deviations, deviations
        )
        if self.settings.ridge == 0:
            self._check_independent(moments)
        label = float(sums.gradient[0]) / rows
        toward = (sums.gradient[1:] - sums.total * label) / deviations
        self.center = self.center + self.scale * means
        self.scale = self.scale * deviations
        intercept, weight = self._start(label)
        penalty = self._penalty(np.ones(self.size))[1:]
        step = np.linalg.solve(weight * rows * moments + np.diag(penalty), toward)
        self.coefficients = np.concatenate([[intercept], step])
        self._report(sums, float(np.abs(self.coefficients).max()), lost)

    def jump(self) -> None:
        """From the channels' own optima to their average."""
        penalty = self._penalty(np.ones(self.size))
        sums, lost = self._sums(self.spec.family, penalty=penalty)
        self.before = (self.coefficients, self._objective(sums, penalty), self.included)
        average = _solved(sums.information, sums.gradient, self.spec.features)
        step = average - self.coefficients
        self.coefficients = average
        self._report(sums, float(np.abs(step).max()), lost)

    def finish(self) -> GlmFit:
        """Newton's method until the last step is small, halved where the likelihood falls; who was just lost is waited for."""
        while len(self.reports) < self.settings.most_rounds:
            sums, lost = self._sums(self.spec.family)
            if set(self.session.there) - set(self.included):
                # A step over fewer rows leads elsewhere and back: to ask once more at this point is the shorter way.
                self._report(sums, 0.0, lost)
                continue
            deviations = np.sqrt(np.maximum(sums.squares / sums.rows - (sums.total / sums.rows) ** 2, 0.0))
            penalty = self._penalty(deviations)
            objective = self._objective(sums, penalty)
            if self._rose(objective):
                step = (self.before[0] - self.coefficients) / 2
                self.coefficients = self.coefficients + step
                self._report(sums, float(np.abs(step).max()), lost)
                continue
            self.before = (self.coefficients, objective, self.included)
            curvature = sums.information + np.diag(penalty)
            step = _solved(curvature, sums.gradient - penalty * self.coefficients, self.spec.features)
            self.coefficients = self.coefficients + step
            self._report(sums, float(np.abs(step).max()), lost)
            if np.abs(step).max() <= self.settings.tolerance:
                return self._fit(sums, curvature, deviations)
        last = self.reports[-1].largest_step
        raise NotConverged(
            f"most_rounds={self.settings.most_rounds} must suffice, but the last step was {last:.2g}; allow more rounds, or"
            " set a ridge: the labels may be separable"
        )

    def _objective(self, sums: GlmSums, penalty: Floats) -> float:
        return sums.deviance + float(penalty @ self.coefficients**2)

    def _rose(self, objective: float) -> bool:
        """Whether the last step led uphill, over the same rows."""
        _, least, included = self.before
        return self.included == included and objective > least + 1e-9 * abs(least) + 1e-9

    def _sums(self, family: Family, *, penalty: Floats = _NONE) -> tuple[GlmSums, tuple[str, ...]]:
        largest, bits = encoding_of(
            self.spec,
            family,
            self.center,
            self.scale,
            self.coefficients,
            members=len(self.session.members),
            start=penalty.size > 0,
        )
        task = GlmTask(
            len(self.reports) + 1,
            family,
            tuple(self.center.tolist()),
            tuple(self.scale.tolist()),
            tuple(self.coefficients.tolist()),
            tuple(penalty.tolist()),
            largest,
            bits,
        )
        opened = self.session.sum(encode(task))
        self.included = opened.included
        vector = FixedPoint(len(self.session.members), largest, bits).decode(opened.words)
        return GlmSums.unpacked(vector, self.size), tuple(failure.party for failure in opened.lost)

    def _report(self, sums: GlmSums, largest_step: float, lost: tuple[str, ...]) -> None:
        deviance = sums.deviance * scale_of_labels(self.spec) ** 2
        report = RoundReport(self.included, round(sums.rows), deviance, largest_step, lost)
        self.reports.append(report)
        self.shown(report)

    def _penalty(self, deviations: Floats) -> Floats:
        """Per coefficient of the first round's scale, intercept first."""
        if self.settings.penalised == "original":
            return np.concatenate([[0.0], self.settings.ridge / self.scale**2])
        return np.concatenate([[0.0], self.settings.ridge * deviations**2])

    def _start(self, label: float) -> tuple[float, float]:
        """Intercept and weight of the model that knows only the labels' mean."""
        if self.spec.family == "linear":
            return label, 1.0
        highest = 1.0 if self.spec.family == "logistic" else float("inf")
        if not 1e-9 < label < highest - 1e-9:
            raise NotEstimable(
                f"label={self.spec.label!r} must vary over the parties {list(self.included)}; its mean is {label:g}"
            )
        if self.spec.family == "logistic":
            return float(np.log(label / (1 - label))), label * (1 - label)
        return float(np.log(label)), label

    def _check_varies(self, deviations: Floats) -> None:
        flat = [name for name, value in zip(self.spec.features, deviations, strict=True) if value < _FLAT]
        if flat:
            raise NotEstimable(
                f"features={flat} must vary over the rows of the parties {list(self.included)}; leave constant ones out"
            )

    def _check_independent(self, moments: Floats) -> None:
        values, vectors = np.linalg.eigh(moments)
        if values[0] >= _DEPENDENT:
            return
        names = [
            name for name, part in zip(self.spec.features, vectors[:, 0], strict=True) if abs(part) > 1e-3
        ]
        raise NotEstimable(
            f"features={names} must not determine each other, over the parties {list(self.included)}; leave one out, or"
            " set a ridge"
        )

    def _fit(self, sums: GlmSums, curvature: Floats, deviations: Floats) -> GlmFit:
        scale, unit = self.scale, scale_of_labels(self.spec)
        inverse = np.linalg.inv(curvature)
        covariance = inverse @ sums.information @ inverse
        if self.spec.family == "linear":
            covariance = covariance * sums.deviance / max(sums.rows - self.size - 1, 1.0)
        change = np.diag(np.concatenate([[1.0], 1.0 / scale]))
        change[0, 1:] = -self.center / scale
        original = change @ self.coefficients * unit
        return GlmFit(
            self.spec.features,
            original[1:],
            float(original[0]),
            np.sqrt(np.diag(change @ covariance @ change.T)) * unit,
            self.center + scale * sums.total / sums.rows,
            scale * deviations,
            tuple(self.reports),
            self.reports[-1].deviance,
        )


def _middle(spec: GlmSpec) -> tuple[Floats, Floats]:
    """Center and half-width of the agreed bounds."""
    low, high = np.array(spec.bounds, np.float64).T
    return (low + high) / 2, (high - low) / 2


def _solved(curvature: Floats, gradient: Floats, features: tuple[str, ...]) -> Floats:
    try:
        np.linalg.cholesky(curvature)
        return np.asarray(np.linalg.solve(curvature, gradient), np.float64)
    except np.linalg.LinAlgError:
        raise NotEstimable(
            f"features={list(features)} must determine the model, but its information matrix is singular; set a ridge"
        ) from None
