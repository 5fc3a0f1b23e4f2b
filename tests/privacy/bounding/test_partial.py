"""Pieces add up to exactly what the whole gives."""

import random
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.privacy.bounding import Bounded, Columns, Contribution, Lattice, Method, Partial, encode
from dayfly.privacy.bounding.salts import SaltedKeys
from dayfly.privacy.errors import InvalidPartial, TooManyGroups

SALT = bytes(range(16))
STEP = Lattice(Fraction(1, 4))
BOUNDS = Contribution(2, 2, -6, 9)
Row = tuple[str | None, str | None, int | None, float | None]

ROWS = st.lists(
    st.tuples(
        st.sampled_from([None, "ann", "bo", "cy", ""]),
        st.sampled_from([None, "x", "y", "z", "w", "v"]),
        st.sampled_from([None, 1, 2]),
        st.one_of(st.none(), st.floats(-3, 3), st.sampled_from([float("nan"), float("inf"), 1e9])),
    ),
    max_size=40,
)
SHAPES = st.sampled_from([("key",), ("key", "more"), ()])


def coded(rows: list[Row], groups: tuple[str, ...] = ("key",), **options: Any) -> Columns:
    types = [pa.string(), pa.string(), pa.int16(), pa.float64()]
    columns = [pa.array([row[place] for row in rows], kind) for place, kind in enumerate(types)]
    table = pa.table(columns, names=["customer", "key", "more", "value"])
    asked: dict[str, Any] = {"value": "value", "lattice": STEP} | options
    return encode(table, customer="customer", groups=groups, **asked)


def partial(method: Method = "uniform", **options: Any) -> Partial:
    return Partial(**({"contribution": BOUNDS, "method": method, "salt": SALT, "lattice": STEP} | options))


def shown(bounded: Bounded) -> tuple[Any, ...]:
    assert bounded.keys is not None
    return (
        bounded.keys.to_pydict(),
        bounded.counts.tolist(),
        bounded.sums.tolist(),
        bounded.customers.tolist(),
    )


@given(ROWS, SHAPES, st.integers(1, 6), st.booleans(), st.randoms(use_true_random=False))
def test_any_split_merged_in_any_order_is_the_whole(
    rows: list[Row],
    groups: tuple[str, ...],
    pieces: int,
    known: bool,  # noqa: FBT001 - drawn by Hypothesis
    order: random.Random,
) -> None:
    keys = (
        {("key",): ["x", "q", None], ("key", "more"): [("x", 1), ("y", None)], (): None}[groups]
        if known
        else None
    )
    whole = coded(rows, groups, known_keys=keys).group_by(BOUNDS, salt=SALT)
    dealt: list[list[Row]] = [[] for _ in range(pieces)]
    for row in order.sample(rows, len(rows)):
        order.choice(dealt).append(row)

    parts = []
    for hand in dealt:
        cut = order.randint(0, len(hand))
        part = partial()
        part.add(coded(hand[:cut], groups, known_keys=keys))
        part.add(coded(hand[cut:], groups, known_keys=keys))
        parts.append(part if order.random() < 0.5 else Partial.from_bytes(part.to_bytes(), salt=SALT))
    while len(parts) > 1:
        taken = parts.pop(order.randrange(len(parts)))
        parts[order.randrange(len(parts))].merge(taken)

    assert shown(parts[0].finish()) == shown(whole)


@given(ROWS, st.integers(0, 40))
def test_first_come_batches_in_order_are_the_whole(rows: list[Row], cut: int) -> None:
    whole = coded(rows).group_by(BOUNDS, method="first_come", salt=SALT)

    grown = partial("first_come")
    grown.add(coded(rows[:cut]))
    grown = Partial.from_bytes(grown.to_bytes(), salt=SALT)
    grown.add(coded(rows[cut:]))

    assert shown(grown.finish()) == shown(whole)


@given(ROWS)
def test_first_come_pieces_without_common_customers_merge_to_the_whole(rows: list[Row]) -> None:
    mine, theirs = partial("first_come"), partial("first_come")
    mine.add(coded([row for row in rows if row[0] == "ann"]))
    theirs.add(coded([row for row in rows if row[0] != "ann"]))

    mine.merge(theirs)

    assert shown(mine.finish()) == shown(coded(rows).group_by(BOUNDS, method="first_come", salt=SALT))


def test_many_customers_with_integer_keys_merge_to_the_whole() -> None:
    source = np.random.default_rng(3)
    table = {
        "customer": source.integers(0, 3_000, 6_000) * 1_000_003,
        "key": source.integers(0, 40, 6_000),
        "value": source.normal(0, 2, 6_000),
    }
    bounds = Contribution(6, 1, -8, 8)
    parts = []
    for piece in range(3):
        part = partial(contribution=bounds)
        batch = {name: column[piece::3] for name, column in table.items()}
        part.add(encode(batch, customer="customer", groups=["key"], value="value", lattice=STEP))
        parts.append(part)

    parts[2].merge(parts[0])
    parts[2].merge(parts[1])

    whole = encode(table, customer="customer", groups=["key"], value="value", lattice=STEP)
    assert shown(parts[2].finish()) == shown(whole.group_by(bounds, salt=SALT))


def test_merge_leaves_the_other_as_it_is_and_finish_may_be_asked_again() -> None:
    mine, theirs = partial(), partial()
    mine.add(coded([("ann", "x", None, 1.0)]))
    theirs.add(coded([("ann", "y", None, 2.0)]))
    before = shown(theirs.finish())

    mine.merge(theirs)
    middle = shown(mine.finish())
    mine.add(coded([("bo", "y", None, 0.5)]))

    assert shown(theirs.finish()) == before
    assert middle == ({"key": ["x", "y"]}, [1, 1], [4, 8], [1, 1])
    assert shown(mine.finish()) == ({"key": ["x", "y"]}, [1, 2], [4, 10], [1, 2])


def test_nothing_added_is_nothing() -> None:
    empty = partial()
    empty.merge(partial())

    assert shown(empty.finish()) == ({}, [], [], [])
    assert shown(Partial.from_bytes(empty.to_bytes(), salt=SALT).finish()) == ({}, [], [], [])


def filled(**options: Any) -> Partial:
    part = partial(**options)
    part.add(coded([("ann", "x", 1, 1.0)], lattice=options.get("lattice", STEP)))
    return part


@pytest.mark.parametrize(
    "options",
    [
        {"salt": bytes(16)},
        {"contribution": Contribution(1)},
        {"method": "first_come"},
        {"lattice": Lattice()},
    ],
)
def test_partials_of_another_release_do_not_merge(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidPartial, match="must have the same salt, contribution, method and lattice"):
        filled().merge(filled(**options))


def test_first_come_partials_with_a_common_customer_do_not_merge() -> None:
    with pytest.raises(InvalidPartial, match="first come first served cannot be merged exactly"):
        filled(method="first_come").merge(filled(method="first_come"))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (lambda: coded([], ("more",)), "group keys are .'more': 'int16'., must be .'key': 'string'."),
        (lambda: coded([], ("key", "more")), "group keys are .* must be"),
        (lambda: coded([], known_keys=["x"]), "known keys=True, values=True must be as before .False, True."),
        (lambda: coded([], value=None), "known keys=False, values=False must be as before"),
        (lambda: coded([], lattice=Lattice()), "lattice=1 of the batch must be 1/4"),
        (
            lambda: encode(
                {"customer": [1], "key": ["x"], "value": [1]},
                customer="customer",
                groups=["key"],
                value="value",
                lattice=STEP,
            ),
            "customer keys are int64, must be large_string",
        ),
    ],
)
def test_batches_of_another_shape_are_refused_and_change_nothing(batch: Any, message: str) -> None:
    part = filled()
    before = part.to_bytes()

    with pytest.raises(InvalidPartial, match=message):
        part.add(batch())

    assert part.to_bytes() == before


def test_other_known_keys_are_refused() -> None:
    part = partial()
    part.add(coded([], known_keys=["x", "y"]))

    with pytest.raises(InvalidPartial, match="known keys must be the same, in the same order"):
        part.add(coded([], known_keys=["y", "x"]))


def test_more_groups_than_allowed_are_refused_and_change_nothing() -> None:
    part = filled(max_groups=2)
    part.add(coded([("ann", "y", 1, 1.0)]))
    before = part.to_bytes()

    with pytest.raises(TooManyGroups, match="max_groups=2 must be at least the number of groups"):
        part.add(coded([("ann", "z", 1, 1.0)]))

    assert part.to_bytes() == before


def test_groups_of_one_word_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SaltedKeys, "group_words", lambda _self, keys: np.zeros(keys.num_rows, np.uint64))

    with pytest.raises(InvalidPartial, match="salt gives two groups one priority"):
        partial().add(coded([("ann", "x", 1, 1.0), ("ann", "y", 1, 1.0)]))


def test_bytes_that_were_cut_or_changed_anywhere_are_refused() -> None:
    data = filled().to_bytes()

    for place in [*range(0, len(data), 97), len(data) - 1]:
        changed = bytearray(data)
        changed[place] ^= 1
        for damaged in (bytes(changed), data[:place]):
            with pytest.raises(InvalidPartial, match="must be a whole partial result of this salt"):
                Partial.from_bytes(damaged, salt=SALT)


def test_bytes_need_their_salt_and_do_not_hold_it() -> None:
    data = filled().to_bytes()

    assert SALT not in data
    with pytest.raises(InvalidPartial, match="must be a whole partial result of this salt"):
        Partial.from_bytes(data, salt=bytes(16))
