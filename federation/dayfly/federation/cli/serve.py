"""`dayfly federate server`, `client` and `run`: the deployed programs."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from dayfly.engine.cli.exits import ExitCode, fail, guarded
from dayfly.engine.cli.output import notes, print_json

from .display import stepper
from .needs import need_flower

__all__ = ["client", "run", "server", "until_stopped"]

Home = Annotated[Path, typer.Argument(metavar="DIR", help="Folder made by `dayfly federate keys`.")]


@guarded
def server(home: Home) -> None:
    """Run a SuperLink over TLS that only channels with a registered key can join, until it is stopped. Needs the extra `federation`.

    Example: dayfly federate server hub
    """
    need_flower()
    from dayfly.federation.deployed.folders import ServerFolder  # noqa: PLC0415 - only commands load libraries
    from dayfly.federation.deployed.serving import Server  # noqa: PLC0415 - as above

    console = notes()
    with Server(ServerFolder(home)) as running:
        console.print(
            f"SuperLink listens at port {running.commands.port}, process {running.superlink.pid}; Ctrl-C stops it"
        )
        registered = running.commands.register()
        console.print(f"registered: {', '.join(registered) or 'no new channel'}")
        until_stopped(running.revive, told=lambda: console.print("SuperLink ended, and was started again"))


@guarded
def client(
    home: Home,
    *,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Of the SuperNode on this machine; 0 takes a free one.")
    ] = 0,
) -> None:
    """Run a channel: its service with data, ledger and journals, and its SuperNode, until it is stopped. Needs the extra `federation`.

    Example: dayfly federate client shop
    """
    need_flower()
    from dayfly.federation.deployed.folders import ChannelFolder  # noqa: PLC0415 - only commands load libraries
    from dayfly.federation.deployed.processes import free_port  # noqa: PLC0415 - as above
    from dayfly.federation.deployed.serving import Channel  # noqa: PLC0415 - as above

    console = notes()
    with Channel(ChannelFolder(home), port=port or free_port()) as running:
        console.print(
            f"channel {running.name} takes part, SuperNode is process {running.supernode.pid}; Ctrl-C stops it, runs go on"
            " when it is started again"
        )
        until_stopped(running.revive, told=lambda: console.print("SuperNode ended, and was started again"))


@guarded
def run(
    home: Home,
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="YAML document of the plan.")],
    *,
    name: Annotated[
        str | None,
        typer.Option(help="Of the run; by default the plan's file. A run that was stopped goes on."),
    ] = None,
) -> None:
    """Run a plan over the channels of a running server, and print the result. Exit status 1 if it stopped; start it again to go on.

    Example: dayfly federate run hub churn.yaml
    """
    need_flower()
    import secrets  # noqa: PLC0415 - only commands load libraries

    from dayfly.federation.deployed.folders import ServerFolder  # noqa: PLC0415 - as above
    from dayfly.federation.deployed.run_folder import RunFolder  # noqa: PLC0415 - as above
    from dayfly.federation.deployed.serving import FlowerCommands, now_ms  # noqa: PLC0415 - as above
    from dayfly.federation.errors import RunFailed  # noqa: PLC0415 - as above

    folder = ServerFolder(home)
    made = RunFolder.make(
        folder, name or plan.stem, plan.read_bytes(), random_bytes=secrets.token_bytes, now_ms=now_ms()
    )
    try:
        print_json(FlowerCommands(folder).follow(made, shown=stepper(notes())))
    except RunFailed as error:
        fail(str(error), ExitCode.NO)
    notes().print(f"kept in {made.path}", soft_wrap=True)


def until_stopped(
    revive: Callable[[], bool], *, told: Callable[[], object], every_seconds: float = 0.5
) -> None:
    """Keep something running until SIGINT or SIGTERM; `told` when it had to be started again."""
    with stopping() as stopped:
        while not stopped():
            if revive():
                told()
            time.sleep(every_seconds)


@contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Within it SIGTERM and SIGINT only set what the function tells."""
    seen: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        seen.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
