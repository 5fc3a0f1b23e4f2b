"""From a fired trigger to a fragment order, and from a contradiction or withdrawal to recalls."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec
import numpy as np

from dayfly.engine.decisions import OrderMade, Recall, Refusal
from dayfly.engine.lineage.block import ConsentUse
from dayfly.engine.lineage.build import Source, block_bytes
from dayfly.engine.shard import kernels_layout
from dayfly.engine.shard.consents import Consents
from dayfly.engine.shard.order_plans import FieldPlan, OrderPlan, plans_of
from dayfly.engine.shard.reading import Cell, Reader
from dayfly.engine.shard.state import Arrays
from dayfly.privacy.consent import INT64_MAX, ConsentRecord, Decision, PersonConsents, ReasonCode
from dayfly.privacy.errors import InvalidConsent
from dayfly.privacy.fragments import ConsentRef, FragmentOrder, OrderField

__all__ = ["ORDER_ID_CHARS", "LiveOrder", "Orders", "recalls"]

_ID_BYTES: Final = 16
ORDER_ID_CHARS: Final = 2 * _ID_BYTES
"""Length of the hexadecimal id of an order."""
_NAMED: Final = 8
"""Events of a field that lineage may name."""


class LiveOrder(msgspec.Struct, frozen=True):
    """An order whose fragment may still be alive.

    Attributes:
        said: Values of those fields that a contradiction of the policy can make untrue.
        key: Values of the triggering event's fields that a contradiction may compare, by name.
        reserved: Whether a use of a consent was spent for it.
    """

    order_id: str
    person: int
    trigger: str
    audience: str
    expires_at_ms: int
    said: dict[str, str] = {}
    key: dict[str, str] = {}
    reserved: bool = False


class _Shown(msgspec.Struct, frozen=True, gc=False):
    """One field of an order with what it rests on."""

    plan: FieldPlan
    order_field: OrderField
    raw: object
    events: list[int]


class _Firing(msgspec.Struct, frozen=True, gc=False):
    """A trigger that fires for a person, allowed by its consents."""

    plan: OrderPlan
    person: int
    subject: bytes
    event: int
    sequence: int
    now_ms: int
    decision: Decision


_PLAIN: Final = frozenset((str, int, bool, float))
_NOBODY: Final = PersonConsents("nobody")


@dataclass(slots=True)
class Orders:
    """Live orders and the making of new ones."""

    arrays: Arrays
    consents: Consents
    reader: Reader
    live: dict[str, LiveOrder] = field(default_factory=dict)
    _by_person: dict[int, dict[str, None]] = field(default_factory=dict)
    last_fired: dict[tuple[int, str], int] = field(default_factory=dict)
    _plans: tuple[OrderPlan, ...] = ()
    _plan_of: dict[str, OrderPlan] = field(default_factory=dict)
    _said: frozenset[str] = frozenset()
    _keys: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Prepare for the policy in force."""
        self.use_policy()

    def use_policy(self) -> None:
        """Take over triggers, masking rules and contradictions of the policy in force."""
        policy = self.arrays.compiled.policy
        self._plans = plans_of(policy, self.reader)
        self._plan_of = {plan.name: plan for plan in self._plans}
        self._said = frozenset(item.field for item in policy.contradictions)
        self._keys = frozenset(_property(item.key_field) for item in policy.contradictions if item.key_field)

    # --- making -------------------------------------------------------------------------------------------------------

    def fire(self, number: int, person: int, event: int, sequence: int) -> OrderMade | Refusal | None:
        """Make the order of a fired trigger, or say why not; None within its cooldown. Called at the very instant."""
        plan = self._plans[number]
        now = int(self.arrays.core.control[kernels_layout.CLOCK])
        if plan.cooldown_ms:
            last = self.last_fired.get((person, plan.name))
            if last is not None and now < last + plan.cooldown_ms:
                return None
        subject = self.name(person)
        decision = plan.decider(self.consents.states.get(person, _NOBODY), now)
        if not decision.allowed:
            return Refusal(sequence, now, plan.name, subject, decision.reason.value)
        gathered = self.reader.gather(person, plan.wants, now)
        shown = [item for entry in plan.fields if (item := self._show(entry, person, gathered)) is not None]
        if not shown:
            return Refusal(sequence, now, plan.name, subject, "no_value")
        firing = _Firing(plan, person, subject, event, sequence, now, decision)
        order = self._order(firing, shown, gathered)
        if order.expires_at_ms <= now:
            return Refusal(sequence, now, plan.name, subject, "expired")
        reserved = self._reserve(person, decision, order.order_id)
        self._remember(firing, order, shown, reserved=reserved)
        return OrderMade(sequence, now, order)

    def name(self, person: int) -> bytes:
        """Pseudonym of a person."""
        name: bytes = self.arrays.core.names[person].astype("<u8").tobytes()
        return name

    def _show(self, entry: FieldPlan, person: int, gathered: list[list[Cell]]) -> _Shown | None:
        """Value of one field, masked; None when there is nothing to show."""
        valid_until: int | None = None
        held = True
        if entry.tag >= 0:
            held, _, until, _ = self.reader.member(person, entry.tag)
            if held and until != INT64_MAX:
                valid_until = until
        value: object
        if entry.measure is not None:
            if not held:
                return None
            value, events = self.reader.value(entry.measure, gathered[entry.first])
        else:
            value, events = held, self.reader.together(gathered[entry.first : entry.end])
        if value is None:
            return None
        masked: Any = _json(value)
        if entry.mask is not None:
            masked = entry.mask.apply(masked)
        if isinstance(masked, list):
            masked = tuple(masked)
        if not isinstance(masked, str | int | float | bool | tuple):
            return None
        return _Shown(entry, OrderField(entry.name, masked, valid_until), value, events)

    def _order(self, firing: _Firing, shown: list[_Shown], gathered: list[list[Cell]]) -> FragmentOrder:
        plan, now, decision, subject = firing.plan, firing.now_ms, firing.decision, firing.subject
        seed = f"{plan.name}\x1f{now}\x1f{firing.sequence}".encode() + subject
        identity = hashlib.blake2b(seed, digest_size=_ID_BYTES, person=b"dayfly-order-1").digest()
        expires_at_ms = min(now + plan.ttl_seconds * 1000, decision.until_ms)
        for item in shown:
            until_ms = item.order_field.valid_until_ms
            if until_ms is not None and until_ms < expires_at_ms:
                expires_at_ms = until_ms
        event = firing.event
        if event < 0 and plan.cause is not None:  # the newest event that the entered tag looks at
            event = next(iter(self.reader.together(gathered[plan.cause :])), -1)
        cause, lineage = self._evidence(firing, event, shown)
        return FragmentOrder(
            order_id=identity.hex(),
            audience=plan.audience,
            purpose=plan.purpose,
            topic=plan.topic,
            trigger_id=identity if event < 0 else cause,
            rule=plan.rule,
            fields=tuple([item.order_field for item in shown]),
            subject=subject,
            consent=(ConsentRef(decision.record_id, decision.record_version, decision.until_ms),),
            use=plan.uses,
            ttl_seconds=plan.ttl_seconds,
            issued_at_ms=now,
            expires_at_ms=expires_at_ms,
            lineage=lineage,
            profile=plan.profile,
            version=firing.sequence,
            supersedes=tuple(
                [
                    order.order_id
                    for order in self.of_person(firing.person)
                    if order.trigger == plan.name and order.audience == plan.audience
                ]
            ),
        )

    def _evidence(self, firing: _Firing, cause: int, shown: list[_Shown]) -> tuple[bytes, bytes]:
        """Keyed id of the causing event (empty for none), and the lineage block."""
        wanted = {event: None for item in shown for event in item.events[:_NAMED]}
        if cause >= 0:
            wanted[cause] = None
        sources = self._sources(list(wanted))
        decision = firing.decision
        lineage = block_bytes(
            firing.plan.shape,
            as_of_ms=firing.now_ms,
            consent=ConsentUse(
                decision.record_id,
                decision.record_version,
                self._consent_start(firing.person, decision),
                decision.until_ms,
            ),
            fields=[
                (item.plan.index, [sources[event] for event in item.events[:_NAMED]], len(item.events))
                for item in shown
            ],
        )
        return sources[cause][1] if cause >= 0 else b"", lineage

    def _sources(self, events: list[int]) -> dict[int, Source]:
        """What lineage says of events, by number."""
        if not events:
            return {}
        rows = self.arrays.core.history[events]
        times, channels = rows[:, kernels_layout.H_TIME].tolist(), rows[:, kernels_layout.H_CHANNEL].tolist()
        digests = rows[:, kernels_layout.H_DIGEST : kernels_layout.H_DIGEST + 2].astype("<i8").tobytes()
        return {
            event: (-times[place], digests[16 * place : 16 * place + 16], channels[place])
            for place, event in enumerate(events)
        }

    def _consent_start(self, person: int, decision: Decision) -> int:
        entries = self.consents.states[person].entries
        starts = [
            entry.valid_from_ms
            for entry in entries
            if isinstance(entry, ConsentRecord)
            and entry.record_id == decision.record_id
            and entry.version == decision.record_version
        ]
        return max(starts, default=0)

    def _reserve(self, person: int, decision: Decision, order_id: str) -> bool:
        """Spend one use where the consent has a budget."""
        if decision.uses_left is None:
            return False
        state = self.consents.states[person]
        self.consents.change(person, state.with_use(decision.record_id, 1, order_id))
        return True

    def _remember(
        self, firing: _Firing, order: FragmentOrder, shown: list[_Shown], *, reserved: bool
    ) -> None:
        plan = firing.plan
        for order_id in order.supersedes:
            self._drop(order_id)
        said: dict[str, str] = {}
        key: dict[str, str] = {}
        if self._said:
            said = {item.plan.name: str(item.raw) for item in shown if item.plan.name in self._said}
        if firing.event >= 0 and said:
            values = self.reader.properties(firing.event)
            key = {name: str(values[name]) for name in sorted(self._keys) if name in values}
        if plan.cooldown_ms:
            self.last_fired[firing.person, plan.name] = order.issued_at_ms
        kept = (order.order_id, firing.person, plan.name, order.audience, order.expires_at_ms)
        self.add(LiveOrder(*kept, said, key, reserved))

    # --- ending -------------------------------------------------------------------------------------------------------

    def of_person(self, person: int) -> list[LiveOrder]:
        """Live orders of a person, oldest first; those that expired are forgotten."""
        now = int(self.arrays.core.control[kernels_layout.CLOCK])
        known = self._by_person.get(person)
        if known is None:
            return []
        mine = [self.live[order_id] for order_id in known]
        for order in mine:
            if order.expires_at_ms <= now:
                self._drop(order.order_id)
        return [order for order in mine if order.expires_at_ms > now]

    def add(self, order: LiveOrder) -> None:
        """Keep a live order; the oldest ones are let go when they have expired."""
        self.live[order.order_id] = order
        self._by_person.setdefault(order.person, {})[order.order_id] = None
        now = int(self.arrays.core.control[kernels_layout.CLOCK])
        while (oldest := next(iter(self.live.values()))).expires_at_ms <= now:
            self._drop(oldest.order_id)

    def _drop(self, order_id: str) -> LiveOrder | None:
        order = self.live.pop(order_id, None)
        if order is not None:
            mine = self._by_person[order.person]
            del mine[order_id]
            if not mine:
                del self._by_person[order.person]
        return order

    def contradict(self, number: int, person: int, event: int) -> list[LiveOrder]:
        """Take out the live orders that an event makes untrue."""
        rule = self.arrays.compiled.policy.contradictions[number]
        ended = [order for order in self.of_person(person) if order.said.get(rule.field) in rule.values]
        if rule.key_field is not None:
            name = _property(rule.key_field)
            value = str(self.reader.properties(event).get(name))
            ended = [order for order in ended if order.key.get(name) == value]
        return self._take_out(ended)

    def recheck(self, person: int) -> list[LiveOrder]:
        """Take out the live orders that the person's consents no longer allow; a use they spent themselves is not a no."""
        now = int(self.arrays.core.control[kernels_layout.CLOCK])
        ended = []
        for order in self.of_person(person):
            plan = self._plan_of.get(order.trigger)
            if plan is None:
                ended.append(order)
                continue
            decision = plan.decider(self.consents.states.get(person, _NOBODY), now)
            if not (decision.allowed or (order.reserved and decision.reason is ReasonCode.SPENT)):
                ended.append(order)
        return self._take_out(ended)

    def forget(self, person: int) -> list[LiveOrder]:
        """Take out all live orders of a person."""
        for key in [key for key in self.last_fired if key[0] == person]:
            del self.last_fired[key]
        return self._take_out(self.of_person(person))

    def move(self, goes: int, stays: int) -> None:
        """Live orders of one person belong to another from now on."""
        for order in self.of_person(goes):
            self._drop(order.order_id)
            self.add(msgspec.structs.replace(order, person=stays))
        for person, trigger in [key for key in self.last_fired if key[0] == goes]:
            at = self.last_fired.pop((person, trigger))
            self.last_fired[stays, trigger] = max(at, self.last_fired.get((stays, trigger), at))

    def give_back(self, order_id: str, *, unopened: bool) -> int | None:
        """End an order from outside; a use that nobody looked at comes back where its consent says so.

        Returns:
            The person whose consents changed, or None.
        """
        order = self._drop(order_id)
        if order is None or not order.reserved or not unopened:
            return None
        state = self.consents.states.get(order.person)
        if state is None:
            return None
        try:
            self.consents.change(order.person, state.with_use_restored(order_id))
        except InvalidConsent:  # the consent says that a use is spent even when nobody looked
            return None
        return order.person

    def _take_out(self, orders: Iterable[LiveOrder]) -> list[LiveOrder]:
        return [order for order in orders if self._drop(order.order_id) is not None]


def recalls(
    ended: Iterable[LiveOrder],
    sequence: int,
    at_ms: int,
    reason: Literal["withdrawn", "superseded", "contradicted", "merged", "erased"],
) -> list[Recall]:
    """One recall per audience, all under one sequence number."""
    by_audience: dict[str, list[str]] = {}
    for order in ended:
        by_audience.setdefault(order.audience, []).append(order.order_id)
    return [Recall(sequence, at_ms, tuple(ids), audience, reason) for audience, ids in by_audience.items()]


def _property(path: str) -> str:
    return path.removeprefix("properties.").removeprefix("traits.")


def _json(value: object) -> object:
    """A value as JSON would hold it; exact decimals become integers or the nearest double."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, list):
        return [_json(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
