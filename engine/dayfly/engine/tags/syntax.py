"""The grammar of the text form and the plain syntax tree it gives; `text` gives it its meaning."""

from collections.abc import Iterator
from functools import cache
from typing import Final, TypeAlias

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from dayfly.engine.errors import TagError

from .place import Span, refusal

__all__ = ["GRAMMAR", "MAX_TEXT", "Node", "children_of", "kind_of", "operands", "parse_syntax", "span_of"]

Node: TypeAlias = Tree[Token] | Token
"""A part of a syntax tree."""

MAX_TEXT: Final = 16_384
"""Characters of one text; more is refused before parsing."""

GRAMMAR: Final = r"""
?start: either
?either: both ("||" both)*
?both: relation ("&&" relation)*
?relation: unary ((OPERATOR | IN) unary)?
?unary: "!" unary -> negation
      | primary
?primary: call | list | "(" either ")" | NAME | FIELD | STRING | NUMBER | DURATION | TRUE | FALSE
call: (NAME | FIELD) "(" (argument ("," argument)* ","?)? ")"
?argument: NAME ":" either -> named
         | either
list: "[" (either ("," either)* ","?)? "]"

OPERATOR: "==" | "!=" | "<=" | ">=" | "<" | ">"
IN: "in"
TRUE: "true"
FALSE: "false"
NAME: /[A-Za-z_][A-Za-z0-9_]*/
FIELD.2: /[A-Za-z_][A-Za-z0-9_]*(?:\.(?:[A-Za-z_][A-Za-z0-9_]*|`[^`\r\n]*`))+/
DURATION.2: /[0-9]+(?:ms|s|m|h|d|w)(?![A-Za-z0-9_.])/
NUMBER: /-?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?![A-Za-z0-9_.])/
STRING: /"(?:[^"\\\r\n]|\\.)*"|'(?:[^'\\\r\n]|\\.)*'/
%ignore /[ \t\r\n]+/
%ignore /\/\/[^\n]*/
"""

_SHOWN: Final = {
    "$END": "the end", "NAME": "a name", "FIELD": "a field", "STRING": "a string", "NUMBER": "a number", "OPERATOR": "a comparison",
    "DURATION": "a duration", "LPAR": "(", "RPAR": ")", "LSQB": "[", "RSQB": "]", "COMMA": ",", "COLON": ":", "BANG": "!",
    "__ANON_0": "||", "__ANON_1": "&&", "IN": "in", "TRUE": "true", "FALSE": "false",
}  # fmt: skip


@cache
def _parser() -> Lark:
    return Lark(GRAMMAR, parser="lalr", propagate_positions=True, maybe_placeholders=False)


def parse_syntax(text: str) -> Node:
    """Syntax tree of `text`.

    Raises:
        TagError: too long, not Unicode text, or not of the grammar; carries the place.
    """
    if len(text) > MAX_TEXT:
        raise TagError(
            f"text of {len(text)} characters must have at most {MAX_TEXT}; split the tag and join with in_tag"
        )
    surrogate = next((at for at, char in enumerate(text) if "\ud800" <= char <= "\udfff"), -1)
    if surrogate >= 0:
        message = f"character={text[surrogate]!r} must be Unicode text; remove the lone surrogate"
        raise TagError(message, text=text, start=surrogate, end=surrogate + 1)
    try:
        return _parser().parse(text)
    except UnexpectedInput as error:
        raise _syntax_error(text, error) from error


def _syntax_error(text: str, error: UnexpectedInput) -> TagError:
    if isinstance(error, UnexpectedToken):
        token = error.token
        at_end = token.type == "$END"
        expected = sorted(_SHOWN.get(name, name) for name in error.accepts or error.expected)
        found = "the end" if at_end else repr(str(token))
        span = Span(len(text), len(text) + 1) if at_end else Span(token.start_pos or 0, token.end_pos or 0)
        return refusal(f"found={found} must be {' or '.join(expected)}; correct the text there", text, span)
    at = (
        error.pos_in_stream
        if isinstance(error, UnexpectedCharacters) and error.pos_in_stream is not None
        else 0
    )
    char = text[at : at + 1]
    hint = (
        "close the string or escape its quotes" if char in ('"', "'") else "remove it, or put text in quotes"
    )
    return refusal(f"character={char!r} must not stand here; {hint}", text, Span(at, at + 1))


def kind_of(node: Node) -> str:
    """Name of the rule or the terminal."""
    return node.type if isinstance(node, Token) else str(node.data)


def children_of(node: Node) -> list[Node]:
    """Parts of a node; a token has none."""
    return [] if isinstance(node, Token) else node.children


def operands(node: Node) -> Iterator[tuple[int, Node]]:
    """Numbered operands of a chain of one operator, with chains of the same operator inside (from parentheses) opened."""
    kind = kind_of(node)
    waiting = list(reversed(children_of(node)))
    position = 0
    while waiting:
        part = waiting.pop()
        if kind_of(part) == kind:
            waiting.extend(reversed(children_of(part)))
        else:
            yield position, part
            position += 1


def span_of(node: Node) -> Span:
    """Characters that a node covers; empty for the empty list's inside."""
    if isinstance(node, Token):
        return Span(node.start_pos or 0, node.end_pos or 0)
    return Span(0, 0) if node.meta.empty else Span(node.meta.start_pos, node.meta.end_pos)
