"""The whole deployment on this machine: Flower's processes, TLS, registered keys; killed in the middle, and told what is wrong."""

import datetime as dt
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from dayfly.federation.deployed.folders import ChannelFolder, ServerFolder
from dayfly.federation.deployed.processes import free_port
from dayfly.federation.deployed.run_folder import RunFolder
from dayfly.federation.deployed.serving import Channel, Server, now_ms
from dayfly.federation.deployed.setting_up import Tables, set_up, spent
from dayfly.federation.errors import DeploymentError, RunFailed
from dayfly.federation.runs import DataSettings
from dayfly.privacy.ledger import Limit

from .test_processes import alive

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("flwr") is None, reason="the extra `federation` (flwr) is not installed"
    ),
]

NAMES = ("app", "shop", "wifi")
CUSTOMERS = 600
PLAN = {
    "protocol": "histogram",
    "settings": {"categories": ["north", "south"], "scale": 6.0},
    "return_within_seconds": 120,
}


def world() -> Tables:
    tables = {
        name: pa.table(
            {
                "customer": [f"c{row}" for row in range(CUSTOMERS)],
                "city": np.where(np.arange(CUSTOMERS) % 3 == 0, "north", "south"),
            }
        )
        for name in NAMES
    }
    settings = dict.fromkeys(NAMES, DataSettings(path="-", customer="customer", category="city"))
    return Tables(tables, settings, Limit(rho=Fraction(4)), exact_sums=False)


@pytest.fixture(scope="module")
def folders() -> Iterator[tuple[ServerFolder, Mapping[str, ChannelFolder]]]:
    root = Path(os.environ.get("TMPDIR", "/tmp")) / f"dayfly-test-{secrets.token_hex(4)}"
    server, channels = set_up(
        root, world(), random_bytes=secrets.token_bytes, now=dt.datetime.now(dt.UTC), now_ms=now_ms
    )
    yield server, dict(zip(NAMES, channels, strict=True))
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def server(folders: tuple[ServerFolder, Mapping[str, ChannelFolder]]) -> Iterator[Server]:
    with Server(folders[0]) as running:
        assert running.commands.register() == NAMES
        yield running


@dataclass
class Client:
    """`dayfly federate client` in a process of its own."""

    home: Path

    def start(self) -> "Client":
        command = "from dayfly.engine.cli import main; main()"
        with (self.home / "said").open("ab") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-c", command, "federate", "client", str(self.home)],
                stdout=subprocess.DEVNULL,
                stderr=said,
            )
        return self

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=60)


def run_of(server: Server, name: str, plan: Mapping[str, Any] = PLAN) -> RunFolder:
    return RunFolder.make(
        server.folder,
        name,
        yaml.safe_dump(dict(plan)).encode(),
        random_bytes=secrets.token_bytes,
        now_ms=now_ms(),
    )


def journals(folder: ChannelFolder) -> list[Path]:
    return [path for path in (folder.home / "journals").glob("*-*") if path.is_dir()]


def test_everybody_is_killed_and_the_run_ends_with_one_release_paid_once(
    server: Server, folders: tuple[ServerFolder, Mapping[str, ChannelFolder]]
) -> None:
    channels = folders[1]
    clients = {name: Client(folder.home).start() for name, folder in channels.items()}
    run = run_of(server, "counts")
    killed: set[str] = set()

    def alive_and_killing() -> None:
        if "shop" not in killed and journals(channels["shop"]):
            killed.add("shop")
            clients["shop"].kill()
            clients["shop"].start()
        elif "shop" in killed and "coordinator" not in killed and run.running():
            killed.add("coordinator")
            os.kill(int((run.path / "pid").read_text()), signal.SIGKILL)
        elif "coordinator" in killed and "SuperLink" not in killed and run.running():
            killed.add("SuperLink")
            os.kill(server.superlink.pid, signal.SIGKILL)
        server.revive()

    try:
        result = server.commands.follow(run, shown=lambda _: None, alive=alive_and_killing)
    finally:
        for client in clients.values():
            client.stop()
    assert killed == {"shop", "coordinator", "SuperLink"}
    assert result["included"] == list(NAMES)
    assert abs(result["counts"]["north"] - CUSTOMERS) < 150  # a third of three times as many
    for name, folder in channels.items():
        paid, _, _ = spent(folder.home / "budget.db", name, now_ms=now_ms)
        assert float(paid) == pytest.approx(result["privacy"]["rho"])
    assert not (run.path / "journal").exists()
    assert (run.path / "result.json").exists()


def test_a_run_names_the_channel_that_is_not_there(server: Server) -> None:
    run = run_of(server, "nobody")
    with pytest.raises(RunFailed, match=r"channels=\['app', 'shop', 'wifi'\] must be connected"):
        server.commands.follow(run, shown=lambda _: None, alive=server.revive)


def cause_of(channel: Channel, seconds: float = 180.0) -> str:
    until = time.monotonic() + seconds
    with channel:
        while time.monotonic() < until:
            try:
                channel.revive()
            except DeploymentError as error:
                return str(error)
            time.sleep(0.2)
    raise AssertionError("no cause was told")


def test_a_wrong_certificate_is_named_with_the_party(
    server: Server, folders: tuple[ServerFolder, Mapping[str, ChannelFolder]]
) -> None:
    folder = folders[1]["wifi"]
    right = (folder.tls / "ca.crt").read_bytes()
    shutil.copyfile(folder.tls / "runtime" / "ca.crt", folder.tls / "ca.crt")
    try:
        assert "party='wifi' must trust the SuperLink's certificate" in cause_of(
            Channel(folder, port=free_port())
        )
    finally:
        (folder.tls / "ca.crt").write_bytes(right)
    assert server.superlink.running()


def test_an_unregistered_node_is_named_with_the_party(
    server: Server, folders: tuple[ServerFolder, Mapping[str, ChannelFolder]]
) -> None:
    from dayfly.federation.deployed.credentials import make_node_key

    folder = folders[1]["app"]
    right = (folder.keys / "node.key").read_bytes()
    (folder.keys / "node.key").unlink()
    make_node_key(folder.keys / "node.key")
    try:
        assert "party='app' must be registered with the SuperLink" in cause_of(
            Channel(folder, port=free_port())
        )
    finally:
        (folder.keys / "node.key").write_bytes(right)
    assert server.superlink.running()


def test_nothing_is_left_running(folders: tuple[ServerFolder, Mapping[str, ChannelFolder]]) -> None:
    with Server(folders[0]) as running:
        pid = running.superlink.pid
    assert not alive(pid)
