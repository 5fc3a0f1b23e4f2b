"""What a run has done so far, counted: for the live view and for the summary."""

from array import array
from collections import Counter
from dataclasses import dataclass, field

from dayfly.engine.runtime.memory import MintRefusal
from dayfly.engine.runtime.replay import Step

__all__ = ["RunTally"]

_PERCENTILES = (0.5, 0.99, 0.999)


@dataclass(slots=True)
class RunTally:
    """Counts of a run. Mutable: a running total, not a value.

    Attributes:
        first_ms, now_ms: Where the events' clock began and stands.
        intake: Counts of the intake (`received`, `accepted`, `dead` and others).
        events: Counts of the shard (`accepted`, `duplicate`, `too_late` and others).
        dead_letters: By reason, of intake and shard together.
        entered, left: Tags, by name.
        minted: Fragments, by trigger.
        destroyed: Fragments, by reason.
        unopened: Fragments that expired without ever having been opened.
        refusals: By reason code; those of the mint begin with ``mint.``.
        recalls: By reason.
    """

    first_ms: int = 0
    now_ms: int = 0
    intake: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    dead_letters: Counter[str] = field(default_factory=Counter)
    entered: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    minted: Counter[str] = field(default_factory=Counter)
    destroyed: Counter[str] = field(default_factory=Counter)
    unopened: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    recalls: Counter[str] = field(default_factory=Counter)
    _latencies_ns: "array[int]" = field(default_factory=lambda: array("q"))

    def add(self, step: Step) -> None:
        """Count one step."""
        self.first_ms = self.first_ms or step.now_ms
        self.now_ms = step.now_ms
        if step.group:
            self._latencies_ns.append(step.nanoseconds)
        elif not step.eventful:
            return  # most ticks
        outcome, decisions = step.outcome, step.outcome.decisions
        self.intake.update(outcome.intake)
        self.events.update(decisions.counts)
        self.dead_letters.update(letter.reason.value for letter in step.rejected)
        self.dead_letters.update(letter.reason for letter in decisions.dead_letters)
        self.entered.update(item.tag for item in decisions.tags if item.change == "enter")
        self.left.update(item.tag for item in decisions.tags if item.change == "leave")
        refused = {item.order_id for item in outcome.mint_refusals}
        self.minted.update(
            item.order.rule.id for item in decisions.orders if item.order.order_id not in refused
        )
        self.destroyed.update(item.reason.value for item in outcome.destroyed)
        self.unopened += sum(item.reason == "expired" and not item.leases for item in outcome.destroyed)
        self.refusals.update(item.reason for item in decisions.refusals)
        self.refusals.update(_mint_reason(item) for item in outcome.mint_refusals)
        self.recalls.update(item.reason for item in decisions.recalls)

    @property
    def received(self) -> int:
        """Messages and rows taken in, dead ones included."""
        return self.intake["received"]

    @property
    def held(self) -> int:
        """Tags held now, over all people."""
        return self.entered.total() - self.left.total()

    @property
    def live(self) -> int:
        """Fragments alive now."""
        return self.minted.total() - self.destroyed.total()

    @property
    def batches(self) -> int:
        """Calls that took something in."""
        return len(self._latencies_ns)

    def latency_ms(self) -> dict[str, float]:
        """Milliseconds from handing a batch in to its last fragment sealed: p50, p99, p99.9 and max; empty before the first."""
        ordered = sorted(self._latencies_ns)
        if not ordered:
            return {}
        found = {
            f"p{share * 100:g}": ordered[min(int(share * len(ordered)), len(ordered) - 1)] / 1e6
            for share in _PERCENTILES
        }
        return {**found, "max": ordered[-1] / 1e6}

    def as_json(self) -> dict[str, object]:
        """Everything counted, ready for JSON, keys sorted."""
        counted = {
            "dead_letters": self.dead_letters,
            "destroyed": self.destroyed,
            "entered": self.entered,
            "events": self.events,
            "intake": self.intake,
            "left": self.left,
            "minted": self.minted,
            "recalls": self.recalls,
            "refusals": self.refusals,
        }
        return {
            "first_ms": self.first_ms,
            "now_ms": self.now_ms,
            "received": self.received,
            "batches": self.batches,
            "tags_held": self.held,
            "fragments_minted": self.minted.total(),
            "fragments_live": self.live,
            "fragments_expired_unopened": self.unopened,
            "latency_ms": {name: round(value, 4) for name, value in self.latency_ms().items()},
            **{name: dict(sorted(counts.items())) for name, counts in counted.items()},
        }


def _mint_reason(refusal: MintRefusal) -> str:
    return f"mint.{refusal.reason}"
