"""Where a figure was measured: versions, machine, load. A figure without it means nothing."""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

__all__ = ["PACKAGES", "load_average", "machine", "versions"]

PACKAGES: Final = ("dayfly", "numpy", "numba", "cryptography", "msgspec", "opendp", "orjson", "pyarrow")


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Python's version and those of `packages`; one that is not installed is named as missing."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def machine() -> str:
    """Processor, cores, memory and system in one line; no host name."""
    return f"{_processor()}, {os.cpu_count()} cores, {_memory()}, {platform.system()} {platform.machine()}"


def load_average() -> float:
    """Load over the last minute; 0 where the system has none."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else 0.0


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


def _memory() -> str:
    if not hasattr(os, "sysconf"):
        return "unknown memory"
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
