"""Many points times one secret number: X25519 (RFC 7748) from the `cryptography` library, over processes where there are some.

This module imports little, because every worker process imports it.
"""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from dayfly.federation.errors import Refused

__all__ = ["POINT_BYTES", "multiply", "worker_pool"]

POINT_BYTES: Final = 32
_BATCH_BYTES: Final = 4_096 * POINT_BYTES
"""What a worker gets at once: some 0.15 s of work."""


def _product(scalar: bytes, points: bytes) -> bytes:
    exchange, load = X25519PrivateKey.from_private_bytes(scalar).exchange, X25519PublicKey.from_public_bytes
    return b"".join(
        [exchange(load(points[at : at + POINT_BYTES])) for at in range(0, len(points), POINT_BYTES)]
    )


def multiply(
    scalar: bytes,
    points: bytes,
    *,
    executor: Executor | None = None,
    done: Callable[[int], object] = lambda _: None,
) -> bytes:
    """Every point times a scalar, in order.

    Args:
        scalar: 32 bytes; clamped as RFC 7748 says, so a multiple of 8.
        points: Packed u-coordinates of 32 bytes each.
        executor: Runs batches elsewhere (`worker_pool`); the scalar goes to its processes. None: in this process. The result is the
            same bytes.
        done: Told how many more points are done, batch by batch.

    Raises:
        ValueError: a point is of small order, so that its product is zero and would tell nothing and match everything.
        Refused: a process of the executor died.
    """
    batches = [points[at : at + _BATCH_BYTES] for at in range(0, len(points), _BATCH_BYTES)]
    work = partial(_product, scalar)
    products: list[bytes] = []
    try:
        for product in map(work, batches) if executor is None else executor.map(work, batches):
            products.append(product)
            done(len(product) // POINT_BYTES)
    except BrokenExecutor:
        raise Refused(
            "workers=<dead> must live through the run; give the channel more memory or fewer workers, and begin another run"
        ) from None
    return b"".join(products)


@contextmanager
def worker_pool(workers: int) -> Iterator[Executor | None]:
    """Processes to multiply in, started anew (`spawn`), so that threads and locks of this process do no harm.

    Args:
        workers: How many; 1 or less gives None, which is this process.
    """
    if workers <= 1:
        yield None
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool
