"""Findings about a policy folder as a table for people or as JSON for machines."""

from collections import Counter
from collections.abc import Sequence

import orjson
from rich.table import Table
from rich.text import Text

from .problems import Problem

__all__ = ["problems_json", "problems_table", "problems_text", "summary"]


def problems_table(problems: Sequence[Problem]) -> Table:
    """A table for `rich`: place and message, one row per finding; values are shown as they are, never as markup."""
    table = Table(title=summary(problems), title_justify="left", show_lines=False)
    table.add_column("file", no_wrap=True)
    table.add_column("line", justify="right")
    table.add_column("column", justify="right")
    table.add_column("what must hold, and the way out", overflow="fold")
    for problem in problems:
        place = (str(problem.line), str(problem.column)) if problem.line else ("", "")
        table.add_row(Text(problem.file), *place, Text(problem.message))
    return table


def problems_text(problems: Sequence[Problem]) -> str:
    """One line per finding, ``file:line:column: message``, as editors and compilers write it."""
    return "\n".join(map(str, problems))


def problems_json(problems: Sequence[Problem]) -> bytes:
    """``{"ok": bool, "problems": [{"file", "line", "column", "message"}, ...]}``."""
    return orjson.dumps({"ok": not problems, "problems": list(problems)})


def summary(problems: Sequence[Problem]) -> str:
    """One sentence: how many findings in how many files."""
    if not problems:
        return "policy has no problems"
    files = Counter(problem.file for problem in problems)
    findings = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return f"policy has {findings} in {'1 file' if len(files) == 1 else f'{len(files)} files'}"
