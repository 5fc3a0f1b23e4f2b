"""When to try again, and when to leave an endpoint in peace."""

from collections.abc import Callable
from typing import Final

import msgspec

__all__ = ["Backoff"]

_JITTER: Final = 0.2


class Backoff(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Waiting times of one endpoint, all in milliseconds, each spread by a fifth either way.

    Attempt n waits `delays_ms[n]` after the end of the one before; the last delay repeats, so that only the end of the fragment
    ends the attempts. After `failures_to_open` failures in a row the endpoint rests (the circuit opens) for `rest_ms`, doubled
    each time its probe fails, up to `max_rest_ms`.
    """

    delays_ms: tuple[int, ...] = (0, 1_000, 5_000, 30_000, 120_000, 300_000, 600_000)
    failures_to_open: int = 5
    rest_ms: int = 10_000
    max_rest_ms: int = 60_000

    def delay_ms(self, attempts: int, random: Callable[[], float]) -> int:
        """Wait before the next attempt when `attempts` were made; `random` gives numbers in [0, 1)."""
        return _spread(self.delays_ms[min(attempts, len(self.delays_ms) - 1)], random)

    def rest_after_ms(self, rests: int, random: Callable[[], float]) -> int:
        """Length of a rest when `rests` have followed each other without a success between."""
        return _spread(min(self.rest_ms << min(rests, 32), self.max_rest_ms), random)


def _spread(delay_ms: int, random: Callable[[], float]) -> int:
    return round(delay_ms * (1 - _JITTER + 2 * _JITTER * random()))
