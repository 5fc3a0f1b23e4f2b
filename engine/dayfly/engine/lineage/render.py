"""Explanations for readers: one plain sentence, a table, JSON."""

from collections import Counter
from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from .explain import Explanation
from .shape import RuleText
from .times import utc_text

__all__ = ["sentence", "to_json", "to_table"]


def sentence(explanation: Explanation) -> str:
    """One English sentence: who sees what, by which rule, from what, masked how, allowed by what, until when."""
    rules = explanation.rules or (explanation.trigger,)
    consents = " and ".join(
        f"{use.record_id} (version {use.version}, until {utc_text(use.valid_until_ms)})"
        for use in explanation.consents
    )
    return (
        f"{explanation.audience} sees {explanation.field} because trigger {_named(explanation.trigger)} fired at "
        f"{utc_text(explanation.as_of_ms)}; the value comes from {' and '.join(_named(rule) for rule in rules)} "
        f"over {_events(explanation)}, {_masked(explanation)}; consent {consents or 'none'} allows it for "
        f"{explanation.purpose}, and the fragment ends at {utc_text(explanation.expires_at_ms)}."
    )


def _named(rule: RuleText) -> str:
    return f"{rule.id} (version {rule.version})"


def _events(explanation: Explanation) -> str:
    total = explanation.total_events
    if total == 0:
        return "no event, which is what the rule asks for"
    counts = Counter(event.channel for event in explanation.events)
    named = ", ".join(f"{count} from {channel}" for channel, count in counts.items())
    listed = (
        "" if not named else f" ({named})" if len(explanation.events) == total else f" (named here: {named})"
    )
    return f"{total} event{'' if total == 1 else 's'}{listed}"


def _masked(explanation: Explanation) -> str:
    intake = sorted(
        {f"{column.field}: {column.masking}" for column in explanation.columns if column.masking != "keep"}
    )
    parts = [f"masked at intake ({', '.join(intake)})"] if intake else []
    if explanation.masking != "keep":
        parts.append(f"masked in the fragment ({explanation.masking})")
    return " and ".join(parts) or "not masked"


def to_json(explanation: Explanation) -> dict[str, object]:
    """JSON-ready object; digests as hexadecimal text, times as int64 milliseconds UTC."""
    return {
        "jti": explanation.jti,
        "order_id": explanation.order_id,
        "field": explanation.field,
        "audience": explanation.audience,
        "purpose": explanation.purpose,
        "topic": explanation.topic,
        "data_category": explanation.data_category,
        "as_of_ms": explanation.as_of_ms,
        "issued_at_ms": explanation.issued_at_ms,
        "expires_at_ms": explanation.expires_at_ms,
        "trigger": {**_rule(explanation.trigger), "event": explanation.trigger_event.hex()},
        "rules": [_rule(rule) for rule in explanation.rules],
        "total_events": explanation.total_events,
        "events": [
            {
                "digest": event.digest.hex(),
                "channel": event.channel,
                "time_ms": event.time_ms,
                "received_ms": event.received_ms,
            }
            for event in explanation.events
        ],
        "masking": explanation.masking,
        "columns": [
            {
                "event": column.event,
                "field": column.field,
                "use": column.use,
                "masking_at_intake": column.masking,
            }
            for column in explanation.columns
        ],
        "consents": [
            {
                "record_id": use.record_id,
                "version": use.version,
                "valid_from_ms": use.valid_from_ms,
                "valid_until_ms": use.valid_until_ms,
            }
            for use in explanation.consents
        ],
        "sentence": sentence(explanation),
    }


def _rule(rule: RuleText) -> dict[str, object]:
    return {"kind": rule.kind, "id": rule.id, "version": rule.version, "text": rule.text}


def to_table(explanations: Sequence[Explanation], *, title: str = "") -> Table:
    """A table with one row per field, for a terminal."""
    table = Table(title=escape(title) if title else None)
    for header in ("field", "rule", "events", "masking", "consent", "valid until"):
        table.add_column(header)
    for explanation in explanations:
        rules = explanation.rules or (explanation.trigger,)
        cells = (
            explanation.field,
            "\n".join(f"{_named(rule)}\n{rule.text}".strip() for rule in rules),
            "\n".join([f"{explanation.total_events} in total", *(_event_line(explanation))]),
            _masked(explanation),
            "\n".join(f"{use.record_id} v{use.version}" for use in explanation.consents),
            "\n".join(utc_text(use.valid_until_ms) for use in explanation.consents),
        )
        # Texts come from policies and ids from outside: none may act as markup.
        table.add_row(*(escape(cell) for cell in cells))
    return table


def _event_line(explanation: Explanation) -> list[str]:
    return [
        f"{event.digest.hex()[:8]} {event.channel} {utc_text(event.time_ms)}" for event in explanation.events
    ]
