"""The ServerApp: one run of a plan, from its folder at the server, over Flower.

The folder is that of the environment variable `DAYFLY_FEDERATION_SERVER`, which the SuperLink's operator sets, and the run's name is in
the run's configuration: whoever submits a run can name one that the operator has prepared, and no other file.
"""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
    load_ssh_public_key,
)
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from dayfly.federation.deployed.run_folder import SERVER_HOME, Connection, run_from_folder
from dayfly.federation.errors import TooFewParties
from dayfly.federation.flower.grid import FlowerGrid

__all__ = ["app", "gathered"]

_GATHER_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.5

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the plan that the configuration names."""

    def transport(connection: Connection) -> FlowerGrid:
        return FlowerGrid(
            grid,
            gathered(grid, connection.nodes),
            parcel=connection.parcel,
            liveness=connection.liveness,
            most_seconds=connection.most_seconds,
        )

    run_from_folder(Path(os.environ[SERVER_HOME]), str(context.run_config["run"]), transport)


def gathered(
    grid: Grid,
    nodes: Mapping[str, str],
    *,
    seconds: float = _GATHER_SECONDS,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> dict[str, int]:
    """Channels to the ids of their SuperNodes, as soon as all are connected.

    Args:
        grid: Flower's.
        nodes: Channel to the OpenSSH line of its SuperNode's registered key.
        seconds: How long channels are waited for.
        monotonic: Clock.
        sleep: Waits.

    Raises:
        TooFewParties: not all came; names those that did not.
    """
    until = monotonic() + seconds
    wanted = {_raw(line.encode()): name for name, line in nodes.items()}
    while True:
        online = {_raw(node.public_key): node.node_id for node in grid.get_nodes()}
        found = {name: online[key] for key, name in wanted.items() if key in online}
        if len(found) == len(nodes):
            return found
        if monotonic() >= until:
            missing = sorted(set(nodes) - set(found))
            raise TooFewParties(
                f"channels={missing} must be connected with their registered node keys, but are not after {seconds:g} s;"
                " start `dayfly federate client` there, and see its log"
            )
        sleep(_POLL_SECONDS)


def _raw(key: bytes) -> bytes:
    """A public key in one form, whichever it came in."""
    loaded = load_pem_public_key(key) if key.startswith(b"-----") else load_ssh_public_key(key)
    return loaded.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
