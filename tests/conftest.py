"""Fixtures and profiles that the whole suite shares."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

if os.environ.get("NUMBA_DISABLE_JIT") == "1":
    np.seterr(
        over="ignore"
    )  # interpreted kernels hash with NumPy scalars, which warn where machine integers wrap

collect_ignore_glob = ["fuzz/*_fuzz.py"]  # programs that need atheris; tests run them where it is installed

settings.register_profile("dev", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "ci", max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "brief", max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)  # for kernels as Python, a hundred times slower: the compiled runs look for the rare examples
settings.register_profile(
    "nightly", max_examples=5_000, deadline=None, suppress_health_check=list(HealthCheck)
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the public data sets; a machine without it skips the tests that replay them."""
    configured = os.environ.get("DAYFLY_SHARED_DATA")
    folder = Path(configured) if configured else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"public data sets not found at {folder}; set DAYFLY_SHARED_DATA to their folder")
    return folder


_STARTED = time.monotonic()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Start no slow test once `DAYFLY_TEST_BUDGET_SECONDS` are spent: CI runs a slice of bounded length."""
    budget = os.environ.get("DAYFLY_TEST_BUDGET_SECONDS")
    if budget is None or item.get_closest_marker("slow") is None:
        return
    if time.monotonic() - _STARTED > float(budget):
        pytest.skip(
            f"DAYFLY_TEST_BUDGET_SECONDS={budget} are spent; run `make test-slow` without it for all of them"
        )
