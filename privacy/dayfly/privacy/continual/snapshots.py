"""A stream as bytes and back: equal streams give equal bytes, and a restored one continues bit for bit.

Layout: 8 bytes of magic, the header's length (4 bytes, little-endian), the header (MessagePack), the arrays (int64,
little-endian, in a fixed order), and a BLAKE2b digest of all before it (32 bytes). The digest finds damage; it does not
stop somebody who may write the file, who could read the private data in it as well.
"""

import hashlib
from fractions import Fraction
from typing import Annotated, Final

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from dayfly.privacy.errors import InvalidArgument, StreamDamaged

from .factors import Blt, SquareRoot
from .limiter import ParticipationLimiter
from .participation import Participation
from .plan import StreamPlan
from .totals import RunningTotals
from .windows import SlidingTotals

__all__ = ["Stream", "dump_stream", "load_stream"]

Stream = RunningTotals | SlidingTotals
Vector = NDArray[np.int64]

_FAMILY: Final = b"DFSTRM"
_MAGIC: Final = _FAMILY + b"01"
_DIGEST: Final = 32
_Count = Annotated[int, Meta(ge=0)]


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    scale: tuple[str, str]
    step: _Count
    head: bytes
    series: _Count
    length: _Count
    blocks: int | None
    resolution_bits: int
    decays: tuple[int, ...]
    scales: tuple[int, ...]
    participation: tuple[int, int, int, int]
    window: int | None
    customers: int | None
    limiter_step: _Count


def dump_stream(stream: Stream, *, limiter: ParticipationLimiter | None = None) -> bytes:
    """Everything that a stream needs to go on, with its limiter. Private: see `dayfly.privacy.continual.totals`."""
    header = msgspec.msgpack.encode(_header(stream, limiter))
    body = b"".join(part.astype("<i8").tobytes() for part in _arrays(stream, limiter))
    data = _MAGIC + len(header).to_bytes(4, "little") + header + body
    return data + hashlib.blake2b(data, digest_size=_DIGEST).digest()


def _running(stream: Stream) -> RunningTotals:
    return stream.totals if isinstance(stream, SlidingTotals) else stream


def _header(stream: Stream, limiter: ParticipationLimiter | None) -> _Header:
    plan, part = stream.plan, stream.plan.participation
    step, head, *_ = _running(stream).state()
    factor = plan.factor if isinstance(plan.factor, Blt) else None
    return _Header(
        name=stream.name,
        scale=(str(stream.scale.numerator), str(stream.scale.denominator)),
        step=step,
        head=head,
        series=plan.series,
        length=plan.length,
        blocks=plan.blocks,
        resolution_bits=plan.resolution_bits,
        decays=factor.decays if factor else (),
        scales=factor.scales if factor else (),
        participation=(part.magnitude, part.steps, part.min_separation, part.series),
        window=stream.window if isinstance(stream, SlidingTotals) else None,
        customers=None if limiter is None else len(limiter),
        limiter_step=0 if limiter is None else limiter.state()[0],
    )


def _arrays(stream: Stream, limiter: ParticipationLimiter | None) -> list[Vector]:
    _, _, state, totals = _running(stream).state()
    found = [state, totals]
    if isinstance(stream, SlidingTotals):
        found += stream.state()
    if limiter is not None:
        found.append(limiter.state()[1])
    return found


def load_stream(data: bytes) -> tuple[Stream, ParticipationLimiter | None]:
    """Read back what `dump_stream` wrote.

    Raises:
        StreamDamaged: Truncated, altered, no stream at all, or written in a newer format.
    """
    if data[: len(_MAGIC)] != _MAGIC:
        kind = "of a newer format" if data[: len(_FAMILY)] == _FAMILY else "no stream"
        raise StreamDamaged(
            f"data={data[:8]!r}... must begin with {_MAGIC!r}, it is {kind}; open it with what wrote it"
        )
    if hashlib.blake2b(data[:-_DIGEST], digest_size=_DIGEST).digest() != data[-_DIGEST:]:
        raise _damaged(data, "its digest does not hold")
    end = 12 + int.from_bytes(data[8:12], "little")
    try:
        header = msgspec.msgpack.decode(data[12:end], type=_Header)
        return _restored(header, np.frombuffer(data[end:-_DIGEST], "<i8").astype(np.int64))
    except (msgspec.MsgspecError, InvalidArgument, ValueError) as error:
        raise _damaged(data, str(error)) from None


def _damaged(data: bytes, why: str) -> StreamDamaged:
    return StreamDamaged(
        f"data of {len(data)} bytes must be a whole saved stream: {why}; restore the newest copy, and no older one"
    )


def _restored(header: _Header, values: Vector) -> tuple[Stream, ParticipationLimiter | None]:
    factor = Blt(header.decays, header.scales) if header.decays else SquareRoot()
    participation = Participation(*header.participation)
    plan = StreamPlan(
        header.series, header.length, factor, participation, header.blocks, header.resolution_bits
    )
    scale = Fraction(int(header.scale[0]), int(header.scale[1]))
    stream: Stream
    if header.window is None:
        stream = RunningTotals(plan, scale, name=header.name)
    else:
        stream = SlidingTotals(plan, scale, header.window, name=header.name)
    parts = _Parts(values)
    rows = _running(stream).state()[2].shape[0]
    _running(stream).restore(
        header.step, header.head, parts.take(rows, plan.series), parts.take(1, plan.series)[0]
    )
    if isinstance(stream, SlidingTotals):
        recent = parts.take(stream.window, plan.series)
        stream.restore(recent, parts.take(1, plan.series)[0], parts.take(1, plan.series)[0])
    limiter = None
    if header.customers is not None:
        limiter = ParticipationLimiter.restored(
            participation, header.limiter_step, parts.take(3, header.customers)
        )
    parts.end()
    return stream, limiter


class _Parts:
    """Cuts the stored numbers into arrays."""

    def __init__(self, values: Vector) -> None:
        self._values = values

    def take(self, rows: int, columns: int) -> Vector:
        taken, self._values = self._values[: rows * columns], self._values[rows * columns :]
        return taken.reshape(rows, columns)

    def end(self) -> None:
        if self._values.size:
            raise ValueError(f"{self._values.size} numbers too many")
