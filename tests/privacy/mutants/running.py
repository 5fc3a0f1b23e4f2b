"""Runs the checks, and the mutants, each in a forked child that imports our code anew.

The parent loads what others wrote, which takes seconds, and nothing of ours; a child edits our source, imports it and runs one check.
"""

import os
import sys
import time
import traceback
import warnings
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from typing import Final, NamedTuple

from .patching import StaleMutant, install
from .zoo import MUTANTS, Mutant

__all__ = ["Outcome", "main", "preload", "run"]

_AT_ONCE: Final = 2
_SURVIVED, _KILLED, _STALE, _CRASHED = 0, 10, 11, 12
_WORDS: Final = {_SURVIVED: "survived", _KILLED: "killed", _STALE: "stale", _CRASHED: "crashed"}
_REFUSALS: Final = {"AssertionError", "AuditFailed"}
_PRELOADED: Final = (
    "numpy",
    "numba",
    "numba.np.arrayobj",
    "scipy.stats",
    "scipy.special",
    "scipy.fft",
    "pyarrow.parquet",
    "pyarrow.compute",
    "msgspec",
    "yaml",
    "lark",
    "sqlite3",
    "opendp.prelude",
)


class Outcome(NamedTuple):
    """What became of a mutant, or of a check on our code as it is.

    Attributes:
        name: Of it.
        word: `killed`, `survived`, `stale`, or `crashed` where the check did not get as far as to say no.
        told: What the check said, in one line.
    """

    name: str
    word: str
    told: str


def preload() -> None:
    """Load the packages that our code and the checks use.

    Raises:
        RuntimeError: Ours is loaded already, so that no edit would be seen.
    """
    os.environ["NUMBA_DISABLE_JIT"] = "1"
    if any(name.startswith("dayfly.privacy") for name in sys.modules):
        raise RuntimeError(
            "dayfly.privacy must not be loaded before it is edited; run this in a process of its own"
        )
    warnings.simplefilter(
        "ignore"
    )  # kernels overflow on purpose, and numpy says so where they are not compiled
    for name in _PRELOADED:
        import_module(name)


def check(name: str) -> None:
    """Run a check, named as `module.function`."""
    module_name, _, function = name.partition(".")
    module = import_module(f"{__package__}.{module_name}")
    getattr(module, function)()


def run(mutants: Iterable[Mutant]) -> Iterator[Outcome]:
    """Run some mutants, two at once; outcomes in the order of their ends."""
    yield from _forked([(mutant.name, _trial(mutant)) for mutant in mutants])


def sound(names: Iterable[str]) -> Iterator[Outcome]:
    """Run checks on our code as it is: all must survive."""
    yield from _forked([(name, _checking(name)) for name in names])


def _trial(mutant: Mutant) -> Callable[[], None]:
    def tried() -> None:
        install(mutant.edits)
        check(mutant.killed_by)

    return tried


def _checking(name: str) -> Callable[[], None]:
    return lambda: check(name)


def _forked(tasks: Sequence[tuple[str, Callable[[], None]]]) -> Iterator[Outcome]:
    waiting, running = list(reversed(tasks)), dict[int, tuple[str, int]]()
    while waiting or running:
        while waiting and len(running) < _AT_ONCE:
            name, task = waiting.pop()
            reader, writer = os.pipe()
            child = os.fork()
            if child == 0:
                _child(task, writer)
            os.close(writer)
            running[child] = name, reader
        child, status = os.wait()
        name, reader = running.pop(child)
        with os.fdopen(reader, "rb") as told:
            line = told.read().decode(errors="replace")
        code = os.waitstatus_to_exitcode(status)
        yield Outcome(name, _WORDS.get(code, f"died of {code}"), line)


def _child(task: Callable[[], None], writer: int) -> None:
    code, line = _SURVIVED, ""
    try:
        task()
    except StaleMutant as error:
        code, line = _STALE, str(error)
    except BaseException as error:  # noqa: BLE001 - a mutant may fail in any way
        where = traceback.extract_tb(error.__traceback__)[-1]
        said_no = type(error).__name__ in _REFUSALS
        code = _KILLED if said_no else _CRASHED
        line = f"{type(error).__name__} in {where.name}: {where.line}"
    os.write(writer, line.encode()[:4000])
    os._exit(code)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def main(arguments: Sequence[str] = ()) -> int:
    """Print the table and the score.

    Args:
        arguments: `--every N` runs each Nth mutant only; `--why` prints what each check said.

    Returns:
        0, or 1 where a check fails on our code as it is, or a mutant is not killed.
    """
    parser = ArgumentParser(prog="python -m tests.privacy.mutants", description=__doc__)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="each Nth mutant only")
    parser.add_argument("--why", action="store_true", help="print what each check said")
    asked = parser.parse_args(arguments)
    started, before = time.perf_counter(), os.times()
    preload()
    mutants = MUTANTS[:: asked.every]
    checks = sorted({mutant.killed_by for mutant in mutants})
    wrong = [one for one in sound(checks) if one.word != "survived"]
    for one in wrong:
        _say(f"the check {one.name} fails on our code as it is: {one.told}")
    outcomes = {one.name: one for one in run(mutants)}
    _say(f"{'mutant':<58}{'seen in':<82}outcome")
    for mutant in mutants:
        one = outcomes[mutant.name]
        told = f": {one.told}" if asked.why or one.word != "killed" else ""
        _say(f"{mutant.name:<58}{mutant.seen_in:<82}{one.word}{told}")
    killed = sum(one.word == "killed" for one in outcomes.values())
    cpu = sum(os.times()[:4]) - sum(before[:4])
    wall = time.perf_counter() - started
    _say(
        f"score: {killed} of {len(mutants)} killed by {len(checks)} checks; {cpu:.1f} s of CPU, {wall:.1f} s"
    )
    return int(bool(wrong) or killed < len(mutants))
