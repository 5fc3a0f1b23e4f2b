"""What one `Shard.apply` was told, as the bytes of a log frame.

A frame is MessagePack: the instant after the inputs, then each input with a one-letter tag. Events travel as their columns,
little-endian; type and channel numbers refer to the policy in force at that place of the log, policies themselves as their
documents. So replaying the frames in order tells a fresh shard exactly what the first one was told.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np

from dayfly.engine.errors import FrameError
from dayfly.engine.events import EventBatch, ObservedConsent
from dayfly.engine.inputs import (
    Arrive,
    Confirm,
    ConsentGiven,
    ConsentWithdrawn,
    Depart,
    Erase,
    FragmentEnded,
    Input,
    Merge,
    OrderRefused,
    Publish,
    Tick,
)
from dayfly.engine.policy.load import policy_from_source

__all__ = ["COLUMNS", "Events", "decode_inputs", "encode_inputs", "events_of"]

COLUMNS: Final = (
    ("received_ms", "<i8", 1),
    ("time_ms", "<i8", 1),
    ("subject", "<u8", 2),
    ("link", "<u8", 2),
    ("event_id", "<u8", 2),
    ("digest", "<u8", 2),
    ("type", "<i4", 1),
    ("channel", "<i4", 1),
    ("consent", "<i4", 1),
    ("consent_digest", "<u8", 1),
    ("value_offset", "<i8", 1),
    ("values", "<i8", 1),
    ("strings", "|u1", 1),
)
"""Columns of `EventBatch` on disk: name, type, words per event. The order is the format."""

_ON_DISK: Final = tuple((name, np.dtype(kind)) for name, kind, _ in COLUMNS)
_FORMAT: Final = 1


class _Frame(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Wire form: format version, instant, inputs as (tag, content)."""

    format: int
    now_ms: int
    inputs: list[tuple[str, msgspec.Raw]]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Frame).decode


class Events(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Wire form of a batch: its `COLUMNS`, and form, content and digest of its consent objects."""

    columns: list[bytes]
    consents: list[tuple[str, Any, int]]


class _Published(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    at_ms: int
    source: bytes


_decode_events = msgspec.msgpack.Decoder(Events).decode
_TAGS: Final[dict[str, type[Any]]] = {
    "c": ConsentGiven,
    "w": ConsentWithdrawn,
    "m": Merge,
    "x": Erase,
    "r": OrderRefused,
    "f": FragmentEnded,
    "t": Tick,
    "d": Depart,
    "a": Arrive,
    "k": Confirm,
}
_TAG_OF: Final = {kind: tag for tag, kind in _TAGS.items()}


def encode_inputs(inputs: Sequence[Input], now_ms: int) -> bytes:
    """Bytes of a frame.

    Args:
        inputs: As they were passed to `Shard.apply`.
        now_ms: The instant that was passed beside them.
    """
    return _encode((_FORMAT, now_ms, [_wire(item) for item in inputs]))


def _wire(item: Input) -> tuple[str, object]:
    if isinstance(item, EventBatch):
        columns = [_little(getattr(item, name), kind) for name, kind in _ON_DISK]
        return "e", (columns, [(seen.form, seen.content, seen.digest) for seen in item.consents])
    if isinstance(item, Publish):
        return "p", (item.at_ms, item.policy.source)
    return _TAG_OF[type(item)], item


def _little(column: "np.ndarray[Any, Any]", kind: "np.dtype[Any]") -> bytes:
    return (column if column.dtype == kind else column.astype(kind)).tobytes()


def decode_inputs(payload: bytes) -> tuple[list[Input], int]:
    """Inputs and instant of a frame.

    Raises:
        FrameError: the bytes are no such frame, or of a newer format.
        PolicyError: a policy in it is refused by this version.
    """
    frame = _frame(payload)
    return [_input(tag, content) for tag, content in frame.inputs], frame.now_ms


def events_of(payload: bytes) -> tuple[Events | None, int]:
    """The columns of a frame that holds one batch of events and nothing else (else None), and its instant.

    A frame without any input, where only time passed, has no column.

    Raises:
        FrameError: as `decode_inputs`.
    """
    frame = _frame(payload)
    if not frame.inputs:
        return Events([], []), frame.now_ms
    if len(frame.inputs) != 1 or frame.inputs[0][0] != "e":
        return None, frame.now_ms
    try:
        events = _decode_events(frame.inputs[0][1])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FrameError(
            f"input tag='e' must be readable: {error}; restore the store from a backup"
        ) from error
    return _with_all_columns(events), frame.now_ms


def _frame(payload: bytes) -> _Frame:
    try:
        frame = _decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FrameError(
            f"frame of {len(payload)} bytes must hold inputs: {error}; restore the store from a backup"
        ) from error
    if frame.format != _FORMAT:
        raise FrameError(
            f"frame format={frame.format} must be {_FORMAT}; read it with the release that wrote it"
        )
    return frame


def _with_all_columns(events: Events) -> Events:
    if len(events.columns) != len(COLUMNS):
        raise FrameError(
            f"columns={len(events.columns)} must be {len(COLUMNS)}; read the frame with the release that wrote it"
        )
    return events


def _input(tag: str, content: msgspec.Raw) -> Input:
    try:
        if tag == "e":
            return _batch(_decode_events(content))
        if tag == "p":
            published = msgspec.msgpack.decode(content, type=_Published)
            return Publish(published.at_ms, policy_from_source(published.source))
        item: Input = msgspec.msgpack.decode(content, type=_TAGS[tag])
    except (msgspec.MsgspecError, KeyError, ValueError) as error:
        if isinstance(error, FrameError):
            raise
        raise FrameError(
            f"input tag={tag!r} must be readable: {error}; restore the store from a backup"
        ) from error
    return item


def _batch(events: Events) -> EventBatch:
    columns = {
        name: _native(data, kind, width)
        for data, (name, kind, width) in zip(_with_all_columns(events).columns, COLUMNS, strict=True)
    }
    consents = tuple(ObservedConsent(form, content, digest) for form, content, digest in events.consents)  # type: ignore[arg-type]
    return EventBatch(**columns, consents=consents)


def _native(data: bytes, kind: str, width: int) -> "np.ndarray[Any, Any]":
    stored = np.dtype(kind)
    flat = np.frombuffer(data, stored).astype(stored.newbyteorder("="))
    return flat if width == 1 else flat.reshape(-1, width)
