"""All arrays of a shard as one argument.

From Python, numba unboxes every array of an argument at each call: 10 us for a `Core`. Between compiled functions that are
not inlined, a bundle is copied word by word: 4 KB for a `Core`. So a kernel that is called takes a `Handle`, a table of
addresses (0.2 us), and names the arrays again with `core_of`. That costs nothing: what a kernel does not use is never loaded,
and the widths of rows become constants.

Whoever owns the arrays keeps the handle beside them and fills it again when one was replaced (`fill_handle`). With the
JIT off there are no addresses: a handle is a list with the `Core` in it.
"""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import config, types
from numba.extending import intrinsic
from numba.np.arrayobj import np_cfarray

from dayfly.engine.shard.kernels_core import Core
from dayfly.engine.shard.kernels_lines import Lines
from dayfly.engine.shard.kernels_people import Ids
from dayfly.engine.shard.kernels_program import Handle, Program, Rows, World
from dayfly.privacy._jit import inlined_kernel

__all__ = ["core_of", "empty_handle", "fill_handle"]

_INTERPRETED: Final = bool(config.__dict__["DISABLE_JIT"])
_ARRAYS: Final = 46
_ADDRESS, _ROWS, _COLUMNS = 0, 1, 2


def empty_handle() -> Handle:
    """A handle to be filled."""
    return [] if _INTERPRETED else np.zeros((_ARRAYS, 3), np.int64)


def fill_handle(handle: Handle, core: Core) -> None:
    """Have a handle stand for `core`; whoever holds the handle must keep `core` alive."""
    if _INTERPRETED:
        handle[:] = [core]
        return
    rows = [(array.__array_interface__["data"][0], len(array), array.shape[-1]) for array in _arrays_of(core)]
    handle[:] = rows


def _arrays_of(bundle: tuple[Any, ...]) -> Iterator[npt.NDArray[Any]]:
    """All arrays of nested bundles in the order of their fields, which is the order in which `_core_at` numbers them."""
    for name, part in zip(type(bundle)._fields, bundle, strict=True):  # type: ignore[attr-defined]
        if name == "handle":
            continue
        if isinstance(part, tuple):
            yield from _arrays_of(part)
        else:
            assert part.flags.c_contiguous, name
            yield part


def _array_maker(cell: Any, dimensions: int) -> Any:
    """An intrinsic that makes an array from its address and its shape.

    numba's own `carray` would do, but a function compiled without reference counting may not return an array.
    """
    array = types.Array(cell, dimensions, "C")
    sizes = types.UniTuple(types.intp, dimensions)  # type: ignore[no-untyped-call]

    @intrinsic
    def array_at(_context: Any, _address: Any, _shape: Any) -> Any:
        def codegen(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            pointer = builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())
            return np_cfarray(context, builder, array(types.voidptr, sizes), (pointer, arguments[1]))  # type: ignore[no-untyped-call]

        return array(types.int64, sizes), codegen

    return array_at


_words, _word_rows = _array_maker(types.int64, 1), _array_maker(types.int64, 2)
_bits, _bit_rows = _array_maker(types.uint64, 1), _array_maker(types.uint64, 2)


@inlined_kernel
def _program_at(handle: Handle) -> Program:
    return Program(
        predicates=_word_rows(handle[0, _ADDRESS], (handle[0, _ROWS], 4)),
        predicate_range=_word_rows(handle[1, _ADDRESS], (handle[1, _ROWS], 2)),
        features=_word_rows(handle[2, _ADDRESS], (handle[2, _ROWS], 8)),
        type_features=_word_rows(handle[3, _ADDRESS], (handle[3, _ROWS], 3)),
        windows=_word_rows(handle[4, _ADDRESS], (handle[4, _ROWS], 3)),
        edges=_word_rows(handle[5, _ADDRESS], (handle[5, _ROWS], 2)),
        edge_tags=_words(handle[6, _ADDRESS], (handle[6, _ROWS],)),
        always=_word_rows(handle[7, _ADDRESS], (handle[7, _ROWS], 6)),
        leaves=_word_rows(handle[8, _ADDRESS], (handle[8, _ROWS], 12)),
        steps=_words(handle[9, _ADDRESS], (handle[9, _ROWS],)),
        code=_word_rows(handle[10, _ADDRESS], (handle[10, _ROWS], 2)),
        tags=_word_rows(handle[11, _ADDRESS], (handle[11, _ROWS], 9)),
        dependents=_words(handle[12, _ADDRESS], (handle[12, _ROWS],)),
        reads=_words(handle[13, _ADDRESS], (handle[13, _ROWS],)),
        tag_triggers=_word_rows(handle[14, _ADDRESS], (handle[14, _ROWS], 2)),
        triggers=_word_rows(handle[15, _ADDRESS], (handle[15, _ROWS], 4)),
        type_triggers=_word_rows(handle[16, _ADDRESS], (handle[16, _ROWS], 2)),
        channel_bit=_words(handle[17, _ADDRESS], (handle[17, _ROWS],)),
        scalars=_words(handle[18, _ADDRESS], (handle[18, _ROWS],)),
    )


@inlined_kernel
def _core_at(handle: Handle) -> Core:
    lines = Lines(
        table=_word_rows(handle[19, _ADDRESS], (handle[19, _ROWS], 8)),
        flat=_words(handle[20, _ADDRESS], (handle[20, _ROWS],)),
        arena=_words(handle[21, _ADDRESS], (handle[21, _ROWS],)),
        free=_words(handle[22, _ADDRESS], (handle[22, _ROWS],)),
        meta=_words(handle[23, _ADDRESS], (handle[23, _ROWS],)),
    )
    rows = Rows(
        values=_words(handle[24, _ADDRESS], (handle[24, _ROWS],)),
        text_bits=_bit_rows(handle[25, _ADDRESS], (handle[25, _ROWS], handle[25, _COLUMNS])),
    )
    world = World(
        program=_program_at(handle),
        lines=lines,
        rows=rows,
        members=_word_rows(handle[26, _ADDRESS], (handle[26, _ROWS], 8)),
        meta=_words(handle[27, _ADDRESS], (handle[27, _ROWS],)),
        scratch=_words(handle[28, _ADDRESS], (handle[28, _ROWS],)),
        spans=_word_rows(handle[29, _ADDRESS], (handle[29, _ROWS], 5)),
        handle=handle,
    )
    return Core(
        world=world,
        ids=Ids(
            _bit_rows(handle[30, _ADDRESS], (handle[30, _ROWS], 4)),
            _word_rows(handle[31, _ADDRESS], (handle[31, _ROWS], 4)),
            _words(handle[32, _ADDRESS], (handle[32, _ROWS],)),
        ),
        seen=Ids(
            _bit_rows(handle[33, _ADDRESS], (handle[33, _ROWS], 4)),
            _word_rows(handle[34, _ADDRESS], (handle[34, _ROWS], 4)),
            _words(handle[35, _ADDRESS], (handle[35, _ROWS],)),
        ),
        people=_word_rows(handle[36, _ADDRESS], (handle[36, _ROWS], 8)),
        names=_bit_rows(handle[37, _ADDRESS], (handle[37, _ROWS], 2)),
        masks=_bit_rows(handle[38, _ADDRESS], (handle[38, _ROWS], handle[38, _COLUMNS])),
        history=_word_rows(handle[39, _ADDRESS], (handle[39, _ROWS], 8)),
        heap=_word_rows(handle[40, _ADDRESS], (handle[40, _ROWS], 2)),
        marks=_bits(handle[41, _ADDRESS], (handle[41, _ROWS],)),
        matched=_word_rows(handle[42, _ADDRESS], (handle[42, _ROWS], handle[42, _COLUMNS])),
        emitted=_word_rows(handle[43, _ADDRESS], (handle[43, _ROWS], 6)),
        fired=_word_rows(handle[44, _ADDRESS], (handle[44, _ROWS], 4)),
        control=_words(handle[45, _ADDRESS], (handle[45, _ROWS],)),
    )


def _core_in(handle: Handle) -> Core:
    core: Core = handle[0]
    return core


core_of: Any = _core_in if _INTERPRETED else _core_at
"""The arrays that a handle stands for. Only for lean and inlined kernels: one that counts references would give back a reference to
the handle that was never taken, which corrupts the heap."""
