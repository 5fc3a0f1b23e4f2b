"""May this person's data go abroad now? No unless a row of the table and every threshold say yes."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from dayfly.privacy.consent import INT64_MAX, TransferBasis
from dayfly.privacy.errors import TransferRefused

from .counts import TransferCounts
from .table import FieldClass, Threshold, TransferRow, TransferTable

__all__ = ["TransferDecision", "TransferReason", "TransferRequest", "decide_transfer"]


class TransferReason(StrEnum):
    """Why a transfer may or may not happen. `DOMESTIC` and `ALLOWED` mean yes."""

    DOMESTIC = "domestic"
    ALLOWED = "allowed"
    MALFORMED_REQUEST = "malformed_request"
    NOT_LISTED = "not_listed"
    NOT_YET_VALID = "not_yet_valid"
    EXPIRED = "expired"
    THRESHOLD = "threshold"


_WAY_OUT: Final = {
    TransferReason.MALFORMED_REQUEST: "name a country, a recipient, a field class and a person",
    TransferReason.NOT_LISTED: "add the path to the transfer table when it has a legal basis",
    TransferReason.NOT_YET_VALID: "wait until the path is valid",
    TransferReason.EXPIRED: "renew the legal basis",
    TransferReason.THRESHOLD: "use a legal basis that carries more people, or wait for 1 January",
}


@dataclass(frozen=True, slots=True)
class TransferRequest:
    """One person's fields of one class to one recipient in one country; `subject` is the person's pseudonym."""

    recipient_country: str
    recipient: str
    field_class: FieldClass
    subject: bytes


@dataclass(frozen=True, slots=True)
class TransferDecision:
    """An answer and what it rests on.

    Attributes:
        request: What was asked.
        allowed: Whether it may be done now.
        reason: Why, or why not.
        row: The row it rests on, None when there is none.
        threshold: The threshold that stopped it, None otherwise.
        head_count: People counted against the tightest threshold this year, before this transfer.
        until_ms: First instant at which the row ends; the present instant when not allowed.
    """

    request: TransferRequest
    allowed: bool
    reason: TransferReason
    row: TransferRow | None
    threshold: Threshold | None
    head_count: int
    until_ms: int

    @property
    def legal_basis(self) -> TransferBasis:
        """Legal path of the transfer; `none` inside the home country."""
        return TransferBasis.NONE if self.row is None else self.row.legal_basis

    def require(self) -> "TransferDecision":
        """Return the decision itself when it allows.

        Raises:
            TransferRefused: It does not.
        """
        if not self.allowed:
            stopped = f", {self.threshold.name}: {self.head_count} people" if self.threshold else ""
            raise TransferRefused(
                f"recipient={self.request.recipient!r} recipient_country={self.request.recipient_country!r} must be an"
                f" allowed transfer (reason={self.reason.value}{stopped}); {_WAY_OUT[self.reason]}"
            )
        return self


def _sound(request: TransferRequest) -> bool:
    texts = (request.recipient_country, request.recipient)
    return (
        all(isinstance(text, str) and text for text in texts)
        and isinstance(request.field_class, FieldClass)
        and isinstance(request.subject, bytes)
        and bool(request.subject)
    )


def _stopped_by(
    request: TransferRequest, row: TransferRow, table: TransferTable, counts: TransferCounts, now_ms: int
) -> tuple[Threshold | None, int]:
    """The first threshold that one more person would reach, and the head-count of the tightest one."""
    tightest, people = INT64_MAX, 0
    for threshold in table.thresholds:
        if row.legal_basis not in threshold.legal_bases or threshold.field_class is not request.field_class:
            continue
        recipient = None if threshold.across_recipients else request.recipient
        known, count = counts.counted(request.subject, request.field_class, now_ms, recipient=recipient)
        if count + (not known) >= threshold.below:
            return threshold, count
        if threshold.below - count < tightest:
            tightest, people = threshold.below - count, count
    return None, people


def _decision(
    request: TransferRequest,
    reason: TransferReason,
    until_ms: int,
    *,
    row: TransferRow | None = None,
    threshold: Threshold | None = None,
    people: int = 0,
) -> TransferDecision:
    allowed = reason in {TransferReason.DOMESTIC, TransferReason.ALLOWED}
    return TransferDecision(request, allowed, reason, row, threshold, people, until_ms)


def decide_transfer(
    request: TransferRequest, table: TransferTable, counts: TransferCounts, now_ms: int
) -> TransferDecision:
    """Decide one transfer. Counts nothing: after a transfer that happens, call `counts.count`.

    Args:
        request: What would go where.
        table: Allowed paths and thresholds.
        counts: People counted so far.
        now_ms: The present instant, int64 milliseconds UTC.

    Returns:
        The decision. A row holds in `[valid_from_ms, valid_until_ms)`. A new person is stopped when the head-count
        including that person would reach `below`; a person counted already passes while the count is under it.

    Guarantees:
        Fail closed: an unknown country, recipient or class, a path outside its validity and a full threshold are no. If
        every allowed transfer is counted, no threshold is ever reached.
    """

    def no(reason: TransferReason, threshold: Threshold | None = None, people: int = 0) -> TransferDecision:
        return _decision(request, reason, now_ms, threshold=threshold, people=people)

    if not _sound(request):
        return no(TransferReason.MALFORMED_REQUEST)
    if request.recipient_country == table.home_country:
        return _decision(request, TransferReason.DOMESTIC, INT64_MAX)
    wanted = (request.recipient_country, request.recipient, request.field_class)
    rows = [row for row in table.rows if (row.recipient_country, row.recipient, row.field_class) == wanted]
    if not rows:
        return no(TransferReason.NOT_LISTED)
    live = [row for row in rows if row.valid_from_ms <= now_ms < row.valid_until_ms]
    if not live:
        coming = any(now_ms < row.valid_from_ms for row in rows)
        return no(TransferReason.NOT_YET_VALID if coming else TransferReason.EXPIRED)
    refusal = no(TransferReason.THRESHOLD)
    for row in live:
        stopped, people = _stopped_by(request, row, table, counts, now_ms)
        if stopped is None:
            return _decision(request, TransferReason.ALLOWED, row.valid_until_ms, row=row, people=people)
        refusal = no(TransferReason.THRESHOLD, stopped, people)
    return refusal
