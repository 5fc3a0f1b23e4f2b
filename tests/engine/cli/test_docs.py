"""The examples of docs/cli.md print what the page says."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from dayfly.engine.cli import app

from .page import PAGE, constant, filled

pytestmark = pytest.mark.skipif(
    not PAGE.exists(), reason="the pages are not beside the tests; run from a checkout"
)


def test_every_example_prints_what_the_page_says(tmp_path: Path) -> None:
    page = PAGE.read_text()
    assert constant(filled(page, tmp_path)) == constant(page), "run `python -m tests.engine.cli.page`"


def test_every_command_is_on_the_page() -> None:
    page = PAGE.read_text()
    for name in get_command(app).commands:  # type: ignore[attr-defined]
        assert re.search(rf"dayfly {name}\b", page), name


def test_what_must_be_equal_leaves_out_only_what_varies() -> None:
    same = constant("2 of 41 receipts for YJ8wDTScjMYZ2M4YK8gUAg in 3.2 s, 1,100 events/s")
    assert same == "2 of 41 receipts for ID in TIME, RATE"
    assert constant("3 minted") != constant("4 minted")
