"""Shards of one process: the router's ports without processes, for tests."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dayfly.engine.decisions import Decisions
from dayfly.engine.events import EventBatch
from dayfly.engine.inputs import (
    Arrive,
    Confirm,
    ConsentGiven,
    ConsentWithdrawn,
    Depart,
    Erase,
    Input,
    Merge,
    Publish,
)
from dayfly.engine.policy.model import Policy
from dayfly.engine.shard import Shard
from dayfly.engine.shard.moving import guests_of, seen_before
from dayfly.engine.sharded.router import Router
from dayfly.engine.sharded.routes import Routes


class LocalShard:
    """One shard as a port; decisions are gathered."""

    def __init__(self, policy: Policy) -> None:
        self.shard = Shard(policy)
        self.made: list[Decisions] = []

    def tell(self, inputs: Sequence[Input], now_ms: int) -> None:
        self.made.append(self.shard.apply(inputs, now_ms))

    def depart(self, item: Depart) -> bytes:
        self.tell([item], item.at_ms)
        return self.shard.moves.outbox[self.shard.moves.departures]

    def arrive(self, item: Arrive) -> None:
        self.tell([item], item.at_ms)

    def confirm(self, item: Confirm) -> None:
        self.tell([item], item.at_ms)

    def seen(self, ids: npt.NDArray[np.uint64], received_ms: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        return seen_before(self.shard, ids, received_ms)

    def outbox(self) -> Sequence[bytes]:
        return list(self.shard.moves.outbox.values())

    def restart(self) -> None:
        self.shard = Shard.restore(self.shard.snapshot(), self.shard.policy)


class LocalShards:
    """Several shards behind a router, told like one."""

    def __init__(self, policy: Policy, shards: int) -> None:
        self.ports = [LocalShard(policy) for _ in range(shards)]
        self.router = Router(self.ports, Routes([()] * shards))

    def apply(self, inputs: Sequence[Input], now_ms: int) -> None:
        for item in inputs:
            self._tell(item)
        for port in self.ports:
            port.tell([], now_ms)

    def _tell(self, item: Input) -> None:
        match item:
            case EventBatch():
                catalog = self.ports[0].shard.policy.catalog
                for shard, rows in self.router.split(item, catalog):
                    self.ports[shard].tell([rows], -(2**62))
            case Merge():
                self.router.bring_together([(item.subject, item.other)], item.at_ms)
                self._home(item.subject).tell([item], item.at_ms)
            case ConsentGiven() | ConsentWithdrawn():
                self._home(item.subject).tell([item], item.at_ms)
            case Erase():
                port = self._home(item.subject)
                names = port.shard.names_of(item.subject)
                port.tell([item], item.at_ms)
                self.router.routes.forget(names)
            case Publish():
                for port in self.ports:
                    port.tell([item], item.at_ms)
            case _:
                for port in self.ports:
                    port.tell([item], item.at_ms)

    def restart(self) -> None:
        """Every shard from its snapshot, and the routes from the shards."""
        for port in self.ports:
            port.restart()
        moves = self.router.moves
        self.router = Router(self.ports, Routes([guests_of(port.shard) for port in self.ports]))
        self.router.moves = moves

    def shard_of(self, subject: bytes) -> Shard:
        return self._home(subject).shard

    def _home(self, subject: bytes) -> LocalShard:
        return self.ports[self.router.routes.home(subject)]

    def decisions(self) -> list[Decisions]:
        found = [made for port in self.ports for made in port.made]
        for port in self.ports:
            port.made = []
        return found
