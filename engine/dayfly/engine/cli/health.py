"""`dayfly health`: how an engine is doing, read from the report that it keeps in its folder."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .exits import ExitCode, fail, guarded
from .output import print_json, screen

if TYPE_CHECKING:
    from dayfly.engine.health import HealthFile, HealthReport

__all__ = ["health"]

_HTML = "Also write a page with charts, which needs nothing but a browser."


@guarded
def health(
    *,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a store that an engine has open.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
    metrics: Annotated[bool, typer.Option("--metrics", help="Print OpenMetrics text.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help=_HTML)] = None,
) -> None:
    """Show the health of an engine. Exit status 1 if something needs attention; the output says what and the way out.

    The engine writes its report into the folder every few seconds; nothing is opened, and no personal data is in it.

    Example: dayfly health store --html health.html
    """
    from dayfly.engine.health import read_health, render_html, up_to_date  # noqa: PLC0415 - only commands load it

    if as_json and metrics:
        fail("json and metrics must not be given together; run the command twice")
    now_ms = time.time_ns() // 1_000_000
    found = read_health(folder)
    report = up_to_date(found, now_ms)
    if html is not None:
        html.write_text(render_html(report, found.points), encoding="utf-8")
    _print(found, report, now_ms, as_json=as_json, metrics=metrics)
    if report.attention:
        raise typer.Exit(ExitCode.NO)


def _print(found: "HealthFile", report: "HealthReport", now_ms: int, *, as_json: bool, metrics: bool) -> None:
    age_seconds = max(0, now_ms - report.at_ms) / 1000
    if as_json:
        import msgspec  # noqa: PLC0415 - see `health`

        content: dict[str, Any] = msgspec.to_builtins(report)
        print_json({"age_seconds": age_seconds, "every_seconds": found.every_seconds, "report": content})
    elif metrics:
        from dayfly.engine.health import render_openmetrics  # noqa: PLC0415 - see `health`

        sys.stdout.write(render_openmetrics(report))
    else:
        from dayfly.engine.health.table import board  # noqa: PLC0415 - see `health`

        screen().print(board(report, age_seconds=age_seconds))
