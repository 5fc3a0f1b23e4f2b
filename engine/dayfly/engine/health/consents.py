"""Counting consents without stopping the engine: a walk over all persons in small strides, one stride a turn.

Whether a use is allowed is read from the masks that the kernels test, so the board says what the engine does. Consents that end
and uses that are left stand in the persons' records, which cost a few microseconds each: that is why it is a walk.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from dayfly.engine.health.meter import DAY_MS
from dayfly.engine.health.model import Budget, ConsentHealth
from dayfly.engine.policy.model import Policy
from dayfly.engine.shard import Shard, kernels_layout
from dayfly.privacy.consent import PersonConsents, ReasonCode
from dayfly.privacy.consent.acts import Act, ActKind

__all__ = ["ConsentWalk"]

STRIDE: Final = 256
OTHER: Final = "other"
"""Purpose under which uses of consents are shown whose purposes the policy does not declare."""


@dataclass(slots=True)
class _Tally:
    people: int = 0
    coverage: Counter[str] = field(default_factory=Counter)
    any_purpose: int = 0
    given: int = 0
    end_24h: int = 0
    end_7d: int = 0
    left: Counter[str] = field(default_factory=Counter)
    granted: Counter[str] = field(default_factory=Counter)


class ConsentWalk:
    """Counts over all persons of a shard, `STRIDE` of them at a time.

    Args:
        shard: Whose persons; used on the shard's thread only.
        stride: Persons per `step`.
    """

    def __init__(self, shard: Shard, *, stride: int = STRIDE) -> None:
        self._shard: Final = shard
        self._stride: Final = stride
        self._policy: Policy | None = None
        self._bits: dict[str, npt.NDArray[np.uint64]] = {}
        self._next = 0
        self._tally = _Tally()
        self._done: tuple[int, _Tally, int] | None = None

    def step(self, now_ms: int) -> bool:
        """Look at the next persons; True when that ended a full count."""
        if self._shard.policy is not self._policy:
            self._begin()
        start = self._next
        end = min(start + self._stride, self._people)
        self._look_at(self._tally, start, end, now_ms)
        self._next = end
        if end < self._people:
            return False
        self._done, self._tally, self._next = (now_ms, self._tally, end), _Tally(), 0
        return True

    def health(self, now_ms: int) -> ConsentHealth:
        """The last full count; where nobody has finished one, as much as there is."""
        if self._people <= self._stride or self._shard.policy is not self._policy:
            self._begin()
            self.step(now_ms)
        at_ms, tally, rows = self._done or (now_ms, self._tally, self._next)
        return ConsentHealth(
            at_ms=at_ms,
            people=tally.people + max(0, self._people - rows),
            looked_at=tally.people,
            coverage={purpose: tally.coverage[purpose] for purpose in sorted(self._bits)},
            any_purpose=tally.any_purpose,
            given=tally.given,
            end_24h=tally.end_24h,
            end_7d=tally.end_7d,
            uses={
                purpose: Budget(left=tally.left[purpose], total=granted, unit="uses")
                for purpose, granted in sorted(tally.granted.items())
            },
        )

    @property
    def _people(self) -> int:
        return int(self._shard.arrays.core.control[kernels_layout.PEOPLE])

    def _begin(self) -> None:
        """Begin again under the policy in force."""
        compiled = self._shard.arrays.compiled
        self._policy = self._shard.policy
        words = self._shard.arrays.core.masks.shape[1]
        self._bits = {}
        for number, request in enumerate(compiled.requirements):
            bits = self._bits.setdefault(request.purpose, np.zeros(words, np.uint64))
            bit = compiled.bit_of(number)
            bits[bit >> 6] |= np.uint64(1 << (bit & 63))
        self._next, self._tally, self._done = 0, _Tally(), None

    def _known(self, start: int, end: int) -> npt.NDArray[np.bool_]:
        """Which rows stand for a person: those of merged and erased ones have no name any more."""
        return np.asarray(self._shard.arrays.core.names[start:end].any(axis=1))

    def _look_at(self, tally: _Tally, start: int, end: int, now_ms: int) -> None:
        known = self._known(start, end)
        tally.people += int(known.sum())
        masks = self._shard.arrays.core.masks[start:end]
        tally.any_purpose += int(masks.any(axis=1).sum())
        for purpose, bits in self._bits.items():
            tally.coverage[purpose] += int((masks & bits).any(axis=1).sum())
        states = self._shard.consents.states
        for person in (np.flatnonzero(known) + start).tolist():
            state = states.get(person)
            if state is not None:
                self._read(tally, state, now_ms)

    def _read(self, tally: _Tally, state: PersonConsents, now_ms: int) -> None:
        declared = {} if self._policy is None else self._policy.purposes
        for act, ends_ms in _in_force(state, now_ms):
            tally.given += 1
            tally.end_24h += ends_ms <= now_ms + DAY_MS
            tally.end_7d += ends_ms <= now_ms + 7 * DAY_MS
            if act.max_uses is not None:
                named = {purpose if purpose in declared else OTHER for purpose in act.scope.purposes}
                for purpose in named or {OTHER}:
                    tally.granted[purpose] += act.max_uses
                    tally.left[purpose] += max(0, act.max_uses - state.spent.get(act.record_id, 0))


def _in_force(state: PersonConsents, now_ms: int) -> Iterator[tuple[Act, int]]:
    """Grants within their validity, spent ones too, and when each ends; an act that speaks for several identities once."""
    acts = state.acts
    for act in acts[0] if len(acts) == 1 else dict.fromkeys(act for one in acts for act in one):
        ends_ms = min(act.valid_until_ms, act.superseded_ms)
        granted = act.kind is ActKind.GRANT and act.reason is ReasonCode.GRANTED
        if granted and act.time_ms <= now_ms and act.valid_from_ms <= now_ms < ends_ms:
            yield act, ends_ms
