"""Which shard a pseudonym lives in: where it hashes to, unless a move brought it elsewhere."""

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from dayfly.engine.events import words

__all__ = ["Routes", "hashed_homes"]

_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)
_FILTER_BITS: Final = 22

Ids = npt.NDArray[np.uint64]


def hashed_homes(ids: Ids, shards: int) -> npt.NDArray[np.int64]:
    """Where pseudonyms live that never moved; part of the format of a sharded store.

    Args:
        ids: uint64[n, 2].
        shards: How many there are.

    Returns:
        int64[n].
    """
    mixed = (ids[:, 0] ^ (ids[:, 1] >> np.uint64(7))) * _MULTIPLIER
    return ((mixed >> np.uint64(33)) % np.uint64(shards)).astype(np.int64)


class Routes:
    """Homes of pseudonyms. What moved is known from the shards themselves: they tell their guests when they are opened.

    Args:
        guests: For each shard, the pseudonyms that came to it by a move.
    """

    def __init__(self, guests: Sequence[Iterable[bytes]]) -> None:
        self.shards: Final = len(guests)
        self._guests: dict[bytes, int] = {}
        self._filter = np.zeros(1 << _FILTER_BITS, bool)  # never False for a guest
        for shard, names in enumerate(guests):
            self.moved(list(names), shard)

    def moved(self, names: Sequence[bytes], shard: int) -> None:
        """Pseudonyms live in a shard from now on."""
        if names:
            self._guests.update(dict.fromkeys(names, shard))
            self._filter[self._slots(words(names))] = True

    def forget(self, names: Iterable[bytes]) -> None:
        """Forget where pseudonyms of somebody who is erased had moved to."""
        for name in names:
            self._guests.pop(name, None)

    def home(self, name: bytes) -> int:
        """Number of the shard of a pseudonym."""
        found = self._guests.get(name)
        return int(hashed_homes(words([name]), self.shards)[0]) if found is None else found

    def is_guest(self, name: bytes) -> bool:
        """Whether a pseudonym ever moved."""
        return name in self._guests

    def homes(self, ids: Ids) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.intp]]:
        """Shards of many pseudonyms.

        Args:
            ids: uint64[n, 2].

        Returns:
            int64[n], and the rows of those that moved.
        """
        found = hashed_homes(ids, self.shards)
        moved: list[int] = []
        if self._guests:
            for row in np.flatnonzero(self._filter[self._slots(ids)]).tolist():
                shard = self._guests.get(ids[row].astype("<u8").tobytes())
                if shard is not None:
                    found[row] = shard
                    moved.append(row)
        return found, np.array(moved, np.intp)

    @staticmethod
    def _slots(ids: Ids) -> npt.NDArray[np.int64]:
        return ((ids[:, 0] * _MULTIPLIER) >> np.uint64(64 - _FILTER_BITS)).astype(np.int64)
