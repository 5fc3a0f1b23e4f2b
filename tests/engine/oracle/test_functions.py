"""Every window function at its boundaries, worked out by hand. Times are milliseconds after the start."""

from decimal import Decimal
from typing import Any

import pytest

from dayfly.engine.events import Event
from dayfly.engine.tags.tree import (
    Absent,
    And,
    Comparison,
    Expression,
    FieldComparison,
    FirstTime,
    InTag,
    Measure,
    MeasureName,
    Not,
    Operator,
    Or,
    Regularly,
    Restarted,
    Scalar,
    Sequence,
    Stopped,
)
from tests.engine.oracle.cases import ANN, BEN, START, batch, event, holds_at, match, oracle, tag

VIEW, CART, ORDER, CANCEL = match("view"), match("cart"), match("order"), match("cancel")


def views(*times: int, **fields: Any) -> list[Event]:
    return [event("view", at, **fields) for at in times]


def priced(*pairs: tuple[int, float | None]) -> list[Event]:
    return [event("view", at, price=price) for at, price in pairs]


def over(
    function: MeasureName,
    sign: Operator,
    value: Scalar | int | str,
    *,
    within: int = 100,
    field: str | None = None,
) -> Expression:
    literal = Decimal(str(value)) if isinstance(value, int | float) and not isinstance(value, bool) else value
    return Comparison(Measure(function, VIEW, within, field), sign, literal)


def price(function: MeasureName, sign: Operator, value: float) -> Expression:
    return over(function, sign, Decimal(str(value)), field="properties.price")


CASES = [
    # count: the window is (now - 100, now]
    ("an event 1 ms younger than the window counts", over("count", ">=", 1), views(0), 99, True),
    ("an event exactly as old as the window is out", over("count", ">=", 1), views(0), 100, False),
    ("an event of this very instant counts", over("count", ">=", 1), views(50), 50, True),
    ("ties count each", over("count", "==", 3), views(5, 5, 5), 5, True),
    ("> 2 needs three", over("count", ">", 2), views(1, 2), 50, False),
    ("> 2 holds with three", over("count", ">", 2), views(1, 2, 3), 50, True),
    ("> 2 ends when the third last is out", over("count", ">", 2), views(1, 2, 3), 101, False),
    ("< 3 holds with two", over("count", "<", 3), views(1, 2), 50, True),
    ("< 3 is false on an empty window", over("count", "<", 3), views(1, 2), 102, False),
    ("!= 5 is false on an empty window", over("count", "!=", 5), views(0), 100, False),
    ("!= 5 holds with one", over("count", "!=", 5), views(0), 99, True),
    ("other types do not count", over("count", ">=", 1), [event("cart", 0)], 1, False),
    ("count over a field leaves absent ones out", over("count", "==", 1, field="properties.price"), priced((1, 2.0), (2, None)), 9, True),
    # distinct
    ("two values are two", over("distinct", "==", 2, field="properties.material"), [*views(1, material="oak"), *views(2, material="elm"), *views(3, material="oak")], 9, True),
    ("the value whose only event is out is gone", over("distinct", "==", 1, field="properties.material"), [*views(1, material="oak"), *views(2, material="elm")], 101, True),
    ("a value stays while a later event shows it", over("distinct", "==", 2, field="properties.material"), [*views(1, material="oak"), *views(2, material="elm"), *views(3, material="oak")], 101, True),
    ("1.5 and 1.50 are one value", price("distinct", "==", 1), priced((1, 1.5), (2, 1.50)), 9, True),
    ("an empty text is a value", over("distinct", "==", 2, field="properties.material"), [*views(1, material=""), *views(2, material="oak")], 9, True),
    ("absent is no value", over("distinct", "<", 5, field="properties.material"), views(1), 9, False),
    # sum, avg, min, max
    ("0.1 + 0.2 is exactly 0.3", price("sum", "==", 0.3), priced((1, 0.1), (2, 0.2)), 9, True),
    ("a sum loses what is out", price("sum", "==", 0.2), priced((1, 0.1), (2, 0.2)), 101, True),
    ("a sum of nothing is no value, not 0", price("sum", "<", 5), priced((1, None)), 9, False),
    ("an average is exact: 1/3 is not 0.333333", price("avg", "==", 0.333333), priced((1, 1), (2, 0), (3, 0)), 9, False),
    ("an average is exact: 1/3 is more than 0.333333", price("avg", ">", 0.333333), priced((1, 1), (2, 0), (3, 0)), 9, True),
    ("absent prices do not pull an average down", price("avg", "==", 4), priced((1, 4), (2, None)), 9, True),
    ("min", price("min", "<=", -1), priced((1, 4), (2, -1)), 9, True),
    ("max", price("max", ">", 4), priced((1, 4), (2, -1)), 9, False),
    ("max forgets what is out", price("max", "==", -1), priced((1, 4), (2, -1)), 101, True),
    # first and last
    ("last is by time, not by arrival", over("last", "==", "elm", field="properties.material"), [event("view", 5, material="elm"), event("view", 4, received=6, material="oak")], 9, True),
    ("last of a tie is what arrived last", over("last", "==", "oak", field="properties.material"), [event("view", 5, material="elm"), event("view", 5, received=6, material="oak")], 9, True),
    ("first of a tie is what arrived first", over("first", "==", "elm", field="properties.material"), [event("view", 5, material="elm"), event("view", 5, received=6, material="oak")], 9, True),
    ("last skips an event without the field", over("last", "==", "elm", field="properties.material"), [event("view", 5, material="elm"), event("view", 6)], 9, True),
    ("first moves on when it is out", over("first", "==", "oak", field="properties.material"), [event("view", 5, material="elm"), event("view", 6, material="oak")], 105, True),
    ("last of a boolean", over("last", "==", value=False, field="properties.sale"), [event("view", 5, sale=True), event("view", 6, sale=False)], 9, True),
    ("last of a time compares milliseconds", over("last", ">", 1_699, field="properties.due"), views(5, due=1_700), 9, True),
    ("last of a time at the literal is not more", over("last", ">", 1_700, field="properties.due"), views(5, due=1_700), 9, False),
    ("last with != and no event is false", over("last", "!=", "elm", field="properties.material"), views(5), 9, False),
    # absent
    ("absent is false while an event is inside", Absent(VIEW, 100), views(0), 99, False),
    ("absent holds the instant the event is out", Absent(VIEW, 100), views(0), 100, True),
    ("absent of another type", Absent(CART, 100), views(0), 0, True),
    # first_time; the history is one million
    ("a first event", FirstTime(VIEW, 100), views(0), 99, True),
    ("a first event is over after the window", FirstTime(VIEW, 100), views(0), 100, False),
    ("a second event is no first", FirstTime(VIEW, 100), views(0, 150), 160, False),
    ("two first events inside the window are a first time", FirstTime(VIEW, 100), views(0, 50), 60, True),
    ("a late older event undoes a first time", FirstTime(VIEW, 100), [event("view", 200), event("view", 10, received=210)], 220, False),
    ("what left the history does not count as before", FirstTime(VIEW, 100), views(0, 999_950), 1_000_000, True),
    ("what is 1 ms inside the history does", FirstTime(VIEW, 100), views(0, 999_950), 999_999, False),
    # regularly: spans (now - 10, now], (now - 20, now - 10], (now - 30, now - 20]
    ("one in each of three spans", Regularly(VIEW, 10, 3, 3), views(5, 15, 25), 30, True),
    ("an event exactly one span old is in the next span", Regularly(VIEW, 10, 3, 3), views(5, 15, 20), 30, False),
    ("two of three spans are enough for at_least 2", Regularly(VIEW, 10, 3, 2), views(5, 15), 30, True),
    ("the oldest span ends at three spans", Regularly(VIEW, 10, 3, 2), views(5, 15), 35, False),
    ("twice in a span is asked and there", Regularly(VIEW, 10, 2, 2, 2), views(5, 6, 15, 16), 20, True),
    ("twice in a span is asked and once is there", Regularly(VIEW, 10, 2, 2, 2), views(5, 6, 15), 20, False),
    # stopped: an event in (now - 100, now - 30], none in (now - 30, now]
    ("not yet quiet", Stopped(VIEW, 100, 30), views(0), 29, False),
    ("quiet at exactly the quiet time", Stopped(VIEW, 100, 30), views(0), 30, True),
    ("still stopped at the end of the window", Stopped(VIEW, 100, 30), views(0), 99, True),
    ("forgotten after the window", Stopped(VIEW, 100, 30), views(0), 100, False),
    ("a new event restarts", Stopped(VIEW, 100, 30), views(0, 40), 40, False),
    ("and may stop again", Stopped(VIEW, 100, 30), views(0, 40), 70, True),
    # restarted: an event in (now - 100, now] whose predecessor is at least 30 older
    ("a first event is no restart", Restarted(VIEW, 100, 30), views(0), 1, False),
    ("29 apart is no restart", Restarted(VIEW, 100, 30), views(0, 29), 29, False),
    ("30 apart is", Restarted(VIEW, 100, 30), views(0, 30), 30, True),
    ("a restart followed by more is still one", Restarted(VIEW, 100, 30), views(0, 30, 31, 32), 60, True),
    ("until the restarting event is out", Restarted(VIEW, 100, 30), views(0, 30, 31), 130, False),
    ("the predecessor must be in the history", Restarted(VIEW, 100, 30), views(0, 999_990), 1_000_000, False),
    ("and is at its last millisecond", Restarted(VIEW, 100, 30), views(0, 999_990), 999_999, True),
    ("a late event between undoes a restart", Restarted(VIEW, 100, 30), [event("view", 0), event("view", 30), event("view", 15, received=40)], 50, False),
    # sequence
    ("a then b", Sequence((VIEW, CART), 100), [event("view", 0), event("cart", 1)], 1, True),
    ("b then a", Sequence((VIEW, CART), 100), [event("cart", 0), event("view", 1)], 1, False),
    ("at the same instant is not later", Sequence((VIEW, CART), 100), [event("view", 1), event("cart", 1)], 1, False),
    ("a is out", Sequence((VIEW, CART), 100), [event("view", 0), event("cart", 1)], 100, False),
    ("a is 1 ms inside", Sequence((VIEW, CART), 100), [event("view", 0), event("cart", 1)], 99, True),
    ("the same step twice needs two events", Sequence((VIEW, VIEW), 100), views(0), 1, False),
    ("three steps in order", Sequence((VIEW, CART, ORDER), 100), [event("view", 0), event("cart", 1), event("order", 2)], 9, True),
    ("three steps, the middle one too late", Sequence((VIEW, CART, ORDER), 100), [event("view", 0), event("cart", 2), event("order", 2)], 9, False),
    ("a gap of exactly 10", Sequence((VIEW, CART), 100, 10), [event("view", 0), event("cart", 10)], 10, True),
    ("a gap of 11", Sequence((VIEW, CART), 100, 10), [event("view", 0), event("cart", 11)], 11, False),
    ("the gap counts from any earlier first step", Sequence((VIEW, CART), 100, 10), [event("view", 0), event("view", 5), event("cart", 11)], 11, True),
    ("a chain that must take the later middle", Sequence((VIEW, CART, ORDER), 100, 10), [event("view", 0), event("cart", 3), event("cart", 9), event("order", 18)], 20, True),
    ("without, between", Sequence((VIEW, ORDER), 100, None, CANCEL), [event("view", 0), event("cancel", 1), event("order", 2)], 9, False),
    ("without, at the first step", Sequence((VIEW, ORDER), 100, None, CANCEL), [event("view", 0), event("cancel", 0), event("order", 2)], 9, True),
    ("without, at the last step", Sequence((VIEW, ORDER), 100, None, CANCEL), [event("view", 0), event("cancel", 2), event("order", 2)], 9, True),
    ("without, but a later first step is clean", Sequence((VIEW, ORDER), 100, None, CANCEL), [event("view", 0), event("cancel", 1), event("view", 2), event("order", 3)], 9, True),
    # sequence with quiet: something did not follow
    ("not yet long enough", Sequence((CART,), 100, None, ORDER, 30), [event("cart", 0)], 29, False),
    ("nothing followed", Sequence((CART,), 100, None, ORDER, 30), [event("cart", 0)], 30, True),
    ("the order came at the last instant", Sequence((CART,), 100, None, ORDER, 30), [event("cart", 0), event("order", 30)], 31, False),
    ("the order came 1 ms after", Sequence((CART,), 100, None, ORDER, 30), [event("cart", 0), event("order", 31)], 31, True),
    ("an order at the same instant as the cart is not after it", Sequence((CART,), 100, None, ORDER, 30), [event("cart", 0), event("order", 0)], 30, True),
    ("with two steps an order at the last one counts", Sequence((VIEW, CART), 100, None, ORDER, 30), [event("view", 0), event("cart", 5), event("order", 5)], 40, False),
    ("with two steps and nothing after", Sequence((VIEW, CART), 100, None, ORDER, 30), [event("view", 0), event("cart", 5)], 35, True),
    ("a later cart is still waiting, the earlier one counts", Sequence((CART,), 100, None, ORDER, 30), [event("cart", 0), event("cart", 20)], 30, True),
    ("out of the window", Sequence((CART,), 100, None, ORDER, 30), [event("cart", 0)], 100, False),
    # boolean
    ("not", Not(over("count", ">=", 1)), views(0), 100, True),
    ("and", And((over("count", ">=", 1), Absent(CART, 100))), views(0), 1, True),
    ("and needs all", And((over("count", ">=", 1), Absent(CART, 100))), [*views(0), event("cart", 1)], 1, False),
    ("or needs one", Or((over("count", ">=", 1), Absent(CART, 100))), [*views(0), event("cart", 1)], 1, True),
    ("or with none", Or((over("count", ">=", 5), Absent(CART, 100))), [*views(0), event("cart", 1)], 1, False),
]  # fmt: skip


@pytest.mark.parametrize(
    ("when", "events", "at", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_a_function_holds_as_worked_out_by_hand(
    when: Expression, events: list[Event], at: int, *, expected: bool
) -> None:
    assert holds_at(when, events, at) is expected


def test_a_where_limits_what_a_function_sees() -> None:
    dear = Comparison(
        Measure("count", match("view", FieldComparison("properties.price", ">=", Decimal(100))), 100),
        ">=",
        Decimal(1),
    )
    assert not holds_at(dear, priced((1, 99.999999), (2, None)), 5)
    assert holds_at(dear, priced((1, 100.0)), 5)


def test_in_tag_is_membership_of_the_other_tag() -> None:
    viewed, both = tag(over("count", ">=", 1)), tag(And((InTag("t"), Absent(CART, 100))), name="both")
    engine = oracle(viewed, both)
    engine.apply([batch(event("view", 0))], START + 50)
    assert engine.tags(ANN) == {"t", "both"}
    assert engine.tags(ANN, START + 100) == frozenset()


def test_nobody_unknown_carries_a_tag() -> None:
    engine = oracle(tag(Absent(VIEW, 100)))
    engine.apply([batch(event("cart", 0))], START)
    assert engine.member(ANN, "t")
    assert not engine.member(BEN, "t")
