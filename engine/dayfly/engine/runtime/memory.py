"""The engine in one process, in memory: intake, shard, mint, lineage and audit put together.

Everything that reads a clock or draws randomness is outside: callers pass instants, keys and a source of random bytes.
What a crash would lose is lost here; the durable runtime hosts the same shard.
"""

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Final, Self

import msgspec

from dayfly.engine.decisions import Decisions, OrderMade, Recall
from dayfly.engine.errors import LineageError
from dayfly.engine.inputs import (
    ConsentGiven,
    ConsentWithdrawn,
    Erase,
    FragmentEnded,
    Input,
    Merge,
    OrderRefused,
    Publish,
    Tick,
)
from dayfly.engine.intake import Intake, IntakeResult
from dayfly.engine.lineage import LineageStore, shapes_of
from dayfly.engine.lineage.explain import Explanation
from dayfly.engine.lineage.seam import LineageReads
from dayfly.engine.policy.model import Policy
from dayfly.engine.runtime.gate import Gate
from dayfly.engine.runtime.keys import EngineKeys
from dayfly.engine.shard.orders import ORDER_ID_CHARS
from dayfly.engine.shard.shard import Shard
from dayfly.privacy.audit_log import GENESIS, AuditHead, AuditLog
from dayfly.privacy.consent import ConsentRecord
from dayfly.privacy.deident import Pairwise, Pseudonymise, parse_masking
from dayfly.privacy.errors import FragmentError
from dayfly.privacy.fragments import (
    Destroyed,
    DestroyReason,
    Fragment,
    FragmentOrder,
    FragmentService,
    Lease,
    LeaseRequest,
    ServiceSettings,
    TombstoneSink,
)
from dayfly.privacy.fragments.tombstones.graveyard import Graves
from dayfly.privacy.transfers import TransferCounts

__all__ = ["MemoryEngine", "MintRefusal", "Outcome", "Resume"]


@dataclass(frozen=True, slots=True)
class MintRefusal:
    """An order that the mint refused, and the error's kind."""

    order_id: str
    trigger: str
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one call brought.

    Attributes:
        decisions: The shard's decisions.
        fragments: Minted, in the order of their orders.
        mint_refusals: Orders that the full decision at the mint refused.
        destroyed: Fragments that died: recalled, superseded or expired.
        intake: Counts of the intake, empty when nothing came through it.
    """

    decisions: Decisions
    fragments: tuple[Fragment, ...] = ()
    mint_refusals: tuple[MintRefusal, ...] = ()
    destroyed: tuple[Destroyed, ...] = ()
    intake: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def joined(cls, outcomes: Sequence["Outcome"]) -> "Outcome":
        """Several outcomes, one after the other, as one."""
        if len(outcomes) == 1:
            return outcomes[0]
        return cls(
            decisions=_joined([outcome.decisions for outcome in outcomes]),
            fragments=tuple(item for outcome in outcomes for item in outcome.fragments),
            mint_refusals=tuple(item for outcome in outcomes for item in outcome.mint_refusals),
            destroyed=tuple(item for outcome in outcomes for item in outcome.destroyed),
            intake=sum((Counter(outcome.intake) for outcome in outcomes), Counter[str]()),
        )


@dataclass(frozen=True, slots=True)
class Resume:
    """State that an engine goes on from.

    Attributes:
        shard: Restored, with the policy in force.
        transfers: Who was counted at the border this year.
        audit: Head of the audit log.
        graves: The log of destroyed fragments.
    """

    shard: Shard
    transfers: TransferCounts
    audit: AuditHead
    graves: Graves


_MAX_ROUNDS: Final = 4

_RECALLED = {
    "withdrawn": DestroyReason.WITHDRAWN,
    "superseded": DestroyReason.SUPERSEDED,
    "contradicted": DestroyReason.SUPERSEDED,
    "merged": DestroyReason.WITHDRAWN,
    "erased": DestroyReason.ERASED,
}


class MemoryEngine:
    """The whole loop for one tenant. Thread-safe: one call at a time, leases included.

    Args:
        policy: A checked policy.
        keys: All keys.
        recipients: Audience -> RFC 7638 thumbprint of the key it registered.
        random_bytes: Randomness for token ids, salts and nonces.
        issuer: `iss` of every fragment.
        lease_url: Where CRMs lease keys.
        audit: Takes the lines of the audit log; default: kept in memory.
        tombstones: Makes the tombstone log outlive the process.
        lineage: Where lineage is kept; default: in memory.
        expected_people: Tables are made large enough for so many persons at once.
        settings: Limits of the fragment service.
        tap: Sees the inputs of each `apply`, the instant after it and what was decided, for a log.
        resume: What to go on from; `policy` is then the one in force there, and `tombstones` not used.
        shards: Number of engines that share the yearly head-counts of transfers; see `Gate`.
        nonce_key: As of `FragmentService`.
    """

    def __init__(
        self,
        policy: Policy,
        keys: EngineKeys,
        *,
        recipients: Mapping[str, str],
        random_bytes: Callable[[int], bytes],
        issuer: str = "https://cdp.example",
        lease_url: str = "https://cdp.example/lease",
        audit: Callable[[bytes], object] | None = None,
        tombstones: TombstoneSink | None = None,
        lineage: LineageReads | None = None,
        expected_people: int = 1_000,
        settings: ServiceSettings | None = None,
        tap: Callable[[Sequence[Input], int, Decisions], None] | None = None,
        resume: Resume | None = None,
        shards: int = 1,
        nonce_key: bytes | None = None,
    ) -> None:
        self._lock = threading.RLock()
        self._keys = keys
        self._tap = tap
        self.shard = resume.shard if resume else Shard(policy, expected_people=expected_people)
        self.audit_lines: list[bytes] = []
        self.audit = AuditLog(
            audit or self.audit_lines.append, key=keys.audit, head=resume.audit if resume else GENESIS
        )
        self.transfers = resume.transfers if resume else TransferCounts()
        # An empty store is falsy.
        self.lineage = LineageStore.in_memory(subject_key=keys.lineage) if lineage is None else lineage
        self.fragments = FragmentService(
            issuer=issuer,
            keys=keys.signing,
            recipients=recipients,
            pairwise_sub=Pairwise(keys.pairwise),
            gate=Gate(
                lambda: self.shard.policy, self.shard.consents_of, self.transfers, self.audit, shards=shards
            ),
            note_signer=keys.notes,
            lease_url=lease_url,
            random_bytes=random_bytes,
            sink=tombstones,
            graves=resume.graves if resume else None,
            settings=settings,
            nonce_key=nonce_key,
        )
        self._jti_of_order: dict[str, str] = {}
        self._unreported: Outcome | None = None
        self._closed = False
        self._use_policy(policy)

    def _use_policy(self, policy: Policy) -> None:
        self.intake = Intake(policy, self._keys.intake)
        self.lineage.declare(shapes_of(policy).values())
        self._pseudonymised = {
            (trigger.name, entry.name): mask
            for trigger in policy.triggers
            for entry in trigger.fields
            if isinstance(mask := parse_masking(entry.masking), Pseudonymise)  # type: ignore[arg-type]
        }

    # --- telling it -------------------------------------------------------------------------------------------------

    def segment(self, payloads: Sequence[bytes], channel: str, received_ms: int) -> Outcome:
        """Take Segment or RudderStack payloads in, decide, mint."""
        with self._lock:
            return self.take(self.intake.segment(payloads, channel, received_ms), received_ms)

    def take(self, result: IntakeResult, now_ms: int) -> Outcome:
        """Take the outcome of an intake call in, decide, mint."""
        return self._apply([result.batch, *result.merges], now_ms, result.counts)

    def consent(self, subject: bytes, record: ConsentRecord, now_ms: int) -> Outcome:
        """Record a consent act of a person."""
        return self.apply([ConsentGiven(now_ms, subject, record)], now_ms)

    def withdraw(self, subject: bytes, now_ms: int, *, purpose: str = "*", topic: str = "*") -> Outcome:
        """Withdraw consent; tags, live fragments and their keys under it are gone when this returns."""
        return self.apply([ConsentWithdrawn(now_ms, subject, purpose, topic)], now_ms)

    def erase(self, subject: bytes, now_ms: int) -> Outcome:
        """Forget a person: state, live fragments, lineage."""
        with self._lock:
            outcome = self.apply([Erase(now_ms, subject)], now_ms)
            destroyed = self.fragments.shred_subject(subject, now_ms)
            self.lineage.erase(subject)
            return replace(outcome, destroyed=(*outcome.destroyed, *destroyed))

    def publish(self, policy: Policy, now_ms: int) -> Outcome:
        """Put a new policy in force, for everybody at once and from history."""
        return self.apply([Publish(now_ms, policy)], now_ms)

    def tick(self, now_ms: int) -> Outcome:
        """Let time pass."""
        return self.apply([Tick(now_ms)], now_ms)

    def apply(self, inputs: Sequence[Input], now_ms: int) -> Outcome:
        """Apply inputs to the shard and do what it decides: mint, recall, expire.

        Raises:
            ShardError: an input cannot be applied; nothing was changed.
        """
        return self._apply(inputs, now_ms, {})

    def _apply(self, inputs: Sequence[Input], now_ms: int, counts: Mapping[str, int]) -> Outcome:
        with self._lock:
            expired = self.fragments.expire(now_ms)
            if expired:
                inputs = [
                    *[FragmentEnded(now_ms, item.order_id, item.leases == 0) for item in expired],
                    *inputs,
                ]
            decisions = self._decide(inputs, now_ms)
            for item in inputs:
                if isinstance(item, Publish):
                    self._use_policy(item.policy)
                elif isinstance(item, Merge):
                    self.lineage.merge(item.subject, item.other)
            early, self._unreported = self._unreported, None
            if decisions.orders or decisions.recalls:
                done = self.carry_out(decisions, now_ms)
                destroyed = (*expired, *done.destroyed)
                outcome = Outcome(done.decisions, done.fragments, done.mint_refusals, destroyed, counts)
            else:
                outcome = Outcome(decisions, destroyed=expired, intake=counts)
            for gone in outcome.destroyed:
                self._jti_of_order.pop(gone.order_id, None)
            return outcome if early is None else Outcome.joined([early, outcome])

    def _decide(self, inputs: Sequence[Input], now_ms: int) -> Decisions:
        decisions = self.shard.apply(inputs, now_ms)
        if self._tap is not None:
            self._tap(inputs, now_ms, decisions)
        return decisions

    def carry_out(self, decisions: Decisions, now_ms: int) -> Outcome:
        """Mint and recall in the order in which the shard decided, and whatever follows from refused orders.

        `apply` does it; only a host that recovers decisions which a crash left undone calls it itself.
        """
        rounds = [self._carry_out_once(decisions, now_ms)]
        # A use that comes back can let a tag in again, which can fire a trigger that is refused again: where that does
        # not end, the use stays spent.
        while (done := rounds[-1]).mint_refusals and len(rounds) < _MAX_ROUNDS:
            refused = [OrderRefused(now_ms, item.order_id, item.reason) for item in done.mint_refusals]
            rounds.append(self._carry_out_once(self._decide(refused, now_ms), now_ms))
        return Outcome.joined(rounds)

    def _carry_out_once(self, decisions: Decisions, now_ms: int) -> Outcome:
        destroyed: list[Destroyed] = []
        fragments: list[Fragment] = []
        refusals: list[MintRefusal] = []
        steps: list[OrderMade | Recall] = [*decisions.orders, *decisions.recalls]
        steps.sort(key=attrgetter("sequence"))
        for step in steps:
            if isinstance(step, Recall):
                destroyed += self._recall(step, now_ms)
                continue
            try:
                fragments.append(self._mint(step.order, now_ms))
            except FragmentError as error:
                refusals.append(MintRefusal(step.order.order_id, step.order.rule.id, _reason(error)))
        return Outcome(decisions, tuple(fragments), tuple(refusals), tuple(destroyed))

    def _mint(self, order: FragmentOrder, now_ms: int) -> Fragment:
        fragment = self.fragments.mint(self._with_pseudonyms(order), now_ms)
        self.lineage.put(fragment.jti, order)
        self._jti_of_order[order.order_id] = fragment.jti
        self.audit.append(
            "mint",
            order.subject,
            now_ms,
            {"order_id": order.order_id, "jti": fragment.jti, "audience": order.audience},
        )
        return fragment

    def _with_pseudonyms(self, order: FragmentOrder) -> FragmentOrder:
        """Apply the masks that need a key, which the shard does not have."""
        if not self._pseudonymised or not any(
            (order.rule.id, item.name) in self._pseudonymised for item in order.fields
        ):
            return order
        fields = []
        for item in order.fields:
            mask = self._pseudonymised.get((order.rule.id, item.name))
            if mask is not None:
                masked = mask.apply(item.value, keys=self._keys.intake.pseudonyms)
                item = msgspec.structs.replace(item, value=masked)  # noqa: PLW2901 - the masked form replaces it
            fields.append(item)
        return msgspec.structs.replace(order, fields=tuple(fields))

    def _recall(self, recall: Recall, now_ms: int) -> list[Destroyed]:
        """Destroy the keys of recalled fragments, and refuse to mint those orders later."""
        destroyed: list[Destroyed] = []
        for order_id in recall.order_ids:
            jti = self._jti_of_order.get(order_id)
            if jti is not None:
                destroyed += self.fragments.shred(jti, _RECALLED[recall.reason], now_ms)
        self.fragments.supersede(recall.order_ids, now_ms)
        return destroyed

    # --- leasing and explaining ---------------------------------------------------------------------------------------

    def lease(self, request: LeaseRequest, now_ms: int) -> Lease:
        """Give a CRM the key of a fragment, if everything allows it at this instant.

        Raises:
            LeaseRefused: with a code; the CRM learns nothing else.
        """
        with self._lock:
            # What time brings comes first: a consent that has just ended is a no. Later calls report it.
            self._unreported = self.apply([], now_ms)
            return self.fragments.lease(request, now_ms)

    def explain(self, fragment_id: str, name: str) -> Explanation:
        """Why the CRM sees a field of a fragment (by jti or order id).

        Raises:
            LineageError: no such fragment or field.
        """
        with self._lock:
            return self.lineage.explain(self._jti(fragment_id), name)

    def explain_all(self, fragment_id: str) -> tuple[Explanation, ...]:
        """Explanations of all fields of a fragment.

        Raises:
            LineageError: no such fragment.
        """
        with self._lock:
            return self.lineage.explain_all(self._jti(fragment_id))

    def _jti(self, fragment_id: str) -> str:
        if (
            len(fragment_id) != ORDER_ID_CHARS
        ):  # to look for it among the orders would cost as much as all the rest
            return fragment_id
        try:
            return self.lineage.jti_of(fragment_id)
        except LineageError:
            return fragment_id

    def refusals_by_reason(self, outcome: Outcome) -> Counter[str]:
        """Refusals of one outcome, counted by reason code."""
        counted = Counter(item.reason for item in outcome.decisions.refusals)
        counted.update(f"mint.{item.reason}" for item in outcome.mint_refusals)
        return counted

    def close(self) -> None:
        """Destroy every live key and close the lineage; a second time does nothing."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self.fragments.close()
                self.lineage.close()

    def __enter__(self) -> Self:
        """The engine itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


def _joined(parts: Sequence[Decisions]) -> Decisions:
    return Decisions(
        tags=tuple(item for part in parts for item in part.tags),
        orders=tuple(item for part in parts for item in part.orders),
        recalls=tuple(item for part in parts for item in part.recalls),
        refusals=tuple(item for part in parts for item in part.refusals),
        dead_letters=tuple(item for part in parts for item in part.dead_letters),
        counts=sum((Counter(part.counts) for part in parts), Counter[str]()),
    )


def _reason(error: FragmentError) -> str:
    cause = error.__cause__
    reason = getattr(cause, "reason", None)
    return str(reason) if reason is not None else type(cause or error).__name__
