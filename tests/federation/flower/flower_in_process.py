"""Flower without its processes: ClientApps called in this one, messages through protobuf and back."""

import uuid
from collections.abc import Callable, Iterable, Mapping

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity


class InProcess(Grid):
    """Args: the ClientApp, and per node id its configuration."""

    def __init__(
        self, app: ClientApp, configs: Mapping[int, dict[str, str]], *, protobuf: bool = True
    ) -> None:
        TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
        self.app = app
        self.protobuf = protobuf
        self.box: dict[str, Message] = {}
        self.swallow: Callable[[Message], bool] = lambda _: False
        self.contexts = {
            node: Context(run_id=1, node_id=node, node_config=dict(config), state=RecordDict(), run_config={})
            for node, config in configs.items()
        }

    def set_run(self, run: Run) -> None: ...

    @property
    def run(self) -> Run:
        raise NotImplementedError

    def create_message(self, *args: object, **kwargs: object) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> list[int]:
        return list(self.contexts)

    def _wired(self, message: Message) -> Message:
        return message_from_proto(message_to_proto(message)) if self.protobuf else message

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
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
        return [self.box.pop(number) for number in message_ids if number in self.box]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        return self.pull_messages(self.push_messages(messages))
