"""A policy and keys as the arrays that the Segment kernel reads."""

from collections.abc import Iterable
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from dayfly.engine.catalog import EventType, FieldType
from dayfly.engine.intake.context import Context
from dayfly.engine.intake.kernels_segment import (
    ALIAS,
    ANONYMOUS_ID,
    BATCH,
    CATEGORY,
    CONSENT,
    CONSENT_MANAGEMENT,
    CONSENT_NODE,
    CONTEXT,
    CONTEXT_NODE,
    CONTEXT_TRAITS,
    EVENT,
    EVENT_NODE,
    FIRST_TYPE_NODE,
    GROUP,
    GROUP_ID,
    IDENTIFY,
    KIND_NODE,
    MAX_NAME_BYTES,
    MESSAGE_ID,
    NAME,
    NAME_WORDS,
    ORIGINAL,
    PAGE,
    PROPERTIES,
    ROOT_NODE,
    SCREEN,
    SENT_AT,
    TC_STRING,
    TIMESTAMP,
    TRACK,
    TRAITS,
    TYPE,
    USER_ID,
    Tables,
    hash_name,
    name_word,
)
from dayfly.engine.policy.model import Channel
from dayfly.privacy.deident import Drop

__all__ = ["build_tables", "serves"]

Ints: TypeAlias = npt.NDArray[np.int64]

PADDING: Final = 16

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
    "consent": CONSENT,
    "consentManagement": CONSENT_MANAGEMENT,
    "traits": CONTEXT_TRAITS,
    "tcString": TC_STRING,
    "tcf": TC_STRING,
    "gpp": TC_STRING,
    "gppString": TC_STRING,
}
_FIELD_TYPES: Final = {FieldType.STRING: 0, FieldType.NUMBER: 1, FieldType.BOOLEAN: 2, FieldType.TIME: 3}


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

    def arrays(self) -> tuple[Ints, Ints]:
        """Edges and buckets as `Tables` has them: open addressing with at most half of the buckets taken."""
        size = 16
        while size < 2 * len(self.rows):
            size *= 2
        buckets = np.full(size, -1, np.int64)
        edges = []
        for index, ((node, name), (means, child)) in enumerate(self.rows.items()):
            padded = np.frombuffer(name + bytes(PADDING), np.uint8)
            words = [int(name_word(padded, at, len(name) - at)) for at in range(0, len(name), 8)]
            edges.append([node, len(name), means, child, *words, *[0] * (NAME_WORDS - len(words))])
            bucket = int(hash_name(padded, 0, len(name), node)) & (size - 1)
            while buckets[bucket] >= 0:
                bucket = (bucket + 1) & (size - 1)
            buckets[bucket] = index
        return np.array(edges, np.int64), buckets

    def add_path(self, node: int, path: Iterable[str], means: int) -> None:
        """A dotted field: every step but the last leads to a node of its own."""
        steps = list(path)
        for step in steps[:-1]:
            row = self.add(node, step)
            if row[1] < 0:
                row[1] = self.node()
            node = row[1]
        self.add(node, steps[-1], means=means)


def build_tables(context: Context, channel: Channel) -> Tables:
    """The tables for one channel of `context`; they hold hash states, so they are as secret as the keys."""
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
    rows, buckets = edges.arrays()
    return Tables(
        edges=rows,
        buckets=buckets,
        types=np.array(types, np.int64).reshape(-1, 3),
        fields=np.array(fields, np.int64).reshape(-1, 3),
        states=context.identities.hash_states(channel),
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
        masked = 0 if reader.mask is None else 2 if isinstance(reader.mask.rule, Drop) else 1
        rows.append([_FIELD_TYPES[reader.spec.type], masked, int(reader.spec.required)])
    return rows
