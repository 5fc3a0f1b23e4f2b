"""A channel's rows, checked before anything is computed from them."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dayfly.federation.errors import InvalidData
from dayfly.federation.horizontal.messages import GlmSpec

__all__ = ["Shard"]

Floats = NDArray[np.float64]


class Shard:
    """Rows of one channel: features and label, both float64 and finite.

    A column may be constant within one channel (a shop that never refunds): whether the channels together vary is
    seen in their sums.

    Args:
        party: The channel, for errors.
        features: Names of the columns, each once.
        values: Shape (rows, len(features)).
        label: Name of the label.
        labels: Shape (rows,).

    Raises:
        InvalidData: names the party, the column and the cause.
    """

    __slots__ = ("features", "label", "labels", "party", "values")

    def __init__(
        self, party: str, features: Sequence[str], values: ArrayLike, label: str, labels: ArrayLike | None
    ) -> None:
        self.party: Final = party
        self.features: Final = tuple(features)
        self.label: Final = label
        twice = sorted(name for name, times in Counter((*self.features, label)).items() if times > 1)
        if twice:
            raise InvalidData(party, f"names columns {twice} twice; rename or leave out one of each")
        if not self.features:
            raise InvalidData(party, "has no features; pass at least one column")
        if labels is None:
            raise InvalidData(party, f"has no label {label!r}; pass it, or leave the party out of training")
        self.values: Final = _floats(party, "features", values)
        self.labels: Final = _floats(party, f"label {label!r}", labels)
        self._check_shapes()
        self._check_finite()

    def check(self, spec: GlmSpec) -> None:
        """Insist that these rows fit what was agreed.

        Raises:
            InvalidData: other columns, too many rows, or a value out of its agreed bounds.
        """
        if self.label != spec.label:
            raise InvalidData(
                self.party, f"has label {self.label!r}, not {spec.label!r}; agree on one before the run"
            )
        if self.features != spec.features:
            missing = [name for name in spec.features if name not in self.features]
            foreign = [name for name in self.features if name not in spec.features]
            raise InvalidData(
                self.party,
                f"must have the agreed features in their order: missing {missing}, not agreed {foreign}",
            )
        if len(self.labels) > spec.most_rows:
            raise InvalidData(
                self.party,
                f"has {len(self.labels)} rows, more than most_rows={spec.most_rows}; agree on more",
            )
        low, high = np.array(spec.bounds, np.float64).T
        outside = np.flatnonzero(((self.values < low) | (self.values > high)).any(axis=0))
        if outside.size:
            names = [self.features[column] for column in outside]
            raise InvalidData(
                self.party,
                f"has values of {names} outside of their agreed bounds; clip them, or agree on wider",
            )
        self._check_labels(spec)

    def _check_labels(self, spec: GlmSpec) -> None:
        what = {
            "linear": f"at most {spec.largest_label:g} in size",
            "logistic": "0 or 1",
            "poisson": f"whole numbers from 0 to {spec.largest_label:g}",
        }[spec.family]
        labels = self.labels
        fits = {
            "linear": np.abs(labels) <= spec.largest_label,
            "logistic": (labels == 0) | (labels == 1),
            "poisson": (labels >= 0) & (labels <= spec.largest_label) & (labels == np.floor(labels)),
        }[spec.family]
        if not fits.all():
            raise InvalidData(
                self.party,
                f"has {int((~fits).sum())} labels {self.label!r} out of range; {spec.family} labels must be {what}",
            )

    def _check_shapes(self) -> None:
        expected = (len(self.labels) if self.labels.ndim == 1 else -1, len(self.features))
        if self.labels.ndim != 1 or self.values.shape != expected:
            raise InvalidData(
                self.party,
                f"has features of shape {self.values.shape} and labels of shape {self.labels.shape}; they must be"
                f" (rows, {len(self.features)}) and (rows,)",
            )
        if not len(self.labels):
            raise InvalidData(self.party, "has no rows; leave it out of the run")

    def _check_finite(self) -> None:
        bad = np.flatnonzero(~np.isfinite(self.values).all(axis=0))
        if bad.size:
            names = [self.features[column] for column in bad]
            raise InvalidData(self.party, f"has NaN or infinite values in {names}; fill or drop these rows")
        missing = int((~np.isfinite(self.labels)).sum())
        if missing:
            raise InvalidData(
                self.party, f"has {missing} rows without a label {self.label!r}; drop them or label them"
            )


def _floats(party: str, what: str, values: ArrayLike) -> Floats:
    try:
        return np.ascontiguousarray(np.asarray(values, np.float64))
    except (TypeError, ValueError):
        raise InvalidData(party, f"has {what} that are no rectangle of numbers; encode them first") from None
