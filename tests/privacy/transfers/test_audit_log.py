"""The audit log: chained lines, persons only as keyed hashes."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.privacy.audit_log import GENESIS, AuditHead, AuditLog, verify_audit
from dayfly.privacy.consent import ConsentRequest, PersonConsents, decide
from dayfly.privacy.errors import BrokenChain, DeidentificationError, InvalidArgument
from dayfly.privacy.transfers import (
    FieldClass,
    TransferCounts,
    TransferRequest,
    decide_transfer,
    parse_transfer_table,
)

KEY = bytes(range(32))


def log(lines: list[bytes], head: AuditHead = GENESIS) -> AuditLog:
    """A log that appends to a list."""
    return AuditLog(lines.append, key=KEY, head=head)


def written(count: int = 5) -> tuple[list[bytes], AuditHead]:
    """Some lines and their head."""
    lines: list[bytes] = []
    audit = log(lines)
    for number in range(count):
        audit.append("mint", f"p{number}", number, {"order": number})
    return lines, audit.head


def test_lines_are_chained_by_sha256() -> None:
    lines, head = written()
    before = "0" * 64
    for number, line in enumerate(lines):
        entry = json.loads(line)
        assert (entry["seq"], entry["prev"]) == (number, before)
        before = hashlib.sha256(line.rstrip(b"\n")).hexdigest()
    assert head == (5, before)
    assert verify_audit(lines) == verify_audit([line.rstrip(b"\n") for line in lines], end=head) == head


def test_a_log_goes_on_from_its_head() -> None:
    lines, head = written(3)
    log(lines, head).append("lease", "p", 9, {})
    assert verify_audit(lines).lines == 4
    assert verify_audit(lines[3:], start=head).lines == 4


@given(st.integers(0, 4), st.integers(0, 200), st.integers(1, 255))
def test_any_altered_byte_is_found(number: int, place: int, change: int) -> None:
    lines, head = written()
    line = bytearray(lines[number].rstrip(b"\n"))
    line[place % len(line)] ^= change
    lines[number] = bytes(line) + b"\n"
    with pytest.raises(BrokenChain, match=r"line=|lines="):
        verify_audit(lines, end=head)


def test_cut_reordered_and_repeated_lines_are_found_at_the_first_wrong_one() -> None:
    lines, head = written()
    for bad, place in (
        (lines[1:], "line=0"),
        ([*lines[:2], *lines[3:]], "line=2"),
        ([lines[0], lines[2], lines[1]], "line=1"),
        ([*lines, lines[-1]], "line=5"),
        ([*lines[:2], b"\n", *lines[2:]], "line=2"),
        ([b"[]\n"], "line=0"),
        ([lines[0].replace(b",", b", ")], "line=0"),
    ):
        with pytest.raises(BrokenChain, match=f"{place} must follow from prev="):
            verify_audit(bad)
    assert verify_audit(lines[:3]).lines == 3
    numbered = lines[4].replace(b'"seq":4', b'"seq":9')
    with pytest.raises(BrokenChain, match="line=4 must follow"):
        verify_audit([*lines[:4], numbered])
    with pytest.raises(BrokenChain, match="lines=3 must end in the kept head of 5 lines"):
        verify_audit(lines[:3], end=head)


def test_a_failed_write_does_not_advance_the_log() -> None:
    def fail(_: bytes) -> None:
        raise OSError("disk full")

    audit = AuditLog(fail, key=KEY)
    with pytest.raises(OSError, match="disk"):
        audit.append("mint", "p", 1, {})
    assert audit.head == GENESIS


def test_decisions_are_written_with_a_keyed_hash_instead_of_the_person() -> None:
    lines: list[bytes] = []
    audit = log(lines)
    request = ConsentRequest("service", "sofa")
    audit.consent(decide(request, PersonConsents("pseudonym-1"), 5), "pseudonym-1", 5)
    rows = parse_transfer_table({"home_country": "CN"})
    transfer = TransferRequest("DE", "crm", FieldClass.ORDINARY, b"pseudonym-1")
    audit.transfer(decide_transfer(transfer, rows, TransferCounts(), 5), 6)
    one, two = (json.loads(line) for line in lines)
    assert (
        one["details"] | {"allowed": False, "reason": "no_record", "purpose": "service", "topic": "sofa"}
        == one["details"]
    )
    assert (
        two["details"] | {"allowed": False, "reason": "not_listed", "legal_basis": "none", "head_count": 0}
        == two["details"]
    )
    assert one["who"] == two["who"] == audit.who("pseudonym-1")
    assert len(one["who"]) == 32
    assert b"pseudonym-1" not in b"".join(lines)
    assert AuditLog(lines.append, key=KEY[::-1]).who("pseudonym-1") != one["who"]


@pytest.mark.parametrize("garbage", [None, 5, ConsentRequest(5, {"a": b"x"}, [1], b"r")])  # type: ignore[arg-type]  # malformed on purpose
def test_malformed_requests_are_written_without_their_content(garbage: Any) -> None:
    lines: list[bytes] = []
    log(lines).consent(decide(garbage, PersonConsents("p"), 5), "p", 5)
    assert json.loads(lines[0])["details"]["reason"] == "malformed_request"
    assert json.loads(lines[0])["details"]["purpose"] in {"<NoneType>", "<int>"}


def test_malformed_transfers_are_written_too() -> None:
    lines: list[bytes] = []
    bad = TransferRequest("DE", "crm", "secret", b"p")  # type: ignore[arg-type]  # text is not the class
    decision = decide_transfer(bad, parse_transfer_table({"home_country": "CN"}), TransferCounts(), 5)
    log(lines).transfer(decision, 5)
    assert json.loads(lines[0])["details"]["reason"] == "malformed_request"


def test_bad_arguments_are_refused_and_write_nothing() -> None:
    lines: list[bytes] = []
    audit = log(lines)
    with pytest.raises(InvalidArgument, match="kind='other' must be one of"):
        audit.append("other", "p", 1, {})  # type: ignore[arg-type]  # unknown on purpose
    with pytest.raises(InvalidArgument, match=r"details=\['x'\] must be JSON values"):
        audit.append("mint", "p", 1, {"x": object()})
    with pytest.raises(DeidentificationError, match="key=3 must be 32 to 64 bytes"):
        AuditLog(lines.append, key=b"abc")
    assert lines == []
