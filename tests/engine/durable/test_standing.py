"""Where the host stands: the fold over effects, the same live and after a snapshot; and the audit file."""

import hashlib
import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.engine.durable import FeedItem
from dayfly.engine.durable.effects import Counted, Effects, Ended, Leased, Minted
from dayfly.engine.durable.standing import Standing, read_standing
from dayfly.engine.durable.views import AuditFile
from dayfly.engine.errors import FrameError, StoreDamaged
from dayfly.privacy.audit_log import GENESIS, AuditHead, AuditLog
from dayfly.privacy.fragments import FragmentOrder, Profile, RuleRef
from dayfly.privacy.transfers import FieldClass

SUBJECT = bytes(range(16))


def series(subject: bytes, trigger: str) -> bytes:
    return hashlib.sha256(subject + trigger.encode()).digest()[:16]


def order(number: int) -> FragmentOrder:
    return FragmentOrder(
        order_id=f"o-{number}",
        subject=SUBJECT,
        audience="crm",
        purpose="service",
        topic="furniture",
        trigger_id=b"t",
        rule=RuleRef("rule", 1),
        fields=(),
        consent=(),
        issued_at_ms=1_000,
        expires_at_ms=9_000,
        profile=Profile.F1,
        lineage=b"",
        version=number,
    )


def minted(number: int) -> Minted:
    return Minted(f"j-{number}", "kc", 1, 9, "F1", "token", order(number))


def ended(number: int, reason: str, leases: int = 0) -> Ended:
    return Ended(f"j-{number}", f"o-{number}", "crm", SUBJECT, reason, 5, leases)


def test_the_fold_keeps_who_is_alive_what_ended_and_how_often() -> None:
    standing = Standing(series)
    first = standing.fold(Effects(at_ms=1, covers=3, first_item=1, minted=(minted(1), minted(2), minted(3))))
    assert [item.position for item in first] == [1, 2, 3]
    standing.fold(Effects(at_ms=2, covers=3, first_item=4, leased=(Leased("j-1", 2), Leased("j-1", 3))))
    assert standing.alive["j-1"].leases == 2
    standing.fold(
        Effects(
            at_ms=3,
            covers=5,
            first_item=4,
            ended=(ended(1, "used", 2), ended(2, "expired"), ended(3, "closed", 1)),
        )
    )
    assert standing.alive == {}
    assert (standing.covers, standing.next_item) == (5, 7)
    assert standing.untold == {"o-3": 1}, "nobody could tell a shard of a fragment that died with its process"
    assert standing.counts == {
        "minted": 3,
        "leased": 2,
        "ended.used": 1,
        "ended.expired_unused": 1,
        "ended.closed": 1,
    }


def test_completed_erasures_are_forgotten_up_to_their_position() -> None:
    standing = Standing(series)
    standing.erasing = {4: (SUBJECT,), 9: (SUBJECT,)}
    standing.purging = 4
    standing.fold(Effects(at_ms=1, covers=0, first_item=1, erased=4))
    assert (standing.erasing, standing.purging) == ({9: (SUBJECT,)}, 0)
    standing.purging = 9
    standing.fold(Effects(at_ms=1, covers=0, first_item=1, erased=8))
    assert standing.purging == 9


@given(numbers=st.lists(st.integers(0, 5), max_size=8), split=st.integers(0, 8))
def test_a_standing_read_back_in_the_middle_folds_on_as_if_it_had_not_been(
    numbers: list[int], split: int
) -> None:
    frames = []
    for place, number in enumerate(numbers):
        line = msgspec.json.encode({"seq": place, "prev": "x"}) + b"\n"
        frames.append(
            Effects(
                at_ms=place,
                covers=place,
                first_item=place * 2 + 1,
                minted=(minted(number),),
                ended=(ended((number + 1) % 6, "lost"),),
                counted=(Counted(bytes([number]) * 16, "crm", "ordinary", place),),
                audit=(line,),
                first_stone=place,
                stones=(b"stone",),
            )
        )
    through, split_up = Standing(series), Standing(series)
    items: list[FeedItem] = []
    for place, frame in enumerate(frames):
        if place == split:
            split_up, items = read_standing(split_up.to_bytes(items), series)
        through.fold(frame)
        items += split_up.fold(frame)
    assert split_up.to_bytes(items) == through.to_bytes(items)
    assert through.stones == len(frames)
    if frames:
        assert through.audit == AuditHead(len(frames), hashlib.sha256(frames[-1].audit[0][:-1]).hexdigest())


def test_bytes_that_are_no_host_state_are_told() -> None:
    data = Standing(series).to_bytes(())
    with pytest.raises(FrameError, match=r"host state of .* bytes must be readable"):
        read_standing(data[:-1], series)
    newer = msgspec.msgpack.decode(data)
    newer[0] = 2
    with pytest.raises(FrameError, match="host state format=2 must be 1; use the release that wrote it"):
        read_standing(msgspec.msgpack.encode(newer), series)


def test_head_counts_remember_who_was_new_until_they_are_drained() -> None:
    counts = Standing(series).transfers
    counts.count(SUBJECT, "crm", FieldClass.ORDINARY, 1)
    counts.count(SUBJECT, "crm", FieldClass.ORDINARY, 2)
    assert [item.at_ms for item in counts.drain()] == [1]
    assert counts.drain() == ()


# --- the audit file ----------------------------------------------------------------------------------------------------------


def lines(count: int) -> list[bytes]:
    written: list[bytes] = []
    log = AuditLog(written.append, key=hashlib.sha256(b"audit").digest())
    for number in range(count):
        log.append("mint", SUBJECT, number, {"number": number})
    return written


def test_an_audit_file_takes_each_line_once_and_goes_on_after_a_reopening(tmp_path: Path) -> None:
    told = lines(6)
    file = AuditFile(tmp_path / "audit.jsonl")
    assert file.head == GENESIS
    file.add(told[:3])
    file.add(told[1:4])
    file.close()
    again = AuditFile(tmp_path / "audit.jsonl")
    assert again.head.lines == 4
    again.add(told)
    again.close()
    assert (tmp_path / "audit.jsonl").read_bytes() == b"".join(told)
    assert again.head == AuditHead(6, hashlib.sha256(told[-1].rstrip(b"\n")).hexdigest())


@given(cut=st.integers(0, 700))
def test_a_line_that_a_crash_tore_is_cut_off_and_comes_again(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    told = lines(4)
    path = tmp_path_factory.mktemp("audit") / "audit.jsonl"
    path.write_bytes(b"".join(told)[:cut])
    file = AuditFile(path)
    file.add(told)
    file.close()
    assert path.read_bytes() == b"".join(told)


def test_a_line_that_does_not_follow_is_refused(tmp_path: Path) -> None:
    told = lines(4)
    file = AuditFile(tmp_path / "audit.jsonl")
    file.add(told[:1])
    with pytest.raises(StoreDamaged, match=r"audit line seq=2 must follow 1 lines; restore 'audit.jsonl'"):
        file.add(told[2:])
    forged = json.loads(told[1])
    forged["prev"] = "0" * 64
    with pytest.raises(StoreDamaged, match="audit line seq=1 must follow 1 lines"):
        file.add([json.dumps(forged).encode() + b"\n"])
    file.close()


def test_a_file_that_is_no_audit_log_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"a shopping list\n")
    with pytest.raises(StoreDamaged, match=r"audit log 'audit.jsonl' must end in a line of an audit log"):
        AuditFile(path)
    assert path.read_bytes() == b"a shopping list\n"
