"""A store per test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.sharded.world import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path)
    yield made
    if hasattr(made, "engine"):
        made.engine.close()
