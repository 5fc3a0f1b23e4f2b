"""`python -m dayfly.bench SUITE [--quick] [--json FILE]`: measure, show a table, say whether every bar holds."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from .environment import load_average, machine, versions
from .errors import UnknownSuite
from .rows import Header, Report, Row
from .suites import ALL, SUITES, run_suite, suites_of

__all__ = ["app", "bar_text", "figure", "main", "measure", "show", "verdict", "write_json"]

app = typer.Typer(add_completion=False, help="Measure Dayfly against its bars and its peers.")

_SUITE = f"One of: {', '.join((*SUITES, ALL))}."


@app.command()
def bench(
    suite: Annotated[str, typer.Argument(help=_SUITE)],
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="Less data, within 50 seconds for each suite.")
    ] = False,
    json: Annotated[
        Path | None, typer.Option("--json", help="Also write header and rows to this file.")
    ] = None,
    plots: Annotated[
        Path | None, typer.Option("--plots", help="Also draw to this folder (needs dayfly[plots]).")
    ] = None,
) -> None:
    """Run a suite. Exit status: 0 every bar holds, 1 one does not, 2 the command is wrong."""
    try:
        report = measure(suite, quick=quick)
    except UnknownSuite as error:
        raise typer.BadParameter(str(error), param_hint="SUITE") from None
    show(report, Console())
    if json is not None:
        write_json(report, json)
    if plots is not None:
        from .plots import draw  # noqa: PLC0415 - matplotlib is an extra

        draw(report, plots)
    raise typer.Exit(0 if report.holds else 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: As on the command line; None: those of this process.

    Returns:
        The exit status.
    """
    try:
        app(args=arguments, prog_name="python -m dayfly.bench")
    except SystemExit as done:
        return int(done.code or 0)
    return 0


def measure(suite: str, *, quick: bool) -> Report:
    """Run a suite, or all, with a line per case on standard error. This is where the clock and the machine are read.

    Raises:
        UnknownSuite: There is no such suite.
    """
    names = suites_of(suite)
    begin, errors = time.perf_counter(), Console(stderr=True)
    header = Header(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine(),
        load=load_average(),
        versions=versions(),
        quick=quick,
    )

    def started(case: str) -> None:
        errors.print(f"{time.perf_counter() - begin:6.1f} s  {case.removesuffix('_case')}", highlight=False)

    rows = [row for name in names for row in run_suite(name, quick=quick, started=started)]
    seconds = round(time.perf_counter() - begin, 1)
    return Report(header=msgspec.structs.replace(header, seconds=seconds), rows=tuple(rows))


def show(report: Report, console: Console) -> None:
    """Print header and rows as a table."""
    header = report.header
    console.print(f"{header.date}  {header.machine}, load {header.load}, {header.seconds} s", highlight=False)
    console.print("  ".join(f"{name} {number}" for name, number in header.versions.items()), highlight=False)
    table = Table("suite", "case", "measured", "peer", "ratio", "bar", "holds", "note")
    for row in report.rows:
        table.add_row(
            row.suite,
            row.case,
            figure(row),
            row.peer or "",
            "" if row.ratio is None else f"{row.ratio:.2f}",
            bar_text(row),
            verdict(row),
            row.note,
            style=None if row.holds else "red",
        )
    console.print(table)


def figure(row: Row) -> str:
    """The measured value with its unit."""
    if row.measured is None:
        return "not measured"
    shown = f"{row.measured:,.0f}" if abs(row.measured) >= 1_000 else f"{row.measured:.4g}"
    return f"{shown} {row.unit}"


def bar_text(row: Row) -> str:
    """The bar in words; a number bounds the ratio from above."""
    if row.bar is None:
        return ""
    return row.bar if isinstance(row.bar, str) else f"<= {row.bar:g} x"


def verdict(row: Row) -> str:
    """yes, no, or nothing where there is no bar."""
    if row.bar is None:
        return ""
    return "yes" if row.holds else "no"


def write_json(report: Report, path: Path) -> None:
    """Write header and rows, indented, in their order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
