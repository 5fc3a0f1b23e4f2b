"""Flower's programs as our children: started with what they need to work offline, ended by their process groups."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from dayfly.federation.deployed import leash
from dayfly.federation.errors import DeploymentError

__all__ = ["Child", "end_orphans", "flower_environment", "flower_program", "free_port"]

_GRACE_SECONDS: Final = 8.0


def flower_environment(home: Path) -> dict[str, str]:
    """Of every program of Flower: nothing is posted, asked for or installed over the network, and tasks are looked for often.

    Args:
        home: Where Flower keeps its configuration and installed apps.
    """
    return {
        **os.environ,
        "FLWR_HOME": str(home.resolve()),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
        "NO_COLOR": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }


def flower_program(name: str) -> str:
    """Where a program of Flower is.

    Raises:
        DeploymentError: it is not installed.
    """
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise DeploymentError(
            f"program={name!r} must be installed; install it with: python -m pip install 'dayfly[federation]'"
        )
    return found


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens at now."""
    import socket  # noqa: PLC0415 - only deployments on one machine look for ports

    with socket.socket() as line:
        line.bind((host, 0))
        return int(line.getsockname()[1])


def _stat(pid: int) -> tuple[int, str]:
    """Parent and start of a process (proc(5)); zeros where there is none, or no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0, ""
    return int(fields[1]), fields[19]


def _descendants(pid: int) -> dict[int, str]:
    """Processes that a process and its own started, and since when: Flower puts some into groups of their own."""
    all_of_them = {int(path.name): _stat(int(path.name)) for path in Path("/proc").glob("[0-9]*")}
    found: dict[int, str] = {}
    new = {pid}
    while new:
        new = {one for one, (parent, _) in all_of_them.items() if parent in new and one not in found}
        found |= {one: all_of_them[one][1] for one in new}
    return found


def end_orphans(marker: str, value: str) -> int:
    """Kill what a forerunner of this process started and left behind when it was killed; returns how many.

    Flower's ClientApp processes try to reach their SuperNode for ever. They are known by their environment (proc(5)).

    Args:
        marker: Environment variable that all of them, and nothing else, have.
        value: Of it.
    """
    wanted, ended = f"{marker}={value}".encode(), 0
    mine = {os.getpid(), *_descendants(os.getpid())}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int(path.name) not in mine and wanted in (path / "environ").read_bytes().split(b"\0"):
                os.kill(int(path.name), signal.SIGKILL)
                ended += 1
    return ended


class Child:
    """A program that runs until it is stopped, or until this process ends.

    Args:
        name: For messages.
        command: Program and arguments.
        environment: Of the program.
        log: File that its output goes to.
    """

    def __init__(
        self, name: str, command: Sequence[str], *, environment: Mapping[str, str], log: Path
    ) -> None:
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.name: Final = name
        self.log: Final = log
        with log.open("ab") as output:
            self._begin: Final = output.tell()
            self._process: Final = subprocess.Popen(  # noqa: S603 - Flower's programs with arguments of ours
                [sys.executable, str(Path(leash.__file__)), str(os.getpid()), *command],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process, and its group."""
        return self._process.pid

    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def ask_to_stop(self) -> None:
        """SIGTERM to it."""
        if self.running():
            self._process.terminate()

    def stop(self) -> None:
        """Ask it to stop, wait, and end what is left of its group and of all that it started."""
        started = _descendants(self._process.pid)
        self.ask_to_stop()
        until = time.monotonic() + _GRACE_SECONDS
        while self.running() and time.monotonic() < until:
            time.sleep(0.05)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pid, since in started.items():
            if _stat(pid)[1] == since:  # the same process, and no other that got its number
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def tail(self, characters: int = 1_500) -> str:
        """The end of what it said."""
        with self.log.open("rb") as file:
            file.seek(self._begin)
            return file.read().decode("utf-8", "replace")[-characters:]

    def said_before(self, words: str) -> bool:
        """Whether a program with this log ever said so, this one or one before it."""
        return words in self.log.read_text(encoding="utf-8", errors="replace")
