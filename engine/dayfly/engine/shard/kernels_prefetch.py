"""What numba does not offer: ask the cache for a row before it is needed, and read eight bytes at once from anywhere.

The tables of a shard are far larger than the cache; without prefetching, every update waits for memory
(`reference/kernels.md` measured a factor of three). With the JIT off prefetching is a no-op.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["load_word", "prefetch_row"]


def _nothing(_array: npt.NDArray[np.generic], _row: int) -> None:
    """Interpreted kernels touch memory far more slowly than the cache line takes to come."""


@intrinsic
def _prefetch_row(_context: Any, array: Any, _row: Any) -> Any:
    """Prefetch the first cache line of `array[row]` for reading, keeping it in all cache levels."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, arguments[0])
        row_bytes = cgutils.unpack_tuple(builder, view.strides)[0]  # type: ignore[no-untyped-call]
        byte_pointer = ir.IntType(8).as_pointer()
        address = builder.gep(
            builder.bitcast(view.data, byte_pointer), [builder.mul(arguments[1], row_bytes)]
        )
        word = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte_pointer, word, word, word])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")  # type: ignore[no-untyped-call]
        builder.call(function, [address, word(0), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(array, types.int64), codegen


def _word_at(array: npt.NDArray[np.uint8], at: int) -> np.uint64:
    """Eight bytes from `at` on, the first one lowest."""
    return np.uint64(int.from_bytes(array[at : at + 8].tobytes(), "little"))


@intrinsic
def _load_word(_context: Any, array: Any, _at: Any) -> Any:
    """`_word_at` as one load, which need not be aligned. The caller has made sure that eight bytes are there."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, arguments[0])
        address = builder.bitcast(builder.gep(view.data, [arguments[1]]), ir.IntType(64).as_pointer())
        return builder.load(address, align=1)

    return types.uint64(array, types.int64), codegen


prefetch_row: Any = _nothing if config.__dict__["DISABLE_JIT"] else _prefetch_row

load_word: Any = _word_at if config.__dict__["DISABLE_JIT"] else _load_word
"""Eight bytes of an array of bytes, from any place in it, as uint64."""
