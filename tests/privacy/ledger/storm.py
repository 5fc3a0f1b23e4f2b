"""The `kill -9` storm: several processes spend on one ledger and are killed at random instants.

`python -m tests.privacy.ledger.storm --kills 10000`

A worker writes to its own file what it is about to ask, then spends, then writes that it holds a receipt: from there on it
could have drawn noise and shown an answer. What is in such a file survives a killed process. However workers die, every
receipt must be in the ledger, everything in the ledger must have been asked for, and no account may exceed its limit.
"""

import argparse
import os
import random
import signal
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Final

from dayfly.privacy.errors import BudgetExceeded
from dayfly.privacy.ledger import DAY_MS, Account, Ledger, Limit, Scope, Spend

from .support import cost

__all__ = ["storm"]

COSTS: Final = [Fraction(1, 10), Fraction(1, 3), Fraction(1, 7), Fraction(1, 1009)]
ANALYSTS: Final = ["ann", "bob"]
LIMITS: Final[dict[tuple[Scope, str], Limit]] = {
    ("data_set", "orders"): Limit(rho=Fraction(40), delta=Fraction(1, 100)),
    ("purpose", "marketing"): Limit(epsilon=Fraction(10**6), delta=Fraction(1, 100)),
    ("analyst", "ann"): Limit(epsilon=Fraction(25), delta=Fraction(1, 100)),
    ("analyst", "bob"): Limit(epsilon=Fraction(10**6), delta=Fraction(1, 100)),
}


def wall_ms() -> int:
    """The machine's clock."""
    return time.time_ns() // 1_000_000


def worker(path: Path, notes: Path, seed: int) -> None:
    """Open and spend until killed."""
    chance = random.Random(seed)
    descriptor = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    ledger = Ledger.open(path, now_ms=wall_ms)
    while True:
        epsilon, analyst = chance.choice(COSTS), chance.choice(ANALYSTS)
        release_id = chance.randbytes(16)
        asked = Spend(
            data_set="orders",
            analyst=analyst,
            purpose="marketing.mail",
            cost=cost(epsilon, delta=Fraction(1, 10**9)),
            what=f"storm {seed}",
            release_id=release_id,
        )
        line = f"{release_id.hex()} {analyst} {epsilon}\n"
        os.write(descriptor, f"asks {line}".encode())
        try:
            ledger.spend(asked)
        except BudgetExceeded:
            continue
        os.write(descriptor, f"holds {line}".encode())


def storm(folder: Path, *, kills: int, workers: int, seed: int) -> tuple[int, int]:
    """Kill `kills` workers, then compare the ledger with what they noted.

    Returns:
        How many receipts were held, and how many entries there are.
    """
    chance = random.Random(seed)
    path = folder / "budget.db"
    with Ledger.open(path, now_ms=wall_ms, create=True) as ledger:
        for (scope, name), limit in LIMITS.items():
            period_ms = DAY_MS if name == "bob" else None
            ledger.declare(Account(scope, name, limit, period_ms=period_ms))
    living: list[int] = []
    for number in range(kills):
        while len(living) < workers:
            living.append(
                _start(
                    path, folder / f"notes-{number}-{len(living)}", seed * 10**9 + number * 100 + len(living)
                )
            )
        time.sleep(chance.choice([0.002, 0.01, 0.03]) * chance.random())
        _kill(living.pop(chance.randrange(len(living))))
        if number % max(1, kills // 10) == 0:
            compare(path, folder)
    for pid in living:
        _kill(pid)
    return compare(path, folder)


def _start(path: Path, notes: Path, seed: int) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            worker(path, notes, seed)
        except BaseException as error:  # noqa: BLE001 - a forked child must not return into its parent's code
            notes.with_suffix(".error").write_text(repr(error))
        finally:
            os._exit(1)
    return pid


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def compare(path: Path, folder: Path) -> tuple[int, int]:
    """What must hold of a ledger, however its writers died."""
    errors = [one.read_text() for one in folder.glob("*.error")]
    assert not errors, errors
    held: dict[str, tuple[str, Fraction]] = {}
    with Ledger.open(path, now_ms=wall_ms) as ledger:
        # Others may go on: receipts noted before this moment are in the history read after it, and what is in the
        # history was asked before, so the notes are read once on each side of it.
        held = _noted(folder, "holds")
        history = {one.release_id.hex(): (one.analyst, one.cost.epsilon) for one in ledger.history()}
        asked = _noted(folder, "asks")
        ledger.verify()
        for release_id, (analyst, epsilon) in held.items():
            known, charged = history[release_id]
            assert known == analyst
            assert charged is not None
            assert charged >= epsilon
        assert history.keys() <= asked.keys()
        for (scope, name), limit in LIMITS.items():
            standing = ledger.remaining(scope, name)
            assert standing.spent <= limit.amount
            assert standing.spent_delta <= limit.delta
            if scope == "analyst":
                mine = [epsilon for who, epsilon in held.values() if who == name]
                assert standing.ever >= sum(mine, Fraction(0))
        return len(held), len(history)


def _noted(folder: Path, word: str) -> dict[str, tuple[str, Fraction]]:
    found = {}
    for notes in folder.glob("notes-*"):
        for line in notes.read_text().splitlines(keepends=True):
            said, *rest = line.split()
            if said == word and line.endswith("\n"):
                found[rest[0]] = rest[1], Fraction(rest[2])
    return found


def main() -> None:
    """Storm as long as asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=1_000)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        held, entries = storm(Path(name), kills=options.kills, workers=options.workers, seed=options.seed)
        print(f"{options.kills} kills, {held} receipts held, {entries} spends in the ledger, none lost")  # noqa: T201 - a program


if __name__ == "__main__":
    main()
