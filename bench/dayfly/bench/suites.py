"""Which cases a suite has. A case is a function `run(*, quick) -> rows`; its module is imported when the suite runs."""

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any, Final, cast

from .errors import UnknownSuite
from .rows import Row, row_of

__all__ = ["ALL", "SUITES", "run_suite", "suites_of"]

ALL: Final = "all"

SUITES: Final[Mapping[str, tuple[str, ...]]] = {
    "realtime": (
        "decision_case",
        "windows_case",
        "fragments_case",
        "lineage_case",
        "latency_case",
        "memory_case",
        "start_case",
    ),
    "durable": (
        "durable_latency_case",
        "durable_rate_case",
        "commit_case",
        "recovery_case",
        "vault_case",
        "cores_case",
    ),
    "sandbox": (
        "sandbox_groupby_case",
        "sandbox_release_case",
        "sandbox_budget_case",
        "sandbox_continual_case",
        "sandbox_retail_case",
    ),
    "federation": (
        "federation_case",
        "federation_alignment_case",
        "federation_vertical_case",
        "federation_analytics_case",
        "federation_flower_case",
    ),
}
"""Suite to its cases: names of modules beside this one."""


def suites_of(name: str) -> tuple[str, ...]:
    """The suites that a name on the command line stands for.

    Raises:
        UnknownSuite: There is no such suite.
    """
    if name == ALL:
        return tuple(SUITES)
    if name not in SUITES:
        raise UnknownSuite(f"suite={name!r} must be one of {', '.join((*SUITES, ALL))}; pass one of these")
    return (name,)


def run_suite(name: str, *, quick: bool, started: Callable[[str], object] = lambda _: None) -> Iterator[Row]:
    """Run the cases of one suite, one after the other.

    Args:
        name: A suite.
        quick: The short form.
        started: Told the name of each case before it runs.

    Raises:
        BadRow: A case handed back something that is no row.
    """
    for case in SUITES[name]:
        started(case)
        run = cast("Callable[..., list[Any]]", import_module(f"dayfly.bench.{case}").run)
        for row in run(quick=quick):
            yield row if isinstance(row, Row) else row_of(row)
