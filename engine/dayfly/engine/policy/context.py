"""What the parts of the loader share: documents by kind, findings with their places, and the declared taxonomies."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

from dayfly.engine.catalog import Catalog, FieldType
from dayfly.engine.errors import TagDocumentError, TagError
from dayfly.engine.tags.functions import Path as TreePath
from dayfly.engine.tags.place import Source
from dayfly.privacy.consent.taxonomy import ANY, covers
from dayfly.privacy.deident import Masking, parse_masking
from dayfly.privacy.deident.masking import Band, Pseudonymise, Truncate
from dayfly.privacy.errors import DeidentificationError

from .model import Settings
from .problems import Position, Problem
from .shape import shape_findings
from .yaml_source import LocatedDocument, Path

__all__ = ["Context", "ObjectPlace", "Place", "Spot", "TextPlace", "masking_misfit"]


_DEPENDENT: Final = ("settings", "mapping", "transfers", "tags", "triggers")
"""Kinds whose misshapen documents leave what others refer to declared (names of tags are read even so)."""


class Spot(NamedTuple):
    """A value in a document."""

    document: LocatedDocument
    path: Path

    def at(self, *steps: str | int) -> "Spot":
        """A value below."""
        return Spot(self.document, (*self.path, *steps))


class Place(Protocol):
    """Finds parts of a tree in a document."""

    def position(self, path: TreePath) -> Position:
        """Place of the part at `path` of the tree."""
        ...


@dataclass(frozen=True, slots=True)
class TextPlace:
    """A tree that was read from a text value at `spot`."""

    spot: Spot
    source: Source

    def position(self, path: TreePath) -> Position:
        """Line and column of the part's first character."""
        return self.spot.document.inside(self.spot.path, self.source.span(path).start)


@dataclass(frozen=True, slots=True)
class ObjectPlace:
    """A tree that was read from the object form at `spot`."""

    spot: Spot
    ways: Mapping[TreePath, TreePath]

    def position(self, path: TreePath) -> Position:
        """Line and column of the value that gave the part."""
        while path and path not in self.ways:
            path = path[:-1]
        return self.spot.document.value((*self.spot.path, *self.ways.get(path, ())))


@dataclass(slots=True)
class Context:
    """Documents being put together, and everything found against them.

    While a file cannot be read, or a document that declares things is misshapen, `complete` is false, and findings that
    something must be declared are held back: they would only repeat that file's problem.
    """

    documents: Sequence[LocatedDocument]
    complete: bool = True
    catalog: Catalog = field(default_factory=lambda: Catalog((), ()))
    settings: Settings = field(default_factory=Settings)
    problems: list[Problem] = field(default_factory=list)
    purposes: dict[str, str] = field(default_factory=dict)
    topics: dict[str, str] = field(default_factory=dict)
    data_categories: dict[str, str] = field(default_factory=dict)
    _broken: dict[int, list[Path]] = field(default_factory=dict)

    def check_shapes(self) -> None:
        """Hold every document against the schema."""
        for document in self.documents:
            ways = self._broken.setdefault(id(document), [])
            for path, message, at_key in shape_findings(document):
                ways.append(path)
                self.complete &= isinstance(document.data, dict) and document.data.get("kind") in _DEPENDENT
                (self.say_key if at_key else self.say)(Spot(document, path), message)

    def of_kind(self, kind: str) -> Iterator[LocatedDocument]:
        """Documents of a kind, those left out that are no maps."""
        for document in self.documents:
            if isinstance(document.data, dict) and document.data.get("kind") == kind:
                yield document

    def sound(self, spot: Spot) -> bool:
        """Whether the schema found nothing at a value, below it, or around it."""
        path = spot.path
        ways = self._broken.get(id(spot.document), [])
        return not any(bad[: len(path)] == path or path[: len(bad)] == bad for bad in ways)

    def entries(self, kind: str, section: str) -> Iterator[tuple[Spot, Any]]:
        """Sound entries of a section (a map or a list) over all documents of a kind."""
        for document in self.of_kind(kind):
            content = document.data.get(section)
            pairs = (
                content.items()
                if isinstance(content, dict)
                else enumerate(content if isinstance(content, list) else ())
            )
            for key, value in pairs:
                spot = Spot(document, (section, key))
                if self.sound(spot):
                    yield spot, value

    def say(self, spot: Spot, message: str) -> None:
        """Note a finding about a value."""
        self.say_at(spot, spot.document.value(spot.path), message)

    def say_key(self, spot: Spot, message: str) -> None:
        """Note a finding about the key of a value."""
        self.say_at(spot, spot.document.key(spot.path), message)

    def say_at(self, spot: Spot, position: Position, message: str) -> None:
        """Note a finding at a position; without one (documents in memory) the message says the way."""
        if not self.complete and " must be declared" in message:
            return
        if position.line == 0:
            way = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in spot.path)
            message = f"at ${way}: {message}"
        self.problems.append(Problem(spot.document.file, position.line, position.column, message))

    def say_tag_error(self, spot: Spot, error: TagError) -> None:
        """Note a tag's refusal at its place inside a value."""
        message = str(error).partition("\n")[0]
        if isinstance(error, TagDocumentError):
            self.say(spot.at(*error.path), message.partition(": ")[2])
        else:
            self.say_at(spot, spot.document.inside(spot.path, error.start), message)

    def check_declared(self, spot: Spot, value: str, taxonomy: Mapping[str, str]) -> None:
        """Note a finding when `value` lies under no declared path of a taxonomy that is declared at all."""
        if value != ANY and taxonomy and not any(covers(known, value) for known in taxonomy):
            what = next(str(step) for step in reversed(spot.path) if isinstance(step, str))
            rule = f"{what}={value!r} must be declared in a consent document"
            self.say(spot, f"{rule}; declare it or use one of: {', '.join(taxonomy)}")

    def masking(self, spot: Spot, rule: object, kind: FieldType | None) -> Masking | None:
        """A masking rule that parses and fits values of `kind`; None with a finding otherwise."""
        try:
            masking = parse_masking(rule)  # type: ignore[arg-type]  # whatever the document holds; it refuses the rest
        except DeidentificationError as error:
            self.say(spot, str(error))
            return None
        misfit = masking_misfit(masking, kind) if kind is not None else ""
        if misfit:
            self.say(spot, f"masking={rule!r} must fit a {kind} value; {misfit}")
            return None
        return masking


def masking_misfit(masking: Masking, kind: FieldType) -> str:
    """Why a masking rule cannot be applied to values of a type; empty when it can."""
    wanted = FieldType.STRING
    if isinstance(masking, Band):
        wanted = FieldType.NUMBER
    elif isinstance(masking, Truncate) and masking.characters is None:
        wanted = FieldType.TIME if masking.granularity is not None else FieldType.NUMBER
    elif not isinstance(masking, Truncate | Pseudonymise):
        return ""
    return "" if kind is wanted else f"use it on a {wanted} value, or another rule"
