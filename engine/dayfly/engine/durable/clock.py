"""The engine's clock: the wall clock, but never backwards."""

from collections.abc import Callable
from typing import Final

__all__ = ["SteadyClock"]


class SteadyClock:
    """Milliseconds UTC that never fall, and a record of the steps that the wall clock made.

    A step back is waited out: the engine's time stands still until the wall clock has caught up. A step forward is
    followed, as it cannot be told from a pause; it is reported, because everything that it jumps over expires.

    Args:
        now_ms: The wall clock.
        start_ms: Not before this instant: where the shard's clock stood.
        jump_ms: Steps at least this large are reported.

    Attributes:
        steps_back, steps_ahead: How many were seen.
        largest_step_ms: The largest of them, negative when back.
    """

    def __init__(self, now_ms: Callable[[], int], *, start_ms: int = 0, jump_ms: int = 60_000) -> None:
        self._wall: Final = now_ms
        self._jump_ms: Final = jump_ms
        self._seen = now_ms()
        self._now = max(start_ms, self._seen)
        self.steps_back = int(start_ms > self._seen + jump_ms)
        self.steps_ahead = 0
        self.largest_step_ms = self._seen - start_ms if self.steps_back else 0

    def __call__(self) -> int:
        """Now."""
        wall = self._wall()
        step = wall - self._seen
        if step < 0 or step >= self._jump_ms:
            self.steps_back += step < 0
            self.steps_ahead += step > 0
            if abs(step) > abs(self.largest_step_ms):
                self.largest_step_ms = step
        self._seen = wall
        self._now = max(self._now, wall)
        return self._now

    @property
    def behind_ms(self) -> int:
        """How far the wall clock is behind the engine's time."""
        return max(0, self._now - self._seen)
