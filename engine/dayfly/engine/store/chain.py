"""The segments of an open log: the one being written, those that are full, and files kept for reuse."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from .committer import Batch
from .files import explained
from .frames import SegmentHeader
from .preparing import Preparer, Workshop
from .segments import FREE, SegmentWriter, segment_name

__all__ = ["Chain", "ClosedSegment"]


@dataclass(frozen=True, slots=True)
class ClosedSegment:
    """A segment that takes no more. `last` is its last position; ``first - 1`` when it holds no frame."""

    path: Path
    header: SegmentHeader
    first: int
    last: int


class Chain:
    """Segments in order. `commit` and `turn` belong to the committer thread; the rest is for any thread.

    Args:
        workshop: What making segments takes.
        closed: Full segments, oldest first.
        writer: The segment in use.
        first: Position of its first frame.
        spares: Files of forgotten segments.
    """

    def __init__(
        self,
        workshop: Workshop,
        *,
        closed: list[ClosedSegment],
        writer: SegmentWriter,
        first: int,
        spares: list[Path],
    ) -> None:
        self._workshop = workshop
        self._closed = closed
        self._writer = writer
        self._first = first
        self._spares = spares
        self._readers: dict[int, int] = {}
        self._lock = threading.Lock()
        self._forgetting = threading.Lock()
        self._preparer: Preparer | None = None

    def prepared_by(self, preparer: Preparer) -> None:
        """Say where the next segments come from; before the first commit."""
        self._preparer = preparer

    @property
    def room(self) -> int:
        """Bytes that frames may take in the segment in use."""
        return self._writer.room

    @property
    def first(self) -> int:
        """Position of the first frame of the segment in use."""
        return self._first

    @property
    def number(self) -> int:
        """Number of the segment in use."""
        return self._writer.segment.header.number

    @property
    def oldest(self) -> int:
        """Oldest position that the log still holds, or the next one when it holds none."""
        with self._lock:
            return self._closed[0].first if self._closed else self._first

    @property
    def segments(self) -> int:
        """Number of segments in use."""
        with self._lock:
            return len(self._closed) + 1

    @property
    def size_bytes(self) -> int:
        """Bytes of the segments in use."""
        with self._lock:
            headers = [segment.header for segment in self._closed]
        return sum(header.segment_bytes for header in [*headers, self._writer.segment.header])

    def commit(self, first: int, frames: Batch) -> None:
        """Make frames durable."""
        with explained(self._writer.segment.path, "writing the log"):
            self._writer.commit(first, frames)

    def turn(self, following: int) -> None:
        """Go on in the next segment: it is ready before the old one is sealed, and the seal durable before it is used."""
        assert self._preparer is not None
        prepared = self._preparer.take()
        workshop, old = self._workshop, self._writer
        assert prepared.header.number == old.segment.header.number + 1
        with explained(prepared.path, "writing the log"):
            old.seal(following)
            new = SegmentWriter.begun(workshop.disk, prepared, following, random_bytes=workshop.random_bytes)
        with self._lock:
            self._closed.append(
                ClosedSegment(old.segment.path, old.segment.header, self._first, following - 1)
            )
            self._writer, self._first = new, following
        self._preparer.used()
        old.close()

    def spare(self) -> Path | None:
        """A file to use again; the caller's from now on."""
        with self._lock:
            return self._spares.pop() if self._spares else None

    def forget_before(self, position: int) -> None:
        """Forget every full segment whose positions are all below `position`: its key first, then its file.

        Keys are destroyed oldest first, each durably, so that after a crash what is left is without a hole.

        Raises:
            StoreError: the system refuses; calling again goes on.
        """
        disk, folder = self._workshop.disk, self._workshop.folder
        with self._forgetting, explained(folder, "removing log segments"):
            while (segment := self._oldest_below(position)) is not None:
                self._workshop.keys.destroy((segment.header.key_id,))
                self._discard(segment)
                with self._lock:
                    self._closed.pop(0)
            disk.sync_folder(folder)

    def _oldest_below(self, position: int) -> ClosedSegment | None:
        with self._lock:
            if self._closed and self._closed[0].last < position:
                return self._closed[0]
            return None

    def _discard(self, segment: ClosedSegment) -> None:
        """Remove the file, or keep it for reuse; one that is being read stays whole for its reader."""
        settings = self._workshop.settings
        number = segment.header.number
        with self._lock:
            keep = (
                len(self._spares) < settings.spare_segments
                and segment.header.segment_bytes == settings.segment_bytes
                and not self._readers.get(number)
            )
            if keep:
                free = segment.path.with_name(segment_name(number, FREE))
                self._workshop.disk.rename(segment.path, free)
                self._spares.append(free)
                return
        with suppress(FileNotFoundError):
            self._workshop.disk.unlink(segment.path)

    @contextmanager
    def held(self, after: int) -> Iterator[tuple[Path, SegmentHeader, int] | None]:
        """The segment that holds the position behind `after`: its file, header and first position.

        While it is held, its file is not used again. None: that position is not in the log any more.
        """
        with self._lock:
            found = self._holder(after + 1)
            number = 0 if found is None else found[1].number
            self._readers[number] = self._readers.get(number, 0) + 1
        try:
            yield found
        finally:
            with self._lock:
                self._readers[number] -= 1

    def _holder(self, position: int) -> tuple[Path, SegmentHeader, int] | None:
        if position >= self._first:
            return self._writer.segment.path, self._writer.segment.header, self._first
        for segment in self._closed:
            if segment.first <= position <= segment.last:
                return segment.path, segment.header, segment.first
        return None

    def close(self) -> None:
        """Close the file in use."""
        self._writer.close()
