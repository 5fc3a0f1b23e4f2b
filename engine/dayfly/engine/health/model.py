"""What the health board shows, as one value: figures of one engine at one instant. No personal data is in it.

Every label comes from the policy, from the settings or from a closed list of reasons, so their number is bounded. Shares are
0 to 1, and None where there is nothing to divide by: nothing is not the same as all well.
"""

from typing import Literal

import msgspec

__all__ = [
    "Attention",
    "AudienceHealth",
    "Budget",
    "ChannelHealth",
    "ConsentHealth",
    "EndpointState",
    "EngineHealth",
    "FieldHealth",
    "FragmentHealth",
    "HealthReport",
    "Hour",
    "LineageHealth",
    "Point",
    "TransferHealth",
]


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the parts of a report."""


class Attention(_Part, frozen=True):
    """Something that somebody should look at.

    Attributes:
        code: Stable name, for alerts.
        what: What is the matter, in words.
        way_out: What to do about it.
    """

    code: str
    what: str
    way_out: str


class Hour(_Part, frozen=True):
    """One hour of a channel, `start_ms` UTC: usable events, everything else that arrived, and what was expected (None: unknown)."""

    start_ms: int
    seen: int
    lost: int
    expected: float | None


class FieldHealth(_Part, frozen=True):
    """A declared field: events of its type in the last days (`DAYS_KEPT`), and how many of them lacked it."""

    event: str
    field: str
    required: bool
    events: int
    missing: int


class ChannelHealth(_Part, frozen=True):
    """One channel over the last 24 full hours and the one that runs.

    Attributes:
        received: Everything that arrived.
        seen: What of it can be used: neither dead letter nor duplicate.
        duplicates, undeclared, not_collected: Repeated events; events of a type that the policy does not declare; events without
            the consent under which the channel collects. The last two are among the seen.
        dead: Dead letters by reason.
        expected: Usable events that were due in the full hours, None while there is nothing to judge by.
        basis: Where the expectation comes from: declared by the operator, or the same hours of the days before.
        completeness: Usable events of those hours for each expected one; above 1 where more came.
        lateness_p50_ms, lateness_p99_ms: Arrival after the event's own time; upper ends of classes that are 19 % wide. None
            without events.
        lateness_max_ms: The largest, exactly.
        silent_ms: Since the last event, None when none ever came.
        total_received, total_dead, total_duplicates: Since the store was made.
        hours: Oldest first, the last one is the one that runs.
        fields: Declared fields of the types that came.
    """

    name: str
    received: int
    seen: int
    duplicates: int
    undeclared: int
    not_collected: int
    dead: dict[str, int]
    expected: float | None
    basis: Literal["declared", "history", "unknown"]
    completeness: float | None
    lateness_p50_ms: int | None
    lateness_p99_ms: int | None
    lateness_max_ms: int | None
    silent_ms: int | None
    total_received: int
    total_dead: dict[str, int]
    total_duplicates: int
    hours: tuple[Hour, ...]
    fields: tuple[FieldHealth, ...]


class Budget(_Part, frozen=True):
    """A budget: what is left of how much, in its unit."""

    left: float
    total: float
    unit: str


class ConsentHealth(_Part, frozen=True):
    """Consents, counted person by person in strides between the engine's other work.

    Attributes:
        at_ms: When the last full count ended, or the report's instant where one is still on its way.
        people: Persons known; those met since the count are among them.
        looked_at: How many of them the figures below are about.
        coverage: Persons whose consent allows at least one use that the policy makes under a purpose, by purpose.
        any_purpose: Persons whose consent allows at least one use.
        given: Consents in force.
        end_24h, end_7d: Those of them that end by themselves within that time.
        uses: Uses left and granted of consents with a use budget, by purpose of the policy (`other`: not declared there).
    """

    at_ms: int
    people: int
    looked_at: int
    coverage: dict[str, int]
    any_purpose: int
    given: int
    end_24h: int
    end_7d: int
    uses: dict[str, Budget]


class FragmentHealth(_Part, frozen=True):
    """Fragments since the store was made.

    Attributes:
        live, minted, leased, tombstones: Numbers. `minted = live + tombstones` whenever the engine is between turns.
        ended: Ends by reason; `expired_unused` are the expired ones that nobody leased.
        refused: Orders that the mint refused, by reason.
    """

    live: int
    minted: int
    leased: int
    tombstones: int
    ended: dict[str, int]
    refused: dict[str, int]

    @property
    def balanced(self) -> bool:
        """Whether every fragment is alive or has its tombstone."""
        return self.minted == self.live + self.tombstones


class AudienceHealth(_Part, frozen=True):
    """What became of an audience's fragments since its delivery began.

    Attributes:
        due: Messages that had to arrive: delivered, handed out, or given up for another reason than that the fragment was
            recalled, replaced or over.
        delivered: Of these, accepted by an endpoint or handed to a pull consumer.
        success: `delivered / due`.
        failed: Given up, by reason.
        queued, oldest_age_ms: Waiting now.
    """

    name: str
    due: int
    delivered: int
    success: float | None
    opened: int
    expired_unused: int
    recalled: int
    failed: dict[str, int]
    queued: int
    oldest_age_ms: int


class EndpointState(_Part, frozen=True):
    """How one endpoint is doing."""

    name: str
    audience: str
    state: str
    queued: int


class LineageHealth(_Part, frozen=True):
    """Whether fragments can be explained.

    Attributes:
        kept: Fragments whose lineage is kept.
        checked: Live fragments whose every field was explained for a report, since the engine was opened; a few per report.
        explained: Those for which it worked.
    """

    kept: int
    checked: int
    explained: int

    @property
    def completeness(self) -> float | None:
        """`explained / checked`."""
        return self.explained / self.checked if self.checked else None


class TransferHealth(_Part, frozen=True):
    """Cross-border decisions, and the audit log that holds them.

    Attributes:
        allowed, refused: Decisions by reason, over the days kept (`DAYS_KEPT`).
        total_allowed, total_refused: The same since the store was made.
        audit_lines: Length of the audit log.
        audit_checked: How many of its lines on disk were found to follow from the line before, since the engine was opened.
        audit_broken: What `verify_audit` said of the first line that does not; empty when all is well.
    """

    allowed: dict[str, int]
    refused: dict[str, int]
    total_allowed: dict[str, int]
    total_refused: dict[str, int]
    audit_lines: int
    audit_checked: int
    audit_broken: str

    @property
    def pass_rate(self) -> float | None:
        """Allowed decisions among all."""
        allowed, refused = sum(self.allowed.values()), sum(self.refused.values())
        return allowed / (allowed + refused) if allowed + refused else None


class EngineHealth(_Part, frozen=True):
    """The engine itself.

    Attributes:
        state: Whether it takes anything in.
        position, durable: Newest frame, and newest durable one.
        log_bytes, log_segments: On disk.
        snapshot_position, snapshot_age_ms: The newest snapshot; its age is None until this process has written one.
        snapshot_error: Why the last one could not be written; empty when it could.
        recovered_frames, recovered_events: Replayed when the engine was opened.
        queue: Events that wait to be taken in.
        feed: Items kept for consumers that come back.
        clock_steps_back, clock_steps_ahead, clock_largest_step_ms, clock_behind_ms: Of the wall clock; see `SteadyClock`.
        checkpoint_size, checkpoint_age_ms: Tombstones under the newest signed checkpoint, and its age.
        memory_locked: Whether fragment keys are in locked memory.
        trouble: What the log has to say; empty when all is well.
    """

    state: Literal["running", "failed", "closed"]
    position: int
    durable: int
    log_bytes: int
    log_segments: int
    snapshot_position: int
    snapshot_age_ms: int | None
    snapshot_error: str
    recovered_frames: int
    recovered_events: int
    queue: int
    feed: int
    clock_steps_back: int
    clock_steps_ahead: int
    clock_largest_step_ms: int
    clock_behind_ms: int
    checkpoint_size: int
    checkpoint_age_ms: int | None
    memory_locked: bool
    trouble: str


class Point(_Part, frozen=True):
    """One instant of the past, for charts: live fragments, events received, fragments minted, all since the store was made."""

    at_ms: int
    live: int
    received: int
    minted: int
    queue: int


class HealthReport(_Part, frozen=True):
    """The health of one engine.

    Attributes:
        at_ms: When, by the engine's clock, UTC.
        policy_version: In force.
        channels: In the order of the policy.
        unplaced: Dead letters and duplicates of no declared channel, by reason.
        budgets: Budgets of the sandbox, where one is attached, by name.
        attention: What should be looked at, most urgent first; empty when all is well.
    """

    at_ms: int
    policy_version: int
    engine: EngineHealth
    channels: tuple[ChannelHealth, ...]
    unplaced: dict[str, int]
    consent: ConsentHealth
    fragments: FragmentHealth
    audiences: tuple[AudienceHealth, ...]
    endpoints: tuple[EndpointState, ...]
    lineage: LineageHealth
    transfers: TransferHealth
    budgets: dict[str, Budget]
    attention: tuple[Attention, ...] = ()
    format: Literal[1] = 1

    @property
    def point(self) -> Point:
        """What of it is kept for charts."""
        return Point(
            at_ms=self.at_ms,
            live=self.fragments.live,
            received=sum(channel.total_received for channel in self.channels),
            minted=self.fragments.minted,
            queue=self.engine.queue,
        )
