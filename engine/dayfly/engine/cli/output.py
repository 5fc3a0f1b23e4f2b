"""What commands print: JSON for machines on standard output, everything about progress on standard error."""

import json
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console

__all__ = ["notes", "print_json", "screen"]


def screen() -> Console:
    """Where results for people go."""
    return Console(highlight=False)


def notes() -> Console:
    """Where progress goes, so that results can be piped."""
    return Console(stderr=True, highlight=False)


def print_json(document: Mapping[str, Any]) -> None:
    """One JSON object on standard output, its keys in the order given."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=2) + "\n")
