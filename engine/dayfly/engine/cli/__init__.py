"""The command line: `dayfly`, with a subcommand per job."""

from .app import app, main
from .exits import ExitCode

__all__ = ["ExitCode", "app", "main"]
