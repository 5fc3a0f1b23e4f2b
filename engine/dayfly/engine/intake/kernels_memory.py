"""Raw loads for kernels: a byte or eight of them from any place, without the wrap-around test of signed indexes.

With `NUMBA_DISABLE_JIT=1` the same names are plain Python over Python integers, so that 64-bit sums are cut by a mask
instead of overflowing.
"""

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

__all__ = ["INTERPRETED", "MASK64", "first_byte", "i64", "load8", "load64", "u64"]

INTERPRETED: Final[bool] = bool(getattr(config, "DISABLE_JIT", 0))

u64: Any = int if INTERPRETED else np.uint64
"""An unsigned 64-bit number inside kernels; without the compiler a Python integer."""


def _plain_i64(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


i64: Any = _plain_i64 if INTERPRETED else np.int64
"""The same 64 bits as a signed number."""

MASK64: Any = u64(0xFFFFFFFFFFFFFFFF)


def _load(bits: int) -> Any:
    """An intrinsic `(uint8[:], int64) -> integer` that reads `bits` bits, little-endian, at any alignment."""
    result = types.int64 if bits == 8 else types.uint64

    def typed(_context: Any, array: Any, index: Any) -> Any:  # noqa: ARG001 - numba asks for the name
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            view: Any = make_array(signature.args[0])  # type: ignore[no-untyped-call]  # numba has no types
            data = view(context, builder, arguments[0]).data
            place = cgutils.gep_inbounds(builder, data, arguments[1])  # type: ignore[no-untyped-call]  # numba has no types
            value = builder.load(builder.bitcast(place, ir.IntType(bits).as_pointer()), align=1)
            return value if bits == 64 else builder.zext(value, ir.IntType(64))

        return result(array, types.int64), generate

    return intrinsic(typed)


def _first_byte() -> Any:
    """An intrinsic `(uint64) -> int64`: position of the lowest byte that has a bit set, counted from 0."""

    def typed(_context: Any, mask: Any) -> Any:  # noqa: ARG001 - numba asks for the name
        def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            zeros = builder.cttz(arguments[0], ir.IntType(1)(1))
            return builder.lshr(zeros, ir.IntType(64)(3))

        return types.int64(types.uint64), generate

    return intrinsic(typed)


def _plain_first_byte(mask: int) -> int:
    return ((mask & -mask).bit_length() - 1) >> 3


def _plain_load8(array: Any, index: int) -> int:
    return int(array[index])


def _plain_load64(array: Any, index: int) -> int:
    return int.from_bytes(bytes(array[index : index + 8]), "little")


load8: Any = _plain_load8 if INTERPRETED else _load(8)
load64: Any = _plain_load64 if INTERPRETED else _load(64)
first_byte: Any = _plain_first_byte if INTERPRETED else _first_byte()
