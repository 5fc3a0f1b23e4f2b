"""A reader of snapshots of its own, from the description at the head of `snapshot_format`, and what there is to be read."""

import zlib
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from dayfly.engine.catalog import NULL, FieldType
from dayfly.engine.shard.shard import Shard

__all__ = ["Told", "columns_of", "kept_events", "members_of", "told_events"]

Told = tuple[int, int, str, str, bytes, Mapping[str, int | str]]
"""An event: time, person, type, channel, digest, and its values by field."""

Content = dict[str, Any]


def columns_of(data: bytes) -> Content:
    """Head entries, columns (lists of integers) and parts (bytes) of a snapshot, all by name."""
    crcs = [zlib.crc32(data[at : min(at + 2**20, len(data) - 32)]) for at in range(0, len(data) - 31, 2**20)]
    assert blake2b(b"".join(crc.to_bytes(4, "little") for crc in crcs), digest_size=32).digest() == data[-32:]
    size = int.from_bytes(data[16:24], "little")
    head = msgspec.msgpack.decode(data[24 : 24 + size])
    at = 24 + -(-size // 8) * 8
    found: Content = dict(head)
    for name, (rows, width, base, hole) in head["columns"].items():
        cells = [data[at + row * width : at + (row + 1) * width] for row in range(rows)]
        numbers = [int.from_bytes(cell, "little", signed=width == 8) for cell in cells]
        found[name] = [hole if hole is not None and not number else number + base for number in numbers]
        at += -(-rows * width // 8) * 8
    for name, length in head["parts"].items():
        found[name] = data[at : at + length]
        at += -(-length // 8) * 8
    assert at + 32 == len(data)
    return found


def told_events(data: bytes, shard: Shard) -> list[Told]:
    """Events that a snapshot of a shard tells of."""
    found = columns_of(data)
    catalog = shard.policy.catalog
    texts, end = [], 0
    for length in found["text.length"]:
        texts.append(found["text"][end : end + length].decode())
        end += length
    first = [0]
    for kind in catalog.types:
        first.append(first[-1] + len(kind.fields))
    cells = [iter(found[f"value.{number}"]) for number in range(first[-1])]
    events: list[Told] = []
    rows = zip(*(found[f"event.{name}"] for name in ("time", "person", "type", "channel")), strict=True)
    for place, (time, person, number, channel) in enumerate(rows):
        kind = catalog.types[number]
        values = {}
        for slot, spec in enumerate(kind.fields):
            cell = next(cells[first[number] + slot])
            if cell != NULL:
                values[spec.name] = texts[cell] if spec.type is FieldType.STRING else cell
        digest = found["event.digest"][16 * place : 16 * place + 16]
        events.append((time, person, kind.name, catalog.channels[channel], digest, values))
    assert all(next(column, None) is None for column in cells)
    return events


def kept_events(shard: Shard) -> list[Told]:
    """Events that a shard remembers, row by row."""
    core, strings = shard.arrays.core, shard.arrays.strings
    catalog = shard.policy.catalog
    control = core.control.tolist()
    clock, count = control[0], control[5]
    events: list[Told] = []
    for time, person, number, channel, start, _, *digest in core.history[:count].tolist():
        if person < 0 or time <= clock - shard.policy.settings.history_ms:
            continue
        kind = catalog.types[number]
        values: dict[str, int | str] = {}
        for slot, spec in enumerate(kind.fields):
            cell = int(core.world.rows.values[start + slot])
            if cell == NULL:
                continue
            if spec.type is FieldType.STRING:
                _, at, length = strings.where[cell].tolist()
                values[spec.name] = strings.text[at : at + length].tobytes().decode()
            else:
                values[spec.name] = cell
        raw = b"".join(word.to_bytes(8, "little", signed=True) for word in digest)
        events.append((time, person, kind.name, catalog.channels[channel], raw, values))
    return events


def members_of(shard: Shard) -> list[tuple[int, ...]]:
    """Memberships that hold or have a timer: person, tag, held, since, timer, until, sequence."""
    rows = []
    for key, held, since, timer, until, sequence, *_ in shard.arrays.core.world.members.tolist():
        if key and (held or timer):
            told = (held, since if held else 0, timer, until, sequence if held else 0)
            rows.append(((key - 1) >> 16, (key - 1) & 0xFFFF, *told))
    return sorted(rows)
