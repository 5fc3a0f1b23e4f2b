"""Keys of WiFi probes by local day, kept where they can really be destroyed."""

import re
from typing import Final

from dayfly.privacy.errors import DeidentificationError

from .interfaces import ListedKeys

__all__ = ["ProbeDayKeys"]

_PURPOSE: Final = re.compile(r"probe\.(-?\d+)\Z")


class ProbeDayKeys:
    """The day key of WiFi probes in a data-key store: it survives a restart within its day, and not its day.

    Args:
        keys: Where the keys live, for example `SlotKeys`; the purpose is `probe.<day>`.

    Guarantees:
        Once a later day was entered, or `forget_before` was called for it, no key of an earlier day is in the store. A
        day before a living key's day is refused, also after a restart.
    """

    __slots__ = ("_keys",)

    def __init__(self, keys: ListedKeys) -> None:
        self._keys: Final = keys

    def __call__(self, day: int) -> bytes:
        """The key of a local day (days since 1970-01-01); made at its first use, when earlier ones are destroyed.

        Raises:
            DeidentificationError: A later day has begun, so this day's key is gone.
        """
        days = self._days()
        if days and max(days) > day:
            raise DeidentificationError(
                f"day={day!r} must be >= {max(days)}, because earlier keys are destroyed; drop the probe"
            )
        live = self._keys.live(f"probe.{day}")
        key = self._keys.get(live[0]) if live else self._keys.create(f"probe.{day}")[1]
        self.forget_before(day)
        return key

    def forget_before(self, day: int) -> int:
        """Destroy the keys of all earlier days; call it at start and at local midnight, because no probe may come.

        Returns:
            How many were destroyed.
        """
        old = [
            key_id
            for earlier in self._days()
            if earlier < day
            for key_id in self._keys.live(f"probe.{earlier}")
        ]
        if old:
            self._keys.destroy(old)
        return len(old)

    def _days(self) -> list[int]:
        return [int(match[1]) for purpose in self._keys.purposes() if (match := _PURPOSE.match(purpose))]
