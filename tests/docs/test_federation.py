"""docs/federation.md: its example runs, its settings files are read, its commands, errors, tests and proof notes exist."""

import ast
import re
from importlib import import_module

import msgspec
import pytest
import yaml

from dayfly.federation.deployed.folders import ChannelSettings
from dayfly.federation.errors import __all__ as errors
from dayfly.federation.runs import PROTOCOLS, Plan, protocol_named

from . import ROOT

PAGE = (ROOT / "docs" / "federation.md").read_text(encoding="utf-8")
SHOWN_BY = re.findall(r"\[([^]]+)\]\(\.\./(tests/[\w/]+\.py)\)", PAGE)
DOCUMENTS = re.findall(r"```yaml\n# (\S+)\n(.*?)```", PAGE, flags=re.DOTALL)


def section(name: str) -> str:
    """Text below a heading, up to the next of its kind."""
    return re.split(r"^#{2,3} ", PAGE.split(f"# {name}\n")[1], flags=re.MULTILINE)[0]


def test_the_example_runs() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    exec(compile(example, "docs/federation.md", "exec"), {})


@pytest.mark.parametrize(("name", "text"), DOCUMENTS, ids=[name for name, _ in DOCUMENTS])
def test_each_document_is_what_its_reader_takes(name: str, text: str) -> None:
    read = yaml.safe_load(text)
    if name.endswith("channel.yaml"):
        assert set(msgspec.convert(read, ChannelSettings).protocols) <= set(PROTOCOLS)
        return
    plan = msgspec.convert(read, Plan)
    given = {"alignment": "00" * 16, "universe": 50_000} if plan.alignment else {}
    assert protocol_named(plan.protocol).terms({**plan.settings, **given})


def test_there_are_four_documents() -> None:
    assert len(DOCUMENTS) == 4


def test_every_command_exists() -> None:
    known = set(
        re.findall(r"^###* `dayfly (.+)`$", (ROOT / "docs" / "commands.md").read_text(), re.MULTILINE)
    )
    lines = [
        line for block in re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL) for line in block.splitlines()
    ]
    assert len(lines) >= 9
    for line in lines:
        words = line.removeprefix("dayfly ").split()
        assert any(" ".join(words[:count]) in known for count in (2, 3)), line


@pytest.mark.parametrize(("words", "path"), SHOWN_BY)
def test_the_test_that_shows_it_exists(words: str, path: str) -> None:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    tests = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert "test_" + words.replace(" ", "_") in tests


def test_every_protocol_is_told_and_every_error_named_exists() -> None:
    told = set(re.findall(r"^\| `(\w+)` \|", section("What can be run"), re.MULTILINE))
    assert told == set(PROTOCOLS)
    named = set(re.findall(r"`([A-Z]\w+)`", section("Trouble")))
    assert len(named) >= 8
    assert named <= set(errors)


def test_each_proof_note_is_where_the_page_says() -> None:
    rows = [line for line in section("The guarantee, for one customer").splitlines() if "`dayfly" in line]
    assert len(rows) >= 8
    for row in rows:
        package = ""
        for name in re.findall(r"`(\.?[\w.]+)`", row.split("|")[2]):
            whole = package + name if name.startswith(".") else name
            package = whole.rsplit(".", 1)[0]
            assert re.search(r"Claim:", import_module(whole).__doc__ or ""), whole
