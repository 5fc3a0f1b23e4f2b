"""What an analyst gets: estimates with intervals, what they cost, what is left, and where they come from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from dayfly.privacy.accounting import Cost
from dayfly.privacy.errors import InvalidQuery
from dayfly.privacy.ledger import Receipt, Remaining

from .documents import QueryDocument
from .explaining import Explanation, number_text
from .queries import Query

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Lineage", "Release", "lineage_of", "remaining_text"]


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a result comes from.

    Attributes:
        release_id: Of the spend in the ledger, hexadecimal.
        query_digest: SHA-256 of the query's canonical JSON, hexadecimal.
        data_set: Whose budget was spent.
        analyst: Who asked.
        purpose: What for.
        at_ms: When it was paid for (ms UTC).
        ledger_entry: Entries of the ledger with the spend.
        ledger_head: Digest of the ledger with it, hexadecimal.
    """

    release_id: str
    query_digest: str
    data_set: str
    analyst: str
    purpose: str
    at_ms: int
    ledger_entry: int
    ledger_head: str


@dataclass(frozen=True, slots=True, eq=False)
class Release:
    """A differentially private answer. It may be shown to anybody whom the purpose allows.

    Attributes:
        table: Keys, and for each measure its estimate and interval, such as `count`, `count_low`, `count_high`.
        columns: Names of the estimates.
        confidence: Of the intervals. They are for the noise; what bounds cut off is told by `preview()`.
        loss: What it cost at most.
        receipt: Of the ledger.
        explanation: How it was made.
        lineage: Where it comes from.
        document: The query and its budget.
    """

    table: pa.Table
    columns: tuple[str, ...]
    confidence: float
    loss: Cost
    receipt: Receipt
    explanation: Explanation
    lineage: Lineage
    document: QueryDocument

    @property
    def remaining(self) -> tuple[Remaining, ...]:
        """The accounts that paid, as they stood right after."""
        return self.receipt.remaining

    @property
    def query(self) -> Query:
        """What was asked."""
        return self.document.query

    def value(self, column: str = "") -> float:
        """The one number of an answer without groups.

        Raises:
            InvalidQuery: there are several rows, or no such column.
        """
        name = column or self.columns[0]
        if self.table.num_rows != 1 or name not in self.columns:
            raise InvalidQuery(
                f"column={name!r} must be one of {', '.join(self.columns)} in an answer of one row, not "
                f"{self.table.num_rows}; read `table` instead"
            )
        return float(self.table[name][0].as_py())

    def interval(self, column: str = "") -> tuple[float, float]:
        """The interval of the one number of an answer without groups; raises as `value`."""
        self.value(column)
        name = column or self.columns[0]
        return float(self.table[f"{name}_low"][0].as_py()), float(self.table[f"{name}_high"][0].as_py())

    def rows(self) -> Iterator[dict[str, Any]]:
        """Rows of the table as dicts."""
        yield from self.table.to_pylist()

    def to_dict(self) -> Mapping[str, Any]:
        """Everything as JSON types, exact numbers as texts."""
        return {
            "rows": [{name: _plain(value) for name, value in row.items()} for row in self.rows()],
            "columns": list(self.columns),
            "confidence": self.confidence,
            "loss": {name: number_text(getattr(self.loss, name)) for name in ("epsilon", "rho", "delta")},
            "remaining": [remaining_text(one) for one in self.remaining],
            "lineage": msgspec.to_builtins(self.lineage),
            "explanation": self.explanation.to_dict(),
            "document": msgspec.to_builtins(self.document),
        }

    def plot(self, column: str = "") -> "Figure":
        """Bars, or a line over time, with error bars. Needs the extra `plots`."""
        from .plot import figure  # noqa: PLC0415 - matplotlib is an extra

        return figure(self, column)

    def __repr__(self) -> str:
        lost = ", ".join(
            f"{name}={float(value):.4g}"
            for name in ("epsilon", "rho", "delta")
            if (value := getattr(self.loss, name))
        )
        return f"Release({self.table.num_rows} rows of {', '.join(self.columns)}; {lost})"


def lineage_of(digest: str, receipt: Receipt, *, data_set: str, analyst: str, purpose: str) -> Lineage:
    """The lineage of a release."""
    return Lineage(
        release_id=receipt.release_id.hex(),
        query_digest=digest,
        data_set=data_set,
        analyst=analyst,
        purpose=purpose,
        at_ms=receipt.at_ms,
        ledger_entry=receipt.head.entries,
        ledger_head=receipt.head.sha256,
    )


def remaining_text(one: Remaining) -> dict[str, Any]:
    """An account as JSON types."""
    limit = one.account.limit
    return {
        "scope": one.account.scope,
        "name": one.account.name,
        "unit": limit.unit,
        "limit": number_text(limit.amount),
        "left": number_text(one.left),
        "left_delta": number_text(one.left_delta),
        "renews_at_ms": one.renews_at_ms,
    }


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else value.isoformat()
