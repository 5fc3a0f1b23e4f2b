"""Bundles of arrays that a compiled policy and its evaluation consist of."""

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from dayfly.engine.shard.kernels_lines import Lines, home, next_row
from dayfly.privacy._jit import inlined_kernel

__all__ = ["Handle", "Program", "Rows", "World", "find_member"]

Words = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint64]

Handle: TypeAlias = Any
"""What `kernels_handle.core_of` makes the arrays of a shard from: int64[arrays, 3], or a list with the JIT off."""


class Program(NamedTuple):
    """A compiled policy.

    Attributes:
        predicates: int64[n, 4], postfix code of all predicates.
        predicate_range: int64[P, 2], start and end of each predicate's code.
        features: int64[F, 8]: type, predicate, value slot (-1: none), kind, cap, span_ms, first window, windows.
        type_features: int64[types, 3], range of features of an event type (features are sorted by type), fields of the type.
        windows: int64[W, 3]: window_ms, start of its rows in `edges`, largest count with a row.
        edges: int64[n, 2], for each window and each count from 1: range in `edge_tags` of the tags to evaluate.
        edge_tags: int64[n].
        always: int64[F, 6]: ranges in `edge_tags` of the tags to evaluate on every event, of those to evaluate on late ones,
            and of the features whose memory a late event clears.
        leaves: int64[L, 12]: kind, feature, within_ms, operator, constant, quiet_ms, gap_ms (-1: none), first step,
            steps, without feature (-1: none), text bit (-1: none), feature number under which a sequence remembers.
        steps: int64[n], features of sequence steps.
        code: int64[n, 2], postfix code of all tags.
        tags: int64[T, 9]: code start, code end, consent bit, dependents (start, end), triggers on enter (start, end), range in
            `reads`.
        dependents: int64[n], tags that refer to a tag; always after it, for tags are in topological order.
        reads: int64[n], features (and memories of sequences) whose lines the evaluation of a tag reads.
        tag_triggers: int64[n, 2], triggers on enter: index in the policy, consent bit.
        triggers: int64[n, 4], event triggers: type, predicate, consent bit, index in the policy; sorted by type.
        type_triggers: int64[types, 2].
        channel_bit: int64[channels], consent bit that an event's channel needs, or -1.
        scalars: int64[7]: history_ms, allowed_lateness_ms, future_skew_ms, tags, words of tag bits, fields of the widest type,
            lines that one event can touch.
    """

    predicates: Words
    predicate_range: Words
    features: Words
    type_features: Words
    windows: Words
    edges: Words
    edge_tags: Words
    always: Words
    leaves: Words
    steps: Words
    code: Words
    tags: Words
    dependents: Words
    reads: Words
    tag_triggers: Words
    triggers: Words
    type_triggers: Words
    channel_bit: Words
    scalars: Words


class Rows(NamedTuple):
    """Where event rows and the facts about their strings are.

    Attributes:
        values: int64[n], rows of events; strings as ids.
        text_bits: uint64[strings, words], bit `b` of string `s` says that it passes its field's text test `b`.
    """

    values: Words
    text_bits: Bits


class World(NamedTuple):
    """What evaluation reads.

    Attributes:
        members: int64[capacity, 8], open addressing: key + 1 (key = customer << 16 | tag), held, since, armed timer
            (0: none), until, sequence; two unused words make a row one cache line.
        meta: int64[2]: rows of `members` in use.
        spans: int64[32, 5], where the steps of a sequence are.
        scratch: int64[129], evaluation stack: answers, then their certainty, then the shard's clock.
        handle: All arrays of the shard, for kernels that are not inlined.
    """

    program: Program
    lines: Lines
    rows: Rows
    members: Words
    meta: Words
    scratch: Words
    spans: Words
    handle: Handle


@inlined_kernel
def find_member(members: Words, meta: Words, key: int, create: bool) -> int:  # noqa: FBT001 - kernels take positional scalars
    """Row of a (customer, tag) membership, or -1; with `create` a new row instead of -1."""
    rows = members.shape[0]
    row = home(key, rows)
    wanted = np.int64(key) + 1
    looked_at = np.int64(0)
    while True:
        found = members[row, 0]
        if found == wanted:
            return row
        if found == 0:
            if not create:
                return -1
            members[row, 0] = wanted
            meta[0] += 1
            return row
        looked_at += 1
        row = next_row(row, looked_at, rows)
