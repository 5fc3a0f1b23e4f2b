"""The examples of docs/cli.md: run them, and write what they print into the page.

`python -m tests.engine.cli.page` writes the page anew.
"""

import contextlib
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from typer.testing import CliRunner

from dayfly.engine.cli import app
from dayfly.engine.policy.load import example_policy_folder

from .support import rows

PAGE = Path(__file__).parents[3] / "docs" / "cli.md"
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
FRAGMENT_ID = re.compile(r"(?<![\w-])[\w-]{22}(?![\w-])")
WIDTH = 110

_VARYING = (
    (re.compile(r"(?<![\w-])[\w-]{22}(?![\w-])"), "ID"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "SHA256"),
    (re.compile(r"o:[0-9a-f]+…?"), "CONSENT"),
    (re.compile(r"\b[0-9a-f]{8}(?= (app|web)\b)"), "DIGEST"),
    (re.compile(r"[\d.]+ (s|ms)\b"), "TIME"),
    (re.compile(r"[\d,]+ events/s"), "RATE"),
    (re.compile(r" {2,}|[─━]{2,}"), " "),
)


def constant(text: str) -> str:
    """What must be equal in every run: without ids, digests, durations, and the widths that follow from them."""
    for pattern, name in _VARYING:
        text = pattern.sub(name, text)
    return text


def filled(page: str, folder: Path) -> str:
    """The page with what its commands print when they are run in `folder`."""
    session = _Session(folder)
    with contextlib.chdir(folder):
        return BLOCK.sub(lambda block: f"```console\n{session.played(block[1])}```", page)


class _Session:
    def __init__(self, folder: Path) -> None:
        shutil.copytree(
            example_policy_folder(), folder / "policy", ignore=shutil.ignore_patterns("__pycache__")
        )
        self._out = folder / "out"
        self._status = 0

    def played(self, block: str) -> str:
        commands = [line for line in block.splitlines() if line.startswith("$ ")]
        return "".join(line + "\n" for command in commands for line in self._play(command.removeprefix("$ ")))

    def _play(self, command: str) -> Iterator[str]:
        if self._out.exists():
            command = FRAGMENT_ID.sub(self._sofa_fragment(), command)
        yield f"$ {command}"
        if command == "echo $?":
            yield str(self._status)
            return
        plain, _, most = command.partition(" | head -")
        program, *arguments = [word for part in shlex.split(plain) for word in _expanded(part)]
        assert program == "dayfly"
        result = CliRunner().invoke(
            app, arguments, env={"COLUMNS": str(WIDTH), "TERM": "dumb", "NO_COLOR": "1"}
        )
        self._status = result.exit_code
        lines = [line.rstrip() for line in result.output.rstrip("\n").split("\n")]
        yield from lines[: int(most) if most else None]

    def _sofa_fragment(self) -> str:
        """The first fragment about sofas, whatever its id is in this run."""
        orders = {
            row["order_id"]
            for row in rows(self._out / "decisions.jsonl")
            if row["kind"] == "order" and row["trigger"] == "advise-on-sofa-materials"
        }
        found = (row["jti"] for row in rows(self._out / "fragments.jsonl") if row["order_id"] in orders)
        return str(next(found))


def _expanded(word: str) -> list[str]:
    return sorted(str(path) for path in Path().glob(word)) if "*" in word else [word]


def main() -> None:
    """Write the page anew."""
    with tempfile.TemporaryDirectory() as folder:
        PAGE.write_text(filled(PAGE.read_text(), Path(folder)))


if __name__ == "__main__":
    main()
