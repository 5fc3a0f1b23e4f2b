"""What coordinator and channels of vertical training send each other, inside signed frames; msgpack on the wire."""

import hashlib

import msgspec
import numpy as np
from numpy.typing import NDArray

from dayfly.federation.errors import BadMessage
from dayfly.federation.secagg.messages import encode
from dayfly.federation.vertical.sealing import Letter, Roster
from dayfly.federation.wire import SERVER

__all__ = [
    "Exchange",
    "GradientRequest",
    "MomentsRequest",
    "ResidualRequest",
    "StepTask",
    "Summand",
    "array",
    "digest_of",
    "to_bytes",
]

Words = NDArray[np.uint64]


class Exchange(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Who takes part, and the dealer's seed for this channel: asks for its masked inputs."""

    roster: Roster
    seed: bytes


class MomentsRequest(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The others' masked inputs, and the label channel's correction: asks for the summand of the moments."""

    letters: tuple[Letter, ...]
    correction: bytes


class StepTask(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Public; the same for all channels.

    Attributes:
        step: From 1.
        weights: Of the model's columns in units of rows of norm 1, intercept included (its place is not used: it is in `coefficients`).
        limits: Largest partial score of each channel, in integers.
        coefficients: Of the polynomial, constant first.
    """

    step: int
    weights: tuple[float, ...]
    limits: tuple[int, ...]
    coefficients: tuple[int, ...]


class ResidualRequest(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The others' masked scores: asks for the masked residuals."""

    step: int
    letters: tuple[Letter, ...]
    correction: bytes


class GradientRequest(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The others' masked residuals: asks for the summand of the gradient."""

    step: int
    letters: tuple[Letter, ...]
    correction: bytes


class Summand(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Ring words of one channel, with its noise, under a zero share."""

    party: str
    release: str
    words: bytes


def digest_of(agreement: msgspec.Struct) -> bytes:
    """32 bytes that name what is agreed on."""
    kind = type(agreement)
    # Read once, so that 1 and 1.0 are the same on both ends of the wire.
    canonical = encode(msgspec.msgpack.decode(encode(agreement), type=kind))
    return hashlib.sha256(b"dayfly vertical v1 " + kind.__name__.encode() + b"\x00" + canonical).digest()


def to_bytes(words: Words) -> bytes:
    """Little-endian."""
    return np.ascontiguousarray(words, "<u8").tobytes()


def array(data: bytes, shape: tuple[int, ...], *, party: str = SERVER) -> Words:
    """Ring words of a shape.

    Raises:
        BadMessage: the size is another one; names who sent it.
    """
    expected = 8 * int(np.prod(shape))
    if len(data) != expected:
        raise BadMessage(
            party, f"must send {expected} bytes of ring words, not {len(data)}; check its version"
        )
    return np.frombuffer(data, "<u8").reshape(shape)
