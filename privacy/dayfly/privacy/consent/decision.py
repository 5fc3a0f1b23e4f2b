"""The decision: may this be done with this person's data now? Pure, total, and no unless every rule says yes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from dayfly.privacy.errors import ConsentRefused, InvalidArgument

from .acts import Act, ActKind
from .person import PersonConsents
from .reasons import WAY_OUT, ReasonCode
from .record import INT64_MAX
from .scope import DIMENSIONS, ConsentRequest, Scope, first_miss, request_is_sound, touches

__all__ = ["MAX_REQUIREMENTS", "Decision", "Requirements", "compile_mask", "decide"]

MAX_REQUIREMENTS: Final = 63
_SCOPES_KEPT: Final = 4096
_ALL: Final = len(DIMENSIONS)
_MISSES: Final = (
    ReasonCode.OUT_OF_SCOPE_PURPOSE,
    ReasonCode.OUT_OF_SCOPE_TOPIC,
    ReasonCode.OUT_OF_SCOPE_DATA,
    ReasonCode.OUT_OF_SCOPE_RECIPIENT,
    ReasonCode.OUT_OF_SCOPE_CHANNEL,
    ReasonCode.OUT_OF_SCOPE_COUNTRY,
)
_RANK: Final = {reason: rank for rank, reason in enumerate(ReasonCode)}

_Masks = Callable[[Scope], tuple[int, int]]
_Step = tuple[Act, ReasonCode]


@dataclass(frozen=True, slots=True)
class Decision:
    """An answer, why, and how long it stands if nothing more arrives.

    Attributes:
        request: What was asked.
        allowed: Whether it may be done now.
        reason: `GRANTED`, or why not.
        record_id: The deciding record, empty when no record decided.
        record_version: Its version, 0 when no readable record decided.
        until_ms: First instant at which an allowed decision stops holding; the present instant when it is not allowed.
        next_change_ms: First later instant at which the decision could differ; int64 max when never.
        uses_left: Uses left of the deciding record's budget; None without limit or when not allowed.
    """

    request: ConsentRequest
    allowed: bool
    reason: ReasonCode
    record_id: str
    record_version: int
    until_ms: int
    next_change_ms: int
    uses_left: int | None

    def require(self) -> "Decision":
        """Return the decision itself when it allows.

        Raises:
            ConsentRefused: It does not; the error carries the request and the reason code.
        """
        if not self.allowed:
            purpose = getattr(self.request, "purpose", None)
            raise ConsentRefused(
                f"purpose={purpose!r} must be consented and is not (reason={self.reason.value}); {WAY_OUT[self.reason]}",
                request=self.request,
                reason=self.reason,
            )
        return self


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


def _settle(
    acts: Sequence[Act],
    masks: _Masks,
    full: int,
    *,
    now_ms: int,
    spent: dict[str, int],
    steps: list[_Step] | None,
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


class Requirements:
    """Up to 63 requests with their coverage by scope, worked out once per scope and kept.

    Args:
        requests: What bit 0, 1, ... of a mask stand for.

    Raises:
        InvalidArgument: More than 63 requests.
    """

    __slots__ = ("_kept", "requests", "sound")

    def __init__(self, requests: Sequence[ConsentRequest]) -> None:
        self.requests: Final = tuple(requests)
        if len(self.requests) > MAX_REQUIREMENTS:
            raise InvalidArgument(
                f"requirements={len(self.requests)} must be <= {MAX_REQUIREMENTS}; split them over several masks"
            )
        self.sound: Final = sum(
            1 << bit for bit, request in enumerate(self.requests) if request_is_sound(request)
        )
        self._kept: Final[dict[Scope, tuple[int, int]]] = {}

    def masks(self, scope: Scope) -> tuple[int, int]:
        """Bits of the requests that a grant of `scope` covers, and bits of those that a denial of it touches."""
        kept = self._kept.get(scope)
        if kept is None:
            covered = touched = 0
            for bit, request in enumerate(self.requests):
                if self.sound >> bit & 1:
                    covered |= (first_miss(scope, request) == _ALL) << bit
                    touched |= touches(scope, request) << bit
            if len(self._kept) >= _SCOPES_KEPT:
                self._kept.clear()
            kept = self._kept[scope] = (covered, touched)
        return kept


@lru_cache(maxsize=64)
def _requirements(requests: tuple[ConsentRequest, ...]) -> Requirements:
    return Requirements(requests)


def compile_mask(
    requirements: Requirements | Sequence[ConsentRequest], person: PersonConsents, now_ms: int
) -> tuple[int, int]:
    """Decide up to 63 requests at once.

    Args:
        requirements: The requests; pass one `Requirements` object again and again to save its preparation.
        person: The person's consents.
        now_ms: The present instant, int64 milliseconds UTC.

    Returns:
        A mask whose bit i is set exactly when `decide(requirements[i], person, now_ms)` allows, and the first later
        instant at which a bit could differ if nothing more arrives (int64 max when never).

    Raises:
        InvalidArgument: More than 63 requests.
    """
    prepared = _prepared(requirements)
    if not _is_person(person) or not _is_instant(now_ms):
        return 0, INT64_MAX
    allowed = denied = 0
    change_ms = INT64_MAX
    spent = person.spent
    for acts in person.acts:
        answered, yes, next_ms = _settle(
            acts, prepared.masks, prepared.sound, now_ms=now_ms, spent=spent, steps=None
        )
        allowed |= yes
        denied |= answered & ~yes
        change_ms = min(change_ms, next_ms)
    return allowed & ~denied, change_ms


def _prepared(requirements: Requirements | Sequence[ConsentRequest]) -> Requirements:
    if isinstance(requirements, Requirements):
        return requirements
    requests = tuple(requirements)
    try:
        return _requirements(requests)
    except TypeError:  # a malformed request may be unhashable; its bit stays clear
        return Requirements(requests)


def _is_person(person: object) -> bool:
    return isinstance(person, PersonConsents)


def _is_instant(now_ms: object) -> bool:
    return isinstance(now_ms, int) and not isinstance(now_ms, bool) and -(2**63) <= now_ms <= INT64_MAX


@dataclass(slots=True)
class _Answer:
    """Working state of one decision: per identity whether it is allowed, and the act that settled it."""

    change_ms: int = INT64_MAX
    sides: list[tuple[bool, list[_Step]]] = field(default_factory=list)

    @property
    def allowed(self) -> bool:
        return bool(self.sides) and all(yes for yes, _ in self.sides)


def _answer(request: ConsentRequest, person: PersonConsents, now_ms: int) -> _Answer:
    def masks(scope: Scope) -> tuple[int, int]:
        return int(first_miss(scope, request) == _ALL), int(touches(scope, request))

    result = _Answer()
    spent = person.spent
    for acts in person.acts:
        steps: list[_Step] = []
        answered, yes, next_ms = _settle(acts, masks, 1, now_ms=now_ms, spent=spent, steps=steps)
        result.change_ms = min(result.change_ms, next_ms)
        if answered:
            result.sides.append((bool(yes), steps))
    return result


def _side_reason(steps: list[_Step]) -> ReasonCode:
    """Why one identity's settling group of acts, all of one consent time, says no."""
    reasons = {reason for _, reason in steps}
    refusals = reasons - {ReasonCode.GRANTED}
    denials = {reason for act, reason in steps if act.kind is ActKind.DENIAL}
    if ReasonCode.GRANTED in reasons and denials and ReasonCode.MALFORMED_RECORD not in denials:
        return ReasonCode.CONFLICT
    return min(refusals, key=_RANK.__getitem__)


def _no(
    request: ConsentRequest,
    reason: ReasonCode,
    now_ms: int,
    *,
    change_ms: int = INT64_MAX,
    record_id: str = "",
    version: int = 0,
) -> Decision:
    return Decision(
        request=request,
        allowed=False,
        reason=reason,
        record_id=record_id,
        record_version=version,
        until_ms=now_ms,
        next_change_ms=change_ms,
        uses_left=None,
    )


def _refused(request: ConsentRequest, answer: _Answer, person: PersonConsents, now_ms: int) -> Decision:
    if not answer.sides:
        reason, record_id, version = _nearest_miss(request, person)
        return _no(request, reason, now_ms, change_ms=answer.change_ms, record_id=record_id, version=version)
    refusing = [steps for yes, steps in answer.sides if not yes]
    steps = min(refusing, key=lambda side: _RANK[_side_reason(side)])
    reason = _side_reason(steps)
    act = next((act for act, said in steps if said is reason), steps[0][0])
    if len(refusing) < len(answer.sides) and any(act.kind is ActKind.DENIAL for act, _ in steps):
        reason = ReasonCode.MERGE_CONFLICT
    return _no(
        request, reason, now_ms, change_ms=answer.change_ms, record_id=act.record_id, version=act.version
    )


def _nearest_miss(request: ConsentRequest, person: PersonConsents) -> tuple[ReasonCode, str, int]:
    """Reason where no act bears on the request: what is to come, was asked, or came closest."""
    acts = [act for side in person.acts for act in side]
    coming = [act for act in acts if act.kind is ActKind.GRANT and first_miss(act.scope, request) == _ALL]
    if coming:
        return ReasonCode.NOT_YET_VALID, coming[-1].record_id, coming[-1].version
    asked = [act for act in acts if act.kind is ActKind.QUESTION and touches(act.scope, request)]
    if asked:
        return ReasonCode.REQUESTED, asked[0].record_id, asked[0].version
    misses = [(first_miss(act.scope, request), act) for act in acts if act.kind is ActKind.GRANT]
    if not misses:
        return ReasonCode.NO_RECORD, "", 0
    furthest, act = max(misses, key=lambda miss: miss[0])
    return _MISSES[furthest], act.record_id, act.version


def _allowed_until(request: ConsentRequest, person: PersonConsents, now_ms: int, change_ms: int) -> int:
    """First instant at which an allowed decision stops: follow the changes until one says no."""
    if all(act.time_ms <= now_ms for acts in person.acts for act in acts[:1]):
        return change_ms  # without an act to come, the only change of a yes is its end
    while change_ms < INT64_MAX:
        answer = _answer(request, person, change_ms)
        if not answer.allowed:
            return change_ms
        change_ms = answer.change_ms
    return INT64_MAX


def decide(request: ConsentRequest, person: PersonConsents, now_ms: int) -> Decision:
    """Decide one request.

    The rule is in `docs/consent.md`: per identity of the person the latest act that bears on the request settles it, a
    grant only where it covers the request wholly, a denial wherever it touches it; the answer is yes only if at least one
    identity says yes and none says no.

    Args:
        request: What is to be done.
        person: The person's consents.
        now_ms: The present instant, int64 milliseconds UTC.

    Returns:
        The decision. Never raises, whatever the arguments hold.

    Guarantees:
        Pure: reads no clock, draws no randomness, changes nothing that can be seen. Total. Fail closed: absent,
        malformed, expired, not yet valid, out of scope, withdrawn, refused, invalidated, spent and conflicting are no.
    """
    if not _is_instant(now_ms):
        return _no(request, ReasonCode.MALFORMED_REQUEST, -(2**63))
    if not request_is_sound(request):
        return _no(request, ReasonCode.MALFORMED_REQUEST, now_ms)
    if not _is_person(person):
        return _no(request, ReasonCode.NO_RECORD, now_ms)
    answer = _answer(request, person, now_ms)
    if not answer.allowed:
        return _refused(request, answer, person, now_ms)
    spent = person.spent
    granting = [act for _, steps in answer.sides for act, _ in steps]

    def left(act: Act) -> int:
        return INT64_MAX if act.max_uses is None else act.max_uses - spent.get(act.record_id, 0)

    tightest = min(granting, key=lambda act: (left(act), act.valid_until_ms, act.record_id, act.version))
    return Decision(
        request=request,
        allowed=True,
        reason=ReasonCode.GRANTED,
        record_id=tightest.record_id,
        record_version=tightest.version,
        until_ms=_allowed_until(request, person, now_ms, answer.change_ms),
        next_change_ms=answer.change_ms,
        uses_left=None if tightest.max_uses is None else left(tightest),
    )
