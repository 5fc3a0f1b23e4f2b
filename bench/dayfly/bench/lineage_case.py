"""Lineage: bytes per fragment of eight fields, and the time of one explanation from a store on disk."""

import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from dayfly.engine.lineage import (
    ConsentUse,
    FieldEvidence,
    LineageBlock,
    LineageShape,
    LineageStore,
    RuleText,
    ShapeField,
    SourceColumn,
    SourceEvent,
    decode,
    encode,
    make_block,
)
from dayfly.privacy.fragments import ConsentRef, FragmentOrder, OrderField, RuleRef

__all__ = ["bench_block", "bench_order", "bench_shape", "run"]

MAX_BLOCK_BYTES: Final = 250
MAX_EXPLAIN_MS: Final = 1.0
FIELDS: Final = 8
EVENTS: Final = 7
STORED: Final = 20_000
NOW_MS: Final = 1_795_358_400_123
HOUR_MS: Final = 3_600_000


def run(*, quick: bool = False) -> list[dict[str, object]]:
    """Rows of the realtime suite; `quick` keeps fewer fragments in the store."""
    shape, block = bench_shape(), bench_block(bench_shape())
    encoded = encode(block)
    write_us = 1_000 * _median_ms(lambda: encode(block), calls=2_000)
    read_us = 1_000 * _median_ms(lambda: decode(encoded), calls=2_000)
    stored = STORED // 10 if quick else STORED
    with tempfile.TemporaryDirectory() as folder:
        explain_ms = _explain_ms(Path(folder) / "lineage", shape, encoded, stored)
    return [
        _row(
            "lineage bytes per fragment of eight fields, three rules, seven events over a day",
            len(encoded),
            "bytes",
            MAX_BLOCK_BYTES,
            f"write {write_us:.1f} µs, read and check {read_us:.1f} µs",
        ),
        _row(
            "explain one field",
            round(explain_ms, 4),
            "ms",
            MAX_EXPLAIN_MS,
            f"median, {stored} fragments in a file",
        ),
    ]


def _row(case: str, measured: float, unit: str, bar: float, note: str) -> dict[str, object]:
    return {
        "suite": "realtime",
        "case": case,
        "measured": measured,
        "unit": unit,
        "peer": None,
        "ratio": None,
        "bar": f"<= {bar:g} {unit}",
        "holds": measured <= bar,
        "note": note,
    }


def bench_shape() -> LineageShape:
    """Three rules, eight fields, five channels."""
    rules = (
        RuleText("trigger", "advise-on-sofa-materials", 3, "when: tag comparing-sofa-materials"),
        RuleText(
            "tag",
            "comparing-sofa-materials",
            4,
            'distinct("Product Viewed", properties.material, within: 7d) >= 3',
        ),
        RuleText(
            "measure",
            "comparing-sofa-materials.dearest",
            4,
            'max("Product Viewed", properties.price, within: 7d)',
        ),
    )
    columns = (
        SourceColumn("Product Viewed", "material", "value"),
        SourceColumn("Product Viewed", None, "window"),
    )
    fields = tuple(
        ShapeField(f"field_{number}", (1 + number % 2,), "keep", "behaviour", columns)
        for number in range(FIELDS)
    )
    return LineageShape(rules, fields, ("app", "web", "wifi", "marketplace", "hotline"))


def bench_block(shape: LineageShape) -> LineageBlock:
    """Evidence of seven events over a day."""
    events = [
        SourceEvent(
            hashlib.blake2b(bytes([number]), digest_size=16).digest(),
            number % 2,
            NOW_MS - number * 4 * HOUR_MS - 1_234,
            NOW_MS - number * 4 * HOUR_MS - 1_111,
        )
        for number in range(EVENTS)
    ]
    consent = ConsentUse(
        "o:9f86d081884c7d659a2feaa0c55ad015", 3, NOW_MS - 40 * 24 * HOUR_MS, NOW_MS + 300 * 24 * HOUR_MS
    )
    fields = {
        f"field_{number}": FieldEvidence(events[number % 3 :], total=40 + number) for number in range(FIELDS)
    }
    return make_block(shape, as_of_ms=NOW_MS, consents=(consent,), fields=fields)


def bench_order(number: int, block: bytes, *, issued_at_ms: int = NOW_MS) -> FragmentOrder:
    """The order of a fragment, each for a person of its own."""
    return FragmentOrder(
        order_id=f"order-{number}",
        audience="crm-cn-1",
        purpose="service.recommendation",
        topic="furniture.sofa",
        trigger_id=number.to_bytes(16, "little"),
        rule=RuleRef("advise-on-sofa-materials", 3),
        fields=tuple(OrderField(f"field_{position}", "held") for position in range(FIELDS)),
        subject=number.to_bytes(16, "big"),
        consent=(ConsentRef("o:9f86d081884c7d659a2feaa0c55ad015", 3, NOW_MS + 300 * 24 * HOUR_MS),),
        issued_at_ms=issued_at_ms,
        expires_at_ms=issued_at_ms + 1_800_000,
        lineage=block,
    )


def _explain_ms(path: Path, shape: LineageShape, encoded: bytes, stored: int) -> float:
    store = LineageStore.open(path, subject_key=b"bench-subject-key")
    try:
        store.declare([shape])
        for number in range(stored):
            store.put(f"fragment-{number}", bench_order(number, encoded))
        jtis = iter(range(0, stored * 997, 997))
        return _median_ms(
            lambda: store.explain(f"fragment-{next(jtis) % stored}", "field_3"), calls=stored // 40
        )
    finally:
        store.close()


def _median_ms(call: Callable[[], object], *, calls: int, rounds: int = 7) -> float:
    """Median over rounds of CPU milliseconds per call, after a round of warm-up."""
    times = []
    for _ in range(rounds + 1):
        begin = time.thread_time_ns()
        for _ in range(calls):
            call()
        times.append((time.thread_time_ns() - begin) / calls / 1e6)
    return statistics.median(times[1:])
