"""The log: frames appended by one thread, made durable in groups, read back in order after anything that may happen."""

import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from dayfly.engine.errors import LogFailed, StoreDamaged, StoreError, ValueOutOfRange
from dayfly.privacy.errors import InvalidArgument
from dayfly.privacy.keys import DataKeys

from .chain import Chain, ClosedSegment
from .committer import Committer
from .files import LOCAL_DISK, READ, WRITE, Buffer, Disk, explained, opened, write_all
from .frames import Frame
from .preparing import Preparer, Workshop
from .reading import damaged, key_for, reading
from .recovery import Survey, survey
from .segments import PreparedSegment, SegmentWriter
from .settings import LogSettings, check_tenant

__all__ = ["Log", "LogStatus"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStatus:
    """How a log stands.

    Attributes:
        oldest: Oldest position it holds, or the next one when it holds none.
        durable: Newest durable position.
        newest: Newest position given out.
        segments, size_bytes: Segments in use, and their bytes on disk.
        trouble: Why the next segment cannot be prepared, or why the log has failed; None when all is well.
    """

    oldest: int
    durable: int
    newest: int
    segments: int
    size_bytes: int
    trouble: StoreError | None


class Log:
    """A durable log with one writer. Made by `Log.open`.

    `append` is for one thread; every other method for any. The folder must not be open elsewhere: hold its `StoreLock`.

    Guarantees:
        A position that `wait` returned for, or that `on_durable` was told, is there after any crash or loss of power, or
        opening says that it is not. No frame is ever handed back other than as it was appended. After a failed write nothing
        more is written: what the disk holds is found out by opening the log again.
    """

    def __init__(
        self, workshop: Workshop, chain: Chain, *, ready: PreparedSegment | None, durable: int
    ) -> None:
        self._workshop = workshop
        self._chain = chain
        self._durable_callbacks: list[Callable[[int], None]] = []
        self._trouble_callbacks: list[Callable[[StoreError | None], None]] = []
        self._trouble: StoreError | None = None
        self._telling = threading.Lock()
        self._closed = False
        following = chain.number + 1 if ready is None else chain.number + 2
        self._preparer = Preparer(
            workshop, ready=ready, following=following, spare=chain.spare, report=self._report
        )
        chain.prepared_by(self._preparer)
        self._committer = Committer(
            chain, workshop.settings, durable=durable, committed=self._committed, failed=self._report
        )

    @classmethod
    def open(
        cls,
        folder: Path,
        keys: DataKeys,
        *,
        tenant: bytes,
        after: int = 0,
        settings: LogSettings | None = None,
        disk: Disk = LOCAL_DISK,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> Self:
        """Open the log in `folder`, made if absent; a torn last write is cut off.

        Args:
            folder: The log's own folder.
            keys: Gives each segment its data key (purpose ``log``); used by background threads too.
            tenant: 16 bytes; segments of another tenant are refused.
            after: Position up to which the caller has everything elsewhere (of its snapshot). A new log begins behind it.
            settings: Sizes; the defaults fit a server.
            disk: File operations.
            random_bytes: Source of nonces.

        Raises:
            StoreForeign: files of another store or tenant, or keys that do not fit.
            StoreVersion: written by a newer version.
            StoreDamaged: not everything acknowledged behind `after` is there.
            StoreFull: no room for a segment.
            StoreUnusable: the system refuses.
            InvalidArgument: `tenant` is not 16 bytes long.
        """
        check_tenant(tenant)
        if after < 0:
            raise InvalidArgument(f"after={after} must be >= 0; pass the position of the snapshot, or 0")
        workshop = Workshop(disk, folder, keys, tenant, settings or LogSettings(), random_bytes)
        with explained(folder, "opening the log"):
            disk.make_folder(folder)
            found = survey(disk, folder, keys, tenant=tenant, after=after)
            _repair(workshop, found)
            chain, ready, following = _resume(workshop, found)
        log = cls(workshop, chain, ready=ready, durable=following - 1)
        log._preparer.start()
        log._committer.start()
        return log

    @property
    def durable(self) -> int:
        """Newest durable position."""
        return self._committer.durable

    @property
    def newest(self) -> int:
        """Newest position given out."""
        return self._committer.newest

    def status(self) -> LogStatus:
        """How the log stands."""
        return LogStatus(
            oldest=self._chain.oldest,
            durable=self.durable,
            newest=self.newest,
            segments=self._chain.segments,
            size_bytes=self._chain.size_bytes,
            trouble=self._trouble,
        )

    def append(self, kind: int, payload: Buffer | Sequence[Buffer]) -> int:
        """Buffer a frame and return its position; the committer thread writes it at once.

        Never waits for the disk unless more than `LogSettings.max_buffer_bytes` are buffered. `payload` is copied unless it
        is `bytes`, so buffers may be used again.

        Raises:
            LogFailed: the log has failed or is closed.
            ValueOutOfRange: `kind` is not 0 to 255, or the payload does not fit a segment.
        """
        if isinstance(payload, bytes | bytearray | memoryview):
            data = payload if isinstance(payload, bytes) else bytes(payload)
        else:
            data = b"".join(payload)
        return self.append_all([(kind, data)])

    def append_all(self, frames: Sequence[tuple[int, bytes]]) -> int:
        """As `append` for several frames, kind and payload each; returns the position of the last.

        The committer is woken once, when all are there: frames that belong together become durable with one write.

        Raises:
            LogFailed: the log has failed or is closed.
            ValueOutOfRange: as `append`; none of the frames was taken.
        """
        limit = self._workshop.settings.max_payload_bytes
        for kind, payload in frames:
            if len(payload) > limit:
                raise ValueOutOfRange(
                    f"payload of {len(payload)} bytes must have at most {limit}; split it, or set a larger segment_bytes"
                )
            if not 0 <= kind <= 255:
                raise ValueOutOfRange(f"kind={kind} must be 0 to 255; number the kinds of frames so")
        return self._committer.append(frames)

    def wait(self, position: int, timeout_seconds: float | None = None) -> None:
        """Return when `position` is durable.

        Raises:
            LogFailed: it will not be.
            StoreTimeout: it is not in the time given.
            StoreError: that position was not given out.
        """
        self._committer.wait(position, timeout_seconds)

    def on_durable(self, callback: Callable[[int], None]) -> None:
        """Have `callback` called after each commit with the new durable position.

        It is called by the committer thread, so it must be quick and must not call `wait`, `turn` or `close`. One that
        raises fails the log.
        """
        self._durable_callbacks.append(callback)

    def on_trouble(self, callback: Callable[[StoreError | None], None]) -> None:
        """Have `callback` told of trouble, by a background thread.

        `StoreFull` and other errors: the next segment cannot be prepared, and the log fails when the current one is full; it
        is tried again, and None says that it is over. `LogFailed`: the log takes nothing more; told once. Trouble that is
        there already is told at once. What a callback raises is dropped.
        """
        with self._telling:
            self._trouble_callbacks.append(callback)
            if self._trouble is not None:
                callback(self._trouble)

    def frames(self, after: int) -> Iterator[Frame]:
        """Every frame behind position `after` that is durable at the time of the call, in order.

        Raises:
            StoreDamaged: a frame is not there as it was written, or `after` is before what the log still holds.
        """
        return self._frames(after, self.durable)

    def turn(self) -> int:
        """Put everything appended so far into segments that take no more, so that it can be forgotten to the last frame.

        Returns its newest position, when it is durable. Waits for the disk.

        Raises:
            LogFailed: the log has failed or is closed.
        """
        return self._committer.turn()

    def truncate_before(self, position: int) -> None:
        """Forget every segment that ends before `position`: its key is destroyed, then its file reused or removed.

        The segment in use is never forgotten; `turn` first to forget all. Waits for the disk.

        Raises:
            StoreError: the system refuses; calling again goes on where it stopped.
        """
        self._chain.forget_before(position)

    def close(self) -> None:
        """Make durable what is buffered, and stop. Calling it again does nothing."""
        if self._closed:
            return
        self._closed = True
        self._committer.close()
        self._preparer.close()
        with suppress(OSError):
            self._chain.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _frames(self, after: int, durable: int) -> Iterator[Frame]:
        while after < durable:
            before = after
            with explained(self._workshop.folder, "reading the log"), self._chain.held(after) as held:
                if held is None:
                    raise StoreDamaged(
                        f"after={after} must be at least {self._chain.oldest - 1}: the log does not hold what is between; "
                        "begin with a newer snapshot",
                        path=str(self._workshop.folder),
                    )
                path, header, first = held
                key = key_for(self._workshop.keys, header.key_id, path)
                with reading(self._workshop.disk, path, header, key) as reader:
                    for record in reader.records(first):
                        last = record.head.first + record.head.count - 1
                        if last > after:
                            yield from (frame for frame in record.frames() if frame.position > after)
                            after = last
                        if after >= durable:  # what follows may be half written
                            return
            if after == before:
                raise damaged(path, 0, f"position={after + 1} must be in this segment")

    def _committed(self, durable: int) -> None:
        for callback in self._durable_callbacks:
            callback(durable)

    def _report(self, trouble: StoreError | None) -> None:
        with self._telling:
            if isinstance(self._trouble, LogFailed):
                return
            self._trouble = trouble
            for callback in self._trouble_callbacks:
                with suppress(Exception):
                    callback(trouble)


def _repair(workshop: Workshop, found: Survey) -> None:
    """Cut a torn write off, and finish what a crash interrupted; the log's frames are sound already."""
    disk = workshop.disk
    if found.active is not None and found.tail is not None and found.tail.torn > found.tail.end:
        with opened(disk, found.active.path, WRITE) as descriptor:
            write_all(disk, descriptor, bytes(found.tail.torn - found.tail.end), found.tail.end)
    if found.unfinished_key is not None:
        workshop.keys.destroy((found.unfinished_key,))
    for path in (*found.forgotten, *found.unfinished):
        disk.unlink(path)
    if found.forgotten or found.unfinished:
        disk.sync_folder(workshop.folder)


def _resume(workshop: Workshop, found: Survey) -> tuple[Chain, PreparedSegment | None, int]:
    """The chain to go on with, the segment that is ready behind it, and the next position."""
    ready, closed, spares = found.ready, list(found.closed), _usable(workshop, found.spares)
    if found.active is None or found.tail is None:
        first = following = found.first
        writer = _begun(workshop, ready or workshop.make(1), first)
        ready = None
    elif found.tail.sealed:
        assert ready is not None
        first = following = found.tail.following
        closed.append(ClosedSegment(found.active.path, found.active.header, found.first, following - 1))
        writer = _begun(workshop, ready, first)
        ready = None
    else:
        first, following = found.first, found.tail.following
        writer = SegmentWriter(
            workshop.disk, found.active, random_bytes=workshop.random_bytes, end=found.tail.end
        )
        ready = _fitting(workshop, ready)
    return Chain(workshop, closed=closed, writer=writer, first=first, spares=spares), ready, following


def _usable(workshop: Workshop, spares: Sequence[Path]) -> list[Path]:
    """The spares that fit the settings; the others go."""
    disk, settings = workshop.disk, workshop.settings
    kept: list[Path] = []
    for path in spares:
        with opened(disk, path, READ) as descriptor:
            fits = disk.size(descriptor) == settings.segment_bytes
        if fits and len(kept) < settings.spare_segments:
            kept.append(path)
        else:
            disk.unlink(path)
    return kept


def _begun(workshop: Workshop, prepared: PreparedSegment, first: int) -> SegmentWriter:
    return SegmentWriter.begun(workshop.disk, prepared, first, random_bytes=workshop.random_bytes)


def _fitting(workshop: Workshop, ready: PreparedSegment | None) -> PreparedSegment | None:
    """The segment that is ready, unless it was prepared under other settings: then it goes, as nothing is in it."""
    settings = workshop.settings
    if ready is None or (ready.header.segment_bytes, ready.header.align_bytes) == (
        settings.segment_bytes,
        settings.align_bytes,
    ):
        return ready
    workshop.keys.destroy((ready.header.key_id,))
    workshop.disk.unlink(ready.path)
    workshop.disk.sync_folder(workshop.folder)
    return None
