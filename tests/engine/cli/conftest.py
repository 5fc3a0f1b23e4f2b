"""One run of generated events, shared by the tests of the command line."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from ..runtime.world import wrapping_kernels
from .support import Run, dayfly


@pytest.fixture(scope="session", autouse=True)
def _kernels_wrap() -> Iterator[None]:
    with wrapping_kernels():
        yield


@pytest.fixture(scope="session")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of generated event files."""
    folder = tmp_path_factory.mktemp("generated") / "events"
    assert dayfly("generate", "--out", folder, "--people", 60, "--hours", 12, "--seed", 5).exit_code == 0
    return folder


@pytest.fixture(scope="session")
def run(events: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """What `dayfly run` over these files printed and left."""
    out = tmp_path_factory.mktemp("run") / "out"
    with contextlib.redirect_stderr(io.StringIO()):
        result = dayfly(
            "run", "--json", "--events", *sorted(events.iterdir()), "--policy", Run.POLICY, "--out", out
        )
    assert result.exit_code == 0, result.output
    return Run(out, orjson.loads(result.stdout))
