"""What the tests of the health board share with those of the durable engine."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.durable.shop import Shop
from tests.engine.runtime.world import wrapping_kernels


@pytest.fixture(scope="session", autouse=True)
def _kernels_wrap() -> Iterator[None]:
    with wrapping_kernels():
        yield


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A shop whose engine is not open yet; whatever is open at the end is closed."""
    made = Shop(tmp_path)
    yield made
    if hasattr(made, "engine"):
        made.engine.close()
