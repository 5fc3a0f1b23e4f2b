"""The seam between protocols and transport: a coordinator asks parties through a grid, bytes in and bytes out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

__all__ = ["DEAD_AFTER_SECONDS", "Failure", "Grid", "Party"]

DEAD_AFTER_SECONDS: Final = 10.0
"""A party that has not answered for so long is lost for the request."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a party gave no reply.

    Attributes:
        party: Its name.
        cause: In words; tells nothing about the party's data beyond what its error says.
        lost: Whether it was not heard of; otherwise it answered that it declines.
    """

    party: str
    cause: str
    lost: bool


class Party(Protocol):
    """A channel's side of a protocol. Single-threaded; owns its private data."""

    @property
    def name(self) -> str:
        """As registered."""
        ...

    def handle(self, message: bytes) -> bytes:
        """One request, one reply.

        Raises:
            FederationError: The party declines; the error carries no secret.
        """
        ...


class Grid(Protocol):
    """What a coordinator talks through. It never raises for a party's sake: it hands back a `Failure`."""

    def parties(self) -> tuple[str, ...]:
        """Parties that can be asked, sorted."""
        ...

    def ask(
        self, requests: Mapping[str, bytes], *, timeout_seconds: float = DEAD_AFTER_SECONDS
    ) -> dict[str, bytes | Failure]:
        """One message to each, and a reply or a failure of each, within `timeout_seconds`."""
        ...
