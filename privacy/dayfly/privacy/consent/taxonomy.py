"""Dotted taxonomies and plain names: their syntax, and what covers or touches what.

A *path* is lower-case words joined by dots (`service.recommendation`). It covers itself and everything below it at
dot boundaries. `"*"` stands for the whole dimension and has to be written out.
"""

import re
from typing import Annotated, Final

from msgspec import Meta

__all__ = [
    "ANY",
    "COUNTRY_PATTERN",
    "NAME_PATTERN",
    "PATH_PATTERN",
    "Country",
    "Name",
    "Path",
    "covers",
    "is_name",
    "is_path",
    "name_matches",
    "overlaps",
]

ANY: Final = "*"

_WORD = r"[a-z0-9][a-z0-9_-]*"
PATH_PATTERN: Final = rf"\A(?:\*|{_WORD}(?:\.{_WORD})*)\Z"
NAME_PATTERN: Final = r"\A(?:\*|[A-Za-z0-9][A-Za-z0-9._:/@#+-]*)\Z"
COUNTRY_PATTERN: Final = r"\A(?:\*|[A-Z]{2})\Z"

Path = Annotated[str, Meta(pattern=PATH_PATTERN, max_length=200)]
Name = Annotated[str, Meta(pattern=NAME_PATTERN, max_length=200)]
Country = Annotated[str, Meta(pattern=COUNTRY_PATTERN)]

_is_path = re.compile(PATH_PATTERN).match
_is_name = re.compile(NAME_PATTERN).match


def is_path(value: object) -> bool:
    """Whether `value` is a path of at most 200 characters, or `"*"`."""
    return isinstance(value, str) and len(value) <= 200 and _is_path(value) is not None


def is_name(value: object) -> bool:
    """Whether `value` is a plain name of at most 200 characters, or `"*"`."""
    return isinstance(value, str) and len(value) <= 200 and _is_name(value) is not None


def covers(path: str, below: str) -> bool:
    """Whether `path` covers `below`: equal, or an ancestor at a dot boundary, or `"*"`.

    Guarantees:
        Only `"*"` covers `"*"`; a common prefix without a dot boundary covers nothing.

    >>> covers("service", "service.recommendation"), covers("service", "services")
    (True, False)
    """
    return path in (below, ANY) or below.startswith(path + ".")


def overlaps(one: str, other: str) -> bool:
    """Whether two paths have anything in common, that is, whether one covers the other."""
    return covers(one, other) or covers(other, one)


def name_matches(one: str, other: str) -> bool:
    """Whether two plain names can mean the same thing: equal, or one of them is `"*"`."""
    return one == other or ANY in (one, other)
