"""Frames: what is not signed by the right node, for this run, receiver and message, is refused, and the error says who and why."""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.federation.errors import BadMessage, FederationError, InvalidSetting, Replayed, WrongIdentity
from dayfly.federation.grid import Failure
from dayfly.federation.identity import Identities, SigningIdentity
from dayfly.federation.local import LocalGrid, changed, garbage, late, lost_reply, lost_request, replay
from dayfly.federation.wire import SERVER, Caller, Desk, Envelope, Sealed, seal
from dayfly.privacy.errors import DayflyError
from tests.federation.secagg.sessions import digest

RUN, OTHER_RUN = digest("run")[:16], digest("other")[:16]
KEYS = {name: SigningIdentity(name, digest(name)) for name in (SERVER, "shop", "hotline")}
IDENTITIES = Identities({name: key.public_key for name, key in KEYS.items()})


class Echo:
    """Counts what it answers."""

    def __init__(self, name: str, answer: Callable[[str, bytes], bytes] = lambda _, body: body) -> None:
        self.name, self.answered, self._answer = name, 0, answer
        self._desk = Desk(KEYS[name], IDENTITIES, run=RUN)

    def handle(self, message: bytes) -> bytes:
        def answer(kind: str, body: bytes) -> bytes:
            self.answered += 1
            return self._answer(kind, body)

        return self._desk.handle(message, answer)


def caller(grid: LocalGrid) -> Caller:
    return Caller(grid, KEYS[SERVER], IDENTITIES, run=RUN)


def request(number: int = 1, **fields: object) -> bytes:
    envelope = Envelope(RUN, number, SERVER, "shop", "ping", b"body")
    return seal(KEYS[SERVER], msgspec.structs.replace(envelope, **fields), reply=False)


def test_bodies_go_there_and_back_and_are_counted() -> None:
    grid = LocalGrid([Echo("shop"), Echo("hotline")])
    assert caller(grid).ask("ping", {"shop": b"a", "hotline": b"b"}) == {"shop": b"a", "hotline": b"b"}
    assert grid.messages == {"shop": 1, "hotline": 1}
    assert grid.bytes_asked["shop"] == grid.bytes_answered["shop"] > 64


def test_a_repeated_request_gets_the_same_bytes_and_is_answered_once() -> None:
    shop = Echo("shop")
    assert shop.handle(request()) == shop.handle(request())
    assert shop.answered == 1


def test_an_earlier_request_is_refused() -> None:
    shop = Echo("shop")
    shop.handle(request(2))
    for number in (1, 2):
        with pytest.raises(
            Replayed, match=f"'server' must send 'shop' a message after number 2, not {number}"
        ):
            shop.handle(request(number, body=b"another"))
    assert shop.answered == 1


def test_a_request_of_another_run_is_refused() -> None:
    with pytest.raises(Replayed, match="'shop' messages of this run"):
        Echo("shop").handle(request(run=OTHER_RUN))


def test_a_request_to_another_party_is_refused() -> None:
    with pytest.raises(
        BadMessage, match="must send its own message to 'shop', not one of 'server' to 'hotline'"
    ):
        Echo("shop").handle(request(receiver="hotline"))


def test_a_request_of_somebody_else_than_the_server_is_refused() -> None:
    forged = seal(KEYS["hotline"], Envelope(RUN, 1, SERVER, "shop", "ping", b""), reply=False)
    with pytest.raises(WrongIdentity, match="party='server' must sign its request"):
        Echo("shop").handle(forged)


def test_a_reply_is_no_request() -> None:
    with pytest.raises(WrongIdentity, match="must sign its request"):
        Echo("shop").handle(seal(KEYS[SERVER], Envelope(RUN, 1, SERVER, "shop", "ping", b""), reply=True))


@given(st.data())
def test_no_changed_request_is_answered(data: st.DataObject) -> None:
    good = request()
    place = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[place] ^= data.draw(st.integers(1, 255))
    shop = Echo("shop")
    with pytest.raises(FederationError, match="party='server'"):
        shop.handle(bytes(bad))
    assert shop.answered == 0


@given(st.binary(max_size=200))
def test_garbage_names_the_party_that_sent_it(data: bytes) -> None:
    grid = LocalGrid([Echo("shop"), Echo("hotline")], faults={("shop", 1): garbage(data)})
    with pytest.raises(FederationError, match="party='shop' must s"):
        caller(grid).ask("ping", {"shop": b"", "hotline": b""})


def test_a_replayed_reply_is_refused() -> None:
    grid = LocalGrid([Echo("shop")], faults={("shop", 2): replay(1)})
    server = caller(grid)
    server.ask("ping", {"shop": b""})
    with pytest.raises(
        Replayed, match="'shop' must answer message 2 of this run; it sent a reply to message 1"
    ):
        server.ask("ping", {"shop": b""})


def test_a_reply_of_another_run_is_refused() -> None:
    def foreign(_: bytes) -> bytes:
        return seal(KEYS["shop"], Envelope(OTHER_RUN, 1, "shop", SERVER, "ping", b""), reply=True)

    with pytest.raises(Replayed, match="of another run"):
        caller(LocalGrid([Echo("shop")], faults={("shop", 1): changed(foreign)})).ask("ping", {"shop": b""})


def test_a_reply_of_another_kind_is_refused() -> None:
    def other(_: bytes) -> bytes:
        return seal(KEYS["shop"], Envelope(RUN, 1, "shop", SERVER, "pong", b""), reply=True)

    with pytest.raises(BadMessage, match="'shop' must answer 'ping', not 'pong'"):
        caller(LocalGrid([Echo("shop")], faults={("shop", 1): changed(other)})).ask("ping", {"shop": b""})


def test_one_party_cannot_answer_for_another() -> None:
    def forged(_: bytes) -> bytes:
        return seal(KEYS["hotline"], Envelope(RUN, 1, "shop", SERVER, "ping", b""), reply=True)

    with pytest.raises(WrongIdentity, match="party='shop' must sign its reply"):
        caller(LocalGrid([Echo("shop")], faults={("shop", 1): changed(forged)})).ask("ping", {"shop": b""})


def test_a_signed_envelope_that_is_none_is_refused() -> None:
    empty = msgspec.msgpack.encode(Sealed(b"", KEYS[SERVER].sign(b"request", b"")))
    with pytest.raises(BadMessage, match="must send a signed message"):
        Echo("shop").handle(empty)


@pytest.mark.parametrize("size", [0, 15, 65])
def test_runs_have_names_of_16_to_64_bytes(size: int) -> None:
    with pytest.raises(InvalidSetting, match=f"run={size} bytes must be 16 to 64"):
        Desk(KEYS["shop"], IDENTITIES, run=bytes(size))
    with pytest.raises(InvalidSetting, match=f"run={size} bytes"):
        Caller(LocalGrid([]), KEYS[SERVER], IDENTITIES, run=bytes(size))


def test_a_party_that_does_not_answer_within_ten_seconds_is_lost_and_the_others_are_heard() -> None:
    faults = {
        ("shop", 1): late(9.9),
        ("shop", 2): late(10.0),
        ("shop", 3): lost_request,
        ("shop", 4): lost_reply,
    }
    shop = Echo("shop")
    grid = LocalGrid([shop, Echo("hotline")], faults=faults)
    server = caller(grid)
    bodies = {"shop": b"a", "hotline": b"b"}
    assert server.ask("ping", bodies) == bodies
    for elapsed, answered in ((19.9, 2), (29.9, 2), (39.9, 3)):
        replies = server.ask("ping", bodies)
        assert replies["hotline"] == b"b"
        assert replies["shop"] == Failure("shop", "did not answer within 10 s; it is lost", lost=True)
        assert grid.elapsed_seconds == pytest.approx(elapsed)
        assert shop.answered == answered
    assert server.ask("ping", bodies) == bodies


def test_a_dead_party_stays_dead() -> None:
    server = caller(LocalGrid([Echo("shop")], dead_from={"shop": 2}))
    assert server.ask("ping", {"shop": b""}) == {"shop": b""}
    for _ in range(3):
        reply = server.ask("ping", {"shop": b""})["shop"]
        assert isinstance(reply, Failure)
        assert reply.lost


def test_a_party_that_declines_says_why_and_is_not_lost() -> None:
    def declines(_: str, __: bytes) -> bytes:
        raise DayflyError("consent was withdrawn")

    reply = caller(LocalGrid([Echo("shop", declines)])).ask("ping", {"shop": b""})["shop"]
    assert reply == Failure("shop", "consent was withdrawn", lost=False)


def test_a_grid_that_forgets_a_reply_has_lost_the_party() -> None:
    class Forgetful(LocalGrid):
        def ask(self, requests: object, *, timeout_seconds: float = 0) -> dict[str, bytes | Failure]:
            return {}

    reply = caller(Forgetful([Echo("shop")])).ask("ping", {"shop": b""})["shop"]
    assert reply == Failure("shop", "has no reply from the grid; it is lost", lost=True)


def test_a_grid_insists_on_its_settings() -> None:
    with pytest.raises(InvalidSetting, match=r"parties=\['shop', 'shop'\] must have names of their own"):
        LocalGrid([Echo("shop"), Echo("shop")])
    with pytest.raises(InvalidSetting, match="dead_after_seconds=0 must be above 0"):
        LocalGrid([], dead_after_seconds=0)
    with pytest.raises(InvalidSetting, match=r"requests to \['hotline'\] must be to parties of the grid"):
        LocalGrid([Echo("shop")]).ask({"hotline": b""})
