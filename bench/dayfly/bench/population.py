"""Customers for the realtime cases: their pseudonyms, and their consent, put into a shard by the million."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import numpy as np

from dayfly.engine.intake import IntakeKeys
from dayfly.engine.shard import Shard
from dayfly.privacy.deident import PseudonymKeys

from .kernels_bench import enrol
from .workload import START_MS, grants, user_id

__all__ = ["PEER_KEY", "bench_intake_keys", "enrol_all", "peer_subjects", "subjects_of"]

PEER_KEY: Final = bytes(range(32))
_PSEUDONYMS: Final = PseudonymKeys("bench", {1: bytes(range(1, 33))})


def bench_intake_keys() -> IntakeKeys:
    """Fixed keys, so that two runs see the same pseudonyms. Never use them elsewhere."""
    return IntakeKeys(_PSEUDONYMS, bytes(range(2, 34)))


def subjects_of(people: Sequence[int]) -> list[bytes]:
    """Pseudonyms that the intake gives to customers."""
    return [_PSEUDONYMS.current("user", user_id(person)).value for person in people]


def peer_subjects(people: Sequence[int]) -> list[bytes]:
    """Pseudonyms that the peer engine gives to customers under `PEER_KEY`."""
    return [
        blake2b(user_id(person).encode(), digest_size=16, key=PEER_KEY, person=b"user").digest()
        for person in people
    ]


def enrol_all(shard: Shard, subjects: Sequence[bytes]) -> None:
    """Make everybody known to a fresh shard, with a consent to everything.

    The first gives a `ConsentGiven`; the mask that this compiles to is written for all others. What the events then cost
    is the same: the kernel reads the mask, not the records.
    """
    shard.apply(list(grants(subjects[:1], START_MS)), START_MS)
    others = np.frombuffer(b"".join(subjects[1:]), np.uint64).reshape(-1, 2)
    enrol(shard.arrays.core, others, shard.arrays.core.masks[0].copy())
