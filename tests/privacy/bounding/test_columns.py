"""Tables of every kind become the same codes, and what cannot be coded is refused."""

import datetime as dt
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.privacy.bounding import Bounded, Columns, Contribution, Lattice, encode
from dayfly.privacy.errors import InvalidColumns, TooManyGroups

SALT = bytes(16)
WIDE = Contribution(9, 9, -1_000, 1_000)
TABLE = pa.table(
    {
        "who": ["ann", "bo", None, "ann", "cy", "ann"],
        "where": ["x", "y", "x", None, "x", "x"],
        "day": [dt.date(2020, 1, day) for day in (1, 1, 2, 2, 1, 2)],
        "paid": [1.5, 2.0, 9.0, None, float("nan"), 0.25],
        "pieces": pa.array([1, 2, 3, 4, 5, 6], pa.int16()),
    }
)
HALVES = Lattice(Fraction(1, 4))


def totals(bounded: Bounded) -> dict[Any, tuple[int, int, int]]:
    assert bounded.keys is not None
    keys = (
        list(zip(*(column.to_pylist() for column in bounded.keys.columns), strict=True))
        if bounded.keys.num_columns
        else [()]
    )
    plain = [key[0] if len(key) == 1 else key for key in keys]
    return dict(
        zip(
            plain,
            zip(bounded.counts.tolist(), bounded.sums.tolist(), bounded.customers.tolist(), strict=True),
            strict=True,
        )
    )


def asked(source: Any, **options: Any) -> dict[Any, tuple[int, int, int]]:
    return totals(encode(source, customer="who", **options).group_by(WIDE, salt=SALT))


def test_rows_without_customer_or_value_are_left_out_and_null_is_a_key() -> None:
    assert asked(TABLE, groups=["where"]) == {"x": (3, 0, 2), "y": (1, 0, 1), None: (1, 0, 1)}
    assert asked(TABLE, groups=["where"], value="paid", lattice=HALVES) == {"x": (2, 7, 1), "y": (1, 8, 1)}


def test_no_groups_are_one_group() -> None:
    assert asked(TABLE, value="pieces") == {(): (5, 18, 3)}
    assert encode(TABLE, customer="who").group_count == 1


def test_several_columns_make_combined_keys_in_order() -> None:
    first, second = dt.date(2020, 1, 1), dt.date(2020, 1, 2)

    assert list(asked(TABLE, groups=["where", "day"]).items()) == [
        (("x", first), (2, 0, 2)),
        (("x", second), (1, 0, 1)),
        (("y", first), (1, 0, 1)),
        ((None, second), (1, 0, 1)),
    ]


def test_known_keys_are_the_answer_in_their_order() -> None:
    assert list(asked(TABLE, groups=["where"], known_keys=["z", None, "x"]).items()) == [
        ("z", (0, 0, 0)),
        (None, (1, 0, 1)),
        ("x", (3, 0, 2)),
    ]


def test_rows_of_other_keys_use_up_no_groups() -> None:
    table = {"who": ["a"] * 6, "where": list("qwerty")}

    bounded = encode(table, customer="who", groups=["where"], known_keys=["y"]).group_by(
        Contribution(1), salt=SALT
    )

    assert bounded.counts.tolist() == [1]


def test_known_keys_of_several_columns_are_tuples_or_a_table() -> None:
    first = dt.date(2020, 1, 1)
    pairs = pa.table({"day": pa.array([first, first], pa.date32()), "where": ["y", "q"]})

    by_tuples = asked(TABLE, groups=["where", "day"], known_keys=[("y", first), ("q", first)])

    assert by_tuples == {("y", first): (1, 0, 1), ("q", first): (0, 0, 0)}
    assert asked(TABLE, groups=["where", "day"], known_keys=pairs) == by_tuples


def sources(folder: Path) -> dict[str, Any]:
    import polars as pl

    path = folder / "table.parquet"
    pq.write_table(TABLE, path)
    dictionary = TABLE
    for name in ("who", "where"):
        dictionary = dictionary.set_column(
            dictionary.column_names.index(name), name, TABLE.column(name).dictionary_encode()
        )
    views = TABLE.set_column(0, "who", TABLE.column("who").cast(pa.string_view()))
    return {
        "record batch": TABLE.combine_chunks().to_batches()[0],
        "chunks": pa.concat_tables([TABLE.slice(0, 2), TABLE.slice(2, 0), TABLE.slice(2)]),
        "dictionaries": dictionary,
        "dictionary chunks": pa.concat_tables([dictionary.slice(4).combine_chunks(), dictionary.slice(0, 4)]),
        "large strings": TABLE.cast(
            pa.schema(
                [
                    field.with_type(pa.large_string()) if field.type == pa.string() else field
                    for field in TABLE.schema
                ]
            )
        ),
        "string views": views,
        "lists": TABLE.to_pydict(),
        "objects": {name: np.array(column, object) for name, column in TABLE.to_pydict().items()},
        "parquet": path,
        "parquet text": str(path),
        "polars": pl.from_arrow(TABLE),
    }


@pytest.mark.parametrize(
    "kind",
    [
        "record batch",
        "chunks",
        "dictionaries",
        "dictionary chunks",
        "large strings",
        "string views",
        "lists",
        "objects",
        "parquet",
        "parquet text",
        "polars",
    ],
)
def test_every_kind_of_source_means_the_same(kind: str, tmp_path: Path) -> None:
    source = sources(tmp_path)[kind]

    for groups in (["where"], ["where", "day"], ["pieces"]):
        assert asked(source, groups=groups, value="paid", lattice=HALVES) == asked(
            TABLE, groups=groups, value="paid", lattice=HALVES
        )


def test_dictionary_with_repeated_unused_and_null_values_means_its_rows() -> None:
    odd = pa.DictionaryArray.from_arrays(pa.array([0, 2, 3, None, 0]), pa.array(["x", "unused", "x", None]))

    columns = encode({"who": [1, 2, 3, 4, 5], "where": odd}, customer="who", groups=["where"])

    assert columns.group_keys.column(0).to_pylist() == ["x", None]
    assert columns.groups.tolist() == [0, 0, 1, 1, 0]


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
def test_integer_keys_of_every_width_mean_the_same(dtype: str) -> None:
    ids = np.array([100, 3, 100, 7], dtype)

    columns = encode({"who": ids, "where": ids}, customer="who", groups=["where"])

    assert columns.customer_keys.take(pa.array(columns.customers)).to_pylist() == [100, 3, 100, 7]
    assert columns.group_keys.column(0).to_pylist() == [3, 7, 100]
    assert columns.groups.tolist() == [2, 0, 2, 1]


@given(st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.integers(-5, 5)), min_size=1))
def test_codes_give_the_keys_back_from_int64_edges_too(ids: list[int | None]) -> None:
    columns = encode(
        {"who": pa.array(ids, pa.int64()), "where": pa.array(ids, pa.int64())},
        customer="who",
        groups=["where"],
    )

    keys = columns.customer_keys.to_pylist()
    assert [None if code < 0 else keys[code] for code in columns.customers.tolist()] == ids
    assert columns.group_keys.column(0).take(pa.array(columns.groups)).to_pylist() == ids
    assert columns.group_keys.column(0).to_pylist() == sorted({key for key in ids if key is not None}) + [
        None
    ] * (None in ids)


@pytest.mark.parametrize(
    ("column", "shown"),
    [
        (pa.array([True, False, None]), [False, True, None]),
        (
            pa.array([dt.datetime(2020, 1, 2, tzinfo=dt.UTC), None, dt.datetime(2020, 1, 1, tzinfo=dt.UTC)]),
            [dt.datetime(2020, 1, 1, tzinfo=dt.UTC), dt.datetime(2020, 1, 2, tzinfo=dt.UTC), None],
        ),
        (pa.array([5, 1, 5], pa.time32("s")), [dt.time(0, 0, 1), dt.time(0, 0, 5)]),
        (pa.array([2**40, None, 1], pa.duration("s")).cast(pa.int64()), [1, 2**40, None]),
        (pa.nulls(3), [None]),
    ],
)
def test_group_keys_come_back_in_the_columns_type(column: pa.Array, shown: list[Any]) -> None:
    columns = encode({"who": [1, 2, 3], "where": column}, customer="who", groups=["where"])

    assert columns.group_keys.column(0).to_pylist() == shown
    assert columns.group_keys.column(0).type == (pa.int64() if pa.types.is_null(column.type) else column.type)


@pytest.mark.parametrize(
    "values",
    [
        np.ma.masked_array([1, 2, 3], mask=[False, True, False]),
        pa.array([Decimal("1.0"), None, Decimal("3.0")]),
        pa.array([1, None, 3], pa.uint8()),
        pa.array([1.0, None, 3.0], pa.float16()),
        pa.chunked_array([pa.array([1.0]), pa.array([None, 3.0])]),
        pa.array([1.0, float("nan"), 3.0]).dictionary_encode(),
        [1, None, 3],
    ],
)
def test_values_of_every_numeric_kind_mean_the_same(values: Any) -> None:
    assert asked({"who": [1, 2, 3], "paid": values}, value="paid", lattice=HALVES) == {(): (2, 16, 2)}


def test_boolean_values_are_zero_and_one() -> None:
    assert asked({"who": [1, 2], "paid": pa.array([True, None])}, value="paid") == {(): (1, 1, 1)}


def test_where_and_values_are_exchanged_without_coding_again() -> None:
    columns = encode(TABLE, customer="who", groups=["where"])

    assert totals(columns.where(np.asarray(TABLE.column("pieces")) > 3).group_by(WIDE, salt=SALT)) == {
        "x": (2, 0, 2),
        None: (1, 0, 1),
    }
    assert totals(columns.with_values(TABLE.column("paid"), lattice=HALVES).group_by(WIDE, salt=SALT)) == {
        "x": (2, 7, 1),
        "y": (1, 8, 1),
    }
    assert totals(
        columns.with_values(np.ones(6), lattice=HALVES).without_values().group_by(WIDE, salt=SALT)
    ) == asked(TABLE, groups=["where"])


def test_empty_tables_have_no_keys() -> None:
    columns = encode(TABLE.slice(0, 0), customer="who", groups=["where", "day"], value="paid")

    assert columns.group_count == 0
    assert totals(columns.group_by(WIDE, salt=SALT)) == {}


def test_keys_that_nobody_keeps_do_not_show() -> None:
    table = {"who": [None, 1], "where": ["secret", "x"]}

    assert list(asked(table, groups=["where"])) == ["x"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": ["wher"]}, "column='wher' must be in the table exactly once; choose from .'day', 'paid'"),
        ({"customer": "whom"}, "column='whom' must be in the table exactly once"),
        ({"customer": "paid"}, "paid=double must be integers, strings, booleans or dates"),
        ({"groups": ["paid"]}, "paid=double must be integers, strings, booleans or dates"),
        ({"value": "where"}, "where=string must be integers, floats, decimals or booleans"),
        (
            {"groups": ["where"], "known_keys": [1, 2]},
            "known_keys of 'where' are int64, must be large_string",
        ),
        ({"groups": ["where"], "known_keys": []}, "known_keys=.. must list a key at least"),
        ({"groups": ["where"], "known_keys": ["x", "y", "x"]}, "known_keys must list each key once"),
        ({"groups": ["where", "day"], "known_keys": ["x"]}, "known_keys='x' must be a tuple of 2 values"),
        (
            {"groups": ["where"], "known_keys": pa.table({"here": ["x"]})},
            r"known_keys=\['here'\] must have the columns",
        ),
        ({"known_keys": ["x"]}, "known_keys must be None without group-by columns"),
    ],
)
def test_columns_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidColumns, match=message):
        encode(TABLE, **({"customer": "who"} | options))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (7, "source=int must be a table, a mapping of columns or a Parquet path"),
        ({"who": [1, 2], "where": [1]}, "columns=.* must be of one length"),
        ({"who": [1, "a"], "where": [1, 2]}, "who=list must be one column of values of one type"),
        ({"who": np.zeros((2, 2)), "where": [1, 2]}, "who=ndarray must be one column of values of one type"),
        ({"who": pa.array([2**63], pa.uint64()), "where": [1]}, "who=uint64 must fit int64 keys"),
        ({"who": [[1]], "where": [1]}, "who=list<.*> must be integers, strings"),
        ("nowhere.parquet", "source='nowhere.parquet' must be a readable Parquet file"),
    ],
)
def test_sources_that_cannot_be_read_are_refused(source: Any, message: str) -> None:
    with pytest.raises(InvalidColumns, match=message):
        encode(source, customer="who", groups=["where"])


def test_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table.parquet").write_bytes(b"not a table")

    with pytest.raises(InvalidColumns, match="must be a readable Parquet file"):
        encode(tmp_path / "table.parquet", customer="who")


def test_more_groups_than_allowed_are_refused_and_as_many_are_not() -> None:
    table = {"who": range(5), "where": range(5)}

    assert (
        encode(
            {name: list(column) for name, column in table.items()},
            customer="who",
            groups=["where"],
            max_groups=5,
        ).group_count
        == 5
    )
    with pytest.raises(TooManyGroups, match="max_groups=4 must be at least the number of groups"):
        encode(
            {name: list(column) for name, column in table.items()},
            customer="who",
            groups=["where"],
            max_groups=4,
        )
    with pytest.raises(TooManyGroups, match="max_groups=2 must be at least the number of groups"):
        encode(TABLE, customer="who", groups=["where"], known_keys=["x", "y", "z"], max_groups=2)


@pytest.mark.parametrize("mask", [np.ones(5, bool), np.ones(6), np.ones((6, 1), bool)])
def test_masks_that_are_not_one_bool_per_row_are_refused(mask: Any) -> None:
    columns = encode(TABLE, customer="who")

    with pytest.raises(InvalidColumns, match=r"mask of type .* must be one bool per row"):
        columns.where(mask)


def test_values_of_another_length_are_refused() -> None:
    columns: Columns = encode(TABLE, customer="who")

    with pytest.raises(InvalidColumns, match="values of length 2 must be 6 long"):
        columns.with_values([1, 2], lattice=HALVES)
