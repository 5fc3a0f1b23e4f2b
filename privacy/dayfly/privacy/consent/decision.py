"""The decision: may this be done with this person's data now? Pure, total, and no unless every rule says yes."""

from dataclasses import dataclass, field
from typing import Final

from dayfly.privacy.errors import ConsentRefused

from .acts import Act, ActKind
from .person import PersonConsents
from .reasons import WAY_OUT, ReasonCode
from .record import INT64_MAX
from .scope import DIMENSIONS, ConsentRequest, Scope, first_miss, request_is_sound, touches
from .settle import Masks, Step, is_instant, is_person, settle

__all__ = ["Decision", "decide", "decide_with"]

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


@dataclass(slots=True)
class _Answer:
    """Working state of one decision: per identity whether it is allowed, and the act that settled it."""

    change_ms: int = INT64_MAX
    sides: list[tuple[bool, list[Step]]] = field(default_factory=list)

    @property
    def allowed(self) -> bool:
        return bool(self.sides) and all(yes for yes, _ in self.sides)


def _answer(masks: Masks, person: PersonConsents, now_ms: int) -> _Answer:
    result = _Answer()
    spent = person.spent
    for acts in person.acts:
        steps: list[Step] = []
        answered, yes, next_ms = settle(acts, masks, 1, now_ms=now_ms, spent=spent, steps=steps)
        result.change_ms = min(result.change_ms, next_ms)
        if answered:
            result.sides.append((bool(yes), steps))
    return result


def _side_reason(steps: list[Step]) -> ReasonCode:
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


def _allowed_until(masks: Masks, person: PersonConsents, now_ms: int, change_ms: int) -> int:
    """First instant at which an allowed decision stops: follow the changes until one says no."""
    if all(acts[0].time_ms <= now_ms for acts in person.acts if acts):
        return change_ms  # without an act to come, the only change of a yes is its end
    while change_ms < INT64_MAX:
        answer = _answer(masks, person, change_ms)
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
    if not is_instant(now_ms):
        return _no(request, ReasonCode.MALFORMED_REQUEST, -(2**63))
    if not request_is_sound(request):
        return _no(request, ReasonCode.MALFORMED_REQUEST, now_ms)
    if not is_person(person):
        return _no(request, ReasonCode.NO_RECORD, now_ms)

    def masks(scope: Scope) -> tuple[int, int]:
        return int(first_miss(scope, request) == _ALL), int(touches(scope, request))

    return decide_with(masks, request, person, now_ms)


def decide_with(masks: Masks, request: ConsentRequest, person: PersonConsents, now_ms: int) -> Decision:
    """`decide` for a sound request, a person and an instant; `masks` tells how scopes bear on that request."""
    answer = _answer(masks, person, now_ms)
    if not answer.allowed:
        return _refused(request, answer, person, now_ms)
    spent = person.spent
    granting = [act for _, steps in answer.sides for act, _ in steps]

    def left(act: Act) -> int:
        return INT64_MAX if act.max_uses is None else act.max_uses - spent.get(act.record_id, 0)

    tightest = granting[0]
    if len(granting) > 1:
        tightest = min(granting, key=lambda act: (left(act), act.valid_until_ms, act.record_id, act.version))
    return Decision(
        request=request,
        allowed=True,
        reason=ReasonCode.GRANTED,
        record_id=tightest.record_id,
        record_version=tightest.version,
        until_ms=_allowed_until(masks, person, now_ms, answer.change_ms),
        next_change_ms=answer.change_ms,
        uses_left=None if tightest.max_uses is None else left(tightest),
    )
