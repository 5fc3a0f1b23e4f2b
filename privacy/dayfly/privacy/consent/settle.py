"""The walk that decides: one identity's acts from the latest back, for any number of requests as bits of a mask."""

from collections.abc import Callable, Sequence

from .acts import Act, ActKind
from .person import PersonConsents
from .reasons import ReasonCode
from .record import INT64_MAX
from .scope import Scope

__all__ = ["Masks", "Step", "is_instant", "is_person", "settle"]

Masks = Callable[[Scope], tuple[int, int]]
"""From a scope to the bits of the requests that a grant of it covers, and of those that a denial of it touches."""

Step = tuple[Act, ReasonCode]
"""An act of the deciding instant and what it says now."""


def is_person(person: object) -> bool:
    """Whether `person` is a `PersonConsents`."""
    return isinstance(person, PersonConsents)


def is_instant(now_ms: object) -> bool:
    """Whether `now_ms` is an int64 number of milliseconds."""
    return isinstance(now_ms, int) and not isinstance(now_ms, bool) and -(2**63) <= now_ms <= INT64_MAX


def _grant_now(act: Act, now_ms: int, spent: dict[str, int]) -> tuple[ReasonCode, int]:
    """What a covering grant says now, and the next instant at which that could change."""
    if act.reason is not ReasonCode.GRANTED:
        return act.reason, INT64_MAX
    if now_ms >= act.superseded_ms:
        return ReasonCode.SUPERSEDED, INT64_MAX
    if now_ms >= act.valid_until_ms:
        return ReasonCode.EXPIRED, act.superseded_ms
    ends_ms = min(act.valid_until_ms, act.superseded_ms)
    if now_ms < act.valid_from_ms:
        return ReasonCode.NOT_YET_VALID, min(act.valid_from_ms, ends_ms)
    if act.max_uses is not None and spent.get(act.record_id, 0) >= act.max_uses:
        return ReasonCode.SPENT, ends_ms
    return ReasonCode.GRANTED, ends_ms


def settle(
    acts: Sequence[Act],
    masks: Masks,
    full: int,
    *,
    now_ms: int,
    spent: dict[str, int],
    steps: list[Step] | None,
) -> tuple[int, int, int]:
    """Walk one identity's acts from the latest back; the latest act that bears on a request settles it.

    Returns:
        Bits answered, bits allowed, and the next instant at which either could differ.
    """
    open_bits, allowed, change_ms = full, 0, INT64_MAX
    index, count = 0, len(acts)
    while index < count and open_bits:
        time_ms = acts[index].time_ms
        yes = no = 0
        while index < count and acts[index].time_ms == time_ms:
            act = acts[index]
            index += 1
            covered, touched = masks(act.scope)
            if act.kind is ActKind.DENIAL:
                bits, reason = touched & open_bits, act.reason
                no |= bits
            elif act.kind is ActKind.QUESTION or not (bits := covered & open_bits):
                continue
            elif time_ms > now_ms:
                change_ms = min(change_ms, time_ms)
                continue
            else:
                reason, next_ms = _grant_now(act, now_ms, spent)
                change_ms = min(change_ms, next_ms)
                if reason is ReasonCode.GRANTED:
                    yes |= bits
                else:
                    no |= bits
            if steps is not None and bits:
                steps.append((act, reason))
        allowed |= yes & ~no
        open_bits &= ~(yes | no)
    return full & ~open_bits, allowed, change_ms
