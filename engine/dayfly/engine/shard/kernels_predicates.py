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
from dayfly.engine.shard.kernels_program import Program, Rows
from dayfly.privacy._jit import inlined_kernel

__all__ = ["compare", "predicate_holds", "text_bit"]

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
def predicate_holds(program: Program, rows: Rows, predicate: int, offset: int, channel: int) -> bool:
    """Whether an event's row (starting at `offset` of `rows.values`) passes a predicate. Absent fields fail every test.

    Oracle: tests.oracles.predicates.holds
    """
    code = program.predicates
    stack = np.uint64(0)
    one = np.uint64(1)
    for at in range(program.predicate_range[predicate, 0], program.predicate_range[predicate, 1]):
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
        truth = True
        if operation == P_CHANNEL_EQ:
            truth = channel == argument
        elif operation != P_TRUE:
            value = rows.values[offset + code[at, 1]]
            if value == NULL:
                truth = False
            elif operation == P_TEXT:
                truth = text_bit(rows.text_bits, value, argument)
            elif operation == P_TEXT_NOT:
                truth = not text_bit(rows.text_bits, value, argument)
            elif operation != P_PRESENT:
                truth = compare(value, operation - P_NUMBER_EQ, argument)
        stack = (stack << one) | (one if truth else np.uint64(0))
    return stack & one != 0
