"""The audit log: one JSON line per decision, each holding the digest of the line before."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple

import msgspec

from dayfly.privacy.consent import Decision
from dayfly.privacy.deident.keyed import check_key, keyed_state
from dayfly.privacy.errors import BrokenChain, InvalidArgument
from dayfly.privacy.transfers import TransferDecision

__all__ = ["GENESIS", "AuditHead", "AuditKind", "AuditLog", "verify_audit"]

AuditKind = Literal["consent", "transfer", "mint", "lease"]
_KINDS: Final = ("consent", "transfer", "mint", "lease")


_ASKED: Final = ("channel", "data_categories", "purpose", "recipient", "recipient_country", "topic")


class _Line(msgspec.Struct, frozen=True, gc=False):
    """One line. Members are declared in the order of their names, which is the order in which they are written."""

    at_ms: int
    details: object
    kind: str
    prev: str
    seq: int
    who: str


class _Consented(msgspec.Struct, frozen=True, gc=False):
    """Details of a consent decision, in the order of their names."""

    allowed: bool
    channel: object
    data_categories: object
    purpose: object
    reason: str
    recipient: object
    recipient_country: object
    record_id: str
    record_version: int
    topic: object
    until_ms: int


class _Transferred(msgspec.Struct, frozen=True, gc=False):
    """Details of a transfer decision, in the order of their names."""

    allowed: bool
    field_class: object
    head_count: int
    legal_basis: str
    list_version: str
    reason: str
    recipient: object
    recipient_country: object
    threshold: str


_encode = msgspec.json.Encoder(order="sorted").encode


def _plain(value: object) -> object:
    """Text as it is, several texts as a list, and of anything else (a malformed request) only its type."""
    if type(value) is str:
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, tuple) and all(isinstance(item, str) for item in value):
        return list(value)
    return f"<{type(value).__name__}>"


class AuditHead(NamedTuple):
    """Where a log stands: how many lines it has and the SHA-256 (hexadecimal) of the last one."""

    lines: int
    sha256: str


GENESIS: Final = AuditHead(0, "0" * 64)
"""The head of an empty log."""


class AuditLog:
    """An append-only, hash-chained log of decisions.

    Args:
        write: Takes one line, newline included; the caller makes it durable. When it raises, the log does not advance.
        key: 32 to 64 bytes under which pseudonyms are hashed; with it an auditor can look one person up.
        head: Where to go on; an empty log by default.

    Guarantees:
        A line holds no pseudonym, only its keyed hash. Cutting, reordering or altering lines is found by `verify_audit`;
        cutting the end only against a head kept elsewhere.
    """

    __slots__ = ("_asked", "_head", "_state", "_write")

    def __init__(self, write: Callable[[bytes], object], *, key: bytes, head: AuditHead = GENESIS) -> None:
        self._write: Final = write
        self._state: Final = keyed_state(check_key(key, "key"), tenant="audit", kind="who")
        self._head = head
        self._asked: tuple[object, list[object]] | None = None

    @property
    def head(self) -> AuditHead:
        """Where the log stands; keep it elsewhere to notice a cut end."""
        return self._head

    def who(self, subject: str | bytes) -> str:
        """Keyed hash of a pseudonym as it stands in the log, 32 hexadecimal digits."""
        state = self._state.copy()
        state.update(subject.encode() if isinstance(subject, str) else subject)
        return state.hexdigest()

    def append(
        self, kind: AuditKind, subject: str | bytes, now_ms: int, details: Mapping[str, Any]
    ) -> AuditHead:
        """Append one line.

        Args:
            kind: What was decided: consent, transfer, mint or lease.
            subject: The person's pseudonym; only its keyed hash is written.
            now_ms: When, int64 milliseconds UTC.
            details: JSON values without personal data: reason, record id, audience, ...

        Returns:
            The new head.

        Raises:
            InvalidArgument: An unknown kind, or details that are not JSON values.
        """
        if kind not in _KINDS:
            raise InvalidArgument(f"kind={kind!r} must be one of {_KINDS!r}; choose one")
        return self._append(kind, subject, now_ms, dict(details))

    def _append(self, kind: AuditKind, subject: str | bytes, now_ms: int, details: object) -> AuditHead:
        lines, before = self._head
        try:
            line = _encode(_Line(now_ms, details, kind, before, lines, self.who(subject)))
        except (TypeError, ValueError, RecursionError) as error:
            named = sorted(details) if isinstance(details, dict) else type(details).__name__
            raise InvalidArgument(f"details={named!r} must be JSON values ({error}); convert them") from None
        self._write(line + b"\n")
        self._head = AuditHead(lines + 1, hashlib.sha256(line).hexdigest())
        return self._head

    def consent(self, decision: Decision, subject: str | bytes, now_ms: int) -> AuditHead:
        """Append a consent decision. Raises as `append`."""
        request, kept = decision.request, self._asked
        if (
            kept is None or kept[0] is not request
        ):  # the same few requests, objects of the policy, again and again
            kept = self._asked = (request, [_plain(getattr(request, name, None)) for name in _ASKED])
        channel, data_categories, purpose, recipient, recipient_country, topic = kept[1]
        details = _Consented(
            decision.allowed,
            channel,
            data_categories,
            purpose,
            decision.reason.value,
            recipient,
            recipient_country,
            decision.record_id,
            decision.record_version,
            topic,
            decision.until_ms,
        )
        return self._append("consent", subject, now_ms, details)

    def transfer(self, decision: TransferDecision, now_ms: int) -> AuditHead:
        """Append a transfer decision. Raises as `append`."""
        request = decision.request
        details = _Transferred(
            allowed=decision.allowed,
            field_class=_plain(request.field_class),
            head_count=decision.head_count,
            legal_basis=decision.legal_basis.value,
            list_version=decision.row.list_version if decision.row else "",
            reason=decision.reason.value,
            recipient=_plain(request.recipient),
            recipient_country=_plain(request.recipient_country),
            threshold=decision.threshold.name if decision.threshold else "",
        )
        return self._append("transfer", request.subject, now_ms, details)


def _entry(line: bytes) -> dict[str, Any]:
    """The entry of a canonical line; empty for any other line."""
    try:
        entry = msgspec.json.decode(line)
        canonical = isinstance(entry, dict) and msgspec.json.encode(entry, order="sorted") == line
    except (
        ValueError,
        OverflowError,
        RecursionError,
    ):  # msgspec's errors, bad UTF-8 and numbers out of range
        return {}
    return entry if canonical else {}


def verify_audit(
    lines: Iterable[bytes], *, start: AuditHead = GENESIS, end: AuditHead | None = None
) -> AuditHead:
    """Check a log, line by line.

    Args:
        lines: Lines with or without their newline.
        start: Head before the first of them.
        end: Head that the log must end in, if one was kept.

    Returns:
        The head after the last line.

    Raises:
        BrokenChain: The first line that does not follow from the one before, or an end that is not `end`.
    """
    head = start
    for raw in lines:
        line = raw.removesuffix(b"\n")
        entry = _entry(line)
        if entry.get("prev") != head.sha256 or entry.get("seq") != head.lines:
            raise BrokenChain(
                f"line={head.lines} must follow from prev={head.sha256!r}; the log was cut or altered here"
            )
        head = AuditHead(head.lines + 1, hashlib.sha256(line).hexdigest())
    if end is not None and head != end:
        raise BrokenChain(
            f"lines={head.lines} must end in the kept head of {end.lines} lines; the end was cut off"
        )
    return head
