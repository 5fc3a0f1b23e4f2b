"""What sets lean kernels apart from numba's ordinary functions."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from numba import config

from dayfly.privacy._jit import kernel, lean_kernel

pytestmark = pytest.mark.skipif(
    bool(config.__dict__["DISABLE_JIT"]), reason="interpreted functions index as Python does"
)


@lean_kernel
def lean_element(values: npt.NDArray[np.int64], index: int) -> Any:
    return values[index]


@kernel
def element(values: npt.NDArray[np.int64], index: int) -> Any:
    return values[index]


def test_a_lean_kernel_takes_an_index_as_it_is_and_does_not_count_from_the_end() -> None:
    numbers = np.arange(4)
    assert lean_element(numbers[2:], -1) == 1


def test_other_kernels_count_a_negative_index_from_the_end() -> None:
    numbers = np.arange(4)
    assert element(numbers[2:], -1) == 3
