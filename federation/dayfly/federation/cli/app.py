"""`dayfly federate`: keys, server, client, runs, demo. Nothing heavy is imported before a command needs it."""

from pathlib import Path
from typing import Annotated

import typer

from dayfly.engine.cli.exits import guarded
from dayfly.engine.cli.output import notes, print_json, screen

from .demo import demo
from .local import local
from .serve import client, run, server

__all__ = ["federate_app"]

federate_app = typer.Typer(
    help="Channels train models together without showing each other their customers.", no_args_is_help=True
)
keys_app = typer.Typer(
    help="Make the folder, keys and certificates of a server or a channel.", no_args_is_help=True
)

Home = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the server or channel.")]


@keys_app.command("server")
@guarded
def keys_server(
    home: Home,
    *,
    superlink: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where its SuperLink listens.")
    ] = "127.0.0.1:18000",
    liveness: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where its coordinator listens for signs of life.")
    ] = "127.0.0.1:18001",
    host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Name or address that channels know it by; may be repeated."),
    ] = None,
) -> None:
    """Make a server's keys, certificate authority, certificate, card and server.yaml. Send `ca.crt` and the card to every channel.

    Example: dayfly federate keys server hub --superlink 0.0.0.0:18000 --host hub.example
    """
    import datetime as dt  # noqa: PLC0415 - only commands load libraries
    import secrets  # noqa: PLC0415 - as above

    from dayfly.federation.deployed.folders import ServerFolder, ServerSettings  # noqa: PLC0415 - as above
    from dayfly.federation.deployed.setting_up import write_settings  # noqa: PLC0415 - as above

    hosts = tuple(dict.fromkeys((*(host or ()), "localhost", "127.0.0.1")))
    made = ServerFolder.make(home, hosts, random_bytes=secrets.token_bytes, now=dt.datetime.now(dt.UTC))
    write_settings(home / "server.yaml", ServerSettings(superlink=superlink, liveness=liveness, hosts=hosts))
    _tell(made.cards / "server.card.json", made.tls / "ca.crt", home / "server.yaml")


@keys_app.command("channel")
@guarded
def keys_channel(
    home: Home,
    *,
    name: Annotated[str, typer.Option(help="The channel's; letters, digits, - and _.")],
) -> None:
    """Make a channel's keys and card. Send the card to the server's operator and the other channels, and keep everything else.

    Example: dayfly federate keys channel shop --name shop
    """
    import datetime as dt  # noqa: PLC0415 - only commands load libraries
    import secrets  # noqa: PLC0415 - as above

    from dayfly.federation.deployed.folders import ChannelFolder  # noqa: PLC0415 - as above

    made = ChannelFolder.make(home, name, random_bytes=secrets.token_bytes, now=dt.datetime.now(dt.UTC))
    _tell(made.cards / f"{name}.card.json")
    notes().print(f"write {home / 'channel.yaml'} next: where the server, the table and the budget are")


@federate_app.command("trust")
@guarded
def trust(
    home: Home,
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Cards of others; at a channel also the server's ca.crt."),
    ],
) -> None:
    """Take cards of other parties into a folder. Check with their owners that they are theirs: all that follows rests on it.

    Example: dayfly federate trust shop server.card.json ca.crt wifi.card.json
    """
    from dayfly.federation.deployed.folders import ChannelFolder, ServerFolder  # noqa: PLC0415 - only commands load libraries
    from dayfly.federation.deployed.setting_up import trust as take  # noqa: PLC0415 - as above

    folder = ServerFolder(home) if (home / "server.yaml").exists() else ChannelFolder(home)
    for name in take(folder, files):
        screen().print(f"taken: {name}")


@federate_app.command("protocols")
@guarded
def protocols() -> None:
    """Print the protocols that a plan can name, as one JSON object.

    Example: dayfly federate protocols
    """
    from dayfly.federation.runs.seats import PROTOCOLS  # noqa: PLC0415 - only commands load libraries

    print_json({"protocols": sorted(PROTOCOLS)})


def _tell(*made: Path) -> None:
    for path in made:
        screen().print(f"made: {path}", soft_wrap=True)


federate_app.add_typer(keys_app, name="keys")
federate_app.command("server")(server)
federate_app.command("client")(client)
federate_app.command("run")(run)
federate_app.command("local")(local)
federate_app.command("demo")(demo)
