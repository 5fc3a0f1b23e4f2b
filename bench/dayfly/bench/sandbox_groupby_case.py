"""A bounded, noisy count and sum of many rows by two keys, beside OpenDP's Context and a group-by that protects nobody."""

import multiprocessing
import re
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from dayfly.privacy.sandbox import Sandbox, SandboxQuery, Source

from .measuring import interleaved
from .opendp_environment import INSTALL, PEER, peer_answer
from .rows import Row, at_least, at_most, missing_peer
from .sandbox_budget_case import bench_ledger
from .sandbox_workload import CATEGORIES, CHANNELS, LARGEST, purchases

__all__ = ["run"]

OPENDP_BAR: Final = 100.0
MEMORY_BAR_MB: Final = 200.0
CASE: Final = "count and sum by 1,200 groups"


def run(*, quick: bool) -> list[Row]:
    """Three rows."""
    rows = 1_000_000 if quick else 10_000_000
    bought = purchases(rows, rows // 50)
    table = pa.table({name: getattr(bought, name) for name in ("customer", "channel", "category", "value")})
    del bought
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "purchases.parquet"
        pq.write_table(table, path)
        found = _timed(table, folder)
        memory = _in_new_process(path)
        theirs = peer_answer("group_by", str(path), str(rows))
    ours, polars = found["dayfly"], found["polars"]
    what = f"{CASE}, {rows:,} rows of {rows // 50:,} customers, L0 4, uniform, noise and spend included"
    return [
        _against_opendp(what, ours, theirs),
        Row(
            suite="sandbox",
            case=f"{CASE}: beside a group-by without privacy",
            measured=round(ours, 3),
            unit="CPU s",
            peer="Polars group-by, not private",
            ratio=round(ours / polars, 2),
            note=f"Polars {polars:.3f} CPU s; medians of five; columns in memory, customers coded once before",
            **at_most(ours / polars, 1.0, "x"),
        ),
        Row(
            suite="sandbox",
            case=f"{CASE}: memory beyond the table",
            measured=round(memory, 1),
            unit="MB",
            note="peak resident size of a new process during the release, less that before it",
            **at_most(memory, MEMORY_BAR_MB, "MB"),
        ),
    ]


def _against_opendp(what: str, ours: float, theirs: dict[str, Any] | None) -> Row:
    if theirs is None:
        return missing_peer("sandbox", what, PEER, INSTALL)
    seconds = float(theirs["cpu_seconds"][0])
    return Row(
        suite="sandbox",
        case=what,
        measured=round(ours, 3),
        unit="CPU s",
        peer=PEER,
        ratio=round(seconds / ours, 1),
        note=f"OpenDP {seconds:.1f} CPU s and {theirs['extra_megabytes']:,.0f} MB more; {_versions(theirs)}",
        **at_least(seconds / ours, OPENDP_BAR, "x"),
    )


def _versions(theirs: dict[str, Any]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(theirs["versions"].items()))


def _query(source: Source, folder: Path) -> SandboxQuery:
    sandbox = Sandbox(
        ledger=bench_ledger(folder), sources={"orders": source}, analyst="ann", purpose="marketing"
    )
    return (
        sandbox.query("orders")
        .group_by("channel", keys=range(CHANNELS))
        .group_by("category", keys=range(CATEGORIES))
        .bound(groups_per_customer=4, rows_per_group=10)
        .count()
        .sum("value", lower=0, upper=LARGEST * 10)
    )


def _timed(table: pa.Table, folder: Path) -> dict[str, float]:
    """CPU seconds of the process, because Polars uses several threads. The warm-up round codes the customers."""
    import polars as pl  # noqa: PLC0415 - a peer of the bench, not a dependency

    query = _query(Source(table, customer="customer"), folder)
    frame = pl.DataFrame(pl.from_arrow(table))
    return interleaved(
        {
            "dayfly": lambda: query.release(epsilon=1),
            "polars": lambda: frame.group_by("channel", "category").agg(pl.len(), pl.col("value").sum()),
        },
        rounds=5,
        clock=time.process_time_ns,
    )


def _in_new_process(path: Path) -> float:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return float(pool.apply(_extra_megabytes, (path,)))


def _extra_megabytes(path: Path) -> float:
    """Growth of this process, which has the table and has compiled, during one release."""
    table = pq.read_table(path)
    with tempfile.TemporaryDirectory() as small, tempfile.TemporaryDirectory() as large:
        _query(Source(table.slice(0, 1_000), customer="customer"), Path(small)).release(epsilon=1)
        source = Source(table, customer="customer")
        source.customers()
        query = _query(source, Path(large))
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from now
        before = _status_megabytes("VmRSS")
        query.release(epsilon=1)
        return _status_megabytes("VmHWM") - before


def _status_megabytes(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise OSError(f"field={field} must be in /proc/self/status; run this case on Linux")
    return int(found.group(1)) / 1024
