"""Declarative mappings of files (CSV, JSON Lines, Parquet) to events: what a `kind: mapping` document says.

A column is a column's name, or in JSON Lines a dotted path. Example::

    channel: marketplace
    event: {constant: Order Completed}
    id: {columns: [invoice]}
    subject: {column: customer_id, kind: user}
    time: {column: ordered_at, format: "%Y-%m-%d %H:%M", zone: Europe/London}
    where: [{column: country, in: [Germany, France]}]
    fields:
      order_id: invoice
      total: {column: amount}
"""

from collections.abc import Mapping
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from dayfly.engine.catalog import Catalog, FieldType
from dayfly.engine.errors import CatalogError

__all__ = [
    "EventSource",
    "FileMapping",
    "IdSource",
    "MappedField",
    "RowTest",
    "SubjectSource",
    "TimeSource",
    "check_mapping",
    "parse_mapping",
]


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of the parts: frozen, and an unknown key is an error."""


class EventSource(_Part, frozen=True):
    """Where the event type comes from: `constant`, or `column` through `values` (a value that is not listed is skipped)."""

    constant: str | None = None
    column: str | None = None
    values: dict[str, str] = {}


class IdSource(_Part, frozen=True):
    """How duplicates are told: by `columns`, or with `row_digest` by all columns the mapping reads."""

    columns: tuple[str, ...] = ()
    row_digest: bool = False


class SubjectSource(_Part, frozen=True):
    """Whose event it is. On a probe channel ids of kind `anonymous` are probe ids."""

    column: str
    kind: Literal["user", "anonymous", "probe"] = "user"


class TimeSource(_Part, frozen=True):
    """When it happened.

    `format` is ``rfc3339``, ``epoch_s``, ``epoch_ms``, ``epoch_us``, ``timestamp`` (a Parquet timestamp) or a strptime
    pattern; `zone` is the IANA zone of times that carry no offset.
    """

    column: str
    format: str = "rfc3339"
    zone: str = "UTC"


class MappedField(_Part, frozen=True):
    """One of our fields.

    Attributes:
        column: Where it comes from.
        type: For readers of the document; must equal the catalogue's type.
        masking: Masking rule applied before the catalogue's own.
        values: Values replaced before the type check, as text.
    """

    column: str
    type: FieldType | None = None
    masking: Any = "keep"
    values: dict[str, str] = {}


class RowTest(_Part, frozen=True):
    """A condition on a row; all given parts must hold. Values are compared as text."""

    column: str
    present: bool | None = None
    equals: str | None = None
    not_equals: str | None = None
    one_of: tuple[str, ...] | None = msgspec.field(default=None, name="in")
    not_in: tuple[str, ...] | None = None
    starts_with: str | None = None
    not_starts_with: str | None = None


class FileMapping(_Part, frozen=True):
    """How rows of one kind of file become events.

    Attributes:
        explode: JSON Lines only: path of an array; each element becomes a row in which the element stands at that path.
        delimiter: CSV only.
    """

    channel: str
    event: EventSource
    id: IdSource
    subject: SubjectSource
    time: TimeSource
    fields: dict[str, MappedField | str] = {}
    link: SubjectSource | None = None
    where: tuple[RowTest, ...] = ()
    explode: str | None = None
    delimiter: str = ","

    def field_columns(self) -> Mapping[str, MappedField]:
        """The fields, each as a `MappedField`."""
        return {
            name: MappedField(column=item) if isinstance(item, str) else item
            for name, item in self.fields.items()
        }

    def columns(self) -> tuple[str, ...]:
        """Every column that is read, sorted; no other one is."""
        used = {
            self.subject.column,
            self.time.column,
            *self.id.columns,
            *(test.column for test in self.where),
        }
        used |= {item.column for item in self.field_columns().values()}
        used |= {self.event.column} if self.event.column is not None else set()
        used |= {self.link.column} if self.link is not None else set()
        return tuple(sorted(used))

    def event_names(self) -> tuple[str, ...]:
        """Every event type a row can become."""
        return (
            (self.event.constant,)
            if self.event.constant is not None
            else tuple(dict.fromkeys(self.event.values.values()))
        )


def parse_mapping(document: object) -> FileMapping:
    """A mapping document as a `FileMapping`.

    Raises:
        CatalogError: an unknown key, a wrong type or a missing part.
    """
    try:
        return msgspec.convert(document, FileMapping)
    except msgspec.ValidationError as error:
        raise CatalogError(f"mapping must follow its schema: {error}; fix the document") from error


def check_mapping(mapping: FileMapping, catalog: Catalog) -> None:
    """Refuse a mapping that cannot work with `catalog`.

    Raises:
        CatalogError: an undeclared channel, event type or field, another type than declared, no id, no event, a bad zone.
    """
    catalog.channel_index(mapping.channel)
    if (mapping.event.constant is None) == (mapping.event.column is None):
        raise CatalogError("event must have exactly one of constant and column; remove one")
    if mapping.event.column is not None and not mapping.event.values:
        raise CatalogError("event.values={} must list the values of the column; add value: event type lines")
    if bool(mapping.id.columns) == mapping.id.row_digest:
        raise CatalogError(
            "id must have columns or row_digest: true, not both; name the columns that tell duplicates apart"
        )
    try:
        ZoneInfo(mapping.time.zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise CatalogError(
            f"time.zone={mapping.time.zone!r} must be an IANA zone; use for example Asia/Shanghai"
        ) from error
    if len(mapping.delimiter.encode()) != 1:
        raise CatalogError(
            f"delimiter={mapping.delimiter!r} must be one ASCII character; use for example ';'"
        )
    _check_fields(mapping, catalog)


def _check_fields(mapping: FileMapping, catalog: Catalog) -> None:
    declared: dict[str, FieldType] = {}
    for name in mapping.event_names():
        position = catalog.type_index(name)
        if position < 0:
            raise CatalogError(
                f"event={name!r} must be declared in the catalogue; declare it or fix the mapping"
            )
        declared |= {spec.name: spec.type for spec in catalog.types[position].fields}
    for name, item in mapping.field_columns().items():
        if name not in declared:
            known = ", ".join(sorted(declared)) or "none"
            raise CatalogError(
                f"field={name!r} must be declared for {mapping.event_names()}; use one of: {known}"
            )
        if item.type is not None and item.type is not declared[name]:
            raise CatalogError(
                f"type={item.type.value!r} of field {name!r} must be {declared[name].value!r}, as declared; fix one of them"
            )
