"""What all tests of the pages need."""

from collections.abc import Iterator

import numpy as np
import pytest


@pytest.fixture(autouse=True, scope="module")
def wrapping_kernels() -> Iterator[None]:
    """Integers wrap in the kernels by design; without the JIT, NumPy would warn of it."""
    with np.errstate(over="ignore"):
        yield
