"""One number: calibration, durable spend and noise, beside OpenDP's Context."""

import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np

from dayfly.privacy.sandbox import Sandbox, Source

from .measuring import median, percentiles
from .opendp_environment import INSTALL, PEER, peer_answer
from .rows import Row, at_least, at_most, missing_peer
from .sandbox_budget_case import bench_ledger

__all__ = ["run"]

P50_BAR_MS: Final = 1.0
OPENDP_BAR: Final = 500.0
ROWS: Final = 1_000
WARM_UP: Final = 20


def run(*, quick: bool) -> list[Row]:
    """Two rows."""
    times, cpu = _milliseconds(200 if quick else 2_000)
    found = percentiles(times)
    case = f"one scalar release of {ROWS:,} rows, calibration and durable spend included"
    rows = [
        Row(
            suite="sandbox",
            case=case,
            measured=round(found["p50"], 3),
            unit="ms, p50",
            note=f"p99 {found['p99']:.2f} ms, wall; CPU p50 {median(cpu):.2f} ms; each release with an epsilon of its own, so nothing is kept from the last",
            **at_most(found["p50"], P50_BAR_MS, "ms"),
        )
    ]
    theirs = peer_answer("scalar", "3" if quick else "10")
    if theirs is None:
        return [*rows, missing_peer("sandbox", f"{case}: beside OpenDP", PEER, INSTALL)]
    milliseconds = 1_000 * median(theirs["cpu_seconds"])
    return [
        *rows,
        Row(
            suite="sandbox",
            case=f"{case}: beside OpenDP",
            measured=round(found["p50"], 3),
            unit="ms, p50",
            peer=PEER,
            ratio=round(milliseconds / found["p50"]),
            note=f"OpenDP {milliseconds:.0f} ms of CPU for a count of three rows, nothing durable; ours is wall time",
            **at_least(milliseconds / found["p50"], OPENDP_BAR, "x"),
        ),
    ]


def _milliseconds(releases: int) -> tuple[list[float], list[float]]:
    """Wall and CPU time of each release."""
    columns = {"customer": np.arange(ROWS) // 4, "value": np.arange(ROWS) % 10}
    times, cpu = [], []
    with tempfile.TemporaryDirectory() as folder:
        sandbox = Sandbox(
            ledger=bench_ledger(Path(folder)),
            sources={"orders": Source(columns, customer="customer")},
            analyst="ann",
            purpose="marketing",
        )
        query = sandbox.query("orders").bound(rows_per_group=4).count()
        for number in range(releases + WARM_UP):
            begin, begin_cpu = time.perf_counter_ns(), time.thread_time_ns()
            query.release(epsilon=f"{1_000 + number}/1000000")
            times.append((time.perf_counter_ns() - begin) / 1e6)
            cpu.append((time.thread_time_ns() - begin_cpu) / 1e6)
    return times[WARM_UP:], cpu[WARM_UP:]
