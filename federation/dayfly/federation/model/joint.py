"""A trained model as a value: coefficients with names and standard errors, and scores of rows."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from dayfly.federation.errors import InvalidSetting
from dayfly.federation.model.card import ModelCard
from dayfly.federation.vertical.data import shortened, standardised
from dayfly.federation.vertical.spec import ChannelColumns

__all__ = ["Coefficient", "JointModel"]

Floats = NDArray[np.float64]
Rows = Mapping[str, ArrayLike] | Sequence[Mapping[str, float]] | NDArray[Any]
_NORMAL_95: Final = 1.959963984540054
_TWO: Final = 2


@dataclass(frozen=True, slots=True)
class Coefficient:
    """One coefficient.

    Attributes:
        name: Of the feature.
        value: Per unit of the feature as it is.
        standard_error: From sampling and, where there was noise, from the noise.
        low, high: 95 % interval, as if errors were normal.
    """

    name: str
    value: float
    standard_error: float

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval."""
        return self.value - _NORMAL_95 * self.standard_error

    @property
    def high(self) -> float:
        """Upper end of the 95 % interval."""
        return self.value + _NORMAL_95 * self.standard_error


@dataclass(frozen=True, slots=True, eq=False)
class JointModel:
    """A generalised linear model over the features of all channels.

    Attributes:
        family: Linear, logistic or Poisson, with the canonical link.
        label: Name of the label.
        features: Names, in order.
        intercept: Of the features as they are.
        coefficients: Per unit of each feature as it is, float64 (d,).
        standard_errors: Of intercept and coefficients, float64 (d + 1,).
        channels: Whose features they are, with bounds and clip, in the order of `features`; values beyond the bounds count as these, and rows of a
            channel longer than its clip are shortened, as in training. Empty for a model of rows as they are.
        card: What it was trained on.

    Raises:
        InvalidSetting: shapes or names do not fit together, or a number is not finite.
    """

    family: Literal["linear", "logistic", "poisson"]
    label: str
    features: tuple[str, ...]
    intercept: float
    coefficients: Floats
    standard_errors: Floats
    channels: tuple[ChannelColumns, ...]
    card: ModelCard

    def __post_init__(self) -> None:
        size = len(self.features)
        if not size or len(set(self.features)) != size:
            raise InvalidSetting(
                f"features={list(self.features)} must be one or more, each once; name them apart"
            )
        shapes = (self.coefficients.shape, self.standard_errors.shape)
        if shapes != ((size,), (size + 1,)):
            raise InvalidSetting(
                f"shapes={shapes} of coefficients and standard errors must be ({size},) and ({size + 1},)"
            )
        finite = np.isfinite([self.intercept, *self.coefficients]).all()
        if not finite or not (np.isfinite(self.standard_errors) & (self.standard_errors >= 0)).all():
            raise InvalidSetting("coefficients must be finite, and standard errors at least 0; train again")
        named = tuple(name for columns in self.channels for name in columns.features)
        if self.channels and named != self.features:
            raise InvalidSetting(
                f"channels must have the features {list(self.features)} in order, not {list(named)}"
            )

    @property
    def digest(self) -> bytes:
        """32 bytes that name the model: SHA-256 over everything in it."""
        plain = [self.family, self.label, self.features, self.intercept, self.channels, self.card]
        body = msgspec.json.encode(plain, order="deterministic")
        arrays = np.concatenate([self.coefficients, self.standard_errors]).astype("<f8").tobytes()
        return hashlib.sha256(b"dayfly joint model v1\x00" + len(body).to_bytes(8) + body + arrays).digest()

    @property
    def table(self) -> tuple[Coefficient, ...]:
        """Intercept first."""
        names = ("(intercept)", *self.features)
        values = (self.intercept, *self.coefficients.tolist())
        return tuple(map(Coefficient, names, values, self.standard_errors.tolist()))

    def linear_predictor(self, rows: Rows) -> Floats:
        """What the link function makes a score of.

        Args:
            rows: Columns by name, rows as mappings from name to number, or a matrix (rows, d) with columns in the order of `features`.

        Returns:
            float64 (rows,).

        Raises:
            InvalidSetting: a feature is missing, or a value is no finite number; names it.
        """
        values = self._matrix(rows)
        if not self.channels:
            return np.asarray(values @ self.coefficients + self.intercept)
        found = np.full(len(values), self.middle)
        begin = 0
        for columns in self.channels:
            end = begin + len(columns.features)
            low, high = np.array(columns.bounds).T
            part = shortened(standardised(values[:, begin:end], columns.bounds), columns.clip)
            found += part @ (self.coefficients[begin:end] * (high - low) / 2)
            begin = end
        return found

    def score(self, rows: Rows) -> Floats:
        """Expected label: of a logistic model the probability of 1; see `linear_predictor`."""
        predictor = self.linear_predictor(rows)
        if self.family == "logistic":
            return np.asarray(expit(predictor))
        return np.exp(predictor) if self.family == "poisson" else predictor

    @property
    def middle(self) -> float:
        """Linear predictor of a row in the middle of all bounds."""
        middles = [(low + high) / 2 for columns in self.channels for low, high in columns.bounds]
        return self.intercept + float(self.coefficients @ np.array(middles))

    def _matrix(self, rows: Rows) -> Floats:
        if isinstance(rows, np.ndarray):
            columns: Any = rows
            if rows.ndim != _TWO or rows.shape[1] != len(self.features):
                raise InvalidSetting(
                    f"rows of shape {rows.shape} must be (rows, {len(self.features)}); select the features"
                )
        else:
            columns = self._columns(rows)
        try:
            values = np.asarray(columns, np.float64)
        except (TypeError, ValueError):
            raise InvalidSetting(
                "rows must be numbers, as many of each feature; encode or complete them"
            ) from None
        finite = np.isfinite(values).reshape(-1, len(self.features))
        bad = [name for name, column in zip(self.features, finite.T, strict=True) if not column.all()]
        if bad:
            raise InvalidSetting(
                f"features={bad} must be finite numbers in every row; fill or drop these rows"
            )
        return values

    def _columns(self, rows: Mapping[str, ArrayLike] | Sequence[Mapping[str, float]]) -> Any:
        if isinstance(rows, Mapping):
            self._insist_on(rows)
            wide = [np.atleast_1d(np.asarray(rows[name])) for name in self.features]
            if len({column.shape for column in wide}) != 1 or wide[0].ndim != 1:
                raise InvalidSetting("columns must be vectors of one length; complete the shorter ones")
            return np.column_stack(wide)
        for row in rows:
            self._insist_on(row)
        return np.array([[row[name] for name in self.features] for row in rows]).reshape(
            -1, len(self.features)
        )

    def _insist_on(self, names: Mapping[str, Any]) -> None:
        missing = [name for name in self.features if name not in names]
        if missing:
            raise InvalidSetting(f"features={missing} must be in the rows; pass them")
