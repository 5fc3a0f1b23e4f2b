"""What a protocol is given at a channel and at the coordinator, and how it is found by its name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dayfly.federation.accounting import ReleaseBudget
from dayfly.federation.errors import InvalidSetting
from dayfly.federation.grid import Party
from dayfly.federation.identity import Identities, SigningIdentity
from dayfly.federation.model import JointModel
from dayfly.federation.runs.data import ChannelData
from dayfly.federation.wire import Caller
from dayfly.privacy.noise import NoiseSource

__all__ = [
    "PROTOCOLS",
    "Chair",
    "MemoryShelf",
    "Outcome",
    "Progress",
    "RunProtocol",
    "Seat",
    "Shelf",
    "protocol_named",
]

Progress = Mapping[str, Any]
"""One step of a run, as JSON values: what the coordinator shows."""


class Shelf(Protocol):
    """Where a channel keeps what one run gives to later ones."""

    def put(self, key: str, content: bytes) -> None:
        """Keep it, durably, in place of what was there."""
        ...

    def get(self, key: str) -> bytes | None:
        """What is kept, if anything is."""
        ...


class MemoryShelf:
    """A shelf for runs in one process."""

    def __init__(self) -> None:
        self._kept: Final[dict[str, bytes]] = {}

    def put(self, key: str, content: bytes) -> None:
        """See `Shelf`."""
        self._kept[key] = content

    def get(self, key: str) -> bytes | None:
        """See `Shelf`."""
        return self._kept.get(key)


@dataclass(frozen=True, slots=True)
class Seat:
    """What a party is made of.

    Attributes:
        identity: Of the channel's node.
        identities: All registered parties and the server.
        run: 16 to 64 random bytes.
        data: The channel's own table.
        terms: Of the run's ticket.
        random_bytes, noise, now_ms: Where chance and time come from; recorded.
        budget: Where releases are paid for.
        began_ms: When the run began, by the server's clock.
        shelf: What earlier runs left to this channel, and this one leaves to later ones.
    """

    identity: SigningIdentity
    identities: Identities
    run: bytes
    data: ChannelData
    terms: bytes
    random_bytes: Callable[[int], bytes]
    noise: NoiseSource
    now_ms: Callable[[], int]
    budget: ReleaseBudget
    began_ms: int
    shelf: Shelf

    @property
    def name(self) -> str:
        """The channel's."""
        return self.identity.name


@dataclass(frozen=True, slots=True)
class Chair:
    """What a coordinator is made of.

    Attributes:
        caller: Its end of the wire.
        settings: Of the plan.
        began_ms: When the run began.
        random_bytes, noise, now_ms: Where chance and time come from; recorded.
        shown: Told each step.
    """

    caller: Caller
    settings: Mapping[str, Any]
    began_ms: int
    random_bytes: Callable[[int], bytes]
    noise: NoiseSource
    now_ms: Callable[[], int]
    shown: Callable[[Progress], object]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run ends with.

    Attributes:
        document: JSON values.
        arrays: By name; kept beside it, bit for bit.
        model: With its card, where one was trained.
    """

    document: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict[str, NDArray[np.float64]])
    model: JointModel | None = None


class RunProtocol(Protocol):
    """Both ends of a protocol."""

    def terms(self, settings: Mapping[str, Any]) -> bytes:
        """What the channels are told beforehand, from the plan's settings.

        Raises:
            InvalidSetting: a setting is missing, unknown or out of range.
        """
        ...

    def party(self, seat: Seat) -> Party:
        """A channel's state machine."""
        ...

    def coordinate(self, chair: Chair) -> Outcome:
        """Run it over the parties of the caller's grid."""
        ...


PROTOCOLS: Final[Mapping[str, str]] = {
    "align": "dayfly.federation.runs.alignment",
    "glm": "dayfly.federation.runs.glm",
    "histogram": "dayfly.federation.runs.histogram",
    "overlap": "dayfly.federation.runs.overlap",
    "quantiles": "dayfly.federation.runs.quantiles",
    "vertical": "dayfly.federation.runs.vertical",
}
"""Name to the module whose `PROTOCOL` it is."""


def protocol_named(name: str) -> RunProtocol:
    """The protocol of a name.

    Raises:
        InvalidSetting: there is none.
    """
    if name not in PROTOCOLS:
        raise InvalidSetting(f"protocol={name!r} must be one of {', '.join(sorted(PROTOCOLS))}; choose one")
    found: RunProtocol = import_module(PROTOCOLS[name]).PROTOCOL
    return found
