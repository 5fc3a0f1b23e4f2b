"""The two halves of an answer: the exact integers of all parts, and the noise on them.

Everything that leaves a release leaves it through `drawn`; what comes after sees no row. An audit draws again and again from the same exact
integers, through this same function.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dayfly.privacy.noise import NoiseSource

from .answering import Exact, exact_parts
from .frames import frame_of
from .groups import groups_of
from .parts import Part, Role
from .planning import NoisyPart, Plan
from .sources import Source

__all__ = ["Prepared", "drawn", "prepared"]


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Prepared:
    """What noise is added to: private.

    Attributes:
        keys: Of the groups; private where they are unknown.
        exact: Integers of each part.
    """

    keys: pa.Table
    exact: Exact


def prepared(planned: Plan, source: Source, salt: bytes) -> Prepared:
    """Read and bound the rows.

    Args:
        planned: What was asked.
        source: Of the rows.
        salt: 16 secret random bytes, fresh for this release.
    """
    query = planned.checked.query
    frame = frame_of(source, query.steps)
    groups = groups_of(frame, query.group_by, planned.checked.columns)
    exact = exact_parts(planned.parts, frame, groups, method=query.bound.method, salt=salt)
    return Prepared(groups.keys, exact)


def drawn(planned: Plan, exact: Exact, noise: NoiseSource) -> tuple[NDArray[np.int64] | None, Exact]:
    """Draw the noise of a release.

    Guarantees:
        What is returned costs at most `Plan.cost`, each time that it is called; the argument is that of `planning`.

    Args:
        planned: What was asked.
        exact: Integers of each part.
        noise: Where noise comes from.

    Returns:
        Codes of the groups that are shown, ascending, or None where all keys are known; and the noisy integers of each part, of
        the groups that are shown.
    """
    shown: NDArray[np.int64] | None = None
    noisy: Exact = {}
    if planned.selection is not None:
        shown, noisy[planned.selection.part] = _selected(planned.selection, exact, noise)
    for part, one in planned.parts.items():
        if part.role is not Role.KEYS:
            noisy[part] = _noised(one, exact[part] if shown is None else exact[part][shown], noise)
    return shown, noisy


def _noised(one: NoisyPart, exact: NDArray[np.int64], noise: NoiseSource) -> NDArray[np.int64]:
    values, changed = np.ascontiguousarray(exact.reshape(-1)), one.part.sensitivity
    if one.mechanism == "laplace":
        noisy = noise.laplace(values, one.scale, l1=changed.l1)
    else:
        noisy = noise.gaussian(values, one.scale, l2_squared=changed.l2_squared)
    return noisy.reshape(exact.shape)


def _selected(
    one: NoisyPart, exact: Mapping[Part, NDArray[np.int64]], noise: NoiseSource
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Codes of the groups that are shown, ascending, and their noisy customers."""
    counts, changed = exact[one.part], one.part.sensitivity
    there = {int(code): int(counts[code]) for code in np.flatnonzero(counts)}
    if one.mechanism == "laplace":
        kept = noise.laplace_threshold(
            there, one.scale, one.threshold, sensitivity=(changed.l0, changed.l1, changed.linf)
        )
    else:
        kept = noise.gaussian_threshold(
            there, one.scale, one.threshold, sensitivity=(changed.l0, changed.l2_squared, changed.linf)
        )
    codes = np.array(sorted(kept), np.int64)
    return codes, np.array([kept[int(code)] for code in codes], np.int64)
