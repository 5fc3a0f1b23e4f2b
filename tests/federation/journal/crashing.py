"""Channels and a coordinator in processes of their own; one of them kills itself at a write to its journal."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import numpy as np

from dayfly.federation.deployed.service import SocketServer
from dayfly.federation.deployed.socket_frames import Status, forward
from dayfly.federation.grid import DEAD_AFTER_SECONDS, Failure
from dayfly.federation.runs import Plan

from .worlds import CHANNELS, Deadly, coordinated, service_of

SERVER = "server"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class SocketGrid:
    """Services behind sockets."""

    def __init__(self, sockets: Path) -> None:
        self.sockets = sockets
        self.parcel: Callable[[str, bytes], bytes] = lambda _, frame: frame

    def parties(self) -> tuple[str, ...]:
        return CHANNELS

    def ask(
        self, requests: Mapping[str, bytes], *, timeout_seconds: float = DEAD_AFTER_SECONDS
    ) -> dict[str, bytes | Failure]:
        return {name: self._one(name, request) for name, request in sorted(requests.items())}

    def _one(self, name: str, request: bytes) -> bytes | Failure:
        status, content = forward(str(self.sockets / name), self.parcel(name, request))
        if status == Status.ANSWERED:
            return content
        return Failure(name, content.decode(), lost=status == Status.ABSENT)


def channel(root: Path, sockets: Path, name: str, at: int) -> None:
    service, _ = service_of(root, name, Deadly(at, kill=die))
    with SocketServer(service.handle, sockets / name):
        while True:
            time.sleep(60)


def server(root: Path, sockets: Path, run: bytes, at: int) -> None:
    plan = msgspec.json.decode((root / "plan.json").read_bytes(), type=Plan)
    outcome = coordinated(root, plan, SocketGrid(sockets), run=run, deadly=Deadly(at, kill=die))
    np.savez(root / "weights.npz", weights=outcome.arrays["weights"])


class Deployment:
    """All processes; whoever is killed is started again, and lives."""

    def __init__(self, root: Path, run: bytes, deaths: Mapping[str, int]) -> None:
        self.root, self.run = root, run
        self.sockets = Path(tempfile.mkdtemp(prefix="dayfly-"))
        self.killed = 0
        self.processes = {name: self._started(name, deaths.get(name, 0)) for name in (*CHANNELS, SERVER)}

    def _started(self, name: str, at: int) -> subprocess.Popen[bytes]:
        arguments = [name, str(self.root), str(self.sockets), self.run.hex(), str(at)]
        return subprocess.Popen([sys.executable, "-m", __name__, *arguments])

    def finish(self, seconds: float = 120.0) -> None:
        end = time.monotonic() + seconds
        while self.processes[SERVER].poll() != 0:
            assert time.monotonic() < end
            for name, process in self.processes.items():
                if process.poll() is not None:
                    assert process.returncode == -signal.SIGKILL
                    self.killed += 1
                    self.processes[name] = self._started(name, 0)
            time.sleep(0.1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


if __name__ == "__main__":
    who, root_, sockets_, run_, at_ = sys.argv[1:]
    if who == SERVER:
        server(Path(root_), Path(sockets_), bytes.fromhex(run_), int(at_))
    else:
        channel(Path(root_), Path(sockets_), who, int(at_))
