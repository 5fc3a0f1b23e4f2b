"""Counters of what comes in: a fold over the frames of the log, so that replay brings it to the same state as the first run.

Hours and days are those of UTC, by the instant at which a frame was decided. Everything is counted under names, so that a new
policy changes nothing of what was counted before. Nothing here is about a person.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Final, Self

import msgspec
import numpy as np
import numpy.typing as npt

from dayfly.engine.catalog import NULL, Catalog
from dayfly.engine.decisions import DeadLetter, Decisions
from dayfly.engine.errors import FrameError
from dayfly.engine.events import EventBatch
from dayfly.engine.health.gathering import Counted, Gathered, columns_of
from dayfly.engine.inputs import Input, Publish
from dayfly.engine.intake import IntakeResult, RejectedEvent

__all__ = [
    "BUCKETS_PER_OCTAVE",
    "DAYS_KEPT",
    "DAY_MS",
    "HOURS_KEPT",
    "HOUR_MS",
    "Book",
    "ChannelMeter",
    "Lateness",
    "bucket_end_ms",
    "joined",
]

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
DAYS_KEPT: Final = 7
HOURS_KEPT: Final = 24 * (DAYS_KEPT + 1)
"""The 24 hours of a report, and the same hours of the days before."""
LATE_HOURS_KEPT: Final = 25
BUCKETS_PER_OCTAVE: Final = 4
BUCKETS: Final = 40 * BUCKETS_PER_OCTAVE
AT_ONCE: Final = 1_024
"""Events that wait to be counted together: a call of NumPy costs as much as a hundred events."""

_FORMAT: Final = 1
_BY_CALL: Final = ("duplicate", "not_collected")
"""Outcomes that the shard counts by call and not by event."""
_USABLE: Final = {"received": 1, "duplicate": -1, "dead": -1}
"""What makes an event count as seen, and what takes it away again."""

Key = tuple[str, str, str]
"""What was counted, of which channel, and a detail: a reason."""
Book = Counter[Key]
Lateness = tuple[npt.NDArray[np.int64], int]
"""Events by class of lateness, and the largest lateness."""


class _Stored(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Wire form: rows are sorted, so equal meters have equal bytes."""

    format: int
    since_ms: int
    last: list[tuple[str, int]]
    totals: list[tuple[str, str, str, int]]
    hours: list[tuple[int, list[tuple[str, str, str, int]]]]
    late: list[tuple[int, str, int, list[tuple[int, int]]]]
    fields: list[tuple[int, list[tuple[str, str, str, int]]]]


class _Decided(msgspec.Struct, frozen=True, gc=False):
    """What of a decision in the audit log is counted."""

    allowed: bool = False
    reason: str = ""


class _AuditLine(msgspec.Struct, frozen=True, gc=False):
    kind: str
    details: _Decided = _Decided()


_decode_line: Final = msgspec.json.Decoder(_AuditLine, strict=False).decode


def bucket_end_ms(bucket: int) -> int:
    """Largest lateness of a class: class 0 is not late at all, class 1 one millisecond."""
    return 0 if bucket == 0 else int(np.ceil(2.0 ** (bucket / BUCKETS_PER_OCTAVE))) - 1


def _buckets(late_ms: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Class of each lateness; those before their time count as not late."""
    late = np.maximum(late_ms, 1).astype(np.float64)
    classes = (np.log2(late) * BUCKETS_PER_OCTAVE).astype(np.int64) + 1
    return np.where(late_ms > 0, np.minimum(classes, BUCKETS - 1), 0)


class ChannelMeter:
    """What came in, by channel, hour and day. Used by one thread.

    Args:
        catalog: Of the policy in force.

    Attributes:
        since_ms: When it first counted something, 0 before.
    """

    def __init__(self, catalog: Catalog) -> None:
        self.since_ms = 0
        self._last: dict[str, int] = {}
        self._totals: Book = Counter()
        self._hours: dict[int, Book] = {}
        self._late: dict[int, dict[str, Lateness]] = {}
        self._fields: dict[int, Book] = {}
        self._waiting = Gathered(AT_ONCE)
        self._hour = 0
        self._use(catalog)

    def _use(self, catalog: Catalog) -> None:
        self._catalog = catalog
        widths = [len(kind.fields) for kind in catalog.types]
        self._widths = np.array([*widths, 0], np.int64)  # the last one is that of undeclared types, number -1
        self._bases = np.concatenate([[0], np.cumsum(self._widths)[:-1]]).astype(np.int64)
        self._named = [(kind.name, spec.name) for kind in catalog.types for spec in kind.fields]

    # --- counting -------------------------------------------------------------------------------------------------------

    def inputs(self, inputs: Sequence[Input], now_ms: int, decisions: Decisions) -> None:
        """Count one frame of inputs.

        Args:
            inputs: As the shard took them.
            now_ms: The instant after them.
            decisions: What it decided. Duplicates are booked to the channel of the events beside them: an intake call is about one.
        """
        for item in inputs:
            if isinstance(item, EventBatch) and len(item.time_ms):
                self._add(item, now_ms)
        self._decided(inputs, now_ms, decisions)
        for item in inputs:
            if isinstance(item, Publish):
                self.flush()
                self._use(item.policy.catalog)

    def joined(self, batch: EventBatch, at_ms: npt.NDArray[np.int64], decisions: Decisions) -> None:
        """Count the events of several frames of one channel and one hour as if they had come one by one.

        Args:
            batch: The events of all of them.
            at_ms: int64[N], the instant after each event's frame, never falling.
            decisions: What the shard decided.
        """
        first_ms, last_ms = int(at_ms[0]), int(at_ms[-1])
        self._begin_hour(first_ms)
        self._count(columns_of(batch, at_ms))
        self._decided([batch], last_ms, decisions)

    def _decided(self, inputs: Sequence[Input], now_ms: int, decisions: Decisions) -> None:
        for kind in _BY_CALL:
            number = decisions.counts.get(kind, 0)
            if number:
                self._book(kind, self._channel_of(inputs), "", number, now_ms)
        if decisions.dead_letters:
            self.letters(decisions.dead_letters, now_ms, late=True)

    def letters(
        self, letters: Iterable[RejectedEvent | DeadLetter], now_ms: int, *, late: bool = False
    ) -> None:
        """Count dead letters.

        Args:
            letters: Of the intake or of the shard.
            now_ms: When.
            late: They are events that were counted as received already (the shard's).
        """
        for letter in letters:
            self._book("dead", letter.channel, str(letter.reason), 1, now_ms)
            if not late:
                self._book("received", letter.channel, "", 1, now_ms)
                self._last[letter.channel] = now_ms

    def effects(self, letters: Iterable[RejectedEvent], audit: Iterable[bytes], now_ms: int) -> None:
        """Count one frame of effects: dead letters of the intake, and decisions in lines of the audit log."""
        self.letters(letters, now_ms)
        self.audit(audit, now_ms)

    def audit(self, lines: Iterable[bytes], now_ms: int) -> None:
        """Count decisions in lines of the audit log."""
        for line in lines:
            entry = _decode_line(line)
            if entry.kind in {"transfer", "consent"}:
                kind = f"{entry.kind}.{'allowed' if entry.details.allowed else 'refused'}"
                self._book(kind, "", entry.details.reason, 1, now_ms)

    def take(self, result: IntakeResult, now_ms: int) -> None:
        """Count an intake result, for a host without a log: its events and its dead letters. Duplicates are not known here."""
        if len(result.batch):
            self._add(result.batch, now_ms)
        self.letters(result.dead_letters, now_ms)

    def _add(self, batch: EventBatch, now_ms: int) -> None:
        self._begin_hour(now_ms)
        if not self._waiting.fits(len(batch.time_ms)):
            self.flush()
        if self._waiting.fits(len(batch.time_ms)):
            self._waiting.add(batch, now_ms)
        else:
            self._count(columns_of(batch, np.full(len(batch.time_ms), now_ms, np.int64)))

    def _begin_hour(self, now_ms: int) -> None:
        hour = now_ms // HOUR_MS
        if hour != self._hour:
            self.flush()
            self._hour = hour
        # Replay counts joined events after the effects that came between them.
        self.since_ms = min(self.since_ms or now_ms, now_ms)

    def _book(self, kind: str, channel: str, detail: str, number: int, now_ms: int) -> None:
        key = (kind, channel, detail)
        self.since_ms = self.since_ms or now_ms
        self._totals[key] += number
        book = self._kept(self._hours, now_ms // HOUR_MS, HOURS_KEPT)
        book[key] += number
        if kind in _USABLE:
            book["seen", channel, ""] += number * _USABLE[kind]

    def _channel_of(self, inputs: Sequence[Input]) -> str:
        """The one channel of a frame's events; no name where there are several, or none."""
        found = {
            number
            for item in inputs
            if isinstance(item, EventBatch)
            for number in np.unique(item.channel).tolist()
        }
        return self._catalog.channels[found.pop()] if len(found) == 1 else ""

    @staticmethod
    def _kept(books: dict[int, Book], number: int, most: int) -> Book:
        """The book of an hour or day; those too old go when a new one begins."""
        book = books.get(number)
        if book is None:
            book = books[number] = Counter()
            newest = max(books)
            for old in [old for old in books if old <= newest - most]:
                del books[old]
        return book

    # --- columns --------------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Count the events that wait."""
        if len(self._waiting):
            self._count(self._waiting.take())

    def _count(self, events: Counted) -> None:
        self._note_last(events.channel, events.at_ms)
        self._count_rows(events.channel, events.kind)
        self._count_lateness(events.channel, events.late_ms)
        self._count_fields(events)

    def _note_last(self, channel: npt.NDArray[np.int32], at_ms: npt.NDArray[np.int64]) -> None:
        latest = np.zeros(len(self._catalog.channels), np.int64)
        np.maximum.at(latest, channel, at_ms)
        for number in np.flatnonzero(latest).tolist():
            name = self._catalog.channels[number]
            self._last[name] = max(self._last.get(name, 0), int(latest[number]))

    def _count_rows(self, channel: npt.NDArray[np.int32], kind: npt.NDArray[np.int32]) -> None:
        now_ms = self._hour * HOUR_MS
        for number, count in _counted(channel.astype(np.int64)):
            self._book("received", self._catalog.channels[number], "", count, now_ms)
        unknown = channel[kind < 0].astype(np.int64)
        for number, count in _counted(unknown):
            self._book("undeclared", self._catalog.channels[number], "", count, now_ms)

    def _count_lateness(self, channel: npt.NDArray[np.int32], late_ms: npt.NDArray[np.int64]) -> None:
        page = self._late.get(self._hour)
        if page is None:
            page = self._late[self._hour] = {}
            newest = max(self._late)
            for old in [old for old in self._late if old <= newest - LATE_HOURS_KEPT]:
                del self._late[old]
        for number in np.unique(channel).tolist():
            name, late = self._catalog.channels[number], late_ms[channel == number]
            classes, worst = page.get(name) or (np.zeros(BUCKETS, np.int64), 0)
            classes += np.bincount(_buckets(late), minlength=BUCKETS)
            page[name] = (classes, max(worst, int(late.max())))

    def _count_fields(self, events: Counted) -> None:
        channel, kind = events.channel, events.kind
        book = self._kept(self._fields, self._hour // 24, DAYS_KEPT + 1)
        types = self._catalog.types
        declared = kind >= 0
        for cell, count in _counted(channel[declared] * np.int64(len(types)) + kind[declared]):
            book[self._catalog.channels[cell // len(types)], types[cell % len(types)].name, ""] += count
        cells = _missing_cells(events, self._widths, self._bases)
        fields = len(self._named)
        for cell, count in _counted(cells):
            event, field = self._named[cell % fields]
            book[self._catalog.channels[cell // fields], event, field] += count

    # --- reading --------------------------------------------------------------------------------------------------------

    @property
    def totals(self) -> Book:
        """Counts since the meter was made, under the names of `hour`."""
        self.flush()
        return self._totals

    @property
    def last(self) -> Mapping[str, int]:
        """When each channel was last heard of."""
        self.flush()
        return self._last

    def hour(self, hour: int) -> Book:
        """Counts of an hour (number since 1970).

        By channel `received`, `duplicate`, `undeclared`, `not_collected`, and `seen`: received, neither dead nor duplicate. By
        channel and reason `dead`. By reason `transfer.allowed`, `transfer.refused`, `consent.allowed`, `consent.refused`.
        """
        self.flush()
        return self._hours.get(hour, _NOTHING)

    def lateness(self, hours: Iterable[int]) -> dict[str, Lateness]:
        """By channel over some hours: events by class of lateness (int64[BUCKETS]), and the largest lateness."""
        self.flush()
        found: dict[str, Lateness] = {}
        for hour in hours:
            for name, (classes, worst) in self._late.get(hour, {}).items():
                before, most = found.get(name, (0, 0))
                found[name] = (classes + before, max(worst, most))
        return found

    def fields(self, days: Iterable[int]) -> Book:
        """Over some days (numbers since 1970): events by (channel, type, ""), absent values by (channel, type, field)."""
        self.flush()
        return joined(self._fields.get(day, _NOTHING) for day in days)

    # --- keeping --------------------------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """For a snapshot; equal meters give equal bytes."""
        self.flush()
        return msgspec.msgpack.encode(
            _Stored(
                _FORMAT,
                self.since_ms,
                sorted(self._last.items()),
                _rows(self._totals),
                _pages(self._hours),
                [
                    (hour, name, worst, [(at, int(classes[at])) for at in np.flatnonzero(classes).tolist()])
                    for hour, page in sorted(self._late.items())
                    for name, (classes, worst) in sorted(page.items(), key=itemgetter(0))
                ],
                _pages(self._fields),
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes, catalog: Catalog) -> Self:
        """What `to_bytes` wrote.

        Raises:
            FrameError: the bytes are nothing of the kind, or of a newer format.
        """
        return cls.joining((data,), catalog)

    @classmethod
    def joining(cls, parts: Iterable[bytes], catalog: Catalog) -> Self:
        """What `to_bytes` of several meters wrote, as if one had counted it all. Raises as `from_bytes`."""
        meter = cls(catalog)
        for data in parts:
            meter._include(_stored(data))
        return meter

    def _include(self, stored: _Stored) -> None:
        self.since_ms = min(filter(None, (self.since_ms, stored.since_ms)), default=0)
        for name, at_ms in stored.last:
            self._last[name] = max(self._last.get(name, 0), at_ms)
        self._totals.update(_book(stored.totals))
        for mine, pages in ((self._hours, stored.hours), (self._fields, stored.fields)):
            for number, rows in pages:
                mine.setdefault(number, Counter()).update(_book(rows))
        for hour, name, worst, found in stored.late:
            classes, most = self._late.setdefault(hour, {}).get(name) or (np.zeros(BUCKETS, np.int64), 0)
            for at, count in found:
                classes[at] += count
            self._late[hour][name] = (classes, max(worst, most))


def _stored(data: bytes) -> _Stored:
    try:
        stored = msgspec.msgpack.decode(data, type=_Stored)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FrameError(
            f"meter of {len(data)} bytes must be readable: {error}; use an older snapshot"
        ) from error
    if stored.format != _FORMAT:
        raise FrameError(f"meter format={stored.format} must be {_FORMAT}; use the release that wrote it")
    return stored


_NOTHING: Final[Book] = Counter()


def joined(books: Iterable[Book]) -> Book:
    """Several books as one."""
    found: Book = Counter()
    for book in books:
        found.update(book)
    return found


def _counted(cells: npt.NDArray[np.int64]) -> Iterable[tuple[int, int]]:
    """Each number that occurs, and how often."""
    if not len(cells):
        return ()
    counts = np.bincount(cells)
    found = np.flatnonzero(counts)
    return zip(found.tolist(), counts[found].tolist(), strict=True)


def _missing_cells(
    events: Counted,
    widths: npt.NDArray[np.int64],
    bases: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """For each absent value of a declared field its channel and field as one number: channel * fields + field."""
    channel, kind, offset = events.channel, events.kind, events.offset
    order: npt.NDArray[np.intp] | None = None
    if len(offset) > 1 and bool((offset[1:] < offset[:-1]).any()):
        order = np.argsort(offset, kind="stable")
        offset = offset[order]
    absent = np.flatnonzero(events.values == NULL)
    # Rows without fields share their offset with the row behind them, so the last one that begins here is the owner.
    owner = np.searchsorted(offset, absent, side="right") - 1
    absent, owner = absent[owner >= 0], owner[owner >= 0]
    slot = absent - offset[owner]
    row = owner if order is None else order[owner]
    inside = slot < widths[kind[row]]  # a batch may share its values with rows that are not in it
    row, slot = row[inside], slot[inside]
    cells: npt.NDArray[np.int64] = channel[row] * np.int64(widths.sum()) + bases[kind[row]] + slot
    return cells


def _rows(book: Book) -> list[tuple[str, str, str, int]]:
    return sorted((*key, count) for key, count in book.items() if count)


def _pages(books: dict[int, Book]) -> list[tuple[int, list[tuple[str, str, str, int]]]]:
    return [(number, _rows(books[number])) for number in sorted(books)]


def _book(rows: Iterable[tuple[str, str, str, int]]) -> Book:
    return Counter({(one, two, three): count for one, two, three, count in rows})
