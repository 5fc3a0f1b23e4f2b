"""What a shard decides. Each decision has a `sequence` that only rises, so that a consumer can resume and drop repeats."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import msgspec

from dayfly.privacy.fragments import FragmentOrder

__all__ = ["DeadLetter", "Decisions", "OrderMade", "Recall", "Refusal", "TagChange"]


class TagChange(msgspec.Struct, frozen=True, gc=False):
    """A person entered or left a tag.

    `at_ms` is the exact instant of the change; `until_ms` (enter only) is the instant at which it ends if nothing more
    arrives, int64 max when it does not end by itself. `reason` of a leave: `when`, `consent`, `merged`, `erased`, `unpublished`.
    """

    sequence: int
    at_ms: int
    subject: bytes
    tag: str
    change: Literal["enter", "leave"]
    until_ms: int = 0
    reason: str = "when"


class OrderMade(msgspec.Struct, frozen=True, gc=False):
    """A consented trigger fired: mint this."""

    sequence: int
    at_ms: int
    order: FragmentOrder


class Recall(msgspec.Struct, frozen=True, gc=False):
    """Fragments of these orders are no longer true or allowed: destroy them and tell the audience.

    `lost` is never a shard's: the process that held the keys ended, and a host says so.
    """

    sequence: int
    at_ms: int
    order_ids: tuple[str, ...]
    audience: str
    reason: Literal["withdrawn", "superseded", "contradicted", "merged", "erased", "lost"]


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """A trigger fired and was refused, with the consent reason code."""

    sequence: int
    at_ms: int
    trigger: str
    subject: bytes
    reason: str


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """An event that may not enter, with the reason and the place (index in its batch) but none of its content."""

    at_ms: int
    index: int
    channel: str
    reason: str


@dataclass(frozen=True, slots=True)
class Decisions:
    """Everything one `Shard.apply` decided, in order within each kind; `counts` are the events by outcome."""

    tags: tuple[TagChange, ...] = ()
    orders: tuple[OrderMade, ...] = ()
    recalls: tuple[Recall, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    dead_letters: tuple[DeadLetter, ...] = ()
    counts: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
