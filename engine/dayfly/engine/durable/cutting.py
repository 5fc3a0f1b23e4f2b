"""Frames that fit: what one turn was told, or what it brought, as several frames where one would not fit a log segment.

A crash may leave only the first of them. For inputs that is a state like any other: nothing of the turn was acknowledged. For
effects only the last frame says that the inputs are carried out, and recovery takes what the earlier ones tell from what is left
to do.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from dayfly.engine.durable.effects import Effects, encode_effects
from dayfly.engine.durable.input_frames import COLUMNS, encode_inputs
from dayfly.engine.errors import ValueOutOfRange
from dayfly.engine.events import EventBatch
from dayfly.engine.inputs import Input, Publish
from dayfly.engine.intake import IntakeResult

__all__ = ["check_fits", "effects_frames", "fits", "fitting", "inputs_frames"]

_LISTS: Final = (
    "tags", "minted", "recalled", "ended", "unminted", "leased", "counted", "audit", "letters", "stones",
)  # fmt: skip
"""Lists of `Effects`; those that become feed items come first, in the order of the feed."""
_IN_FEED: Final = frozenset(_LISTS[:4])
_SPARE_BYTES: Final = 1_024


_BY_EVENT: Final = COLUMNS[:-2]
_EVENT_BYTES: Final = sum(np.dtype(kind).itemsize * width for _, kind, width in _BY_EVENT)
"""Of the columns with a row for each event; the others are `values` and `strings`."""


def _batch_bytes(batch: EventBatch) -> int:
    columns = _EVENT_BYTES * len(batch) + batch.values.nbytes + batch.strings.nbytes
    objects = [(seen.form, seen.content, seen.digest) for seen in batch.consents]
    return columns + (len(msgspec.msgpack.encode(objects)) if objects else 0) + _SPARE_BYTES


def fits(item: Input, limit: int) -> bool:
    """Whether an input fits a frame; all but events and policies always do."""
    if isinstance(item, EventBatch):
        return _batch_bytes(item) <= limit
    return not isinstance(item, Publish) or len(item.policy.source) + _SPARE_BYTES <= limit


def check_fits(inputs: Sequence[Input], limit: int) -> None:
    """Refuse what no frame can hold, before the shard is told of it.

    Raises:
        ValueOutOfRange: one of the inputs is too large.
    """
    for item in inputs:
        if not fits(item, limit):
            raise ValueOutOfRange(
                f"{type(item).__name__} must fit a frame of {limit} bytes; split it, or set a larger segment_bytes"
            )


def fitting(
    read: Callable[[Sequence[bytes]], IntakeResult], payloads: Sequence[bytes], limit: int, *, start: int = 0
) -> Iterator[tuple[int, IntakeResult]]:
    """What the intake makes of payloads, in parts that fit a frame, with the number of the first payload of each.

    Args:
        read: The intake.
        payloads: Of one channel.
        limit: Most bytes of a frame.
        start: Number of the first payload.

    Raises:
        ValueOutOfRange: a payload is too large for the log.
    """
    result = read(payloads)
    if len(payloads) < 2 or fits(result.batch, limit):
        check_fits([result.batch], limit)
        yield start, result
        return
    middle = len(payloads) // 2
    yield from fitting(read, payloads[:middle], limit, start=start)
    yield from fitting(read, payloads[middle:], limit, start=start + middle)


def inputs_frames(inputs: Sequence[Input], now_ms: int, limit: int) -> Iterator[bytes]:
    """Payloads of frames that tell a shard the same as these inputs at once; each has at most `limit` bytes.

    Args:
        inputs: As they were passed to `Shard.apply`; each fits.
        now_ms: The instant that was passed beside them.
        limit: Most bytes of a frame.
    """
    payload = encode_inputs(inputs, now_ms)
    if len(payload) <= limit or len(inputs) < 2:
        yield payload
        return
    middle = len(inputs) // 2
    yield from inputs_frames(inputs[:middle], _instant(inputs[middle - 1]), limit)
    yield from inputs_frames(inputs[middle:], now_ms, limit)


def _instant(item: Input) -> int:
    """Up to where time may pass when this input was the last one."""
    if isinstance(item, EventBatch):
        return int(item.received_ms[-1]) if len(item) else 0
    return item.at_ms


def effects_frames(effects: Effects, covered: int, limit: int) -> Iterator[tuple[Effects, bytes]]:
    """Effects as one frame, or as several that tell the same in the same order, with their payloads.

    Args:
        effects: All of a turn.
        covered: What earlier frames say of `Effects.covers`.
        limit: Most bytes of a frame.
    """
    payload = encode_effects(effects)
    entries = [(name, entry) for name in _LISTS for entry in getattr(effects, name)]
    if len(payload) <= limit or len(entries) < 2:
        yield effects, payload
        return
    middle = len(entries) // 2
    first, second = _grouped(entries[:middle]), _grouped(entries[middle:])
    told = sum(len(first[name]) for name in _IN_FEED)
    begin = msgspec.structs.replace(effects, covers=covered, erased=0, **first)
    rest = msgspec.structs.replace(
        effects,
        first_item=effects.first_item + told,
        first_stone=effects.first_stone + len(first["stones"]),
        **second,
    )
    yield from effects_frames(begin, covered, limit)
    yield from effects_frames(rest, covered, limit)


def _grouped(entries: Sequence[tuple[str, Any]]) -> dict[str, tuple[Any, ...]]:
    lists: dict[str, list[Any]] = {name: [] for name in _LISTS}
    for name, entry in entries:
        lists[name].append(entry)
    return {name: tuple(found) for name, found in lists.items()}
