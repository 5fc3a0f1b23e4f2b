"""An audit of a whole query: a sandbox releases it many times on two neighbouring tables, each time as an analyst would get it."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dayfly.privacy.ledger import Account, Ledger, Limit
from dayfly.privacy.noise import NoiseSource
from dayfly.privacy.sandbox import Budget, Query, Release, Sandbox, Source

from .parts import query_parts
from .run import AuditReport, audit

__all__ = ["audit_query"]

_AMOUNT: Final = Fraction(10**9)
_DELTA: Final = 1 - Fraction(1, 10**9)

_Amount = Fraction | int | str
_Key = tuple[Any, ...]
_Answer = dict[_Key, list[float]]


def audit_query(
    query: Query,
    with_customer: Source,
    without_customer: Source,
    *,
    epsilon: Fraction | int | str,
    delta: Fraction | int | str | None = None,
    draws: int = 2_000,
    confidence: float = 0.999,
    parts: bool = False,
    noise: NoiseSource | None = None,
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> AuditReport:
    """Release a query `draws` times on each of two neighbouring tables, and bound its epsilon from below.

    For tables made up for the audit, never for those of real customers: what is released here is paid for in a temporary
    ledger, whose budget renews at each release. A release takes about a millisecond; a bound within a tenth of the claim needs tens
    of thousands. With `parts` not the answers are looked at but all noisy numbers that they are made of: rows are read once, noise is
    drawn again and again, which costs microseconds per number, and sees the loss that answers such as means hide.

    Guarantees:
        As `audit`, for the columns of the answer that have an interval, and for which groups are shown; with `parts`, for
        everything that leaves the noise, whatever is computed from it.

    Args:
        query: What is asked, such as `SandboxQuery.query` or `parse_document(...).query`.
        with_customer: A table.
        without_customer: The same without the rows of one customer.
        epsilon: Of each release.
        delta: Of each release; needed for unknown keys.
        draws: Releases on each table, at least 100.
        confidence: Of the lower bound.
        parts: Look at the noisy numbers that the answer is made of, by the statistic that tells most.
        noise: Where noise comes from; OpenDP where none is given.
        random_bytes: Source of salts and release ids.

    Raises:
        InvalidQuery: the query breaks a rule of the sandbox, or needs a delta.
        InvalidArgument: as `audit`.

    Example:
        ``audit_query(query, Source(rows, customer="who"), Source(fewer, customer="who"), epsilon="1/2").check()``
    """
    claim, slack = Fraction(epsilon), Fraction(delta or 0)
    if parts:
        budget = Budget(epsilon=str(claim), delta=str(slack) if slack else None)
        found = query_parts(
            query, with_customer, without_customer, budget, noise=noise, random_bytes=random_bytes
        )
        return audit(
            found.with_customer,
            found.without_customer,
            epsilon=float(claim),
            delta=float(slack),
            draws=draws,
            confidence=confidence,
            statistic=found.log_ratio,
        )
    matrices = _answers(
        query, (with_customer, without_customer), (epsilon, delta), draws, noise, random_bytes
    )
    return audit(
        _from(matrices[0]),
        _from(matrices[1]),
        epsilon=float(claim),
        delta=float(slack),
        draws=draws,
        confidence=confidence,
    )


def _answers(
    query: Query,
    sources: tuple[Source, Source],
    budget: tuple[_Amount, _Amount | None],
    draws: int,
    noise: NoiseSource | None,
    random_bytes: Callable[[int], bytes],
) -> list[NDArray[np.float64]]:
    """What is released, one matrix for each table."""
    with _free_ledger() as ledger:
        answers, releases = list[list[_Answer]](), list[Release]()
        for source in sources:
            sandbox = Sandbox(
                ledger=ledger,
                sources={query.source: source},
                analyst="audit",
                purpose="audit",
                noise=noise,
                random_bytes=random_bytes,
            )
            ledger.declare(_account("data_set", source.data_set or query.source))
            asked = sandbox.query(query)
            seen = list[_Answer]()
            for _ in range(draws):
                releases[:] = [asked.release(epsilon=budget[0], delta=budget[1])]
                seen.append(_answer(releases[0]))
            answers.append(seen)
    keys = sorted({key for found in answers for one in found for key in one}, key=repr)
    width = len(releases[0].columns) if releases else 1
    return [_matrix(found, keys, width) for found in answers]


@contextmanager
def _free_ledger() -> Iterator[Ledger]:
    """A ledger that is thrown away; its clock ticks at every look, and with each tick its budgets renew."""
    ticks = count()
    with (
        TemporaryDirectory() as folder,
        Ledger.open(Path(folder) / "audit.db", now_ms=lambda: next(ticks), create=True) as ledger,
    ):
        ledger.declare(_account("analyst", "audit"))
        ledger.declare(_account("purpose", "audit"))
        yield ledger


def _account(scope: Any, name: str) -> Account:
    return Account(scope, name, Limit(epsilon=_AMOUNT, delta=_DELTA), period_ms=1, epoch_ms=0)


def _answer(release: Release) -> _Answer:
    """Values by key; what is not shown is not there."""
    table: pa.Table = release.table
    shown = [name for name in table.column_names if not _belongs(name, release.columns)]
    keys = zip(*(table[name].to_pylist() for name in shown), strict=True) if shown else [()]
    values = zip(*(table[name].to_pylist() for name in release.columns), strict=True)
    return {tuple(key): list(value) for key, value in zip(keys, values, strict=True)}


def _belongs(name: str, columns: tuple[str, ...]) -> bool:
    return any(name in {column, f"{column}_low", f"{column}_high"} for column in columns)


def _matrix(answers: list[_Answer], keys: list[_Key], width: int) -> NDArray[np.float64]:
    """Shape (draws, keys * width), NaN where a group was not shown."""
    absent = [float("nan")] * width
    rows = [[value for key in keys for value in answer.get(key, absent)] for answer in answers]
    return np.array(rows, np.float64).reshape(len(answers), max(1, len(keys)) * width if keys else 0)


def _from(matrix: NDArray[np.float64]) -> Callable[[int], NDArray[np.float64]]:
    """Rows that were drawn already, each handed out once."""
    left = iter(matrix)

    def draw(number: int) -> NDArray[np.float64]:
        return np.array([next(left) for _ in range(number)]).reshape(number, matrix.shape[1])

    return draw
