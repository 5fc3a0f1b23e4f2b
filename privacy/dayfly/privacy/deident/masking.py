"""Masking policies of fields: drop, pseudonymise, band, truncate, keep. Declarative, pure, and said in few words.

Names follow ISO/IEC 20889: suppression, pseudonymisation, generalisation. Suppressing small cells is not done here.
"""

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import ROUND_FLOOR, Decimal, InvalidOperation
from enum import Enum
from itertools import pairwise as neighbours
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Meta

from dayfly.privacy.errors import DeidentificationError

from .pseudonyms import PseudonymKeys

__all__ = ["DROPPED", "Band", "Drop", "Keep", "Masking", "Pseudonymise", "Truncate", "parse_masking"]

Scalar = str | int | float | bool | None


class _Dropped(Enum):
    DROPPED = "dropped"


DROPPED: Final = _Dropped.DROPPED
"""What `apply` returns for a field that must not exist afterwards."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _mismatch(value: object, wanted: str, policy: str) -> DeidentificationError:
    return DeidentificationError(
        f"value=<{type(value).__name__}> must be {wanted} for the mask {policy!r}; correct the field or its mask"
    )


def _each(value: Any, mask: Callable[[Any], Any]) -> Any:
    """Mask a scalar, or each scalar of a list; null stays null."""
    if isinstance(value, (list, tuple)):
        return [_each(item, mask) for item in value]
    return None if value is None else mask(value)


class Keep(msgspec.Struct, frozen=True, tag="keep", tag_field="mask", forbid_unknown_fields=True):
    """Leave the value as it is."""

    def apply(self, value: Any, *, keys: PseudonymKeys | None = None) -> Any:  # noqa: ARG002 - one signature for all masks
        """The value itself."""
        return value

    def describe(self) -> str:
        """Short text for lineage."""
        return "kept"


class Drop(msgspec.Struct, frozen=True, tag="drop", tag_field="mask", forbid_unknown_fields=True):
    """Remove the field."""

    def apply(self, value: Any, *, keys: PseudonymKeys | None = None) -> Any:  # noqa: ARG002 - one signature for all masks
        """`DROPPED`, whatever the value."""
        return DROPPED

    def describe(self) -> str:
        """Short text for lineage."""
        return "dropped"


class Pseudonymise(
    msgspec.Struct, frozen=True, tag="pseudonymise", tag_field="mask", forbid_unknown_fields=True
):
    """Replace text or a whole number by the hexadecimal form of its current pseudonym.

    Attributes:
        kind: Domain of the identifier.
    """

    kind: Annotated[str, Meta(min_length=1, max_length=64)]

    def apply(self, value: Any, *, keys: PseudonymKeys | None = None) -> Any:
        """Pseudonym of a value or of each value of a list. Raises `DeidentificationError` without keys or on a float."""
        if keys is None:
            raise DeidentificationError(
                "keys=None must be the tenant's keys for the mask 'pseudonymise'; pass them"
            )

        def mask(item: Any) -> str:
            if isinstance(item, bool) or not isinstance(item, (str, int)):
                raise _mismatch(item, "text or a whole number", "pseudonymise")
            return keys.current(self.kind, str(item)).value.hex()

        return _each(value, mask)

    def describe(self) -> str:
        """Short text for lineage."""
        return f"pseudonym ({self.kind})"


def _number(value: Any, policy: str) -> int | float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise _mismatch(value, "a finite number", policy)
    return value


class Band(msgspec.Struct, frozen=True, tag="band", tag_field="mask", forbid_unknown_fields=True):
    """Replace a number by its band; both ends are open.

    Attributes:
        edges: Strictly ascending; a number equal to an edge belongs to the band above it.
    """

    edges: Annotated[tuple[int | float, ...], Meta(min_length=1, max_length=1000)]

    def apply(self, value: Any, *, keys: PseudonymKeys | None = None) -> Any:  # noqa: ARG002 - one signature for all masks
        """Text such as `<10`, `10..50`, `>=50`. Raises `DeidentificationError` on anything but a finite number."""

        def mask(item: Any) -> str:
            number = _number(item, "band")
            above = sum(edge <= number for edge in self.edges)
            if above == 0:
                return f"<{self.edges[0]}"
            if above == len(self.edges):
                return f">={self.edges[-1]}"
            return f"{self.edges[above - 1]}..{self.edges[above]}"

        return _each(value, mask)

    def describe(self) -> str:
        """Short text for lineage."""
        return f"band at {', '.join(str(edge) for edge in self.edges)}"


class Truncate(msgspec.Struct, frozen=True, tag="truncate", tag_field="mask", forbid_unknown_fields=True):
    """Keep the coarse part: exactly one of the first characters, the decimals, or the time granularity.

    Attributes:
        characters: How many leading characters of a text stay.
        decimals: How many decimals of a number stay, rounded down; negative for tens, hundreds, ...
        granularity: Unit to which an instant (int64 milliseconds UTC) is cut.
        zone: IANA time zone in which days begin.
    """

    characters: Annotated[int, Meta(ge=0)] | None = None
    decimals: Annotated[int, Meta(ge=-18, le=18)] | None = None
    granularity: Literal["second", "minute", "hour", "day", "month", "year"] | None = None
    zone: str = "UTC"

    def apply(self, value: Any, *, keys: PseudonymKeys | None = None) -> Any:  # noqa: ARG002 - one signature for all masks
        """The coarse value, or a list of them. Raises `DeidentificationError` on a value of another type."""
        if self.characters is not None:
            return _each(value, self._text)
        if self.decimals is not None:
            return _each(value, self._decimal)
        return _each(value, self._instant)

    def describe(self) -> str:
        """Short text for lineage."""
        if self.characters is not None:
            return f"first {self.characters} characters"
        if self.decimals is not None:
            return f"{self.decimals} decimals"
        return f"to the {self.granularity} ({self.zone})"

    def _text(self, item: Any) -> str:
        if not isinstance(item, str):
            raise _mismatch(item, "text", "truncate characters")
        return item[: self.characters]

    def _decimal(self, item: Any) -> int | float:
        number = _number(item, "truncate decimals")
        try:
            cut = Decimal(str(number)).quantize(
                Decimal(1).scaleb(-(self.decimals or 0)), rounding=ROUND_FLOOR
            )
        except InvalidOperation:
            raise _mismatch(item, "a number of at most 28 digits", "truncate decimals") from None
        return int(cut) if isinstance(item, int) else float(cut)

    def _instant(self, item: Any) -> int:
        if isinstance(item, bool) or not isinstance(item, int):
            raise _mismatch(item, "an instant in int64 milliseconds", "truncate granularity")
        try:
            local = (_EPOCH + timedelta(milliseconds=item)).astimezone(_zone(self.zone))
        except OverflowError:
            raise _mismatch(item, "an instant between the years 1 and 9999", "truncate granularity") from None
        units = ("year", "month", "day", "hour", "minute", "second", "microsecond")
        finer = units[units.index(self.granularity or "day") + 1 :]
        lowest: Mapping[str, int] = {unit: 1 if unit in {"month", "day"} else 0 for unit in finer}
        moment = local.replace(**lowest) - _EPOCH  # type: ignore[arg-type]  # keys are fields of datetime
        return (moment.days * 86_400 + moment.seconds) * 1000


def _zone(name: str) -> tzinfo:
    try:
        return UTC if name == "UTC" else ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise DeidentificationError(f"zone={name!r} must be an IANA time zone; correct the mask") from None


Masking = Keep | Drop | Pseudonymise | Band | Truncate


def parse_masking(obj: Mapping[str, Any] | str) -> Masking:
    """Read one masking policy: `{"mask": "band", "edges": [10, 50]}`, or the bare names `"keep"` and `"drop"`.

    Raises:
        DeidentificationError: An unknown mask or field, edges that do not ascend, or not exactly one truncation.
    """
    try:
        policy: Masking = msgspec.convert({"mask": obj} if isinstance(obj, str) else obj, Masking)
    except (TypeError, ValueError) as error:
        raise DeidentificationError(
            f"masking={str(obj)[:80]!r} must follow the schema ({error}); correct it"
        ) from None
    if isinstance(policy, Band):
        edges = policy.edges
        if not all(math.isfinite(edge) for edge in edges) or any(
            low >= high for low, high in neighbours(edges)
        ):
            raise DeidentificationError(f"edges={edges!r} must be finite and strictly ascending; sort them")
    if isinstance(policy, Truncate):
        chosen = [
            part for part in (policy.characters, policy.decimals, policy.granularity) if part is not None
        ]
        if len(chosen) != 1:
            raise DeidentificationError(
                f"truncate={policy!r} must state exactly one of characters, decimals, granularity; drop the others"
            )
        _zone(policy.zone)
    return policy
