"""Signs of life: who shows them counts as alive, and nobody can show them for another."""

import os
import socket
import time
from collections.abc import Callable, Iterator

import msgspec
import pytest

from dayfly.federation.deployed.pulse import Pulse, PulseListener, _receive, _send
from dayfly.federation.errors import DeploymentError
from dayfly.federation.identity import SigningIdentity
from dayfly.federation.wire import SERVER, Envelope, seal
from tests.federation.journal.worlds import digest, keys, until

KEYS, IDENTITIES = keys()


@pytest.fixture
def listener() -> Iterator[PulseListener]:
    with PulseListener(KEYS[SERVER], IDENTITIES, ("127.0.0.1", 0), random_bytes=os.urandom) as found:
        yield found


def pulse_of(listener: PulseListener, name: str = "shop", **options: object) -> Pulse:
    return Pulse(KEYS[name], IDENTITIES, ("127.0.0.1", listener.port), every_seconds=0.05, **options)  # type: ignore[arg-type]


def test_a_channel_is_alive_as_long_as_it_says_so(listener: PulseListener) -> None:
    healthy = [True]
    pulse = pulse_of(listener, healthy=lambda: healthy[0])
    until(lambda: listener.starts("shop") == 1)
    assert listener.silent_seconds("shop") < 5
    assert listener.starts("wifi") == 0
    healthy[0] = False
    until(lambda: listener.silent_seconds("shop") > 0.4)
    pulse.close()
    again = pulse_of(listener)
    until(lambda: listener.starts("shop") == 2)
    again.close()


def test_a_channel_is_told_which_run_is_over(listener: PulseListener) -> None:
    over: list[bytes] = []
    pulse = pulse_of(listener, ended=over.append)
    until(lambda: listener.starts("shop") == 1)
    listener.end(b"r" * 16)
    until(lambda: over == [b"r" * 16])
    pulse.close()


def sign(identity: SigningIdentity, name: str, nonce: bytes, number: int = 1, kind: str = "alive") -> bytes:
    sealed = seal(identity, Envelope(nonce, number, name, SERVER, kind, b""), reply=True)
    return msgspec.msgpack.encode((name, sealed))


@pytest.mark.parametrize(
    "forged",
    [
        lambda nonce: sign(SigningIdentity("shop", digest("thief")), "shop", nonce),
        lambda _: sign(KEYS["shop"], "shop", bytes(32)),
        lambda nonce: sign(KEYS["shop"], "shop", nonce, kind="other"),
        lambda nonce: sign(KEYS["shop"], "shop", nonce, number=0),
        lambda nonce: sign(SigningIdentity("nobody", digest("nobody")), "nobody", nonce),
        lambda nonce: b"garbage" + nonce,
    ],
    ids=["another key", "an old nonce", "another kind", "no rising number", "unregistered", "garbage"],
)
def test_nobody_shows_life_for_another(listener: PulseListener, forged: Callable[[bytes], bytes]) -> None:
    with socket.create_connection(("127.0.0.1", listener.port), timeout=10) as line:
        _send(line, forged(_receive(line)))
        with pytest.raises(ConnectionError):  # it hangs up
            _receive(line)
    assert listener.starts("shop") == 0


def test_a_sign_does_not_count_twice(listener: PulseListener) -> None:
    with socket.create_connection(("127.0.0.1", listener.port), timeout=10) as line:
        same = sign(KEYS["shop"], "shop", _receive(line))
        _send(line, same)
        until(lambda: listener.starts("shop") == 1)
        _send(line, same)
        with pytest.raises(ConnectionError):
            _receive(line)


def test_an_address_that_is_taken_is_told(listener: PulseListener) -> None:
    with pytest.raises(DeploymentError, match="must be an address of this machine that is free"):
        PulseListener(KEYS[SERVER], IDENTITIES, ("127.0.0.1", listener.port), random_bytes=os.urandom)


def test_a_pulse_that_nobody_hears_does_no_harm() -> None:
    pulse = Pulse(KEYS["shop"], IDENTITIES, ("127.0.0.1", 9), every_seconds=0.01)
    time.sleep(0.05)
    pulse.close()
