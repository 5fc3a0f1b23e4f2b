"""What a command needs beyond Dayfly itself."""

import importlib.util

from dayfly.engine.cli.exits import ExitCode, fail

__all__ = ["need_flower"]


def need_flower() -> None:
    """End with a message where Flower is not installed."""
    if importlib.util.find_spec("flwr") is None:
        fail(
            "flwr must be installed for this command; install it with: python -m pip install 'dayfly[federation]'",
            ExitCode.MISSING_PART,
        )
