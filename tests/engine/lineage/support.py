"""Shapes, blocks and orders that the lineage tests share."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from hypothesis import strategies as st

from dayfly.engine.lineage import (
    ConsentUse,
    FieldEvidence,
    FieldLineage,
    LineageBlock,
    LineageShape,
    RuleText,
    ShapeField,
    SourceColumn,
    SourceEvent,
    encode,
    make_block,
)
from dayfly.privacy.fragments import ConsentRef, FragmentOrder, OrderField, RuleRef

NOW_MS = 1_795_358_400_123
DAY_MS = 86_400_000
SUBJECT = bytes(range(16))
KEY = b"lineage-test-key"

SHAPE = LineageShape(
    rules=(
        RuleText("trigger", "sofa-advice", 2, "when: tag comparing-sofa-materials"),
        RuleText(
            "tag",
            "comparing-sofa-materials",
            4,
            'distinct("Product Viewed", properties.material, within: 7d) >= 3',
        ),
        RuleText("measure", "sofa-advice.budget", 2, 'max("Product Viewed", properties.price, within: 7d)'),
    ),
    fields=(
        ShapeField(
            "comparing",
            (1,),
            "keep",
            "behaviour.product_view",
            (
                SourceColumn("Product Viewed", "material", "value"),
                SourceColumn("Product Viewed", None, "window"),
            ),
        ),
        ShapeField(
            "materials",
            (1,),
            "keep",
            "behaviour.product_view",
            (SourceColumn("Product Viewed", "material", "value"),),
        ),
        ShapeField(
            "budget",
            (2,),
            "band at 1000, 5000",
            "behaviour.price",
            (
                SourceColumn("Product Viewed", "price", "value", "decimals: 0"),
                SourceColumn("Product Viewed", "category", "filter"),
            ),
        ),
    ),
    channels=("app", "web", "wifi"),
)


def digest(number: int) -> bytes:
    return hashlib.sha256(number.to_bytes(8, "big")).digest()[:16]


def event(number: int, *, channel: int = 0, age_ms: int | None = None, received: bool = True) -> SourceEvent:
    time_ms = NOW_MS - (number * 61_003 if age_ms is None else age_ms)
    return SourceEvent(digest(number), channel, time_ms, time_ms + 412 if received else None)


CONSENT = ConsentUse("c:7Q2mZk1b", 3, NOW_MS - 40 * DAY_MS, NOW_MS + 300 * DAY_MS)


def sofa_block(
    *, consents: Sequence[ConsentUse] = (CONSENT,), fields: Iterable[str] | None = None
) -> LineageBlock:
    evidence = {
        "comparing": FieldEvidence([event(1), event(2, channel=1), event(3)], total=5),
        "materials": FieldEvidence([event(1), event(3)]),
        "budget": FieldEvidence([event(4, channel=1)]),
    }
    chosen = evidence if fields is None else {name: evidence[name] for name in fields}
    return make_block(SHAPE, as_of_ms=NOW_MS, consents=consents, fields=chosen)


def order(
    number: int = 1, *, block: LineageBlock | None = None, subject: bytes = SUBJECT, **changes: Any
) -> FragmentOrder:
    block = sofa_block() if block is None else block
    names = [SHAPE.fields[entry.field].name for entry in block.fields]
    settings: dict[str, Any] = {
        "order_id": f"order-{number}",
        "audience": "crm-cn-1",
        "purpose": "service.advice",
        "topic": "furniture.sofas",
        "trigger_id": digest(1),
        "rule": RuleRef("sofa-advice", 2),
        "fields": tuple(OrderField(name, "SECRET VALUE") for name in names),
        "subject": subject,
        "consent": tuple(
            ConsentRef(use.record_id, use.version, use.valid_until_ms) for use in block.consents
        ),
        "issued_at_ms": NOW_MS,
        "expires_at_ms": NOW_MS + 1_800_000,
        "lineage": encode(block),
    }
    return FragmentOrder(**(settings | changes))


# --- strategies ------------------------------------------------------------------------------------------------------

_ids = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.uuids().map(str),
    st.binary(max_size=24).map(bytes.hex),
    st.binary(max_size=16).map(lambda raw: f"o:{raw.hex()}"),
)


@st.composite
def consent_uses(draw: st.DrawFn, as_of_ms: int) -> ConsentUse:
    since = draw(st.integers(0, 2**63))
    left = draw(st.integers(1, 2**63 - 1))
    return ConsentUse(draw(_ids), draw(st.integers(0, 2**64 - 1)), as_of_ms - since, as_of_ms + left)


@st.composite
def blocks(draw: st.DrawFn) -> LineageBlock:
    """Any canonical block."""
    as_of_ms = draw(st.integers(0, 2**63 - 1))
    consents = draw(st.lists(consent_uses(as_of_ms), max_size=4))
    ages = draw(
        st.lists(
            st.tuples(st.integers(0, 2**40), st.binary(min_size=16, max_size=16)),
            max_size=12,
            unique_by=lambda pair: pair[1],
        )
    )
    events = []
    for age, name in sorted(ages):
        time_ms, delay = as_of_ms - age, draw(st.none() | st.integers(-(2**50), 2**50))
        channel = draw(st.integers(0, 2**16 - 1))
        events.append(SourceEvent(name, channel, time_ms, None if delay is None else time_ms + delay))
    indexes = sorted(draw(st.sets(st.integers(0, 62), max_size=10)))
    fields = []
    for index in indexes:
        mask = draw(st.integers(0, 2 ** len(events) - 1))
        fields.append(FieldLineage(index, mask, mask.bit_count() + draw(st.integers(0, 2**40))))
    shape = draw(st.binary(min_size=16, max_size=16))
    return LineageBlock(shape, as_of_ms, tuple(consents), tuple(events), tuple(fields))
