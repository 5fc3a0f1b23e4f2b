"""A handle stands for exactly the arrays of the shard, also after they were replaced."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from dayfly.engine.shard.compile import compile_policy
from dayfly.engine.shard.kernels_core import Core
from dayfly.engine.shard.kernels_handle import core_of
from dayfly.engine.shard.kernels_program import Handle
from dayfly.engine.shard.state import Arrays
from dayfly.privacy._jit import kernel

from .house import policy


@kernel
def seen_through(handle: Handle) -> Core:
    core: Core = core_of(handle)
    return core


def arrays_in(bundle: Any, path: str = "") -> Iterator[tuple[str, npt.NDArray[Any]]]:
    for name, part in zip(bundle._fields, bundle, strict=True):
        if isinstance(part, tuple):
            yield from arrays_in(part, f"{path}{name}.")
        elif name != "handle":
            yield f"{path}{name}", part


def described(core: Core) -> dict[str, tuple[int, tuple[int, ...], str]]:
    return {
        name: (array.ctypes.data if array.size else 0, array.shape, array.dtype.str)
        for name, array in arrays_in(core)
    }


def test_a_handle_names_every_array_with_its_shape_and_type() -> None:
    arrays = Arrays(compile_policy(policy()))
    assert described(seen_through(arrays.handle)) == described(arrays.core)


def test_a_handle_follows_an_array_that_was_replaced() -> None:
    arrays = Arrays(compile_policy(policy()))
    handle, before = arrays.handle, described(arrays.core)["people"]
    arrays.core = arrays.core._replace(people=np.zeros((5_000, 8), np.int64))
    assert arrays.handle is handle
    assert described(seen_through(handle))["people"] == described(arrays.core)["people"] != before
