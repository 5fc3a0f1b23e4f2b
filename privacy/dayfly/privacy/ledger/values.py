"""What goes into a ledger and what comes out."""

from dataclasses import dataclass, field
from fractions import Fraction

from dayfly.privacy.errors import InvalidArgument

from .accounts import Amounts, CostLike, Remaining, check_name
from .entries import Head

__all__ = ["BudgetRow", "Odometer", "Receipt", "Spend", "Spending"]

_WHAT_CHARACTERS = 500
_ID_BYTES = range(8, 65)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend:
    """A loss that is about to happen.

    Attributes:
        data_set: Whose customers it concerns.
        analyst: Who asks.
        purpose: What for, dotted; accounts of the purposes above it are charged too.
        cost: The most that the release can lose; from `dayfly.privacy.accounting`.
        what: The query: its digest, or its shape without literals. It is kept for good, so it must hold nothing of a customer.
        release_id: 8 to 64 bytes that name this release and no other; chosen at random, or derived from the job that retries.

    Raises:
        InvalidArgument: a name, `what` or `release_id` breaks its rule.
    """

    data_set: str
    analyst: str
    purpose: str
    cost: CostLike
    what: str
    release_id: bytes

    def __post_init__(self) -> None:
        for name in ("data_set", "analyst", "purpose"):
            check_name(getattr(self, name), name)
        if not (
            isinstance(self.what, str) and 0 < len(self.what) <= _WHAT_CHARACTERS and self.what.isprintable()
        ):
            raise InvalidArgument(
                f"what={self.what!r:.80} must be 1 to {_WHAT_CHARACTERS} printable characters; give the query's digest"
            )
        if not isinstance(self.release_id, bytes) or len(self.release_id) not in _ID_BYTES:
            raise InvalidArgument(
                f"release_id={self.release_id!r:.80} must be 8 to 64 bytes; draw 16 at random"
            )


@dataclass(frozen=True, slots=True)
class Receipt:
    """A spend is on disk.

    Attributes:
        release_id: Which.
        at_ms: When (ms UTC).
        cost: What was charged, rounded up.
        head: The ledger with this spend as its last entry; kept with the result, it shows a later rollback.
        remaining: The accounts charged, as they stood right after.
        fresh: Whether this call spent it. If not, an earlier call did, which may have released: draw no new noise for it.
    """

    release_id: bytes
    at_ms: int
    cost: Amounts
    head: Head
    remaining: tuple[Remaining, ...]
    fresh: bool = field(compare=False)


@dataclass(frozen=True, slots=True)
class Spending:
    """A spend of the past.

    Attributes:
        entry: Its number in the ledger.
        at_ms: When (ms UTC).
        release_id: Which release.
        analyst: Who asked.
        data_set: Of what.
        purpose: What for.
        what: Which query.
        cost: What was charged.
    """

    entry: int
    at_ms: int
    release_id: bytes
    analyst: str
    data_set: str
    purpose: str
    what: str
    cost: Amounts


@dataclass(frozen=True, slots=True)
class Odometer:
    """What everything so far lost together, by basic composition; it stops nobody.

    Attributes:
        name: Of the data set, analyst or purpose.
        spends: How many.
        epsilon: The sum; None as soon as one has no finite epsilon.
        rho: The sum.
        delta: The sum.
    """

    name: str
    spends: int
    epsilon: Fraction | None
    rho: Fraction
    delta: Fraction


@dataclass(frozen=True, slots=True)
class BudgetRow:
    """An account for a table on the terminal or for JSON; amounts are exact texts where they are short.

    Attributes:
        scope: `data_set`, `analyst` or `purpose`.
        name: Whose.
        unit: `epsilon` or `rho`.
        limit: In that unit.
        spent: In that unit, in the current period.
        left: In that unit.
        share: Spent of limit, from 0 to 1, for a bar.
        delta_limit: The limit of delta.
        delta_left: What is left of it.
        ever: In that unit, over all periods.
        renews_at_ms: When all of it is free again (ms UTC); None for never.
    """

    scope: str
    name: str
    unit: str
    limit: str
    spent: str
    left: str
    share: float
    delta_limit: str
    delta_left: str
    ever: str
    renews_at_ms: int | None
