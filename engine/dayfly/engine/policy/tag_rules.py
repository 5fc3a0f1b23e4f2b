"""From documents to tags and the pieces of the language that stand in documents, each checked against the catalogue."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from dayfly.engine.errors import TagError
from dayfly.engine.tags.check import tag_findings
from dayfly.engine.tags.check_expression import Checker
from dayfly.engine.tags.document import (
    read_expression_document,
    read_measure_document,
    read_predicate_document,
)
from dayfly.engine.tags.render import render_expression
from dayfly.engine.tags.text import read_expression, read_measure, read_predicate
from dayfly.engine.tags.tree import And, Capture, EventMatch, Expression, Measure, Tag

from .context import Context, ObjectPlace, Place, Spot, TextPlace

__all__ = ["declared_tags", "read_checked_measure", "read_match", "read_tags"]


class _Read(NamedTuple):
    """A tag, where it stands, and where the parts of its trees stand."""

    tag: Tag
    spot: Spot
    when: Place
    captures: tuple[Place, ...]


def read_tags(context: Context) -> tuple[Tag, ...]:
    """All tags; every finding about each is noted."""
    read: dict[str, _Read] = {}
    for spot, body in context.entries("tags", "tags"):
        if body["tag"] in read:
            context.say(spot.at("tag"), f"tag={body['tag']!r} must be named once; rename one")
            continue
        one = _tag(context, spot, body)
        if one is not None:
            read[one.tag.name] = one
    known = {name: Tag(name, "", "", And(())) for name in declared_tags(context)}
    known.update({name: one.tag for name, one in read.items()})
    for one in read.values():
        _note_findings(context, one, known)
    return tuple(one.tag for one in read.values())


def declared_tags(context: Context) -> list[str]:
    """Names of all tags, also of those that cannot be read, so that references to them are not reported as well."""
    sections = (document.data.get("tags") for document in context.of_kind("tags"))
    bodies = (body for section in sections if isinstance(section, list) for body in section)
    return [body["tag"] for body in bodies if isinstance(body, dict) and isinstance(body.get("tag"), str)]


def read_match(context: Context, spot: Spot, body: Mapping[str, Any]) -> EventMatch | None:
    """An ``{event, where}`` object, checked; None with findings otherwise."""
    where, place = None, None
    if "where" in body:
        try:
            where, place = _predicate(spot.at("where"), body["where"])
        except TagError as error:
            context.say_tag_error(spot.at("where"), error)
            return None
    match = EventMatch(body["event"], where)
    checker = Checker(context.catalog, context.settings)
    checker.match(match, ())
    for path, message in checker.found:
        if path[:1] == ("where",) and place is not None:
            context.say_at(spot.at("where"), place.position(path[1:]), message)
        else:
            context.say(spot.at("event"), message)
    return None if checker.found else match


def read_checked_measure(context: Context, spot: Spot, value: Any) -> Measure | None:
    """A measure, checked; None with findings otherwise."""
    read = _measure(context, spot, value)
    if read is None:
        return None
    checker = Checker(context.catalog, context.settings)
    checker.measure(read[0], ())
    for path, message in checker.found:
        context.say_at(spot, read[1].position(path), message)
    return None if checker.found else read[0]


def _tag(context: Context, spot: Spot, body: Mapping[str, Any]) -> _Read | None:
    condition = _condition(context, spot.at("when"), body["when"])
    given = body.get("captures", {}).items()
    measures = {name: _measure(context, spot.at("captures", name), value) for name, value in given}
    captures = {name: read for name, read in measures.items() if read is not None}
    if condition is None or len(captures) < len(measures):
        return None
    tag = Tag(
        name=body["tag"],
        purpose=body["purpose"],
        topic=body["topic"],
        when=condition[0],
        captures=tuple(Capture(name, read[0]) for name, read in captures.items()),
        version=body.get("version", 1),
        text=render_expression(condition[0], catalog=context.catalog),
        description=body.get("description", ""),
    )
    return _Read(tag, spot, condition[1], tuple(read[1] for read in captures.values()))


def _note_findings(context: Context, read: _Read, known: Mapping[str, Tag]) -> None:
    tag, spot = read.tag, read.spot
    for path, message in tag_findings(tag, context.catalog, known, context.settings):
        match path:
            case ("when", *rest):
                context.say_at(spot.at("when"), read.when.position(tuple(rest)), message)
            case ("captures", int() as at, "measure", *rest):
                capture = spot.at("captures", tag.captures[at].name)
                context.say_at(capture, read.captures[at].position(tuple(rest)), message)
            case ("captures", int() as at):
                context.say_key(spot.at("captures", tag.captures[at].name), message)
            case (str() as key, *_):
                context.say(spot.at({"name": "tag"}.get(key, key)), message)
    context.check_declared(spot.at("purpose"), tag.purpose, context.purposes)
    context.check_declared(spot.at("topic"), tag.topic, context.topics)


def _condition(context: Context, spot: Spot, value: Any) -> tuple[Expression, Place] | None:
    try:
        if isinstance(value, str):
            node, source = read_expression(value)
            return node, TextPlace(spot, source)
        node, ways = read_expression_document(value)
    except TagError as error:
        context.say_tag_error(spot, error)
        return None
    return node, ObjectPlace(spot, ways)


def _measure(context: Context, spot: Spot, value: Any) -> tuple[Measure, Place] | None:
    try:
        if isinstance(value, str):
            node, source = read_measure(value)
            return node, TextPlace(spot, source)
        node, ways = read_measure_document(value)
    except TagError as error:
        context.say_tag_error(spot, error)
        return None
    return node, ObjectPlace(spot, ways)


def _predicate(spot: Spot, value: Any) -> tuple[Any, Place]:
    if isinstance(value, str):
        node, source = read_predicate(value)
        return node, TextPlace(spot, source)
    tree, ways = read_predicate_document(value)
    return tree, ObjectPlace(spot, ways)
