"""The transfer table and the thresholds, both data."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from dayfly.privacy.consent import INT64_MAX, TransferBasis
from dayfly.privacy.errors import InvalidArgument

__all__ = ["CHINA_2024", "FieldClass", "Threshold", "TransferRow", "TransferTable", "parse_transfer_table"]

Millis = Annotated[int, Meta(ge=0, le=INT64_MAX)]
People = Annotated[int, Meta(ge=0, le=INT64_MAX)]
Country = Annotated[str, Meta(pattern=r"\A[A-Z]{2}\Z")]
Name = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._:/@#+-]*\Z", max_length=200)]


class FieldClass(StrEnum):
    """Classes that the law counts separately."""

    ORDINARY = "ordinary"
    SENSITIVE = "sensitive"


class TransferRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One allowed path abroad, valid in `[valid_from_ms, valid_until_ms)`; nothing in it can be a wildcard.

    Attributes:
        recipient_country: ISO 3166-1 alpha-2.
        recipient: Who receives.
        field_class: What may go.
        legal_basis: By which legal path; never `none`.
        list_version: Version of the contract, certificate or negative list that the path rests on.
    """

    recipient_country: Country
    recipient: Name
    field_class: FieldClass
    legal_basis: TransferBasis
    valid_from_ms: Millis
    valid_until_ms: Millis
    list_version: Annotated[str, Meta(min_length=1, max_length=200)]


class Threshold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many distinct people a year a legal path carries: fewer than `below`.

    Attributes:
        name: Shown in decisions.
        legal_bases: The paths it limits.
        field_class: The class it counts.
        below: First head-count that the path no longer carries; 0 bars the class altogether.
        across_recipients: Whether people are counted over all recipients together, as the exporter's total, rather than
            per recipient.
        source: Where the figure comes from.
    """

    name: Annotated[str, Meta(min_length=1)]
    legal_bases: Annotated[tuple[TransferBasis, ...], Meta(min_length=1)]
    field_class: FieldClass
    below: People
    across_recipients: bool = False
    source: Annotated[str, Meta(min_length=1)]


_CAC_2024: Final = (
    "Provisions on Promoting and Regulating Cross-Border Data Flows, 22 March 2024, Articles 5, 7 and 8"
)

CHINA_2024: Final = (
    Threshold(
        name="CN exempt, ordinary",
        legal_bases=(TransferBasis.EXEMPT,),
        field_class=FieldClass.ORDINARY,
        below=100_000,
        across_recipients=True,
        source=_CAC_2024,
    ),
    Threshold(
        name="CN exempt, sensitive",
        legal_bases=(TransferBasis.EXEMPT,),
        field_class=FieldClass.SENSITIVE,
        below=0,
        across_recipients=True,
        source=_CAC_2024,
    ),
    Threshold(
        name="CN contract or certification, ordinary",
        legal_bases=(TransferBasis.CONTRACT, TransferBasis.CERTIFICATION),
        field_class=FieldClass.ORDINARY,
        below=1_000_000,
        across_recipients=True,
        source=_CAC_2024,
    ),
    Threshold(
        name="CN contract or certification, sensitive",
        legal_bases=(TransferBasis.CONTRACT, TransferBasis.CERTIFICATION),
        field_class=FieldClass.SENSITIVE,
        below=10_000,
        across_recipients=True,
        source=_CAC_2024,
    ),
)
"""China's thresholds of March 2024; counted since 1 January. A security assessment (`assessment`) has none here."""


class TransferTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where data may go from one home country.

    Attributes:
        home_country: Transfers inside it need no row.
        rows: Allowed paths; the first one that holds is taken.
        thresholds: Limits on them.
    """

    home_country: Country
    rows: tuple[TransferRow, ...] = ()
    thresholds: tuple[Threshold, ...] = CHINA_2024


def parse_transfer_table(obj: Mapping[str, Any]) -> TransferTable:
    """Read a table from a policy file's values, strictly.

    Raises:
        InvalidArgument: An unknown or missing field, a wrong type, a row without legal basis or with an empty validity.
    """
    try:
        table = msgspec.convert(obj, TransferTable)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidArgument(
            f"transfers={str(obj)[:80]!r} must follow the schema ({error}); correct the policy"
        ) from None
    for number, row in enumerate(table.rows):
        if row.legal_basis is TransferBasis.NONE:
            raise InvalidArgument(f"rows[{number}].legal_basis='none' must name a legal path; drop the row")
        if row.valid_from_ms >= row.valid_until_ms:
            raise InvalidArgument(
                f"rows[{number}].valid_until_ms={row.valid_until_ms} must be > valid_from_ms={row.valid_from_ms};"
                " correct it"
            )
    return table
