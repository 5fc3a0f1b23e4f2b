"""What all fragments of one trigger version share: rule texts, fields, masking and channels, named by one digest.

A `LineageShape` is made once per trigger when a policy is published, kept in the `LineageStore`, and named in each block by
16 bytes. So a block commits to every rule text, although it carries none.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

import msgspec

from dayfly.engine.errors import LineageError

from .block import DIGEST_BYTES, MAX_FIELDS

__all__ = ["LineageShape", "RuleKind", "RuleText", "ShapeField", "SourceColumn", "Use", "shape_from_bytes"]

RuleKind: TypeAlias = Literal["trigger", "tag", "measure"]
Use: TypeAlias = Literal["value", "window", "filter"]


@dataclass(frozen=True, slots=True)
class RuleText:
    """One rule as it was in force, with its author's version."""

    kind: RuleKind
    id: str
    version: int
    text: str


@dataclass(frozen=True, slots=True)
class SourceColumn:
    """A column that a field rests on.

    Attributes:
        event: Event type.
        field: Property, or None where the event itself counts.
        use: `value`: the field shows it or an aggregate of it; `window`: its events are counted; `filter`: a predicate reads it.
        masking: Masking at intake, before anything was kept.
    """

    event: str
    field: str | None
    use: Use
    masking: str = "keep"


@dataclass(frozen=True, slots=True)
class ShapeField:
    """One field of the trigger.

    Attributes:
        name: Claim name in the fragment.
        rules: Indexes into `LineageShape.rules` of the rules that made the value, the trigger left out.
        masking: Masking when the fragment was made, after any at intake.
        data_category: Data category that consent had to cover.
        columns: Columns the value rests on.
    """

    name: str
    rules: tuple[int, ...]
    masking: str = "keep"
    data_category: str = ""
    columns: tuple[SourceColumn, ...] = ()


class _Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Wire form of a shape; the order of its members is part of the digest."""

    rules: tuple[RuleText, ...]
    fields: tuple[ShapeField, ...]
    channels: tuple[str, ...]


_PERSON: Final = b"dayfly-shape-1"
"""Personalisation of BLAKE2b: digests of other things never equal a shape's."""


@dataclass(frozen=True, slots=True)
class LineageShape:
    """The static half of a fragment's lineage.

    Attributes:
        rules: The trigger first, then every other rule that some field rests on.
        fields: In the trigger's order, at most 63.
        channels: Names by channel index.
        content: Canonical JSON of the three (set by the constructor).
        digest: 16-byte BLAKE2b of `content` (set by the constructor).

    Raises:
        LineageError: no trigger rule, too many fields, doubled field names, or a field naming a rule that is not there.
    """

    rules: tuple[RuleText, ...]
    fields: tuple[ShapeField, ...]
    channels: tuple[str, ...]
    content: bytes = field(init=False, repr=False, compare=False)
    digest: bytes = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Check, then fix content and digest."""
        if not self.rules or self.rules[0].kind != "trigger":
            raise LineageError(
                f"rules={[rule.id for rule in self.rules]} must begin with the trigger; put it first"
            )
        names = [entry.name for entry in self.fields]
        if len(names) > MAX_FIELDS or len(set(names)) < len(names):
            raise LineageError(
                f"fields={names} must be at most {MAX_FIELDS} with distinct names; split the trigger"
            )
        for entry in self.fields:
            if not all(0 < index < len(self.rules) for index in entry.rules):
                raise LineageError(
                    f"rules={entry.rules} of field {entry.name!r} must index rules 1..{len(self.rules) - 1}; add the rule"
                )
        content = msgspec.json.encode(_Content(self.rules, self.fields, self.channels))
        object.__setattr__(self, "content", content)
        digest = hashlib.blake2b(content, digest_size=DIGEST_BYTES, person=_PERSON).digest()
        object.__setattr__(self, "digest", digest)

    @property
    def trigger(self) -> RuleText:
        """The rule that fired."""
        return self.rules[0]

    def index(self, name: str) -> int:
        """Position of field `name`.

        Raises:
            LineageError: the trigger has no such field.
        """
        for position, entry in enumerate(self.fields):
            if entry.name == name:
                return position
        known = ", ".join(entry.name for entry in self.fields) or "none"
        raise LineageError(
            f"field={name!r} must be a field of trigger {self.trigger.id!r}; use one of: {known}"
        )


def shape_from_bytes(content: bytes) -> LineageShape:
    """The shape with this `LineageShape.content`.

    Raises:
        LineageError: not the canonical content of a shape.
    """
    try:
        parts = msgspec.json.decode(content, type=_Content)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise LineageError(
            f"shape of {len(content)} bytes must be the content of a LineageShape: {error}; it is damaged"
        ) from error
    shape = LineageShape(parts.rules, parts.fields, parts.channels)
    if shape.content != content:
        raise LineageError(
            f"shape of {len(content)} bytes must be in canonical form; it was not written by LineageShape"
        )
    return shape
