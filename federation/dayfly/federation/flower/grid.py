"""A grid over Flower: `query` messages, pushed and pulled in our own loop, and our own decision of who is dead.

Flower notices a dead SuperNode after 48 s, and a deployed reply takes 6 s and more, so neither its time nor a short time limit can
tell a dead channel from a slow one. Channels keep a connection of their own to the coordinator (`deployed.pulse`): one that shows no
sign of life for the time limit is lost, one that does is waited for. A channel that was restarted gets the message again: the one it had may be gone
with its SuperNode, and a party answers the same bytes with the same bytes.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from dayfly.federation.deployed.socket_frames import Status
from dayfly.federation.errors import InvalidSetting
from dayfly.federation.flower.stub import RECORD
from dayfly.federation.grid import DEAD_AFTER_SECONDS, Failure

__all__ = ["AlwaysAlive", "FlowerGrid", "Liveness"]


class Liveness(Protocol):
    """Who shows signs of life."""

    def silent_seconds(self, party: str) -> float:
        """Time since the last sign of life."""
        ...

    def starts(self, party: str) -> int:
        """How often the party's service was seen to begin."""
        ...


class AlwaysAlive:
    """For grids that answer within a call."""

    def silent_seconds(self, party: str) -> float:  # noqa: ARG002 - as the protocol
        """None."""
        return 0.0

    def starts(self, party: str) -> int:  # noqa: ARG002 - as the protocol
        """Once."""
        return 1


@dataclass(slots=True)
class _Waiting:
    """A message under way."""

    party: str
    starts: int


class FlowerGrid:
    """Parties behind SuperNodes.

    Args:
        grid: Flower's.
        nodes: Party to the id of its SuperNode.
        parcel: Wraps a request for the channel's service.
        liveness: Who is alive.
        most_seconds: A party that is alive but has not answered for so long is lost all the same.
        poll_seconds: Between looks for replies.
        monotonic, sleep: Clock.
    """

    def __init__(
        self,
        grid: Grid,
        nodes: Mapping[str, int],
        *,
        parcel: Callable[[str, bytes], bytes] = lambda _, request: request,
        liveness: Liveness,
        most_seconds: float = 300.0,
        poll_seconds: float = 0.25,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._grid: Final = grid
        self._nodes: Final = dict(nodes)
        self._parcel: Final = parcel
        self._liveness: Final = liveness
        self._most_seconds: Final = most_seconds
        self._poll_seconds: Final = poll_seconds
        self._monotonic: Final = monotonic
        self._sleep: Final = sleep
        self.messages = 0
        """Messages that were pushed."""

    def parties(self) -> tuple[str, ...]:
        """All, sorted."""
        return tuple(sorted(self._nodes))

    def ask(
        self, requests: Mapping[str, bytes], *, timeout_seconds: float = DEAD_AFTER_SECONDS
    ) -> dict[str, bytes | Failure]:
        """One message to each, and a reply or a failure of each.

        Raises:
            InvalidSetting: a party is asked that is not of this grid.
        """
        unknown = sorted(set(requests) - set(self._nodes))
        if unknown:
            raise InvalidSetting(f"requests to {unknown} must be to parties of the grid, {self.parties()}")
        began = self._monotonic()
        found: dict[str, bytes | Failure] = {}
        for party in requests:
            lost = self._lost(party, 0.0, timeout_seconds)
            if (
                lost is not None
            ):  # a message to who is known to be dead would only wait in a queue, and the next one behind it
                found[party] = lost
        waiting = self._push(requests, [party for party in requests if party not in found])
        while waiting:
            for message in self._grid.pull_messages(list(waiting)):
                under_way = waiting.pop(message.metadata.reply_to_message_id, None)
                if under_way is not None:
                    found[under_way.party] = _opened(under_way.party, message)
            waiting = self._still_waiting(
                requests, waiting, found, self._monotonic() - began, timeout_seconds
            )
            if waiting:
                self._sleep(self._poll_seconds)
        return found

    def _still_waiting(
        self,
        requests: Mapping[str, bytes],
        waiting: Mapping[str, _Waiting],
        found: dict[str, bytes | Failure],
        waited: float,
        timeout_seconds: float,
    ) -> dict[str, _Waiting]:
        """Messages of parties that are neither heard nor lost; those of parties that began again are sent again."""
        kept: dict[str, _Waiting] = {}
        again: list[str] = []
        for number, under_way in waiting.items():
            party = under_way.party
            if party in found:
                continue
            lost = self._lost(party, waited, timeout_seconds)
            if lost is not None:
                found[party] = lost
                continue
            kept[number] = under_way
            if under_way.starts != (starts := self._liveness.starts(party)):
                under_way.starts = starts
                again.append(party)
        return kept | self._push(requests, again)

    def _push(self, requests: Mapping[str, bytes], parties: Iterable[str]) -> dict[str, _Waiting]:
        named = sorted(parties)
        if not named:
            return {}
        messages = [
            Message(
                RecordDict({RECORD: ConfigRecord({"parcel": self._parcel(party, requests[party])})}),
                self._nodes[party],
                MessageType.QUERY,
            )
            for party in named
        ]
        self.messages += len(messages)
        pushed = self._grid.push_messages(messages)
        return {
            number: _Waiting(party, self._liveness.starts(party))
            for number, party in zip(pushed, named, strict=True)
            if number is not None
        }

    def _lost(self, party: str, waited: float, timeout_seconds: float) -> Failure | None:
        silent = self._liveness.silent_seconds(party)
        if silent >= timeout_seconds:
            return Failure(party, f"shows no sign of life for {silent:.0f} s; it is lost", lost=True)
        if waited >= self._most_seconds:
            return Failure(
                party, f"is alive but did not answer within {self._most_seconds:g} s; it is lost", lost=True
            )
        return None


def _opened(party: str, message: Message) -> bytes | Failure:
    if message.has_error():
        return Failure(party, f"has no answer: {message.error.reason}", lost=True)
    record = message.content.config_records.get(RECORD, ConfigRecord())
    status, content = record.get("status"), record.get("content")
    if not isinstance(content, bytes) or status not in list(Status):
        return Failure(party, "sent something that is no answer; check its version", lost=False)
    if status == Status.ANSWERED:
        return content
    return Failure(party, content.decode("utf-8", "replace"), lost=status == Status.ABSENT)
