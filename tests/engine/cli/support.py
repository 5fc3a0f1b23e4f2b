"""Running `dayfly` within the test's process, and what a run left."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import orjson
from click.testing import Result
from typer.testing import CliRunner

from dayfly.engine.cli import app
from dayfly.engine.policy.load import example_policy_folder

COLUMNS = {"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}


def dayfly(*arguments: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(item) for item in arguments], input=stdin, env=COLUMNS)


def rows(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


@dataclass(frozen=True)
class Run:
    """The folder and the summary of one run."""

    POLICY: ClassVar[Path] = example_policy_folder()

    out: Path
    summary: dict[str, Any]

    @functools.cached_property
    def fragments(self) -> list[dict[str, Any]]:
        return rows(self.out / "fragments.jsonl")

    def fragment(self, profile: str = "F1") -> dict[str, Any]:
        return next(row for row in self.fragments if row["profile"] == profile)
