"""`dayfly warm` and `dayfly bench`."""

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, cast

import typer

from .exits import ExitCode, fail, guarded
from .output import print_json, screen

__all__ = ["bench_app", "warm"]

bench_app = typer.Typer(help="Measure Dayfly on this machine.", no_args_is_help=True)

Quick = Annotated[bool, typer.Option("--quick", help="Within about 50 seconds, on less data.")]
JsonFile = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Also write the rows to a file.")
]


@guarded
def warm(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Compile every kernel once, so that no later start waits for the compiler.

    Example: dayfly warm
    """
    from dayfly.engine.warmup import warm_up  # noqa: PLC0415 - only commands load the engine

    report = warm_up()
    if as_json:
        print_json(asdict(report))
    else:
        screen().print(str(report), soft_wrap=True)


@bench_app.command("latency")
@guarded
def latency(
    *,
    rate: Annotated[
        float, typer.Option(min=1.0, help="Events per second, sent whether or not the engine keeps up.")
    ] = 10_000.0,
    seconds: Annotated[float, typer.Option(min=1.0, help="How long.")] = 10.0,
    target_ms: Annotated[
        float, typer.Option(min=0.001, help="What the 99th percentile must not exceed.")
    ] = 200.0,
) -> None:
    """Open-loop latency from event received to fragment sealed. Exit status 1 if the 99th percentile misses the target.

    Example: dayfly bench latency --rate 10000 --seconds 10 --target-ms 200
    """
    raise typer.Exit(_bench("dayfly.bench.latency")(rate, seconds, target_ms))


@bench_app.command("realtime")
@guarded
def realtime(*, quick: Quick = False, json_file: JsonFile = None) -> None:
    """Intake, windows, tags, fragments and lineage against their bars and their peers. Exit status 1 if a bar is missed.

    Example: dayfly bench realtime --quick
    """
    _suite("realtime", quick, json_file)


@bench_app.command("all")
@guarded
def everything(*, quick: Quick = False, json_file: JsonFile = None) -> None:
    """Every suite that is installed. Exit status 1 if a bar is missed.

    Example: dayfly bench all --json bench.json
    """
    _suite("all", quick, json_file)


def _suite(name: str, quick: bool, json_file: Path | None) -> None:
    arguments = [name, *(["--quick"] if quick else []), *(["--json", str(json_file)] if json_file else [])]
    raise typer.Exit(_bench("dayfly.bench.__main__")(arguments))


def _bench(module: str) -> Callable[..., int]:
    """`main` of a module of the bench, which is a portion above this one and may be absent."""
    if importlib.util.find_spec("dayfly.bench") is None or importlib.util.find_spec(module) is None:
        fail(
            f"module={module!r} must be installed for this command; install Dayfly with its bench portion",
            ExitCode.MISSING_PART,
        )
    return cast("Callable[..., int]", importlib.import_module(module).main)
