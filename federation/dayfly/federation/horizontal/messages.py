"""What coordinator and channels of horizontal training send each other, inside signed frames; msgpack on the wire."""

from typing import Literal

import msgspec

from dayfly.federation.errors import BadMessage
from dayfly.federation.secagg.messages import MaskRequest, Settings, decode
from dayfly.federation.wire import SERVER

__all__ = ["Family", "GlmSpec", "GlmTask", "MaskBody", "Opening", "decode_spec", "decode_task"]

Family = Literal["linear", "logistic", "poisson"]


class Opening(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Begins a session: its settings, and what is to be computed in it."""

    settings: Settings
    spec: bytes


class MaskBody(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Asks for a masked input. The request's release is the SHA-256 of `task`."""

    request: MaskRequest
    task: bytes


class GlmSpec(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What all channels agree on before a generalised linear model is trained.

    Attributes:
        family: With the canonical link: identity, logit or log.
        label: Name of the label.
        features: Names, in order.
        bounds: Lowest and highest value per feature; public, not taken from the data.
        largest_label: Largest magnitude of a label.
        most_rows: Most rows of one channel.
    """

    family: Family
    label: str
    features: tuple[str, ...]
    bounds: tuple[tuple[float, float], ...]
    largest_label: float
    most_rows: int


class GlmTask(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Asks for sums at one set of coefficients.

    Attributes:
        number: Of the round, so that no two tasks are the same bytes.
        family: Of the sums; the first round is linear at zero for every model: it gives moments.
        center, scale: Per feature: a feature enters as (value - center) / scale.
        coefficients: Intercept first.
        penalty: Per coefficient; given when the channel's own optimum is asked for, otherwise empty.
        largest: Largest magnitude of a sum of one channel.
        fraction_bits: Binary places of the encoding.
    """

    number: int
    family: Family
    center: tuple[float, ...]
    scale: tuple[float, ...]
    coefficients: tuple[float, ...]
    penalty: tuple[float, ...]
    largest: float
    fraction_bits: int


def decode_spec(data: bytes) -> GlmSpec:
    """Read what a channel is asked to agree on.

    Raises:
        BadMessage: it cannot be read, or contradicts itself.
    """
    spec = decode(data, GlmSpec, party=SERVER)
    if len(spec.bounds) != len(spec.features) or any(not low < high for low, high in spec.bounds):
        raise BadMessage(SERVER, f"must send rising bounds for each of {list(spec.features)}")
    return spec


def decode_task(data: bytes) -> GlmTask:
    """Read what a channel is asked for.

    Raises:
        BadMessage: it cannot be read.
    """
    return decode(data, GlmTask, party=SERVER)
