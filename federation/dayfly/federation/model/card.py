"""The model card: what a model was trained on, what its customers lost by it, and what it must not be taken for."""

from typing import Literal

import msgspec

__all__ = ["CardRelease", "DataSetCard", "ModelCard"]


class DataSetCard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One channel's part.

    Attributes:
        channel: Its name.
        data_set: What its ledger calls the data.
        rows: Customers or rows that took part; of an aligned channel the padded size of its set; None where only the sum over channels is known.
        manifest: Digest of its signed manifest, in hexadecimal; empty where there was no alignment.
        consent_until_ms: When the manifest expires, int64 milliseconds UTC; None where there is none.
    """

    channel: str
    data_set: str
    rows: int | None
    manifest: str
    consent_until_ms: int | None


class CardRelease(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One opened value.

    Attributes:
        name: As in the channels' ledgers.
        numbers: How many.
        rho: Loss of one customer in zCDP, a fraction as text; None where the value was exact.
    """

    name: str
    numbers: int
    rho: str | None


class ModelCard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What must be known before the model is used.

    Attributes:
        split: Same customers and different features, or the other way round.
        run: Of the training, in hexadecimal.
        date: ISO 8601.
        purpose: For which customers consented.
        data_sets: Of all channels, sorted.
        rounds: Times that the channels were asked for sums.
        private: Whether noise covers all that was opened.
        epsilon: Of all releases together for one customer, whatever channels it is in, rounded up; None: no such promise.
        delta: Of the same, as text.
        colluding: How many channels may tell others their noise without making that untrue.
        releases: What was opened.
        notes: Limits, in sentences.
    """

    split: Literal["vertical", "horizontal"]
    run: str
    date: str
    purpose: str
    data_sets: tuple[DataSetCard, ...]
    rounds: int
    private: bool
    epsilon: float | None
    delta: str | None
    colluding: int
    releases: tuple[CardRelease, ...]
    notes: tuple[str, ...]
