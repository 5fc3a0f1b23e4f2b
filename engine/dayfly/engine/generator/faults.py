"""What goes wrong between a channel and intake: late, out of order, twice, and broken."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Final, Literal, TypeAlias

from dayfly.engine.errors import GeneratorError

from .draw import Draw

__all__ = ["Fault", "Shares", "break_payload"]

Fault: TypeAlias = Literal["", "late", "disordered", "duplicate", "malformed"]


@dataclass(frozen=True, slots=True)
class Shares:
    """Share of messages with each fault, between 0 and 1.

    Attributes:
        duplicate: Sent again, up to a minute later.
        disordered: Held up by 1 to 30 seconds, so that later ones overtake it.
        late: Held up by 1 minute to 6 hours (a phone without a network).
        malformed: Broken on the way or by a faulty sender; never duplicated.
    """

    duplicate: float = 0.02
    disordered: float = 0.05
    late: float = 0.01
    malformed: float = 0.002

    def __post_init__(self) -> None:
        """Refuse shares that are no shares."""
        values = {spec.name: getattr(self, spec.name) for spec in fields(self)}
        for name, value in values.items():
            if not 0.0 <= value <= 1.0:
                raise GeneratorError(f"{name}={value!r} must lie in [0, 1]; pass a share")
        if self.disordered + self.late > 1.0:
            raise GeneratorError(
                f"disordered + late={self.disordered + self.late!r} must be at most 1; lower one"
            )


def break_payload(payload: bytes, draw: Draw) -> bytes:
    """`payload` broken in one of the ways seen in practice; never valid as what it was."""
    return draw.one_of(_BREAKS)(payload)


def _cut(payload: bytes) -> bytes:
    return payload[: len(payload) // 2]


def _bad_utf8(payload: bytes) -> bytes:
    middle = len(payload) // 2
    return payload[:middle] + b"\xff\xfe" + payload[middle:]


def _other_shape(payload: bytes) -> bytes:
    del payload
    return b'["not", "an", "object"]'


def _no_number(payload: bytes) -> bytes:
    return b'{"type":NaN,' + payload[1:]


_BREAKS: Final[tuple[Callable[[bytes], bytes], ...]] = (_cut, _bad_utf8, _other_shape, _no_number)
