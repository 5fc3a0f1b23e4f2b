"""Many requests at once: the decision as bits of one integer."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from dayfly.privacy.errors import InvalidArgument

from .person import PersonConsents
from .record import INT64_MAX
from .scope import DIMENSIONS, ConsentRequest, Scope, first_miss, request_is_sound, touches
from .settle import is_instant, is_person, settle

__all__ = ["MAX_REQUIREMENTS", "Requirements", "compile_mask"]

MAX_REQUIREMENTS: Final = 63
_SCOPES_KEPT: Final = 4096
_ALL: Final = len(DIMENSIONS)


class Requirements:
    """Up to 63 requests with their coverage by scope, worked out once per scope and kept.

    Args:
        requests: What bit 0, 1, ... of a mask stand for.

    Raises:
        InvalidArgument: More than 63 requests.
    """

    __slots__ = ("_kept", "requests", "sound")

    def __init__(self, requests: Sequence[ConsentRequest]) -> None:
        self.requests: Final = tuple(requests)
        if len(self.requests) > MAX_REQUIREMENTS:
            raise InvalidArgument(
                f"requirements={len(self.requests)} must be <= {MAX_REQUIREMENTS}; split them over several masks"
            )
        self.sound: Final = sum(
            1 << bit for bit, request in enumerate(self.requests) if request_is_sound(request)
        )
        self._kept: Final[dict[Scope, tuple[int, int]]] = {}

    def masks(self, scope: Scope) -> tuple[int, int]:
        """Bits of the requests that a grant of `scope` covers, and bits of those that a denial of it touches."""
        kept = self._kept.get(scope)
        if kept is None:
            covered = touched = 0
            for bit, request in enumerate(self.requests):
                if self.sound >> bit & 1:
                    covered |= (first_miss(scope, request) == _ALL) << bit
                    touched |= touches(scope, request) << bit
            if len(self._kept) >= _SCOPES_KEPT:
                self._kept.clear()
            kept = self._kept[scope] = (covered, touched)
        return kept


@lru_cache(maxsize=64)
def _requirements(requests: tuple[ConsentRequest, ...]) -> Requirements:
    return Requirements(requests)


def compile_mask(
    requirements: Requirements | Sequence[ConsentRequest], person: PersonConsents, now_ms: int
) -> tuple[int, int]:
    """Decide up to 63 requests at once.

    Args:
        requirements: The requests; pass one `Requirements` object again and again to save its preparation.
        person: The person's consents.
        now_ms: The present instant, int64 milliseconds UTC.

    Returns:
        A mask whose bit i is set exactly when `decide(requirements[i], person, now_ms)` allows, and the first later
        instant at which a bit could differ if nothing more arrives (int64 max when never).

    Raises:
        InvalidArgument: More than 63 requests.
    """
    prepared = _prepared(requirements)
    if not is_person(person) or not is_instant(now_ms):
        return 0, INT64_MAX
    allowed = denied = 0
    change_ms = INT64_MAX
    spent = person.spent
    for acts in person.acts:
        answered, yes, next_ms = settle(
            acts, prepared.masks, prepared.sound, now_ms=now_ms, spent=spent, steps=None
        )
        allowed |= yes
        denied |= answered & ~yes
        change_ms = min(change_ms, next_ms)
    return allowed & ~denied, change_ms


def _prepared(requirements: Requirements | Sequence[ConsentRequest]) -> Requirements:
    if isinstance(requirements, Requirements):
        return requirements
    requests = tuple(requirements)
    try:
        return _requirements(requests)
    except TypeError:  # a malformed request may be unhashable; its bit stays clear
        return Requirements(requests)
