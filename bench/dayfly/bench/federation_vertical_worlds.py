"""Data of the vertical cases: public sets cut by channel, and a synthetic retailer with four channels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

__all__ = [
    "Columns",
    "VerticalWorld",
    "bank_marketing",
    "complete_journey",
    "default_credit",
    "four_channels",
]

Floats = NDArray[np.float64]
Bounds = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """A channel's columns: names, values (rows, d), public bounds, and which rows it has."""

    names: tuple[str, ...]
    values: Floats
    bounds: tuple[tuple[float, float], ...]
    present: NDArray[np.bool_]

    @property
    def filled(self) -> Floats:
        """Cut at the bounds, and in their middle where the channel lacks the customer: the columns that all models here are of."""
        low, high = np.array(self.bounds).T
        return np.where(self.present[:, None], np.clip(self.values, low, high), (low + high) / 2)


@dataclass(frozen=True, slots=True, eq=False)
class VerticalWorld:
    """Channels of the same customers, and the label that one of them has."""

    name: str
    channels: Mapping[str, Columns]
    label_channel: str
    labels: Floats


def _dummies(values: Sequence[str], name: str) -> tuple[tuple[str, ...], list[Floats]]:
    """All categories but the most frequent one."""
    kinds, counts = np.unique(np.array(values), return_counts=True)
    kept = [kind for kind in kinds.tolist() if kind != kinds[int(counts.argmax())]]
    return tuple(f"{name}={kind}" for kind in kept), [
        (np.array(values) == kind).astype(np.float64) for kind in kept
    ]


def _columns(
    table: Mapping[str, list[Any]], numbers: Mapping[str, tuple[float, float]], texts: Sequence[str]
) -> Columns:
    names, values = list(numbers), [np.array(table[name], np.float64) for name in numbers]
    bounds = list(numbers.values())
    for name in texts:
        more, columns = _dummies(table[name], name)
        names += more
        values += columns
        bounds += [(-1.0, 1.0)] * len(more)
    return Columns(tuple(names), np.column_stack(values), tuple(bounds), np.ones(len(values[0]), np.bool_))


def bank_marketing(root: Path) -> VerticalWorld:
    """The client's bank, the contact centre (which knows the outcome), and who has the history of campaigns."""
    options = pa_csv.ParseOptions(delimiter=";")
    table = pa_csv.read_csv(
        root / "bank_marketing" / "bank_full_80pct.csv.gz", parse_options=options
    ).to_pydict()
    channels = {
        "client": _columns(
            table,
            {"age": (18, 95), "balance": (-5_000, 25_000)},
            ("job", "marital", "education", "default", "housing", "loan"),
        ),
        "contact": _columns(
            table, {"day": (1, 31), "duration": (0, 1_200), "campaign": (1, 12)}, ("contact", "month")
        ),
        "history": _columns(table, {"pdays": (-1, 400), "previous": (0, 10)}, ("poutcome",)),
    }
    return VerticalWorld(
        "bank_marketing", channels, "contact", np.array([one == "yes" for one in table["y"]], np.float64)
    )


_CREDIT: Final[dict[str, tuple[float, float]]] = {
    "LIMIT_BAL": (0, 1e6),
    "SEX": (1, 2),
    "EDUCATION": (0, 6),
    "MARRIAGE": (0, 3),
    "AGE": (18, 100),
    **{f"PAY_{month}": (-2, 9) for month in (0, 2, 3, 4, 5, 6)},
    **{f"BILL_AMT{month}": (-1e5, 5e5) for month in range(1, 7)},
    **{f"PAY_AMT{month}": (0, 1e5) for month in range(1, 7)},
}


def default_credit(root: Path) -> VerticalWorld:
    """FATE's two parties: the guest has the label."""
    table = pa_csv.read_csv(root / "default_credit" / "default_credit_24000.csv.gz").to_pydict()
    host = ("LIMIT_BAL", "SEX", "EDUCATION", "MARRIAGE", "AGE", "PAY_0", "PAY_2", "PAY_3", "PAY_4", "PAY_5")
    channels = {
        "guest": _columns(table, {name: pair for name, pair in _CREDIT.items() if name not in host}, ()),
        "host": _columns(table, {name: _CREDIT[name] for name in host}, ()),
    }
    return VerticalWorld(
        "default_credit", channels, "guest", np.array(table["default_next_month"], np.float64)
    )


def complete_journey(root: Path) -> VerticalWorld:
    """Households: the shops' baskets, a panel's demographics (of a third of them), and the mailer, which knows who redeemed a coupon."""
    folder = root / "complete_journey"
    sales = pq.read_table(folder / "transactions_sample.parquet").to_pydict()
    homes, place = np.unique(np.array(sales["household_id"]), return_inverse=True)
    count = len(homes)

    def total(values: Sequence[float]) -> Floats:
        return np.asarray(np.bincount(place, np.array(values, np.float64), count), np.float64)

    weeks = [len(set(part)) for part in _grouped(place, sales["week"], count)]
    baskets = [len(set(part)) for part in _grouped(place, sales["basket_id"], count)]
    shops = [len(set(part)) for part in _grouped(place, sales["store_id"], count)]
    store = np.column_stack(
        [
            np.log1p(total(sales["sales_value"])),
            np.log1p(total(sales["retail_disc"])),
            weeks,
            np.log1p(baskets),
            shops,
        ]
    )
    where = {home: number for number, home in enumerate(homes.tolist())}
    panel, present = _panel(pq.read_table(folder / "demographics.parquet").to_pydict(), where)
    sent = pq.read_table(folder / "campaigns.parquet").to_pydict()
    kinds = pq.read_table(folder / "campaign_descriptions.parquet").to_pydict()
    kind_of = dict(zip(kinds["campaign_id"], kinds["campaign_type"], strict=True))
    names = sorted(set(kind_of.values()))
    mailed = np.zeros((count, len(names)))
    for home, campaign in zip(sent["household_id"], sent["campaign_id"], strict=True):
        if home in where:
            mailed[where[home], names.index(kind_of[campaign])] += 1
    redeemed = set(pq.read_table(folder / "coupon_redemptions.parquet")["household_id"].to_pylist())
    channels = {
        "mailer": Columns(tuple(map(str, names)), mailed, ((0, 12),) * len(names), np.ones(count, np.bool_)),
        "panel": Columns(
            ("age", "income", "size", "children"), panel, ((1, 6), (1, 12), (1, 5), (0, 3)), present
        ),
        "store": Columns(
            ("sales", "discounts", "weeks", "baskets", "shops"),
            store,
            ((0, 10), (0, 8), (0, 53), (0, 6), (0, 15)),
            np.ones(count, np.bool_),
        ),
    }
    return VerticalWorld(
        "complete_journey", channels, "mailer", np.array([home in redeemed for home in homes], np.float64)
    )


def _grouped(place: NDArray[np.intp], values: Sequence[Any], count: int) -> list[list[Any]]:
    found: list[list[Any]] = [[] for _ in range(count)]
    for where, value in zip(place.tolist(), values, strict=True):
        found[where].append(value)
    return found


def _panel(table: Mapping[str, list[Any]], where: Mapping[str, int]) -> tuple[Floats, NDArray[np.bool_]]:
    """Ordinal codes by the lower end of each class."""
    found, present = np.zeros((len(where), 4)), np.zeros(len(where), np.bool_)
    coded = [_ordinal(table[name]) for name in ("age", "income", "household_size", "kids_count")]
    for number, home in enumerate(table["household_id"]):
        if home in where:
            found[where[home]] = [code[number] for code in coded]
            present[where[home]] = True
    return found, present


def _ordinal(values: Sequence[Any]) -> list[int]:
    def low(text: str) -> int:
        digits = "".join(letter if letter.isdigit() else " " for letter in text).split()
        return int(digits[0]) + text.startswith("Under") * -1 if digits else 0

    kinds = sorted({str(value) for value in values}, key=low)
    return [kinds.index(str(value)) + (kinds[0] not in ("0", "None/Unknown")) for value in values]


WIDTHS: Final = {"hotline": 6, "marketplace": 10, "mini-program": 12, "wifi": 8}
_TRAITS: Final = 6
_BOUND: Final = 4.0


def four_channels(customers: int, seed: int) -> VerticalWorld:
    """Traits that all channels see a little of; counts in two channels; an interaction that no linear model has.

    Bounds are round numbers about what is usual of such a column: 4 to either side of 0, and of 1 to -4 and 6 for counts.
    """
    random = np.random.default_rng(seed)
    traits = random.normal(size=(customers, _TRAITS))
    present = np.ones(customers, np.bool_)
    channels: dict[str, Columns] = {}
    for name, width in WIDTHS.items():
        values = traits @ random.normal(size=(_TRAITS, width)) * 0.35 + 0.8 * random.normal(
            size=(customers, width)
        )
        bounds = [(-_BOUND, _BOUND)] * width
        if name in ("marketplace", "wifi"):
            half = width // 2
            values[:, :half] = random.poisson(np.exp(0.5 * np.clip(values[:, :half], -4, 4)))
            bounds[:half] = [(-4.0, 6.0)] * half
        channels[name] = Columns(
            tuple(f"{name}_{number}" for number in range(width)), values, tuple(bounds), present
        )
    whole = np.hstack([columns.values for columns in channels.values()])
    whole = (whole - whole.mean(axis=0)) / whole.std(axis=0)
    score = whole @ random.normal(size=whole.shape[1]) * 0.28 - 0.8 + 0.25 * whole[:, 0] * whole[:, 8]
    labels = (random.random(customers) < 1 / (1 + np.exp(-score))).astype(np.float64)
    return VerticalWorld(f"four channels, {customers:,} customers", channels, "marketplace", labels)
