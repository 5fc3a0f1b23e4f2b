"""A catalogue and random tags over it: every function, operator and field type, with windows from a second to weeks."""

import random
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Final

from dayfly.engine.catalog import Catalog, EventType, FieldSpec, FieldType
from dayfly.engine.tags.tree import (
    Absent,
    And,
    Capture,
    Comparison,
    EventMatch,
    Expression,
    FieldComparison,
    FieldIn,
    FieldPresent,
    FieldText,
    FirstTime,
    InTag,
    Measure,
    MeasureName,
    Not,
    Operator,
    Or,
    Predicate,
    PredicateAnd,
    PredicateNot,
    PredicateOr,
    Regularly,
    Restarted,
    Scalar,
    Stopped,
    Tag,
    TextTest,
)
from dayfly.engine.tags.tree import Sequence as Steps

__all__ = [
    "CHANNELS",
    "EPOCH_MS",
    "PURPOSES",
    "SPANS_MS",
    "TEXTS",
    "TOPICS",
    "random_expression",
    "random_match",
    "random_predicate",
    "random_tags",
    "workload_catalog",
]

EPOCH_MS: Final = 1_760_000_000_000
"""Start of every workload; also the middle of its random time values."""

SPANS_MS: Final = (
    1_000,
    5_000,
    60_000,
    600_000,
    3_600_000,
    21_600_000,
    86_400_000,
    259_200_000,
    604_800_000,
    1_209_600_000,
)
"""The window constants: seconds to two weeks. Events are placed so that they meet these edges."""

CHANNELS: Final = ("app", "web", "shop", "hotline")
PURPOSES: Final = ("service.recommendation", "service.support", "marketing.email", "analytics")
TOPICS: Final = ("furniture.sofa", "furniture.children", "furniture.storage", "kitchen")
TEXTS: Final = (
    "小户型收纳",
    "小户型",
    "儿童 家具",
    "sofa",
    "Sofa bed",
    "",
    "皮革",
    "𠮷野家 沙发",
    "sofa\n",
    "fabric",
)

_ORDERED: Final[tuple[Operator, ...]] = ("==", "!=", "<", "<=", ">", ">=")
_LEAST: Final[tuple[tuple[Operator, int], ...]] = (
    ("==", 1),
    ("!=", 1),
    ("<", 2),
    ("<=", 1),
    (">", 0),
    (">=", 1),
    (">", 1),
)
"""Least threshold with which a count is a question about a window that is not empty."""

_TEXT_TESTS: Final[tuple[TextTest, ...]] = ("contains", "startsWith", "endsWith")


def _event(name: str, **fields: FieldType) -> EventType:
    return EventType(name, tuple(FieldSpec(field.replace("__", "."), kind) for field, kind in fields.items()))


def workload_catalog() -> Catalog:
    """Eight event types with text, number, boolean and time fields; one has none."""
    text, number, flag, time = FieldType.STRING, FieldType.NUMBER, FieldType.BOOLEAN, FieldType.TIME
    return Catalog(
        types=(
            _event("Product Searched", query=text, results=number),
            _event("Product Viewed", product=text, category=text, price=number, promoted=flag),
            _event("Product Added", product=text, quantity=number, gift=flag),
            _event("Order Completed", order_id=text, total=number, express=flag, deliver_at=time),
            _event("Order Cancelled", order_id=text, refund=number),
            _event("Store Visited", store=text, dwell=number, entered_at=time),
            _event("$identify", address__city=text, age=number, newsletter=flag, registered_at=time),
            _event("App Opened"),
        ),
        channels=CHANNELS,
    )


def _span(rng: random.Random) -> int:
    """A window, mostly an hour or more: a tag of seconds holds so rarely that it is seldom seen to hold."""
    return rng.choice(SPANS_MS[4:] if rng.random() < 0.75 else SPANS_MS[:4])


# --- parts -----------------------------------------------------------------------------------------------------------


def _literal(rng: random.Random, kind: FieldType) -> Scalar:
    if kind is FieldType.STRING:
        return rng.choice(TEXTS)
    if kind is FieldType.BOOLEAN:
        return rng.random() < 0.5
    if kind is FieldType.TIME:
        return Decimal(EPOCH_MS + rng.choice(SPANS_MS) * rng.randrange(-3, 4))
    return Decimal(rng.choice((-1, 0, 1, 2, 5, 9))) + Decimal(rng.choice((0, 0, 500_000, 1, 999_999))).scaleb(
        -6
    )


def _test(rng: random.Random, kind: EventType) -> Predicate:
    """One test over a field of `kind`, or over the channel."""
    if not kind.fields or rng.random() < 0.1:
        return FieldComparison("channel", rng.choice(("==", "!=")), rng.choice(CHANNELS))
    spec = rng.choice(kind.fields)
    path = f"properties.{spec.name}"
    choice = rng.random()
    if choice < 0.15:
        return FieldPresent(path)
    if spec.type is FieldType.STRING and choice < 0.5:
        return FieldText(path, rng.choice(_TEXT_TESTS), rng.choice(TEXTS[:5]))
    if spec.type is not FieldType.BOOLEAN and choice < 0.65:
        return FieldIn(path, tuple(dict.fromkeys(_literal(rng, spec.type) for _ in range(3))))
    ordered = spec.type in (FieldType.NUMBER, FieldType.TIME)
    return FieldComparison(path, rng.choice(_ORDERED if ordered else _ORDERED[:2]), _literal(rng, spec.type))


def random_predicate(rng: random.Random, kind: EventType, *, depth: int = 2) -> Predicate:
    """A predicate over events of `kind`, nested at most `depth` deep."""
    choice = rng.random()
    if depth == 0 or choice < 0.6:
        return _test(rng, kind)
    if choice < 0.72:
        return PredicateNot(random_predicate(rng, kind, depth=depth - 1))
    parts = tuple(random_predicate(rng, kind, depth=depth - 1) for _ in range(rng.choice((2, 2, 3))))
    return PredicateOr(parts) if choice < 0.88 else PredicateAnd(parts)


def random_match(rng: random.Random, catalog: Catalog) -> EventMatch:
    """An event type, in half of the cases with a predicate."""
    kind = rng.choice(catalog.types)
    return EventMatch(kind.name, random_predicate(rng, kind) if rng.random() < 0.5 else None)


def _measure(rng: random.Random, catalog: Catalog, function: MeasureName) -> tuple[Measure, FieldType]:
    """A measure and the type of what it compares with."""
    wanted = (FieldType.NUMBER,) if function in ("sum", "avg", "min", "max") else tuple(FieldType)
    kinds = [kind for kind in catalog.types if any(spec.type in wanted for spec in kind.fields)]
    kind = rng.choice(kinds)
    where = random_predicate(rng, kind) if rng.random() < 0.4 else None
    match, within_ms = EventMatch(kind.name, where), _span(rng)
    if function == "count":
        return Measure("count", match, within_ms), FieldType.NUMBER
    spec = rng.choice([spec for spec in kind.fields if spec.type in wanted])
    result = spec.type if function in ("first", "last") else FieldType.NUMBER
    return Measure(function, match, within_ms, f"properties.{spec.name}"), result


def _comparison(function: MeasureName) -> Callable[[random.Random, Catalog], Expression]:
    def build(rng: random.Random, catalog: Catalog) -> Expression:
        measure, kind = _measure(rng, catalog, function)
        if function in ("count", "distinct"):
            sign, least = rng.choice(_LEAST)
            return Comparison(measure, sign, Decimal(least + rng.randrange(3)))
        ordered = kind in (FieldType.NUMBER, FieldType.TIME)
        return Comparison(measure, rng.choice(_ORDERED if ordered else _ORDERED[:2]), _literal(rng, kind))

    return build


def _absent(rng: random.Random, catalog: Catalog) -> Expression:
    return Absent(random_match(rng, catalog), _span(rng))


def _first_time(rng: random.Random, catalog: Catalog) -> Expression:
    return FirstTime(random_match(rng, catalog), _span(rng))


def _regularly(rng: random.Random, catalog: Catalog) -> Expression:
    periods = rng.randrange(1, 6)
    every_ms = min(_span(rng), SPANS_MS[7])
    at_least, times = rng.randrange(1, periods + 1), rng.choice((1, 1, 2))
    return Regularly(random_match(rng, catalog), every_ms, periods, at_least, times)


def _two_spans(rng: random.Random) -> tuple[int, int]:
    short, long = sorted((rng.choice(SPANS_MS[:-1]), _span(rng)))
    return (short, long) if short < long else (short, 2 * long)


def _stopped(rng: random.Random, catalog: Catalog) -> Expression:
    quiet_ms, within_ms = _two_spans(rng)
    return Stopped(random_match(rng, catalog), within_ms, quiet_ms)


def _restarted(rng: random.Random, catalog: Catalog) -> Expression:
    return Restarted(random_match(rng, catalog), _span(rng), rng.choice(SPANS_MS[2:]))


def _sequence(rng: random.Random, catalog: Catalog) -> Expression:
    gap_ms, within_ms = _two_spans(rng)
    quiet_ms = gap_ms if rng.random() < 0.4 else None
    steps = tuple(random_match(rng, catalog) for _ in range(rng.randrange(2 if quiet_ms is None else 1, 4)))
    without = random_match(rng, catalog) if quiet_ms is not None or rng.random() < 0.5 else None
    gap = gap_ms if len(steps) > 1 and rng.random() < 0.5 else None
    return Steps(steps, within_ms, gap, without, quiet_ms)


_MEASURES: Final[tuple[MeasureName, ...]] = ("count", "distinct", "sum", "avg", "min", "max", "first", "last")

_LEAVES: Final[tuple[Callable[[random.Random, Catalog], Expression], ...]] = (
    *(_comparison(function) for function in _MEASURES),
    _absent,
    _first_time,
    _regularly,
    _stopped,
    _restarted,
    _sequence,
)


def random_expression(rng: random.Random, catalog: Catalog, tags: list[str], *, depth: int = 2) -> Expression:
    """A condition nested at most `depth` deep; `tags` are the names that `in_tag` may ask for."""
    choice = rng.random()
    if depth == 0 or choice < 0.45:
        return rng.choice(_LEAVES)(rng, catalog)
    if choice < 0.55 and tags:
        return InTag(rng.choice(tags))
    if choice < 0.67:
        return Not(random_expression(rng, catalog, tags, depth=depth - 1))
    parts = tuple(
        random_expression(rng, catalog, tags, depth=depth - 1) for _ in range(rng.choice((2, 2, 3)))
    )
    return And(parts) if choice < 0.86 else Or(parts)


def random_tags(
    rng: random.Random,
    count: int,
    *,
    catalog: Catalog | None = None,
    version: int = 1,
    names: Sequence[str] | None = None,
) -> tuple[Tag, ...]:
    """`count` tags; the first ones are each function by itself, so that a long enough list holds every function.

    A tag asks only for tags before it, so `in_tag` chains are as long as chance makes them and never in a circle.
    """
    catalog = catalog or workload_catalog()
    names = names or [f"tag-{index:03d}" for index in range(count)]
    tags: list[Tag] = []
    for index, name in enumerate(names):
        plain = index < len(_LEAVES)
        when = (
            _LEAVES[index](rng, catalog)
            if plain
            else random_expression(rng, catalog, list(names[:index]), depth=3)
        )
        measure = _measure(rng, catalog, rng.choice(_MEASURES))[0]
        captures = (Capture("shown", measure),) if rng.random() < 0.5 else ()
        purpose, topic = rng.choice(PURPOSES), rng.choice(TOPICS)
        tags.append(Tag(name, purpose, topic, when, captures, version))
    return tuple(tags)
