"""What must hold before a slot store is believed, and what follows when a write did not come through."""

from collections.abc import Callable
from types import TracebackType

from dayfly.privacy.errors import KeyStoreDamaged

from .device import RawFile
from .layout import ENTRY_BYTES, Header, decode_head
from .survey import Survey

__all__ = ["Failing", "check_head", "check_whole"]


class Failing:
    """Mark the store as failed when a step of several did not come through: what is on disk is then known to `open` only."""

    __slots__ = ("_fail",)

    def __init__(self, fail: Callable[[], None]) -> None:
        self._fail = fail

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._fail()


def check_head(record: RawFile, header: Header) -> None:
    """The record must name the tenant and the store of the slots, else `KeyStoreDamaged`."""
    head = decode_head(record.read(0, ENTRY_BYTES))
    if head != (header.tenant, header.store):
        raise KeyStoreDamaged(
            f"path={record.name!r} must be the record of these slots; put back the one that lay beside them"
        )


def check_whole(found: Survey, present: int, capacity: int, name: str) -> None:
    """Nothing may be damaged, missing or cut off, else `KeyStoreDamaged`; `capacity` is what the header states."""
    way_out = "open with discard_damaged=True to give these keys and their data up"
    if present < capacity:
        raise KeyStoreDamaged(f"slots={present!r} of {name!r} must be >= {capacity}; {way_out}")
    if found.damaged:
        raise KeyStoreDamaged(f"slots={found.damaged[:8]!r} of {name!r} must check; {way_out}")
    if found.missing:
        raise KeyStoreDamaged(
            f"key_ids={found.missing[:8]!r} must be in {name!r} or recorded as destroyed; {way_out}"
        )
