"""A channel's own columns, checked, and as the integers that enter the ring.

Claim: every row of `IntegerRows.values` has a squared norm of at most the channel's room, in integers.
Argument: rows are shortened to the clip, scaled and rounded, and each norm is computed in integers. A row that is too long is rounded toward zero
instead, which does not lengthen it; one that floats left too long all the same, as no row should be, is dropped to zero.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dayfly.federation.errors import InvalidData
from dayfly.federation.vertical.spec import VerticalSpec

__all__ = ["IntegerRows", "VerticalData", "shortened", "standardised"]

Floats = NDArray[np.float64]
_SHRINK: Final = 1 - 2.0**-40  # what float rounding could add to a norm
_DEPENDENT: Final = 1e-9  # an eigenvalue of the correlation matrix that stands for a linear dependence


@dataclass(frozen=True, slots=True)
class IntegerRows:
    """A channel's rows in the common space; zeros where it lacks the customer.

    Attributes:
        values: int64 (universe, d).
        present: int64 (universe,), 1 where the channel has the customer.
        labels: int64 (universe,), of the label channel in units of `VerticalSpec.label_unit`, otherwise empty.
    """

    values: NDArray[np.int64]
    present: NDArray[np.int64]
    labels: NDArray[np.int64]


class VerticalData:
    """A channel's customers, in its own order: features, and in one channel the label.

    Args:
        party: The channel, for errors.
        features: Names of the columns, each once.
        values: Shape (customers, len(features)), finite.
        label: Name of the label; None in the other channels.
        labels: Shape (customers,), finite.

    Raises:
        InvalidData: names the party, the column and the cause.
    """

    __slots__ = ("features", "label", "labels", "party", "values")

    def __init__(
        self,
        party: str,
        features: Sequence[str],
        values: ArrayLike,
        *,
        label: str | None = None,
        labels: ArrayLike | None = None,
    ) -> None:
        self.party: Final = party
        self.features: Final = tuple(features)
        self.label: Final = label
        twice = sorted(
            name
            for name, times in Counter[str]((*self.features, *([] if label is None else [label]))).items()
            if times > 1
        )
        if twice:
            raise InvalidData(party, f"names columns {twice} twice; rename or leave out one of each")
        if not self.features:
            raise InvalidData(party, "has no features; pass at least one column")
        if (label is None) != (labels is None):
            raise InvalidData(
                party, f"has a label's name {label!r} or its values, not both; pass both or none"
            )
        self.values: Final = _floats(party, "features", values)
        self.labels: Final = None if labels is None else _floats(party, f"label {label!r}", labels)
        self._check_shapes()
        self._check_finite()

    def check(self, spec: VerticalSpec) -> None:
        """Insist that these columns are what was agreed, and can be estimated.

        Raises:
            InvalidData: other columns, a label missing or out of range, a column constant or a combination of others.
        """
        columns = spec.columns(self.party)
        if self.features != columns.features:
            missing = [name for name in columns.features if name not in self.features]
            foreign = [name for name in self.features if name not in columns.features]
            raise InvalidData(
                self.party,
                f"must have the agreed features in their order: missing {missing}, not agreed {foreign}",
            )
        expected = spec.label if spec.label_channel == self.party else None
        if expected is not None and self.label is None:
            raise InvalidData(
                self.party, f"has no label {expected!r}; pass it, or let another channel have it"
            )
        if self.label != expected:
            raise InvalidData(
                self.party, f"has label {self.label!r}, not {expected!r} as agreed; agree on one"
            )
        self._check_labels(spec)
        self._check_varies(standardised(self.values, columns.bounds))

    def integers(self, spec: VerticalSpec, positions: NDArray[np.int64]) -> IntegerRows:
        """The rows in the common space.

        Args:
            spec: As agreed.
            positions: int64 (customers,): the place of each, -1 for none.

        Raises:
            InvalidData: `positions` are not one per customer, or none of them has a place.
        """
        if positions.shape != (len(self.values),):
            raise InvalidData(
                self.party,
                f"has {len(self.values)} customers, but {positions.shape} were aligned; align these rows",
            )
        here = positions >= 0
        if not here.any():
            raise InvalidData(self.party, "has no customer among the aligned ones; leave it out of the run")
        columns = spec.columns(self.party)
        rows = shortened(standardised(self.values[here], columns.bounds), columns.clip)
        unit = 2.0**spec.precision.row_bits * _SHRINK / float(spec.length_squared) ** 0.5
        whole = np.rint(rows * unit).astype(np.int64)
        for shorter in (np.trunc(rows * unit).astype(np.int64), np.zeros_like(whole)):
            long = (whole**2).sum(axis=1) > spec.room(self.party)
            whole[long] = shorter[long]
        values = np.zeros((spec.universe, len(self.features)), np.int64)
        present = np.zeros(spec.universe, np.int64)
        values[positions[here]] = whole
        present[positions[here]] = 1
        if self.labels is None:
            return IntegerRows(values, present, np.zeros(0, np.int64))
        labels = np.zeros(spec.universe, np.int64)
        labels[positions[here]] = _label_integers(spec, self.labels[here])
        return IntegerRows(values, present, labels)

    def _check_shapes(self) -> None:
        rows = len(self.values) if self.values.ndim == 2 else -1
        if self.values.shape != (rows, len(self.features)):
            raise InvalidData(
                self.party,
                f"has features of shape {self.values.shape}; they must be (customers, {len(self.features)})",
            )
        if self.labels is not None and self.labels.shape != (rows,):
            raise InvalidData(self.party, f"has labels of shape {self.labels.shape}; they must be ({rows},)")
        if not rows:
            raise InvalidData(self.party, "has no rows; leave it out of the run")

    def _check_finite(self) -> None:
        bad = np.flatnonzero(~np.isfinite(self.values).all(axis=0))
        if bad.size:
            names = [self.features[column] for column in bad]
            raise InvalidData(self.party, f"has NaN or infinite values in {names}; fill or drop these rows")
        missing = 0 if self.labels is None else int((~np.isfinite(self.labels)).sum())
        if missing:
            raise InvalidData(
                self.party, f"has {missing} rows without a label {self.label!r}; drop them or label them"
            )

    def _check_labels(self, spec: VerticalSpec) -> None:
        if self.labels is None:
            return
        low, high = spec.label_bounds
        fits = (self.labels >= low) & (self.labels <= high)
        if spec.family == "logistic":
            fits &= (self.labels == 0) | (self.labels == 1)
        if not fits.all():
            what = "0 or 1" if spec.family == "logistic" else f"from {low:g} to {high:g}"
            raise InvalidData(
                self.party,
                f"has {int((~fits).sum())} labels {self.label!r} out of range; they must be {what}",
            )
        if np.ptp(self.labels) == 0:
            raise InvalidData(
                self.party, f"has only one value of the label {self.label!r}; nothing can be learnt"
            )

    def _check_varies(self, values: Floats) -> None:
        if len(values) == 1:
            raise InvalidData(self.party, "has one row; leave it out of the run")
        deviations = values.std(axis=0)
        flat = [name for name, deviation in zip(self.features, deviations, strict=True) if deviation < 1e-9]
        if flat:
            raise InvalidData(
                self.party,
                f"has constant columns {flat}, within the agreed bounds; leave them out, or agree on other bounds",
            )
        correlation = np.atleast_2d(np.corrcoef(values, rowvar=False))
        eigenvalues, vectors = np.linalg.eigh(correlation)
        if eigenvalues[0] < _DEPENDENT:
            names = [
                name for name, part in zip(self.features, vectors[:, 0], strict=True) if abs(part) > 1e-3
            ]
            raise InvalidData(self.party, f"has columns {names} that determine each other; leave one out")


def standardised(values: Floats, bounds: Sequence[tuple[float, float]]) -> Floats:
    """Values mapped from their bounds to -1 and 1, and cut there."""
    low, high = np.array(bounds, np.float64).T
    return np.asarray(np.clip((values - (low + high) / 2) / ((high - low) / 2), -1.0, 1.0))


def shortened(rows: Floats, clip: float) -> Floats:
    """Rows whose norm is above `clip`, scaled down to it."""
    norms = np.sqrt((rows**2).sum(axis=1))
    return np.asarray(rows * np.minimum(1.0, clip / np.maximum(norms, clip))[:, None])


def _label_integers(spec: VerticalSpec, labels: Floats) -> NDArray[np.int64]:
    """-unit to unit, from the lowest to the highest label."""
    low, high = spec.label_bounds
    centred = np.clip((labels - (low + high) / 2) / ((high - low) / 2), -1.0, 1.0)
    return np.rint(centred * spec.label_unit).astype(np.int64)


def _floats(party: str, what: str, values: ArrayLike) -> Floats:
    try:
        return np.ascontiguousarray(np.asarray(values, np.float64))
    except (TypeError, ValueError):
        raise InvalidData(party, f"has {what} that are no rectangle of numbers; encode them first") from None
