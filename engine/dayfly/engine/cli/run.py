"""`dayfly run` and `dayfly generate`."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .exits import fail, guarded
from .instants import instant, whole_hours
from .output import notes, print_json, screen

if TYPE_CHECKING:
    from dayfly.engine.runtime import Arrival

    from .running import Pace, Running

__all__ = ["generate", "run"]

START = "2026-11-16T00:00:00Z"
"""Where generated events begin unless told otherwise: fixed, so that equal seeds give equal events."""

_EVENTS = (
    "Event files, one per channel, named CHANNEL.*.jsonl, .csv or .parquet (or .gz); more may follow it."
)
_POLICY = "Folder of policy files; with --generate the one of the furniture retailer by default."
_OUT = "Folder to leave fragments, lineage, logs and proofs in; must not exist or be empty."
_RECIPIENT = "AUDIENCE=THUMBPRINT (RFC 7638) of the key that a CRM registered; may be repeated."
_SPEED = "Event time per real time, for example 60 for a minute a second; 0 does not wait."
_TICK = "Milliseconds of event time between two looks at the clock, 1 to 60000."
_BATCH = "Messages of a channel within so many milliseconds are taken in together, 0 to 60000."

People = Annotated[int, typer.Option(min=1, help="Size of the generated population.")]
Seed = Annotated[
    int, typer.Option(min=0, help="Seed of the generated events; equal seeds give equal events.")
]
Hours = Annotated[float, typer.Option(min=0.01, help="Hours of generated events.")]
Start = Annotated[str, typer.Option(help="First instant of generated events, RFC 3339.")]


@guarded
def run(
    *,
    files: Annotated[list[Path] | None, typer.Argument(metavar="FILE", help="Further event files.")] = None,
    events: Annotated[list[Path] | None, typer.Option(metavar="FILE...", help=_EVENTS)] = None,
    policy: Annotated[Path | None, typer.Option(metavar="DIR", help=_POLICY)] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help=_OUT)] = None,
    generate: Annotated[
        bool, typer.Option("--generate", help="Run on generated customers instead of files.")
    ] = False,
    people: People = 300,
    seed: Seed = 7,
    hours: Hours = 24.0,
    start: Start = START,
    recipient: Annotated[list[str] | None, typer.Option(metavar="NAME=KEY", help=_RECIPIENT)] = None,
    speed: Annotated[float, typer.Option(min=0.0, help=_SPEED)] = 0.0,
    tick_ms: Annotated[int, typer.Option(min=1, max=60_000, help=_TICK)] = 1_000,
    batch_ms: Annotated[int, typer.Option(min=0, max=60_000, help=_BATCH)] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
) -> None:
    """Take events in, decide, mint fragments, and destroy them on time.

    Example: dayfly run --events events/*.jsonl events/*.csv --policy policy --out out
    """
    from .running import Pace  # noqa: PLC0415 - the engine is loaded by the commands that need it

    paths = [*(events or ()), *(files or ())]
    if generate == bool(paths):
        fail(
            "events must come from files or from the generator; give --events FILE... or --generate, not both"
        )
    if policy is None and not generate:
        fail("policy must be given for your own events; add --policy DIR")
    pace = Pace(speed, tick_ms, batch_ms)
    with ExitStack() as stack:
        if generate:
            paths = list(stack.enter_context(_generated(seed, people, start, hours)))
        summary = _run(paths, policy, out, _recipients(recipient or ()), pace, quiet=as_json)
    if as_json:
        print_json(summary)


def _run(
    paths: Sequence[Path],
    folder: Path | None,
    out: Path | None,
    recipients: dict[str, str],
    pace: "Pace",
    *,
    quiet: bool,
) -> dict[str, object]:
    from dayfly.engine.policy.load import example_policy_folder, load_policy  # noqa: PLC0415 - see `run`
    from dayfly.engine.runtime import in_order, open_event_files  # noqa: PLC0415 - see `run`

    from .running import open_run  # noqa: PLC0415 - see `run`
    from .view import summary_board  # noqa: PLC0415 - see `run`

    policy = load_policy(folder or example_policy_folder(), version=1)
    _check_recipients(recipients, {trigger.audience for trigger in policy.triggers})
    event_files = open_event_files(paths, policy)
    counts = [file.rows_about() for file in event_files]
    total = None if None in counts else sum(count or 0 for count in counts)
    with open_run(policy, recipients=recipients, out=out, pace=pace) as running:
        arrivals = in_order([file.arrivals(running.engine.intake) for file in event_files])
        _drive(running, arrivals, total)
        board = summary_board(running.tally, running.seconds)
        summary = running.finish()
    if not quiet:
        console = screen()
        console.print(board)
        if out is not None:
            console.print(
                f"left in {out}: fragments, lineage, audit, decisions, tombstones and their receipts"
            )
    return summary


def _drive(running: "Running", arrivals: "Iterator[Arrival]", total: int | None) -> None:
    """Take everything in, with the live board where somebody watches."""
    from rich.live import Live  # noqa: PLC0415 - see `run`

    from .view import board  # noqa: PLC0415 - see `run`

    console = notes()
    if not console.is_terminal:
        for step in running.replay.steps(arrivals):
            running.note(step)
        return
    shown = 0.0
    with Live(console=console, auto_refresh=False, transient=True) as live:
        for step in running.replay.steps(arrivals):
            running.note(step)
            if running.seconds - shown > 0.25:
                shown = running.seconds
                live.update(board(running.tally, shown, total=total), refresh=True)


@contextmanager
def _generated(seed: int, people: int, start: str, hours: float) -> Iterator[tuple[Path, ...]]:
    from .sources import Generated, generated_files  # noqa: PLC0415 - see `run`

    wanted = Generated(seed, people, instant(start, "--start"), whole_hours(hours))
    with generated_files(wanted, notes()) as paths:
        yield paths


def _recipients(given: Sequence[str]) -> dict[str, str]:
    """Audiences and the thumbprints of their keys."""
    found = {}
    for text in given:
        audience, _, key = text.partition("=")
        if not audience or len(key) != 43:
            fail(
                f"recipient={text!r} must be AUDIENCE=THUMBPRINT with the 43 characters of an RFC 7638 SHA-256 "
                "thumbprint; see `dayfly verify --help`"
            )
        found[audience] = key
    return found


def _check_recipients(recipients: dict[str, str], audiences: set[str]) -> None:
    unknown = sorted(recipients.keys() - audiences)
    if unknown:
        known = ", ".join(sorted(audiences)) or "none"
        fail(f"recipient={unknown[0]!r} must be an audience of the policy's triggers; they name: {known}")


@guarded
def generate(
    *,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for the files; must not exist or be empty.")
    ],
    people: People = 300,
    seed: Seed = 7,
    hours: Hours = 24.0,
    start: Start = START,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as one JSON object.")] = False,
) -> None:
    """Write realistic events of five channels into files that `dayfly run` reads.

    Example: dayfly generate --out events --people 1000 --hours 48
    """
    from dayfly.engine.runtime.run_folder import check_free  # noqa: PLC0415 - see `run`

    from .sources import Generated, write_generated  # noqa: PLC0415 - see `run`

    wanted = Generated(seed, people, instant(start, "--start"), whole_hours(hours))
    check_free(out)
    part = out.parent / f".{out.name}.part"
    try:
        counts = write_generated(wanted, part, notes())
        if out.is_dir():
            out.rmdir()
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    if as_json:
        print_json({"out": str(out), "lines": counts})
        return
    for name, lines in counts.items():
        screen().print(f"{lines:>10,} {out / name}")
