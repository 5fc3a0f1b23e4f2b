"""The ClientApp: hands bytes to the channel's service and its reply back.

Flower starts a new process for every message. This one imports nothing of ours but a socket, holds no key and no data, and forgets
everything: the channel's service (`deployed.service`) has all of that. It runs as the user of the SuperNode, who must be able to open the socket.
"""

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from dayfly.federation.deployed.socket_frames import Status, forward

__all__ = ["RECORD", "SOCKET_KEY", "app"]

RECORD = "dayfly"
SOCKET_KEY = "dayfly-socket"
"""Key of the SuperNode's configuration that names the socket."""

app = ClientApp()


@app.query()
def query(message: Message, context: Context) -> Message:
    """One parcel, one reply."""
    path = context.node_config.get(SOCKET_KEY)
    parcel = message.content.config_records[RECORD]["parcel"]
    if not isinstance(path, str) or not isinstance(parcel, bytes):
        status, content = (
            Status.ABSENT,
            b"the SuperNode has no socket of a channel; start it by `dayfly federate client`",
        )
    else:
        status, content = forward(path, parcel)
    record = ConfigRecord({"status": int(status), "content": content})
    return Message(RecordDict({RECORD: record}), reply_to=message)
