"""Independent reader of lineage blocks, written from the format description alone: a byte cursor and plain dictionaries."""

from typing import Any
from uuid import UUID


class Cursor:
    """Takes bytes off the front; runs out with `ValueError`."""

    def __init__(self, data: bytes) -> None:
        self.rest = list(data)

    def take(self, count: int) -> bytes:
        if count > len(self.rest):
            raise ValueError("out of bytes")
        taken, self.rest = self.rest[:count], self.rest[count:]
        return bytes(taken)

    def uvarint(self) -> int:
        groups: list[int] = []
        while True:
            (byte,) = self.take(1)
            groups.append(byte % 128)
            if byte < 128:
                break
        if len(groups) > 1 and groups[-1] == 0:
            raise ValueError("not minimal")
        value: int = sum(group * 128**place for place, group in enumerate(groups))
        if value >= 2**64:
            raise ValueError("too large")
        return value


def _record_id(form: int, raw: bytes) -> str:
    if form == 0:
        return raw.decode("utf-8")
    if form == 1:
        return raw.hex()
    if form == 2:
        return str(UUID(raw.hex()))
    return chr(raw[0]) + ":" + raw[1:].hex()


def read_block(data: bytes) -> dict[str, Any]:
    """The block as dictionaries, or `ValueError`; ordering and form rules are not judged here."""
    cursor = Cursor(data)
    if cursor.take(1) != b"\x01":
        raise ValueError("version")
    shape = cursor.take(16)
    as_of = cursor.uvarint()
    consents = []
    for _ in range(cursor.uvarint()):
        length, form = divmod(cursor.uvarint(), 4)
        raw = cursor.take(length)
        name = _record_id(form, raw)
        version = cursor.uvarint()
        start = as_of - cursor.uvarint()
        end = as_of + cursor.uvarint()
        consents.append({"record_id": name, "version": version, "from": start, "until": end})
    events: list[dict[str, Any]] = []
    clock = as_of
    for _ in range(cursor.uvarint()):
        digest, channel = cursor.take(16), cursor.uvarint()
        clock -= cursor.uvarint()
        coded = cursor.uvarint()
        received = None
        if coded:
            half, odd = divmod(coded - 1, 2)
            received = clock + (-(half + 1) if odd else half)
        events.append({"digest": digest, "channel": channel, "time": clock, "received": received})
    present = cursor.uvarint()
    fields: dict[int, dict[str, Any]] = {}
    for field in range(64):
        if present // 2**field % 2:
            raw = cursor.take(-(-len(events) // 8))
            listed = [place for place in range(len(raw) * 8) if raw[place // 8] // 2 ** (place % 8) % 2]
            fields[field] = {"events": listed, "total": len(listed) + cursor.uvarint()}
    if cursor.rest:
        raise ValueError("trailing bytes")
    return {"shape": shape, "as_of": as_of, "consents": consents, "events": events, "fields": fields}
