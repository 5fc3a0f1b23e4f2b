"""The shard: a deterministic state machine over inputs. No clock, no randomness, no I/O, no keys.

Same inputs, same decisions and same snapshot, byte for byte, wherever the stream of inputs is cut into calls.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Self, assert_never

import numpy as np

from dayfly.engine.decisions import DeadLetter, Decisions, OrderMade, Recall, Refusal, TagChange
from dayfly.engine.errors import ShardError
from dayfly.engine.events import EventBatch
from dayfly.engine.inputs import (
    Arrive,
    Confirm,
    ConsentGiven,
    ConsentWithdrawn,
    Depart,
    Erase,
    FragmentEnded,
    Input,
    Merge,
    OrderRefused,
    Publish,
    Tick,
)
from dayfly.engine.policy.model import Policy
from dayfly.engine.shard import (
    identity,
    kernels_core,
    kernels_layout,
    kernels_run,
    kernels_settle,
    moving,
    publishing,
    snapshots,
)
from dayfly.engine.shard.batches import columns_of, single_event
from dayfly.engine.shard.compile import Compiled, compile_policy
from dayfly.engine.shard.consents import Consents
from dayfly.engine.shard.moves import Moves
from dayfly.engine.shard.orders import Orders, recalls
from dayfly.engine.shard.reading import Reader
from dayfly.engine.shard.state import Arrays
from dayfly.engine.shard.waiting import WaitingRoom
from dayfly.engine.tags.tree import Measure
from dayfly.privacy.consent import PersonConsents
from dayfly.privacy.errors import InvalidConsent

__all__ = ["Shard"]

_LONG_AGO: Final = -(2**62)
_DEAD_REASONS: Final = {kernels_layout.LATE_LETTER: "too_late", kernels_layout.EARLY_LETTER: "too_far_ahead"}
_LEAVE_REASONS: Final = {kernels_layout.REASON_WHEN: "when", kernels_layout.REASON_CONSENT: "consent"}
_COUNTERS: Final = (
    "accepted",
    "duplicate",
    "too_late",
    "too_far_ahead",
    "undeclared",
    "not_collected",
    "window_updates",
)
"""Names of the cells of the control array from `ACCEPTED` to `UPDATES`."""


class Shard:
    """Everything the engine knows about its persons, and the one way to change it: `apply`.

    Args:
        policy: A checked policy.
        expected_people: Tables are made large enough for so many persons at once.
        hash_seed: Seed of the string table; has no influence on decisions.

    Raises:
        ShardError: the policy does not compile.
    """

    def __init__(self, policy: Policy, *, expected_people: int = 1_000, hash_seed: int = 0) -> None:
        self.arrays = Arrays(compile_policy(policy), expected_people=expected_people, seed=hash_seed)
        self.consents = Consents(self.arrays)
        self.reader = Reader(self.arrays)
        self.orders = Orders(self.arrays, self.consents, self.reader)
        self.waiting = WaitingRoom()
        self.moves = Moves()
        self.aliases: dict[int, tuple[bytes, ...]] = {}
        self._out = _Outbox()
        self._told = True

    # --- applying ---------------------------------------------------------------------------------------------------

    def apply(
        self,
        inputs: Sequence[Input],
        now_ms: int,
        *,
        told: bool = True,
        columns: kernels_core.Batch | None = None,
    ) -> Decisions:
        """Take inputs in, in order, then let time pass up to `now_ms`.

        Args:
            inputs: Events by column and everything else by value; an instant before the clock counts as the clock.
            now_ms: Where the clock is afterwards (it never goes back).
            told: False: tag changes and refusals of events are not made, for a replay of what was told already; the state is
                the same.
            columns: What `columns` made of the events, where they are the only input.

        Returns:
            All decisions, by rising sequence.

        Raises:
            ShardError: a policy among the inputs does not compile; nothing was changed.
        """
        compiled = {id(item): compile_policy(item.policy) for item in inputs if isinstance(item, Publish)}
        before = self._counts()
        self._told = told
        last = len(inputs) - 1
        for index, item in enumerate(inputs):
            if isinstance(
                item, EventBatch
            ):  # the last events and the way to `now_ms` are one call of the kernel
                taken = columns_of(self.arrays, item) if columns is None else columns
                self._run(taken, item, now_ms if index == last else _LONG_AGO)
            else:
                self._advance(item.at_ms)
                self._control(item, compiled)
                self._drain()
        if not inputs or not isinstance(inputs[-1], EventBatch):
            self._advance(now_ms)
        after = self._counts()
        counts = {
            name: new - old for name, new, old in zip(_COUNTERS, after, before, strict=True) if new != old
        }
        return self._out.decisions(counts)

    def columns(self, batch: EventBatch, *, ahead: bool = False) -> kernels_core.Batch | None:
        """What `apply` makes of events before it takes them in.

        Args:
            batch: Not empty.
            ahead: `apply` is taking in the events before these on another thread, none of which waits for its time: texts are
                written behind those that it reads, and None is returned where tables would have to grow for that.
        """
        if ahead and not self.arrays.has_room_for_strings(len(batch.values), len(batch.strings)):
            return None
        return columns_of(self.arrays, batch)

    @property
    def clock_ms(self) -> int:
        """The instant up to which everything has happened."""
        return int(self.arrays.core.control[kernels_layout.CLOCK])

    def names_of(self, subject: bytes) -> tuple[bytes, ...]:
        """All pseudonyms of the person behind one of them; that one alone when nobody is known by it."""
        person = identity.find(self.arrays, subject)
        if person < 0:
            return (subject,)
        return tuple(dict.fromkeys((subject, self.orders.name(person), *self.aliases.get(person, ()))))

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self.arrays.compiled.policy

    def _counts(self) -> list[int]:
        counted: list[int] = self.arrays.core.control[
            kernels_layout.ACCEPTED : kernels_layout.UPDATES + 1
        ].tolist()
        return counted

    def _advance(self, at_ms: int) -> None:
        self._run(columns_of(self.arrays, None), None, at_ms)

    def _run(self, columns: kernels_core.Batch, batch: EventBatch | None, target: int) -> None:
        """Drive the kernel loop, doing what it asks for until it is done."""
        index = 0
        while True:
            code, index = kernels_run.run(self.arrays.handle, columns, index, target)
            self._flush(batch)
            if code == kernels_layout.DONE:
                return
            if code == kernels_layout.GROW:
                self.arrays.grow()
            elif code == kernels_layout.FIRED:
                self._fired()
            elif code == kernels_layout.CONSENT_DUE:
                person = int(self.arrays.core.control[kernels_layout.PERSON])
                self.consents.refresh(person)
                self._recheck(person)
            elif code == kernels_layout.WAITING_DUE:
                self._waiting_due()
            elif code != kernels_layout.FLUSH:
                assert batch is not None
                self._about_event(int(code), batch, index)

    def _about_event(self, code: int, batch: EventBatch, index: int) -> None:
        if code == kernels_layout.WAIT:
            self.waiting.add(single_event(batch, index - 1, self.policy.catalog))
            self._set_waiting()
        elif code == kernels_layout.MERGE:
            self._merge(_name(batch.subject[index]), _name(batch.link[index]))
        else:
            subject, channel = _name(batch.subject[index]), int(batch.channel[index])
            person = identity.meet(self.arrays, subject)
            seen = batch.consents[int(batch.consent[index])]
            time_ms = int(batch.time_ms[index])
            mark = kernels_run.consent_mark(batch.consent_digest[index], channel, batch.subject[index, 0])
            self.consents.observe(person, subject, seen, self.policy.catalog.channels[channel], time_ms)
            self.consents.watch(person, subject, self.policy.catalog.channels[channel], int(mark), time_ms)
            self.arrays.core.control[kernels_layout.OBSERVED] = (
                1  # the event comes again with its object read
            )
            self._recheck(person)

    def _waiting_due(self) -> None:
        """Take in every waiting event whose time has come; tags are settled later in the same instant."""
        for event in self.waiting.due(self.clock_ms):
            if (
                self.policy.catalog.type_index(event.type) >= 0
                and event.channel in self.policy.catalog.channels
            ):
                batch = EventBatch.from_events([event], self.policy.catalog)
                self._run(columns_of(self.arrays, batch, trusted=True), batch, self.clock_ms)
        self._set_waiting()

    def _set_waiting(self) -> None:
        self.arrays.core.control[kernels_layout.WAITING] = self.waiting.next_ms

    # --- inputs other than events -----------------------------------------------------------------------------------

    def _control(self, item: Input, compiled: Mapping[int, Compiled]) -> None:
        match item:
            case ConsentGiven():
                self._given(item)
            case ConsentWithdrawn():
                person = identity.meet(self.arrays, item.subject)
                self.consents.withdraw(person, item.subject, item.purpose, item.topic, self.clock_ms)
                self._consent_changed(person)
            case Merge():
                self._merge(item.subject, item.other)
                self._settle(identity.meet(self.arrays, item.subject))
            case Erase():
                self._erase(item.subject)
            case Publish():
                self._publish(compiled[id(item)])
            case OrderRefused() | FragmentEnded():
                unopened = isinstance(item, OrderRefused) or item.unopened
                self._given_back(self.orders.give_back(item.order_id, unopened=unopened))
            case Tick():
                pass
            case Depart() | Arrive() | Confirm():
                self._moved(item)
            case EventBatch():
                raise ShardError("an event batch must be applied as events; this is a defect of the shard")
            case _:
                assert_never(item)

    def _moved(self, item: Depart | Arrive | Confirm) -> None:
        """One step of a move between shards."""
        if isinstance(item, Arrive):
            moving.arrive(self, item)
        elif isinstance(item, Confirm):
            self.moves.outbox.pop(item.number, None)
        elif ended := moving.depart(self, item):
            self._out.recalls += recalls(ended, self._next(), self.clock_ms, "merged")

    def _given(self, item: ConsentGiven) -> None:
        """Take a record in; one that names another person is a dead letter, for nobody may consent for somebody else."""
        person = identity.meet(self.arrays, item.subject)
        try:
            state = self.consents.of(person, item.subject).with_record(item.record)
        except InvalidConsent:
            self._out.dead_letters.append(DeadLetter(self.clock_ms, -1, "consent", "foreign_consent"))
            return
        self.consents.change(person, state)
        self._consent_changed(person)

    def _settle(self, person: int) -> None:
        self.arrays.grow()
        kernels_settle.settle(self.arrays.handle, person)
        self._drain()

    def _drain(self) -> None:
        self._flush(None)
        self._fired()

    def _given_back(self, person: int | None) -> None:
        if person is not None:
            self._consent_changed(person)

    def _consent_changed(self, person: int) -> None:
        self._settle(person)
        self._recheck(person)

    def _recheck(self, person: int) -> None:
        ended = self.orders.recheck(person)
        if ended:
            self._out.recalls += recalls(ended, self._next(), self.clock_ms, "withdrawn")

    def _merge(self, subject: bytes, other: bytes) -> None:
        """Make two pseudonyms one person; its tags are marked, not yet evaluated."""
        stays, goes = identity.meet(self.arrays, subject), identity.meet(self.arrays, other)
        if stays == goes:
            return
        names = (subject, other)
        self._leave_all(goes, "merged")
        joined = self.orders.name(goes), *self.aliases.pop(goes, ())
        self.aliases[stays] = (*self.aliases.get(stays, ()), *joined)
        self.orders.move(goes, stays)
        self.consents.merge(stays, goes, names, self.clock_ms)
        identity.merge(self.arrays, stays, goes, self.aliases[stays])
        self.consents.refresh(stays)
        identity.mark_all(self.arrays)
        self._recheck(stays)

    def _erase(self, subject: bytes) -> None:
        """Forget a person; what waits under its pseudonyms goes too."""
        person = identity.find(self.arrays, subject)
        names = [subject]
        if person >= 0:
            names = [self.orders.name(person), *self.aliases.pop(person, ())]
            self._leave_all(person, "erased")
            ended = self.orders.forget(person)
            if ended:
                self._out.recalls += recalls(ended, self._next(), self.clock_ms, "erased")
            self.consents.forget(person)
            identity.erase(self.arrays, person, names)
        self.waiting.forget(names)
        self.moves.forget(names)
        identity.forget_unused_texts(self.arrays)
        self._set_waiting()

    def _leave_all(self, person: int, reason: str) -> None:
        """Tell that a person leaves all its tags, and stop its timers."""
        for tag in identity.held_tags(self.arrays, person):
            change = (
                self._next(),
                self.clock_ms,
                self.orders.name(person),
                self.arrays.compiled.tags[tag].name,
            )
            self._out.tags.append(TagChange(*change, "leave", reason=reason))
        identity.drop_memberships(self.arrays, person)

    def _publish(self, compiled: Compiled) -> None:
        kept = publishing.held_by_name(self.arrays)
        names = {tag.name for tag in compiled.tags}
        for person, tag, _ in kept:
            if tag not in names:
                change = (self._next(), self.clock_ms, self.orders.name(person), tag)
                self._out.tags.append(TagChange(*change, "leave", reason="unpublished"))
        publishing.swap(self.arrays, compiled, kept)
        self.consents.use_policy()
        self.orders.use_policy()
        for person in self.consents.states:
            self.consents.refresh(person)
        self.arrays.core.marks[:] = 0
        publishing.settle_everybody(self.arrays, self._drain)
        for person in list(self.consents.states):
            self._recheck(person)

    # --- what the kernels left --------------------------------------------------------------------------------------

    def _next(self) -> int:
        self.arrays.core.control[kernels_layout.SEQUENCE] += 1
        return int(self.arrays.core.control[kernels_layout.SEQUENCE])

    def _flush(self, batch: EventBatch | None) -> None:
        """Turn emitted rows into decisions; consents have not changed since they were written."""
        core = self.arrays.core
        count = int(core.control[kernels_layout.EMITTED])
        if not count:
            return
        core.control[kernels_layout.EMITTED] = 0
        emitted = core.emitted[:count]
        if not self._told:
            emitted = emitted[emitted[:, 0] == kernels_layout.DEAD]
            count = len(emitted)
        names = core.names[emitted[:, 2]].astype("<u8", copy=False).view("V16")[:, 0]
        tags, rows, subjects = self.arrays.compiled.tag_names, emitted.tolist(), names.tolist()
        changes = [
            TagChange(sequence, at_ms, subject, tags[tag], "enter", extra)
            if kind == kernels_layout.ENTER
            else TagChange(sequence, at_ms, subject, tags[tag], "leave", 0, _LEAVE_REASONS[extra])
            for (kind, at_ms, _, tag, extra, sequence), subject in zip(rows, subjects, strict=True)
            if kind <= kernels_layout.LEAVE
        ]
        self._out.tags += changes
        if len(changes) == count:
            return
        for (kind, at_ms, person, what, extra, sequence), subject in zip(rows, subjects, strict=True):
            if kind == kernels_layout.UNCONSENTED:
                self._out.refusals.append(self._refusal(sequence, at_ms, what, person, subject))
            elif kind == kernels_layout.DEAD and batch is not None:
                channel = self.policy.catalog.channels[int(batch.channel[what])]
                self._out.dead_letters.append(DeadLetter(at_ms, what, channel, _DEAD_REASONS[extra]))

    def _refusal(self, sequence: int, at_ms: int, trigger: int, person: int, subject: bytes) -> Refusal:
        compiled = self.arrays.compiled
        decision = self.consents.decide(person, compiled.requirements[compiled.trigger_bits[trigger]], at_ms)
        return Refusal(sequence, at_ms, self.policy.triggers[trigger].name, subject, decision.reason.value)

    def _fired(self) -> None:
        """Make the orders of triggers that fired at this instant, contradictions first."""
        control = self.arrays.core.control
        fired = self.arrays.core.fired[: int(control[kernels_layout.FIRES])].tolist()
        control[kernels_layout.FIRES] = 0
        for trigger, person, event, at_ms in fired:
            if trigger < 0:
                ended = self.orders.contradict(-1 - trigger, person, event)
                if ended:
                    self._out.recalls += recalls(ended, self._next(), at_ms, "contradicted")
                continue
            made = self.orders.fire(trigger, person, event, self._next())
            if isinstance(made, OrderMade):
                self._out.orders.append(made)
                self._after_order(person)
            elif made is not None:
                self._out.refusals.append(made)

    def _after_order(self, person: int) -> None:
        """Spending a use may have ended the permission of tags."""
        if self.arrays.core.marks.any():
            self.arrays.grow()
            kernels_settle.settle(self.arrays.handle, person)
            self._drain()

    # --- asking -----------------------------------------------------------------------------------------------------

    def tags(self, subject: bytes) -> Mapping[str, Mapping[str, object]]:
        """Tags that a person carries at the clock, each with the values it captured, by name."""
        person = identity.find(self.arrays, subject)
        if person < 0:
            return MappingProxyType({})
        found = {}
        for number in sorted(identity.held_tags(self.arrays, person)):
            tag = self.arrays.compiled.tags[number]
            found[tag.name] = self.reader.captures(person, tag, self.clock_ms)
        return MappingProxyType(found)

    def value(self, subject: bytes, measure: Measure) -> object:
        """Value of a measure that the policy uses for a person at the clock; None when it has none."""
        person = identity.find(self.arrays, subject)
        return None if person < 0 else self.reader.measure(person, measure, self.clock_ms)[0]

    def explain(self, subject: bytes, tag: str) -> Mapping[str, object]:
        """Why a person carries a tag: since when, until when, rule text and version, and the digests of the events behind it.

        Raises:
            ShardError: the policy has no such tag.
        """
        number = self.reader.tag_number(tag)
        if number < 0:
            known = ", ".join(sorted(item.name for item in self.policy.tags)) or "none"
            raise ShardError(f"tag={tag!r} must be declared; use one of: {known}")
        rule = self.arrays.compiled.tags[number]
        person = identity.find(self.arrays, subject)
        held, since, until, sequence = (False, 0, 0, 0) if person < 0 else self.reader.member(person, number)
        events = self.reader.tag_events(person, rule, self.clock_ms) if held else []
        return MappingProxyType(
            {
                "tag": tag,
                "held": held,
                "since_ms": since,
                "until_ms": until,
                "sequence": sequence,
                "version": rule.version,
                "text": rule.text,
                "captures": self.reader.captures(person, rule, self.clock_ms) if held else {},
                "events": [
                    self.arrays.core.history[event, kernels_layout.H_DIGEST :].tobytes().hex()
                    for event in events
                ],
            }
        )

    def consents_of(self, subject: bytes) -> PersonConsents:
        """A person's consents, for the decisions at the mint and at the lease."""
        return self.consents.of(identity.find(self.arrays, subject), subject)

    # --- snapshots --------------------------------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """Everything that the future depends on, in canonical form: equal states give equal bytes."""
        return b"".join(self.image()())

    def image(self) -> Callable[[], Sequence[bytes | memoryview]]:
        """The state as it is now, in the time that copying takes.

        Returns:
            What makes `snapshot` of that state, in pieces; to be called once, on any thread, whatever happens meanwhile.
        """
        return partial(snapshots.write, snapshots.take(self))

    @classmethod
    def restore(cls, data: bytes, policy: Policy, **options: Any) -> Self:
        """A shard as it was when `snapshot` was taken.

        Args:
            data: The bytes of `snapshot`.
            policy: The policy in force then.
            **options: As for the constructor.

        Raises:
            SnapshotError: foreign or damaged bytes, another format version, or another policy.
        """
        shard = cls(policy, **options)
        snapshots.read(shard, data)
        return shard


class _Outbox:
    """Decisions of one `apply`, gathered."""

    def __init__(self) -> None:
        self.tags: list[TagChange] = []
        self.orders: list[OrderMade] = []
        self.recalls: list[Recall] = []
        self.refusals: list[Refusal] = []
        self.dead_letters: list[DeadLetter] = []

    def decisions(self, counts: Mapping[str, int]) -> Decisions:
        """What was gathered; the outbox is empty afterwards."""
        made = Decisions(
            tuple(self.tags),
            tuple(self.orders),
            tuple(self.recalls),
            tuple(self.refusals),
            tuple(self.dead_letters),
            MappingProxyType(dict(counts)),
        )
        self.__init__()  # type: ignore[misc]
        return made


def _name(words: "np.ndarray[Any, np.dtype[np.uint64]]") -> bytes:
    return words.astype("<u8").tobytes()
