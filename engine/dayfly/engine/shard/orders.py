"""From a fired trigger to a fragment order, and from a contradiction or withdrawal to recalls."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, Literal

import msgspec
import numpy as np

from dayfly.engine.decisions import OrderMade, Recall, Refusal
from dayfly.engine.lineage.block import ConsentUse, SourceEvent, encode
from dayfly.engine.lineage.build import FieldEvidence, make_block
from dayfly.engine.lineage.derive import shapes_of
from dayfly.engine.lineage.shape import LineageShape
from dayfly.engine.shard import kernels_layout
from dayfly.engine.shard.consent_needs import trigger_request
from dayfly.engine.shard.consents import Consents
from dayfly.engine.shard.reading import Reader
from dayfly.engine.shard.state import Arrays
from dayfly.engine.tags.tree import Measure
from dayfly.engine.triggers import OnTag, TagHeld, Trigger, TriggerField
from dayfly.privacy.consent import INT64_MAX, ConsentRecord, Decision, ReasonCode
from dayfly.privacy.deident import Masking, Pseudonymise, parse_masking
from dayfly.privacy.errors import InvalidConsent
from dayfly.privacy.fragments import ConsentRef, FragmentOrder, OrderField, Profile, RuleRef

__all__ = ["LiveOrder", "Orders", "recalls"]

_ID_BYTES: Final = 16


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


@dataclass(frozen=True, slots=True)
class _Shown:
    """One field of an order with what it rests on."""

    order_field: OrderField
    raw: object
    events: list[int]


@dataclass(slots=True)
class Orders:
    """Live orders and the making of new ones."""

    arrays: Arrays
    consents: Consents
    reader: Reader
    live: dict[str, LiveOrder] = field(default_factory=dict)
    _by_person: dict[int, dict[str, None]] = field(default_factory=dict)
    last_fired: dict[tuple[int, str], int] = field(default_factory=dict)
    _shapes: Mapping[str, LineageShape] = field(default_factory=dict)
    _masks: dict[tuple[str, str], Masking] = field(default_factory=dict)
    _said: frozenset[str] = frozenset()
    _keys: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Prepare for the policy in force."""
        self.use_policy()

    def use_policy(self) -> None:
        """Take over triggers, masking rules and contradictions of the policy in force."""
        policy = self.arrays.compiled.policy
        self._shapes = shapes_of(policy)
        self._masks = {
            (trigger.name, entry.name): parse_masking(entry.masking)  # type: ignore[arg-type]
            for trigger in policy.triggers
            for entry in trigger.fields
        }
        self._said = frozenset(item.field for item in policy.contradictions)
        self._keys = frozenset(_property(item.key_field) for item in policy.contradictions if item.key_field)

    # --- making -------------------------------------------------------------------------------------------------------

    def fire(self, number: int, person: int, event: int, sequence: int) -> OrderMade | Refusal | None:
        """Make the order of a fired trigger, or say why not; None within its cooldown. Called at the very instant."""
        trigger = self.arrays.compiled.policy.triggers[number]
        now = int(self.arrays.core.control[kernels_layout.CLOCK])
        subject = self.name(person)
        last = self.last_fired.get((person, trigger.name))
        if trigger.cooldown_seconds and last is not None and now < last + trigger.cooldown_seconds * 1000:
            return None
        decision = self.consents.decide(person, trigger_request(trigger), now)
        if not decision.allowed:
            return Refusal(sequence, now, trigger.name, subject, decision.reason.value)
        shown = [
            item for entry in trigger.fields if (item := self._show(trigger, entry, person, now)) is not None
        ]
        if not shown:
            return Refusal(sequence, now, trigger.name, subject, "no_value")
        order = self._order(trigger, person, event, decision, shown, sequence)
        if order.expires_at_ms <= now:
            return Refusal(sequence, now, trigger.name, subject, "expired")
        reserved = self._reserve(person, decision, order.order_id)
        self._remember(trigger, person, event, order, shown, reserved=reserved)
        return OrderMade(sequence, now, order)

    def name(self, person: int) -> bytes:
        """Pseudonym of a person."""
        name: bytes = self.arrays.core.names[person].astype("<u8").tobytes()
        return name

    def _show(self, trigger: Trigger, entry: TriggerField, person: int, now_ms: int) -> _Shown | None:
        """Value of one field, masked; None when there is nothing to show."""
        valid_until: int | None = None
        source = entry.source
        if isinstance(source, Measure):
            value, events = self.reader.measure(person, source, now_ms)
        else:
            number = self.reader.tag_number(source.tag)
            tag = self.arrays.compiled.tags[number]
            held, _, until, _ = self.reader.member(person, number)
            if held and until != INT64_MAX:
                valid_until = until
            if isinstance(source, TagHeld):
                value, events = held, self.reader.tag_events(person, tag, now_ms)
            elif not held:
                return None
            else:
                measure = next(item.measure for item in tag.captures if item.name == source.capture)
                value, events = self.reader.measure(person, measure, now_ms)
        if value is None:
            return None
        mask = self._masks[trigger.name, entry.name]
        masked = _json(value)
        if not isinstance(
            mask, Pseudonymise
        ):  # that one needs a key, which no shard has: the mint applies it
            masked = mask.apply(masked)
        if isinstance(masked, list):
            masked = tuple(masked)
        if not isinstance(masked, str | int | float | bool | tuple):
            return None
        return _Shown(OrderField(entry.name, masked, valid_until), value, events)

    def _order(
        self,
        trigger: Trigger,
        person: int,
        event: int,
        decision: Decision,
        shown: list[_Shown],
        sequence: int,
    ) -> FragmentOrder:
        now = int(self.arrays.core.control[kernels_layout.CLOCK])
        subject = self.name(person)
        ends = [
            item.order_field.valid_until_ms for item in shown if item.order_field.valid_until_ms is not None
        ]
        seed = f"{trigger.name}\x1f{now}\x1f{sequence}".encode() + subject
        identity = hashlib.blake2b(seed, digest_size=_ID_BYTES, person=b"dayfly-order-1").digest()
        supersedes = tuple(
            order.order_id
            for order in self.of_person(person)
            if order.trigger == trigger.name and order.audience == trigger.audience
        )
        return FragmentOrder(
            order_id=identity.hex(),
            audience=trigger.audience,
            purpose=trigger.purpose,
            topic=trigger.topic,
            trigger_id=self._cause(trigger, person, event, identity),
            rule=RuleRef(trigger.name, trigger.version),
            fields=tuple(item.order_field for item in shown),
            subject=subject,
            consent=(ConsentRef(decision.record_id, decision.record_version, decision.until_ms),),
            use=trigger.uses,
            ttl_seconds=trigger.ttl_seconds,
            issued_at_ms=now,
            expires_at_ms=min(now + trigger.ttl_seconds * 1000, decision.until_ms, *ends),
            lineage=self._lineage(trigger, person, decision, shown, now),
            profile=Profile(trigger.profile),
            version=sequence,
            supersedes=supersedes,
        )

    def _cause(self, trigger: Trigger, person: int, event: int, identity: bytes) -> bytes:
        """Keyed id of the event that caused the order: the trigger's own, or the newest that its tag looks at."""
        if event < 0 and isinstance(trigger.when, OnTag):
            tag = self.arrays.compiled.tags[self.reader.tag_number(trigger.when.tag)]
            now = int(self.arrays.core.control[kernels_layout.CLOCK])
            event = next(iter(self.reader.tag_events(person, tag, now)), -1)
        return identity if event < 0 else self._digest(event)

    def _digest(self, event: int) -> bytes:
        return (
            self.arrays.core.history[event, kernels_layout.H_DIGEST : kernels_layout.H_DIGEST + 2]
            .astype("<i8")
            .tobytes()
        )

    def _lineage(
        self, trigger: Trigger, person: int, decision: Decision, shown: list[_Shown], now_ms: int
    ) -> bytes:
        history = self.arrays.core.history
        fields = {}
        for item in shown:
            rows = [history[event] for event in item.events[:8]]
            sources = [
                SourceEvent(
                    self._digest(event), int(row[kernels_layout.H_CHANNEL]), int(row[kernels_layout.H_TIME])
                )
                for event, row in zip(item.events, rows, strict=False)
            ]
            fields[item.order_field.name] = FieldEvidence(sources, len(item.events))
        consent = ConsentUse(
            decision.record_id,
            decision.record_version,
            self._consent_start(person, decision),
            decision.until_ms,
        )
        block = make_block(self._shapes[trigger.name], as_of_ms=now_ms, consents=(consent,), fields=fields)
        return encode(block)

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
        self,
        trigger: Trigger,
        person: int,
        event: int,
        order: FragmentOrder,
        shown: list[_Shown],
        *,
        reserved: bool,
    ) -> None:
        for order_id in order.supersedes:
            self._drop(order_id)
        said = {item.order_field.name: str(item.raw) for item in shown if item.order_field.name in self._said}
        values = self.reader.properties(event) if event >= 0 and said else {}
        key = {name: str(values[name]) for name in self._keys if name in values}
        if trigger.cooldown_seconds:
            self.last_fired[person, trigger.name] = order.issued_at_ms
        kept = (order.order_id, person, trigger.name, order.audience, order.expires_at_ms)
        self.add(LiveOrder(*kept, said, dict(sorted(key.items())), reserved))

    # --- ending -------------------------------------------------------------------------------------------------------

    def of_person(self, person: int) -> list[LiveOrder]:
        """Live orders of a person, oldest first; those that expired are forgotten."""
        now = int(self.arrays.core.control[kernels_layout.CLOCK])
        mine = [self.live[order_id] for order_id in self._by_person.get(person, ())]
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
        triggers = {trigger.name: trigger for trigger in self.arrays.compiled.policy.triggers}
        ended = []
        for order in self.of_person(person):
            trigger = triggers.get(order.trigger)
            if trigger is None:
                ended.append(order)
                continue
            decision = self.consents.decide(person, trigger_request(trigger), now)
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
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, list):
        return [_json(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
