"""What the bench hands back: one row per measured case, under one header."""

from collections.abc import Mapping
from typing import Any

import msgspec

from .errors import BadRow

__all__ = ["Header", "Report", "Row", "at_least", "at_most", "missing_peer", "row_of"]


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One measured case.

    Attributes:
        suite, case: What was measured.
        measured, unit: The figure; None when it could not be measured (`note` says why).
        peer: What `ratio` compares with, or None.
        ratio: Measured against the peer; the case says which way round in `bar` or `note`.
        bar: The bar in words (``>= 15 x``), or a number: then `ratio` must be at most that. None: shown only.
        holds: Whether the bar holds; True where there is none.
        note: How it was measured, and what else was seen.
    """

    suite: str
    case: str
    measured: float | None
    unit: str
    peer: str | None = None
    ratio: float | None = None
    bar: str | float | None = None
    holds: bool = True
    note: str = ""


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where and when rows were measured.

    Attributes:
        date: ISO 8601, UTC.
        machine: Processor, cores, memory, system.
        load: Load average over the last minute at the start: above the number of cores, times are others' too.
        versions: Python and the packages that decide speed.
        quick: Whether the short form ran.
        seconds: Wall time of the whole run.
    """

    date: str
    machine: str
    load: float
    versions: dict[str, str]
    quick: bool
    seconds: float = 0.0


class Report(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run of the bench, as written to JSON."""

    header: Header
    rows: tuple[Row, ...]

    @property
    def holds(self) -> bool:
        """Whether every bar holds."""
        return all(row.holds for row in self.rows)


def row_of(values: Mapping[str, Any]) -> Row:
    """A row from a mapping.

    Raises:
        BadRow: Keys or types are not those of a row.
    """
    try:
        return msgspec.convert(dict(values), Row, strict=True)
    except msgspec.ValidationError as error:
        raise BadRow(
            f"row={values.get('case')!r} must have the fields of Row ({error}); correct the case"
        ) from error


def at_most(value: float, bar: float, unit: str) -> dict[str, Any]:
    """`bar` and `holds` for a figure that must not be larger. The bar itself still holds."""
    return {"bar": f"<= {bar:g} {unit}", "holds": value <= bar}


def at_least(value: float, bar: float, unit: str) -> dict[str, Any]:
    """`bar` and `holds` for a figure that must not be smaller. The bar itself still holds."""
    return {"bar": f">= {bar:g} {unit}", "holds": value >= bar}


def missing_peer(suite: str, case: str, peer: str, install: str) -> Row:
    """The row of a case whose peer is not installed: it says so and holds no bar."""
    return Row(
        suite=suite, case=case, measured=None, unit="", peer=peer, note=f"{peer} is not installed; {install}"
    )
