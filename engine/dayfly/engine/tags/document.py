"""The object form, for builders and machines: every node is an object with a ``type``, in YAML or JSON.

::

    {"type": "compare", "operator": ">", "value": 5,
     "measure": {"type": "count", "event": "Product Searched", "within": "7d",
                 "where": {"type": "contains", "field": "properties.query", "text": "sofa"}}}
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, NoReturn, TypeVar, assert_never, cast

from dayfly.engine.errors import TagDocumentError

from .functions import (
    FUNCTIONS,
    MEASURES,
    Kind,
    Parameter,
    Path,
    WindowNode,
    all_of,
    all_of_predicates,
    any_of,
    any_of_predicates,
    assemble,
    disassemble,
)
from .literals import duration_text, field_text, read_duration, read_field, read_time
from .text import MAX_NESTING
from .tree import (
    And,
    Comparison,
    EventMatch,
    Expression,
    FieldComparison,
    FieldIn,
    FieldPresent,
    FieldText,
    Measure,
    Not,
    Or,
    Predicate,
    PredicateAnd,
    PredicateNot,
    PredicateOr,
    Scalar,
)

__all__ = [
    "expression_document",
    "expression_from_document",
    "measure_document",
    "measure_from_document",
    "predicate_document",
    "predicate_from_document",
    "read_expression_document",
    "read_measure_document",
    "read_predicate_document",
]

Document = dict[str, Any]
_T = TypeVar("_T")
_OPERATORS: Final = ("==", "!=", "<", "<=", ">", ">=")
_TEXT_TESTS: Final = ("contains", "startsWith", "endsWith")
_CONDITIONS: Final = ("compare", "and", "or", "not", *(name for name in FUNCTIONS if name not in MEASURES))
_PREDICATES: Final = ("compare", "in", *_TEXT_TESTS, "has", "and", "or", "not")


def expression_from_document(document: object) -> Expression:
    """The condition that an object says.

    Raises:
        TagDocumentError: not of the object form; carries the way to the node.
    """
    return read_expression_document(document)[0]


def predicate_from_document(document: object) -> Predicate:
    """The predicate that an object says.

    Raises:
        TagDocumentError: not of the object form; carries the way to the node.
    """
    return read_predicate_document(document)[0]


def measure_from_document(document: object) -> Measure:
    """The measure that an object says.

    Raises:
        TagDocumentError: not of the object form; carries the way to the node.
    """
    return read_measure_document(document)[0]


def read_expression_document(document: object) -> tuple[Expression, Mapping[Path, Path]]:
    """As `expression_from_document`, with the way in the document to each part of the tree."""
    reader = _Reader()
    return reader.expression(document, (), ()), reader.ways


def read_predicate_document(document: object) -> tuple[Predicate, Mapping[Path, Path]]:
    """As `predicate_from_document`, with the way in the document to each part of the tree."""
    reader = _Reader()
    return reader.predicate(document, (), ()), reader.ways


def read_measure_document(document: object) -> tuple[Measure, Mapping[Path, Path]]:
    """As `measure_from_document`, with the way in the document to each part of the tree."""
    reader = _Reader()
    return reader.measure(document, (), ()), reader.ways


class _Reader:
    """Reads objects; `path` is the way in the tree, `way` the way in the document."""

    def __init__(self) -> None:
        self.ways: dict[Path, Path] = {}

    def expression(self, document: object, path: Path, way: Path) -> Expression:
        node, kind = self._node(document, path, way, _CONDITIONS)
        if kind in ("and", "or"):
            parts = self._parts(node, kind, path, way)
            join = all_of if kind == "and" else any_of
            return join(
                [self.expression(part, (*path, "parts", at), where) for at, (part, where) in enumerate(parts)]
            )
        if kind == "not":
            self._keys(node, {"part"}, set(), way)
            return Not(self.expression(node["part"], (*path, "part"), (*way, "part")))
        if kind == "compare":
            self._keys(node, {"measure", "operator", "value"}, set(), way)
            measure = self.measure(node["measure"], (*path, "measure"), (*way, "measure"))
            operator = _choice(node["operator"], _OPERATORS, (*way, "operator"))
            return Comparison(
                measure, cast("Any", operator), self._scalar(node["value"], (*path, "value"), (*way, "value"))
            )
        return cast("Expression", self._call(node, kind, path, way))

    def measure(self, document: object, path: Path, way: Path) -> Measure:
        node, kind = self._node(document, path, way, tuple(MEASURES))
        return cast("Measure", self._call(node, kind, path, way))

    def predicate(self, document: object, path: Path, way: Path) -> Predicate:
        node, kind = self._node(document, path, way, _PREDICATES)
        if kind in ("and", "or"):
            parts = self._parts(node, kind, path, way)
            join = all_of_predicates if kind == "and" else any_of_predicates
            return join(
                [self.predicate(part, (*path, "parts", at), where) for at, (part, where) in enumerate(parts)]
            )
        if kind == "not":
            self._keys(node, {"part"}, set(), way)
            return PredicateNot(self.predicate(node["part"], (*path, "part"), (*way, "part")))
        others = {"compare": {"operator", "value"}, "in": {"values"}, "has": set()}.get(kind, {"text"})
        self._keys(node, {"field", *others}, set(), way)
        field = self._text(node["field"], read_field, (*path, "field"), (*way, "field"))
        if kind == "has":
            return FieldPresent(field)
        if kind == "compare":
            operator = _choice(node["operator"], _OPERATORS, (*way, "operator"))
            return FieldComparison(
                field, cast("Any", operator), self._scalar(node["value"], (*path, "value"), (*way, "value"))
            )
        if kind == "in":
            values = enumerate(_list(node["values"], (*way, "values")))
            return FieldIn(
                field, tuple(self._scalar(v, (*path, "values", at), (*way, "values", at)) for at, v in values)
            )
        return FieldText(
            field, cast("Any", kind), self._text(node["text"], str, (*path, "text"), (*way, "text"))
        )

    def _call(self, node: Document, function: str, path: Path, way: Path) -> WindowNode:
        parameters = FUNCTIONS[function]
        required = {parameter.name for parameter in parameters if parameter.required}
        self._keys(node, required, {parameter.name for parameter in parameters} - required, way)
        values = {
            parameter.name: self._argument(
                parameter, node[parameter.name], (*path, *parameter.path), (*way, parameter.name)
            )
            for parameter in parameters
            if parameter.name in node
        }
        return assemble(function, values)

    def _argument(self, parameter: Parameter, value: object, path: Path, way: Path) -> object:
        match parameter.kind:
            case Kind.WHERE:
                return self.predicate(value, path, way)
            case Kind.MATCH:
                return self._match(value, path, way)
            case Kind.STEPS:
                steps = enumerate(_list(value, way))
                return tuple(self._match(step, (*path, at), (*way, at)) for at, step in steps)
            case Kind.INTEGER:
                self.ways[path] = way
                if isinstance(value, bool) or not isinstance(value, int):
                    _fail(f"{parameter.name}={value!r} must be a whole number; write digits only", way)
                return value
            case Kind.EVENT | Kind.TAG:
                return self._text(value, str, path, way)
            case Kind.FIELD:
                return self._text(value, read_field, path, way)
            case Kind.DURATION:
                return self._text(value, read_duration, path, way)

    def _match(self, document: object, path: Path, way: Path) -> EventMatch:
        if not isinstance(document, dict):
            _fail(f"event={document!r} must be an object; write {{event: Name}}", way)
        self.ways[path] = way
        self._keys(document, {"event"}, {"where"}, way, typed=False)
        event = self._text(document["event"], str, (*path, "event"), (*way, "event"))
        where = document.get("where")
        return EventMatch(
            event, None if where is None else self.predicate(where, (*path, "where"), (*way, "where"))
        )

    def _scalar(self, value: object, path: Path, way: Path) -> Scalar:
        self.ways[path] = way
        match value:
            case bool() | str():
                return value
            case int() | Decimal():
                return Decimal(value)
            case float():
                return Decimal(repr(value))
            case {"timestamp": str() as text, **rest} if not rest:
                return self._text(text, read_time, path, (*way, "timestamp"))
            case _:
                return _fail(
                    f'value={value!r} must be a number, text, true, false or {{timestamp: "..."}}; correct it',
                    way,
                )

    def _text(self, value: object, read: Callable[[str], _T], path: Path, way: Path) -> _T:
        self.ways[path] = way
        if not isinstance(value, str):
            _fail(f"{way[-1]}={value!r} must be text; put it in quotes", way)
        try:
            return read(value)
        except ValueError as error:
            _fail(str(error), way)

    def _node(self, document: object, path: Path, way: Path, kinds: tuple[str, ...]) -> tuple[Document, str]:
        if len(path) > 2 * MAX_NESTING:
            _fail(f"depth must be at most {MAX_NESTING} levels; split the tag and join with in_tag", way)
        if not isinstance(document, dict):
            _fail(
                f"node={document!r} must be an object with a type; write {{type: ...}} or the text form", way
            )
        self.ways[path] = way
        return document, _choice(document.get("type"), kinds, (*way, "type") if "type" in document else way)

    def _parts(self, node: Document, kind: str, path: Path, way: Path) -> list[tuple[object, Path]]:
        """Operands with their ways, operands of the same kind inside opened."""
        self._keys(node, {"parts"}, set(), way)
        given = _list(node["parts"], (*way, "parts"))
        if len(given) < 2:
            _fail(f"parts={len(given)} must be two or more; write the part alone", (*way, "parts"))
        opened: list[tuple[object, Path]] = []
        for at, part in enumerate(given):
            inner = (*way, "parts", at)
            if isinstance(part, dict) and part.get("type") == kind:
                if len(inner) > 2 * MAX_NESTING:
                    _fail(f"depth must be at most {MAX_NESTING} levels; write the parts in one list", way)
                opened.extend(self._parts(part, kind, path, inner))
            else:
                opened.append((part, inner))
        return opened

    def _keys(
        self, node: Document, required: set[str], optional: set[str], way: Path, *, typed: bool = True
    ) -> None:
        known = required | optional | ({"type"} if typed else set())
        for key in node:
            if key not in known:
                _fail(
                    f"key={key!r} must be one of: {', '.join(sorted(known))}; remove or rename it",
                    (*way, str(key)),
                )
        for key in sorted(required - node.keys()):
            _fail(f"key={key!r} must be given; add it", way)


def _list(value: object, way: Path) -> list[object]:
    if not isinstance(value, list | tuple):
        _fail(f"{way[-1]}={value!r} must be a list; write [...]", way)
    return list(value)


def _choice(value: object, choices: tuple[str, ...], way: Path) -> str:
    if not isinstance(value, str) or value not in choices:
        name = "operator" if choices == _OPERATORS else "type"
        _fail(f"{name}={value!r} must be one of: {', '.join(choices)}; use one of them", way)
    return value


def _fail(message: str, way: Path) -> NoReturn:
    raise TagDocumentError(message, path=way)


# --- from the tree ---------------------------------------------------------------------------------------------------


def expression_document(node: Expression) -> Document:
    """The object form of a condition."""
    match node:
        case Or(parts):
            return {"type": "or", "parts": [expression_document(part) for part in parts]}
        case And(parts):
            return {"type": "and", "parts": [expression_document(part) for part in parts]}
        case Not(part):
            return {"type": "not", "part": expression_document(part)}
        case Comparison(measure, operator, value):
            return {
                "type": "compare",
                "measure": _call_document(measure),
                "operator": operator,
                "value": _plain(value),
            }
        case _:
            return _call_document(node)


def measure_document(node: Measure) -> Document:
    """The object form of a measure."""
    return _call_document(node)


def predicate_document(node: Predicate) -> Document:
    """The object form of a predicate."""
    match node:
        case PredicateOr(parts):
            return {"type": "or", "parts": [predicate_document(part) for part in parts]}
        case PredicateAnd(parts):
            return {"type": "and", "parts": [predicate_document(part) for part in parts]}
        case PredicateNot(part):
            return {"type": "not", "part": predicate_document(part)}
        case FieldComparison(field, operator, value):
            return {
                "type": "compare",
                "field": field_text(field),
                "operator": operator,
                "value": _plain(value),
            }
        case FieldIn(field, values):
            return {"type": "in", "field": field_text(field), "values": [_plain(value) for value in values]}
        case FieldText(field, test, text):
            return {"type": test, "field": field_text(field), "text": text}
        case FieldPresent(field):
            return {"type": "has", "field": field_text(field)}
        case _ as unknown:
            assert_never(unknown)


def _call_document(node: WindowNode) -> Document:
    function, arguments = disassemble(node)
    document: Document = {"type": function}
    for parameter in FUNCTIONS[function]:
        if parameter.name in arguments:
            document[parameter.name] = _argument_document(parameter, arguments[parameter.name])
    return document


def _argument_document(parameter: Parameter, value: Any) -> object:
    match parameter.kind:
        case Kind.WHERE:
            return predicate_document(value)
        case Kind.MATCH:
            return _match_document(value)
        case Kind.STEPS:
            return [_match_document(step) for step in value]
        case Kind.DURATION:
            return duration_text(value)
        case Kind.FIELD:
            return field_text(value)
        case Kind.EVENT | Kind.TAG | Kind.INTEGER:
            return value


def _match_document(match: EventMatch) -> Document:
    where = {} if match.where is None else {"where": predicate_document(match.where)}
    return {"event": match.event, **where}


def _plain(value: Scalar) -> str | bool | int | float:
    """A JSON value; a number that a float cannot hold exactly in its shortest text stays out of the language's range."""
    if not isinstance(value, Decimal):
        return value
    return int(value) if value == value.to_integral_value() else float(value)
