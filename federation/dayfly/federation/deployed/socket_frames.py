"""What goes over a channel's Unix-domain socket: one request, one reply. Standard library alone: a new process imports it per message.

Request: 8 bytes of length, big-endian, and the bytes. Reply: one byte of status before that.
"""

import socket
from enum import IntEnum
from pathlib import Path
from typing import Final

__all__ = ["ServiceAbsent", "Status", "forward", "receive", "send"]

_LENGTH: Final = 8
LARGEST_BYTES: Final = 1 << 31


class Status(IntEnum):
    """What the bytes of a reply are."""

    ANSWERED = 0
    """The party's reply."""
    DECLINED = 1
    """Why the party declines, in words."""
    ABSENT = 2
    """Why no party could be asked, in words."""


class ServiceAbsent(Exception):  # noqa: N818 - reads as the fact it states; DayflyError's module is too heavy here
    """Nobody answers at a channel's socket."""


def forward(path: str, request: bytes) -> tuple[Status, bytes]:
    """Hand a request to the service at a socket, and wait for its reply as long as the service lives."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.connect(path)
            send(line, request)
            status = Status(_exactly(line, 1)[0])
            return status, receive(line)
    except (OSError, ServiceAbsent, ValueError) as error:
        return (
            Status.ABSENT,
            f"service at {Path(path).name!r} does not answer ({error}); start `dayfly federate client`".encode(),
        )


def send(line: socket.socket, content: bytes, *, status: Status | None = None) -> None:
    """Length and content; a reply has its status before."""
    head = b"" if status is None else bytes([status])
    line.sendall(head + len(content).to_bytes(_LENGTH, "big"))
    if content:  # writing nothing to who has hung up is an error, too
        line.sendall(content)


def receive(line: socket.socket) -> bytes:
    """One content.

    Raises:
        ServiceAbsent: the other side ended in the middle, or it is longer than a message can be.
    """
    size = int.from_bytes(_exactly(line, _LENGTH), "big")
    if size > LARGEST_BYTES:
        raise ServiceAbsent(f"length={size} must be at most {LARGEST_BYTES}; check who is connected")
    return _exactly(line, size)


def _exactly(line: socket.socket, size: int) -> bytes:
    found = bytearray(size)
    view = memoryview(found)
    done = 0
    while done < size:
        count = line.recv_into(view[done:])
        if not count:
            raise ServiceAbsent("the connection ended in the middle of a message")
        done += count
    return bytes(found)
