"""One request decided again and again: prepared once, and a yes kept until the instant at which it could change."""

from typing import Final

from .decision import Decision, decide, decide_with
from .mask import Requirements
from .person import PersonConsents
from .scope import ConsentRequest
from .settle import is_instant, is_person

__all__ = ["Decider"]


class Decider:
    """`decide` for one request.

    What scopes mean for the request is worked out once per scope. The last yes is kept with the person's state, which
    never changes: the same state gives the same answer until its `next_change_ms`, and any act gives a new state.

    Args:
        request: What will be asked, again and again.

    Guarantees:
        Every answer equals that of `decide(request, person, now_ms)` (held by a property test). Fail closed as there; only
        a yes is ever kept, and only with the very object that it was decided on.
    """

    __slots__ = ("_prepared", "request")

    def __init__(self, request: ConsentRequest) -> None:
        self.request: Final = request
        self._prepared: Final = Requirements((request,))

    def __call__(self, person: PersonConsents, now_ms: int) -> Decision:
        """Decide for a person at an instant, int64 milliseconds UTC."""
        prepared, request = self._prepared, self.request
        if not (prepared.sound and is_instant(now_ms) and is_person(person)):
            return decide(request, person, now_ms)
        kept = person.kept
        if kept is not None:
            since_ms, decision = kept
            if since_ms <= now_ms < decision.next_change_ms and (
                decision.request is request or decision.request == request
            ):
                return decision
        decision = decide_with(prepared.masks, request, person, now_ms)
        if decision.allowed:
            person.keep(now_ms, decision)
        return decision
