"""Findings about policy files: where and what."""

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Position", "Problem"]


class Position(NamedTuple):
    """Line and column, both from 1; 0 when there is no file."""

    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One reason against a policy file.

    Attributes:
        file: Path relative to the policy folder.
        line, column: Place, both from 1; 0 when the finding has no place in the file.
        message: What must hold, and the way out.
    """

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        """`file:line:column: message`, as compilers write it."""
        return f"{self.file}:{self.line}:{self.column}: {self.message}"
