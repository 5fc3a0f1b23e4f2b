"""The stream and the rules that the realtime cases share: a furniture shop's `track` calls, and intent tags over them.

Seven event types, calls of about 380 bytes, customers by a Zipf law with exponent 1.05 flattened at the top (rank + 100, so
that the busiest of a million customers makes about one call in a thousand, not one in ten). Tags are a fixed mix per fifty:
30 count thresholds (ten of them conjunctions of two), 8 distinct, 4 sums, 4 sequences with an exclusion, 4 counts joined
with an absence. All of it is something that the plain-Python peer can do too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from dayfly.engine.inputs import ConsentGiven
from dayfly.engine.policy.load import policy_from_documents
from dayfly.engine.policy.model import Policy
from dayfly.privacy.consent import ConsentRecord, ConsentState, Scope, Terms, UseBudget

__all__ = [
    "AUDIENCE",
    "CHANNEL",
    "HOUR_MS",
    "MINTING",
    "START_MS",
    "Batch",
    "Stream",
    "bench_policy",
    "grants",
    "tag_texts",
    "user_id",
]

START_MS: Final = 1_795_000_000_000
"""2026-11-18, the first instant of every stream."""

HOUR_MS: Final = 3_600_000
CHANNEL: Final = "app"
AUDIENCE: Final = "crm-7"
PURPOSE: Final = "service.recommendation"
MINTING: Final = b'"event":"Install Service Tapped"'
"""Bytes that only calls have which fire the trigger of `bench_policy(..., minting=True)`."""

ZIPF_EXPONENT: Final = 1.05
ZIPF_OFFSET: Final = 100
LATE_SHARE: Final = 0.02

_TYPES: Final[Mapping[str, tuple[float, Mapping[str, str]]]] = {
    "Product Viewed": (
        0.50,
        {"product_id": "string", "category": "string", "material": "string", "price": "number"},
    ),
    "Product Searched": (0.25, {"query": "string", "category": "string", "results": "number"}),
    "Product Added": (
        0.12,
        {"product_id": "string", "category": "string", "price": "number", "quantity": "number"},
    ),
    "Checkout Started": (0.06, {"cart_id": "string", "total": "number", "items": "number"}),
    "Order Completed": (0.04, {"order_id": "string", "total": "number", "category": "string"}),
    "Order Cancelled": (0.02, {"order_id": "string", "reason": "string"}),
    "Install Service Tapped": (0.01, {"sku": "string", "order_id": "string"}),
}
_CATEGORIES: Final = ("sofa", "bed", "storage", "table", "kitchen", "lighting", "kids", "garden")
_MATERIALS: Final = ("leather", "fabric", "velvet", "oak", "pine", "steel")
_QUERIES: Final = (
    "小户型收纳",
    "small flat storage",
    "leather sofa",
    "velvet sofa bed",
    "oak table",
    "children bed",
    "kitchen light",
    "garden chair",
)
_REASONS: Final = ("too late", "changed my mind", "found cheaper")
_WINDOWS: Final = ("1h", "1d", "3d", "7d")

_COUNTED: Final = (
    *(f'"{name}"' for name in _TYPES),
    *(f'"Product Viewed", where: properties.category == "{name}"' for name in _CATEGORIES),
    *(
        f'"Product Searched", where: properties.query.contains("{word}")'
        for word in ("收纳", "sofa", "oak", "bed")
    ),
    *(f'"Product Added", where: properties.category == "{name}"' for name in _CATEGORIES[:4]),
    '"Product Viewed", where: properties.price >= 2000',
    '"Product Added", where: properties.price >= 1000',
    '"Order Completed", where: properties.total >= 3000',
)
"""26 counted features."""


Batch: TypeAlias = tuple[list[bytes], int]
"""Payloads received together, and when."""


# --- rules ------------------------------------------------------------------------------------------------------------


def tag_texts(count: int) -> tuple[str, ...]:
    """Conditions of `count` tags; every fifty have the same mix, with other thresholds and windows."""
    return tuple(_tag_text(number % 50, number // 50) for number in range(count))


def _count(which: int) -> str:
    counted, window = _COUNTED[which % len(_COUNTED)], _WINDOWS[(which + which // len(_COUNTED)) % 4]
    return f"count({counted}, within: {window}) > {2 + (which * 3 + which // 104) % 10}"


def _tag_text(kind: int, turn: int) -> str:
    window = _WINDOWS[1 + (kind + turn) % 3]
    if kind < 20:
        return _count(50 * turn + kind)
    if kind < 30:
        return f"{_count(50 * turn + kind)} && {_count(50 * turn + kind + 37)}"
    if kind < 36:
        field, least = ("material", 5) if kind % 2 else ("category", 6)
        return f'distinct("Product Viewed", properties.{field}, within: {window}) >= {least + turn % 2}'
    if kind < 38:
        return f'distinct("Product Searched", properties.query, within: {window}) >= {5 + (kind + turn) % 3}'
    if kind < 42:
        event, field = (("Order Completed", "total"), ("Product Added", "price"))[kind % 2]
        return f'sum("{event}", properties.{field}, within: {window}) > {12_000 + 6_000 * (kind - 38) + 900 * turn}'
    if kind < 46:
        first, then = (("Product Added", "Checkout Started"), ("Product Searched", "Product Added"))[kind % 2]
        step = f'"{first}"'
        if kind >= 44:
            first, then = "Product Added", "Checkout Started"
            step = f'event("{first}", where: properties.category == "{_CATEGORIES[(kind + turn) % 8]}")'
        return f'sequence([{step}, "{then}"], within: {window}, without: "Order Completed")'
    gone = ("1h", "3h", "6h", "12h")[(kind + turn) % 4]
    return f'count("Product Added", within: {window}) > {3 + kind % 2 + turn} && absent("Order Completed", within: {gone})'


def bench_policy(tags: int, *, minting: bool = False) -> Policy:
    """A policy with `tags` tags; `minting` adds the trigger that one event in a hundred fires."""
    documents: list[dict[str, Any]] = [
        {
            "kind": "catalog",
            "events": {name: {"fields": dict(fields)} for name, (_, fields) in _TYPES.items()},
        },
        {
            "kind": "channels",
            "channels": {
                CHANNEL: {"form": "segment", "source": "app.bench.example", "correct_clock_skew": False}
            },
        },
        {
            "kind": "consent",
            "purposes": {PURPOSE: "Suggest products."},
            "topics": {"furniture": "Everything that is sold."},
            "data_categories": {"behaviour": "What was looked at.", "purchases": "Orders."},
        },
        {"kind": "settings", "history": "30d", "allowed_lateness": "1d", "future_skew": "5m"},
        {
            "kind": "tags",
            "tags": [
                {"tag": f"tag-{number}", "purpose": PURPOSE, "topic": "furniture", "when": when}
                for number, when in enumerate(tag_texts(tags))
            ],
        },
    ]
    if minting:
        documents.append({"kind": "triggers", "triggers": [_TRIGGER]})
    return policy_from_documents(documents, version=1)


_TRIGGER: Final = {
    "trigger": "install-service-tapped",
    "when": {"event": "Install Service Tapped"},
    "audience": AUDIENCE,
    "purpose": PURPOSE,
    "topic": "furniture",
    "fields": {
        "sku": {
            "measure": 'last("Install Service Tapped", properties.sku, within: 30m)',
            "data_category": "behaviour",
        },
        "viewed": {"measure": 'count("Product Viewed", within: 7d)', "data_category": "behaviour"},
        "bought": {
            "measure": 'sum("Order Completed", properties.total, within: 7d)',
            "data_category": "purchases",
        },
        "interested": {"tag": "tag-0", "data_category": "behaviour"},
    },
}


# --- customers --------------------------------------------------------------------------------------------------------


def user_id(person: int) -> str:
    """Raw identifier of a customer, 36 characters as SDKs send them."""
    return f"7f0c{person:08x}"[:8] + f"-4d1e-4a20-9b7c-{person:012x}"


_SCOPE: Final = Scope(
    purposes=("service",),
    topics=("*",),
    data_categories=("*",),
    recipients=("*",),
    channels=("*",),
    recipient_countries=("CN",),
)
_TERMS: Final = Terms(jurisdiction="CN")


def grants(subjects: Sequence[bytes], at_ms: int) -> Iterator[ConsentGiven]:
    """One consent for each pseudonym, to everything the policy does."""
    use = UseBudget(max_uses=None)
    for subject in subjects:
        record = ConsentRecord(
            record_id=f"r-{subject.hex()}",
            principal=subject.hex(),
            state=ConsentState.GIVEN,
            time_ms=at_ms,
            valid_from_ms=at_ms,
            valid_until_ms=at_ms + 365 * 24 * HOUR_MS,
            scope=_SCOPE,
            use=use,
            terms=_TERMS,
        )
        yield ConsentGiven(at_ms, subject, record)


# --- events -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stream:
    """A seeded stream of calls in order of arrival.

    Attributes:
        people: Size of the population.
        events: Number of calls.
        span_ms: Time from the first to the last arrival.
        seed: Equal seeds give equal bytes.
        zipf_offset: Flattens the top of the law; 0 is the plain one.
    """

    people: int
    events: int
    span_ms: int
    seed: int = 1
    zipf_offset: int = ZIPF_OFFSET

    def customers(self) -> npt.NDArray[np.int64]:
        """int64[events]: who makes each call."""
        return zipf(self.people, self.events, np.random.default_rng(self.seed), offset=self.zipf_offset)

    def arrivals(self) -> npt.NDArray[np.int64]:
        """int64[events]: when each call arrives, evenly spread, milliseconds UTC."""
        return START_MS + (np.arange(self.events, dtype=np.int64) * self.span_ms) // self.events

    def batches(self, size: int) -> Iterator[Batch]:
        """The calls in batches of `size`, each received when its last call arrives; a rest is left out."""
        payloads, arrivals = self.payloads(), self.arrivals()
        for end in range(size, self.events + 1, size):
            yield list(islice(payloads, size)), int(arrivals[end - 1])

    def payloads(self, arrivals: npt.NDArray[np.int64] | None = None) -> Iterator[bytes]:
        """The calls as JSON. One in fifty happened up to an hour before it arrived, the others within the last second.

        Args:
            arrivals: int64[events], when each arrives, if not evenly spread.
        """
        draw = np.random.default_rng(self.seed + 1)
        people = self.customers()
        arrivals = self.arrivals() if arrivals is None else arrivals
        names = list(_TYPES)
        for start in range(0, self.events, 8_192):
            count = min(8_192, self.events - start)
            kinds = draw.choice(len(names), count, p=[share for share, _ in _TYPES.values()])
            delay = draw.integers(0, 1_000, count) + (draw.random(count) < LATE_SHARE) * draw.integers(
                0, HOUR_MS, count
            )
            numbers = draw.integers(0, 1 << 40, (count, 4)).tolist()
            rows = zip(kinds.tolist(), (arrivals[start : start + count] - delay).tolist(), strict=True)
            for row, ((kind, at_ms), person) in enumerate(
                zip(rows, people[start : start + count].tolist(), strict=True)
            ):
                yield _payload(names[kind], person, at_ms, start + row, numbers[row])


def zipf(people: int, events: int, draw: np.random.Generator, *, offset: int = 0) -> npt.NDArray[np.int64]:
    """int64[events] of customers: rank r has weight (r + offset)^-1.05, and ranks are spread over the numbers."""
    weights = (np.arange(1, people + 1) + offset) ** -ZIPF_EXPONENT
    cumulated = np.cumsum(weights)
    ranks = np.searchsorted(cumulated, draw.random(events) * cumulated[-1])
    numbers: npt.NDArray[np.int64] = draw.permutation(people).astype(np.int64)
    chosen: npt.NDArray[np.int64] = numbers[np.minimum(ranks, people - 1)]
    return chosen


def _payload(name: str, person: int, at_ms: int, number: int, numbers: Sequence[int]) -> bytes:
    at = datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at_ms % 1000:03d}Z"
    return (
        f'{{"type":"track","event":"{name}","messageId":"ajs-{number:08x}-{numbers[0]:010x}-{numbers[1]:010x}",'
        f'"userId":"{user_id(person)}","timestamp":"{at}","properties":{{{_properties(name, numbers)}}},'
        f'"context":{{"library":{{"name":"analytics-kotlin","version":"1.19.2"}},"device":{{"type":"android"}},"locale":"zh-CN"}}}}'
    ).encode()


def _properties(name: str, numbers: Sequence[int]) -> str:
    first, second, third = numbers[1], numbers[2], numbers[3]
    category, material = _CATEGORIES[first % 8 * (second % 3 > 0)], _MATERIALS[third % 6]
    price = (10 + third % 4_000) if third % 7 else 4_000 + third % 9_000
    match name:
        case "Product Viewed":
            return (
                f'"product_id":"P-{first % 20_000:05d}","category":"{category}","material":"{material}",'
                f'"price":{price}.{second % 100:02d},"currency":"CNY"'
            )
        case "Product Searched":
            return f'"query":"{_QUERIES[second % 8]}","category":"{category}","results":{third % 90},"sort":"relevance"'
        case "Product Added":
            return (
                f'"product_id":"P-{first % 20_000:05d}","category":"{category}","price":{price}.{second % 100:02d},'
                f'"quantity":{1 + second % 3},"currency":"CNY"'
            )
        case "Checkout Started":
            return f'"cart_id":"C-{first:010x}","total":{price}.00,"items":{1 + second % 5},"currency":"CNY"'
        case "Order Completed":
            return f'"order_id":"O-{first:010x}","total":{price}.90,"category":"{category}","currency":"CNY"'
        case "Order Cancelled":
            return f'"order_id":"O-{first:010x}","reason":"{_REASONS[second % 3]}"'
    return f'"sku":"S-{first % 20_000:05d}","order_id":"O-{second:010x}"'
