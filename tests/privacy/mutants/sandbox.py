"""Checks of whole queries: what reaches the noise, in which order it is paid, and what is said when something fails."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dayfly.privacy.accounting import ComposedLoss, cost_of
from dayfly.privacy.errors import DayflyError, ReleaseFailed
from dayfly.privacy.ledger import Account, Ledger, Limit
from dayfly.privacy.sandbox import Sandbox, SandboxQuery, Source, col

NOW_MS = 1_800_000_000_000
LIFT = 1_000_000
"""What the recording noise adds, so that a number that bypassed it is seen."""


class Recorder:
    """A noise source that adds a constant, and keeps what it was given."""

    def __init__(self) -> None:
        self.vectors: list[NDArray[np.int64]] = []
        self.claims: list[int] = []
        self.maps: list[dict[int, int]] = []
        self.spent: list[Fraction] = []
        self.ledger: Ledger | None = None
        self.fails = False

    def _asked(self) -> None:
        if self.ledger is not None:
            self.spent.append(self.ledger.remaining("analyst", "ann").spent)

    def _vector(self, values: NDArray[np.int64], claim: int) -> NDArray[np.int64]:
        self._asked()
        if self.fails:
            raise ValueError(f"cannot draw for {values.tolist()}")
        self.vectors.append(values.copy())
        self.claims.append(claim)
        return values + LIFT

    def laplace(self, values: NDArray[np.int64], scale: Fraction, *, l1: int = 1) -> NDArray[np.int64]:
        """As `NoiseSource`."""
        return self._vector(values, l1)

    def gaussian(
        self,
        values: NDArray[np.int64],
        scale: Fraction,
        *,
        l2_squared: int = 1,
    ) -> NDArray[np.int64]:
        """As `NoiseSource`."""
        return self._vector(values, l2_squared)

    def laplace_threshold(
        self,
        values: Mapping[int, int],
        scale: Fraction,
        threshold: int,
        *,
        sensitivity: tuple[int, int, int] = (1, 1, 1),
    ) -> dict[int, int]:
        """Shows every key that it is given."""
        self._asked()
        self.maps.append(dict(values))
        return {key: value + LIFT for key, value in values.items()}

    gaussian_threshold = laplace_threshold


def table(rows: list[tuple[int, str, float]]) -> pa.Table:
    """Customer, key, value."""
    customers, keys, values = zip(*rows, strict=True)
    return pa.table({"customer": list(customers), "k": list(keys), "v": list(values)})


@contextmanager
def sandbox_of(
    rows: list[tuple[int, str, float]], *, epsilon: Fraction = Fraction(10**6), salt: int = 7
) -> Iterator[tuple[Sandbox, Recorder, Ledger]]:
    """A sandbox over some rows whose noise records, and its ledger."""
    noise = Recorder()
    with TemporaryDirectory() as folder:
        ledger = Ledger.open(Path(folder) / "b.db", now_ms=lambda: NOW_MS, create=True)
        for scope, name in (("data_set", "t"), ("analyst", "ann"), ("purpose", "p")):
            ledger.declare(Account(scope, name, Limit(epsilon=epsilon, delta=Fraction(1, 2))))  # type: ignore[arg-type]
        yield (
            Sandbox(
                ledger=ledger,
                sources={"t": Source(table(rows), customer="customer")},
                analyst="ann",
                purpose="p",
                noise=noise,
                random_bytes=np.random.default_rng(salt).bytes,
            ),
            noise,
            ledger,
        )
        ledger.close()


OTHERS = [(0, "x", 1.0), (0, "y", 4.0), (2, "x", -9.0), (2, "z", 50.0)]
EXTREME = [(1, key, value) for key in ("x", "y", "z") for value in (1e9, 1e9, -3.0)]
CALM = [(1, "x", 3.0), (1, "y", -1.0), (1, "y", 2.5)]
SPLIT = [(1, "x", -1e9), (1, "y", 1e9), (1, "z", float("nan")), (1, "z", float("inf"))]
OWN = [(1, "p", 1.0), (1, "q", 2.0), (1, "r", 2.0)]
"""Values that nobody else has."""


def measured(query: SandboxQuery) -> SandboxQuery:
    """Every measure there is."""
    return (
        query.count()
        .customers()
        .sum("v", lower=-2, upper=7)
        .mean("v", lower=-2, upper=10)
        .variance("v", lower=-2, upper=10)
        .quantiles("v", [0.5], lower=-2, upper=10, bins=256)
        .distinct("k", values_per_customer=2)
    )


def what_reaches_the_noise_moves_within_the_claim() -> None:
    """Each vector that noise is added to, with and without a customer, against the L1 norm that its noise was told."""
    for rows in (EXTREME, CALM, SPLIT, OWN):
        for grouped in (False, True):
            vectors, claims = [], []
            for data in (OTHERS, [*OTHERS, *rows]):
                with sandbox_of(data) as (sandbox, noise, _):
                    query = sandbox.query("t")
                    query = query.group_by("k", keys=["x", "y", "z"]) if grouped else query
                    groups = 2 if grouped else None
                    measured(query.bound(groups_per_customer=groups, rows_per_group=2)).release(epsilon=1)
                    vectors.append(noise.vectors)
                    claims = noise.claims
            assert len(vectors[0]) == len(vectors[1]) == len(claims) >= 6
            for before, after, claim in zip(*vectors, claims, strict=True):
                assert sum(abs(int(a) - int(b)) for a, b in zip(before, after, strict=True)) <= claim


def the_cost_is_what_the_noise_loses() -> None:
    """Parts add up to what was asked for, and the ledger is charged all of it."""
    with sandbox_of(OTHERS) as (sandbox, _, ledger):
        release = measured(sandbox.query("t").bound(rows_per_group=2)).release(epsilon=1)
        assert release.loss.epsilon == 1
        assert ledger.remaining("analyst", "ann").spent == 1
    with sandbox_of(OTHERS) as (sandbox, _, _):
        query = measured(sandbox.query("t").bound(rows_per_group=2))
        planned = sandbox._plan(query.query, release.document.budget)  # type: ignore[arg-type]
        parts = [cost_of(one.event).epsilon or 0 for one in planned.parts.values()]
        assert sum(parts) == cost_of(ComposedLoss(tuple(one.event for one in planned.parts.values()))).epsilon
        assert sum(parts) <= 1


def every_number_that_is_shown_went_through_noise() -> None:
    """The recording noise adds a million units to each; a mean of a million rows more is next to the middle of its bounds."""
    with sandbox_of(OTHERS) as (sandbox, _, _):
        query = sandbox.query("t").bound(rows_per_group=2)
        answer = query.count().customers().sum("v", lower=0, upper=7, step=1, name="total").release(epsilon=1)
        assert all(answer.table[name][0].as_py() >= LIFT for name in ("count", "customers", "total"))
        answer = query.mean("v", lower=0, upper=50, step=1, name="mean").release(epsilon=1)
        assert (
            abs(answer.table["mean"][0].as_py() - 26) < 0.01
        )  # a total lifted by a million over rows lifted by a million: 25 + 1


def the_loss_is_paid_before_noise_is_drawn() -> None:
    """At each draw the ledger holds the whole loss; and a failure gives none of it back."""
    for fails in (False, True):
        with sandbox_of(OTHERS) as (sandbox, noise, ledger):
            noise.ledger, noise.fails = ledger, fails
            query = sandbox.query("t").bound(rows_per_group=1).count().sum("v", lower=0, upper=1)
            try:
                query.release(epsilon=1)
            except ReleaseFailed:
                assert fails
            assert noise.spent
            assert all(spent == 1 for spent in noise.spent)
            assert ledger.remaining("analyst", "ann").spent == 1


def what_the_ledger_refuses_reads_no_row() -> None:
    """No noise is drawn for a query that is not paid for."""
    with sandbox_of(OTHERS, epsilon=Fraction(1, 2)) as (sandbox, noise, _):
        query = sandbox.query("t").bound(rows_per_group=1).count()
        try:
            query.release(epsilon=1)
        except DayflyError:
            assert not noise.vectors
        else:
            raise AssertionError("more was released than the budget allows")


def a_release_is_drawn_once() -> None:
    """The same id again: refused, and no second noise around the same number."""
    with sandbox_of(OTHERS) as (sandbox, noise, _):
        query = sandbox.query("t").bound(rows_per_group=1).count()
        query.release(epsilon=1, release_id=b"release 1")
        try:
            query.release(epsilon=1, release_id=b"release 1")
        except DayflyError:
            assert len(noise.vectors) == 1
        else:
            raise AssertionError("a release was drawn twice")


def no_message_holds_a_value() -> None:
    """Whatever fails behind the spend, its text is not told."""
    rows = [(1, "secret-key", 31415.0)]
    with sandbox_of(rows) as (sandbox, noise, _):
        noise.fails = True
        query = sandbox.query("t").bound(rows_per_group=1).sum("v", lower=0, upper=10**6, step=1)
        try:
            query.release(epsilon=1)
        except ReleaseFailed as error:
            told = f"{error} {error.__cause__} {error.__context__} {sandbox!r} {query!r}"
            assert "31415" not in told
            assert "secret-key" not in told
        else:
            raise AssertionError("a failing noise source went unnoticed")


def unknown_keys_are_decided_by_noisy_counts_alone() -> None:
    """The selection gets every key that somebody kept, however few they are, and no key that nobody kept."""
    rows = [(0, "x", 1.0), (1, "x", 1.0), (2, "y", 1.0), *((3, f"own{number}", 1.0) for number in range(6))]
    with sandbox_of(rows) as (sandbox, noise, _):
        query = sandbox.query("t").group_by("k").bound(groups_per_customer=2, rows_per_group=1).count()
        answer = query.release(epsilon=1, delta="1e-6").table
        (counts,) = noise.maps
        assert sorted(counts.values()) == [1, 1, 1, 2]
        assert answer.num_rows == len(counts)


def each_release_has_a_salt_of_its_own() -> None:
    """A customer's kept groups are not the same every time, nor the same for all."""
    rows = [(customer, f"k{group}", 1.0) for customer in range(12) for group in range(8)]
    with sandbox_of(rows) as (sandbox, noise, _):
        query = sandbox.query("t").group_by("k", keys=[f"k{group}" for group in range(8)])
        query = query.bound(groups_per_customer=1, rows_per_group=1).count()
        for _ in range(6):
            query.release(epsilon=1)
        assert len({tuple(vector) for vector in noise.vectors}) > 1
        assert all(int(vector.max()) < 12 for vector in noise.vectors)


def a_derived_column_is_bounded_as_it_is_now() -> None:
    """A column that is redefined after an earlier query of it is clamped and read anew."""
    with sandbox_of([(0, "x", 3.0), (1, "x", 4.0)]) as (sandbox, noise, _):
        query = sandbox.query("t").bound(rows_per_group=1)
        query.sum("v", lower=0, upper=10, step=1).release(epsilon=1)
        query.derive(v=col("v") * 100).sum("v", lower=0, upper=10, step=1).release(epsilon=1)
        query.derive(v=col("v") * 2).sum("v", lower=0, upper=100, step=1).release(epsilon=1)
        assert [int(vector[0]) for vector in noise.vectors] == [7, 20, 14]
