"""Findings are shown as table, text and JSON."""

import json
from io import StringIO

import pytest
from rich.console import Console

from dayfly.engine.policy.problems import Problem
from dayfly.engine.policy.report import problems_json, problems_table, problems_text, summary

PROBLEMS = (
    Problem("a.yaml", 3, 7, "field='[bold]x' must be declared; declare it"),
    Problem("b.yaml", 0, 0, "folder must be readable; fix it"),
)


def test_table_shows_places_and_never_reads_values_as_markup() -> None:
    out = StringIO()
    Console(file=out, width=200).print(problems_table(PROBLEMS))
    shown = out.getvalue()
    assert "field='[bold]x' must be declared; declare it" in shown
    assert shown.splitlines()[0].startswith("policy has 2 problems in 2 files")


def test_text_is_one_line_a_finding() -> None:
    assert (
        problems_text(PROBLEMS).splitlines()[0] == "a.yaml:3:7: field='[bold]x' must be declared; declare it"
    )


def test_json_has_every_part() -> None:
    read = json.loads(problems_json(PROBLEMS))
    assert read["ok"] is False
    assert read["problems"][1] == {
        "file": "b.yaml",
        "line": 0,
        "column": 0,
        "message": "folder must be readable; fix it",
    }
    assert json.loads(problems_json(())) == {"ok": True, "problems": []}


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "policy has no problems"),
        (1, "policy has 1 problem in 1 file"),
        (2, "policy has 2 problems in 2 files"),
    ],
)
def test_summary_is_a_sentence(count: int, said: str) -> None:
    assert summary(PROBLEMS[:count]) == said
