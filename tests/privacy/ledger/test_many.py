"""Many threads and processes at once: nobody overspends, nobody is charged for another, and each sees the truth."""

import fcntl
import subprocess
import sys
import threading
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest

from dayfly.privacy.errors import BudgetExceeded, LedgerUnwritable
from dayfly.privacy.ledger import Head, Ledger, Receipt, walk
from dayfly.privacy.ledger.file import LedgerFile

from .support import Clock, FailingConnection, declare, open_ledger, opened, spend

ROOT = Path(__file__).parents[3]


def spend_all(ledger: Ledger, who: int, receipts: list[Receipt], refusals: list[int]) -> None:
    """Tenths until the budget is gone."""
    for n in range(20):
        try:
            receipts.append(ledger.spend(spend(Fraction(1, 10), release_id=b"thread %2d %2d" % (who, n))))
        except BudgetExceeded:
            refusals.append(who)


@pytest.mark.parametrize("handles", [1, 4])
def test_threads_cannot_overspend(tmp_path: Path, handles: int) -> None:
    """Eight threads ask for sixteen budgets; exactly one is given out, by one handle or through several."""
    ledgers = [open_ledger(tmp_path / "budget.db") for _ in range(handles)]
    declare(ledgers[0])
    receipts: list[Receipt] = []
    refusals: list[int] = []
    threads = [
        threading.Thread(target=spend_all, args=(ledgers[who % handles], who, receipts, refusals))
        for who in range(8)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(receipts) == 10
    assert len(refusals) == 150
    assert len({one.head for one in receipts}) == 10
    assert sorted(one.remaining[0].spent for one in receipts) == [Fraction(n, 10) for n in range(1, 11)]
    for ledger in ledgers:
        assert ledger.remaining("analyst", "ann").left == 0
        ledger.verify()
        ledger.close()


def test_one_release_id_from_many_threads_is_fresh_once(tmp_path: Path) -> None:
    receipts: list[Receipt] = []
    with opened(tmp_path / "budget.db") as ledger:
        declare(ledger)
        threads = [
            threading.Thread(target=lambda: receipts.append(ledger.spend(spend(release_id=b"the same one"))))
            for _ in range(8)
        ]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert Counter(one.fresh for one in receipts) == {True: 1, False: 7}
        assert ledger.remaining("analyst", "ann").spent == Fraction(1, 10)


def test_processes_cannot_overspend(tmp_path: Path) -> None:
    """Four processes ask for four times the budget."""
    path = tmp_path / "budget.db"
    with opened(path) as ledger:
        declare(ledger)
    program = (
        "import sys\n"
        "from fractions import Fraction\n"
        "from pathlib import Path\n"
        "from dayfly.privacy.errors import BudgetExceeded\n"
        "from tests.privacy.ledger.support import open_ledger, spend\n"
        "with open_ledger(Path(sys.argv[1])) as ledger:\n"
        "    print('open', flush=True)\n"
        "    sys.stdin.readline()\n"
        "    for n in range(40):\n"
        "        try:\n"
        "            ledger.spend(spend(Fraction(1, 40), release_id=b'process %s %2d' % (sys.argv[2].encode(), n)))\n"
        "            print('spent', flush=True)\n"
        "        except BudgetExceeded:\n"
        "            print('refused', flush=True)\n"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program, path, str(who)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for who in range(4)
    ]
    for one in children:
        assert one.stdout is not None
        assert one.stdout.readline() == "open\n"
    for one in children:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    told = Counter(line for one in children for line in one.communicate(timeout=60)[0].split())
    assert told == {"spent": 40, "refused": 120}
    with open_ledger(path) as ledger:
        ledger.verify()
        assert ledger.remaining("data_set", "orders").left == 0


def test_two_processes_may_begin_the_same_ledger(tmp_path: Path) -> None:
    path = tmp_path / "budget.db"
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.privacy.ledger.support import declare, open_ledger\n"
        "sys.stdin.readline()\n"
        "with open_ledger(Path(sys.argv[1])) as ledger:\n"
        "    declare(ledger)\n"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", program, path], cwd=ROOT, stdin=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for one in children:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    for one in children:
        one.communicate(timeout=60)
        assert one.returncode == 0
    with open_ledger(path, create=False) as ledger:
        assert ledger.verify().entries == 4


def test_one_process_at_a_time_opens_a_ledger(tmp_path: Path) -> None:
    """So that none sees entries of a ledger whose head file is still empty."""
    path = tmp_path / "budget.db"
    made: list[Ledger] = []
    with path.with_name("budget.db.head").open("wb") as head:
        fcntl.flock(head, fcntl.LOCK_EX)
        thread = threading.Thread(target=lambda: made.append(open_ledger(path)))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        fcntl.flock(head, fcntl.LOCK_UN)
        thread.join()
    made[0].close()


def test_a_second_handle_sees_the_truth_at_once(tmp_path: Path) -> None:
    with opened(tmp_path / "budget.db") as one, opened(tmp_path / "budget.db") as other:
        declare(one)
        one.spend(spend(Fraction(9, 10)))
        assert other.remaining("analyst", "ann").left == Fraction(1, 10)
        with pytest.raises(BudgetExceeded):
            other.spend(spend(Fraction(1, 5)))
        assert other.head() == one.head()


def test_what_a_handle_remembers_never_hides_what_others_spent(tmp_path: Path) -> None:
    with opened(tmp_path / "budget.db") as one, opened(tmp_path / "budget.db") as other:
        declare(one)
        for spent in range(1, 5):
            (one if spent % 2 else other).spend(spend(Fraction(1, 5)))
            assert one.remaining("analyst", "ann").spent == Fraction(spent, 5)
            assert other.remaining("analyst", "ann").spent == Fraction(spent, 5)
        one.verify()


def test_a_walk_sees_one_moment_and_hinders_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path / "budget.db") as ledger:
        declare(ledger)
        before = ledger.spend(spend()).head
        verify = walk.verify

        def slow(file: LedgerFile) -> Head:
            thread = threading.Thread(target=lambda: ledger.spend(spend()), daemon=True)
            thread.start()
            thread.join(10)
            assert not thread.is_alive()
            return verify(file)

        monkeypatch.setattr(walk, "verify", slow)
        assert ledger.verify() == before
        assert ledger.head().entries == before.entries + 1


def test_a_spend_that_failed_is_not_remembered_as_spent(tmp_path: Path) -> None:
    """Another handle then writes the entry of that number."""
    with opened(tmp_path / "budget.db") as one, opened(tmp_path / "budget.db") as other:
        declare(one)
        inner = one._file._connection
        one._file._connection = FailingConnection(inner, "COMMIT")  # type: ignore[assignment]
        with pytest.raises(LedgerUnwritable):
            one.spend(spend(Fraction(1, 2)))
        one._file._connection = inner
        other.spend(spend(Fraction(1, 10)))
        assert one.remaining("analyst", "ann").spent == Fraction(1, 10)
        assert one.spend(spend(Fraction(1, 10))).remaining[1].spent == Fraction(2, 10)
        one.verify()


def test_a_forked_child_must_open_anew_and_leaves_the_parents_ledger_alone(tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from dayfly.privacy.errors import LedgerClosed\n"
        "from tests.privacy.ledger.support import declare, open_ledger, spend\n"
        "ledger = open_ledger(Path(sys.argv[1]))\n"
        "declare(ledger)\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    try:\n"
        "        ledger.spend(spend())\n"
        "    except LedgerClosed as error:\n"
        "        print(error, flush=True)\n"
        "    ledger.close()\n"
        "    del ledger\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "ledger.spend(spend())\n"
        "print(ledger.verify().entries)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "budget.db"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "which opened this ledger; open it again in the forked child" in done.stdout
    assert done.stdout.endswith("\n5\n")
    assert done.stderr == ""


def test_a_clock_read_by_many_threads_never_goes_back_in_the_entries(tmp_path: Path) -> None:
    """Time is read while the ledger is locked, so later entries have later times, however threads interleave."""
    clock = Clock()

    def ticking() -> int:
        clock.now_ms += 1
        return clock.now_ms

    with opened(tmp_path / "budget.db", now_ms=ticking, clock_slack_ms=0) as ledger:
        declare(ledger)
        receipts: list[Receipt] = []
        refusals: list[int] = []
        threads = [
            threading.Thread(target=spend_all, args=(ledger, who, receipts, refusals)) for who in range(4)
        ]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        times = [one.at_ms for one in ledger.history()]
        assert times == sorted(times)
        assert len(receipts) == 10
