"""Figures for the health board."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from .plan import LaneState

__all__ = ["AudienceCounts", "EndpointHealth"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AudienceCounts:
    """What became of an audience's fragments since `delivery.db` was made.

    Attributes:
        audience: Who.
        delivered: Messages of fragments that an endpoint accepted (2xx).
        handed: Fragments that a pull consumer was given.
        opened: Fragments leased at least once.
        expired_unused: Fragments that expired without a lease.
        recalled: Fragments recalled.
        recalls_delivered: Recall messages that an endpoint accepted.
        failed: Messages of fragments given up, by reason: `expired`, `superseded`, `recalled`, `ended`, `disabled`, `removed`,
            `http_4xx`.
        recalls_failed: Recall messages given up, by reason.
        attempts_failed: Attempts without success, by reason, whether or not a later one had it.
        unrouted: Feed items of an audience that the settings do not name.
        queued: Messages waiting or in flight now.
        oldest_age_ms: Age of the oldest of those, 0 when there is none.
    """

    audience: str
    delivered: int = 0
    handed: int = 0
    opened: int = 0
    expired_unused: int = 0
    recalled: int = 0
    recalls_delivered: int = 0
    failed: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    recalls_failed: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    attempts_failed: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    unrouted: int = 0
    queued: int = 0
    oldest_age_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointHealth:
    """How one endpoint is doing."""

    name: str
    audience: str
    state: LaneState
    queued: int
    in_flight: int
