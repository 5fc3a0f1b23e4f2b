"""Distinct people sent abroad per calendar year, recipient and field class."""

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Annotated, Final, Self
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from dayfly.privacy.errors import InvalidArgument

from .table import FieldClass

__all__ = ["TransferCounts"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FORMAT: Final = "dayfly-transfer-counts-1"


class _Counted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    year: int
    recipient: str
    field_class: FieldClass
    people: tuple[Annotated[bytes, Meta(min_length=1)], ...]


class _Stored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    counted: tuple[_Counted, ...]


class TransferCounts:
    """Who was counted this year. The one object here that changes; snapshot it with `to_bytes`.

    Args:
        zone: Time zone in which the year begins, Asia/Shanghai by default.

    Guarantees:
        A person counts once per year, recipient and class. People are known only by the pseudonym passed in. A person
        with two pseudonyms counts twice, so that a missed merge can only stop a transfer early.
    """

    __slots__ = ("_people", "_zone")

    def __init__(self, *, zone: tzinfo | None = None) -> None:
        self._zone: Final = ZoneInfo("Asia/Shanghai") if zone is None else zone
        self._people: Final[dict[tuple[int, str, FieldClass], set[bytes]]] = {}

    def year(self, now_ms: int) -> int:
        """Calendar year of an instant in the counting time zone."""
        return (_EPOCH + timedelta(milliseconds=now_ms)).astimezone(self._zone).year

    def counted(
        self, subject: bytes, field_class: FieldClass, now_ms: int, *, recipient: str | None = None
    ) -> tuple[bool, int]:
        """Whether a person is counted already, and how many people are.

        Args:
            subject: The person's pseudonym.
            field_class: Class of the fields.
            now_ms: An instant of the year, int64 milliseconds UTC.
            recipient: One recipient, or None for all of them together.
        """
        year = self.year(now_ms)
        if recipient is not None:
            people = self._people.get((year, recipient, field_class), set())
            return subject in people, len(people)
        groups = [
            group for (one, _, kind), group in self._people.items() if one == year and kind is field_class
        ]
        if len(groups) == 1:
            return subject in groups[0], len(groups[0])
        return any(subject in group for group in groups), len(set().union(*groups))

    def count(self, subject: bytes, recipient: str, field_class: FieldClass, now_ms: int) -> None:
        """Count a person; counting the same person again in the year changes nothing."""
        self._people.setdefault((self.year(now_ms), recipient, field_class), set()).add(subject)

    def forget(self, subject: bytes, stand_in: bytes) -> None:
        """Take a person's pseudonym out; `stand_in` counts in its place, for a head-count must not fall by an erasure.

        Args:
            subject: The pseudonym.
            stand_in: 16 random bytes that nobody else has.
        """
        for people in self._people.values():
            if subject in people:
                people.remove(subject)
                people.add(stand_in)

    def drop_years_before(self, now_ms: int) -> None:
        """Forget the years before the present one, which no decision reads any more."""
        year = self.year(now_ms)
        for key in [key for key in self._people if key[0] < year]:
            del self._people[key]

    def to_bytes(self) -> bytes:
        """Canonical bytes: equal counts give equal bytes."""
        counted = tuple(
            _Counted(year, recipient, kind, tuple(sorted(self._people[year, recipient, kind])))
            for year, recipient, kind in sorted(self._people)
        )
        return msgspec.msgpack.encode(_Stored(_FORMAT, counted))

    @classmethod
    def from_bytes(cls, data: bytes, *, zone: tzinfo | None = None) -> Self:
        """Read back what `to_bytes` wrote.

        Raises:
            InvalidArgument: The bytes are not of this format.
        """
        try:
            stored = msgspec.msgpack.decode(data, type=_Stored)
        except (ValueError, RecursionError) as error:
            raise InvalidArgument(
                f"data of {len(data)} bytes must be stored counts ({error}); restore a snapshot"
            ) from None
        if stored.format != _FORMAT:
            raise InvalidArgument(
                f"format={stored.format!r} must be {_FORMAT!r}; restore with the version that wrote it"
            )
        counts = cls(zone=zone)
        for group in stored.counted:
            counts._people[group.year, group.recipient, group.field_class] = set(group.people)
        return counts
