"""An audit: find the event that tells two neighbours apart best, then count it on fresh draws."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dayfly.privacy.audit.bounds import delta_lower, epsilon_lower
from dayfly.privacy.errors import AuditFailed, InvalidArgument

__all__ = ["AuditReport", "Draws", "Statistic", "audit", "audit_delta"]

Draws: TypeAlias = Callable[[int], ArrayLike]
"""Runs a mechanism `n` times on one data set: numbers of shape (n,) or (n, k), NaN where a release left a value out."""

_Matrix: TypeAlias = NDArray[np.float64]

Statistic: TypeAlias = Callable[[_Matrix], ArrayLike]
"""From rows as they were drawn, shape (n, k), to one number each, shape (n,): the larger, the more it looks like the first data set."""

MOST_THRESHOLDS: Final = 400
"""Events tried in the first half of the draws; more cost time and find nothing better."""

LEAST_DRAWS: Final = 100

CHUNK: Final = 1 << 16
"""Rows that are held at a time where a statistic makes one number of each."""

_SEEN: Final = 4.0
"""Standard errors by which the means of a column must differ for it to bound a corner."""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What an audit found.

    Attributes:
        epsilon_lower: The true epsilon is at least this, with `confidence`.
        epsilon: The claim.
        delta: Of the claim.
        confidence: That the lower bound holds.
        draws: Of the mechanism on each data set, both halves together.
        event: The event that was counted, in words.
        delta_lower: The true delta, at the claimed epsilon, is at least this, with `confidence`; 0 where epsilon was bounded.
    """

    epsilon_lower: float
    epsilon: float
    delta: float
    confidence: float
    draws: int
    event: str
    delta_lower: float = 0.0

    @property
    def power(self) -> float:
        """Lower bound over claim: near 1 where the audit sees all of the claimed loss, above 1 where the claim is wrong."""
        return self.delta_lower / self.delta if self.delta_lower else self.epsilon_lower / self.epsilon

    def check(self) -> None:
        """Insist on the claim.

        Raises:
            AuditFailed: the lower bound is above the claim.
        """
        for name, claim, lower in (
            ("epsilon", self.epsilon, self.epsilon_lower),
            ("delta", self.delta, self.delta_lower),
        ):
            if lower <= claim:
                continue
            raise AuditFailed(
                f"{name}={claim:g} must not be less than the {lower:.4g} that {self.draws} draws show"
                f" with confidence {self.confidence:g} (event: {self.event}); stop releasing with this mechanism and report it"
            )


class _Score(NamedTuple):
    """A number per row of outputs: its projection on a direction, or how far it is inside a corner.

    Attributes:
        direction: Weight of each column.
        corner: None; or a point: then the score is the least of the weighted distances from it, so that only rows in which every
            column tells something are above a threshold. Of independent noises, each paid with a part of epsilon, only there
            the losses add up to all of it.
    """

    direction: _Matrix
    corner: _Matrix | None = None

    def of(self, rows: _Matrix) -> _Matrix:
        if self.corner is None:
            return rows @ self.direction
        used = self.direction != 0
        least: _Matrix = ((rows[:, used] - self.corner[used]) * self.direction[used]).min(axis=1)
        return least

    def words(self) -> str:
        (used,) = np.nonzero(self.direction)
        if self.corner is not None:
            return f"the least of {len(used)} columns, each from its mean and by its spread,"
        return f"column {used[0]}" if len(used) == 1 else "the projection on the fitted direction"


class _Event(NamedTuple):
    score: _Score
    threshold: float
    above: bool
    swapped: bool

    def count(self, rows: _Matrix) -> int:
        score = self.score.of(rows)
        return int(np.count_nonzero(score >= self.threshold if self.above else score <= self.threshold))

    def words(self) -> str:
        sign = ">=" if self.above else "<="
        which = "second" if self.swapped else "first"
        return f"{self.score.words()} {sign} {self.threshold:g}, {which} data set against the other"


def audit(
    first: Draws,
    second: Draws,
    *,
    epsilon: float,
    delta: float = 0.0,
    draws: int = 100_000,
    confidence: float = 0.999,
    statistic: Statistic | None = None,
) -> AuditReport:
    """Bound the epsilon of a mechanism from below, and set it beside the claim.

    Half of the draws choose the event (a direction in which the outputs differ, or a corner, and a threshold on it), the other half
    count it, so that the choice cannot make the bound too high.

    Guarantees:
        If the mechanism is (epsilon, delta)-DP for these two data sets, `AuditReport.check` raises with probability at
        most `1 - confidence`, whatever its outputs are (argument: `dayfly.privacy.audit.bounds`). Nothing is said about
        data sets that were not tried.

    Args:
        first: Draws on a data set.
        second: Draws on a neighbour of it: the same with one customer more or less.
        epsilon: The claim, above 0.
        delta: Of the claim.
        draws: On each of the two, at least 100.
        confidence: Of the lower bound.
        statistic: What of a draw to look at, where that is known; it must not depend on draws. Any one is right, the logarithm of the
            ratio of the two likelihoods sees most.

    Raises:
        InvalidArgument: the claim or the number of draws cannot be, or the mechanism returned another shape than asked for.
    """
    bound = partial(epsilon_lower, delta=delta, confidence=confidence)
    found = _audited(first, second, epsilon, draws, bound, statistic)
    return AuditReport(found.lower, epsilon, delta, confidence, draws, found.event)


def audit_delta(
    first: Draws,
    second: Draws,
    *,
    epsilon: float,
    delta: float,
    draws: int = 100_000,
    confidence: float = 0.999,
    statistic: Statistic | None = None,
) -> AuditReport:
    """Bound the delta of a mechanism from below, at the epsilon that it claims.

    Arguments, errors and guarantees as `audit`. It sees what `audit` cannot: an event that one data set has with a probability below
    delta, and the other never, such as a key of one customer being shown.

    Raises:
        InvalidArgument: as `audit`, or delta is 0.
    """
    if not 0 < delta < 1:
        raise InvalidArgument(
            f"delta={delta} must be above 0 and less than 1; audit epsilon where no delta is claimed"
        )
    bound = partial(delta_lower, epsilon=epsilon, confidence=confidence)
    found = _audited(first, second, epsilon, draws, bound, statistic)
    return AuditReport(0.0, epsilon, delta, confidence, draws, found.event, found.lower)


class _Bound(Protocol):
    """A lower bound of epsilon or delta from counts."""

    def __call__(
        self, seen_with: int, draws_with: int, seen_without: int, draws_without: int, /
    ) -> float: ...


class _Found(NamedTuple):
    lower: float
    event: str


def _audited(
    first: Draws, second: Draws, epsilon: float, draws: int, bound: _Bound, statistic: Statistic | None
) -> _Found:
    if not epsilon > 0:
        raise InvalidArgument(
            f"epsilon={epsilon} must be a number above 0; pass the epsilon that the mechanism claims"
        )
    if draws < LEAST_DRAWS:
        raise InvalidArgument(f"draws={draws} must be at least {LEAST_DRAWS}; fewer show nothing")
    if statistic is not None:
        first, second = _scored(first, statistic), _scored(second, statistic)
    half = draws // 2
    event = _best_event(_rows(first, half), _rows(second, half), bound)
    likely, rare = (second, first) if event.swapped else (first, second)
    rest = draws - half
    lower = bound(event.count(_rows(likely, rest)), rest, event.count(_rows(rare, rest)), rest)
    return _Found(lower, event.words() if statistic is None else f"statistic as {event.words()}")


def _scored(draw: Draws, statistic: Statistic) -> Draws:
    """Draws of the statistic alone."""

    def scores(count: int) -> ArrayLike:
        sizes = [min(CHUNK, count - start) for start in range(0, count, CHUNK)]
        return np.concatenate([np.asarray(statistic(_matrix(draw(size), size))) for size in sizes])

    return scores


def _matrix(drawn: ArrayLike, count: int) -> _Matrix:
    rows = np.asarray(drawn, dtype=np.float64)
    if rows.ndim == 1:
        rows = rows[:, np.newaxis]
    if rows.ndim != 2 or len(rows) != count:
        raise InvalidArgument(
            f"shape={rows.shape} must be ({count},) or ({count}, k); return one row of numbers per draw"
        )
    return rows


def _rows(draw: Draws, count: int) -> _Matrix:
    """Outputs as rows; a value that was left out becomes a column of its own, because leaving out can tell, too."""
    rows = _matrix(draw(count), count)
    return np.hstack((np.nan_to_num(rows, nan=0.0), np.isnan(rows)))


def _best_event(first: _Matrix, second: _Matrix, bound: _Bound) -> _Event:
    if first.shape != second.shape:
        raise InvalidArgument(
            f"columns={first.shape[1] // 2} must be as many as the {second.shape[1] // 2} of the other data set; use NaN for a"
            " value that was left out"
        )
    best = _Event(_Score(np.eye(first.shape[1])[0]), float("inf"), above=True, swapped=False)
    best_lower = -1.0
    for score in _scores(first, second):
        one, other = np.sort(score.of(first)), np.sort(score.of(second))
        both = np.concatenate((one, other))
        for threshold in np.unique(np.quantile(both, np.linspace(0, 1, MOST_THRESHOLDS), method="nearest")):
            for above in (True, False):
                counts = (_tail(one, threshold, above=above), _tail(other, threshold, above=above))
                for swapped in (False, True):
                    likely, rare = counts[::-1] if swapped else counts
                    lower = bound(likely, len(one), rare, len(other))
                    if lower > best_lower:
                        best, best_lower = _Event(score, float(threshold), above, swapped), lower
    return best


def _scores(first: _Matrix, second: _Matrix) -> list[_Score]:
    """Directions of the means, by spreads and by covariances; the coordinate that differs most; and the two corners."""
    spread = np.sqrt((first.var(axis=0) + second.var(axis=0)) / 2)
    apart = first.mean(axis=0) - second.mean(axis=0)
    safe = np.where(spread > 0, spread, 1.0)
    joint = np.where(spread > 0, apart / safe**2, np.sign(apart) * 1e9)
    single = np.eye(first.shape[1])[
        int(np.argmax(np.where(spread > 0, np.abs(apart) / safe, np.abs(apart) * 1e9)))
    ]
    if np.count_nonzero(joint) <= 1:
        return [_Score(single)]
    seen = np.abs(apart) > _SEEN * safe * np.sqrt(2 / len(first))
    outwards = np.where(seen, np.sign(apart) / safe, 0.0)
    corners = [_Score(outwards, first.mean(axis=0)), _Score(-outwards, second.mean(axis=0))]
    directions = [_Score(joint), _Score(_whitened(first, second, spread > 0, apart))]
    return [*directions, _Score(single), *(corners if np.count_nonzero(seen) > 1 else [])]


def _whitened(first: _Matrix, second: _Matrix, some: NDArray[np.bool_], apart: _Matrix) -> _Matrix:
    """Fisher's direction: of all of Gaussian noise of one covariance, such as that of running totals, no other tells more."""
    direction = np.zeros_like(apart)
    centred = np.vstack([rows[:, some] - rows[:, some].mean(axis=0) for rows in (first, second)])
    if centred.shape[1]:
        direction[some] = np.linalg.pinv(centred.T @ centred / len(centred), hermitian=True) @ apart[some]
    return direction


def _tail(sorted_scores: _Matrix, threshold: float, *, above: bool) -> int:
    if above:
        return len(sorted_scores) - int(np.searchsorted(sorted_scores, threshold, side="left"))
    return int(np.searchsorted(sorted_scores, threshold, side="right"))
