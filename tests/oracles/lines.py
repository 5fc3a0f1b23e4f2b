"""One window of one person as a plain sorted list: what `dayfly.engine.shard.kernels_lines` must be indistinguishable from."""

from bisect import insort_right
from dataclasses import dataclass, field
from typing import Final

__all__ = ["DISTINCT", "MAXIMA", "MINIMA", "NOTHING", "PAIRS", "STAMPS", "UNCHANGED", "NaiveLine"]

STAMPS, PAIRS, DISTINCT, MINIMA, MAXIMA = range(5)

NOTHING: Final = None
"""No entry stopped counting."""

UNCHANGED: Final = "unchanged"
"""The line is as it was."""


@dataclass(slots=True)
class NaiveLine:
    """Entries (time, value) sorted by time, equal times by arrival.

    Attributes:
        kind: What the line keeps: all entries, the newest of each value, or those that can become smallest or largest.
        cap: Number of newest entries kept; 0: all that are younger than `oldest`.
    """

    kind: int
    cap: int = 0
    entries: list[tuple[int, int]] = field(default_factory=list)

    def insert(self, time: int, value: int, oldest: int) -> int | str | None:
        """Add an entry; returns the time of the one that stopped counting because of it, `NOTHING`, or `UNCHANGED`."""
        entries = list(self.entries)
        replaced: int | str | None = NOTHING
        same = [entry for entry in entries if entry[1] == value]
        if self.kind == DISTINCT and same:
            if same[0][0] >= time:
                return UNCHANGED
            entries.remove(same[0])
            replaced = same[0][0]
        if self.kind in (MINIMA, MAXIMA) and any(
            later > time and self._at_least_as_extreme(other, value) for later, other in entries
        ):
            return UNCHANGED
        if self.cap == 0:
            entries = [entry for entry in entries if entry[0] > oldest]
        elif len(entries) >= self.cap:
            if entries[0][0] > time:
                return UNCHANGED
            replaced = entries.pop(0)[0]
        insort_right(entries, (time, value), key=lambda entry: entry[0])
        if self.kind in (MINIMA, MAXIMA):
            entries = [
                (at, mine)
                for place, (at, mine) in enumerate(entries)
                if not any(self._at_least_as_extreme(other, mine) for _, other in entries[place + 1 :])
            ]
        self.entries = entries
        return replaced

    def after(self, lower: int) -> list[tuple[int, int]]:
        """Entries with time > `lower`."""
        return [entry for entry in self.entries if entry[0] > lower]

    def _at_least_as_extreme(self, one: int, other: int) -> bool:
        return one <= other if self.kind == MINIMA else one >= other
