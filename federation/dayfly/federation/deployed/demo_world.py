"""Customers for the demo: real ones of a public data set where it is at hand, otherwise made up, which is said."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dayfly.federation.deployed.setting_up import Tables
from dayfly.federation.runs.data import ConsentColumn, DataSettings
from dayfly.privacy.ledger import Limit

__all__ = [
    "DemoWorld",
    "area_under_curve",
    "bank_marketing",
    "breast_cancer",
    "logistic_scores",
    "synthetic",
]

Floats = NDArray[np.float64]
_DAY_MS: Final = 86_400_000
_NEWTON_STEPS: Final = 25
_TRAINING: Final = 0.7
Bounds = tuple[float, float]


@dataclass(frozen=True, slots=True)
class DemoWorld:
    """Customers of several channels, and some who are kept apart to judge the model.

    Attributes:
        told: What this is, in words.
        features: Channel to its features and their public bounds.
        clips: Channel to the largest norm of its rows.
        label: Its name.
        label_channel: Who has it.
        training, testing: Channel to its columns, float64 (customers, features).
        training_labels, testing_labels: 0 or 1.
        epsilon: Of all releases together, for one customer; None where there are too few for noise.
    """

    told: str
    features: Mapping[str, Mapping[str, Bounds]]
    clips: Mapping[str, float]
    label: str
    label_channel: str
    training: Mapping[str, Floats]
    testing: Mapping[str, Floats]
    training_labels: Floats
    testing_labels: Floats
    epsilon: float | None

    def tables(self, now_ms: int) -> Tables:
        """As the channels have them: everybody consented for a day, and is in all channels but a tenth of each."""
        rng = np.random.default_rng(11)
        rows = len(self.training_labels)
        tables, settings = {}, {}
        for channel, values in self.training.items():
            share = 1.0 if channel == self.label_channel else 0.9
            here = rng.permutation(rows)[: round(share * rows)]
            columns: dict[str, Any] = {
                "customer": [f"c{row:06d}" for row in here],
                "consent_until": np.full(len(here), now_ms + _DAY_MS),
            }
            columns |= {name: values[here, place] for place, name in enumerate(self.features[channel])}
            if channel == self.label_channel:
                columns[self.label] = self.training_labels[here]
            tables[channel] = pa.table(columns)
            settings[channel] = DataSettings(
                path="table.parquet",
                customer="customer",
                label=self.label if channel == self.label_channel else None,
                consent=ConsentColumn(until="consent_until", country="DE"),
            )
        few = self.epsilon is None  # what their alignment pays for its little padding
        limit = Limit(rho=Fraction(1_000 if few else 64), delta=Fraction(1, 2 if few else 100))
        return Tables(tables, settings, limit, exact_sums=self.epsilon is None)

    def alignment(self) -> dict[str, Any]:
        """Settings of the alignment."""
        return {"hours": 12} | ({"epsilon": 30.0, "delta": 0.25} if self.epsilon is None else {})

    def plan(self, *, steps: int) -> dict[str, Any]:
        """Settings of the vertical training."""
        return {
            "label": self.label,
            "label_channel": self.label_channel,
            "steps": steps,
            "channels": {
                channel: {
                    "features": {name: list(bounds) for name, bounds in features.items()},
                    "clip": self.clips[channel],
                }
                for channel, features in self.features.items()
            },
            **({} if self.epsilon is None else {"epsilon": self.epsilon, "delta": 1e-6}),
        }


def synthetic(customers: int, *, epsilon: float, seed: int = 7) -> DemoWorld:
    """Made-up customers of four channels with shared latent traits."""
    rng = np.random.default_rng(seed)
    widths = {"app": 6, "hotline": 3, "shop": 5, "wifi": 4}
    traits = rng.normal(size=(customers, 5))
    score = np.zeros(customers)
    columns, features = {}, {}
    for channel, width in widths.items():
        values = traits @ rng.normal(size=(5, width)) / 2 + rng.normal(size=(customers, width))
        score += values @ rng.normal(size=width) / 2.5
        columns[channel] = values
        features[channel] = {f"{channel}_{place}": (-4.0, 4.0) for place in range(width)}
    labels = (rng.random(customers) < 1 / (1 + np.exp(-score))).astype(np.float64)
    told = f"{customers} made-up customers in four channels (no real data set was asked for, or at hand)"
    return _split(
        told, features, dict.fromkeys(widths, 1.0), ("bought", "shop"), columns, labels, epsilon=epsilon
    )


def bank_marketing(folder: Path, *, epsilon: float) -> DemoWorld | None:
    """UCI Bank Marketing (Moro et al. 2014, CC BY 4.0) as three channels; None where it is not in the folder."""
    import pyarrow.csv as pa_csv  # noqa: PLC0415 - read by the demo alone

    found = sorted((folder / "bank_marketing").glob("*.csv.gz"))
    if not found:
        return None
    table = pa_csv.read_csv(found[0], parse_options=pa_csv.ParseOptions(delimiter=";"))
    raw = {name: np.asarray(table[name].to_numpy(zero_copy_only=False)) for name in table.column_names}

    def number(name: str) -> Floats:
        return raw[name].astype(np.float64)

    def is_(name: str, value: str) -> Floats:
        return np.asarray(raw[name] == value, np.float64)

    given: dict[str, dict[str, tuple[Floats, Bounds]]] = {
        "branch": {
            "age": (number("age"), (18, 80)),
            "log_balance": (np.sign(number("balance")) * np.log1p(np.abs(number("balance"))), (-9, 12)),
            "housing_loan": (is_("housing", "yes"), (0, 1)),
            "personal_loan": (is_("loan", "yes"), (0, 1)),
            "student": (is_("job", "student"), (0, 1)),
            "retired": (is_("job", "retired"), (0, 1)),
            "single": (is_("marital", "single"), (0, 1)),
            "tertiary": (is_("education", "tertiary"), (0, 1)),
        },
        "hotline": {
            "log_duration": (np.log1p(number("duration")), (0, 8.5)),
            "log_calls": (np.log1p(number("campaign")), (0, 4.2)),
            "cellular": (is_("contact", "cellular"), (0, 1)),
            "unknown_phone": (is_("contact", "unknown"), (0, 1)),
        },
        "history": {
            "log_days_since": (np.log1p(np.maximum(number("pdays"), 0)), (0, 7)),
            "log_earlier_calls": (np.log1p(number("previous")), (0, 6)),
            "earlier_success": (is_("poutcome", "success"), (0, 1)),
            "earlier_failure": (is_("poutcome", "failure"), (0, 1)),
        },
    }
    columns = {
        channel: np.column_stack([values for values, _ in part.values()]) for channel, part in given.items()
    }
    features = {
        channel: {name: bounds for name, (_, bounds) in part.items()} for channel, part in given.items()
    }
    clips = {channel: 0.8 * len(part) ** 0.5 for channel, part in given.items()}
    told = f"UCI Bank Marketing, {table.num_rows} clients of a bank: branch, hotline (with the label) and contact history"
    return _split(told, features, clips, ("subscribed", "hotline"), columns, is_("y", "yes"), epsilon=epsilon)


_CANCER: Final = {
    "biopsy": {"mean radius": (0.0, 30.0), "mean texture": (0.0, 40.0), "mean smoothness": (0.0, 0.2)},
    "laboratory": {
        "texture error": (0.0, 5.0),
        "concave points error": (0.0, 0.06),
        "symmetry error": (0.0, 0.08),
    },
    "pathology": {
        "worst concavity": (0.0, 1.5),
        "worst symmetry": (0.0, 0.8),
        "worst smoothness": (0.0, 0.3),
    },
}


def breast_cancer() -> DemoWorld | None:
    """Breast Cancer Wisconsin (Wolberg, Street, Mangasarian 1995, CC BY 4.0), as scikit-learn bundles it; None where that is not installed.

    Its 569 patients are too few for noise, so sums are exact. Bounds begin at 0, whatever the columns' means.
    """
    try:
        from sklearn.datasets import load_breast_cancer  # noqa: PLC0415 - an extra
    except ImportError:
        return None
    found: Any = load_breast_cancer()
    places = {str(name): place for place, name in enumerate(found.feature_names)}
    columns = {
        channel: np.asarray(found.data[:, [places[name] for name in part]], np.float64)
        for channel, part in _CANCER.items()
    }
    told = (
        f"Breast Cancer Wisconsin, {len(found.target)} patients in three channels, real; below 10,000 rows noise hides the model, so the sums are exact:"
        " no differential privacy (--data DIR with bank_marketing has it)"
    )
    clips = {channel: len(part) ** 0.5 for channel, part in _CANCER.items()}
    labels = np.asarray(found.target == 0, np.float64)
    return _split(told, _CANCER, clips, ("malignant", "pathology"), columns, labels, epsilon=None)


def area_under_curve(scores: Floats, labels: Floats) -> float:
    """Probability that a positive scores above a negative (Hanley, McNeil 1982), ties counted half."""
    order, ranks = np.unique(scores, return_inverse=True)
    counts = np.bincount(ranks, minlength=len(order))
    middle = np.cumsum(counts) - (counts - 1) / 2
    positives = labels.sum()
    above = middle[ranks][labels == 1].sum() - positives * (positives + 1) / 2
    return float(above / (positives * (len(labels) - positives)))


def logistic_scores(training: Floats, labels: Floats, testing: Floats) -> Floats:
    """What plain logistic regression on columns that are in one place scores; Newton's method with a small ridge."""
    means, deviations = training.mean(axis=0), training.std(axis=0) + 1e-12
    design = np.column_stack([np.ones(len(training)), (training - means) / deviations])
    weights = np.zeros(design.shape[1])
    for _ in range(_NEWTON_STEPS):
        mean = 0.5 * (1.0 + np.tanh(0.5 * (design @ weights)))
        curvature = design.T @ (design * (mean * (1 - mean))[:, None]) + 1e-3 * np.eye(len(weights))
        weights += np.linalg.solve(curvature, design.T @ (labels - mean) - 1e-3 * weights)
    return np.asarray(np.column_stack([np.ones(len(testing)), (testing - means) / deviations]) @ weights)


def _split(
    told: str,
    features: Mapping[str, Mapping[str, Bounds]],
    clips: Mapping[str, float],
    label: tuple[str, str],
    columns: Mapping[str, Floats],
    labels: Floats,
    *,
    epsilon: float | None,
) -> DemoWorld:
    order = np.random.default_rng(5).permutation(len(labels))
    cut = int(_TRAINING * len(labels))
    training, testing = order[:cut], order[cut:]
    return DemoWorld(
        told,
        features,
        clips,
        label[0],
        label[1],
        {channel: values[training] for channel, values in columns.items()},
        {channel: values[testing] for channel, values in columns.items()},
        labels[training],
        labels[testing],
        epsilon,
    )
