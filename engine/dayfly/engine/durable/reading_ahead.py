"""Frames read, decrypted and decoded by a thread of their own, ahead of the replay that takes them.

The kernels that apply events let go of the interpreter, so reading costs next to no time where there is a second core.
"""

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple, Protocol

from dayfly.engine.durable.effects import Effects, decode_effects
from dayfly.engine.durable.host import EFFECTS, INPUTS
from dayfly.engine.durable.joining import Piece, piece_of
from dayfly.engine.errors import FrameError

__all__ = ["Decoded", "StoredFrame", "decoded_ahead"]

_GROUP_BYTES: Final = 1 << 18
_GROUP_FRAMES: Final = 256
"""Frames are handed over in groups: waking the other thread costs as much as decoding several small ones."""
_GROUPS: Final = 8
"""Groups that wait to be taken."""


class StoredFrame(Protocol):
    """A frame as the log gives it back."""

    @property
    def position(self) -> int:
        """Its place in the log."""
        ...

    @property
    def kind(self) -> int:
        """What it holds."""
        ...

    @property
    def payload(self) -> bytes:
        """Its content."""
        ...


class Decoded(NamedTuple):
    """A frame and its content: effects, or a piece, or neither where its inputs must be taken alone."""

    frame: StoredFrame
    piece: Piece | None
    effects: Effects | None


@contextmanager
def decoded_ahead(frames: Iterable[StoredFrame]) -> Iterator[Iterator[Decoded]]:
    """The frames in their order, decoded by another thread; what that thread raises is raised at its place among them.

    Raises:
        FrameError: a frame cannot be read.
    """
    line = _Line()
    thread = threading.Thread(target=_read, args=(frames, line), name="dayfly-replay-reader", daemon=True)
    thread.start()
    try:
        yield line.take()
    finally:
        line.leave()
        thread.join()


def _read(frames: Iterable[StoredFrame], line: "_Line") -> None:
    group: list[Decoded] = []
    size = 0
    try:
        for frame in frames:
            group.append(_decoded(frame))
            size += len(frame.payload)
            if size >= _GROUP_BYTES or len(group) >= _GROUP_FRAMES:
                if not line.put(group):
                    return
                group, size = [], 0
    except BaseException as error:  # noqa: BLE001 - whoever takes the frames raises it
        line.end(group, error)
    else:
        line.end(group, None)


def _decoded(frame: StoredFrame) -> Decoded:
    if frame.kind == INPUTS:
        return Decoded(frame, piece_of(frame.position, frame.payload), None)
    if frame.kind == EFFECTS:
        return Decoded(frame, None, decode_effects(frame.payload))
    raise FrameError(f"frame kind={frame.kind} must be known; read it with the release that wrote it")


class _Line:
    """Groups of frames between two threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._groups: deque[list[Decoded]] = deque()
        self._error: BaseException | None = None
        self._ended = self._left = False

    def put(self, group: list[Decoded]) -> bool:
        """Add a group when there is room; False when nobody takes any more."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._groups) < _GROUPS or self._left)
            self._groups.append(group)
            self._changed.notify()
            return not self._left

    def end(self, group: list[Decoded], error: BaseException | None) -> None:
        """Add the last group, and what ended the reading."""
        self.put(group)
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify()

    def take(self) -> Iterator[Decoded]:
        """The frames."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._groups or self._ended)
                if not self._groups:
                    break
                group = self._groups.popleft()
                self._changed.notify()
            yield from group
        if self._error is not None:
            raise self._error

    def leave(self) -> None:
        """Take nothing more."""
        with self._changed:
            self._left = True
            self._changed.notify()
