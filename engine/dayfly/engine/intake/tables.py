"""A policy and keys as the arrays that the Segment kernel reads."""

from collections.abc import Iterable
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from dayfly.engine.catalog import EventType, FieldType
from dayfly.engine.intake.context import Context
from dayfly.engine.intake.kernels_calls import (
    ALIAS,
    CONSENT_NODE,
    CONTEXT_NODE,
    EVENT_NODE,
    FIRST_TYPE_NODE,
    GROUP,
    IDENTIFY,
    KIND_NODE,
    PAGE,
    ROOT_NODE,
    SCREEN,
    TRACK,
)
from dayfly.engine.intake.kernels_layout import (
    ANONYMOUS_ID,
    BATCH,
    CATEGORY,
    CONTEXT,
    DROPPED,
    EVENT,
    GROUP_ID,
    INSTANT,
    KEPT,
    MASKED,
    MESSAGE_ID,
    NAME,
    NUMERIC,
    ORIGINAL,
    PROPERTIES,
    SENT_AT,
    SETTINGS_END,
    TEXT,
    TIMESTAMP,
    TRAITS,
    TRUTH,
    TYPE,
    USER_ID,
)
from dayfly.engine.intake.kernels_members import (
    CONTEXT_CONSENT,
    CONTEXT_MANAGEMENT,
    CONTEXT_TC,
    CONTEXT_TRAITS,
)
from dayfly.engine.intake.kernels_names import (
    EDGE_WORDS,
    MAX_NAME_BYTES,
    NAME_WORDS,
    STANDS,
    hash_name,
    name_word,
    stands_of,
)
from dayfly.engine.policy.model import Channel
from dayfly.privacy.deident import Drop

__all__ = ["build_tables", "serves"]

Ints: TypeAlias = npt.NDArray[np.int64]

PADDING: Final = 8 * NAME_WORDS

_ROOT_NAMES: Final = {
    "type": TYPE,
    "event": EVENT,
    "messageId": MESSAGE_ID,
    "userId": USER_ID,
    "anonymousId": ANONYMOUS_ID,
    "timestamp": TIMESTAMP,
    "originalTimestamp": ORIGINAL,
    "sentAt": SENT_AT,
    "properties": PROPERTIES,
    "traits": TRAITS,
    "context": CONTEXT,
    "name": NAME,
    "category": CATEGORY,
    "groupId": GROUP_ID,
    "batch": BATCH,
}
_CALL_NAMES: Final = {
    "track": TRACK,
    "page": PAGE,
    "screen": SCREEN,
    "identify": IDENTIFY,
    "group": GROUP,
    "alias": ALIAS,
}
_CONTEXT_NAMES: Final = {
    "consent": CONTEXT_CONSENT,
    "consentManagement": CONTEXT_MANAGEMENT,
    "traits": CONTEXT_TRAITS,
    "tcString": CONTEXT_TC,
    "tcf": CONTEXT_TC,
    "gpp": CONTEXT_TC,
    "gppString": CONTEXT_TC,
}
_FIELD_TYPES: Final = {
    FieldType.STRING: TEXT,
    FieldType.NUMBER: NUMERIC,
    FieldType.BOOLEAN: TRUTH,
    FieldType.TIME: INSTANT,
}


class _Edges:
    """Names under nodes, gathered before they become arrays."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, bytes], list[int]] = {}
        self.nodes = FIRST_TYPE_NODE

    def node(self) -> int:
        """A new node."""
        self.nodes += 1
        return self.nodes - 1

    def add(self, node: int, name: str, *, means: int = -1) -> list[int]:
        """What `name` under `node` means and the node below it; created where there is none."""
        row = self.rows.setdefault((node, name.encode()), [-1, -1])
        if means >= 0:
            row[0] = means
        return row

    def array(self) -> Ints:
        """The edges as `kernels_names.find` takes them, at most half of the rows taken."""
        size = 16
        while size < 2 * len(self.rows):
            size *= 2
        edges = np.full((size, EDGE_WORDS), -1, np.int64)
        for (node, name), (means, child) in self.rows.items():
            padded = np.frombuffer(name + bytes(PADDING), np.uint8)
            words = [int(name_word(padded, 8 * i, len(name) - 8 * i)) for i in range(NAME_WORDS)]
            stands = int(stands_of(node, len(name)))
            row = int(hash_name(stands, words[0], words[1])) & (size - 1)
            while edges[row, STANDS] >= 0:
                row = (row + 1) & (size - 1)
            edges[row] = [stands, means, child, *words]
        return edges

    def add_path(self, node: int, path: Iterable[str], means: int) -> None:
        """A dotted field: every step but the last leads to a node of its own."""
        steps = list(path)
        for step in steps[:-1]:
            row = self.add(node, step)
            if row[1] < 0:
                row[1] = self.node()
            node = row[1]
        self.add(node, steps[-1], means=means)


def build_tables(context: Context, channel: Channel) -> Ints:
    """The array for one channel of `context`, as `kernels_layout.open_tables` opens it.

    It holds hash states, so it is as secret as the keys.
    """
    edges = _Edges()
    for node, names in (
        (ROOT_NODE, _ROOT_NAMES),
        (KIND_NODE, _CALL_NAMES),
        (CONTEXT_NODE, _CONTEXT_NAMES),
        (CONSENT_NODE, {"categoryPreferences": 0}),
    ):
        for name, means in names.items():
            edges.add(node, name, means=means)
    types: list[list[int]] = []
    fields: list[list[int]] = []
    for position, event_type in enumerate(context.policy.catalog.types):
        if not event_type.name.startswith("$"):
            edges.add(EVENT_NODE, event_type.name, means=position)
        node = edges.node()
        types.append([node, len(event_type.fields), len(fields)])
        fields += _fields_of(context, event_type, edges, node)
    calls = sorted(_CALL_NAMES, key=lambda name: _CALL_NAMES[name])
    types += [[context.policy.catalog.type_index("$" + name), 0, 0] for name in calls]
    parts = [edges.array(), np.array(types, np.int64), np.array(fields, np.int64)]
    parts.append(context.identities.hash_states(channel).view(np.int64))
    flat = [part.reshape(-1) for part in parts]
    starts = SETTINGS_END + np.cumsum([0, *map(len, flat)])
    return np.concatenate([starts, _settings(context, channel), *flat])


def _settings(context: Context, channel: Channel) -> Ints:
    """The settings in the order of `kernels_layout`, `CORRECT` first."""
    settings = context.settings
    return np.array(
        [
            channel.correct_clock_skew,
            context.identities.older_versions,
            settings.max_event_bytes,
            settings.max_string_bytes,
            settings.future_skew_ms,
            settings.allowed_lateness_ms,
            settings.max_depth,
            settings.max_properties,
            context.policy.catalog.channel_index(channel.name),
            max((len(event_type.fields) for event_type in context.policy.catalog.types), default=0),
        ],
        np.int64,
    )


def serves(context: Context) -> bool:
    """Whether every declared name is short enough for the tables."""
    names = [event_type.name for event_type in context.policy.catalog.types]
    names += [step for reader in context.readers.values() for field in reader.fields for step in field.path]
    return all(len(name.encode()) <= MAX_NAME_BYTES for name in names)


def _fields_of(context: Context, event_type: EventType, edges: _Edges, node: int) -> list[list[int]]:
    rows = []
    for slot, reader in enumerate(context.readers[event_type.name].fields):
        edges.add_path(node, reader.path, slot)
        masked = KEPT if reader.mask is None else DROPPED if isinstance(reader.mask.rule, Drop) else MASKED
        rows.append([_FIELD_TYPES[reader.spec.type], masked, int(reader.spec.required)])
    return rows
