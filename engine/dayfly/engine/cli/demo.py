"""`dayfly demo`: the main job on generated customers, told step by step, each step checked."""

import io
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .exits import guarded
from .instants import instant, whole_hours
from .output import notes, print_json, screen
from .run import START

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["demo"]

_MARK = "demo.json"
_SEEN = (
    "a fragment minted in the moment a consented condition became true, and opened by the one CRM it was for",
    "every value explained by its events, its rule and its consent",
    "a withdrawal that killed the fragment at once, with a proof that a third party can check",
    "an untrue fragment recalled, and all others destroyed at their end",
)


@guarded
def demo(
    *,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where its files go; an earlier demo there is replaced.")
    ] = Path("demo-out"),
    people: Annotated[int, typer.Option(min=50, help="Size of the generated population.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the generated events.")] = 7,
    hours: Annotated[float, typer.Option(min=1.0, help="Hours of generated events.")] = 12.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was checked as one JSON object.")
    ] = False,
) -> None:
    """Events in, a fragment out, verified, opened, explained, withdrawn, recalled, expired. Exit status 1 if anything fails.

    Example: dayfly demo --out demo-out
    """
    from rich.console import Console  # noqa: PLC0415 - see `run`

    from dayfly.engine.policy.load import example_policy_folder, load_policy  # noqa: PLC0415 - see `run`
    from dayfly.engine.runtime import in_order, open_event_files  # noqa: PLC0415 - see `run`

    from .crm_side import DemoCrm  # noqa: PLC0415 - see `run`
    from .running import Pace, open_run  # noqa: PLC0415 - see `run`
    from .sources import Generated, generated_files  # noqa: PLC0415 - see `run`
    from .story import Story  # noqa: PLC0415 - see `run`
    from .view import summary_board  # noqa: PLC0415 - see `run`

    _remove_earlier(out)
    console = Console(file=io.StringIO()) if as_json else screen()
    policy = load_policy(example_policy_folder(), version=1)
    crms = {trigger.audience: DemoCrm(trigger.audience) for trigger in policy.triggers}
    recipients = {name: crm.jkt for name, crm in crms.items()}
    wanted = Generated(seed, people, instant(START, "--start"), whole_hours(hours))
    console.print(
        f"{people} customers of a furniture shop, {hours:g} hours, five channels: app, web, shop WiFi, marketplace, hotline."
    )
    with (
        generated_files(wanted, notes()) as paths,
        open_run(policy, recipients=recipients, out=out, pace=Pace()) as running,
    ):
        story = Story(running, crms, console)
        files = open_event_files(paths, policy)
        for step in running.replay.steps(in_order([file.arrivals(running.engine.intake) for file in files])):
            story.watch(running.note(step))
        story.end()
        console.print()
        console.print(summary_board(running.tally, running.seconds))
        summary = running.finish()
    (out / _MARK).write_text("{}\n")
    _what_you_saw(console, out, str(story.facts["opened"]["jti"]))
    if as_json:
        print_json({"scenes": story.facts, "summary": summary})


def _what_you_saw(console: "Console", out: Path, jti: str) -> None:
    console.print("\nWhat you saw:")
    for line in _SEEN:
        console.print(f"  - {line}")
    console.print(f"\nThe files are in {out}. Try:")
    console.print(f"  dayfly explain {jti} materials --out {out}", soft_wrap=True)
    console.print(
        f"  dayfly receipt verify {out / 'receipts.jsonl'} --log-key {out / 'log-key.pem'} --jti {jti}",
        soft_wrap=True,
    )
    console.print(f"  dayfly audit verify {out / 'audit.jsonl'}", soft_wrap=True)


def _remove_earlier(out: Path) -> None:
    """Make room where an earlier demo left its files; anything else is left alone and refused later."""
    if (out / _MARK).is_file():
        shutil.rmtree(out)
