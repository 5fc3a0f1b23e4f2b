"""Compile every kernel once, so that no later start of Dayfly waits for a compiler.

`make` runs this at the end of its set-up and `dayfly warm` runs it by hand. Machine code goes to
`dayfly.privacy._jit.cache_directory()`; a second run finds it there and compiles nothing.
"""

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

__all__ = ["WARMUPS", "WarmReport", "kernel_modules", "main", "warm_up"]

WARMUPS: tuple[str, ...] = (
    "dayfly.engine.intake.warming:warm",
    "dayfly.engine.shard.warming:warm",
    "dayfly.privacy.bounding.warming:warm",
    "dayfly.privacy.continual.warming:warm",
)
"""The portions' warm-up functions as `module:function`; each calls its kernels once with every argument type it uses."""


@dataclass(frozen=True, slots=True)
class WarmReport:
    """What one warm-up did.

    Attributes:
        kernels: Compiled functions found in the kernel modules.
        compiled: Specialisations that had to be compiled (cache misses).
        loaded: Specialisations that were read from the cache (cache hits).
        idle: Kernels that were neither compiled nor loaded here. On a cold cache these are the ones that no warm-up
            reaches; on a warm one also those that only other kernels call.
        seconds: Time taken, imports included.
        jit_enabled: False under `NUMBA_DISABLE_JIT=1`, where there is nothing to compile.
        cache_folder: Where the machine code is kept.
    """

    kernels: int
    compiled: int
    loaded: int
    idle: tuple[str, ...]
    seconds: float
    jit_enabled: bool
    cache_folder: str

    def __str__(self) -> str:
        if not self.jit_enabled:
            return "kernels: the JIT is off (NUMBA_DISABLE_JIT), nothing to warm"
        return (
            f"kernels: {self.kernels} found, {self.compiled} specialisations compiled, "
            f"{self.loaded} read from {self.cache_folder}, {self.seconds:.1f} s"
        )


def kernel_modules() -> tuple[str, ...]:
    """Import names of every kernel module of every installed portion, sorted."""
    import dayfly  # noqa: PLC0415 - the namespace's path is complete only once a portion is imported
    from dayfly.privacy._jit import kernel_sources  # noqa: PLC0415 - see `warm_up`

    roots = [Path(root) for root in dayfly.__path__]
    names = set()
    for source in kernel_sources():
        root = next(root for root in roots if source.is_relative_to(root))
        names.add(".".join(("dayfly", *source.relative_to(root).with_suffix("").parts)))
    return tuple(sorted(names - {"dayfly.privacy._jit"}))


def warm_up(
    warmups: Sequence[str] = WARMUPS, *, clock: Callable[[], float] = time.perf_counter
) -> WarmReport:
    """Import all kernel modules and run the registered warm-up functions.

    Args:
        warmups: Functions without arguments, each named `module:function`.
        clock: Seconds of a monotonic clock, for the report only.

    Raises:
        ValueError: A name is not of the form `module:function`, or names nothing callable.
        ImportError: A module cannot be imported.
    """
    started = clock()
    from numba import config  # noqa: PLC0415 - numba is loaded here, not by `dayfly --version`

    modules = kernel_modules()
    for module in modules:
        importlib.import_module(module)
    for name in warmups:
        _resolve(name)()
    settings = config.__dict__  # numba fills its settings in at import, unseen by type checkers
    statistics = {name: _specialisations(dispatcher) for name, dispatcher in _dispatchers(modules)}
    return WarmReport(
        kernels=len(statistics),
        compiled=sum(missed for _, missed in statistics.values()),
        loaded=sum(found for found, _ in statistics.values()),
        idle=tuple(sorted(name for name, counts in statistics.items() if counts == (0, 0))),
        seconds=clock() - started,
        jit_enabled=not settings["DISABLE_JIT"],
        cache_folder=str(settings["CACHE_DIR"]),
    )


def _resolve(name: str) -> Callable[[], object]:
    module, _, attribute = name.partition(":")
    function = getattr(importlib.import_module(module), attribute, None) if module and attribute else None
    if callable(function):
        return cast("Callable[[], object]", function)
    raise ValueError(
        f"warmups={name!r} must be 'module:function' and name something callable; correct WARMUPS"
    )


def _dispatchers(modules: Sequence[str]) -> Iterator[tuple[str, object]]:
    """Each compiled function of the modules once, by the name of the module that defines it."""
    from numba.core.dispatcher import Dispatcher  # noqa: PLC0415 - see `warm_up`

    for module in modules:
        for attribute, value in vars(sys.modules[module]).items():
            if isinstance(value, Dispatcher) and value.py_func.__module__ == module:
                yield f"{module}.{attribute}", value


def _specialisations(dispatcher: object) -> tuple[int, int]:
    """Cache hits and cache misses of one compiled function.

    numba counts no miss for a function that was compiled without a cache, so what is compiled beyond the hits counts
    as a miss.
    """
    found = sum(dispatcher.stats.cache_hits.values())  # type: ignore[attr-defined]
    missed = sum(dispatcher.stats.cache_misses.values())  # type: ignore[attr-defined]
    return found, max(missed, len(dispatcher.signatures) - found)  # type: ignore[attr-defined]


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m dayfly.engine.warmup [--json]`: warm the cache and say what was done.

    Returns:
        Exit status 0; failures raise.
    """
    parser = argparse.ArgumentParser(
        prog="python -m dayfly.engine.warmup", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")
    options = parser.parse_args(arguments)
    report = warm_up()
    sys.stdout.write((json.dumps(asdict(report)) if options.json else str(report)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
