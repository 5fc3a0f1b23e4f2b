"""YAML is read strictly, within bounds, and every value knows its place."""

from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from dayfly.engine.policy.problems import Position, Problem
from dayfly.engine.policy.yaml_source import MAX_DEPTH, MAX_FILE_BYTES, MAX_NODES, LocatedDocument, read_yaml


def read(text: str | bytes) -> tuple[list[LocatedDocument], list[Problem]]:
    return read_yaml("a.yaml", text.encode() if isinstance(text, str) else text)


def one(text: str) -> LocatedDocument:
    documents, problems = read(text)
    assert problems == []
    return documents[0]


def test_scalars_follow_the_core_of_yaml_1_2() -> None:
    text = "[1, -2, 1.5, .5, 1e3, true, False, null, ~, no, on, yes, 2026-01-01, 0x10, 1_000, 12:30, '1', \"true\", .inf, <<]"
    document = one(f"a: {text}")
    assert document.data["a"] == [
        1, -2, 1.5, 0.5, 1000.0, True, False, None, None, "no", "on", "yes", "2026-01-01", "0x10", "1_000", "12:30", "1", "true", ".inf", "<<",
    ]  # fmt: skip


def test_lists_and_several_documents_are_documents_each() -> None:
    documents, problems = read("- {a: 1}\n- {a: 2}\n---\na: 3\n---\n")
    assert [document.data for document in documents] == [{"a": 1}, {"a": 2}, {"a": 3}]
    assert problems == []
    assert [document.value(("a",)) for document in documents] == [(1, 7), (2, 7), (4, 4)]


def test_json_is_read_too() -> None:
    assert one('{"a": [1, "x", {"b": null}]}').data == {"a": [1, "x", {"b": None}]}


def test_places_are_those_of_keys_and_values() -> None:
    document = one("a:\n  b: 1\n  c:\n    - x\n    -   y\n")
    assert document.key(("a", "b")) == (2, 3)
    assert document.value(("a", "b")) == (2, 6)
    assert document.value(("a", "c", 1)) == (5, 9)
    assert document.key(("a", "nowhere", "deeper")) == (1, 1)
    assert document.value(()) == (1, 1)


INSIDE = [
    ("a: count XX\n", (1, 10)),
    ("a: 'count ''q'' XX'\n", (1, 17)),
    ('a: "count XX"\n', (1, 11)),
    ("a: |\n  first\n  count XX\n", (3, 9)),
    ("a: |-\n    count\n      XX\n", (3, 7)),
    ("a: >-\n  first\n  count\n  XX\n", (4, 3)),
    ("a: first\n  count\n  XX\n", (3, 3)),
    ('a: "x \\\n  XX"\n', (2, 3)),
    ("a: 小户型 XX\n", (1, 8)),
    ('a: "\\u5c0f XX"\n', (1, 4)),
]


@pytest.mark.parametrize(("text", "position"), INSIDE, ids=[text for text, _ in INSIDE])
def test_place_inside_text_is_found_in_every_style(text: str, position: tuple[int, int]) -> None:
    document = one(text)
    assert document.inside(("a",), document.data["a"].index("XX")) == position


def test_place_past_the_end_of_text_is_its_end_and_before_it_its_start() -> None:
    document = one("a: xyz\n")
    assert document.inside(("a",), 3) == (1, 7)
    assert document.inside(("a",), -1) == (1, 4)
    assert document.inside(("nowhere",), 0) == (1, 1)


def test_document_in_memory_has_no_places() -> None:
    document = LocatedDocument("m", {"a": "x"})
    assert document.value(("a",)) == Position(0, 0)


REFUSED = [
    ("a: 1\nb: 2\na: 3\n", "a.yaml:3:1: key='a' must be given once"),
    ("a: {b: 1, b: 2}\n", "a.yaml:1:11: key='b' must be given once"),
    ("1: x\n", "a.yaml:1:1: key='1' must be text; put it in quotes"),
    ("? [a]\n: x\n", "a.yaml:1:3: key='<map or list>' must be text"),
    (
        "a: !!python/object/apply:os.system [x]\n",
        "a.yaml:1:4: tag='tag:yaml.org,2002:python/object/apply:os.system' must not be used",
    ),
    ("a: !!set {x}\n", "must not be used; write a plain map"),
    ("a: !!python/name:os.system x\n", "must be plain text, a number, true, false or null"),
    ("a: !!binary aGk=\n", "must be plain text, a number"),
    ("a: !!int x\n", "value='x' must be plain text"),
    ("a: !!null x\n", "value='x' must be plain text"),
    ("a: !!bool x\n", "value='x' must be plain text"),
    (f"a: {'9' * 41}\n", "must be plain text, a number"),
    ("a: 1e999\n", "value='1e999' must be plain text, a number"),
    ("a: [1\n", "YAML must be well formed"),
    ("a: b: c\n", "put text with ': ' in quotes"),
    ("a: *b\n", "a.yaml:1:4: YAML must be well formed: found undefined alias"),
    ("a: &a [*a]\n", "aliases must expand to at most"),
    (b"a: 1\nb: \xff\n", "a.yaml:2:1: byte=0xff must be UTF-8"),
    ("a: 1\nb: x\x07\n", "YAML must be well formed"),
    ("[" * (MAX_DEPTH + 1), f"nesting must be at most {MAX_DEPTH} levels"),
    ("a: " + "[" * 100_000, f"nesting must be at most {MAX_DEPTH} levels"),
    ("%YAML 9.9 x\n---\na", "YAML must be well formed"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED, ids=[str(at) for at in range(len(REFUSED))])
def test_refusal_has_its_place_and_way_out(text: str | bytes, message: str) -> None:
    documents, problems = read(text)
    assert documents == []
    assert message in str(problems[0])
    assert problems[0].line >= 1


def test_alias_bomb_is_refused_before_it_expands() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{at}: &a{at} [{', '.join([f'*a{at - 1}'] * 10)}]" for at in range(1, 9)]
    documents, problems = read("\n".join(lines))
    assert documents == []
    assert [problem.message for problem in problems] == [
        f"aliases must expand to at most {MAX_NODES} values; write them out"
    ]


def test_plain_alias_is_a_value_like_any() -> None:
    assert one("a: &x {b: 1}\nc: *x\n").data == {"a": {"b": 1}, "c": {"b": 1}}


@pytest.mark.parametrize(("spare", "problems"), [(0, 0), (1, 1)])
def test_file_size_is_bounded(spare: int, problems: int) -> None:
    text = b"a: x".ljust(MAX_FILE_BYTES + spare)
    assert len(read(text)[1]) == problems


@pytest.mark.parametrize(("levels", "problems"), [(MAX_DEPTH, 0), (MAX_DEPTH + 1, 1)])
def test_depth_is_bounded(levels: int, problems: int) -> None:
    assert len(read("[" * levels + "]" * levels)[1]) == problems


@given(st.binary(max_size=60))
def test_any_bytes_are_documents_or_problems(content: bytes) -> None:
    documents, problems = read(content)
    assert all(problem.line >= 1 and problem.column >= 1 for problem in problems)
    assert not (documents and any("UTF-8" in problem.message for problem in problems))


SOUP = st.lists(
    st.sampled_from(
        [
            "a",
            ": ",
            "- ",
            "\n",
            "  ",
            "[",
            "]",
            "{",
            "}",
            ", ",
            "'",
            '"',
            "|",
            ">",
            "&x ",
            "*x",
            "!!str ",
            "#",
            "? ",
            "---\n",
            "1",
            "~",
            "小",
        ]
    ),
    max_size=25,
).map("".join)


@given(SOUP)
def test_any_yaml_soup_is_documents_or_problems_as_pyyaml_says(text: str) -> None:
    assume(
        "|#" not in text and ">#" not in text
    )  # libyaml takes a comment right behind a block sign, PyYAML does not
    _, problems = read(text)
    try:
        list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except yaml.YAMLError:
        assert problems != []


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=5), inner, max_size=3
        )
    ),
    max_leaves=10,
)


@given(VALUES)
def test_what_pyyaml_writes_is_read_back(value: Any) -> None:
    import json

    document = one(json.dumps({"a": value}, ensure_ascii=False))
    assert document.data == {"a": value}
