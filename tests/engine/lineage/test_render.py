"""Explanations for readers: a sentence, a table, JSON; never a value, and no text that acts as markup."""

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from dayfly.engine.lineage import (
    Explanation,
    LineageStore,
    RuleText,
    SourceColumn,
    sentence,
    to_json,
    to_table,
)
from dayfly.engine.lineage.times import utc_text

from .support import KEY, NOW_MS, SHAPE, order


def explanation(field: str = "comparing") -> Explanation:
    store = LineageStore.in_memory(subject_key=KEY)
    store.declare([SHAPE])
    store.put("jti-1", order())
    return store.explain("jti-1", field)


def drawn(explanations: Sequence[Explanation], *, title: str = "") -> str:
    out = io.StringIO()
    Console(file=out, width=400, color_system=None).print(to_table(explanations, title=title))
    return out.getvalue()


def test_the_sentence_says_who_sees_what_and_why() -> None:
    assert sentence(explanation()) == (
        "crm-cn-1 sees comparing because trigger sofa-advice (version 2) fired at 2026-11-22T14:40:00.123Z; "
        "the value comes from comparing-sofa-materials (version 4) over 5 events (named here: 2 from app, 1 from web), "
        "not masked; consent c:7Q2mZk1b (version 3, until 2027-09-18T14:40:00.123Z) allows it for service.advice, "
        "and the fragment ends at 2026-11-22T15:10:00.123Z."
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"total_events": 3}, "over 3 events (2 from app, 1 from web),"),
        ({"total_events": 1, "events": explanation("budget").events}, "over 1 event (1 from web),"),
        ({"total_events": 4, "events": ()}, "over 4 events,"),
        ({"total_events": 0, "events": ()}, "over no event, which is what the rule asks for,"),
        ({"rules": ()}, "the value comes from sofa-advice (version 2) over"),
        ({"consents": ()}, "consent none allows it"),
        ({"masking": "band at 10"}, "masked in the fragment (band at 10);"),
        (
            {"columns": (SourceColumn("E", "price", "value", "first 2"),)},
            "masked at intake (price: first 2);",
        ),
        (
            {"masking": "dropped", "columns": (SourceColumn("E", "price", "value", "first 2"),)},
            "masked at intake (price: first 2) and masked in the fragment (dropped);",
        ),
    ],
)
def test_the_sentence_fits_every_case(change: dict[str, object], said: str) -> None:
    assert said in sentence(replace(explanation(), **change))  # type: ignore[arg-type]


def test_json_is_written_by_two_libraries_alike_and_holds_everything() -> None:
    found = to_json(explanation())
    assert json.loads(json.dumps(found)) == orjson.loads(orjson.dumps(found)) == found
    for member in (
        "jti",
        "field",
        "trigger",
        "rules",
        "events",
        "total_events",
        "masking",
        "columns",
        "consents",
        "sentence",
    ):
        assert found[member], member
    assert found["rules"] == [
        {"kind": "tag", "id": "comparing-sofa-materials", "version": 4, "text": SHAPE.rules[1].text}
    ]


def test_no_rendering_holds_a_value() -> None:
    found = explanation()
    assert "SECRET" not in sentence(found) + json.dumps(to_json(found)) + drawn([found])


def test_the_table_has_a_row_per_field() -> None:
    text = drawn([explanation(), explanation("budget")], title="Fragment jti-1")
    for said in (
        "Fragment jti-1",
        "comparing",
        "budget",
        "5 in total",
        "c:7Q2mZk1b v3",
        "band at 1000, 5000",
        SHAPE.rules[2].text,
    ):
        assert said in text


def test_texts_of_policies_never_act_as_markup() -> None:
    hostile = replace(
        explanation(),
        rules=(RuleText("tag", "[bold]x[/bold]", 1, "[link=https://evil.example]y[/link] [/nothing]"),),
    )
    text = drawn([hostile], title="[red]t")
    for said in ("[bold]x[/bold]", "[link=https://evil.example]y[/link] [/nothing]", "[red]t"):
        assert said in text


@given(st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31)))  # noqa: DTZ001 - made aware below
def test_times_are_read_back_by_the_standard_library(moment: datetime) -> None:
    aware = moment.replace(tzinfo=UTC, microsecond=moment.microsecond // 1_000 * 1_000)
    time_ms = (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert datetime.fromisoformat(utc_text(time_ms)) == aware


@pytest.mark.parametrize(
    ("time_ms", "text"),
    [
        (2**63 - 1, "9999-12-31T23:59:59.999Z"),
        (253_402_300_800_000, "9999-12-31T23:59:59.999Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        (-62_135_596_800_000, "0001-01-01T00:00:00.000Z"),
        (-62_135_596_800_001, "0001-01-01T00:00:00.000Z"),
        (NOW_MS, "2026-11-22T14:40:00.123Z"),
    ],
)
def test_times_beyond_the_calendar_become_its_ends(time_ms: int, text: str) -> None:
    assert utc_text(time_ms) == text
