"""A channel whose columns are windows of its Dayfly store: only of those who consent there, and of the same customers in every run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dayfly.federation import ChannelData, DataSettings
from dayfly.federation.errors import InvalidData
from dayfly.federation.runs import LocalFederation, StoreSettings, WindowSettings
from dayfly.federation.runs.data import ConsentColumn
from tests.engine.durable.shop import Shop
from tests.engine.runtime.world import DAY_MS, T0, wrapping_kernels
from tests.federation.journal.worlds import ALIGN, CHANNELS, settings_of, vertical_plan, write_tables
from tests.federation.runs.test_runs import federation

__all__ = ["federation"]

UNTIL_MS = T0 + 90 * DAY_MS
WINDOWS = (
    WindowSettings(name="views", days=30, event="Product Viewed"),
    WindowSettings(name="price total", days=30, event="Product Viewed", aggregate="sum", field="price"),
)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """u1 and u3 consent; the channel's table has two more customers, of whom the store knows one."""
    with wrapping_kernels():
        made = Shop(tmp_path)
        made.open()
        for user in ("u1", "u2", "u3"):
            made.compare_sofas(user)
        for user in ("u1", "u3"):
            made.allow(user)
        table = {"who": ["u3", "nobody", "u2", "u1"], "until": [UNTIL_MS] * 4, "bought": [1.0, 0.0, 1.0, 0.0]}
        pq.write_table(pa.table(table), tmp_path / "customers.parquet")
        yield made
        made.engine.close()


def settings(**changes: Any) -> DataSettings:
    given: dict[str, Any] = {"folder": "store", "keys": "keys/shop.keys", "windows": WINDOWS}
    given |= {"purpose": "marketing.analytics", "country": "DE", **changes.pop("store", {})}
    columns: dict[str, Any] = {
        "path": "customers.parquet",
        "customer": "who",
        "label": "bought",
        "consent": ConsentColumn(until="until", country="DE"),
        "store": StoreSettings(**given),
    }
    return DataSettings(**(columns | changes))


def loaded(shop: Shop, folder: Path, **changes: Any) -> ChannelData:
    return ChannelData.load("shop", settings(**changes), folder=folder, store=shop.engine)


def test_who_does_not_consent_in_the_store_has_no_consent_and_no_value_in_the_table(
    shop: Shop, tmp_path: Path
) -> None:
    found = loaded(shop, tmp_path)
    assert found.features == ("views", "price total")
    assert found.customers() == ["u3", "nobody", "u2", "u1"]
    assert found.instants("until") == [UNTIL_MS, None, None, UNTIL_MS]
    expected: list[list[float]] = [[3, 12_003], [np.nan, np.nan], [np.nan, np.nan], [3, 12_003]]
    assert np.array_equal(found.matrix(found.features), expected, equal_nan=True)
    shop.engine.erase(shop.person("u1"))
    again = loaded(shop, tmp_path)
    assert again.customers() == found.customers()
    assert again.instants("until") == [UNTIL_MS, None, None, None]


def test_without_a_column_of_consents_rows_of_who_does_not_consent_are_left_out(
    shop: Shop, tmp_path: Path
) -> None:
    found = loaded(shop, tmp_path, consent=None)
    assert found.customers() == ["u3", "u1"]
    assert found.labels("bought").tolist() == [1, 0]


def test_a_store_that_is_running_elsewhere_is_told_and_one_that_was_stopped_is_opened(
    shop: Shop, tmp_path: Path
) -> None:
    with pytest.raises(
        InvalidData, match=r"party='shop' has a store that another process holds .*run the channel in"
    ):
        ChannelData.load("shop", settings(), folder=tmp_path)
    shop.engine.close()
    found = ChannelData.load("shop", settings(), folder=tmp_path)
    assert found.customers() == ["u3", "nobody", "u2", "u1"]
    assert found.features == ("views", "price total")
    with pytest.raises(InvalidData, match="party='shop' has a store that cannot be opened"):
        ChannelData.load("shop", settings(store={"folder": "nowhere"}), folder=tmp_path)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"customer": None}, "must have a column of customers"),
        ({"customer": "id"}, r"must have a column of customers .*missing: \['id'\]"),
        ({"store": {"windows": (WINDOWS[0], WINDOWS[0])}}, r"a name of its own \(\['views'\]\)"),
        ({"store": {"windows": (WindowSettings(name="bought", days=1),)}}, r"a name of its own \(\['bought'\]\)"),
        ({"store": {"windows": ()}}, "must have windows"),
        ({"store": {"windows": (WindowSettings(name="x", days=30, event="Fled"),)}}, "event='Fled' of 'x' must be"),
        ({"store": {"windows": (WindowSettings(name="x", days=1e6),)}}, "must be above 0 and at most the history"),
        ({"store": {"purpose": "No Such"}}, "windows that its store cannot give"),
        ({"store": {"keys": "keys/none"}}, "has keys of its store that cannot be read"),
        ({"features": ("clicks",)}, r"has no columns \['clicks'\]"),
    ],
)  # fmt: skip
def test_settings_that_no_store_can_keep_are_told_with_the_party(
    shop: Shop, tmp_path: Path, changes: dict[str, Any], cause: str
) -> None:
    with pytest.raises(InvalidData, match=f"party='shop' .*{cause}"):
        loaded(shop, tmp_path, **changes)


def test_rows_without_a_place_may_have_missing_values(federation: LocalFederation, tmp_path: Path) -> None:
    """As a store gives them: no consent, no value. Rows keep their order, and the model is trained on the others."""
    write_tables(tmp_path / "changed")
    path = tmp_path / "changed" / "wifi" / "table.parquet"
    table = pq.read_table(path)
    for name in ("until", "wifi_a"):
        column = table[name].to_pylist()
        column[7] = None
        table = table.set_column(
            table.column_names.index(name), name, pa.array([column][0], table[name].type)
        )
    federation._channels["wifi"] = ChannelData("wifi", table, settings_of("wifi"))
    aligned = federation.run(ALIGN)
    outcome = federation.run(vertical_plan(aligned.document))
    assert outcome.model is not None
    assert len(outcome.model.features) == 2 * len(CHANNELS)
