"""Others' sets on their way through a channel: checked, blinded once more, handed on."""

import hashlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final

from dayfly.federation.alignment.group import Group
from dayfly.federation.alignment.manifest import Manifest
from dayfly.federation.alignment.messages import Hopped, HopRequest
from dayfly.federation.alignment.multiplication import POINT_BYTES, multiply
from dayfly.federation.alignment.points import are_canonical, are_distinct
from dayfly.federation.errors import BadMessage, Refused, WrongManifest
from dayfly.federation.wire import SERVER

__all__ = ["Passing"]

_PIECE: Final = 1


class Passing:
    """What a channel saw of others' sets.

    Args:
        group: Of the run.
        scalar: The channel's own.
        piece_points: Most points of a piece.
    """

    def __init__(self, group: Group, scalar: bytes, piece_points: int) -> None:
        self._group: Final = group
        self._scalar: Final = scalar
        self._piece_points: Final = piece_points
        self._pieces: Final[Counter[str]] = Counter()
        self._seen: Final[dict[str, bytes]] = {}
        """Each set as the predecessor sent it."""

    def pass_on(
        self, asked: HopRequest, *, executor: Executor | None, done: Callable[[int], object]
    ) -> Hopped:
        """Blind a piece once more: sealed for the next in the ring, or for the coordinator after the last hop.

        Raises:
            BadMessage: the predecessor did not send it, or it holds what no set may hold.
            Refused: it is not the next piece of another channel's set.
        """
        ring, owner = self._group.ring, asked.owner
        if owner not in ring.channels or owner == ring.me:
            raise BadMessage(SERVER, f"must hand {ring.me!r} sets of other channels, not of {owner!r}")
        if asked.piece != self._pieces[owner]:
            raise Refused(
                f"piece={asked.piece} of {owner!r} must be {self._pieces[owner]}; hand each on once, in order"
            )
        place = (_PIECE, ring.channels.index(owner), asked.piece)
        points = self._group.seals.open(ring.predecessor, place, asked.sealed)
        whole = self._seen.get(owner, b"") + points
        self._check(points, whole)
        try:
            product = multiply(self._scalar, points, executor=executor, done=done)
        except ValueError:
            raise BadMessage(
                ring.predecessor, "must send points of large order; it sent one of small order"
            ) from None
        self._pieces[owner] += 1
        self._seen[owner] = whole
        if owner == ring.successor:  # all channels have blinded it
            return Hopped(ring.me, owner, asked.piece, product)
        return Hopped(ring.me, owner, asked.piece, self._group.seals.seal(ring.successor, place, product))

    def insist(self, manifest: Manifest) -> None:
        """Insist that a manifest is of the set that passed.

        Raises:
            WrongManifest: its count, or its digest where this channel can know it, is another one.
        """
        points = self._seen.get(manifest.party, b"")
        seen = len(points) // POINT_BYTES
        if manifest.count != seen:
            raise WrongManifest(
                manifest.party,
                f"must send the manifest of its set of {seen} points, not of {manifest.count}; align again",
            )
        if (
            manifest.party == self._group.ring.predecessor
            and manifest.points_digest != hashlib.sha256(points).digest()
        ):
            raise WrongManifest(
                manifest.party,
                "must send the manifest of the set that it sent, not of another one; align again",
            )

    def _check(self, points: bytes, whole: bytes) -> None:
        sender = self._group.ring.predecessor
        if len(points) % POINT_BYTES or len(points) > POINT_BYTES * self._piece_points:
            raise BadMessage(
                sender,
                f"must send at most {self._piece_points} points of {POINT_BYTES} bytes, not {len(points)} bytes",
            )
        if not are_canonical(points):
            raise BadMessage(
                sender, "must send points in canonical form, below 2^255 - 19; check its version"
            )
        if not are_distinct(whole):
            raise BadMessage(sender, "must send each point once; it sent one twice")
