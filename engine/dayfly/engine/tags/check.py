"""What makes a tag fit to be published: names, types, windows, thresholds and size, each refusal with its place.

`docs/tags.md` lists the refusals. A tag that passes can be compiled: nothing here is checked again later.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from dayfly.engine.catalog import Catalog
from dayfly.engine.policy.model import Settings
from dayfly.privacy.consent.taxonomy import ANY, is_path

from .check_expression import Checker
from .functions import Path
from .place import Source
from .render import render_expression, render_measure
from .text import read_expression, read_measure
from .tree import And, Expression, InTag, Not, Or, Tag

__all__ = ["Finding", "check_tag", "is_kebab", "tag_findings", "tags_used"]

MAX_NAME: Final = 64
MAX_CAPTURES: Final = 16
_KEBAB: Final = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_CAPTURE: Final = re.compile(r"[a-z][a-z0-9_]*")


class Finding(NamedTuple):
    """One reason against a tag: the way to the part (attributes of `Tag`), and the message."""

    path: Path
    message: str


def check_tag(
    tag: Tag,
    catalog: Catalog,
    known_tags: Mapping[str, Tag],
    settings: Settings,
    *,
    source: Source | None = None,
) -> None:
    """Return when `tag` may be published.

    Args:
        tag: The tag.
        catalog: What events and fields exist.
        known_tags: All tags of the policy by name, for ``in_tag``.
        settings: Gives the retained history that bounds windows.
        source: The text that `tag.when` was read from; by default its normalised text.

    Raises:
        TagError: the first finding, with its place in the text where it lies in `when` or a capture.
    """
    findings = tag_findings(tag, catalog, known_tags, settings)
    if not findings:
        return
    path, message = findings[0]
    if path[:1] == ("captures",) and len(path) > 2 and isinstance(path[1], int):
        text = render_measure(tag.captures[path[1]].measure, catalog=catalog)
        raise read_measure(text)[1].refusal(message, path[3:])
    if path[:1] != ("when",):
        raise Source("").refusal(message, ())
    if source is None:
        source = read_expression(render_expression(tag.when, catalog=catalog))[1]
    raise source.refusal(message, path[1:])


def tag_findings(
    tag: Tag, catalog: Catalog, known_tags: Mapping[str, Tag], settings: Settings
) -> tuple[Finding, ...]:
    """Everything that stands against `tag`, in the order of its parts; empty when it may be published."""
    findings = [*_heading(tag)]
    checker = Checker(catalog, settings)
    checker.expression(tag.when, ("when",))
    for at, capture in enumerate(tag.captures):
        checker.measure(capture.measure, ("captures", at, "measure"))
    findings.extend(Finding(path, message) for path, message in checker.found)
    findings.extend(_references(tag, known_tags))
    return tuple(findings)


def is_kebab(name: str) -> bool:
    """Whether `name` is lower-case words joined by single hyphens, at most 64 characters."""
    return len(name) <= MAX_NAME and _KEBAB.fullmatch(name) is not None


def tags_used(node: Expression, path: Path = ()) -> list[tuple[Path, str]]:
    """Names in the ``in_tag`` parts of a condition, with the way to each."""
    match node:
        case InTag(tag):
            return [(path, tag)]
        case Not(part):
            return tags_used(part, (*path, "part"))
        case And(parts) | Or(parts):
            return [use for at, part in enumerate(parts) for use in tags_used(part, (*path, "parts", at))]
        case _:
            return []


def _heading(tag: Tag) -> list[Finding]:
    findings = []
    if not is_kebab(tag.name):
        rule = f"tag={tag.name!r} must be lower-case words joined by hyphens, at most {MAX_NAME} characters"
        findings.append(Finding(("name",), f"{rule}; write a name such as cart-abandoned"))
    if not is_path(tag.purpose) or tag.purpose == ANY:
        rule = f"purpose={tag.purpose!r} must be lower-case words joined by dots"
        findings.append(Finding(("purpose",), f"{rule}; write a purpose such as service.recommendation"))
    if not is_path(tag.topic):
        rule = f"topic={tag.topic!r} must be lower-case words joined by dots"
        findings.append(Finding(("topic",), f"{rule}; write a topic such as furniture.storage"))
    if tag.version < 1:
        findings.append(
            Finding(("version",), f"version={tag.version!r} must be >= 1; count changes of meaning from 1")
        )
    if len(tag.captures) > MAX_CAPTURES:
        rule = f"captures={len(tag.captures)} must be at most {MAX_CAPTURES}"
        findings.append(Finding(("captures",), f"{rule}; move some to another tag"))
    seen: set[str] = set()
    for at, capture in enumerate(tag.captures):
        if _CAPTURE.fullmatch(capture.name) is None:
            rule = f"capture={capture.name!r} must be lower-case letters, digits and underscores"
            findings.append(Finding(("captures", at), f"{rule}; write a name such as materials"))
        elif capture.name in seen:
            findings.append(
                Finding(("captures", at), f"capture={capture.name!r} must be named once; rename the second")
            )
        seen.add(capture.name)
    return findings


def _references(tag: Tag, known_tags: Mapping[str, Tag]) -> list[Finding]:
    findings = []
    for path, name in tags_used(tag.when, ("when",)):
        if name != tag.name and name not in known_tags:
            known = ", ".join(sorted(known_tags)) or "none"
            findings.append(
                Finding(path, f"tag={name!r} must be declared; declare it or use one of: {known}")
            )
            continue
        chain = _way_back(name, tag.name, known_tags)
        if chain:
            shown = " -> ".join((tag.name, *chain))
            findings.append(
                Finding(path, f"tag={name!r} must not lead back to itself ({shown}); break the circle")
            )
    return findings


def _way_back(start: str, goal: str, known_tags: Mapping[str, Tag]) -> tuple[str, ...]:
    """Names from `start` to `goal` along ``in_tag``; empty when there is no way."""
    waiting: list[tuple[str, ...]] = [(start,)]
    seen = {start}
    while waiting:
        chain = waiting.pop()
        if chain[-1] == goal:
            return chain
        known = known_tags.get(chain[-1])
        for _, name in tags_used(known.when) if known is not None else ():
            if name not in seen:
                seen.add(name)
                waiting.append((*chain, name))
    return ()
