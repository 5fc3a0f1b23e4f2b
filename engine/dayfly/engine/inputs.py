"""Everything a shard can be told. Each is a value with its own time; a shard applies them in order and knows nothing else."""

from dataclasses import dataclass
from typing import TypeAlias

from dayfly.engine.events import EventBatch
from dayfly.engine.policy.model import Policy
from dayfly.privacy.consent import ConsentRecord

__all__ = [
    "Arrive",
    "Confirm",
    "ConsentGiven",
    "ConsentWithdrawn",
    "Depart",
    "Erase",
    "FragmentEnded",
    "Input",
    "Merge",
    "OrderRefused",
    "Publish",
    "Tick",
]


@dataclass(frozen=True, slots=True)
class ConsentGiven:
    """A consent record for `subject` (also one that refuses or withdraws: its state says so)."""

    at_ms: int
    subject: bytes
    record: ConsentRecord


@dataclass(frozen=True, slots=True)
class ConsentWithdrawn:
    """Withdrawal by scope: everything granted under `purpose` (at or below) and `topic`, or all with ``"*"``."""

    at_ms: int
    subject: bytes
    purpose: str = "*"
    topic: str = "*"


@dataclass(frozen=True, slots=True)
class Publish:
    """A new policy takes effect for everybody at once, from the retained history."""

    at_ms: int
    policy: Policy


@dataclass(frozen=True, slots=True)
class Merge:
    """`other` turned out to be the same person as `subject`; `subject` stays."""

    at_ms: int
    subject: bytes
    other: bytes


@dataclass(frozen=True, slots=True)
class Erase:
    """Forget the person behind `subject`: history, windows, tags, consents, identity."""

    at_ms: int
    subject: bytes


@dataclass(frozen=True, slots=True)
class OrderRefused:
    """The mint refused an order; a use that the order had spent is given back where its consent allows that."""

    at_ms: int
    order_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class FragmentEnded:
    """A fragment ended outside the shard: `unopened` gives back a use where the consent says so."""

    at_ms: int
    order_id: str
    unopened: bool


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class Depart:
    """The persons behind `subjects` leave shard `source` for shard `to`; they are in its outbox until `Confirm`."""

    at_ms: int
    subjects: tuple[bytes, ...]
    source: int
    to: int


@dataclass(frozen=True, slots=True)
class Arrive:
    """Persons who departed from another shard live here from now on; a parcel that came before changes nothing."""

    at_ms: int
    parcel: bytes


@dataclass(frozen=True, slots=True)
class Confirm:
    """The parcel with this number has durably arrived."""

    at_ms: int
    number: int


Input: TypeAlias = (
    EventBatch
    | ConsentGiven
    | ConsentWithdrawn
    | Publish
    | Merge
    | Erase
    | OrderRefused
    | FragmentEnded
    | Tick
    | Depart
    | Arrive
    | Confirm
)
