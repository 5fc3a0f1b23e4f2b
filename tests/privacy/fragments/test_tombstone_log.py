"""The tombstone log on disk: proofs against RFC 9162 word for word, restarts, torn ends, edits, rollbacks, kill -9."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given, settings
from hypothesis import strategies as st

from dayfly.privacy.errors import InvalidReceipt, TombstoneConflict, TombstoneLogError
from dayfly.privacy.fragments import DestroyReason, Tombstone, verify_log_grew, verify_receipt
from dayfly.privacy.fragments.tombstones import (
    Checkpoint,
    note_signer,
    note_verifier,
    open_note,
    read_entries,
    sign_note,
    stone_index,
)
from dayfly.privacy.fragments.tombstones import log as log_module
from dayfly.privacy.fragments.tombstones.durable import DurableGraveyard
from dayfly.privacy.fragments.tombstones.files import write_at
from dayfly.privacy.fragments.tombstones.log import TombstoneLog
from dayfly.privacy.fragments.tombstones.stone_index import RUN
from dayfly.privacy.fragments.tombstones.tree_file import record_start
from tests.oracles.merkle import SlowTree

from .world import NOW_MS, ORIGIN, World, order

KEY = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SIGNER = note_signer(ORIGIN, KEY)
VERIFIER = note_verifier(ORIGIN, KEY.public_key())


def stone(number: int, **changes: object) -> Tombstone:
    values: dict[str, object] = {
        "jti": f"jti-{number}",
        "kc": "k" * 43,
        "iat": 1_795_358_400,
        "exp": 1_795_360_200,
        "dead_ms": NOW_MS + number,
        "reason": DestroyReason.EXPIRED,
        "leases": number % 3,
    }
    return Tombstone(**(values | changes))  # type: ignore[arg-type]


def opened(folder: Path, **changes: object) -> TombstoneLog:
    return TombstoneLog(folder, **({"verifiers": [VERIFIER], "keep_every_ms": 0} | changes))  # type: ignore[arg-type]


def filled(folder: Path, count: int, *, signed: int | None = None) -> None:
    """A closed log of `count` tombstones, the first `signed` of them under a checkpoint."""
    with opened(folder) as log:
        graves = DurableGraveyard(log, SIGNER)
        for number in range(count):
            if number == signed:
                graves.settle(0)
                graves.checkpoint(0, NOW_MS)
            log.append(stone(number))
        if signed == count:
            graves.settle(0)
            graves.checkpoint(0, NOW_MS)


def entries_of(count: int) -> list[bytes]:
    return [stone(number).entry() for number in range(count)]


# --- proofs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reopen", [False, True], ids=["unwritten", "from disk"])
def test_all_proofs_of_all_sizes_to_300_equal_the_text_of_the_standard(
    tmp_path: Path, *, reopen: bool
) -> None:
    slow = SlowTree(entries_of(300))
    log = opened(tmp_path)
    for number in range(300):
        assert log.append(stone(number)) == number
    if reopen:
        log.close()
        log = opened(tmp_path)
    for size in range(301) if reopen else range(0, 301, 7):
        assert log.root(size) == slow.mth(0, size)
        for index in range(size):
            assert list(log.inclusion_proof(index, size)) == slow.path(index, 0, size)
        for old in range(size + 1):
            assert list(log.consistency_proof(old, size)) == slow.proof(old, size)
    log.close()


def test_random_proofs_of_a_log_of_100_000_equal_the_text_of_the_standard(tmp_path: Path) -> None:
    rng = random.Random(7)
    slow = SlowTree(entries_of(100_000))
    log = opened(tmp_path)
    for number in range(100_000):
        log.append(stone(number))
        if rng.random() < 0.001:
            log.flush(rng.randrange(number + 2))  # any cut between written and unwritten
        if number == 60_000:
            log.close()
            log = opened(tmp_path)
    for _ in range(300):
        size = rng.randrange(1, 100_001)
        index, old = rng.randrange(size), rng.randrange(size + 1)
        assert log.root(size) == slow.mth(0, size)
        assert list(log.inclusion_proof(index, size)) == slow.path(index, 0, size)
        assert list(log.consistency_proof(old, size)) == slow.proof(old, size)
        assert log.entry(index) == slow.entries[index]
    log.close()


def test_a_proof_reads_a_number_of_hashes_that_grows_with_the_logarithm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path, 20_000)
    log = opened(tmp_path)
    reads: list[int] = []
    real = os.pread

    def counted(file: int, count: int, at: int) -> bytes:
        reads.append(at)
        return real(file, count, at)

    monkeypatch.setattr(os, "pread", counted)
    for call in (
        log.root,
        lambda: log.inclusion_proof(7_777, 19_999),
        lambda: log.consistency_proof(12_345, 19_999),
    ):
        reads.clear()
        call()
        assert 0 < len(reads) <= 2 * 15  # 2**15 > 20,000
    log.close()


# --- finding ---------------------------------------------------------------------------------------------------------


def test_every_tombstone_is_found_by_its_id_across_runs_and_restarts(tmp_path: Path) -> None:
    count = RUN + 100
    log = opened(tmp_path)
    for number in range(count):
        log.append(stone(number))
    for _ in range(2):
        for number in (0, 1, RUN - 1, RUN, RUN + 1, count - 1):
            assert log.find(f"jti-{number}") == (number, stone(number))
        for number in random.Random(3).sample(range(count), 500):
            found = log.find(f"jti-{number}")
            assert found is not None
            assert found[0] == number
        assert log.find("jti-none") is None
        assert log.find(f"jti-{count}") is None
        log.close()
        log = opened(tmp_path)
    log.close()


@pytest.mark.parametrize("lowest", [0, 2**64 - 2**54], ids=["all low", "all high"])
def test_a_run_of_unevenly_spread_names_is_searched_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lowest: int
) -> None:
    """All names within a thousandth of their range, some of them equal: no interpolation finds its place."""

    def clustered(jti: str) -> bytes:
        return (lowest + int(jti.removeprefix("jti-")) * (2**54 // RUN) // 3 // 4 * 4).to_bytes(8, "little")

    monkeypatch.setattr(stone_index, "_name", clustered)
    log = opened(tmp_path)
    for number in range(RUN + 5):
        log.append(stone(number))
    for number in (0, 1, 2, 3, 1000, RUN // 2, RUN - 2, RUN - 1, RUN + 4):
        found = log.find(f"jti-{number}")
        assert found is not None
        assert found[0] == number
    log.close()


def test_a_damaged_or_missing_index_is_made_again(tmp_path: Path) -> None:
    filled(tmp_path, RUN + 10)
    find = tmp_path / "find"
    whole = find.read_bytes()
    raw = bytearray(whole)
    raw[70_000] ^= 1
    for content in (bytes(raw), raw[: len(raw) // 2], None):
        find.unlink() if content is None else find.write_bytes(content)
        with opened(tmp_path) as log:
            for number in (0, 70_000 // 8, RUN - 1, RUN, RUN + 9):
                found = log.find(f"jti-{number}")
                assert found is not None
                assert found[0] == number
        assert find.read_bytes() == whole


@pytest.mark.slow
def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    log = opened(tmp_path)

    def grown_to(end: int) -> int:
        for number in range(len(log), end):
            log.append(stone(number))
            if number % 512 == 0:
                log.flush()
        log.flush()
        return tracemalloc.get_traced_memory()[0]

    grown_to(1000)
    tracemalloc.start()
    try:
        first = grown_to(RUN + 1000)  # the dictionary of the newest run is as full as at the second look
        assert grown_to(3 * RUN + 1000) - first < 500_000
    finally:
        tracemalloc.stop()
    log.close()


# --- restarts --------------------------------------------------------------------------------------------------------


def test_consistency_between_any_two_checkpoints_is_proved_after_restarts(tmp_path: Path) -> None:
    number = 0
    for round_ in range(6):
        with opened(tmp_path) as log:
            graves = DurableGraveyard(log, SIGNER)
            for _ in range(round_ * 3 + 1):
                log.append(stone(number))
                number += 1
            graves.settle(round_)
            graves.checkpoint(round_, NOW_MS + round_)
    with opened(tmp_path) as log:
        notes = list(log.checkpoints())
        sizes = [Checkpoint.from_text(open_note(note, VERIFIER)).size for note in notes]
        assert sizes == [1, 5, 12, 22, 35, 51]
        for first in range(6):
            for second in range(first, 6):
                proof = log.consistency_proof(sizes[first], sizes[second])
                verify_log_grew(notes[first], notes[second], proof, VERIFIER)
        assert log.audit() == 51


def test_one_checkpoint_per_period_is_kept_and_the_newest(tmp_path: Path) -> None:
    with opened(tmp_path, keep_every_ms=1000) as log:
        graves = DurableGraveyard(log, SIGNER)
        for at_ms in (0, 1, 999, 1000, 1999, 2500, 3499):
            log.append(stone(at_ms))
            graves.settle(0)
            graves.checkpoint(0, at_ms)
        kept = [Checkpoint.from_text(open_note(note, VERIFIER)).at_ms for note in log.checkpoints()]
    assert kept == [0, 1000, 2500, 3499]
    with opened(tmp_path, keep_every_ms=1000) as log:
        graves = DurableGraveyard(log, SIGNER)
        graves.checkpoint(0, 3500)
        kept = [Checkpoint.from_text(open_note(note, VERIFIER)).at_ms for note in log.checkpoints()]
    assert kept == [0, 1000, 2500, 3500]


def test_the_entries_alone_rebuild_tree_and_index(tmp_path: Path) -> None:
    filled(tmp_path, 5000, signed=4000)
    (tmp_path / "tree").unlink()
    (tmp_path / "find").unlink()
    with opened(tmp_path) as log:
        assert log.root() == SlowTree(entries_of(5000)).mth(0, 5000)
        assert log.find("jti-4321") == (4321, stone(4321))
    assert read_entries(tmp_path) == entries_of(5000)


def test_entries_are_flushed_again_after_the_disk_refused_half_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = write_at

    def half(file: int, data: bytes, start: int) -> None:
        real(file, data[: len(data) // 2], start)
        raise OSError(28, "No space left on device")

    log = opened(tmp_path)
    for number in range(40):
        log.append(stone(number))
    monkeypatch.setattr(log_module, "write_at", half)
    with pytest.raises(OSError, match="No space left"):
        log.flush()
    assert log.flushed == 0
    monkeypatch.undo()
    log.append(stone(40))
    log.close()
    assert read_entries(tmp_path) == entries_of(41)
    with opened(tmp_path) as again:
        assert again.audit() == 41


# --- torn ends -------------------------------------------------------------------------------------------------------


def heal(folder: Path, count: int) -> None:
    """Reopen, append again what a host's log would hold, and compare with an undisturbed log."""
    with opened(folder) as log:
        assert len(log) <= count
        log.append_from(0, entries_of(count))
        assert log.root() == SlowTree(entries_of(count)).mth(0, count)
        assert log.audit() == count
        for number in range(count):
            assert log.find(f"jti-{number}") == (number, stone(number))


def test_the_end_cut_at_any_byte_keeps_whole_entries_and_heals(tmp_path: Path) -> None:
    filled(tmp_path / "whole", 6, signed=4)
    raw = (tmp_path / "whole" / "tombstones.jsonl").read_bytes()
    ends = [end + 1 for end in range(len(raw)) if raw[end : end + 1] == b"\n"]
    for cut in range(ends[3], len(raw) + 1, 7):
        folder = tmp_path / f"cut-{cut}"
        shutil.copytree(tmp_path / "whole", folder)
        os.truncate(folder / "tombstones.jsonl", cut)
        with opened(folder) as log:
            assert len(log) == sum(end <= cut for end in ends)
        assert (folder / "tombstones.jsonl").read_bytes() == raw[: max(end for end in ends if end <= cut)]
        heal(folder, 6)


@pytest.mark.parametrize("file", ["tree", "find"])
def test_a_derived_file_cut_at_any_byte_behind_what_was_signed_is_completed(
    tmp_path: Path, file: str
) -> None:
    filled(tmp_path / "whole", 6, signed=3)
    raw = (tmp_path / "whole" / file).read_bytes()
    signed = record_start(3) if file == "tree" else 0
    for cut in range(signed, len(raw) + 1, 5):
        folder = tmp_path / f"cut-{cut}"
        shutil.copytree(tmp_path / "whole", folder)
        os.truncate(folder / file, cut)
        with opened(folder) as log:
            assert len(log) == 6
        assert (folder / file).read_bytes() == raw
        heal(folder, 6)


def test_a_flipped_bit_behind_what_was_signed_is_cut_and_heals(tmp_path: Path) -> None:
    filled(tmp_path / "whole", 6, signed=4)
    raw = (tmp_path / "whole" / "tombstones.jsonl").read_bytes()
    start = len(b"".join(entry + b"\n" for entry in entries_of(4)))
    for place in range(start, len(raw), 3):
        folder = tmp_path / f"flip-{place}"
        shutil.copytree(tmp_path / "whole", folder)
        altered = bytearray(raw)
        altered[place] ^= 1 << place % 8
        (folder / "tombstones.jsonl").write_bytes(altered)
        with opened(folder) as log:
            assert len(log) < 6
        heal(folder, 6)


def test_blocks_that_a_power_cut_left_as_zeros_are_cut_and_heal(tmp_path: Path) -> None:
    filled(tmp_path / "whole", 40, signed=10)
    start = len(b"".join(entry + b"\n" for entry in entries_of(25)))
    for file, at in (("tombstones.jsonl", start + 30), ("tree", record_start(25) + 30)):
        folder = tmp_path / file
        shutil.copytree(tmp_path / "whole", folder)
        with (folder / file).open("r+b") as raw:
            raw.seek(at)
            raw.write(bytes(300))
        heal(folder, 40)


# --- edits, rollbacks, strangers -------------------------------------------------------------------------------------


def test_an_edited_entry_is_found_on_opening_or_when_it_is_read(tmp_path: Path) -> None:
    filled(tmp_path, RUN + 10, signed=RUN + 10)
    path = tmp_path / "tombstones.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"expired"', b'"closed" ', 1))
    with opened(tmp_path) as log:
        assert log.find("jti-7") == (7, stone(7))
        with pytest.raises(TombstoneLogError, match="index=0 must hold the entry that was hashed"):
            log.entry(0)
        with pytest.raises(TombstoneLogError, match=r"tombstones.jsonl or `tree` was altered"):
            log.audit()
    path.write_bytes(b"".join(whole.rpartition(b'"expired"')[::2]).ljust(len(whole)))
    with pytest.raises(TombstoneLogError, match=f"index={RUN + 9} must hold the entry that was hashed"):
        opened(tmp_path)


def test_an_edited_hash_is_found_on_opening_or_by_an_audit(tmp_path: Path) -> None:
    filled(tmp_path / "whole", 21, signed=21)
    length = (tmp_path / "whole" / "tree").stat().st_size
    found = set()
    for place in range(16, length, 13):
        folder = tmp_path / f"edit-{place}"
        shutil.copytree(tmp_path / "whole", folder)
        raw = bytearray((folder / "tree").read_bytes())
        raw[place] ^= 4
        (folder / "tree").write_bytes(raw)
        try:
            with opened(folder) as log:
                log.audit()
        except TombstoneLogError as error:
            found.add(str(error).split("=", maxsplit=1)[0].split(" of", maxsplit=1)[0])
        else:
            pytest.fail(f"byte {place} was changed unnoticed")
        (folder / "tree").unlink()
        heal(folder, 21)
    assert {"root", "index", "tree record"} <= found


def test_an_entry_edited_together_with_its_hashes_contradicts_the_signature(tmp_path: Path) -> None:
    filled(tmp_path, 9, signed=9)
    forged = tmp_path / "forged"
    with opened(forged) as log:
        for number in range(9):
            log.append(stone(number, reason=DestroyReason.USED) if number == 4 else stone(number))
    for name in ("checkpoint", "checkpoints.jsonl"):
        shutil.copy(tmp_path / name, forged / name)
    before = {path.name: path.read_bytes() for path in forged.iterdir()}
    with pytest.raises(TombstoneLogError, match="root of 9 entries must be the signed one"):
        opened(forged)
    (forged / "tree").unlink()
    with pytest.raises(TombstoneLogError, match="root of 9 entries must be the signed one"):
        opened(forged)
    assert (forged / "tombstones.jsonl").read_bytes() == before["tombstones.jsonl"]


def test_an_older_state_under_a_newer_checkpoint_is_refused_and_left_alone(tmp_path: Path) -> None:
    filled(tmp_path / "old", 5, signed=5)
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    with opened(tmp_path / "new") as log:
        graves = DurableGraveyard(log, SIGNER)
        log.append_from(5, [stone(number).entry() for number in range(5, 9)])
        graves.settle(0)
        newest = graves.checkpoint(0, NOW_MS + 1)
    for name in ("tombstones.jsonl", "tree"):
        mixed = tmp_path / f"old {name}"
        shutil.copytree(tmp_path / "new", mixed)
        shutil.copy(tmp_path / "old" / name, mixed / name)
        with pytest.raises(TombstoneLogError, match="must hold 9 signed entries"):
            opened(mixed)
        assert (mixed / name).read_bytes() == (tmp_path / "old" / name).read_bytes()
    mixed = tmp_path / "old both"
    shutil.copytree(tmp_path / "new", mixed)
    shutil.copy(tmp_path / "old" / "tombstones.jsonl", mixed)
    (mixed / "tree").unlink()
    with pytest.raises(TombstoneLogError, match="size=5 must be at least the 9 entries that were signed"):
        opened(mixed)
    # Everything old together is a log in itself: only a checkpoint kept elsewhere tells.
    with (
        opened(tmp_path / "old") as log,
        pytest.raises(TombstoneLogError, match="an older state was put back"),
    ):
        log.must_extend(newest)
    with opened(tmp_path / "new") as log:
        assert log.must_extend(newest).size == 9
        for note in log.checkpoints():
            log.must_extend(note)


def test_the_newest_checkpoint_counts_also_where_its_own_file_is_lost(tmp_path: Path) -> None:
    filled(tmp_path, 5, signed=5)
    (tmp_path / "checkpoint").unlink()
    with opened(tmp_path) as log:
        assert log.newest is not None
        assert log.newest.size == 5


def test_a_checkpoint_by_another_key_is_refused(tmp_path: Path) -> None:
    filled(tmp_path, 5, signed=5)
    stranger = ed25519.Ed25519PrivateKey.generate().public_key()
    with pytest.raises(InvalidReceipt, match="must carry a valid signature"):
        opened(tmp_path, verifiers=[note_verifier(ORIGIN, stranger)])
    with pytest.raises(InvalidReceipt, match="verifiers=<none>"):
        opened(tmp_path, verifiers=[])
    with opened(tmp_path, verifiers=[note_verifier(ORIGIN, stranger), VERIFIER]) as log:  # after a rotation
        assert len(log) == 5


def test_a_log_of_another_origin_is_refused(tmp_path: Path) -> None:
    filled(tmp_path, 5, signed=5)
    with (
        opened(tmp_path) as log,
        pytest.raises(TombstoneLogError, match=r"must be 'other\.example/fragments'"),
    ):
        DurableGraveyard(log, note_signer("other.example/fragments", KEY))


def test_one_process_at_a_time_has_the_log_open(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(TombstoneLogError, match="must have one writer"):
        opened(tmp_path)
    opened(tmp_path).close()


@pytest.mark.parametrize("file", ["tree", "find"])
@pytest.mark.parametrize("head", [b"DFTREE2\r\n", b"something else entirely"])
def test_files_of_another_kind_or_version_are_refused_and_left_alone(
    tmp_path: Path, file: str, head: bytes
) -> None:
    filled(tmp_path, 5, signed=5)
    (tmp_path / file).write_bytes(head.ljust(400, b"x"))
    with pytest.raises(TombstoneLogError, match="it is of another kind or a newer version"):
        opened(tmp_path)
    assert (tmp_path / file).read_bytes() == head.ljust(400, b"x")


@pytest.mark.parametrize(
    "line",
    [
        stone(5, v=2).entry(),
        stone(5).entry().replace(b'"leases"', b'"more":1,"leases"'),
        stone(5).entry().replace(b'"expired"', b'"a later reason"'),
        stone(5).entry().replace(b",", b", "),
    ],
)
def test_whole_entries_of_a_newer_version_are_refused_not_cut(tmp_path: Path, line: bytes) -> None:
    filled(tmp_path, 5, signed=5)
    path = tmp_path / "tombstones.jsonl"
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(TombstoneLogError, match="open the log with the release that wrote it"):
        opened(tmp_path)
    assert path.read_bytes().endswith(line + b"\n")


def test_damaged_checkpoint_files_are_told(tmp_path: Path) -> None:
    filled(tmp_path, 5, signed=5)
    kept = (tmp_path / "checkpoints.jsonl").read_bytes()
    (tmp_path / "checkpoints.jsonl").write_bytes(b"{}\n" + kept)
    with pytest.raises(TombstoneLogError, match="line=1 must be a kept checkpoint"):
        opened(tmp_path)
    (tmp_path / "checkpoints.jsonl").write_bytes(kept + kept[:50])
    opened(tmp_path).close()
    assert (tmp_path / "checkpoints.jsonl").read_bytes() == kept
    (tmp_path / "checkpoint").write_bytes(b"\xff\xfe")
    with pytest.raises(TombstoneLogError, match="file='checkpoint' must hold a signed note"):
        opened(tmp_path)


def test_appending_again_is_the_same_entry_or_an_error(tmp_path: Path) -> None:
    filled(tmp_path, 5)
    with opened(tmp_path) as log:
        log.append_from(2, entries_of(8)[2:])
        log.append_from(8, [])
        assert len(log) == 8
        with pytest.raises(TombstoneConflict, match="index=3 must hold the entry that is given again"):
            log.append_from(3, [stone(4).entry()])
        with pytest.raises(TombstoneConflict, match="index=9 must not be above 8"):
            log.append_from(9, [stone(9).entry()])
        with pytest.raises(TombstoneLogError, match="must be a tombstone"):
            log.append_from(8, [b'{"v":1}'])
        with pytest.raises(TombstoneLogError, match="must have at most 65536"):
            log.append(stone(8, kc="k" * 65_536))
        assert len(log) == 8


# --- kill -9 ---------------------------------------------------------------------------------------------------------

CHILD = """
import sys
from pathlib import Path
from tests.privacy.fragments.test_tombstone_log import NOW_MS, SIGNER, DurableGraveyard, opened, stone
log = opened(Path(sys.argv[1]), keep_every_ms=50)
graves = DurableGraveyard(log, SIGNER)
number = len(log)
print("open", number, flush=True)
while True:
    log.append(stone(number)); number += 1
    if number % 7 == 0: log.flush(number - 3)
    if number % 20 == 0:
        graves.settle(0); graves.checkpoint(0, NOW_MS + number); print("signed", number, flush=True)
"""


def kill_while_appending(folder: Path, after_lines: int) -> int:
    """Start a writer, kill it after some checkpoints; returns the entries of the newest checkpoint it told of."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert child.stdout is not None
    signed = 0
    with child:
        for line_number, line in enumerate(child.stdout):
            if line.startswith("signed"):
                signed = int(line.split()[1])
            if line_number == after_lines:
                child.send_signal(signal.SIGKILL)
    return signed


@pytest.mark.parametrize("rounds", [2, pytest.param(40, marks=pytest.mark.slow)])
def test_a_killed_writer_loses_no_signed_entry_and_the_rest_is_appended_again(
    tmp_path: Path, rounds: int
) -> None:
    rng = random.Random(rounds)
    signed = 0
    for _ in range(rounds):
        signed = max(signed, kill_while_appending(tmp_path, rng.randrange(1, 25)))
        with opened(tmp_path) as log:
            assert len(log) >= signed
            assert list(log.entries(0)) == entries_of(len(log))
            for note in log.checkpoints():
                assert log.must_extend(note).size <= len(log)
    heal_to = signed + 50
    with opened(tmp_path) as log:
        log.append_from(0, entries_of(max(heal_to, len(log))))
        assert log.root(heal_to) == SlowTree(entries_of(heal_to)).mth(0, heal_to)
        log.audit()


# --- the graveyard ---------------------------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Callable[[], World]]:
    """Makes a service over the folder; the one made before it counts as killed."""
    logs: list[TombstoneLog] = []

    def make() -> World:
        for log in logs:
            log.close(log.flushed)  # lets go of the lock, writes nothing
        made = World()
        logs.append(opened(tmp_path / "graves"))
        made.cdp._state.graves = DurableGraveyard(logs[-1], SIGNER)
        return made

    yield make
    for log in logs[-1:]:
        log.close(log.flushed)


def test_a_service_goes_on_where_the_one_before_it_was_closed(world: Callable[[], World]) -> None:
    first = world()
    names = [first.cdp.mint(order(f"o-{number}"), NOW_MS).jti for number in range(5)]
    first.cdp.shred(names[2], DestroyReason.OPERATOR, NOW_MS + 1)
    early = first.cdp.checkpoint(NOW_MS + 2)
    first.cdp.close()
    second = world()
    assert (second.cdp.minted, second.cdp.tombstones) == (5, 5)
    more = second.cdp.mint(order("o-more"), NOW_MS + 10).jti
    second.cdp.shred(more, DestroyReason.WITHDRAWN, NOW_MS + 11)
    for index, name in enumerate([names[2], names[0], names[1], names[3], names[4], more]):
        receipt = second.cdp.receipt(name)
        assert receipt.index == index
        checkpoint = verify_receipt(receipt, VERIFIER, ORIGIN)
        assert checkpoint.minted == checkpoint.live + checkpoint.size
    late = second.cdp.checkpoint(NOW_MS + 12)
    verify_log_grew(early, late, second.cdp.consistency_proof(1, 6), VERIFIER)


def test_fragments_that_died_with_the_process_are_buried_at_recovery(world: Callable[[], World]) -> None:
    first = world()
    minted = [first.cdp.mint(order(f"o-{number}"), NOW_MS) for number in range(4)]
    first.cdp.shred(minted[0].jti, DestroyReason.OPERATOR, NOW_MS + 1)
    first.cdp.checkpoint(NOW_MS + 2)  # minted 4, live 3, and then the process is gone
    second = world()
    graves = second.cdp._state.graves
    assert isinstance(graves, DurableGraveyard)
    assert (graves.minted, len(graves)) == (4, 1)
    with pytest.raises(TombstoneLogError, match=r"live \+ tombstones=1 must be at least the 4 minted"):
        graves.settle(0)
    graves.bury_lost(
        stone(number, jti=fragment.jti, reason=DestroyReason.CLOSED, dead_ms=NOW_MS + 3)
        for number, fragment in enumerate(minted[1:])
    )
    graves.settle(0)
    checkpoint = Checkpoint.from_text(open_note(second.cdp.checkpoint(NOW_MS + 4), VERIFIER))
    assert (checkpoint.minted, checkpoint.live, checkpoint.size) == (4, 0, 4)
    receipt = second.cdp.receipt(minted[3].jti)
    assert verify_receipt(receipt, VERIFIER, ORIGIN).size == 4


def test_nothing_is_written_or_signed_before_the_hosts_log_has_it(tmp_path: Path) -> None:
    asked: list[int] = []
    durable = 0

    def ready(size: int) -> None:
        asked.append(size)
        if size > durable:
            raise OSError(5, "the host's log has failed")

    log = opened(tmp_path)
    graves = DurableGraveyard(log, SIGNER, ready=ready)
    graves.bury_lost(stone(number) for number in range(1500))
    graves.settle(0)
    assert (tmp_path / "tombstones.jsonl").stat().st_size == 0
    with pytest.raises(OSError, match="host's log"):
        graves.checkpoint(0, NOW_MS)
    assert (asked, log.note) == ([1500], "")
    assert (tmp_path / "tombstones.jsonl").stat().st_size == 0
    graves.release(1000)
    assert len(read_entries(tmp_path)) == 1000
    assert graves.entries(1000) == tuple(entries_of(1500)[1000:])
    durable = 1500
    note = graves.checkpoint(0, NOW_MS)
    assert Checkpoint.from_text(open_note(note, VERIFIER)).size == 1500
    graves.bury_lost([stone(1500)])
    graves.close()
    assert len(read_entries(tmp_path)) == 1500


def test_a_graveyard_without_a_host_writes_in_strides(world: Callable[[], World], tmp_path: Path) -> None:
    made = world()
    for number in range(600):
        made.cdp.shred(made.cdp.mint(order(f"o-{number}"), NOW_MS).jti, DestroyReason.OPERATOR, NOW_MS)
    assert len(read_entries(tmp_path / "graves")) == 512


@settings(max_examples=40)
@given(st.lists(st.sampled_from(["append", "flush", "sign", "reopen", "kill"]), max_size=60))
def test_any_order_of_acts_gives_the_log_of_its_entries(
    tmp_path_factory: pytest.TempPathFactory, acts: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("log")
    log, count = opened(folder), 0
    for at, act in enumerate(acts):
        if act == "append":
            log.append(stone(count))
            count += 1
        elif act == "flush":
            log.flush(count - at % 3)
        elif act == "sign":
            checkpoint = Checkpoint(ORIGIN, len(log), log.root(), len(log), 0, at)
            log.checkpoint(sign_note(checkpoint.text(), SIGNER), checkpoint)
        else:
            flushed = log.flushed
            log.close(flushed if act == "kill" else None)
            log = opened(folder)
            assert len(log) == (flushed if act == "kill" else count)
            count = len(log)
        assert log.root() == SlowTree(entries_of(count)).mth(0, count)
    log.close()
