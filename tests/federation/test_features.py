"""Feature matrices from arrays, tables, files and a running store; what cannot be trained on is refused with party, columns and cause."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as pa_feather
import pyarrow.parquet as pq
import pytest

from dayfly.engine.window_features import WindowFeature
from dayfly.federation.errors import InvalidData
from dayfly.federation.features import Features
from dayfly.privacy.consent import ConsentRequest
from tests.engine.durable.shop import Shop
from tests.engine.runtime.world import DAY_MS, wrapping_kernels

VALUES = np.array([[1.0, 10.0], [2.0, 30.0], [3.0, 20.0]])
CUSTOMERS = ("ann", "bob", "cat")
TABLE = pa.table(
    {
        "who": list(CUSTOMERS),
        "visits": [1, 2, 3],
        "spend": [10.0, 30.0, 20.0],
        "member": [True, False, True],
        "city": ["Lyon", "Nice", "Paris"],
        "bought": [0, 1, 1],
    }
)


def arrays(**changes: Any) -> Features:
    given: dict[str, Any] = {"names": ("visits", "spend"), "values": VALUES, "customers": CUSTOMERS} | changes
    return Features.of_arrays("shop", given.pop("names"), given.pop("values"), **given)


# --- arrays and tables -----------------------------------------------------------------------------------------------


def test_arrays_become_the_data_of_both_kinds_of_training() -> None:
    found = arrays(label="bought", labels=[0, 1, 1])
    vertical, shard = found.vertical(), found.shard()
    assert vertical.features == shard.features == ("visits", "spend")
    for one in (vertical, shard):
        np.testing.assert_array_equal(one.values, VALUES)
        assert one.labels is not None
        np.testing.assert_array_equal(one.labels, [0.0, 1.0, 1.0])
    assert found.customers == CUSTOMERS


def test_a_table_gives_its_numbers_and_booleans_and_nothing_else() -> None:
    found = Features.of_table("shop", TABLE, customer="who", label="bought")
    assert found.names == ("visits", "spend", "member")
    np.testing.assert_array_equal(found.values, np.column_stack([VALUES, [1.0, 0.0, 1.0]]))
    assert Features.of_table("shop", TABLE, customer="who", features=["spend"]).names == ("spend",)


def test_chunks_and_large_whole_numbers_are_read_as_they_are() -> None:
    table = pa.table({"who": pa.chunked_array([["a"], ["b"]]), "n": pa.chunked_array([[2**60], [1]])})
    np.testing.assert_array_equal(Features.of_table("shop", table, customer="who").values, [[2.0**60], [1.0]])


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".npz", ".csv"])
def test_files_give_what_was_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"features{suffix}"
    if suffix == ".parquet":
        pq.write_table(TABLE, path)
    elif suffix == ".arrow":
        pa_feather.write_feather(TABLE, path)
    elif suffix == ".npz":
        np.savez(
            path, who=np.array(CUSTOMERS), visits=VALUES[:, 0], spend=VALUES[:, 1], bought=np.array([0, 1, 1])
        )
    else:
        path.write_text("who,visits,spend,bought\nann,1,10,0\nbob,2,30,1\ncat,3,20,1\n")
    found = Features.load("shop", path, customer="who", features=["visits", "spend"], label="bought")
    assert found.customers == CUSTOMERS
    np.testing.assert_array_equal(found.values, VALUES)
    with pytest.raises(InvalidData, match="party='shop'"):
        Features.load("shop", tmp_path / f"missing{suffix}", customer="who")


def test_a_table_of_features_is_what_they_were_made_from(tmp_path: Path) -> None:
    found = arrays(label="bought", labels=[0, 1, 1])
    path = tmp_path / "features.parquet"
    pq.write_table(found.table(consent_until=[7, 8, 9]), path)
    again = Features.load("shop", path, customer="customer", features=["visits", "spend"], label="bought")
    assert (again.customers, again.names) == (found.customers, found.names)
    np.testing.assert_array_equal(again.values, found.values)
    assert pq.read_table(path)["consent_until"].to_pylist() == [7, 8, 9]
    with pytest.raises(InvalidData, match=r"party='shop' names a column of .* twice"):
        found.table(spend=[1, 2, 3])
    with pytest.raises(InvalidData, match=r"party='shop' names a column of .* twice"):
        found.table(customer="visits")
    with pytest.raises(InvalidData, match="has 3 customers; each column must have one value for each"):
        found.table(until=[1, 2])


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"names": ("visits", "visits")}, r"names columns \['visits'\] twice"),
        ({"label": "spend", "labels": [0, 1, 1]}, r"names columns \['spend'\] twice"),
        ({"names": (), "values": np.zeros((3, 0))}, "has no features"),
        ({"customers": (), "values": np.zeros((0, 2))}, "has no rows; leave it out"),
        ({"values": VALUES[:, :1]}, r"has values of shape \(3, 1\); 3 customers and 2 names need \(3, 2\)"),
        ({"values": VALUES.ravel()}, r"has values of shape \(6,\)"),
        ({"values": [[1, 2], [3]]}, "no rectangle of numbers"),
        ({"values": [["a", "b"]] * 3}, "no rectangle of numbers"),
        ({"values": VALUES * [np.nan, 1.0]}, r"NaN or infinite values: rows per column \{'visits': 3\}"),
        ({"values": VALUES * [1.0, np.inf]}, r"rows per column \{'spend': 3\}"),
        ({"customers": ("ann", "bob", "ann")}, "has 1 rows of customers who have another row"),
        ({"label": "bought"}, "has label='bought' and no values for it"),
        ({"labels": [0, 1, 1]}, "has label=None and unnamed values for it"),
        ({"label": "bought", "labels": [0, 1]}, r"has labels of shape \(2,\); they must be \(3,\)"),
        ({"label": "bought", "labels": [0, np.nan, 1]}, "has 1 rows without a label 'bought'"),
    ],
)
def test_matrices_that_cannot_be_trained_on_are_refused(changes: Any, cause: str) -> None:
    with pytest.raises(InvalidData, match=f"party='shop' .*{cause}"):
        arrays(**changes)


@pytest.mark.parametrize(
    ("table", "options", "cause"),
    [
        (TABLE, {"customer": "id"}, r"has no columns \['id'\]"),
        (TABLE, {"customer": "who", "features": ["age", "spend"]}, r"has no columns \['age'\]"),
        (TABLE, {"customer": "who", "label": "clicked"}, r"has no columns \['clicked'\]"),
        (TABLE, {"customer": "who", "features": ["city"]}, "has column 'city' of type string; encode it"),
        (TABLE.append_column("spend", [[1, 2, 3]]), {"customer": "who"}, r"names columns \['spend'\] twice"),
        (
            pa.table({"who": ["a", None], "n": [1, 2]}),
            {"customer": "who"},
            "has 1 rows without a customer 'who'",
        ),
        (
            pa.table({"who": ["a", "b"], "n": [1, None]}),
            {"customer": "who"},
            r"rows per column \{'n': 1\}",
        ),
        (pa.table({"who": ["a", "b"]}), {"customer": "who"}, "has no features"),
        (TABLE.slice(0, 0), {"customer": "who"}, "has no rows"),
    ],
)
def test_tables_that_cannot_be_trained_on_are_refused(table: pa.Table, options: Any, cause: str) -> None:
    with pytest.raises(InvalidData, match=f"party='shop' .*{cause}"):
        Features.of_table("shop", table, **options)


def test_a_constant_column_is_refused_where_the_channel_alone_has_it() -> None:
    found = arrays(values=VALUES * [0.0, 1.0] + [7.0, 0.0], label="bought", labels=[0, 1, 1])
    with pytest.raises(InvalidData, match=r"party='shop' has constant columns \['visits'\]"):
        found.vertical()
    assert found.shard().features == ("visits", "spend")
    with pytest.raises(InvalidData, match="party='shop' has no label"):
        arrays().shard()


# --- a running store -------------------------------------------------------------------------------------------------

NEED = ConsentRequest("marketing.analytics")
WANTED = (
    WindowFeature("views", 30 * DAY_MS, "Product Viewed"),
    WindowFeature("price total", 30 * DAY_MS, "Product Viewed", "sum", "price"),
)


def test_windows_of_a_store_become_columns_of_those_who_consent(tmp_path: Path) -> None:
    with wrapping_kernels():
        shop = Shop(tmp_path)
        shop.open()
        try:
            for user in ("u1", "u2", "u3"):
                shop.compare_sofas(user)
            for user in ("u1", "u3"):
                shop.allow(user)
            names = ["u3", "nobody", "u2", "u1"]
            found = Features.of_store("shop", shop.engine, names, WANTED, NEED, pseudonym=shop.person)
            assert found.customers == ("u3", "u1")
            assert found.names == ("views", "price total")
            assert found.values.tolist() == [[3, 12_003], [3, 12_003]]
            shop.engine.erase(shop.person("u1"))
            left = Features.of_store("shop", shop.engine, names, WANTED, NEED, pseudonym=shop.person)
            assert left.customers == ("u3",)
            with pytest.raises(InvalidData, match="no customer in its store who consents to purpose="):
                Features.of_store(
                    "shop", shop.engine, names, WANTED, ConsentRequest("advertising"), pseudonym=shop.person
                )
        finally:
            shop.engine.close()
