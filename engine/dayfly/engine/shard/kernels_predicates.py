"""Predicates over one event."""

import numpy as np
import numpy.typing as npt

from dayfly.engine.shard.kernels_layout import (
    EQ,
    GT,
    LE,
    LT,
    NE,
    NULL,
    P_AND,
    P_CHANNEL_EQ,
    P_NOT,
    P_NUMBER_EQ,
    P_OR,
    P_PRESENT,
    P_TEXT,
    P_TEXT_NOT,
    P_TRUE,
)
from dayfly.engine.shard.kernels_program import Program
from dayfly.privacy._jit import inlined_kernel

__all__ = ["compare", "predicate_holds", "text_bit"]

Words = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint64]


@inlined_kernel
def compare(left: int, operator: int, right: int) -> bool:
    """`left operator right`."""
    if operator == EQ:
        return left == right
    if operator == NE:
        return left != right
    if operator == LT:
        return left < right
    if operator == LE:
        return left <= right
    if operator == GT:
        return left > right
    return left >= right


@inlined_kernel
def text_bit(bits: Bits, string: int, bit: int) -> bool:
    """Whether an interned string passes a text test of its field."""
    return (bits[string, bit >> 6] >> np.uint64(bit & 63)) & np.uint64(1) != 0


@inlined_kernel
def _passes(test: Words, text_bits: Bits, row: tuple[Words, int], channel: int) -> bool:
    """One test of one field. An absent field fails it."""
    operation, argument = test[0], test[2]
    if operation == P_TRUE:
        return True
    if operation == P_CHANNEL_EQ:
        return channel == argument
    values, offset = row
    value = values[offset + test[1]]
    if value == NULL:
        return False
    if operation == P_TEXT:
        return text_bit(text_bits, value, argument)
    if operation == P_TEXT_NOT:
        return not text_bit(text_bits, value, argument)
    return operation == P_PRESENT or compare(value, operation - P_NUMBER_EQ, argument)


@inlined_kernel
def predicate_holds(
    program: Program, text_bits: Bits, row: tuple[Words, int], predicate: int, channel: int
) -> bool:
    """Whether an event passes a predicate. Absent fields fail every test.

    Args:
        program: The compiled policy.
        text_bits: Answers of the text tests, see `Rows`.
        row: The event's values: an array, and where they start in it.
        predicate: Its number.
        channel: The event's channel.

    Oracle: tests.oracles.predicates.passes
    """
    code = program.predicates
    start, end = program.predicate_range[predicate, 0], program.predicate_range[predicate, 1]
    if end == start + 1:  # most predicates are one test
        return _passes(code[start], text_bits, row, channel)
    stack = np.uint64(0)
    one = np.uint64(1)
    for at in range(start, end):
        operation = code[at, 0]
        argument = code[at, 2]
        if operation == P_NOT:
            stack ^= one
            continue
        if operation == P_AND or operation == P_OR:
            mask = (one << np.uint64(argument)) - one
            top = stack & mask
            result = (top == mask) if operation == P_AND else (top != np.uint64(0))
            stack = ((stack >> np.uint64(argument)) << one) | (one if result else np.uint64(0))
            continue
        truth = _passes(code[at], text_bits, row, channel)
        stack = (stack << one) | (one if truth else np.uint64(0))
    return stack & one != 0
