"""Where dead letters stood: in their own submission, also when many submissions were read with one call."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from dayfly.engine.durable.work import Work
from dayfly.engine.intake import IntakeResult, RejectedEvent

__all__ = ["Letters", "ends_of", "in_submissions"]

Letters = list[tuple[int, RejectedEvent]]
"""Dead letters, each with the number of its submission."""


def ends_of(works: Sequence[Work]) -> list[int]:
    """For each submission the number of the payload behind its last one, when they are read together."""
    return list(accumulate(len(work.payloads) for work in works))


def in_submissions(result: IntakeResult, start: int, ends: Sequence[int]) -> tuple[IntakeResult, Letters]:
    """Say of the dead letters where they stood in their own submission.

    Args:
        result: Of one intake call.
        start: Number of its first payload among those of all submissions.
        ends: As `ends_of`.

    Returns:
        The result with these letters, and the letters by submission.
    """
    if not result.dead_letters:
        return result, []
    letters: Letters = []
    for letter in result.dead_letters:
        number, comma, rest = letter.place.removeprefix("payload ").partition(",")
        at = start + int(number)
        which = bisect_right(ends, at)
        own = at - (ends[which - 1] if which else 0)
        letters.append((which, replace(letter, place=f"payload {own}{comma}{rest}")))
    return replace(result, dead_letters=tuple(letter for _, letter in letters)), letters
