"""Raw access for kernels: a byte or eight of them at any place, without the wrap-around test of signed indexes.

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

__all__ = ["INTERPRETED", "MASK64", "first_bit", "i64", "load8", "load64", "stops_of", "store64", "u64"]

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


def _store64() -> Any:
    """An intrinsic `(uint8[:], int64, uint64)` that writes eight bytes, little-endian, at any alignment."""

    def typed(_context: Any, array: Any, index: Any, word: Any) -> Any:  # noqa: ARG001 - numba asks for the names
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            view: Any = make_array(signature.args[0])  # type: ignore[no-untyped-call]  # numba has no types
            data = view(context, builder, arguments[0]).data
            place = cgutils.gep_inbounds(builder, data, arguments[1])  # type: ignore[no-untyped-call]  # numba has no types
            builder.store(arguments[2], builder.bitcast(place, ir.IntType(64).as_pointer()), align=1)
            return context.get_dummy_value()

        return types.void(array, types.int64, types.uint64), generate

    return intrinsic(typed)


def _first_bit() -> Any:
    """An intrinsic `(uint64) -> int64`: position of the lowest bit that is set, counted from 0."""

    def typed(_context: Any, mask: Any) -> Any:  # noqa: ARG001 - numba asks for the name
        def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return builder.cttz(arguments[0], ir.IntType(1)(1))

        return types.int64(types.uint64), generate

    return intrinsic(typed)


def _stops_of() -> Any:
    """An intrinsic `(uint8[:], int64) -> uint64`: which of 64 bytes end a plain run of a JSON string.

    A quote, a backslash, a control character and anything beyond ASCII do; the last two are what is below a space as a
    signed byte. Three comparisons of one vector: a few cycles for 64 bytes with AVX2, and plain SSE2 will do.
    """
    block = ir.VectorType(ir.IntType(8), 64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view: Any = make_array(signature.args[0])  # type: ignore[no-untyped-call]  # numba has no types
        data = view(context, builder, arguments[0]).data
        place = cgutils.gep_inbounds(builder, data, arguments[1])  # type: ignore[no-untyped-call]  # numba has no types
        content = builder.load(builder.bitcast(place, block.as_pointer()), align=1)
        found = [
            builder.icmp_signed(relation, content, ir.Constant(block, [byte] * 64))
            for relation, byte in (("<", 32), ("==", 34), ("==", 92))
        ]
        return builder.bitcast(builder.or_(builder.or_(found[0], found[1]), found[2]), ir.IntType(64))

    def typed(_context: Any, array: Any, index: Any) -> Any:  # noqa: ARG001 - numba asks for the names
        return types.uint64(array, types.int64), generate

    return intrinsic(typed)


def _plain_load8(array: Any, index: int) -> int:
    return int(array[index])


def _plain_load64(array: Any, index: int) -> int:
    return int.from_bytes(bytes(array[index : index + 8]), "little")


def _plain_store64(array: Any, index: int, word: int) -> None:
    array[index : index + 8] = np.frombuffer(word.to_bytes(8, "little"), np.uint8)


def _plain_first_bit(mask: int) -> int:
    return (mask & -mask).bit_length() - 1


def _plain_stops_of(array: Any, index: int) -> int:
    block = array[index : index + 64]
    found = (block < 32) | (block == 34) | (block == 92) | (block > 127)
    return int.from_bytes(np.packbits(found, bitorder="little").tobytes(), "little")


load8: Any = _plain_load8 if INTERPRETED else _load(8)
load64: Any = _plain_load64 if INTERPRETED else _load(64)
store64: Any = _plain_store64 if INTERPRETED else _store64()
first_bit: Any = _plain_first_bit if INTERPRETED else _first_bit()
stops_of: Any = _plain_stops_of if INTERPRETED else _stops_of()
