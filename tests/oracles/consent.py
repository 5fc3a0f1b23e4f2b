"""Slow restatement of `docs/consent.md`, "The rule" and "Merging". Shares no code with the decision; readable inputs only."""

from collections.abc import Iterable, Sequence
from typing import Any

ENDED = {"used", "withdrawn", "expired", "refused", "invalidated"}
DENYING = {"withdrawn", "refused", "invalidated"}
PATHS = ("purposes", "topics", "data_categories")
NAMES = ("recipients", "channels", "recipient_countries")


def asked(request: Any) -> dict[str, list[str]]:
    """What a request asks per dimension."""
    return {
        "purposes": [request.purpose],
        "topics": [request.topic],
        "data_categories": list(request.data_categories) or ["*"],
        "recipients": [request.recipient],
        "channels": [request.channel],
        "recipient_countries": [request.recipient_country],
    }


def below(path: str, root: str) -> bool:
    """Whether `path` is `root` or lies below it, word by word."""
    if root == "*":
        return True
    if path == "*":
        return False
    steps, base = path.split("."), root.split(".")
    return len(steps) >= len(base) and all(one == two for one, two in zip(base, steps, strict=False))


def covered(scope: Any, request: Any) -> bool:
    """Every value asked lies in some value of the scope."""
    wanted = asked(request)
    for dimension in PATHS:
        for value in wanted[dimension]:
            if not any(below(value, root) for root in getattr(scope, dimension)):
                return False
    for dimension in NAMES:
        for value in wanted[dimension]:
            if not any(root in ("*", value) for root in getattr(scope, dimension)):
                return False
    return True


def touched(scope: Any, request: Any) -> bool:
    """In every dimension some value meets what is asked; an empty list meets everything."""
    wanted = asked(request)
    for dimension in PATHS + NAMES:
        values = list(getattr(scope, dimension)) or ["*"]
        meets = False
        for value in values:
            for want in wanted[dimension]:
                if dimension in PATHS:
                    meets = meets or below(value, want) or below(want, value)
                else:
                    meets = meets or value == want or "*" in (value, want)
        if not meets:
            return False
    return True


def spoken_for(name: str, time_ms: int, links: Iterable[tuple[str, str, int]]) -> set[str]:
    """Identities that were one with `name` before `time_ms`."""
    edges = [(one, two) for one, two, at in links if at < time_ms]
    found, todo = {name}, [name]
    while todo:
        here = todo.pop()
        for one, two in edges:
            other = two if one == here else one
            if here in (one, two) and other not in found:
                found.add(other)
                todo.append(other)
    return found


def says(entry: Any, others: Sequence[Any], request: Any, spent: dict[str, int], now: int) -> bool | None:
    """What one entry says now, among all entries that speak for the identity; None when it does not bear."""
    state = str(getattr(entry, "state", "malformed"))
    if state == "malformed" or state in DENYING:
        return False if touched(entry.scope, request) else None
    siblings = [one for one in others if hasattr(one, "state") and one.record_id == entry.record_id]
    ends = [one.time_ms for one in siblings if str(one.state) in ENDED]
    gives = [one.time_ms for one in siblings if str(one.state) == "given"]
    if state == "requested":
        answered = any(time < entry.time_ms for time in ends + gives)
        return False if answered and touched(entry.scope, request) else None
    if state == "given" and any(end <= entry.time_ms for end in ends):
        return False if touched(entry.scope, request) else None
    if entry.time_ms > now or not covered(entry.scope, request):
        return None
    if state != "given":
        return None if any(time <= entry.time_ms for time in gives) else False
    replaced = any(entry.time_ms < time <= now for time in gives)
    limit = entry.use.max_uses
    budget = limit is None or spent.get(entry.record_id, 0) < limit
    return not ends and not replaced and budget and entry.valid_from_ms <= now < entry.valid_until_ms


def allowed(
    request: Any,
    entries: Sequence[Any],
    links: Sequence[tuple[str, str, int]],
    spent: dict[str, int],
    now: int,
) -> bool:
    """Whether the rule says yes."""
    answers = []
    for identity in {name for one, two, _ in links for name in (one, two)} | {
        entry.principal for entry in entries
    }:
        heard = [entry for entry in entries if identity in spoken_for(entry.principal, entry.time_ms, links)]
        bearing = [
            (entry.time_ms, said)
            for entry in heard
            if (said := says(entry, heard, request, spent, now)) is not None
        ]
        if bearing:
            latest = max(time for time, _ in bearing)
            answers.append(all(said for time, said in bearing if time == latest))
    return bool(answers) and all(answers)
