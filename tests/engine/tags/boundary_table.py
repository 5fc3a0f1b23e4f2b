"""The boundary table of `docs/tags.md` as values: `(Tag, list of events, now_ms, expected)` a row; anybody may run it.

The row format is stated in the document. The catalogue, the settings and the other tag that rows refer to stand here.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from dayfly.engine.catalog import Catalog, EventType, FieldSpec, FieldType
from dayfly.engine.events import Event
from dayfly.engine.policy.model import Channel, Policy, Settings
from dayfly.engine.tags.text import parse_expression
from dayfly.engine.tags.tree import Tag

__all__ = ["CATALOG", "HAS_A", "POLICY", "SETTINGS", "START_MS", "SUBJECT", "Row", "boundary_rows"]

START_MS: Final = 1_767_225_600_000
"""2026-01-01T00:00:00Z, to which all times of the table are relative."""

SUBJECT: Final = bytes(range(16))
"""The one person of the table."""

_FIELDS = (
    FieldSpec("n", FieldType.NUMBER),
    FieldSpec("s", FieldType.STRING),
    FieldSpec("b", FieldType.BOOLEAN),
    FieldSpec("t", FieldType.TIME),
)
CATALOG: Final = Catalog(tuple(EventType(name, _FIELDS) for name in "ABC"), ("web", "app"))
SETTINGS: Final = Settings(history_ms=60_000, allowed_lateness_ms=10_000, future_skew_ms=5_000)


def _tag(name: str, text: str) -> Tag:
    return Tag(name, "service.test", "test", parse_expression(text), text=text)


HAS_A: Final = _tag("has-a", 'count("A", within: 1s) >= 1')
POLICY: Final = Policy(
    1, CATALOG, (Channel("web", "web"), Channel("app", "app")), (HAS_A,), settings=SETTINGS
)
"""Everything but the row's own tag, which a runner adds."""

_ROW = re.compile(r"\| `(.*)` \| `(.*)` \| ([0-9]+) \| (yes|no) \|")
_FIELD = r'[a-z]=(?:"(?:[^"\\]|\\.)*"|[^,}"]+)'
_EVENT = re.compile(
    rf"([ABC])@(-?[0-9]+)(?:\^(-?[0-9]+))?(?:#([a-z0-9]+))?(?:/([a-z]+))?(?:\{{({_FIELD}(?:,{_FIELD})*)\}})?(?: |$)"
)


class Row(NamedTuple):
    """One row: the tag holds at `now_ms` for a person with `events` exactly when `expected` is true."""

    tag: Tag
    events: list[Event]
    now_ms: int
    expected: bool
    line: int


def boundary_rows() -> Iterator[Row]:
    """All rows of the document, in its order."""
    document = Path(__file__).parents[3] / "docs" / "tags.md"
    for line, text in enumerate(document.read_text(encoding="utf-8").splitlines(), 1):
        if text.startswith("| `") and text.endswith((" yes |", " no |")):
            match = _ROW.fullmatch(text)
            assert match is not None, f"docs/tags.md:{line} must be a row of the boundary table"
            tag = _tag(f"row-{line}", match[1].replace("\\|", "|"))
            yield Row(tag, _events(match[2], line), START_MS + int(match[3]), match[4] == "yes", line)


def _events(text: str, line: int) -> list[Event]:
    events: list[Event] = []
    at = 0
    while text != "-" and at < len(text):
        match = _EVENT.match(text, at)
        assert match is not None, f"docs/tags.md:{line}: {text[at:]!r} must be an event"
        at = match.end()
        time_ms = START_MS + int(match[2])
        earliest = events[-1].received_ms if events else START_MS
        received_ms = START_MS + int(match[3]) if match[3] else max(time_ms, earliest)
        channel = match[5] or "web"
        message_id = match[4] or f"own-{len(events)}"
        events.append(
            Event(
                event_id=hashlib.blake2b(f"{channel}\0{message_id}".encode(), digest_size=16).digest(),
                channel=channel,
                subject=SUBJECT,
                type=match[1],
                time_ms=time_ms,
                received_ms=received_ms,
                properties=_properties(match[6] or ""),
                digest=hashlib.blake2b(match[0].encode(), digest_size=16).digest(),
            )
        )
    return events


def _properties(text: str) -> dict[str, Any]:
    values = {part[0]: json.loads(part[2:]) for part in re.findall(_FIELD, text)}
    if "t" in values:
        values["t"] += START_MS
    return values
