"""A channel's own set: its points in a secret order, the manifest over them, and what comes back."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dayfly.federation.alignment.manifest import Manifest
from dayfly.federation.alignment.messages import (
    Kind,
    RegionPadding,
    piece_slice,
    pieces_of,
)
from dayfly.federation.alignment.multiplication import POINT_BYTES, multiply
from dayfly.federation.alignment.points import hashed, padding_points
from dayfly.federation.alignment.rows import Rows, distinct
from dayfly.federation.alignment.shuffling import permutation
from dayfly.federation.errors import BadMessage, Refused
from dayfly.federation.wire import SERVER

__all__ = ["OwnSet"]

_TAG_BYTES: Final = 16


class OwnSet:
    """Customers who take part, and padding, in an order that nobody else knows.

    Args:
        key: Of the hash.
        kind: Of identifier.
        identifiers: Normalised, of those who take part.
        regions: Padding of all regions that the channel is in.
        order_seed: 32 random bytes.
    """

    def __init__(
        self,
        key: bytes,
        kind: Kind,
        identifiers: Sequence[str],
        regions: Sequence[RegionPadding],
        *,
        order_seed: bytes,
    ) -> None:
        self._customers: Final = len(identifiers)
        self._regions: Final = tuple(regions)
        points = hashed(key, kind, [identifier.encode() for identifier in identifiers])
        points += b"".join(padding_points(key, region.seed, region.counts) for region in regions)
        packed = np.frombuffer(points, np.uint8).reshape(-1, POINT_BYTES)
        self.count: Final = len(packed)
        self._order: Final = permutation(order_seed, self.count)
        self._points: Final = packed[self._order]
        self._digest: Final = hashlib.sha256()
        self._next = 0
        self.points_digest: bytes | None = None
        """Of the whole blinded set, once its last piece is made."""

    def blinded(
        self,
        piece: int,
        scalar: bytes,
        piece_points: int,
        *,
        executor: Executor | None,
        done: Callable[[int], object],
    ) -> bytes:
        """One piece, times the channel's scalar; each once, in order.

        Raises:
            Refused: it is not the next piece.
        """
        last = pieces_of(self.count, piece_points) - 1
        if piece != self._next or piece > last:
            raise Refused(f"piece={piece} must be {self._next} of {last + 1}; ask for each once, in order")
        points = self._points[piece_slice(piece, piece_points)].tobytes()
        product = multiply(scalar, points, executor=executor, done=done)
        self._digest.update(product)
        self._next += 1
        if piece == last:
            self.points_digest = self._digest.digest()
        return product

    def placed(self, universe: int, positions: bytes) -> NDArray[np.int64]:
        """Places of customers, then of padding, in the order of their making.

        Raises:
            BadMessage: there is not one place in the universe for each point, or one is given twice.
        """
        if len(positions) != 8 * self.count:
            raise BadMessage(
                SERVER, f"must send {self.count} positions of 8 bytes, not {len(positions)} bytes"
            )
        sent = np.frombuffer(positions, "<i8")
        inside = not sent.size or bool(sent.min() >= 0 and sent.max() < universe)
        if not inside or not distinct(sent, universe):
            raise BadMessage(SERVER, f"must send distinct positions in 0 .. {universe - 1}")
        places = np.empty(self.count, np.int64)
        places[self._order] = sent
        return places

    def rows(
        self,
        places: NDArray[np.int64],
        entering: NDArray[np.int64],
        rows: int,
        manifest: Manifest,
        universe: int,
    ) -> Rows:
        """Places of all the channel's rows, -1 where a customer does not take part."""
        positions = np.full(rows, -1, np.int64)
        positions[entering] = places[: self._customers]
        return Rows(universe, positions, manifest)

    def tags(self, places: NDArray[np.int64]) -> tuple[bytes, ...]:
        """For each region of two or more: a tag of where its padding is, which only its members can make."""
        found: list[bytes] = []
        start = self._customers
        for region in self._regions:
            stop = start + sum(region.counts)
            if region.mask & (region.mask - 1):
                where = places[start:stop].astype("<i8").tobytes()
                found.append(hashlib.blake2b(where, key=region.seed, digest_size=_TAG_BYTES).digest())
            start = stop
        return tuple(found)
