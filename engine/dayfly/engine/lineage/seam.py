"""What an engine asks of whatever keeps its lineage."""

from collections.abc import Iterable
from typing import Protocol

from dayfly.privacy.fragments import FragmentOrder

from .explain import Explanation
from .shape import LineageShape

__all__ = ["LineageReads"]


class LineageReads(Protocol):
    """What an engine asks of a lineage store; `LineageStore` and `LineageVault` both are one."""

    def declare(self, shapes: Iterable[LineageShape]) -> None:
        """Keep the shapes of a policy's triggers."""

    def put(self, jti: str, order: FragmentOrder) -> None:
        """Keep the lineage of a minted fragment; the same again changes nothing."""

    def explain(self, jti: str, field: str) -> Explanation:
        """Why the audience sees a field."""
        ...

    def explain_all(self, jti: str) -> tuple[Explanation, ...]:
        """Why the audience sees each field."""
        ...

    def jti_of(self, order_id: str) -> str:
        """Fragment of an order."""
        ...

    def merge(self, subject: bytes, other: bytes) -> None:
        """Two subjects are one."""

    def erase(self, subject: bytes) -> int:
        """Destroy what is about a subject."""
        ...

    def sync(self) -> None:
        """Make everything so far durable."""

    def close(self) -> None:
        """Flush and release."""
