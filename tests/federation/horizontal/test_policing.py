"""Channels answer only what was agreed, and the coordinator takes a reply only in the name of its sender."""

from typing import Any

import msgspec
import numpy as np
import pytest

from dayfly.federation.accounting import TrialBudget
from dayfly.federation.errors import BadMessage, Declined, Refused
from dayfly.federation.grid import Failure
from dayfly.federation.horizontal import GlmSpec, GlmWorkload, Shard
from dayfly.federation.horizontal.messages import GlmTask, MaskBody, Opening
from dayfly.federation.horizontal.session import SecureSession
from dayfly.federation.secagg import Masked, MaskRequest, Settings
from dayfly.federation.secagg.messages import decode, encode
from dayfly.federation.wire import Caller
from tests.federation.secagg.sessions import digest

from .runs import RUN, grid_of

SPEC = GlmSpec("logistic", "label", ("a",), ((0.0, 1.0),), 1.0, 10)
TASK = GlmTask(1, "logistic", (0.0,), (1.0,), (0.0, 0.0), (), 100.0, 20)
OPENING = Opening(Settings(digest("session")[:16], 2, 1, 7), encode(SPEC))


def workload(party: str = "shop") -> GlmWorkload:
    shard = Shard(party, ("a",), np.array([[0.0], [1.0]]), "label", np.array([0.0, 1.0]))
    return GlmWorkload(shard, run=RUN, budget=TrialBudget())


def answer(kind: str, body: bytes, caller: Caller) -> bytes | Failure:
    return caller.ask(kind, {"a": body})["a"]


def caller() -> Caller:
    return grid_of({name: workload(name) for name in ("a", "b")})[1]


@pytest.mark.parametrize(
    ("steps", "cause"),
    [
        ([("guess", b"")], "must send hello, join, mask or unmask, not 'guess'"),
        ([("hello", b"\xc1")], "must send a Opening"),
        ([("unmask", encode((1, (), ())))], "session=<none> must be opened first"),
        ([("hello", encode(OPENING)), ("hello", encode(OPENING))], "session=<second> must be the first"),
        (
            [
                ("hello", encode(OPENING)),
                ("mask", encode(MaskBody(MaskRequest(1, b"x", ("a", "b")), encode(TASK)))),
            ],
            "release must be the digest of its task",
        ),
    ],
)
def test_a_channel_declines_what_does_not_fit_and_says_why(steps: Any, cause: str) -> None:
    server = caller()
    for kind, body in steps[:-1]:
        assert isinstance(answer(kind, body, server), bytes)
    kind, body = steps[-1]
    reply = answer(kind, body, server)
    assert isinstance(reply, Failure)
    assert not reply.lost
    assert cause in reply.cause


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"family": "poisson"}, "family='poisson' must be the agreed one"),
        ({"center": ()}, "must have 1 centers and scales and 2 coefficients"),
        ({"penalty": (1.0,)}, "must have 1 centers"),
        ({"scale": (0.0,)}, "scales must be above 0"),
        ({"penalty": (0.0, -1.0)}, "penalties not below 0"),
    ],
)
def test_tasks_that_were_not_agreed_are_refused(changes: Any, cause: str) -> None:
    party = workload()
    party.prepare(encode(SPEC), threshold=2)
    assert party.words(encode(TASK), members=2).dtype == np.uint64
    with pytest.raises(Refused, match=cause):
        party.words(encode(msgspec.structs.replace(TASK, **changes)), members=2)


@pytest.mark.parametrize("bounds", [(), ((1.0, 1.0),), ((1.0, 0.0),)])
def test_bounds_that_do_not_rise_are_refused(bounds: Any) -> None:
    with pytest.raises(BadMessage, match=r"rising bounds for each of \['a'\]"):
        workload().prepare(encode(msgspec.structs.replace(SPEC, bounds=bounds)), threshold=2)


def test_a_channel_cannot_send_an_input_in_the_name_of_another() -> None:
    class Liar(Caller):
        def ask(self, kind: str, bodies: Any) -> dict[str, bytes | Failure]:
            replies = super().ask(kind, bodies)
            if kind == "mask":
                masked = decode(replies["a"], Masked, party="a")  # type: ignore[arg-type]
                replies["a"] = encode(msgspec.structs.replace(masked, party="b"))
            return replies

    _, honest = grid_of({name: workload(name) for name in ("a", "b")})
    honest.__class__ = Liar
    session = SecureSession(honest, session=digest("session")[:16], rounds=1, words=9)
    session.start(encode(SPEC))
    with pytest.raises((BadMessage, Declined), match="party='a' must answer 'mask' in its own name"):
        session.sum(encode(TASK))
