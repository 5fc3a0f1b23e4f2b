"""Channels and coordinators that do not keep to the protocol."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dayfly.federation.alignment import AlignmentParty
from dayfly.federation.alignment.messages import (
    AlignmentSettings,
    Blinded,
    BlindRequest,
    Hello,
    Hopped,
    HopRequest,
    Joined,
    Placed,
    Placement,
    Roster,
)
from dayfly.federation.alignment.multiplication import POINT_BYTES, multiply
from dayfly.federation.alignment.own_set import OwnSet
from dayfly.federation.alignment.sealing import Place, Seals
from dayfly.federation.errors import (
    FederationError,
)
from dayfly.federation.secagg.messages import decode, encode

from .runs import Run, digest

PRIME = 2**255 - 19
SETS = {"app": ["a", "b", "c"], "market": ["b", "c", "d"], "shop": ["c", "d", "e"]}
REPLIES: dict[str, Any] = {
    "hello": Hello,
    "join": Joined,
    "blind": Blinded,
    "hop": Hopped,
    "place": Placed,
}


def liar(kind: str, change: Callable[["AlignmentParty", Any], Any]) -> type[AlignmentParty]:
    """A channel that changes its replies of one kind."""

    class Liar(AlignmentParty):
        def _answer(self, asked: str, body: bytes) -> bytes:
            reply = super()._answer(asked, body)
            if asked != kind:
                return reply
            return encode(change(self, decode(reply, REPLIES[kind], party=self.name)))

    return Liar


class Forged:
    """Seals something else."""

    def __init__(
        self, party: AlignmentParty, honest: Seals, change: Callable[[AlignmentParty, Place, bytes], bytes]
    ) -> None:
        self.party, self.honest, self.change = party, honest, change

    def seal(self, recipient: str, place: Place, body: bytes) -> bytes:
        return self.honest.seal(recipient, place, self.change(self.party, place, body))

    def open(self, sender: str, place: Place, sealed: bytes) -> bytes:
        return self.honest.open(sender, place, sealed)


def forger(change: Callable[["AlignmentParty", Place, bytes], bytes]) -> type[AlignmentParty]:
    """A channel that changes what it seals for others."""

    class Forger(AlignmentParty):
        def _join(self, roster: Roster) -> Joined:
            assert self._group is not None
            group, insist = self._group, self._group.insist

            def insisting(roster: Roster) -> None:
                insist(roster)
                group.__dict__["_seals"] = Forged(self, group.seals, change)

            group.__dict__["insist"] = insisting
            return super()._join(roster)

    return Forger


def place_of(party: AlignmentParty) -> int:
    assert party._group is not None
    return party._group.ring.index


def pieces_of_own(change: Callable[[bytes], bytes]) -> type[AlignmentParty]:
    return forger(lambda party, place, body: change(body) if place[:2] == (1, place_of(party)) else body)


def pieces_of_others(change: Callable[[bytes], bytes]) -> type[AlignmentParty]:
    return forger(
        lambda party, place, body: change(body) if place[0] == 1 and place[1] != place_of(party) else body
    )


def set_of_its_own(change: Callable[[bytes], bytes]) -> type[AlignmentParty]:
    """A channel that brings other points than its customers', and signs for them."""

    class Inventor(AlignmentParty):
        def _enter(self, *given: Any) -> OwnSet:
            own = super()._enter(*given)
            points = np.frombuffer(change(own._points.tobytes()), np.uint8).reshape(-1, POINT_BYTES)
            own.__dict__["_points"] = points
            return own

    return Inventor


def random_points(points: bytes) -> bytes:
    """As many, of nobody."""
    return b"".join(
        multiply(digest("scalar"), (9 + number).to_bytes(32, "little"))
        for number in range(len(points) // POINT_BYTES)
    )


def first_point(point: bytes) -> Callable[[bytes], bytes]:
    return lambda points: point + points[POINT_BYTES:]


def failed(run: Run, error: type[FederationError], cause: str) -> None:
    """The run ends with this error, and no channel has rows that all of them confirmed."""
    with pytest.raises(error, match=cause):
        run.align()


def lying(run: Run, kind: str, change: Callable[[str, Any], Any]) -> Run:
    """The coordinator changes what it asks."""
    shapes: dict[str, Any] = {
        "hello": AlignmentSettings,
        "join": Roster,
        "blind": BlindRequest,
        "hop": HopRequest,
        "place": Placement,
    }
    ask = run.caller.ask

    def asking(asked: str, bodies: Any) -> Any:
        if asked == kind:
            bodies = {
                name: encode(change(name, decode(body, shapes[kind], party="?")))
                for name, body in bodies.items()
            }
        return ask(asked, bodies)

    run.caller.ask = asking  # type: ignore[method-assign,assignment]  # the lie
    return run


def for_shop(change: Callable[[Any], Any]) -> Callable[[str, Any], Any]:
    return lambda name, said: change(said) if name == "shop" else said
