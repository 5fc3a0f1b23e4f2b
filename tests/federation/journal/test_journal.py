"""The journal as a file: what is in it, who may read it, and that nothing of it is left."""

import os
from pathlib import Path

import pytest

from dayfly.engine.errors import StoreDamaged, StoreLocked
from dayfly.federation.errors import JournalDiverged
from dayfly.federation.journal import Journal, JournalHead, journal_secret, sweep
from dayfly.privacy.errors import DayflyError

HEAD = JournalHead(b"r" * 16, "shop", "glm", b"terms")
SECRET = journal_secret(bytes(range(32)))


def opened(folder: Path, *, head: JournalHead = HEAD, secret: bytes = SECRET) -> Journal:
    return Journal.open(folder, head, secret=secret, random_bytes=os.urandom, now_ms=lambda: 1)


def raw(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_entries_come_back_in_order_whatever_their_size(tmp_path: Path) -> None:
    contents = [b"", b"x", os.urandom(9_000_000), b"y" * 4_190_000, b"last"]
    with opened(tmp_path / "journal") as journal:
        assert list(journal.entries()) == []
        for kind, content in enumerate(contents, 2):
            journal.append(kind, content)
        assert list(journal.entries()) == []  # those of before, as long as it is open
    with opened(tmp_path / "journal") as journal:
        assert list(journal.entries()) == list(enumerate(contents, 2))
        journal.append(9, b"more")
    with opened(tmp_path / "journal") as journal:
        assert list(journal.entries())[-1] == (9, b"more")


def test_half_of_a_long_entry_is_no_entry(tmp_path: Path) -> None:
    with opened(tmp_path / "journal") as journal:
        journal.append(2, b"whole")
        journal._log.wait(journal._log.append(3 | 0x80, b"first half"))
    with opened(tmp_path / "journal") as journal:
        assert list(journal.entries()) == [(2, b"whole")]
        journal.append(3, b"second half of nothing")
    with opened(tmp_path / "journal") as journal:
        assert list(journal.entries()) == [(2, b"whole"), (3, b"second half of nothing")]


@pytest.mark.parametrize("sectors", range(1, 8))
def test_a_torn_end_is_cut_and_everything_before_it_stays(tmp_path: Path, sectors: int) -> None:
    folder = tmp_path / "journal"
    with opened(folder) as journal:
        journal.append(2, b"kept")
        journal.append(2, b"perhaps " * 400)
    segment, last, end = last_record(folder)
    data = bytearray(segment.read_bytes())
    torn = max(end - 512 * sectors, last)
    data[torn:end] = bytes(end - torn)
    segment.write_bytes(data)
    with opened(folder) as journal:
        assert list(journal.entries()) == [(2, b"kept")]


def test_a_changed_byte_is_damage_and_no_torn_end(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    with opened(folder) as journal:
        journal.append(2, b"kept")
    segment, last, _ = last_record(folder)
    data = bytearray(segment.read_bytes())
    data[last + 60] ^= 1
    segment.write_bytes(data)
    with pytest.raises(StoreDamaged, match="must be as it was written"):
        opened(folder)


def last_record(folder: Path) -> tuple[Path, int, int]:
    """The segment in use, where its last record begins, and where it ends (in sectors of 512 bytes)."""
    segment = max((folder / "log").iterdir(), key=lambda path: path.read_bytes().count(b"DFR1"))
    data = segment.read_bytes()
    last = max(at for at in range(0, len(data), 512) if data[at : at + 4] == b"DFR1")
    end = last
    while any(data[end : end + 512]):
        end += 512
    return segment, last, end


def test_nobody_reads_it_without_the_secret(tmp_path: Path) -> None:
    with opened(tmp_path / "journal") as journal:
        journal.append(2, b"a root of masks, thirty-two long")
    assert b"root of masks" not in raw(tmp_path)
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "journal").rglob("*") if path.is_file()} == {
        0
    }
    assert (tmp_path / "journal").stat().st_mode & 0o077 == 0
    with pytest.raises(DayflyError, match="must be the one that wrapped"):
        opened(tmp_path / "journal", secret=journal_secret(bytes(32)[:31] + b"x"))


def test_only_one_process_writes(tmp_path: Path) -> None:
    with opened(tmp_path / "journal"), pytest.raises(StoreLocked, match="must have one writer"):
        opened(tmp_path / "journal")


@pytest.mark.parametrize(
    ("head", "differing"),
    [
        (JournalHead(b"s" * 16, "shop", "glm", b"terms"), "run"),
        (JournalHead(b"r" * 16, "wifi", "glm", b"terms"), "party"),
        (JournalHead(b"r" * 16, "shop", "align", b"terms"), "protocol"),
        (JournalHead(b"r" * 16, "shop", "glm", b"others"), "terms"),
    ],
)
def test_another_runs_journal_is_not_gone_on_with(tmp_path: Path, head: JournalHead, differing: str) -> None:
    opened(tmp_path / "journal").close()
    with pytest.raises(
        JournalDiverged, match=f"must be the journal of this run, but differs in \\['{differing}'\\]"
    ):
        opened(tmp_path / "journal", head=head)
    opened(tmp_path / "journal").close()


def test_the_end_leaves_nothing(tmp_path: Path) -> None:
    journal = opened(tmp_path / "journal")
    journal.append(2, b"x")
    journal.end()
    assert list(tmp_path.iterdir()) == []


def test_what_a_crash_left_of_a_making_or_an_end_is_swept_away(tmp_path: Path) -> None:
    opened(tmp_path / "journal").close()
    (tmp_path / "journal").rename(tmp_path / "journal.ended")
    (tmp_path / "another-0123.new").mkdir()
    opened(tmp_path / "living").close()
    assert sweep(tmp_path) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["living"]
    opened(tmp_path / "living").close()
