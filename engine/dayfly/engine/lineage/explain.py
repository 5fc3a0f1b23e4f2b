"""What lineage answers: `Explanation`, why an audience sees one field. It never holds the field's value."""

from dataclasses import dataclass

from .block import ConsentUse, LineageBlock
from .shape import LineageShape, RuleText, SourceColumn

__all__ = ["ExplainedEvent", "Explanation", "FragmentLineage", "explain_field"]


@dataclass(frozen=True, slots=True)
class ExplainedEvent:
    """An event behind a value: its keyed digest, where it came from, and when (milliseconds UTC)."""

    digest: bytes
    channel: str
    time_ms: int
    received_ms: int | None


@dataclass(frozen=True, slots=True)
class FragmentLineage:
    """Everything kept about one fragment.

    Attributes:
        jti: Fragment id.
        trigger_event: 16-byte keyed id of the event that fired the trigger.
    """

    jti: str
    order_id: str
    audience: str
    purpose: str
    topic: str
    trigger_event: bytes
    issued_at_ms: int
    expires_at_ms: int
    block: LineageBlock
    shape: LineageShape


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one audience sees one field of one fragment.

    Attributes:
        jti: Fragment id.
        trigger: The trigger that fired, with its text as it was then.
        rules: What made the value, with texts.
        events: Events named, newest first.
        total_events: Events that contributed, named or not; 0 where the absence of events is the reason.
        masking: Masking when the fragment was made.
        columns: Event properties behind the value, with their masking at intake.
        consents: Consent records that allowed it, with validity.
        as_of_ms: Instant of the decision; all times are milliseconds UTC.
    """

    jti: str
    order_id: str
    field: str
    audience: str
    purpose: str
    topic: str
    data_category: str
    trigger: RuleText
    trigger_event: bytes
    rules: tuple[RuleText, ...]
    events: tuple[ExplainedEvent, ...]
    total_events: int
    masking: str
    columns: tuple[SourceColumn, ...]
    consents: tuple[ConsentUse, ...]
    as_of_ms: int
    issued_at_ms: int
    expires_at_ms: int


def explain_field(fragment: FragmentLineage, name: str) -> Explanation | None:
    """Explanation of field `name`, or None when the fragment left that field of its trigger out.

    Raises:
        LineageError: the trigger has no such field.
    """
    shape, block = fragment.shape, fragment.block
    index = shape.index(name)
    entry = next((entry for entry in block.fields if entry.field == index), None)
    if entry is None:
        return None
    spec = shape.fields[index]
    return Explanation(
        jti=fragment.jti,
        order_id=fragment.order_id,
        field=name,
        audience=fragment.audience,
        purpose=fragment.purpose,
        topic=fragment.topic,
        data_category=spec.data_category,
        trigger=shape.trigger,
        trigger_event=fragment.trigger_event,
        rules=tuple(shape.rules[rule] for rule in spec.rules),
        events=tuple(
            ExplainedEvent(event.digest, shape.channels[event.channel], event.time_ms, event.received_ms)
            for position, event in enumerate(block.events)
            if entry.events >> position & 1
        ),
        total_events=entry.total,
        masking=spec.masking,
        columns=spec.columns,
        consents=block.consents,
        as_of_ms=block.as_of_ms,
        issued_at_ms=fragment.issued_at_ms,
        expires_at_ms=fragment.expires_at_ms,
    )
