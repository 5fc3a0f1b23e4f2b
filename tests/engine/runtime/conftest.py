"""What the runtime tests share."""

from collections.abc import Iterator

import pytest

from .world import wrapping_kernels


@pytest.fixture(scope="session", autouse=True)
def _kernels_wrap() -> Iterator[None]:
    with wrapping_kernels():
        yield
