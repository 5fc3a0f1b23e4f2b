"""The README's code runs, prints what it shows, and the fragment it shows is the one that its code mints."""

import contextlib
import io
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from dayfly.bench.report import BEGIN, replaced
from dayfly.privacy.fragments.wire import SealedClaims, b64url_decode

from . import ROOT, blocks, matches

README = ROOT / "README.md"


def listed() -> list[tuple[str, str]]:
    return [block for block in blocks(README) if block[0] in {"python", "text"}]


@pytest.fixture(scope="module")
def run() -> Iterator[tuple[dict[str, Any], list[tuple[str, str]]]]:
    """Names after all Python blocks, and each block's shown beside its real output."""
    names: dict[str, Any] = {}
    told: list[tuple[str, str]] = []
    for language, body in listed():
        if language == "python":
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(body, "README.md", "exec"), names)
        else:
            told.append((body, out.getvalue()))
    yield names, told
    names["engine"].close()


def test_every_python_block_is_followed_by_what_it_prints() -> None:
    assert [language for language, _ in listed()] == ["python", "text"] * (len(listed()) // 2)
    assert len(listed()) >= 8


def test_every_block_prints_what_is_shown(run: tuple[dict[str, Any], list[tuple[str, str]]]) -> None:
    assert [(shown, real) for shown, real in run[1] if not matches(shown, real)] == []


def test_the_fragment_shown_is_the_one_minted_but_for_what_is_random(
    run: tuple[dict[str, Any], list[tuple[str, str]]],
) -> None:
    (shown,) = [json.loads(body) for language, body in blocks(README) if language == "json"]
    token = run[0]["fragment"].token
    real = json.loads(b64url_decode(token.split(".")[1]))
    assert list(shown) == list(real)
    assert not [name for name in shown if not same(shown[name], real[name])]


def same(shown: Any, real: Any) -> bool:
    """Equal where the page shows a value; of the same form where it shows the beginning of a random one."""
    if isinstance(shown, dict):
        return list(shown) == list(real) and all(same(shown[name], real[name]) for name in shown)
    if isinstance(shown, list):
        return len(shown) == len(real) and all(map(same, shown, real))
    if isinstance(shown, str) and shown.endswith("…"):
        return isinstance(real, str) and len(real) >= len(shown)
    return bool(shown == real)


@pytest.mark.parametrize(
    ("shown", "real", "outcome"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ("a…", "bcd", True),
        (["a…"], ["b1", "c1"], False),
        ({"x": 1}, {"x": 1, "y": 2}, False),
        (1, 2, False),
    ],
)
def test_the_comparison_sees_differences(*, shown: Any, real: Any, outcome: bool) -> None:
    assert same(shown, real) is outcome


def test_every_claim_of_a_fragment_is_explained() -> None:
    told = [line.split("|")[1] for line in README.read_text().splitlines() if line.startswith("| `")]
    named = {name.strip(" `") for cell in told for name in cell.split(",")}
    optional = {"use"}
    names = {field.encode_name for field in msgspec.structs.fields(SealedClaims)}
    assert names - optional - named == {"_sd_alg"}


def test_the_bench_can_write_its_table_into_the_page() -> None:
    written = replaced(README.read_text(), "| what |")
    assert f"{BEGIN}\n| what |\n" in written


@pytest.mark.parametrize(
    ("shown", "real", "outcome"),
    [("a\n", "a\n", True), ("a … c", "a b c", True), ("a … c", "a b d", False), ("a.c", "abc", False)],
)
def test_output_is_compared_but_for_ellipses(*, shown: str, real: str, outcome: bool) -> None:
    assert matches(shown, real) is outcome
