"""Rows of the random workload: made-up values, packed into batches, and consent records."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from dayfly.engine.catalog import MICRO, NULL, EventType, FieldType
from dayfly.engine.events import EventBatch, pack_string
from dayfly.privacy.consent import ConsentRecord, ConsentState, Scope, Terms, TransferBasis, UseBudget
from tests.engine.workload_policy import OBSERVED
from tests.engine.workload_rules import (
    EPOCH_MS,
    SPANS_MS,
    TEXTS,
)

__all__ = ["Row", "consent_record", "packed", "pseudonym", "random_cells"]

_TERMS: Final = Terms(transfer_basis=TransferBasis.CONTRACT)


def pseudonym(index: int) -> bytes:
    """The 16-byte pseudonym number `index`."""
    return (index + 1).to_bytes(8, "little") + (0x9E37_79B9_7F4A_7C15 * (index + 1) % 2**64).to_bytes(
        8, "little"
    )


@dataclass(slots=True)
class Row:
    """One event before packing: `cells` are packed values except for text, which is still text."""

    subject: int
    kind: int
    time_ms: int
    channel: int
    cells: tuple[int | str, ...]
    event_id: int
    link: int = -1
    consent: int = -1


def random_cells(rng: random.Random, kind: EventType, around_ms: int) -> tuple[int | str, ...]:
    return tuple(NULL if rng.random() < 0.12 else _cell(rng, spec.type, around_ms) for spec in kind.fields)


def _cell(rng: random.Random, kind: FieldType, around_ms: int) -> int | str:
    if kind is FieldType.STRING:
        return rng.choice(TEXTS)
    if kind is FieldType.BOOLEAN:
        return int(rng.random() < 0.5)
    if kind is FieldType.TIME:
        return (EPOCH_MS if rng.random() < 0.5 else around_ms) + rng.choice(SPANS_MS) * rng.randrange(-3, 4)
    return rng.choice((-1, 0, 1, 2, 5, 9)) * MICRO + rng.choice((0, 0, 500_000, 1, 999_999))


def packed(rows: Sequence[Row], received: Sequence[int]) -> EventBatch:
    """Columns of `rows`."""
    values: list[int] = []
    offsets: list[int] = []
    buffer = bytearray()
    for row in rows:
        offsets.append(len(values))
        for cell in row.cells:
            if isinstance(cell, str):
                encoded = cell.encode()
                values.append(pack_string(len(buffer), len(encoded)))
                buffer += encoded
            else:
                values.append(cell)
    used = sorted({row.consent for row in rows if row.consent >= 0})
    digests = [OBSERVED[row.consent].digest if row.consent >= 0 else 0 for row in rows]
    return EventBatch(
        received_ms=np.array(received, np.int64),
        time_ms=np.array([row.time_ms for row in rows], np.int64),
        subject=_words(b"".join(pseudonym(row.subject) for row in rows)),
        link=_words(b"".join(pseudonym(row.link) if row.link >= 0 else bytes(16) for row in rows)),
        event_id=_words(b"".join((row.event_id + 1).to_bytes(16, "little") for row in rows)),
        digest=_words(b"".join((row.event_id + 1).to_bytes(16, "big") for row in rows)),
        type=np.array([row.kind for row in rows], np.int32),
        channel=np.array([row.channel for row in rows], np.int32),
        consent=np.array([used.index(row.consent) if row.consent >= 0 else -1 for row in rows], np.int32),
        consent_digest=np.array(digests, np.uint64),
        value_offset=np.array(offsets, np.int64),
        values=np.array(values, np.int64),
        strings=np.frombuffer(bytes(buffer), np.uint8),
        consents=tuple(OBSERVED[index] for index in used),
    )


def _words(joined: bytes) -> npt.NDArray[np.uint64]:
    return np.frombuffer(joined, "<u8").reshape(-1, 2).astype(np.uint64)


def consent_record(
    person: int,
    at_ms: int,
    purpose: str,
    topic: str,
    *,
    until_ms: int,
    from_ms: int | None = None,
    granted: bool = True,
) -> ConsentRecord:
    """A yes or no of pseudonym number `person` to one purpose and topic, for every recipient, channel and country."""
    principal = pseudonym(person).hex()
    anything = ("*",)
    return ConsentRecord(
        record_id=f"{principal}:{at_ms}:{purpose}:{topic}:{until_ms}:{granted}".replace("*", "all"),
        principal=principal,
        state=ConsentState.GIVEN if granted else ConsentState.REFUSED,
        time_ms=at_ms,
        valid_from_ms=at_ms if from_ms is None else from_ms,
        valid_until_ms=until_ms,
        scope=Scope(
            purposes=(purpose,),
            topics=(topic,),
            data_categories=anything,
            recipients=anything,
            channels=anything,
            recipient_countries=anything,
        ),
        use=UseBudget(max_uses=None),
        terms=_TERMS,
    )
