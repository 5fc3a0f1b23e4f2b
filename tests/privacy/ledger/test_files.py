"""What may happen to the files: cut, edited, reordered, replaced, put back, or not writable. Each is told; nothing is spent."""

import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import orjson
import pytest

from dayfly.privacy.errors import (
    LedgerBusy,
    LedgerDamaged,
    LedgerError,
    LedgerForeign,
    LedgerMissing,
    LedgerRolledBack,
    LedgerUnwritable,
    LedgerVersion,
)
from dayfly.privacy.ledger import Head, Ledger

from .support import Clock, declare, open_ledger, opened, spend, surgery

SPENDS = 12


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed ledger with a genesis, three accounts and twelve spends: entries 1 to 16."""
    path = tmp_path / "budget.db"
    with opened(path) as ledger:
        declare(ledger)
        for _ in range(SPENDS):
            ledger.spend(spend(Fraction(1, 40)))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in folder.iterdir() if not one.name.endswith("-shm")}


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def refused_everywhere(path: Path, error: type[LedgerError], match: str) -> None:
    """Opening or the full walk says so."""
    with pytest.raises(error, match=match), open_ledger(path) as ledger:
        ledger.verify()


# --- made and recognised ---------------------------------------------------------------------------------------------


def test_files_are_readable_by_their_owner_only(path: Path) -> None:
    assert {one.stat().st_mode & 0o777 for one in path.parent.iterdir()} == {0o600}


def test_a_missing_ledger_is_not_made_unless_asked(tmp_path: Path) -> None:
    with pytest.raises(
        LedgerMissing, match=r"path='budget.db' must be a ledger; check the path, or open it with create"
    ):
        open_ledger(tmp_path / "budget.db", create=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("create", [True, False])
def test_a_foreign_database_is_refused_and_left_as_it_is(tmp_path: Path, create: bool) -> None:  # noqa: FBT001 - a parameter of the test
    with closing(sqlite3.connect(tmp_path / "budget.db")) as connection:
        connection.execute("CREATE TABLE t (a)")
    before = contents(tmp_path)
    with pytest.raises(LedgerForeign, match=r"path='budget.db' must be a Dayfly ledger; choose another path"):
        open_ledger(tmp_path / "budget.db", create=create)
    assert contents(tmp_path) == before


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "budget.db").write_text("date,amount\n" * 100)
    before = contents(tmp_path)
    with pytest.raises(LedgerForeign, match=r"must be a Dayfly ledger \(file is not a database\)"):
        open_ledger(tmp_path / "budget.db")
    assert contents(tmp_path) == before


def test_an_empty_file_is_begun_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "budget.db"
    path.touch()
    with pytest.raises(LedgerDamaged, match=r"but it is empty; open it with create=True"):
        open_ledger(path, create=False)
    open_ledger(path).close()
    open_ledger(path, create=False).close()


def test_a_newer_format_is_refused_and_left_as_it_is(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")
    before = contents(path.parent)
    with pytest.raises(LedgerVersion, match=r"version=2 must be at most 1; open it with a newer release"):
        open_ledger(path)
    assert contents(path.parent) == before


def test_a_file_without_its_triggers_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TRIGGER entries_kept")
    with pytest.raises(LedgerDamaged, match="its tables or triggers were changed"):
        open_ledger(path)


def test_every_commit_is_synced(path: Path) -> None:
    with open_ledger(path) as ledger:
        assert ledger._file.rows("PRAGMA synchronous") == [(2,)]
        assert ledger._file.rows("PRAGMA journal_mode") == [("wal",)]


@pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace is not installed; it shows the order of system calls"
)
def test_a_receipt_comes_after_the_sync_of_its_last_write(path: Path) -> None:
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from tests.privacy.ledger.support import open_ledger, spend\n"
        "ledger = open_ledger(Path(sys.argv[1]))\n"
        "for n in range(5):\n"
        "    os.write(2, b'BEGIN\\n')\n"
        "    ledger.spend(spend(release_id=b'strace %d' % n))\n"
        "    os.write(2, b'RECEIPT\\n')\n"
    )
    trace = path.parent / "trace"
    subprocess.run(
        [
            "strace",
            "-f",
            "-y",
            "-o",
            trace,
            "-e",
            "trace=fsync,fdatasync,pwrite64,write",
            sys.executable,
            "-c",
            program,
            path,
        ],
        check=True,
        cwd=Path(__file__).parents[3],
        capture_output=True,
        timeout=120,
    )
    spends = trace.read_text().split("BEGIN")[1:]
    assert len(spends) == 5
    for calls in spends:
        during = calls.split("RECEIPT")[0].splitlines()
        wal = [line for line in during if "budget.db-wal>" in line]
        assert any("pwrite64" in line for line in wal)
        assert "sync(" in wal[-1]


# --- append-only -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET body = '{}' WHERE seq = 7",
        "DELETE FROM entries WHERE seq = 16",
        "INSERT INTO entries VALUES (18, '{}', x'00')",
        "INSERT OR REPLACE INTO entries VALUES (16, '{}', x'00')",
        "UPDATE accounts SET seq = 1",
        "DELETE FROM accounts",
        "INSERT INTO accounts VALUES ('analyst', 'eve', 3)",
        "INSERT OR REPLACE INTO accounts SELECT * FROM accounts",
        "UPDATE charged SET seq = 1",
        "DELETE FROM charged WHERE seq = 16",
        "INSERT INTO charged VALUES (2, 99)",
        "INSERT OR REPLACE INTO charged SELECT * FROM charged WHERE seq = 16",
        "UPDATE releases SET seq = 1",
        "DELETE FROM releases",
        "INSERT INTO releases VALUES (x'00', 5)",
        "INSERT OR REPLACE INTO releases SELECT * FROM releases WHERE seq = 16",
    ],
)
def test_sql_cannot_change_what_was_written(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        with pytest.raises(sqlite3.IntegrityError, match="the ledger is append-only"):
            connection.execute(statement)
        connection.commit()
    with open_ledger(path) as ledger:
        ledger.verify()


# --- edited ----------------------------------------------------------------------------------------------------------

Surgeon = Callable[[sqlite3.Connection], object]


def body(connection: sqlite3.Connection, seq: int) -> str:
    found: str = connection.execute("SELECT body FROM entries WHERE seq = ?", (seq,)).fetchone()[0]
    return found


def rewrite(connection: sqlite3.Connection, seq: int, old: str, new: str, *, digest: bool) -> None:
    """Replace text in an entry; with `digest`, its digest follows."""
    text = body(connection, seq)
    assert old in text
    text = text.replace(old, new, 1)
    connection.execute("UPDATE entries SET body = ? WHERE seq = ?", (text, seq))
    if digest:
        connection.execute(
            "UPDATE entries SET digest = ? WHERE seq = ?", (hashlib.sha256(text.encode()).digest(), seq)
        )


def rechain(connection: sqlite3.Connection, start: int) -> None:
    """Recompute every digest and link from entry `start` on: what an attacker with the file would do."""
    rows = connection.execute(
        "SELECT seq, body FROM entries WHERE seq >= ? ORDER BY seq", (start,)
    ).fetchall()
    prev = connection.execute("SELECT digest FROM entries WHERE seq = ?", (start - 1,)).fetchone()[0].hex()
    for seq, text in rows:
        value = orjson.loads(text)
        changed = text.replace(value["prev"], prev, 1)
        digest = hashlib.sha256(changed.encode()).digest()
        connection.execute("UPDATE entries SET body = ?, digest = ? WHERE seq = ?", (changed, digest, seq))
        prev = digest.hex()


def rewrite_all(connection: sqlite3.Connection, old: str, new: str) -> None:
    """A changed account and a chain that continues it."""
    rewrite(connection, 3, old, new, digest=True)
    rechain(connection, 4)


def swap(connection: sqlite3.Connection) -> None:
    for old, new in ((8, -1), (9, 8), (-1, 9)):
        connection.execute("UPDATE entries SET seq = ? WHERE seq = ?", (new, old))


def insert_between(connection: sqlite3.Connection) -> None:
    for seq in range(16, 8, -1):
        connection.execute("UPDATE entries SET seq = ? WHERE seq = ?", (seq + 1, seq))
    connection.execute("INSERT INTO entries SELECT 9, body, digest FROM entries WHERE seq = 8")


EDITS: dict[str, tuple[Surgeon, str]] = {
    "an amount in the middle": (
        lambda c: rewrite(c, 9, '"epsilon":"1/40"', '"epsilon":"1/80"', digest=False),
        r"entry=9 must be as it was written, but its text does not have its digest; restore",
    ),
    "an amount and its digest": (
        lambda c: rewrite(c, 9, '"epsilon":"1/40"', '"epsilon":"1/80"', digest=True),
        r"entry=9 must .* its totals are not those before it plus its cost",
    ),
    "a name and its digest": (
        lambda c: rewrite(c, 9, '"what":"sha256:count"', '"what":"sha256:other"', digest=True),
        r"entry=10 must be as it was written, but it does not continue entry 9",
    ),
    "the last entry": (
        lambda c: rewrite(c, 16, '"what":"sha256:count"', '"what":"sha256:other"', digest=False),
        r"entry=16 must be as it was written, but its text does not have its digest",
    ),
    "the last total, with its digest": (
        lambda c: rewrite(c, 16, '"spent":"3/10"', '"spent":"1/10"', digest=True),
        r"older or other copy stands in its place",
    ),
    "a limit and its digest": (
        lambda c: rewrite(c, 3, '"limit":"1/1"', '"limit":"9/1"', digest=True),
        r"entry=4 must be as it was written, but it does not continue entry 3",
    ),
    "text that is not canonical": (
        lambda c: rewrite(c, 9, '"seq":9', '"seq": 9', digest=True),
        r"entry=9 must .* its text is not canonical",
    ),
    "text that is no JSON": (
        lambda c: rewrite(c, 9, '"seq":9', '"seq":', digest=True),
        r"entry=9 must .* it does not read as an entry",
    ),
    "another number": (
        lambda c: rewrite(c, 9, '"seq":9', '"seq":8', digest=True),
        r"entry=9 must .* it says it is entry 8",
    ),
    "two entries exchanged": (swap, r"entry=8 must .* it says it is entry 9"),
    "an entry inserted": (
        insert_between,
        r"(entry=9 must .* it says it is entry 8|entry=17 must .* it says it is entry 16)",
    ),
    "an entry removed": (
        lambda c: c.execute("DELETE FROM entries WHERE seq = 9"),
        r"entry=10 must .* entry 9 is missing before it",
    ),
    "the first entry removed": (
        lambda c: c.execute("DELETE FROM entries WHERE seq = 1"),
        "entry 1 is missing",
    ),
    "the last entry removed": (
        lambda c: [
            c.execute(f"DELETE FROM {table} WHERE seq = 16") for table in ("entries", "charged", "releases")
        ],
        r"must include entry 16 .*named by the head file; an older or other copy",
    ),
    "all entries removed": (lambda c: c.execute("DELETE FROM entries"), "entry 1 is missing"),
    "the newest charge of an account": (
        lambda c: c.execute("DELETE FROM charged WHERE seq = 16 AND account = 2"),
        "entry 16 is not listed as the newest of account 2",
    ),
    "an older charge of an account": (
        lambda c: c.execute("DELETE FROM charged WHERE seq = 9 AND account = 2"),
        r"entry=9 must .* table charged does not list it",
    ),
    "a charge too many": (
        lambda c: c.execute("INSERT INTO charged VALUES (2, 3)"),
        "table charged does not list 36 rows",
    ),
    "the newest release id": (
        lambda c: c.execute("DELETE FROM releases WHERE seq = 16"),
        "entry 16 is not listed by its release id",
    ),
    "an older release id": (
        lambda c: c.execute("DELETE FROM releases WHERE seq = 9"),
        r"entry=9 must .* table releases does not list it",
    ),
    "an account hidden": (
        lambda c: c.execute("DELETE FROM accounts WHERE name = 'ann'"),
        r"entry=3 must .* table accounts does not list it",
    ),
    "an account made up": (
        lambda c: c.execute("INSERT INTO accounts VALUES ('analyst', 'eve', 3)"),
        "table accounts does not list 3 rows",
    ),
    "a rewritten chain": (
        lambda c: rewrite_all(c, '"limit":"1/1"', '"limit":"9/1"'),
        r"must include entry 16 .*named by the head file",
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_is_found(path: Path, name: str) -> None:
    edit, match = EDITS[name]
    with surgery(path) as connection:
        edit(connection)
    refused_everywhere(path, LedgerError, match)


def test_opening_alone_finds_a_last_entry_that_continues_another_one(path: Path) -> None:
    with surgery(path) as connection:
        rewrite(connection, 15, '"what":"sha256:count"', '"what":"sha256:other"', digest=True)
    with pytest.raises(LedgerDamaged, match="entry 16 does not continue entry 15"):
        open_ledger(path)


def test_a_spend_on_an_edited_total_is_refused(path: Path) -> None:
    """While the ledger is open, before any walk."""
    with open_ledger(path) as ledger:
        with surgery(path) as connection:
            rewrite(connection, 16, '"spent":"3/10"', '"spent":"0/1"', digest=False)
        with pytest.raises(LedgerDamaged, match=r"entry=16 must be as it was written"):
            ledger.spend(spend())


def test_an_entry_that_says_another_account_is_refused_when_it_is_charged(path: Path) -> None:
    with surgery(path) as connection:
        connection.execute("UPDATE accounts SET seq = 2 WHERE name = 'ann'")
    with (
        open_ledger(path) as ledger,
        pytest.raises(LedgerDamaged, match="entry 2 is listed as the account analyst='ann'"),
    ):
        ledger.spend(spend())


@pytest.mark.parametrize("step", [67, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("digest", [True, False])
def test_every_single_changed_character_is_found(path: Path, digest: bool, step: int) -> None:  # noqa: FBT001 - parameters of the test
    """All over one entry; with its digest recomputed, the link of the next one shows it."""
    with closing(sqlite3.connect(path)) as connection:
        text = body(connection, 9)
    for place in range(0, len(text), step):
        changed = text[:place] + ("0" if text[place] != "0" else "1") + text[place + 1 :]
        copy = path.with_name("copy.db")
        shutil.copy(path, copy)
        shutil.copy(f"{path}.head", f"{copy}.head")
        with surgery(copy) as connection:
            rewrite(connection, 9, text, changed, digest=digest)
        refused_everywhere(copy, LedgerDamaged, "entry=(9|10) must be as it was written")


# --- cut short, put back ---------------------------------------------------------------------------------------------


def test_a_file_cut_short_is_told_wherever_it_is_cut(path: Path) -> None:
    whole = path.read_bytes()
    for size in [*range(0, len(whole), 2048), len(whole) - 1]:
        path.write_bytes(whole[:size])
        refused_everywhere(path, LedgerError, "must be")


def test_a_page_of_zeros_is_told_whichever_it_is(path: Path) -> None:
    whole = path.read_bytes()
    assert len(whole) >= 5 * 4096
    for start in range(0, len(whole), 4096):
        path.write_bytes(whole[:start] + bytes(4096) + whole[start + 4096 :])
        refused_everywhere(path, LedgerError, "must be")


def test_the_walk_finds_damage_that_no_query_of_the_ledger_meets(path: Path) -> None:
    """The file's header says that it has five free pages, which is what the next entries would be written to."""
    whole = path.read_bytes()
    path.write_bytes(whole[:36] + (5).to_bytes(4) + whole[40:])
    with open_ledger(path) as ledger, pytest.raises(LedgerDamaged, match=r"but SQLite finds: .*[Ff]reelist"):
        ledger.verify()


def test_an_older_copy_in_place_of_the_file_is_told(path: Path) -> None:
    old = path.read_bytes()
    with open_ledger(path) as ledger:
        ledger.spend(spend())
    path.write_bytes(old)
    with pytest.raises(
        LedgerRolledBack, match=r"must include entry 17 \w{16}…, named by the head file; .*restore the newest"
    ):
        open_ledger(path)


def test_a_file_copied_without_its_wal_is_told(path: Path) -> None:
    ledger = open_ledger(path)
    ledger.spend(spend())
    stolen = path.with_name("stolen.db")
    shutil.copy(path, stolen)
    shutil.copy(f"{path}.head", f"{stolen}.head")
    ledger.close()
    with pytest.raises(LedgerRolledBack, match="must include entry 17"):
        open_ledger(stolen)


def test_a_whole_folder_put_back_is_told_by_a_head_kept_elsewhere_only(path: Path) -> None:
    old = contents(path.parent)
    with open_ledger(path) as ledger:
        kept = ledger.spend(spend()).head
    for name, raw in old.items():
        (path.parent / name).write_bytes(raw)
    open_ledger(path).close()
    with pytest.raises(LedgerRolledBack, match=r"must include entry 17 .*, which the caller expects"):
        open_ledger(path, expected_head=kept)
    with open_ledger(path) as ledger:
        ledger.spend(spend(what="another history"))
    with pytest.raises(LedgerRolledBack, match="which the caller expects"):
        open_ledger(path, expected_head=kept)


def test_an_older_head_kept_elsewhere_is_content_with_a_longer_ledger(path: Path) -> None:
    with open_ledger(path) as ledger:
        kept = ledger.head()
        ledger.spend(spend())
    open_ledger(path, expected_head=kept).close()
    with pytest.raises(LedgerRolledBack):
        open_ledger(path, expected_head=Head(kept.entries, "0" * 64))


def test_a_file_put_back_while_open_is_told_at_the_next_spend(path: Path) -> None:
    old = path.read_bytes()
    with open_ledger(path) as ledger:
        ledger.spend(spend())
        other = path.with_name("other.db")
        other.write_bytes(old)
        other.replace(path)
        with pytest.raises(LedgerRolledBack, match="must stay the file that was opened, but it was replaced"):
            ledger.spend(spend())


def test_entries_gone_while_open_are_told_at_the_next_spend(path: Path) -> None:
    with open_ledger(path) as ledger:
        ledger.spend(spend())
        with surgery(path) as connection:
            for table in ("entries", "charged", "releases"):
                connection.execute(f"DELETE FROM {table} WHERE seq = 17")
        with pytest.raises(LedgerRolledBack, match=r"must include entry 17 .*seen by this process"):
            ledger.spend(spend())


def test_a_lost_file_is_not_begun_anew_beside_its_head(path: Path) -> None:
    path.unlink()
    with pytest.raises(LedgerRolledBack, match=r"must be the ledger that its head file names and it is gone"):
        open_ledger(path)
    path.touch()
    with pytest.raises(LedgerRolledBack, match="and had 16 entries, but it is empty"):
        open_ledger(path)


def test_the_head_file_of_another_ledger_is_told(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    open_ledger(other).close()
    shutil.copy(f"{other}.head", f"{path}.head")
    with pytest.raises(LedgerRolledBack, match="must be the ledger that its head file names as ledger"):
        open_ledger(path)


def test_a_lost_head_file_needs_a_word(path: Path) -> None:
    head = path.with_name("budget.db.head")
    head.unlink()
    with pytest.raises(
        LedgerRolledBack, match=r"'budget.db.head' must name the ledger's head, but it is missing or empty"
    ):
        open_ledger(path)
    with open_ledger(path, renew_anchor=True) as ledger:
        assert ledger.verify().entries == 16
    open_ledger(path).close()


def test_one_torn_slot_of_the_head_file_is_passed_over_and_two_are_told(path: Path) -> None:
    head = path.with_name("budget.db.head")
    whole = head.read_bytes()
    newest = 512 * (16 % 2)
    head.write_bytes(whole[: newest + 40] + b"#" * 20 + whole[newest + 60 :])
    open_ledger(path).close()
    head.write_bytes(b"#" * 1024)
    with pytest.raises(LedgerRolledBack, match="but neither slot can be read"):
        open_ledger(path)
    open_ledger(path, renew_anchor=True).close()


# --- not writable ----------------------------------------------------------------------------------------------------


def spend_until_it_fails(ledger: Ledger) -> None:
    for _ in range(100):
        ledger.spend(spend(Fraction(1, 1000)))


def test_a_full_disk_spends_nothing_and_the_ledger_goes_on_when_there_is_room(path: Path) -> None:
    with open_ledger(path) as ledger:
        ((pages,),) = ledger._file.rows("PRAGMA page_count")
        ledger._file.rows(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(
            LedgerUnwritable, match=r"must be writable \(database or disk is full\); give it room"
        ):
            spend_until_it_fails(ledger)
        assert ledger.verify() == ledger.head()
        assert ledger.remaining("analyst", "ann").spent == Fraction(3, 10) + Fraction(
            len(ledger.history()) - SPENDS, 1000
        )
        ledger._file.rows("PRAGMA max_page_count = 1000000")
        ledger.spend(spend(Fraction(1, 1000)))
        ledger.verify()


def test_a_disk_that_refuses_to_write_spends_nothing(path: Path) -> None:
    """A file-size limit makes the writes to the write-ahead log fail, as a full disk does."""
    program = (
        "import resource, signal, sys\n"
        "from fractions import Fraction\n"
        "from pathlib import Path\n"
        "from dayfly.privacy.errors import LedgerUnwritable\n"
        "from tests.privacy.ledger.support import open_ledger, spend\n"
        "ledger = open_ledger(Path(sys.argv[1]))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "before = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60000, before[1]))\n"
        "acknowledged = 0\n"
        "try:\n"
        "    for n in range(100):\n"
        "        ledger.spend(spend(Fraction(1, 1000), release_id=b'limited %3d' % n))\n"
        "        acknowledged += 1\n"
        "except LedgerUnwritable as error:\n"
        "    print(acknowledged, error)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path],
        check=True,
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
    )
    count, _, message = done.stdout.partition(" ")
    assert "must be writable" in message
    with open_ledger(path) as ledger:
        ledger.verify()
        assert len(ledger.history()) in (SPENDS + int(count), SPENDS + int(count) + 1)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")
@pytest.mark.parametrize("inside", ["nothing", "a ledger"])
def test_a_folder_that_cannot_be_written_is_told(inside: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if inside == "a ledger":
            open_ledger(folder / "budget.db").close()
            for one in folder.iterdir():
                one.chmod(0o644)
        folder.chmod(0o755)
        program = (
            "import os, sys\n"
            "from pathlib import Path\n"
            "from dayfly.privacy.errors import LedgerUnwritable\n"
            "from tests.privacy.ledger.support import open_ledger\n"
            "os.setuid(65534)\n"
            "try:\n"
            "    open_ledger(Path(sys.argv[1]))\n"
            "except LedgerUnwritable as error:\n"
            "    print(error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, folder / "budget.db"],
            check=True,
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (
            "must be a file that can be written (Permission denied); give the folder room and the right"
            in done.stdout
        )


def test_a_ledger_that_others_keep_busy_is_told(path: Path) -> None:
    with open_ledger(path, busy_seconds=0.05) as ledger, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(
            LedgerBusy, match=r"must be free \(database is locked\); nothing was spent, try again"
        ):
            ledger.spend(spend())
        other.rollback()
        ledger.spend(spend())


@pytest.mark.parametrize("opening", ["nothing there", "made before"])
def test_no_error_leaves_a_file_open(tmp_path: Path, opening: str) -> None:
    before = open_files()
    path = tmp_path / "budget.db"
    if opening == "made before":
        open_ledger(path).close()
        with pytest.raises(LedgerRolledBack):
            open_ledger(path, expected_head=Head(9, "0" * 64))
    else:
        with pytest.raises(LedgerMissing):
            Ledger.open(path, now_ms=Clock())
    assert open_files() == before
