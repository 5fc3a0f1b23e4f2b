"""Chance that is drawn once: what a protocol draws is in the journal before the protocol has it.

Claim: a state machine that is run again over its journal draws what it drew before, bit for bit, and no draw that anything outside
could have seen is ever replaced by another.
Precondition: the state machine is a function of its inputs and of what it draws here.
Argument: a draw is durable before it is returned. On the second run each draw is compared with the recorded one in what was asked
for (kind, size, scale, digest of the values), so a program or data that changed in between is noticed and nothing is answered.
"""

import hashlib
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from dayfly.federation.errors import JournalDiverged
from dayfly.privacy.noise import NoiseSource

__all__ = ["Draws", "RecordedClock", "RecordedNoise", "RecordedRandom", "Take"]

Values = NDArray[np.int64]
Take = Callable[[str, Callable[[], bytes]], bytes]
"""`take(what, draw)`: the recorded draw, or a new one that is recorded first."""


class Draws:
    """Draws of one state machine, recorded and served again.

    Args:
        record: Makes a new draw durable: what was asked for, and what was drawn.
    """

    def __init__(self, record: Callable[[str, bytes], None]) -> None:
        self._record: Final = record
        self._recorded: list[tuple[str, bytes]] = []
        self._served = 0

    def serve(self, recorded: list[tuple[str, bytes]]) -> None:
        """From now on these come first."""
        self._recorded, self._served = recorded, 0

    @property
    def left(self) -> int:
        """Recorded draws that nobody asked for again."""
        return len(self._recorded) - self._served

    def take(self, what: str, draw: Callable[[], bytes]) -> bytes:
        """The next draw.

        Raises:
            JournalDiverged: another draw was recorded here.
        """
        if self.left:
            asked, drawn = self._recorded[self._served]
            if asked != what:
                raise JournalDiverged(
                    f"draw={what!r} must be {asked!r}, as it was before the restart; restart with the same version and data"
                )
            self._served += 1
            return drawn
        drawn = draw()
        self._record(what, drawn)
        return drawn


class RecordedRandom:
    """Random bytes that are drawn once.

    Args:
        take: Of the journal.
        random_bytes: Of the operating system.
    """

    __slots__ = ("_random_bytes", "_take")

    def __init__(self, take: Take, random_bytes: Callable[[int], bytes]) -> None:
        self._take: Final = take
        self._random_bytes: Final = random_bytes

    def __call__(self, size: int) -> bytes:
        """So many bytes."""
        return self._take(f"{size} random bytes", lambda: self._random_bytes(size))


class RecordedClock:
    """Instants that are read once.

    Args:
        take: Of the journal.
        now_ms: The clock.
    """

    __slots__ = ("_now_ms", "_take")

    def __init__(self, take: Take, now_ms: Callable[[], int]) -> None:
        self._take: Final = take
        self._now_ms: Final = now_ms

    def __call__(self) -> int:
        """Milliseconds UTC."""
        return int.from_bytes(
            self._take("instant", lambda: self._now_ms().to_bytes(8, "big", signed=True)), "big", signed=True
        )


class RecordedNoise:
    """Noise that is drawn once.

    What is recorded is the noisy value, so a rebuilt party cannot add other noise to the same value, nor the same noise to another.

    Args:
        take: Of the journal.
        noise: Where new noise comes from.
    """

    __slots__ = ("_noise", "_take")

    def __init__(self, take: Take, noise: NoiseSource) -> None:
        self._take: Final = take
        self._noise: Final = noise

    def laplace(self, values: Values, scale: Fraction, *, l1: int = 1) -> Values:
        """As `NoiseSource.laplace`."""
        what = _asked("laplace", scale, values.tobytes(), values.shape, l1)
        return self._vector(what, values.shape, lambda: self._noise.laplace(values, scale, l1=l1))

    def gaussian(self, values: Values, scale: Fraction, *, l2_squared: int = 1) -> Values:
        """As `NoiseSource.gaussian`."""
        what = _asked("gaussian", scale, values.tobytes(), values.shape, l2_squared)
        return self._vector(
            what, values.shape, lambda: self._noise.gaussian(values, scale, l2_squared=l2_squared)
        )

    def laplace_threshold(
        self,
        values: Mapping[int, int],
        scale: Fraction,
        threshold: int,
        *,
        sensitivity: tuple[int, int, int] = (1, 1, 1),
    ) -> dict[int, int]:
        """As `NoiseSource.laplace_threshold`."""
        what = _asked("laplace_threshold", scale, _items(values), threshold, sensitivity)
        return self._map(
            what, lambda: self._noise.laplace_threshold(values, scale, threshold, sensitivity=sensitivity)
        )

    def gaussian_threshold(
        self,
        values: Mapping[int, int],
        scale: Fraction,
        threshold: int,
        *,
        sensitivity: tuple[int, int, int] = (1, 1, 1),
    ) -> dict[int, int]:
        """As `NoiseSource.gaussian_threshold`."""
        what = _asked("gaussian_threshold", scale, _items(values), threshold, sensitivity)
        return self._map(
            what, lambda: self._noise.gaussian_threshold(values, scale, threshold, sensitivity=sensitivity)
        )

    def _vector(self, what: str, shape: tuple[int, ...], draw: Callable[[], Values]) -> Values:
        drawn = self._take(what, lambda: np.ascontiguousarray(draw(), np.int64).tobytes())
        return np.frombuffer(drawn, np.int64).reshape(shape).copy()

    def _map(self, what: str, draw: Callable[[], dict[int, int]]) -> dict[int, int]:
        drawn = self._take(what, lambda: _items(draw()))
        return dict(msgspec.msgpack.decode(drawn, type=list[tuple[int, int]]))


def _items(values: Mapping[int, int]) -> bytes:
    return msgspec.msgpack.encode(sorted(values.items()))


def _asked(kind: str, scale: Fraction, values: bytes, *rest: object) -> str:
    return f"{kind} {scale} {rest} of {hashlib.sha256(values).hexdigest()}"
