"""Flower without its processes: ClientApps called in this one, messages through protobuf and back. For tests and measurements."""

import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from flwr.app import ConfigRecord, Context, Error, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from dayfly.federation.flower.grid import AlwaysAlive, FlowerGrid
from dayfly.federation.flower.stub import RECORD, SOCKET_KEY, app

__all__ = ["InProcess", "plain_messages", "stub_grid"]


class InProcess(Grid):
    """A grid of Flower's over a ClientApp in this process.

    Args:
        client_app: Answers every message.
        configs: Id of a node to its configuration.
        protobuf: Whether messages are turned into protobuf and back, as on the wire.
    """

    def __init__(
        self, client_app: ClientApp, configs: Mapping[int, Mapping[str, str]], *, protobuf: bool = True
    ) -> None:
        TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
        self.app: Callable[[Message, Context], Message] = client_app
        self.box: Final[dict[str, Message]] = {}
        self.swallow: Callable[[Message], bool] = lambda _: False
        """Whether a message never arrives."""
        self.contexts: Final = {
            node: Context(run_id=1, node_id=node, node_config=dict(config), state=RecordDict(), run_config={})
            for node, config in configs.items()
        }
        self._protobuf: Final = protobuf

    def set_run(self, run: Run) -> None:
        """There is but one."""

    @property
    def run(self) -> Run:
        """With the number that all messages bear."""
        return Run.create_empty(1)

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """As Flower's older workflows make them."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """All."""
        return list(self.contexts)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Each is answered at once."""
        numbers = []
        for message in messages:
            number = uuid.uuid4().hex
            message.metadata.__dict__["_message_id"] = number
            numbers.append(number)
            if self.swallow(message):
                continue
            try:
                reply = self.app(self._wired(message), self.contexts[message.metadata.dst_node_id])
            except Exception as error:  # noqa: BLE001 - as Flower does
                reply = Message(Error(code=2, reason=repr(error)), reply_to=message)
            self.box[number] = self._wired(reply)
        return numbers

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Replies to these messages."""
        return [self.box.pop(number) for number in message_ids if number in self.box]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Both."""
        del timeout
        return self.pull_messages(self.push_messages(messages))

    def _wired(self, message: Message) -> Message:
        return message_from_proto(message_to_proto(message)) if self._protobuf else message


def stub_grid(sockets: Mapping[str, str]) -> FlowerGrid:
    """Our grid over our ClientApp, with the services at these sockets.

    Args:
        sockets: Party to the path of its socket.
    """
    nodes = {name: number for number, name in enumerate(sorted(sockets), 1)}
    flower = InProcess(app, {nodes[name]: {SOCKET_KEY: path} for name, path in sockets.items()})
    return FlowerGrid(flower, nodes, liveness=AlwaysAlive(), poll_seconds=0.0)


def plain_messages(content: bytes) -> Callable[[], bytes]:
    """What Flower alone does with such a message and its reply: `call()` sends one to a ClientApp that answers with what it got."""
    echo = ClientApp()

    @echo.query()
    def answer(message: Message, _: Context) -> Message:
        return Message(message.content, reply_to=message)

    flower = InProcess(echo, {1: {}})

    def call() -> bytes:
        record = ConfigRecord({"parcel": content})
        message = Message(RecordDict({RECORD: record}), 1, MessageType.QUERY)
        (reply,) = flower.send_and_receive([message])
        found = reply.content.config_records[RECORD]["parcel"]
        assert isinstance(found, bytes)
        return found

    return call
