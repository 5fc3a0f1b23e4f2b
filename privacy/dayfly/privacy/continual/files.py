"""A stream in a file: its state is on disk before anybody sees a step, so that no step is published twice differently.

Claim:
    Whatever is killed when, a step that anybody has seen is never published with other noise.

Argument:
    `publish` computes the step in memory, writes the whole new state to a second file, fsyncs it, renames it over the first
    and fsyncs the folder; only then does it return. Before the rename nobody has seen the step, and it is computed again
    with fresh noise, independent of what was lost. After it the file holds the step's totals, and asking for it again
    repeats them. A lock keeps other processes out; a fork is refused. When writing fails, it is unknown which state
    the disk has, so the object refuses to go on and the file has to be opened again.

Precondition:
    Nobody puts an older copy of the file in its place. Readers who keep the number of steps that they have seen
    find that out: `published_steps`.
"""

import contextlib
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from dayfly.privacy.errors import (
    InvalidArgument,
    StreamBusy,
    StreamDamaged,
    StreamEnded,
    StreamInterrupted,
    StreamOrder,
    StreamRolledBack,
)
from dayfly.privacy.noise import NoiseSource

from .limiter import ParticipationLimiter
from .published import Published
from .snapshots import Stream, dump_stream, load_stream

__all__ = ["StreamFile"]

_FLAGS: Final = os.O_CLOEXEC | os.O_NOFOLLOW


class StreamFile:
    """One stream, one file, one process. Make it with `create` once the ledger has the spend, later `open` it.

    Guarantees:
        As the stream's, and across crashes and restarts: see the module. Nothing is spent again on opening. The file is
        readable by its owner only (mode 0600); it holds data as private as the increments.
    """

    __slots__ = ("_failed", "_limiter", "_lock", "_path", "_pid", "_stream")

    def __init__(self, path: Path, lock: int, stream: Stream, limiter: ParticipationLimiter | None) -> None:
        self._path = path
        self._lock: int | None = lock
        self._pid = os.getpid()
        self._stream = stream
        self._limiter = limiter
        self._failed = False

    @classmethod
    def create(cls, path: Path, stream: Stream, *, limiter: ParticipationLimiter | None = None) -> Self:
        """Put a new stream into a new file. Spend `stream.plan.loss(stream.scale)` before.

        Raises:
            InvalidArgument: There is a file already, or the stream has published steps.
            StreamBusy: Another process is doing the same.
            StreamInterrupted: The disk refused.
        """
        if stream.step:
            raise InvalidArgument(
                f"step={stream.step!r} must be 0; make the file before anything is published"
            )
        if limiter is not None and limiter.participation != stream.plan.participation:
            raise InvalidArgument(
                f"limiter={limiter.participation!r} must have the plan's bounds {stream.plan.participation!r}; "
                "make it from plan.participation"
            )
        lock = _locked(path)
        try:
            made = cls(path, lock, stream, limiter)
            made._write(new=True)
        except BaseException:
            os.close(lock)
            raise
        return made

    @classmethod
    def open(cls, path: Path, *, published_steps: int = 0) -> Self:
        """Go on with a stream. Spends nothing: the whole stream was paid for when it was created.

        Args:
            path: The file.
            published_steps: Steps that are known to be published, by a reader or a log.

        Raises:
            StreamBusy: Another process has it open.
            StreamDamaged: No file, or none that can be used.
            StreamRolledBack: The file is older than what was published.
        """
        if not path.exists():
            raise StreamDamaged(f"path={str(path)!r} must be a saved stream; make one with StreamFile.create")
        lock = _locked(path)
        try:
            stream, limiter = load_stream(path.read_bytes())
            _check_not_older(path, stream, published_steps)
        except BaseException:
            os.close(lock)
            raise
        return cls(path, lock, stream, limiter)

    @property
    def stream(self) -> Stream:
        """The stream, to look at; publish through the file."""
        return self._stream

    def admit(self, customers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which rows may count in the next step, by the stream's limiter; saved with the step.

        Args:
            customers: int64 (rows,), an id per row.

        Raises:
            InvalidArgument: The stream has no limiter, or wrong ids.
        """
        if self._limiter is None:
            raise InvalidArgument("limiter=None must be given; create the file with a ParticipationLimiter")
        return self._limiter.admit(self._stream.step, customers)

    def publish(self, step: int, increments: NDArray[np.int64], noise: NoiseSource) -> Published:
        """Publish a step that is safe on disk; or the last one again.

        Args:
            step: The next step, or the last one.
            increments: int64 (series,), units.
            noise: Where the discrete Gaussian comes from.

        Raises:
            StreamInterrupted: Closed, or an earlier call did not come through; open the file again.
            StreamBusy: This process is a fork of the one that opened the file.
            StreamEnded, StreamOrder, InvalidArgument: As `RunningTotals.publish`; the stream can go on.
        """
        if os.getpid() != self._pid:
            raise StreamBusy(
                f"pid={os.getpid()!r} must be {self._pid!r}, which opened the stream; publish there"
            )
        if self._failed or self._lock is None:
            raise StreamInterrupted(f"path={str(self._path)!r} must be opened again; what is on disk counts")
        before = self._stream.step
        try:
            published = self._stream.publish(step, increments, noise)
            if self._stream.step != before:
                self._write()
        except (StreamEnded, StreamOrder, InvalidArgument):
            raise
        except BaseException:
            self._failed = True
            raise
        return published

    def _write(self, *, new: bool = False) -> None:
        """Replace the file, durably."""
        if new and self._path.exists():
            raise InvalidArgument(
                f"path={str(self._path)!r} must be free; open the stream that is there, or pass another path"
            )
        part = self._path.with_name(f"{self._path.name}.new")
        data = dump_stream(self._stream, limiter=self._limiter)
        try:
            with contextlib.suppress(FileNotFoundError):
                part.unlink()
            _write_new(part, data)
            part.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            self._failed = True
            raise StreamInterrupted(
                f"path={str(self._path)!r} must be writable, but {error.strerror or error}; repair it and open it again"
            ) from error

    def close(self) -> None:
        """Let the file go. Closing twice does nothing."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _check_not_older(path: Path, stream: Stream, published_steps: int) -> None:
    if stream.step < published_steps:
        raise StreamRolledBack(
            f"step={stream.step!r} of {str(path)!r} must be >= published_steps={published_steps!r}; find the newest copy, "
            "or start a new stream with its own spend"
        )


def _write_new(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _locked(path: Path) -> int:
    """A lock beside the file, which itself is replaced at each step. The lock file stays and means nothing."""
    try:
        descriptor = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | _FLAGS, 0o600)
    except OSError as error:
        raise StreamInterrupted(
            f"path={str(path)!r} must be within reach, but {error.strerror or error}; repair it and try again"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise StreamBusy(
            f"path={str(path)!r} must be open in one process only; close it there first"
        ) from error
    return descriptor
