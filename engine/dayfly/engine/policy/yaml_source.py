"""YAML files to plain values, strictly and with the place of every value.

Only the core of YAML 1.2 is read: maps with text keys, lists, text, numbers, true/false and null. `no` and `on` are text,
a date is text, tags such as ``!!python`` are refused, a key may stand once, and size, depth and aliases are bounded.
"""

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import yaml

from .problems import Position, Problem

__all__ = ["MAX_DEPTH", "MAX_FILE_BYTES", "MAX_NODES", "LocatedDocument", "Path", "read_yaml"]

Path = tuple[str | int, ...]
"""Keys and positions from the root of a document."""

MAX_FILE_BYTES: Final = 1_000_000
"""Bytes of one file."""
MAX_DEPTH: Final = 48
"""Levels of nesting."""
MAX_NODES: Final = 50_000
"""Values of one file, each use of an alias counted anew."""
_MAX_NUMBER: Final = 40

_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_BASE):  # type: ignore[misc]  # chosen at run time: the C parser where PyYAML has it
    """PyYAML's reader with the scalar rules of YAML 1.2's core schema."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own protocol


for _tag, _pattern, _starts in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
):
    _keys = [*_starts.replace("\0", ""), *([""] if "\0" in _starts else [])]
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), _keys)


@dataclass(frozen=True, slots=True)
class LocatedDocument:
    """One document and where its parts stand.

    Attributes:
        file: Name for messages.
        data: Plain value.
        keys: Place of the key (or list item) by path.
        values: Place of the value by path.
        raw: Source text of scalar values and its index in `text`, by path.
        text: Text of the file.
    """

    file: str
    data: Any
    keys: Mapping[Path, Position] = field(default_factory=lambda: MappingProxyType({}))
    values: Mapping[Path, Position] = field(default_factory=lambda: MappingProxyType({}))
    raw: Mapping[Path, tuple[int, int]] = field(default_factory=lambda: MappingProxyType({}))
    text: str = ""

    def key(self, path: Path) -> Position:
        """Place of the key at `path`, or of the nearest part around it."""
        while path and path not in self.keys:
            path = path[:-1]
        return self.keys.get(path, Position(1, 1) if self.text else Position())

    def value(self, path: Path) -> Position:
        """Place of the value at `path`, or of the nearest part around it."""
        return self.values[path] if path in self.values else self.key(path)

    def inside(self, path: Path, offset: int) -> Position:
        """Place of character `offset` of the text value at `path`: also in block text and quotes."""
        if path not in self.raw or offset < 0:
            return self.value(path)
        start, end = self.raw[path]
        value = self.value_at(path)
        at = _aligned(self.text[start:end], value, offset)
        if at is None:
            return self.value(path)
        index = start + at
        line_start = self.text.rfind("\n", 0, index) + 1
        return Position(self.text.count("\n", 0, index) + 1, index - line_start + 1)

    def value_at(self, path: Path) -> str:
        """The text value at `path`, empty when it is none."""
        value = self.data
        for step in path:
            value = value[step]
        return value if isinstance(value, str) else ""


def _aligned(raw: str, value: str, offset: int) -> int | None:
    """Index in a scalar's source of character `offset` of its value; None where escapes make it unclear.

    All visible characters of a plain, quoted, literal or folded scalar stand in its source in order, so they are matched
    one by one. An offset past the end gives the end.
    """
    at = raw.find("\n") + 1 if raw[:1] in ("|", ">") else 0
    for position, char in enumerate(value):
        if position >= offset and not char.isspace():
            found = raw.find(char, at)
            return None if found < 0 else found
        if char.isspace():
            continue
        at = raw.find(char, at) + 1
        if at == 0:
            return None
    return at


def read_yaml(file: str, content: bytes) -> tuple[list[LocatedDocument], list[Problem]]:
    """All documents of a file and all problems; an empty document and one with a problem of its own are left out."""
    if len(content) > MAX_FILE_BYTES:
        rule = f"file of {len(content)} bytes must have at most {MAX_FILE_BYTES}"
        return [], [Problem(file, 1, 1, f"{rule}; split it into several files")]
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return [], [
            Problem(file, line, 1, f"byte={content[error.start]:#04x} must be UTF-8; save the file as UTF-8")
        ]
    return _Reading(file, text).run()


class _Reading:
    def __init__(self, file: str, text: str) -> None:
        self._file = file
        self._text = text
        self._problems: list[Problem] = []
        self._nodes = 0

    def run(self) -> tuple[list[LocatedDocument], list[Problem]]:
        documents: list[LocatedDocument] = []
        try:
            if self._too_deep():
                return [], self._problems
            for node in yaml.compose_all(self._text, Loader=_Loader):
                if node is not None:
                    documents.extend(self._document(node))
        except yaml.YAMLError as error:
            self._syntax(error)
        return documents, self._problems

    def _too_deep(self) -> bool:
        """Bound depth and size on the flat event stream, before anything recursive looks at the file."""
        depth = 0
        for count, event in enumerate(yaml.parse(self._text, Loader=_Loader), 1):
            if isinstance(event, yaml.CollectionStartEvent):
                depth += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
            if depth > MAX_DEPTH or count > 2 * MAX_NODES:
                limit = (
                    f"nesting must be at most {MAX_DEPTH} levels"
                    if depth > MAX_DEPTH
                    else f"values must be at most {MAX_NODES}"
                )
                self._say(event.start_mark, f"{limit}; split the document")
                return True
        return False

    def _document(self, node: yaml.Node) -> list[LocatedDocument]:
        before = len(self._problems)
        roots = node.value if isinstance(node, yaml.SequenceNode) else [node]
        documents = []
        for root in roots:
            keys: dict[Path, Position] = {(): _position(root.start_mark)}
            values: dict[Path, Position] = {}
            raw: dict[Path, tuple[int, int]] = {}
            data = self._convert(root, (), keys, values, raw)
            if data is not None:
                documents.append(LocatedDocument(self._file, data, keys, values, raw, self._text))
        return documents if len(self._problems) == before else []

    def _convert(
        self,
        node: yaml.Node,
        path: Path,
        keys: dict[Path, Position],
        values: dict[Path, Position],
        raw: dict[Path, tuple[int, int]],
    ) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES or len(path) > MAX_DEPTH:
            if self._nodes <= MAX_NODES or self._nodes == MAX_NODES + 1:
                self._say(
                    node.start_mark, f"aliases must expand to at most {MAX_NODES} values; write them out"
                )
                self._nodes = max(self._nodes, MAX_NODES + 1)
            return None
        values[path] = _position(node.start_mark)
        if isinstance(node, yaml.ScalarNode):
            raw[path] = (node.start_mark.index, node.end_mark.index)
            return self._scalar(node)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            for at, item in enumerate(node.value):
                keys[(*path, at)] = _position(item.start_mark)
            return [self._convert(item, (*path, at), keys, values, raw) for at, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            result: dict[str, Any] = {}
            for key_node, value_node in node.value:
                key = self._key(key_node, result)
                if key is not None:
                    keys[(*path, key)] = _position(key_node.start_mark)
                    result[key] = self._convert(value_node, (*path, key), keys, values, raw)
            return result
        self._say(node.start_mark, f"tag={node.tag!r} must not be used; write a plain map, list or value")
        return None

    def _key(self, node: yaml.Node, seen: Mapping[str, Hashable]) -> str | None:
        key = self._scalar(node) if isinstance(node, yaml.ScalarNode) else None
        if not isinstance(key, str):
            self._say(node.start_mark, f"key={_shown(node)} must be text; put it in quotes")
            return None
        if key in seen:
            self._say(node.start_mark, f"key={key!r} must be given once; remove or rename the second")
            return None
        return key

    def _scalar(self, node: yaml.ScalarNode) -> str | int | float | bool | None:
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        text: str = node.value
        if kind == "str":
            if any("\ud800" <= char <= "\udfff" for char in text):
                self._say(node.start_mark, f"text={text!r} must be Unicode text; remove the lone surrogate")
            return text
        if kind == "null" and text in ("", "~", "null", "Null", "NULL"):
            return None
        if kind == "bool" and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if kind in ("int", "float") and len(text) <= _MAX_NUMBER:
            try:
                return int(text) if kind == "int" else _finite(text)
            except ValueError:
                pass
        self._say(
            node.start_mark,
            f"value={_shown(node)} must be plain text, a number, true, false or null; put text in quotes",
        )
        return None

    def _syntax(self, error: yaml.YAMLError) -> None:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        said = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
        hint = (
            "put text with ': ' in quotes or in a | block"
            if "mapping values" in said
            else "correct the file there"
        )
        message = f"YAML must be well formed: {said}; {hint}"
        if mark is not None:
            self._say(mark, message)
            return
        index = getattr(error, "position", 0)
        index = index if isinstance(index, int) else 0
        line_start = self._text.rfind("\n", 0, index) + 1
        line = self._text.count("\n", 0, index) + 1
        self._problems.append(Problem(self._file, line, index - line_start + 1, message))

    def _say(self, mark: Any, message: str) -> None:
        self._problems.append(Problem(self._file, *_position(mark), message))


def _position(mark: Any) -> Position:
    return Position(mark.line + 1, mark.column + 1)


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(text)
    return number


def _shown(node: yaml.Node) -> str:
    value = str(node.value) if isinstance(node, yaml.ScalarNode) else "<map or list>"
    return repr(value if len(value) <= 60 else f"{value[:57]}...")
