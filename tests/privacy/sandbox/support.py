"""What tests of the sandbox share: a ledger with room, noise that is none, a clock that stands still."""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dayfly.privacy.ledger import Account, Ledger, Limit
from dayfly.privacy.noise import NoiseSource
from dayfly.privacy.sandbox import Sandbox, Source

NOW_MS = 1_800_000_000_000


class NoNoise:
    """A noise source that adds nothing and remembers what it was asked for. Never outside tests."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, Fraction, int]] = []

    def laplace(self, values: NDArray[np.int64], scale: Fraction, *, l1: int = 1) -> NDArray[np.int64]:
        self.asked.append(("laplace", values.size, scale, l1))
        return values.copy()

    def gaussian(
        self, values: NDArray[np.int64], scale: Fraction, *, l2_squared: int = 1
    ) -> NDArray[np.int64]:
        self.asked.append(("gaussian", values.size, scale, l2_squared))
        return values.copy()

    def laplace_threshold(
        self,
        values: Mapping[int, int],
        scale: Fraction,
        threshold: int,
        *,
        sensitivity: tuple[int, int, int] = (1, 1, 1),
    ) -> dict[int, int]:
        self.asked.append(("laplace_threshold", len(values), scale, sensitivity[1]))
        return {key: value for key, value in values.items() if value >= threshold}

    def gaussian_threshold(
        self,
        values: Mapping[int, int],
        scale: Fraction,
        threshold: int,
        *,
        sensitivity: tuple[int, int, int] = (1, 1, 1),
    ) -> dict[int, int]:
        self.asked.append(("gaussian_threshold", len(values), scale, sensitivity[1]))
        return {key: value for key, value in values.items() if value >= threshold}


def opened(folder: Path, **limit: Any) -> Ledger:
    """A new ledger whose three accounts have one limit; a large one where none is given."""
    ledger = Ledger.open(folder / "budget.db", now_ms=lambda: NOW_MS, create=True)
    for scope, name in (("data_set", "orders"), ("analyst", "ann"), ("purpose", "marketing")):
        ledger.declare(
            Account(scope, name, Limit(**(limit or {"epsilon": Fraction(10**6), "delta": Fraction(1, 2)})))  # type: ignore[arg-type]
        )
    return ledger


def salts() -> Any:
    """Random bytes of a counter: other bytes at each call, the same in each test."""
    state = np.random.default_rng(7)
    return state.bytes


def sandbox_over(
    folder: Path, data: Any, *, customer: str = "customer", noise: NoiseSource | None = None, **limit: Any
) -> Sandbox:
    """A sandbox of one source, orders, with noise that is none."""
    return Sandbox(
        ledger=opened(folder, **limit),
        sources={"orders": Source(data, customer=customer)},
        analyst="ann",
        purpose="marketing.analytics",
        noise=NoNoise() if noise is None else noise,
        random_bytes=salts(),
    )


def orders(rows: int = 400, *, customers: int = 40, seed: int = 1) -> pa.Table:
    """Orders with texts, times, missing values, NaN and infinities."""
    rng = np.random.default_rng(seed)
    price = rng.gamma(2.0, 3.0, rows)
    price[rng.random(rows) < 0.03] = np.nan
    quantity = [None if one == 0 else int(one) for one in rng.integers(-2, 9, rows)]
    return pa.table(
        {
            "customer": rng.integers(0, customers, rows),
            "country": rng.choice(["France", "Germany", "Spain"], rows),
            "invoice": [f"{'C' if one % 7 == 0 else ''}{one}" for one in rng.integers(0, 90, rows)],
            "quantity": pa.array(quantity, pa.int32()),
            "price": price,
            "at": pa.array(rng.integers(1_291_000_000_000, 1_299_000_000_000, rows), pa.timestamp("ms")),
            "new": rng.random(rows) < 0.3,
        }
    )
