"""Erasure of a person who may have been in several shards.

Whoever moved is named by older files of other shards: events that were seen there, and the parcel. These shards are erased
first and the person's home last, since the home alone knows all pseudonyms: a crash in between leaves the person known, and
the erasure can be asked for again; one that the home has begun is complete elsewhere, and the home completes its own.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from dayfly.engine.durable.erasure import ErasureCertificate
from dayfly.engine.sharded.clients import Port
from dayfly.engine.sharded.router import Router

__all__ = ["Erasing"]

_PATIENCE: Final = 3
"""How often other shards are erased while events go on, before the router stands still for it."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where somebody is.

    Attributes:
        home: The shard.
        names: All pseudonyms.
        moved: Whether one of them ever moved.
        moves: Moves of anybody so far: as long as these are equal, nobody was elsewhere meanwhile.
    """

    home: int
    names: tuple[bytes, ...]
    moved: bool
    moves: int


class Erasing:
    """Carries erasures out.

    Args:
        ports: The shards.
        router: Over them.
        do: Runs something on the router's thread.
    """

    def __init__(
        self, ports: Sequence[Port], router: Router, do: Callable[[Callable[[int], Any]], Any]
    ) -> None:
        self._ports: Final = ports
        self._router: Final = router
        self._do: Final = do

    def erase(self, subject: bytes) -> tuple[ErasureCertificate, ...]:
        """As `ShardedEngine.erase`."""
        for _ in range(_PATIENCE):
            place: _Place = self._do(lambda _: self._place(subject))
            elsewhere = self._elsewhere(place)
            begun: _Begun = self._do(partial(self._at_home, subject, place))
            if begun.last is not None:
                return (*elsewhere, begun.last.result())
        begun = self._do(partial(self._at_once, subject))
        assert begun.last is not None, "nobody moves while the router's thread is busy"
        return (*begun.elsewhere, begun.last.result())

    def _place(self, subject: bytes) -> _Place:
        routes = self._router.routes
        home = routes.home(subject)
        names: tuple[bytes, ...] = self._ports[home].client.call("names", subject).result()
        moved = any(routes.is_guest(name) for name in names)
        return _Place(home, names, moved, self._router.moves if moved else 0)

    def _elsewhere(self, place: _Place) -> list[ErasureCertificate]:
        if not place.moved:
            return []
        others = [port for number, port in enumerate(self._ports) if number != place.home]
        begun = [port.client.call("erase", name) for port in others for name in place.names]
        return [future.result() for future in begun]

    def _at_home(self, subject: bytes, place: _Place, _: int) -> "_Begun":
        """Begin the last step, unless the person has been elsewhere since."""
        if self._place(subject) != place:
            return _Begun(None)
        begun = self._ports[place.home].client.call("erase", subject)
        self._router.routes.forget(place.names)
        return _Begun(begun)

    def _at_once(self, subject: bytes, now_ms: int) -> "_Begun":
        """All of it while nobody moves."""
        place = self._place(subject)
        elsewhere = self._elsewhere(place)
        return _Begun(self._at_home(subject, place, now_ms).last, tuple(elsewhere))


@dataclass(frozen=True, slots=True)
class _Begun:
    """What the router's thread began and does not wait for."""

    last: "Future[ErasureCertificate] | None"
    elsewhere: tuple[ErasureCertificate, ...] = ()
