"""`SandboxQuery`: a query of a sandbox, and everything that can be asked of it: release, preview, explain, suggest, ..."""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dayfly.privacy.errors import InvalidQuery

from .contributing import Contributions, contribution_query, workload_of
from .explaining import Explanation, explain
from .fluent import Fluent
from .intervals import half_width
from .numbers import Budget, Number
from .preview import Preview, preview
from .queries import Query
from .results import Release
from .streaming import ContinualRelease
from .suggesting import Suggestion, suggest
from .workloads import Workload

if TYPE_CHECKING:  # a sandbox makes its queries
    from .handle import Sandbox

__all__ = ["SandboxQuery", "alpha_of"]


class SandboxQuery(Fluent):
    """A query of a sandbox, written step by step; each method returns a new one.

    Example:
        ``sandbox.query("orders").where(col("quantity") > 0).group_by("country", keys=["France"]).bound(groups_per_customer=1,
        rows_per_group=20).count().release(epsilon="0.5")``
    """

    __slots__ = ("_sandbox", "query")

    def __init__(self, sandbox: "Sandbox", query: Query) -> None:
        self._sandbox: Final = sandbox
        self.query: Final = query

    def __repr__(self) -> str:
        return f"SandboxQuery({self.query!r})"

    def _query(self) -> Query:
        return self.query

    def _with(self, query: Query) -> "SandboxQuery":
        return SandboxQuery(self._sandbox, query)

    def release(
        self,
        *,
        epsilon: Number | Fraction | None = None,
        delta: Number | Fraction | None = None,
        rho: Number | Fraction | None = None,
        shares: Mapping[str, Number | Fraction] | None = None,
        confidence: float = 0.95,
        release_id: bytes | None = None,
    ) -> Release:
        """Pay, and get the answer.

        Args:
            epsilon: What it may cost, in pure DP, or with `delta` in approximate DP. ``"0.1"`` and ``0.1`` are one tenth.
            delta: Probability with which that may fail; needed for unknown keys.
            rho: What it may cost in zero-concentrated DP, instead of `epsilon`.
            shares: Weights of columns in the split of the budget, by name; 1 where none is given.
            confidence: Of the intervals.
            release_id: 8 to 64 bytes that name this release; a second release under the same name is refused and costs nothing.

        Raises:
            InvalidQuery: query or budget break a rule; nothing is spent.
            LedgerError: the ledger says no (`BudgetExceeded`, `AccountMissing`, ...); nothing is spent.
            ReleaseFailed: it was paid for and could not be finished.
        """
        budget = budget_of(epsilon=epsilon, delta=delta, rho=rho, shares=shares)
        return self._sandbox._release(self.query, budget, confidence, release_id)  # noqa: SLF001 - one handle in two classes

    def explain(
        self,
        *,
        epsilon: Number | Fraction | None = None,
        delta: Number | Fraction | None = None,
        rho: Number | Fraction | None = None,
        shares: Mapping[str, Number | Fraction] | None = None,
    ) -> Explanation:
        """How it would be answered; reads no row, spends nothing. Arguments and errors as `release`."""
        budget = budget_of(epsilon=epsilon, delta=delta, rho=rho, shares=shares)
        return explain(self._sandbox._plan(self.query, budget))  # noqa: SLF001 - as in `release`

    def preview(
        self,
        *,
        epsilon: Number | Fraction | None = None,
        delta: Number | Fraction | None = None,
        rho: Number | Fraction | None = None,
        shares: Mapping[str, Number | Fraction] | None = None,
        workload: Workload | None = None,
        confidence: float = 0.95,
    ) -> Preview:
        """How far off the answer would be; reads no row, spends nothing.

        Args:
            epsilon: As for `release`.
            delta: As for `release`.
            rho: As for `release`.
            shares: As for `release`.
            workload: What is known or assumed about how customers contribute: without it only the noise is told.
            confidence: As for `release`.

        Raises:
            InvalidQuery: query or budget break a rule.
        """
        budget = budget_of(epsilon=epsilon, delta=delta, rho=rho, shares=shares)
        planned = self._sandbox._plan(self.query, budget)  # noqa: SLF001 - as in `release`
        return preview(planned, workload, alpha=alpha_of(confidence))

    def suggest(
        self,
        *,
        workload: Workload,
        epsilon: Number | Fraction | None = None,
        delta: Number | Fraction | None = None,
        rho: Number | Fraction | None = None,
        confidence: float = 0.95,
    ) -> Suggestion:
        """Bounds and split of the budget with the least foreseen error; reads no row, spends nothing.

        Args:
            workload: How customers contribute.
            epsilon: As for `release`.
            delta: As for `release`.
            rho: As for `release`.
            confidence: As for `release`.

        Raises:
            InvalidQuery: query or budget break a rule.
        """
        alpha = alpha_of(confidence)
        return suggest(
            self.query,
            budget_of(epsilon=epsilon, delta=delta, rho=rho, shares=None),
            workload,
            plan=self._sandbox._plan,  # noqa: SLF001 - as in `release`
            preview=lambda planned, known: preview(planned, known, alpha=alpha),
        )

    def contributions(
        self,
        *,
        epsilon: Number | Fraction | None = None,
        rho: Number | Fraction | None = None,
        most_groups: int = 64,
        most_rows: int = 256,
    ) -> Contributions:
        """Pay for a histogram of customers by groups and rows per group, to choose bounds by.

        Args:
            epsilon: What it may cost.
            rho: What it may cost, instead.
            most_groups: Last bin of groups; customers with more are not counted.
            most_rows: Last bin of mean rows per group.

        Raises:
            InvalidQuery: it cannot be asked, or (after it was paid) nothing stands out of the noise.
            LedgerError, ReleaseFailed: as `release`.
        """
        query = contribution_query(self.query, most_groups=most_groups, most_rows=most_rows)
        asked = SandboxQuery(self._sandbox, query)
        budget = budget_of(epsilon=epsilon, delta=None, rho=rho, shares=None)
        noise = next(iter(self._sandbox._plan(query, budget).parts.values())).noise  # noqa: SLF001 - as in `release`
        release = asked.release(epsilon=epsilon, rho=rho)
        return Contributions(release, workload_of(release, half_width(noise, 0.01 / release.table.num_rows)))

    def continual(
        self,
        path: Path,
        *,
        rho: Number | Fraction,
        length: int,
        steps_per_customer: int = 1,
        min_separation: int = 1,
    ) -> ContinualRelease:
        """Running totals that refresh step by step; all steps are paid for here, once, and none when the file is there already.

        Args:
            path: File that keeps the stream between steps; private.
            rho: What all steps together may cost, in zero-concentrated DP.
            length: Steps that are paid for.
            steps_per_customer: Most steps that one customer counts in.
            min_separation: Fewest steps from one of these to the next.

        Raises:
            InvalidQuery: the query is not one over known keys with one count, customers or sum, or the file is another stream's.
            LedgerError: the ledger says no; nothing is spent.
            StreamError: the file cannot be used.
        """
        return self._sandbox._continual(  # noqa: SLF001 - as in `release`
            self.query,
            path,
            rho=budget_of(epsilon=None, delta=None, rho=rho, shares=None),
            length=length,
            steps_per_customer=steps_per_customer,
            min_separation=min_separation,
        )


def budget_of(
    *,
    epsilon: Number | Fraction | None,
    delta: Number | Fraction | None,
    rho: Number | Fraction | None,
    shares: Mapping[str, Number | Fraction] | None,
) -> Budget:
    """The budget of some arguments; fractions become texts."""
    weights = {name: _written(one) for name, one in (shares or {}).items()}
    return Budget(
        epsilon=None if epsilon is None else _written(epsilon),
        delta=None if delta is None else _written(delta),
        rho=None if rho is None else _written(rho),
        shares=weights,
    )


def _written(value: Number | Fraction) -> Number:
    return str(value) if isinstance(value, Fraction) else value


def alpha_of(confidence: float) -> float:
    """Probability with which an interval may miss.

    Raises:
        InvalidQuery: the confidence is not in (0, 1).
    """
    if not 0 < confidence < 1:
        raise InvalidQuery(f"confidence={confidence!r} must lie in (0, 1); 0.95 is usual")
    return 1 - confidence
