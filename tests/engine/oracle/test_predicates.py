"""Predicates over one event, worked out by hand."""

from decimal import Decimal
from typing import Any

import pytest

from dayfly.engine.tags.tree import (
    Comparison,
    FieldComparison,
    FieldIn,
    FieldPresent,
    FieldText,
    Measure,
    Predicate,
    PredicateAnd,
    PredicateNot,
    PredicateOr,
)
from tests.engine.oracle.cases import event, holds_at, match

MATERIAL, PRICE, SALE, DUE = "properties.material", "properties.price", "properties.sale", "properties.due"
OAK = {"material": "oak", "price": 2.5, "sale": False, "due": 1_700}

CASES = [
    ("equal text", FieldComparison(MATERIAL, "==", "oak"), OAK, True),
    ("other case is other text", FieldComparison(MATERIAL, "==", "Oak"), OAK, False),
    ("not equal", FieldComparison(MATERIAL, "!=", "elm"), OAK, True),
    ("absent is not even unequal", FieldComparison(MATERIAL, "!=", "elm"), {}, False),
    (
        "negation of a test on an absent field holds",
        PredicateNot(FieldComparison(MATERIAL, "==", "elm")),
        {},
        True,
    ),
    ("2.5 < 2.500001", FieldComparison(PRICE, "<", Decimal("2.500001")), OAK, True),
    ("2.5 <= 2.5", FieldComparison(PRICE, "<=", Decimal("2.50")), OAK, True),
    ("2.5 > 2.5", FieldComparison(PRICE, ">", Decimal("2.5")), OAK, False),
    ("2.5 >= 2.499999", FieldComparison(PRICE, ">=", Decimal("2.499999")), OAK, True),
    ("a false boolean is present and equal to false", FieldComparison(SALE, "==", value=False), OAK, True),
    ("a boolean is no number", FieldComparison(SALE, "==", Decimal(0)), OAK, False),
    ("a number is no text", FieldComparison(PRICE, "!=", "2.5"), OAK, False),
    ("a time", FieldComparison(DUE, ">=", Decimal(1_700)), OAK, True),
    ("zero is present", FieldPresent(PRICE), {"price": 0}, True),
    ("an empty text is present", FieldPresent(MATERIAL), {"material": ""}, True),
    ("absent is not", FieldPresent(MATERIAL), {}, False),
    ("in a list", FieldIn(MATERIAL, ("elm", "oak")), OAK, True),
    ("not in a list", FieldIn(PRICE, (Decimal(2), Decimal(3))), OAK, False),
    ("absent is in no list", FieldIn(MATERIAL, ("elm",)), {}, False),
    ("contains", FieldText(MATERIAL, "contains", "型收"), {"material": "小户型收纳"}, True),
    ("contains is no pattern", FieldText(MATERIAL, "contains", "o.k"), OAK, False),
    ("contains nothing", FieldText(MATERIAL, "contains", ""), OAK, True),
    ("starts with", FieldText(MATERIAL, "startsWith", "小户"), {"material": "小户型收纳"}, True),
    ("does not start with", FieldText(MATERIAL, "startsWith", "户"), {"material": "小户型收纳"}, False),
    (
        "ends with a character beyond the basic plane",
        FieldText(MATERIAL, "endsWith", "𠮷"),
        {"material": "山𠮷"},
        True,
    ),
    ("absent contains nothing", FieldText(MATERIAL, "contains", ""), {}, False),
    ("the channel", FieldComparison("channel", "==", "app"), {}, True),
    ("another channel", FieldIn("channel", ("shop",)), {}, False),
    ("and", PredicateAnd((FieldPresent(PRICE), FieldComparison(MATERIAL, "==", "elm"))), OAK, False),
    ("or", PredicateOr((FieldPresent(PRICE), FieldComparison(MATERIAL, "==", "elm"))), OAK, True),
]


@pytest.mark.parametrize(
    ("where", "fields", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_a_predicate_holds_as_worked_out_by_hand(
    where: Predicate, fields: dict[str, Any], *, expected: bool
) -> None:
    seen = Comparison(Measure("count", match("view", where), 100), ">=", Decimal(1))
    assert holds_at(seen, [event("view", 5, **fields)], 5) is expected
