"""The `dayfly` command: one subcommand per job. Nothing heavy is imported before a command needs it."""

import importlib
import importlib.util
from importlib.metadata import version
from typing import Annotated

import typer

from . import run as run_commands
from .demo import demo
from .erase import certificate_app, erase
from .explain import explain
from .health import health
from .keys import keys_app
from .policy import policy_app
from .proofs import audit_app, receipt_app, verify
from .sandbox import sandbox_app
from .store import backup, restore, store_app
from .tools import bench_app, warm

__all__ = ["app", "main"]

_EPILOG = "Exit status: 0 yes, 1 no, 2 an input cannot be used, 3 a part is not installed, 130 interrupted."

app = typer.Typer(
    name="dayfly",
    help="Exact intent tags, consent that fails closed, and profile fragments that destroy themselves.",
    epilog=_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dayfly {version('dayfly')}")
        raise typer.Exit


@app.callback()
def root(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Exact intent tags, consent that fails closed, and profile fragments that destroy themselves."""
    del show_version  # acted on by its callback


app.command("run")(run_commands.run)
app.command("generate")(run_commands.generate)
app.command("demo")(demo)
# One id in 64 begins with a hyphen; without short options it can only be an id.
app.command("explain", context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})(
    explain
)
app.command("health")(health)
app.command("verify")(verify)
app.add_typer(receipt_app, name="receipt")
app.add_typer(audit_app, name="audit")
app.add_typer(policy_app, name="policy")
app.add_typer(keys_app, name="keys")
app.add_typer(store_app, name="store")
app.add_typer(sandbox_app, name="sandbox")
app.command("backup")(backup)
app.command("restore")(restore)
app.command("erase")(erase)
app.add_typer(certificate_app, name="certificate")
app.command("warm")(warm)
app.add_typer(bench_app, name="bench")


def _add_portions() -> None:
    """Commands of portions above this one, where they are installed; their modules load nothing heavy either."""
    if importlib.util.find_spec("dayfly.federation") is not None:
        app.add_typer(importlib.import_module("dayfly.federation.cli").federate_app, name="federate")


_add_portions()


def main() -> None:
    """Entry point of the `dayfly` script."""
    app()
