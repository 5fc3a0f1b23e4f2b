"""Warm start: CPU seconds until an engine stands, with compiled kernels in the cache, beside importing numpy and numba."""

import os
import subprocess
import sys
from typing import Final

from .measuring import median
from .rows import Row

__all__ = ["child_seconds", "main", "run"]

_BARE: Final = "import numpy, numba"
_ENGINE: Final = "from dayfly.bench.start_case import main; main()"


def main() -> None:
    """Build an engine with the bench's policy and let it decide about one event: what the child process does."""
    # The import time of the engine is what is measured, so it must not happen when this module is imported.
    from dayfly.engine.runtime import EngineKeys, MemoryEngine  # noqa: PLC0415 - see above

    from .workload import CHANNEL, START_MS, Stream, bench_policy  # noqa: PLC0415 - see above

    keys = EngineKeys.generate("bench", os.urandom)
    engine = MemoryEngine(bench_policy(50), keys, recipients={}, random_bytes=os.urandom)
    engine.segment(list(Stream(10, 1, 1).payloads()), CHANNEL, START_MS)


def child_seconds(code: str) -> float:
    """CPU seconds, user and system, of a Python process that runs `code`.

    Raises:
        CalledProcessError: It failed.
    """
    before = os.times()
    subprocess.run([sys.executable, "-c", code], check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def run(*, quick: bool) -> list[Row]:
    """One row. The first start is not counted: it may still compile."""
    child_seconds(_ENGINE)
    pairs = [(child_seconds(_BARE), child_seconds(_ENGINE)) for _ in range(2 if quick else 7)]
    bare, engine = (median(seconds) for seconds in zip(*pairs, strict=True))
    return [
        Row(
            suite="realtime",
            case="warm start to the first decision, policy of 50 tags compiled",
            measured=round(engine, 3),
            unit="CPU s",
            peer=f"{_BARE}",
            ratio=round(engine / bare, 2),
            note=f"bare import {bare:.3f} s; kernels from the cache",
        )
    ]
