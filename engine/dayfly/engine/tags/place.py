"""Where a part of a tag stands in its text, and errors that point there."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple

from dayfly.engine.errors import TagError

from .functions import Path

_AROUND: Final = 60
"""Characters shown on each side of a place."""

__all__ = ["Source", "Span", "caret", "refusal"]


class Span(NamedTuple):
    """Characters `[start, end)` of a text."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Source:
    """The text a tree was read from, and the span of each of its parts.

    Attributes:
        text: The text.
        places: Span by path from the root of the tree; a part without its own has that of the part around it.
    """

    text: str
    places: Mapping[Path, Span] = field(default_factory=lambda: MappingProxyType({}))

    def span(self, path: Path) -> Span:
        """Span of the part at `path`, or of the nearest part around it."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, Span(0, len(self.text)))

    def refusal(self, message: str, path: Path) -> TagError:
        """Error about the part at `path`."""
        return refusal(message, self.text, self.span(path))


def refusal(message: str, text: str, span: Span) -> TagError:
    """Error with `message` first and the place below it, marked by carets."""
    shown = f"{message}\n{caret(text, span)}" if text else message
    return TagError(shown, text=text, start=span.start, end=span.end)


def caret(text: str, span: Span) -> str:
    """The line of `text` on which `span` starts, and below it carets under the span; wide characters take two columns.

    >>> print(caret('count("Visit") > 0', Span(6, 13)))
      count("Visit") > 0
            ^^^^^^^
    """
    begin = text.rfind("\n", 0, span.start) + 1
    stop = text.find("\n", begin)
    line = text[begin:] if stop < 0 else text[begin:stop]
    start, end = span.start - begin, min(max(span.end - begin, 0), len(line))
    cut = max(0, start - _AROUND)
    before, marked, after = line[cut:start], line[start:end][: 2 * _AROUND], line[end : end + _AROUND]
    line = f"{'...' if cut else ''}{before}{marked}{after}{'...' if len(line) > end + _AROUND else ''}"
    pad = "   " * bool(cut) + "".join("\t" if char == "\t" else " " * _width(char) for char in before)
    return f"  {line}\n  {pad}{'^' * max(1, sum(map(_width, marked)))}"


def _width(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
