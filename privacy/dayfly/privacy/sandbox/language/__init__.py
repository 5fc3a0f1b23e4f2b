"""The expression language of queries: a typed tree over the columns of one row, in Python or as text."""

from .evaluating import evaluate, normal
from .expressions import Expression, Node, Scalar, col, columns_of, literal, text_of
from .kinds import Kind, instant_of, kind_of, kind_of_arrow, known_column
from .parsing import parse, text_from

__all__ = [
    "Expression",
    "Kind",
    "Node",
    "Scalar",
    "col",
    "columns_of",
    "evaluate",
    "instant_of",
    "kind_of",
    "kind_of_arrow",
    "known_column",
    "literal",
    "normal",
    "parse",
    "text_from",
    "text_of",
]
