"""A small policy, fixed keys and generated Segment payloads for the tests of intake."""

import hashlib
import json
from itertools import count
from typing import Any

import numpy as np
from hypothesis import strategies as st

from dayfly.engine.catalog import Catalog, EventType, FieldSpec, FieldType
from dayfly.engine.intake import Intake, IntakeKeys
from dayfly.engine.policy.model import Channel, Policy, Settings
from dayfly.privacy.deident import ProbeKeys, PseudonymKeys
from tests.oracles import intake as oracle
from tests.oracles.unpack import rows_of

NOW = 1_773_144_000_000  # 2026-03-10T12:00:00Z
DAY = 86_400_000
TENANT = "tenant-1"
USER_KEY = bytes(range(32))
OLD_KEY = bytes(range(1, 33))
DIGEST_KEY = bytes(range(32, 64))
SOURCE = "app.example"
DEFAULTS = Settings()
SMALL = Settings(max_event_bytes=900, max_depth=5, max_properties=24, max_string_bytes=40)

STRING, NUMBER, BOOLEAN, TIME = FieldType.STRING, FieldType.NUMBER, FieldType.BOOLEAN, FieldType.TIME
FIELDS = {
    "Product Viewed": (
        FieldSpec("product_id", STRING, required=True),
        FieldSpec("price", NUMBER),
        FieldSpec("address.city", STRING),
        FieldSpec("address.floor", NUMBER),
        FieldSpec("in_stock", BOOLEAN),
        FieldSpec("seen_at", TIME),
    ),
    "查看商品": (FieldSpec("材质", STRING),),
    "Product Viewed Twice": (
        FieldSpec("product_identifier", STRING),
        FieldSpec("product_identified", NUMBER),
    ),
    "$identify": (FieldSpec("city", STRING),),
    "$page": (FieldSpec("name", STRING), FieldSpec("title", STRING), FieldSpec("category", STRING)),
    "$group": (FieldSpec("groupId", STRING), FieldSpec("plan", STRING)),
}
CATALOG = Catalog(tuple(EventType(name, fields) for name, fields in FIELDS.items()), ("app", "wifi"))
ORACLE_FIELDS = {
    name: [(spec.name, spec.type.value, spec.required) for spec in fields] for name, fields in FIELDS.items()
}


def make_policy(settings: Settings = DEFAULTS, *, skew: Any = True, catalog: Any = CATALOG) -> Any:
    channels = (
        Channel("app", SOURCE, correct_clock_skew=skew),
        Channel("wifi", "stores.example/wifi", probe=True, correct_clock_skew=False),
    )
    return Policy(1, catalog, channels, settings=settings)


def make_keys(*, versions: Any = None) -> Any:
    draws = count()
    probes = ProbeKeys(
        TENANT,
        claim_key=bytes(range(64, 96)),
        random_bytes=lambda size: hashlib.shake_256(next(draws).to_bytes(4)).digest(size),
    )
    return IntakeKeys(PseudonymKeys(TENANT, versions or {1: USER_KEY}), DIGEST_KEY, probes)


def make_intake(
    settings: Settings = DEFAULTS,
    *,
    fast: Any = True,
    skew: Any = True,
    versions: Any = None,
    catalog: Any = CATALOG,
) -> Any:
    return Intake(make_policy(settings, skew=skew, catalog=catalog), make_keys(versions=versions), fast=fast)


def iso(time_ms: Any) -> Any:
    seconds, rest = divmod(time_ms, 1000)
    return f"{np.datetime64(seconds, 's')}.{rest:03d}Z"


def payload(**members: Any) -> Any:
    """The sample of the reference (cdp.md section 5), in our own values; `...` removes a member."""
    sample = {
        "type": "track",
        "messageId": "m-1",
        "anonymousId": "a-77",
        "event": "Product Viewed",
        "properties": {"product_id": "SOFA-3", "price": 19.99},
        "context": {"consent": {"categoryPreferences": {"service-info": True}}},
        "sentAt": "2026-03-10T12:00:00.120Z",
        "timestamp": "2026-03-10T12:00:00.000Z",
        **members,
    }
    return {name: value for name, value in sample.items() if value is not ...}


def raw(**members: Any) -> Any:
    return json.dumps(payload(**members)).encode()


def ask_oracle(data: Any, *, skew: Any = True) -> Any:
    return oracle.read_call(
        data,
        tenant=TENANT,
        key=USER_KEY,
        digest_key=DIGEST_KEY,
        source=SOURCE,
        fields=ORACLE_FIELDS,
        received_ms=NOW,
        skew=skew,
        future_ms=Settings().future_skew_ms,
        late_ms=Settings().allowed_lateness_ms,
    )


def seen(result: Any) -> Any:
    """Everything a result says, row by row and without the layout of its buffers."""
    rows = list(rows_of(result.batch, CATALOG))
    counts = {name: number for name, number in result.counts.items() if name != "fast"}
    return rows, result.dead_letters, result.merges, counts


# --- payloads ----------------------------------------------------------------------------------------------------------

texts = st.one_of(
    st.sampled_from(
        [
            "",
            "SOFA-3",
            "小户型收纳",
            'a"b',
            "back\\slash",
            "\u0000\u001f",
            "\x7f\u0080",
            "😀",
            "x" * 41,
            "é" * 20,
        ]
    ),
    st.text(max_size=12),
)
numbers = st.one_of(
    st.sampled_from(
        [
            0,
            -0.0,
            19.99,
            0.1234565,
            0.1234575,
            1e9,
            1000000000.0000001,
            10**9 + 1,
            -(10**9),
            1e-7,
            5e-7,
            10**30,
            1.5e300,
        ]
    ),
    st.integers(-(10**11), 10**11),
    st.floats(allow_nan=False, allow_infinity=False),
    st.decimals(-1000, 1000, places=7).map(float),
)
moments = st.one_of(
    st.integers(NOW - 9 * DAY, NOW + 600_000).map(iso),
    st.sampled_from(
        [
            "2026-03-10T12:00:00Z",
            "2026-03-10T12:00:00.1Z",
            "2026-03-10T11:59:59.123456789Z",
            "2026-03-10T20:00:00+08:00",
            "2026-03-10 12:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-03-10",
            "",
            "0000-01-01T00:00:00Z",
            "2026-03-10T12:00:60Z",
            "2026-03-10T12:00:00.Z",
            "2026-03-10T24:00:00Z",
        ]
    ),
)
scalars = st.one_of(st.none(), st.booleans(), texts, numbers, moments)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=5,
)


def _maybe(strategy: Any, junk: Any = values) -> Any:
    """Mostly what is due, sometimes anything."""
    return st.integers(0, 9).flatmap(lambda n: junk if n == 0 else strategy)


properties = st.fixed_dictionaries(
    {},
    optional={
        "product_id": _maybe(texts),
        "price": _maybe(numbers),
        "address": _maybe(
            st.fixed_dictionaries({}, optional={"city": _maybe(texts), "floor": _maybe(numbers), "x": values})
        ),
        "in_stock": _maybe(st.booleans()),
        "seen_at": _maybe(moments),
        "材质": _maybe(texts),
        "name": _maybe(texts),
        "title": _maybe(texts),
        "city": _maybe(texts),
        "plan": _maybe(texts),
        "product_identifier": _maybe(texts),
        "product_identified": _maybe(numbers),
        "address.city": values,
        "undeclared": values,
    },
)
preferences = st.dictionaries(st.sampled_from(["ads", "服务", "func"]), st.booleans(), max_size=3)
contexts = st.fixed_dictionaries(
    {},
    optional={
        "locale": texts,
        "consent": _maybe(st.fixed_dictionaries({"categoryPreferences": preferences})),
        "consentManagement": st.one_of(
            st.fixed_dictionaries({"deniedConsentIds": st.lists(texts, max_size=2)}), values
        ),
        "tcString": texts,
        "traits": _maybe(st.fixed_dictionaries({}, optional={"city": texts})),
    },
)
identifiers = st.one_of(st.sampled_from(["u-1", "a-77", "", "编号-1"]), st.none(), texts, st.integers(0, 99))
calls = st.fixed_dictionaries(
    {
        "type": _maybe(
            st.sampled_from(
                ["track", "track", "track", "page", "screen", "identify", "group", "alias", "batch"]
            )
        ),
        "event": _maybe(
            st.sampled_from(["Product Viewed", "Product Viewed Twice", "查看商品", "Unknown", "$page", ""])
        ),
        "messageId": _maybe(identifiers),
        "anonymousId": _maybe(identifiers),
    },
    optional={
        "userId": _maybe(identifiers),
        "previousId": _maybe(identifiers),
        "groupId": _maybe(identifiers),
        "name": _maybe(texts),
        "category": _maybe(texts),
        "timestamp": _maybe(moments),
        "originalTimestamp": _maybe(moments),
        "sentAt": _maybe(moments),
        "properties": _maybe(properties),
        "traits": _maybe(properties),
        "context": _maybe(contexts),
        "integrations": values,
    },
)


@st.composite
def payload_bytes(draw: Any) -> Any:
    """A call as JSON, with its members in any order, in any spacing, escaped or not."""
    members = draw(calls)
    order = draw(st.permutations(sorted(members)))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", "\n:\r ")]))
    text = json.dumps(
        {name: members[name] for name in order}, ensure_ascii=draw(st.booleans()), separators=separators
    )
    return (
        draw(st.sampled_from(["", " ", "\n"])).encode()
        + text.encode("utf-8", "surrogatepass")
        + draw(st.sampled_from([b"", b" "]))
    )


plain_payloads = st.builds(
    payload,
    event=st.sampled_from(["Product Viewed", "查看商品", "Unknown"]),
    messageId=st.text(min_size=1, max_size=20),
    anonymousId=st.sampled_from(["a-77", "a-78"]),
    properties=st.fixed_dictionaries({"product_id": texts, "price": numbers, "材质": texts}),
    timestamp=st.integers(NOW - DAY, NOW).map(iso),
).map(lambda call: json.dumps(call, ensure_ascii=False).encode("utf-8", "surrogatepass"))
