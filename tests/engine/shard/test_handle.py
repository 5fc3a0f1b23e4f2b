"""A handle stands for exactly the arrays of the shard, also after they were replaced.

That compiled kernels read it in the same order is what every other test of the shard shows. It cannot be shown by a kernel that
returns the `Core`: only kernels without reference counting may call `core_of`.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from numba import config

from dayfly.engine.shard.compile import compile_policy
from dayfly.engine.shard.kernels_core import Core
from dayfly.engine.shard.kernels_handle import core_of
from dayfly.engine.shard.state import Arrays

from .house import policy

INTERPRETED = bool(config.__dict__["DISABLE_JIT"])


def arrays_in(bundle: Any) -> Iterator[npt.NDArray[Any]]:
    for name, part in zip(bundle._fields, bundle, strict=True):
        if isinstance(part, tuple):
            yield from arrays_in(part)
        elif name != "handle":
            yield part


def addresses(core: Core) -> list[list[int]]:
    return [[array.ctypes.data, len(array), array.shape[-1]] for array in arrays_in(core)]


@pytest.mark.skipif(INTERPRETED, reason="there are no addresses with the JIT off")
def test_a_handle_holds_the_address_and_shape_of_every_array() -> None:
    arrays = Arrays(compile_policy(policy()))
    assert arrays.handle.tolist() == addresses(arrays.core)


@pytest.mark.skipif(INTERPRETED, reason="there are no addresses with the JIT off")
def test_a_handle_follows_an_array_that_was_replaced() -> None:
    arrays = Arrays(compile_policy(policy()))
    handle, before = arrays.handle, arrays.handle.copy()
    arrays.core = arrays.core._replace(people=np.zeros((5_000, 8), np.int64))
    assert arrays.handle is handle
    assert handle.tolist() == addresses(arrays.core)
    assert (handle != before).any(axis=1).sum() == 1


@pytest.mark.skipif(not INTERPRETED, reason="a compiled handle holds addresses")
def test_an_interpreted_handle_holds_the_arrays_in_force() -> None:
    arrays = Arrays(compile_policy(policy()))
    arrays.core = arrays.core._replace(people=np.zeros((5_000, 8), np.int64))
    assert core_of(arrays.handle) is arrays.core
