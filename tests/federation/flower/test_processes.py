"""Programs that we start end with us, and with everything that they started."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dayfly.federation.deployed.processes import (
    Child,
    end_orphans,
    flower_environment,
    flower_program,
    free_port,
)
from dayfly.federation.errors import DeploymentError
from tests.federation.journal.worlds import until

FAMILY = (
    "import subprocess, sys, time\n"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
    "print(child.pid, flush=True)\ntime.sleep(600)\n"
)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def started(log: Path) -> Child:
    return Child("family", [sys.executable, "-c", FAMILY], environment=os.environ, log=log)


def grandchild(log: Path) -> int:
    until(lambda: log.exists() and log.read_text().endswith("\n"))
    return int(log.read_text())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_a_program_started_in_a_group_of_its_own_ends_with_it(tmp_path: Path) -> None:
    child = started(tmp_path / "log")
    pid = grandchild(tmp_path / "log")
    assert alive(pid)
    child.stop()
    assert not child.running()
    until(lambda: not alive(pid))


@pytest.mark.skipif(sys.platform != "linux", reason="prctl(2)")
def test_a_program_ends_when_its_starter_is_killed(tmp_path: Path) -> None:
    script = (
        "import os, sys, time\nfrom pathlib import Path\nfrom dayfly.federation.deployed.processes import Child\n"
        "child = Child('x', [sys.executable, '-c', 'import time; time.sleep(600)'], environment=os.environ, log=Path(sys.argv[1]))\n"
        "print(child.pid, flush=True)\ntime.sleep(600)\n"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "log"], stdout=subprocess.PIPE, text=True
    )
    assert starter.stdout is not None
    pid = int(starter.stdout.readline())
    time.sleep(1.0)  # until the leash is on
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    starter.stdout.close()
    until(lambda: not alive(pid))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_a_killed_forerunner_left_is_ended_and_nothing_else() -> None:
    sleeping = [sys.executable, "-c", "import time; time.sleep(600)"]
    script = f"import subprocess; print(subprocess.Popen({sleeping!r}, start_new_session=True, stdout=-3, stderr=-3).pid)"
    left, other = (
        int(
            subprocess.run(
                [sys.executable, "-c", script],
                env={**os.environ, "MARK": mark},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for mark in ("mine", "mine too")
    )
    child = subprocess.Popen(sleeping, env={**os.environ, "MARK": "mine"})
    try:
        assert end_orphans("MARK", "mine") == 1
        until(lambda: not alive(left))
        assert alive(other)
        assert alive(child.pid)
    finally:
        os.kill(other, signal.SIGKILL)
        child.kill()
        child.wait()


def test_flower_works_offline_and_is_named_when_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = flower_environment(tmp_path)
    assert {
        environment[f"FLWR_{name}"]
        for name in ("DISABLE_UPDATE_CHECK", "DISABLE_RUNTIME_DEPENDENCY_INSTALLATION")
    } == {"1"}
    assert environment["FLWR_TELEMETRY_ENABLED"] == "0"
    monkeypatch.setenv("PATH", "")
    with pytest.raises(
        DeploymentError,
        match=r"program='flower-nothing' must be installed; install it with: .*dayfly\[federation\]",
    ):
        flower_program("flower-nothing")


def test_a_free_port_is_free() -> None:
    import socket

    with socket.socket() as line:
        line.bind(("127.0.0.1", free_port()))
