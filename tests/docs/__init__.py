"""The pages, the README and the notebooks say what is so."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])

_FENCE = re.compile(
    r"^(?P<tick>`{3,})(?P<language>\S*)[^\n]*\n(?P<body>.*?)^(?P=tick)$", re.MULTILINE | re.DOTALL
)


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and content of every fenced block of a page, in order."""
    return [(found["language"], found["body"]) for found in _FENCE.finditer(page.read_text(encoding="utf-8"))]


def prose(page: Path) -> str:
    """A page without its fenced blocks and code spans."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "", text)


def matches(shown: str, real: str) -> bool:
    """Whether `shown` is `real` with parts left out, each marked by an ellipsis."""
    pattern = ".+".join(re.escape(part) for part in shown.split("…"))
    return re.fullmatch(pattern, real, re.DOTALL) is not None
