"""Runs over Flower's messages without its processes: through protobuf and back, with channels that die, decline or send garbage."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

if importlib.util.find_spec("flwr") is None:
    pytest.skip("the extra `federation` (flwr) is not installed", allow_module_level=True)

from flwr.app import ConfigRecord, Message, RecordDict

from dayfly.federation.deployed.service import SocketServer
from dayfly.federation.deployed.socket_frames import Status, forward
from dayfly.federation.errors import Declined, InvalidSetting, TooFewParties
from dayfly.federation.flower.grid import AlwaysAlive, FlowerGrid
from dayfly.federation.flower.in_process import InProcess
from dayfly.federation.flower.server_app import gathered
from dayfly.federation.flower.stub import RECORD, SOCKET_KEY, app
from dayfly.federation.grid import Failure
from dayfly.federation.runs import Plan
from tests.federation.journal.worlds import CHANNELS, coordinated, digest, service_of, write_tables

NODES = {name: number for number, name in enumerate(CHANNELS, 101)}
HISTOGRAM = Plan(protocol="histogram", settings={"categories": ["north", "south"], "scale": 8.0}, hours=3)


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.wakes: list[tuple[float, object]] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for at, wake in self.wakes:
            if self.now >= at and callable(wake):
                wake()
        self.wakes = [(at, wake) for at, wake in self.wakes if self.now < at]


class Signs:
    """Who was last heard of when, and how often it began."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.last: dict[str, float] = {}
        self.began: dict[str, int] = {}

    def silent_seconds(self, party: str) -> float:
        return self.clock.now - self.last.get(party, self.clock.now)

    def starts(self, party: str) -> int:
        return self.began.get(party, 1)


@pytest.fixture
def echoes(tmp_path: Path) -> Iterator[dict[int, dict[str, str]]]:
    """A service per channel that says its name and what it was asked."""
    servers = []
    configs = {}
    for name, node in NODES.items():
        path = tmp_path / name
        servers.append(SocketServer(lambda parcel, name=name: name.encode() + b":" + parcel, path))  # type: ignore[misc]
        configs[node] = {SOCKET_KEY: str(path)}
    yield configs
    for server in servers:
        server.close()


def grid_over(flower: InProcess, clock: Clock, **options: object) -> tuple[FlowerGrid, Signs]:
    signs = Signs(clock)
    return (
        FlowerGrid(flower, NODES, liveness=signs, monotonic=clock, sleep=clock.sleep, **options),  # type: ignore[arg-type]
        signs,
    )


def test_a_whole_run_goes_through_flowers_messages(tmp_path: Path) -> None:
    write_tables(tmp_path)
    services = {name: service_of(tmp_path, name) for name in CHANNELS}
    servers = {
        name: SocketServer(service.handle, tmp_path / name / "s") for name, (service, _) in services.items()
    }
    flower = InProcess(app, {NODES[name]: {SOCKET_KEY: str(tmp_path / name / "s")} for name in CHANNELS})

    class Grid(FlowerGrid):
        @property
        def parcel(self) -> object:
            return self._parcel

        @parcel.setter
        def parcel(self, parcel: object) -> None:
            self._parcel = parcel  # type: ignore[assignment, misc]

    grid = Grid(flower, NODES, liveness=AlwaysAlive(), poll_seconds=0.0)
    outcome = coordinated(tmp_path, HISTOGRAM, grid, run=digest("run")[:16])
    counts = outcome.document["counts"]
    assert abs(counts["north"] - 180) < 100
    assert outcome.document["included"] == list(CHANNELS)
    assert grid.messages == 4 * len(CHANNELS)
    for name, (service, ledger) in services.items():
        assert len(ledger.history()) == 1
        servers[name].close()
        service.close()
        ledger.close()


def test_bytes_survive_the_wire(echoes: dict[int, dict[str, str]]) -> None:
    clock = Clock()
    grid, _ = grid_over(InProcess(app, echoes), clock)
    frame = os.urandom(3_000_000) + bytes(range(256))
    assert grid.ask({"app": frame, "wifi": b""}) == {"app": b"app:" + frame, "wifi": b"wifi:"}
    assert clock.now < 1
    with pytest.raises(InvalidSetting, match=r"requests to \['nobody'\] must be to parties of the grid"):
        grid.ask({"nobody": b""})


def test_a_dead_channel_is_decided_within_ten_seconds_and_a_slow_one_is_waited_for(
    echoes: dict[int, dict[str, str]],
) -> None:
    clock = Clock()
    flower = InProcess(app, echoes)
    grid, signs = grid_over(flower, clock)
    kept: list[Message] = []

    def swallow(message: Message) -> bool:
        node = message.metadata.dst_node_id
        if node == NODES["app"]:
            kept.append(message)
        return node != NODES["wifi"]

    flower.swallow = swallow
    signs.last["shop"] = 0.0  # never again

    def late() -> None:
        flower.box[kept[0].metadata.message_id] = app(kept[0], flower.contexts[NODES["app"]])

    clock.wakes.append((48.0, late))
    heard = grid.ask(dict.fromkeys(CHANNELS, b"x"))
    assert heard["wifi"] == b"wifi:x"
    assert heard["app"] == b"app:x"  # after 48 s, as it showed life
    lost = heard["shop"]
    assert isinstance(lost, Failure)
    assert lost.lost
    assert "shows no sign of life for 10 s" in lost.cause

    flower.swallow = lambda message: message.metadata.dst_node_id == NODES["shop"]
    signs.last["shop"] = began = clock.now
    sent = grid.messages
    grid.ask(dict.fromkeys(CHANNELS, b"y"))
    assert clock.now - began <= 10.5
    for _ in range(5):  # nothing queues up for who is dead
        assert isinstance(grid.ask({"shop": b"z"})["shop"], Failure)
    assert grid.messages == sent + 3


def test_a_channel_that_lives_but_never_answers_is_lost_in_the_end(echoes: dict[int, dict[str, str]]) -> None:
    clock = Clock()
    flower = InProcess(app, echoes)
    grid, _ = grid_over(flower, clock, most_seconds=60.0)
    flower.swallow = lambda message: message.metadata.dst_node_id == NODES["shop"]
    heard = grid.ask(dict.fromkeys(CHANNELS, b"x"))
    assert isinstance(heard["shop"], Failure)
    assert "is alive but did not answer within 60 s" in heard["shop"].cause
    assert 60 <= clock.now < 61


def test_a_channel_that_began_again_is_sent_the_same_bytes_again(echoes: dict[int, dict[str, str]]) -> None:
    clock = Clock()
    flower = InProcess(app, echoes)
    grid, signs = grid_over(flower, clock)
    flower.swallow = lambda message: message.metadata.dst_node_id == NODES["shop"]

    def back() -> None:
        flower.swallow = lambda _: False
        signs.began["shop"] = 2

    clock.wakes.append((5.0, back))
    assert grid.ask({"shop": b"x"}) == {"shop": b"shop:x"}
    assert grid.messages == 2


def test_what_flower_or_a_channel_says_instead_of_an_answer_names_the_channel(
    echoes: dict[int, dict[str, str]], tmp_path: Path
) -> None:
    clock = Clock()
    echoes[NODES["shop"]] = {SOCKET_KEY: str(tmp_path / "nobody")}
    echoes[NODES["wifi"]] = {}
    flower = InProcess(app, echoes)
    grid, _ = grid_over(flower, clock)
    heard = grid.ask(dict.fromkeys(CHANNELS, b"x"))
    assert heard["app"] == b"app:x"
    for name, cause in (("shop", "start `dayfly federate client`"), ("wifi", "has no socket of a channel")):
        failure = heard[name]
        assert isinstance(failure, Failure)
        assert (failure.party, failure.lost) == (name, True)
        assert cause in failure.cause


def test_an_answer_that_is_none_is_no_answer(echoes: dict[int, dict[str, str]]) -> None:
    clock = Clock()
    flower = InProcess(app, echoes)

    def garbage(message: Message, _: object) -> Message:
        return Message(RecordDict({RECORD: ConfigRecord({"status": 7, "content": "text"})}), reply_to=message)

    def crash(_: Message, __: object) -> Message:
        raise RuntimeError("no memory")

    grid, _ = grid_over(flower, clock)
    flower.app = garbage
    heard = grid.ask({"shop": b"x"})["shop"]
    assert isinstance(heard, Failure)
    assert not heard.lost
    assert "sent something that is no answer" in heard.cause
    flower.app = crash
    heard = grid.ask({"shop": b"x"})["shop"]
    assert isinstance(heard, Failure)
    assert heard.lost
    assert "no memory" in heard.cause


def test_a_channel_that_declines_ends_the_run_with_its_name_and_cause(tmp_path: Path) -> None:
    write_tables(tmp_path)
    service, ledger = service_of(tmp_path, "shop")
    with SocketServer(service.handle, tmp_path / "s"):
        status, said = forward(str(tmp_path / "s"), b"garbage")
    assert status == Status.DECLINED
    assert b"party='server' must send a parcel" in said
    service.close()
    ledger.close()
    services = {name: service_of(tmp_path, name) for name in CHANNELS}
    servers = {name: SocketServer(one.handle, tmp_path / name / "s") for name, (one, _) in services.items()}
    flower = InProcess(app, {NODES[name]: {SOCKET_KEY: str(tmp_path / name / "s")} for name in CHANNELS})
    plan = Plan(protocol="glm", settings={"label": "bought", "features": {"shop_a": (-3.0, 3.0)}}, hours=3)
    grid = FlowerGrid(flower, NODES, liveness=AlwaysAlive(), poll_seconds=0.0)
    with pytest.raises(
        Declined, match=r"party='app' declined 'hello': protocol='glm' must be one that 'app' takes part in"
    ):
        coordinated(tmp_path, plan, _Wrapping(grid), run=digest("run")[:16])
    for name, (one, books) in services.items():
        servers[name].close()
        one.close()
        books.close()


class _Wrapping:
    """Lets a test set the parcel of a grid."""

    def __init__(self, grid: FlowerGrid) -> None:
        self.__dict__["grid"] = grid

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self.grid, f"_{name}", value)

    def __getattr__(self, name: str) -> object:
        return getattr(self.grid, name)


class Node:
    def __init__(self, node_id: int, public_key: bytes) -> None:
        self.node_id, self.public_key = node_id, public_key


def test_channels_are_found_by_the_keys_of_their_nodes_and_the_missing_are_named() -> None:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    keys = {name: ec.generate_private_key(ec.SECP384R1()).public_key() for name in CHANNELS}
    lines = {
        name: key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode() for name, key in keys.items()
    }
    pems = [
        Node(NODES[name], key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        for name, key in keys.items()
    ]
    clock = Clock()

    class Links:
        def get_nodes(self) -> list[Node]:
            return pems if clock.now >= 3 else pems[:2]

    assert gathered(Links(), lines, monotonic=clock, sleep=clock.sleep) == NODES  # type: ignore[arg-type]
    clock.now = -100.0
    with pytest.raises(
        TooFewParties, match=r"channels=\['wifi'\] must be connected with their registered node keys"
    ):
        gathered(Links(), lines, monotonic=clock, sleep=clock.sleep, seconds=60.0)  # type: ignore[arg-type]
