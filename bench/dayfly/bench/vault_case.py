"""The lineage vault: what keeping a fragment's lineage costs, and the time of one explanation over millions of records."""

import os
import random
import tempfile
import time
from pathlib import Path
from typing import Final

from dayfly.engine.lineage import encode
from dayfly.engine.lineage.vault import LineageVault
from dayfly.privacy.keys import MemoryKeys

from .lineage_case import bench_block, bench_order, bench_shape
from .measuring import percentiles
from .rows import Row, at_most

__all__ = ["run"]

PUT_BAR_US: Final = 30.0
EXPLAIN_BAR_MS: Final = 5.0
DAYS: Final = 30
DAY_MS: Final = 86_400_000
START_MS: Final = 1_795_358_400_123 // DAY_MS * DAY_MS
STRIDE: Final = 20_000
EXPLAINED: Final = 5_000


def run(*, quick: bool) -> list[Row]:
    """Two rows: processor time of a put, and the 99th percentile of an explanation, both over 30 daily periods."""
    records = 60_000 if quick else 10_000_000
    shape = bench_shape()
    encoded = encode(bench_block(shape))
    with tempfile.TemporaryDirectory(dir=os.environ.get("DAYFLY_BENCH_DIR")) as folder:
        vault = LineageVault(
            Path(folder) / "lineage.db",
            keys=MemoryKeys(random_bytes=os.urandom, now_ms=lambda: START_MS),
            subject_key=bytes(32),
            tenant=b"bench".ljust(16, b"-"),
            random_bytes=os.urandom,
        )
        vault.declare([shape])
        put_us = [_stride_us(vault, encoded, start, records) for start in range(0, records, STRIDE)]
        vault.sync()
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        explain_s = _explained(vault, records)
        vault.close()
    whole, late = sum(put_us) / len(put_us), sum(put_us[-len(put_us) // 10 :]) / -(-len(put_us) // 10)
    shown = {name: seconds * 1_000 for name, seconds in percentiles(explain_s).items()}
    return [
        Row(
            suite="durable",
            case="lineage vault: one put, processor time with its share of the commits",
            measured=round(whole, 1),
            unit="us",
            note=f"{records:,} records over {DAYS} days, {size / records:.0f} bytes each on disk; the last tenth {late:.1f} us",
            **at_most(whole, PUT_BAR_US, "us"),
        ),
        Row(
            suite="durable",
            case=f"explain one field over {records:,} records, p99",
            measured=round(shown["p99"], 3),
            unit="ms",
            note=", ".join(f"{name} {shown[name]:.3f}" for name in ("p50", "p99", "p99.9", "max"))
            + " ms, random records",
            **at_most(shown["p99"], EXPLAIN_BAR_MS, "ms"),
        ),
    ]


def _stride_us(vault: LineageVault, encoded: bytes, start: int, records: int) -> float:
    """Microseconds per put of one stride of records."""
    orders = [
        (
            f"fragment-{number}",
            bench_order(number, encoded, issued_at_ms=START_MS + DAYS * DAY_MS * number // records),
        )
        for number in range(start, min(start + STRIDE, records))
    ]
    begin = time.process_time_ns()
    for jti, order in orders:
        vault.put(jti, order)
    return (time.process_time_ns() - begin) / len(orders) / 1_000


def _explained(vault: LineageVault, records: int) -> list[float]:
    """Seconds of explanations of random records."""
    draw = random.Random(1)
    times = []
    for _ in range(EXPLAINED):
        jti = f"fragment-{draw.randrange(records)}"
        begin = time.perf_counter()
        vault.explain(jti, "field_3")
        times.append(time.perf_counter() - begin)
    return times
