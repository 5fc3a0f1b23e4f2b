"""Random trees of the tag language: any that can be written, and those that fit a catalogue and may be published."""

from decimal import Decimal

from hypothesis import strategies as st

from dayfly.engine.tags.functions import all_of, all_of_predicates, any_of, any_of_predicates
from dayfly.engine.tags.tree import (
    Absent,
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
    Not,
    Predicate,
    PredicateNot,
    Regularly,
    Restarted,
    Scalar,
    Sequence,
    Stopped,
    Tag,
)

OPERATORS = ("==", "!=", "<", "<=", ">", ">=")

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
"""Any text: names of events and tags, and text literals, quotes, newlines and emoji included."""

words = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
odd_words = st.from_regex(r"[\w$][\w $-]{0,8}", fullmatch=True)
fields = st.one_of(
    st.just("channel"),
    st.lists(st.one_of(words, odd_words), min_size=1, max_size=3).map(
        lambda parts: ".".join(("properties", *parts))
    ),
)
measured_fields = fields.filter(lambda field: field != "channel")
durations = st.one_of(
    st.integers(0, 10**12),
    st.sampled_from([1_000, 60_000, 3_600_000, 86_400_000, 604_800_000]).map(lambda size: 7 * size),
)
numbers = st.decimals(-(10**9), 10**9, allow_nan=False, allow_infinity=False, places=6) | st.integers(
    -(10**9), 10**9
).map(Decimal)
scalars: st.SearchStrategy[Scalar] = st.one_of(names, st.booleans(), numbers)


def _joined(parts: st.SearchStrategy[Predicate]) -> st.SearchStrategy[Predicate]:
    lists = st.lists(parts, min_size=2, max_size=3)
    return st.one_of(lists.map(all_of_predicates), lists.map(any_of_predicates), parts.map(PredicateNot))


predicates: st.SearchStrategy[Predicate] = st.recursive(
    st.one_of(
        st.builds(FieldComparison, fields, st.sampled_from(OPERATORS), scalars),
        st.builds(FieldIn, fields, st.lists(scalars, max_size=3).map(tuple)),
        st.builds(FieldText, fields, st.sampled_from(("contains", "startsWith", "endsWith")), names),
        st.builds(FieldPresent, fields),
    ),
    _joined,
    max_leaves=6,
)
matches = st.builds(EventMatch, names, st.none() | predicates)
measures = st.one_of(
    st.builds(Measure, st.just("count"), matches, durations),
    st.builds(
        Measure,
        st.sampled_from(("distinct", "sum", "avg", "min", "max", "first", "last")),
        matches,
        durations,
        measured_fields,
    ),
)
_counts = st.integers(0, 9_999)
functions: st.SearchStrategy[Expression] = st.one_of(
    st.builds(Comparison, measures, st.sampled_from(OPERATORS), scalars),
    st.builds(Absent, matches, durations),
    st.builds(FirstTime, matches, durations),
    st.builds(Regularly, matches, durations, _counts, _counts, _counts),
    st.builds(Stopped, matches, durations, durations),
    st.builds(Restarted, matches, durations, durations),
    st.builds(
        Sequence,
        st.lists(matches, max_size=3).map(tuple),
        durations,
        st.none() | durations,
        st.none() | matches,
        st.none() | durations,
    ),
    st.builds(InTag, names),
)


def _joined_conditions(parts: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    lists = st.lists(parts, min_size=2, max_size=3)
    return st.one_of(lists.map(all_of), lists.map(any_of), parts.map(Not))


conditions: st.SearchStrategy[Expression] = st.recursive(functions, _joined_conditions, max_leaves=5)
"""Any condition that the three forms can write."""


# --- those that may be published, over the catalogue of the boundary table --------------------------------------------

_texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
_instants = st.integers(0, 10**12).map(Decimal)
_typed = st.one_of(
    st.builds(FieldComparison, st.just("properties.n"), st.sampled_from(OPERATORS), numbers),
    st.builds(FieldComparison, st.just("properties.t"), st.sampled_from(OPERATORS), _instants),
    st.builds(FieldComparison, st.just("properties.s"), st.sampled_from(("==", "!=")), _texts),
    st.builds(FieldComparison, st.just("properties.b"), st.sampled_from(("==", "!=")), st.booleans()),
    st.builds(
        FieldComparison, st.just("channel"), st.sampled_from(("==", "!=")), st.sampled_from(("web", "app"))
    ),
    st.builds(
        FieldIn, st.just("properties.n"), st.lists(numbers, min_size=1, max_size=3, unique=True).map(tuple)
    ),
    st.builds(
        FieldIn, st.just("properties.s"), st.lists(_texts, min_size=1, max_size=3, unique=True).map(tuple)
    ),
    st.builds(
        FieldText, st.just("properties.s"), st.sampled_from(("contains", "startsWith", "endsWith")), _texts
    ),
    st.builds(
        FieldPresent, st.sampled_from(("properties.n", "properties.s", "properties.b", "properties.t"))
    ),
)
sound_predicates: st.SearchStrategy[Predicate] = st.recursive(_typed, _joined, max_leaves=4)
"""Predicates that fit the boundary table's catalogue."""

_sound_matches = st.builds(EventMatch, st.sampled_from("ABC"), st.none() | sound_predicates)
_within = st.integers(1, 60_000)
_counted = st.builds(Measure, st.just("count"), _sound_matches, _within)
_distinct = st.builds(
    Measure, st.just("distinct"), _sound_matches, _within, st.sampled_from(("properties.s", "properties.n"))
)
_numeric = st.builds(
    Measure,
    st.sampled_from(("sum", "avg", "min", "max", "last")),
    _sound_matches,
    _within,
    st.just("properties.n"),
)
sound_functions: st.SearchStrategy[Expression] = st.one_of(
    st.builds(
        Comparison,
        _counted | _distinct,
        st.sampled_from(("==", "!=", "<=", ">", ">=")),
        st.integers(1, 10_000).map(Decimal),
    ),
    st.builds(Comparison, _numeric, st.sampled_from(OPERATORS), numbers),
    st.builds(Absent, _sound_matches, _within),
    st.builds(FirstTime, _sound_matches, _within),
    st.builds(
        Regularly,
        _sound_matches,
        st.integers(1, 1_000),
        st.integers(3, 60),
        st.integers(1, 3),
        st.integers(1, 10_000),
    ),
    st.builds(Stopped, _sound_matches, st.integers(1_000, 60_000), st.integers(1, 999)),
    st.builds(Restarted, _sound_matches, st.integers(1, 30_000), st.integers(1, 30_000)),
    st.builds(
        Sequence,
        st.lists(_sound_matches, min_size=2, max_size=4).map(tuple),
        st.integers(1_000, 60_000),
        st.none() | st.integers(1, 1_000),
        st.none() | _sound_matches,
    ),
    st.builds(
        Sequence,
        st.lists(_sound_matches, min_size=1, max_size=3).map(tuple),
        st.integers(1_000, 60_000),
        st.none(),
        _sound_matches,
        st.integers(1, 999),
    ),
    st.just(InTag("has-a")),
)
sound_conditions: st.SearchStrategy[Expression] = st.recursive(
    sound_functions, _joined_conditions, max_leaves=4
)
"""Conditions that may be published under the boundary table's policy."""

sound_tags = st.builds(
    Tag,
    st.from_regex(r"[a-z]{1,5}(-[a-z0-9]{1,5}){0,2}", fullmatch=True).filter(lambda name: name != "has-a"),
    st.just("service.test"),
    st.just("test"),
    sound_conditions,
    st.lists(
        st.builds(Capture, words.map(str.lower).filter(lambda word: word[0] != "_"), _distinct | _numeric),
        max_size=2,
        unique_by=lambda c: c.name,
    ).map(tuple),
)
