"""What a sharded engine needs of a shard, wherever that runs."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from dayfly.engine.durable.input_frames import encode_inputs
from dayfly.engine.errors import EngineFailed
from dayfly.engine.inputs import Arrive, Confirm, Depart, Input
from dayfly.engine.sharded.member import ShardState
from dayfly.engine.sharded.routes import Ids

__all__ = ["Client", "Port"]


class Client(Protocol):
    """One shard."""

    def call(self, name: str, *args: Any) -> "Future[Any]":
        """As `Member.call`."""
        ...

    def on_end(self, told: Callable[[EngineFailed], object]) -> None:
        """Have somebody told when it ends by itself."""
        ...

    def close(self) -> None:
        """Close the shard."""
        ...


class Port:
    """A client as the router's `MovingPort`, with shorthands."""

    def __init__(self, client: Client) -> None:
        self.client: Final = client

    def apply(self, inputs: Sequence[Input], now_ms: int) -> "Future[Any]":
        """Tell it something; resolves when durable."""
        return self.client.call("apply", encode_inputs(inputs, now_ms))

    def depart(self, item: Depart) -> bytes:
        """Take persons out; returns their parcel when that is durable."""
        parcel: bytes = self.client.call("depart", encode_inputs([item], item.at_ms)).result()
        return parcel

    def arrive(self, item: Arrive) -> None:
        """Take a parcel in; returns when that is durable."""
        self.apply([item], item.at_ms).result()

    def confirm(self, item: Confirm) -> None:
        """Empty the outbox of a parcel. Nobody waits: if it is lost, opening the store does it again."""
        self.apply([item], item.at_ms)

    def seen(self, ids: Ids, received_ms: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which event ids it took in and remembers at these instants."""
        found = self.client.call("seen", ids.tobytes(), received_ms.tobytes()).result()
        return np.frombuffer(found, np.bool_)

    def state(self) -> ShardState:
        """What the router must know of it."""
        state: ShardState = self.client.call("state").result()
        return state

    def outbox(self) -> Sequence[bytes]:
        """Parcels that are not known to have arrived."""
        return self.state().outbox
