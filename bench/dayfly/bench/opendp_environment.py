"""Where OpenDP's own Context is measured: an environment of its own, because `opendp[polars]` pins one Polars (`make peers`)."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

__all__ = ["INSTALL", "PEER", "peer_answer", "peer_python"]

PEER: Final = "OpenDP Context on Polars"
INSTALL: Final = "run `make peers`, or set DAYFLY_OPENDP_PYTHON to a Python that has opendp[polars]"
LIMIT_SECONDS: Final = 900


def peer_python() -> Path | None:
    """The interpreter of the peer's environment, if there is one."""
    named = os.environ.get("DAYFLY_OPENDP_PYTHON")
    found = Path(named) if named else Path(".venv-opendp/bin/python")
    return found if found.is_file() else None


def peer_answer(*arguments: str) -> dict[str, Any] | None:
    """What `opendp_peer` prints for these arguments; None where there is no such environment."""
    python = peer_python()
    if python is None:
        return None
    script = Path(__file__).with_name("opendp_peer.py")
    done = subprocess.run(
        [str(python), str(script), *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found
