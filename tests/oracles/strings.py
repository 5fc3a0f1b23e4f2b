"""Interned texts as a dictionary, and text tests as methods of Python strings."""

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["NaiveStrings"]


@dataclass(slots=True)
class NaiveStrings:
    """What `dayfly.engine.shard.kernels_strings` must be indistinguishable from.

    Attributes:
        tests: Per field, (test, text) with test one of equal, contains, prefix, suffix.
        numbers: Number of each text of each field, in order of first being met.
    """

    tests: Sequence[Sequence[tuple[str, str]]]
    numbers: dict[tuple[int, str], int] = field(default_factory=dict)

    def intern(self, position: int, text: str) -> int:
        """Number of a text of a field."""
        return self.numbers.setdefault((position, text), len(self.numbers))

    def answers(self, position: int, text: str) -> list[bool]:
        """Answers of the field's tests, by code points."""
        return [_passes(test, text, wanted) for test, wanted in self.tests[position]]


def _passes(test: str, text: str, wanted: str) -> bool:
    match test:
        case "equal":
            return text == wanted
        case "contains":
            return wanted in text
        case "prefix":
            return text.startswith(wanted)
        case _:
            return text.endswith(wanted)
