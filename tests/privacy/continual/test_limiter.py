"""The limiter against a dictionary, and its bounds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.privacy.continual import Participation, ParticipationLimiter
from dayfly.privacy.errors import InvalidArgument, StreamOrder

streams = st.lists(
    st.tuples(st.integers(0, 3), st.lists(st.integers(-3, 3), max_size=6)), min_size=1, max_size=15
)


def admitted(part: Participation, stream: list[tuple[int, list[int]]]) -> list[tuple[int, int]]:
    """(step, customer) of each row let through."""
    limiter, step, found = ParticipationLimiter(part), 0, []
    for gap, customers in stream:
        step += gap
        kept = limiter.admit(step, np.array(customers, np.int64))
        found += [(step, customer) for customer, keep in zip(customers, kept, strict=True) if keep]
    return found


@given(stream=streams, steps=st.integers(1, 3), separation=st.integers(1, 4))
def test_rows_are_let_through_as_a_dictionary_would(
    stream: list[tuple[int, list[int]]], steps: int, separation: int
) -> None:
    taken: dict[int, list[int]] = {}
    expected, step = [], 0
    for gap, customers in stream:
        step += gap
        for customer in customers:
            past = taken.setdefault(customer, [])
            if step not in past and len(past) < steps and (not past or step - past[-1] >= separation):
                past.append(step)
            if step in past:
                expected.append((step, customer))
    assert admitted(Participation(steps=steps, min_separation=separation), stream) == expected


@given(stream=streams, steps=st.integers(1, 3), separation=st.integers(1, 4))
def test_leaving_out_a_customer_changes_nobody_elses_rows(
    stream: list[tuple[int, list[int]]], steps: int, separation: int
) -> None:
    part = Participation(steps=steps, min_separation=separation)
    without = [(gap, [one for one in customers if one != 0]) for gap, customers in stream]
    assert admitted(part, without) == [row for row in admitted(part, stream) if row[1] != 0]


def test_a_retry_of_the_same_step_lets_the_same_customers_through_and_counts_once() -> None:
    limiter = ParticipationLimiter(Participation(steps=2))
    rows = np.array([5, 5, 9])
    assert limiter.admit(0, rows).tolist() == limiter.admit(0, rows).tolist() == [True, True, True]
    assert limiter.admit(1, rows).tolist() == [True, True, True]
    assert limiter.admit(2, rows).tolist() == [False, False, False]
    assert len(limiter) == 2


def test_a_restored_limiter_remembers_who_took_part() -> None:
    limiter = ParticipationLimiter(Participation(steps=1))
    limiter.admit(3, np.array([7]))
    restored = ParticipationLimiter.restored(limiter.participation, *limiter.state())
    assert restored.admit(4, np.array([7, 8])).tolist() == [False, True]


def test_going_back_a_step_is_refused() -> None:
    limiter = ParticipationLimiter(Participation())
    limiter.admit(3, np.array([7]))
    with pytest.raises(StreamOrder, match="step=2 must be >= 3"):
        limiter.admit(2, np.array([7]))
    with pytest.raises(InvalidArgument, match="step=-1 must be >= 0"):
        limiter.admit(-1, np.array([7]))


@pytest.mark.parametrize("customers", [np.array([1.0]), np.array([[1]]), [1], np.array(["a"])])
def test_ids_of_another_type_are_refused(customers: object) -> None:
    with pytest.raises(InvalidArgument, match=r"customers=.* must be a one-dimensional int64 array"):
        ParticipationLimiter(Participation()).admit(0, customers)  # type: ignore[arg-type]
