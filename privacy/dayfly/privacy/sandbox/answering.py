"""The exact integers of a plan's parts: bounded, private, and on their way to the noise."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dayfly.privacy.bounding import Bounded, Contribution, Lattice, Method, bounded_group_by, bounded_rows
from dayfly.privacy.bounding.salts import SaltedKeys

from .frames import Frame, dense, dictionary_codes, numbers_of
from .groups import Groups, word_table
from .parts import BRANCHES, Part, Role

__all__ = ["Exact", "exact_parts"]

Exact = dict[Part, NDArray[np.int64]]
"""Integers of each part: shape (groups,), for a tree (groups, cells) with the levels from the root's children downwards."""

_ORDER: Final = {Role.COUNT: 1, Role.CUSTOMERS: 2, Role.KEYS: 2}
"""Sums first: their passes count rows too, and passes that count rows count customers too."""


@dataclass(slots=True, repr=False)
class _Work:
    """One release in the making."""

    frame: Frame
    groups: Groups
    method: Method
    salt: bytes
    customer_words: NDArray[np.uint64] | None
    group_words: NDArray[np.uint64] | None
    passes: dict[tuple[str, str], Bounded] = field(default_factory=dict)

    def bounded(self, values: NDArray[Any] | None, contribution: Contribution, lattice: Lattice) -> Bounded:
        return bounded_group_by(
            self.frame.customers.codes,
            self.groups.codes,
            values,
            self.groups.count,
            contribution,
            method=self.method,
            salt=self.salt,
            lattice=None if values is None else lattice,
            customer_words=self.customer_words,
            group_words=self.group_words,
        )


def exact_parts(
    parts: Mapping[Part, object], frame: Frame, groups: Groups, *, method: Method, salt: bytes
) -> Exact:
    """The integers of all parts; one pass over the rows serves the sum of a column and the counts beside it.

    Args:
        parts: Of the plan.
        frame: Rows after the steps.
        groups: Their groups.
        method: How a customer's groups are chosen.
        salt: 16 secret random bytes, fresh for this release.
    """
    work = _Work(frame, groups, method, salt, frame.customers.words(salt), groups.words(salt))
    found: Exact = {}
    for part in sorted(parts, key=lambda part: _ORDER.get(part.role, 0)):
        found[part] = _exact(work, part)
    return found


def _exact(work: _Work, part: Part) -> NDArray[np.int64]:
    if part.role is Role.TREE:
        return _tree(work, part)
    if part.role is Role.DISTINCT:
        return _distinct(work, part)
    if part.role is Role.COUNT:
        return _counted(work, part, ("rows with", part.column) if part.column else ("rows", "")).counts
    if part.role in _ORDER:
        return _counted(
            work, part, ("rows", "") if ("rows", "") in work.passes else ("customers", "")
        ).customers
    bounded = work.bounded(_values(work, part), part.contribution, part.lattice)
    whole = part.role is not Role.SUM or not _missing(work, part.column)
    work.passes.setdefault(("rows with", part.column), bounded)
    if part.role is Role.SUM and whole:
        work.passes.setdefault(("rows", ""), bounded)
    return bounded.sums


def _counted(work: _Work, part: Part, key: tuple[str, str]) -> Bounded:
    """Counts, from a pass that is there already or from one of their own; both give the same integers."""
    if key not in work.passes:
        values = numbers_of(work.frame.columns[part.column]) if part.column else None
        work.passes[key] = work.bounded(values, part.contribution, part.lattice)
    return work.passes[key]


def _missing(work: _Work, column: str) -> bool:
    def found() -> bool:
        values = _numbers(work, column)
        return values.dtype.kind == "f" and bool(np.isnan(values).any())

    return work.frame.source.kept(("missing", column), found) if column in work.frame.raw else found()


def _numbers(work: _Work, column: str) -> NDArray[Any]:
    frame = work.frame
    if column in frame.raw:
        return frame.source.kept(("numbers", column), lambda: numbers_of(frame.columns[column]))
    return numbers_of(frame.columns[column])


def _values(work: _Work, part: Part) -> NDArray[Any]:
    """Values as they go onto the lattice: for means and variances clamped and centred, row by row."""
    values = _numbers(work, part.column)
    if part.role is Role.SUM:
        return values
    half = float(part.half)
    around = np.clip(values.astype(np.float64), float(part.lower), float(part.upper)) - float(part.middle)
    around = np.clip(around, -half, half)
    return around if part.role is Role.CENTRED else around * around - float(part.centre)


def _tree(work: _Work, part: Part) -> NDArray[np.int64]:
    values = _numbers(work, part.column).astype(np.float64)
    leaves = BRANCHES**part.levels
    groups = np.where(np.isnan(values), -1, work.groups.codes)
    kept = bounded_rows(
        work.frame.customers.codes,
        groups,
        work.groups.count,
        part.contribution,
        method=work.method,
        salt=work.salt,
        customer_words=work.customer_words,
        group_words=work.group_words,
    )
    lower, upper = float(part.lower), float(part.upper)
    place = (np.clip(values[kept], lower, upper) - lower) / (upper - lower) * leaves
    leaf = np.minimum(place.astype(np.int64), leaves - 1)
    cells = np.bincount(groups[kept].astype(np.int64) * leaves + leaf, minlength=work.groups.count * leaves)
    levels = [cells.reshape(work.groups.count, leaves).astype(np.int64)]
    while len(levels) < part.levels:
        parents = levels[-1].shape[1] // BRANCHES
        levels.append(levels[-1].reshape(work.groups.count, parents, BRANCHES).sum(axis=2))
    return np.concatenate(levels[::-1], axis=1)


def _distinct(work: _Work, part: Part) -> NDArray[np.int64]:
    """Values that at least one customer kept, per group."""
    codes, values = dictionary_codes(work.frame.columns[part.column])
    some = (codes >= 0) & (work.groups.codes >= 0) & (work.frame.customers.codes >= 0)
    pairs, first = dense(work.groups.codes[some].astype(np.int64) * max(1, len(values)) + codes[some])
    group_of = work.groups.codes[some][first].astype(np.int64)
    keys = [*(column.take(pa.array(group_of)) for column in work.groups.keys.columns)]
    keys.append(pa.chunked_array([values]).take(pa.array(codes[some][first])))
    bounded = bounded_group_by(
        work.frame.customers.codes[some],
        pairs,
        None,
        int(first.size),
        part.contribution,
        method=work.method,
        salt=work.salt,
        customer_words=work.customer_words,
        group_words=SaltedKeys.of(work.salt).group_words(word_table(keys)),
    )
    return np.bincount(group_of[bounded.customers > 0], minlength=work.groups.count).astype(np.int64)
