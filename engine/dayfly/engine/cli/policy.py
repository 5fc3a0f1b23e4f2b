"""`dayfly policy check` and `dayfly policy schema`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from .exits import ExitCode, guarded
from .output import print_json, screen

__all__ = ["policy_app"]

policy_app = typer.Typer(
    help="Check policy files, and print the schema that they follow.", no_args_is_help=True
)


@policy_app.command("check")
@guarded
def check(
    *,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of policy files (YAML or JSON).")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as one JSON object.")] = False,
) -> None:
    """Report everything that stands against a policy, with file, line and column. Exit status 1 if anything does.

    Example: dayfly policy check policy
    """
    from dayfly.engine.policy.load import check_folder  # noqa: PLC0415 - only commands load the engine
    from dayfly.engine.policy.report import (  # noqa: PLC0415 - as above
        problems_json,
        problems_table,
        problems_text,
        summary,
    )

    problems = check_folder(folder)
    console = screen()
    if as_json:
        sys.stdout.write(problems_json(problems).decode() + "\n")
    elif not problems:
        console.print(summary(problems))
    elif console.is_terminal:
        console.print(problems_table(problems))
    else:
        sys.stdout.write(problems_text(problems) + "\n")
    if problems:
        raise typer.Exit(ExitCode.NO)


@policy_app.command("schema")
@guarded
def schema() -> None:
    """Print the JSON Schema of policy files, for editors and other tools.

    Example: dayfly policy schema > policy.schema.json
    """
    from dayfly.engine.policy.schema import published_schema  # noqa: PLC0415 - see `check`

    print_json(published_schema())
