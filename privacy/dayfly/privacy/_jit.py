"""One decorator for every compiled kernel, and one place for the compiled code.

numba caches compiled machine code per source file but does not notice when a *called* kernel in another file
changed. The cache folder is therefore named after a digest of every kernel module's source: an edited or upgraded
kernel can never meet stale machine code, and an unchanged installation never compiles twice.
"""

import hashlib
import os
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import numba
from numba import config, types
from numba.np import arrayobj

__all__ = ["cache_directory", "inlined_kernel", "kernel", "kernel_sources", "lean_kernel"]

_F = TypeVar("_F", bound=Callable[..., Any])


def kernel_sources() -> list[Path]:
    """Kernel modules of every installed portion, and this file, sorted by name so that the digest is stable."""
    import dayfly  # noqa: PLC0415 - the namespace's path is complete only once a portion is imported

    found: set[Path] = set()
    for root in dayfly.__path__:
        for pattern in ("**/kernels*.py", "**/_kernels/*.py", "**/_jit.py"):
            found.update(Path(root).glob(pattern))
    return sorted(found, key=lambda path: (path.name, str(path)))


def cache_directory() -> Path:
    """Folder of the compiled kernels: `$DAYFLY_CACHE_DIR`, else `$XDG_CACHE_HOME/dayfly`, else `~/.cache/dayfly`.

    Returns:
        A folder named after the digest of all kernel sources, numba's version and ours.
    """
    base = os.environ.get("DAYFLY_CACHE_DIR")
    if base is None:
        base = str(Path(os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))) / "dayfly")
    digest = hashlib.blake2b(digest_size=8)
    digest.update(numba.__version__.encode())
    try:
        digest.update(version("dayfly").encode())
    except PackageNotFoundError:  # running from a source tree that was never installed
        digest.update(b"source")
    for path in kernel_sources():
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return Path(base) / f"kernels-{digest.hexdigest()}"


if "NUMBA_CACHE_DIR" not in os.environ:
    config.__dict__["CACHE_DIR"] = str(
        cache_directory()
    )  # numba fills its settings in at import, unseen by type checkers


_OPTIONS: Final[dict[str, Any]] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "no_cfunc_wrapper": True,
}
_LEAN: Final[dict[str, Any]] = {**_OPTIONS, "_nrt": False}


def _count_from_the_front() -> None:
    """Have lean kernels take an index as it is, without the test whether it is negative and counts from the end.

    No lean kernel has such an index, and the test is a tenth of what an event costs. numba offers unsigned indexes for this,
    but every sum of an unsigned and a signed number would then be a float. Kernels that count references are left alone: numba's
    own functions, which they may call, do count from the end. A numba in which there is nothing to replace is slower, not
    wrong.
    """
    plain = arrayobj.__dict__.get("fix_integer_index")
    if plain is None:
        return

    def fix_integer_index(context: Any, builder: Any, kind: Any, index: Any, size: Any) -> Any:
        if context.enable_nrt:
            return plain(context, builder, kind, index, size)
        return context.cast(builder, index, kind, types.intp)

    arrayobj.__dict__["fix_integer_index"] = fix_integer_index


_count_from_the_front()


def kernel(function: _F) -> _F:
    """Compile `function` with numba: cached on disk, without the interpreter lock, division by zero as in NumPy.

    With `NUMBA_DISABLE_JIT=1` the plain Python function is returned, so that coverage and debuggers see it.
    """
    return cast("_F", numba.njit(**_OPTIONS)(function))


def lean_kernel(function: _F) -> _F:
    """A kernel that allocates nothing, compiled without reference counting.

    A bundle of arrays is otherwise counted array by array, atomically, wherever one of its parts is named; that was more
    than half of the cost of an event.
    """
    return cast("_F", numba.njit(**_LEAN)(function))


def inlined_kernel(function: _F) -> _F:
    """A lean kernel that is always inlined into the kernels that call it.

    Bundles of arrays are passed by value; inlining makes that disappear, which is most of the cost of a small function in a
    loop over events.
    """
    return cast("_F", numba.njit(forceinline=True, **_LEAN)(function))
