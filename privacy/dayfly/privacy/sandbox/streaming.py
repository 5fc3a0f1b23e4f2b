"""Answers that refresh: running totals of a query's groups, paid once, advanced step by step from each step's new rows.

Claim: all steps together cost at most what was spent when the stream was made. Precondition: the rows handed to `advance` are those of
one step, every row once. Argument: `ParticipationLimiter` lets a customer into at most `steps_per_customer` steps; within a
step the query's bounds hold, so the increments of at most `groups_per_customer` series change by at most the part's L-infinity;
that is the participation that `dayfly.privacy.continual.plan` prices. Customers who are texts are told apart by 64 bits of BLAKE2b.
"""

import hashlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dayfly.privacy.accounting import Cost, cost_of
from dayfly.privacy.bounding.salts import SALT_BYTES
from dayfly.privacy.continual import (
    Participation,
    ParticipationLimiter,
    RunningTotals,
    StreamFile,
    StreamPlan,
)
from dayfly.privacy.errors import InvalidQuery
from dayfly.privacy.noise import NoiseSource

from .answering import exact_parts
from .checking import Checked
from .documents import digest_of
from .frames import Frame, frame_of
from .groups import groups_of, known_keys
from .numbers import whole
from .parts import Part, parts_of
from .queries import Count, Customers, Sum, label_of
from .sources import Customers as Codes
from .sources import Data, Source

__all__ = ["ContinualRelease", "StreamTerms", "created", "opened"]


class StreamTerms:
    """What a stream publishes and how much of one customer counts; public, and the same whenever it is resumed.

    Args:
        checked: A query over known keys with one measure: count, customers or sum.
        length: Steps that are paid for.
        steps_per_customer: Most steps that one customer counts in.
        min_separation: Fewest steps from one of these to the next.

    Raises:
        InvalidQuery: the query is another, or a number is out of range.
    """

    __slots__ = ("checked", "label", "part", "plan")

    def __init__(
        self, checked: Checked, *, length: int, steps_per_customer: int, min_separation: int
    ) -> None:
        query = checked.query
        if checked.groups is None or query.top is not None or len(query.measures) != 1:
            raise InvalidQuery(
                "continual query must have known keys, one measure and no top_k; split it into several"
            )
        (measure,) = query.measures
        if not isinstance(measure, Count | Customers | Sum):
            raise InvalidQuery(
                f"measure={label_of(measure)!r} must be a count, customers or a sum to be kept as running total"
            )
        self.checked: Final = checked
        self.label: Final = label_of(measure)
        (self.part,) = parts_of(measure, checked)
        participation = Participation(
            magnitude=self.part.sensitivity.linf,
            steps=whole(steps_per_customer, "steps_per_customer", most=1 << 20),
            min_separation=whole(min_separation, "min_separation", most=1 << 20),
            series=self.part.contribution.l0,
        )
        self.plan: Final = StreamPlan.running(checked.groups, length, participation=participation)

    def cost(self, rho: Fraction) -> Cost:
        """What all steps together cost at most."""
        return cost_of(self.plan.loss(self.plan.scale(rho)))

    def totals(self, rho: Fraction) -> RunningTotals:
        """The stream before its first step."""
        return RunningTotals(self.plan, self.plan.scale(rho), name=digest_of(self.checked.query).hex())


class ContinualRelease:
    """A stream that was paid for. Made by `SandboxQuery.continual`; a context manager.

    Guarantees:
        See the module. A step is published once, after it is safe on disk; resumed, nothing is spent again.
    """

    __slots__ = ("_file", "_noise", "_random_bytes", "_source", "_terms")

    def __init__(
        self,
        terms: StreamTerms,
        file: StreamFile,
        *,
        customer: str,
        noise: NoiseSource,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._terms = terms
        self._file = file
        self._source: Final = customer
        self._noise = noise
        self._random_bytes = random_bytes

    def __repr__(self) -> str:
        return f"ContinualRelease({self._terms.label}, step {self.step} of {self._terms.plan.length})"

    @property
    def step(self) -> int:
        """The step that comes next, from zero."""
        return self._file.stream.step

    def advance(self, step: int, rows: Data, *, confidence: float = 0.95) -> pa.Table:
        """Take in the rows of the next step, and publish the totals after it.

        Args:
            step: The next step; or the last one, which is published again as it was, its rows ignored.
            rows: New rows since the step before, with the columns of the query's source.
            confidence: Of the intervals.

        Returns:
            Keys, the running total, and its interval.

        Raises:
            StreamError: the stream has ended, is out of order, or cannot be written; see its tree.
            InvalidQuery: the rows lack columns.
        """
        published = self._file.publish(
            step, self._increments(rows) if step == self.step else self._none(), self._noise
        )
        lattice = float(self._terms.part.lattice.step)
        low, high = published.interval(confidence)
        keys = known_keys(self._terms.checked.query.group_by, self._terms.checked.columns)
        columns = dict(zip(keys.column_names, keys.columns, strict=True))
        for name, values in (("", published.values), ("_low", low), ("_high", high)):
            columns[self._terms.label + name] = pa.array(values * lattice)
        return pa.table(columns)

    def _none(self) -> NDArray[np.int64]:
        return np.zeros(self._terms.plan.series, np.int64)

    def _increments(self, rows: Data) -> NDArray[np.int64]:
        terms, salt = self._terms, self._random_bytes(SALT_BYTES)
        frame = frame_of(Source(rows, customer=self._source), terms.checked.query.steps)
        frame = self._admitted(frame)
        groups = groups_of(frame, terms.checked.query.group_by, terms.checked.columns)
        parts: dict[Part, None] = {terms.part: None}
        return exact_parts(parts, frame, groups, method=terms.checked.query.bound.method, salt=salt)[
            terms.part
        ]

    def _admitted(self, frame: Frame) -> Frame:
        """The frame without rows of customers who took part often enough."""
        left = frame.customers.codes >= 0
        if frame.mask is not None:
            left &= frame.mask
        ids = _stable_ids(frame.customers, frame.customers.codes[left])
        mask = np.zeros(frame.rows, np.bool_)
        mask[left] = self._file.admit(ids)
        return Frame(frame.source, frame.customers, frame.columns, frame.raw, mask)

    def close(self) -> None:
        """Let the stream's file go; it is opened again by `SandboxQuery.continual`."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _stable_ids(customers: Codes, codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """An id per row that is the customer's in every step."""
    if customers.keys is None:
        return codes.astype(np.int64)
    if pa.types.is_integer(customers.keys.type):
        ids = customers.keys.to_numpy()
    else:
        digests = [
            hashlib.blake2b(key.encode(), digest_size=8).digest() for key in customers.keys.to_pylist()
        ]
        ids = np.frombuffer(b"".join(digests), "<i8")
    return np.asarray(ids[codes], np.int64)


def opened(terms: StreamTerms, path: Path, rho: Fraction) -> StreamFile:
    """The stream of a file that is there.

    Raises:
        InvalidQuery: it is of another query or of other terms.
        StreamError: it cannot be used.
    """
    file = StreamFile.open(path)
    wanted = terms.totals(rho)
    stream = file.stream
    if not isinstance(stream, RunningTotals) or (stream.plan, stream.scale, stream.name) != (
        wanted.plan,
        wanted.scale,
        wanted.name,
    ):
        file.close()
        raise InvalidQuery(
            f"path={str(path)!r} must hold the stream of this query and these terms; pass another path for another"
        )
    return file


def created(terms: StreamTerms, path: Path, rho: Fraction) -> StreamFile:
    """A new stream, which was paid for."""
    return StreamFile.create(path, terms.totals(rho), limiter=ParticipationLimiter(terms.plan.participation))
