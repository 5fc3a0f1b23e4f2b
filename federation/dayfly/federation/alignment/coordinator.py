"""The coordinator's side of an alignment: carries sealed sets round the ring, and places points that all channels have blinded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from dayfly.federation.alignment.manifest import Manifest
from dayfly.federation.alignment.messages import (
    AlignmentSettings,
    Blinded,
    BlindRequest,
    Bundle,
    Hello,
    Hopped,
    HopRequest,
    Joined,
    Placed,
    Placement,
    Roster,
    piece_slice,
    pieces_of,
    shared_regions,
)
from dayfly.federation.alignment.multiplication import POINT_BYTES
from dayfly.federation.alignment.padding import members_of, regions_of
from dayfly.federation.alignment.points import are_canonical, group_equal
from dayfly.federation.alignment.sealing import TAG_BYTES
from dayfly.federation.alignment.shuffling import permutation
from dayfly.federation.errors import (
    BadMessage,
    Declined,
    InvalidSetting,
    RowsDisagree,
    TooFewParties,
    WrongManifest,
)
from dayfly.federation.grid import Failure
from dayfly.federation.secagg.messages import decode, encode
from dayfly.federation.wire import Caller
from dayfly.privacy.accounting import ApproxLoss
from dayfly.privacy.noise import NoiseSource

__all__ = ["AlignmentReport", "align"]

_SEED_BYTES: Final = 32
_MOST_POINTS: Final = 1 << 32

M = TypeVar("M", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class AlignmentReport:
    """What the coordinator knows after an alignment; all counts are padded.

    Attributes:
        universe: Rows of the common space.
        counts: Channel to the size of its set.
        regions: Channels to how many points exactly these have in common; with `counts` all that the coordinator learns of the sets.
        manifests: By channel.
        loss: What each channel paid for it (`padding`).
    """

    universe: int
    counts: dict[str, int]
    regions: dict[tuple[str, ...], int]
    manifests: dict[str, Manifest]
    loss: ApproxLoss


def align(
    caller: Caller,
    settings: AlignmentSettings,
    *,
    random_bytes: Callable[[int], bytes],
    noise: NoiseSource,
    now_ms: int,
    progress: Callable[[str, int, int], object] = lambda _step, _done, _of: None,
) -> AlignmentReport:
    """Place the customers of all channels of the caller's grid in a common row space; each channel then has its `Rows`.

    A channel gets 3 messages, and as many more as there are channels for each piece of the largest set. The same caller, random bytes and
    noise give the same rows.

    Args:
        caller: The coordinator's end of the wire.
        settings: What the channels are to agree on.
        random_bytes: Of the operating system, or a recording of it; 32 bytes are drawn.
        noise: Where the padding of the universe comes from.
        now_ms: The present instant, int64 milliseconds UTC.
        progress: Told (step, messages answered so far, messages in all as far as known).

    Raises:
        InvalidSetting: the settings make no sense, or are not for the grid's parties.
        Declined: a channel declines, and says why or who is at fault; names it.
        TooFewParties: a channel is lost; names it. An alignment needs all.
        PartyFault: a channel sent what no honest one sends; names it.
        RowsDisagree: points were exchanged for others on their way; names whose places disagree.
    """
    settings.check()
    if caller.grid.parties() != settings.channels:
        raise InvalidSetting(
            f"channels={list(settings.channels)} must be the grid's parties, {list(caller.grid.parties())}"
        )
    carrier = _Carrier(caller, settings, now_ms, progress)
    sets = carrier.blinded()
    names = settings.channels
    groups, distinct = group_equal(b"".join(sets[name] for name in names))
    extra = int(settings.padding.draw(1, noise)[0])
    universe = distinct + extra
    places = permutation(random_bytes(_SEED_BYTES), universe)[groups]
    ends = np.cumsum([len(sets[name]) // POINT_BYTES for name in names])
    parts = dict(zip(names, np.split(places, ends[:-1]), strict=True))
    carrier.place(universe, parts)
    return AlignmentReport(
        universe,
        {name: part.size for name, part in parts.items()},
        _regions(names, parts, universe),
        carrier.manifests,
        settings.padding.loss,
    )


class _Carrier:
    """The messages of one alignment."""

    def __init__(
        self,
        caller: Caller,
        settings: AlignmentSettings,
        now_ms: int,
        progress: Callable[[str, int, int], object],
    ) -> None:
        self._caller: Final = caller
        self._settings: Final = settings
        self._names: Final = settings.channels
        self._now_ms: Final = now_ms
        self._progress: Final = progress
        self._answered = 0
        self._of = 3 + len(self._names)
        self._counts: Final[dict[str, int]] = {}
        self.manifests: Final[dict[str, Manifest]] = {}

    def blinded(self) -> dict[str, bytes]:
        """Every channel's set, blinded by all channels, in the order that its owner sent it."""
        opening = encode(self._settings)
        hellos = self._ask("hello", dict.fromkeys(self._names, opening), Hello)
        roster = encode(Roster(tuple(hellos[name] for name in self._names)))
        joined = self._ask("join", dict.fromkeys(self._names, roster), Joined)
        found: dict[str, list[bytes]] = {name: [] for name in self._names}
        requests = {name: BlindRequest(0, self._bundles_for(name, joined)) for name in self._names}
        piece = 0
        while requests:
            for owner, points in self._round_the_ring(piece, requests).items():
                found[owner].append(points)
            piece += 1
            requests = {
                name: BlindRequest(piece)
                for name in self._names
                if piece < pieces_of(self._counts[name], self._settings.piece_points)
            }
        sets = {name: b"".join(pieces) for name, pieces in found.items()}
        for owner, points in sets.items():
            _check_set(owner, points, last=self._at(owner, -1))
        return sets

    def place(self, universe: int, parts: Mapping[str, NDArray[np.int64]]) -> None:
        """Tell every channel its places, and insist that padding in common is at the same ones."""
        manifests = tuple(self.manifests[name] for name in self._names)
        bodies = {
            name: encode(Placement(universe, part.astype("<i8").tobytes(), manifests))
            for name, part in parts.items()
        }
        _insist_on_same_places(self._names, self._ask("place", bodies, Placed))

    def _bundles_for(self, name: str, joined: Mapping[str, Joined]) -> tuple[Bundle, ...]:
        return tuple(
            bundle
            for sender in self._names
            for bundle in joined[sender].bundles
            if bundle.recipient == name and bundle.sender == sender
        )

    def _round_the_ring(self, piece: int, requests: Mapping[str, BlindRequest]) -> dict[str, bytes]:
        """One piece of every set that has it, blinded by all channels."""
        answers = self._ask("blind", {name: encode(asked) for name, asked in requests.items()}, Blinded)
        travelling = {owner: self._sent(owner, piece, answer) for owner, answer in answers.items()}
        self._of = 3 + len(self._names) * max(
            pieces_of(count, self._settings.piece_points) for count in self._counts.values()
        )
        for hop in range(1, len(self._names)):
            asked = {
                self._at(owner, hop): encode(HopRequest(owner, piece, sealed))
                for owner, sealed in travelling.items()
            }
            passed = self._ask("hop", asked, Hopped)
            last = hop == len(self._names) - 1
            travelling = {
                owner: self._passed(owner, piece, passed[self._at(owner, hop)], sealed=not last)
                for owner in travelling
            }
        return travelling

    def _at(self, owner: str, hop: int) -> str:
        return self._names[(self._names.index(owner) + hop) % len(self._names)]

    def _points_in(self, owner: str, piece: int) -> int:
        return len(range(self._counts[owner])[piece_slice(piece, self._settings.piece_points)])

    def _sent(self, owner: str, piece: int, answer: Blinded) -> bytes:
        """A piece as its owner sent it."""
        count = self._counts.setdefault(owner, answer.count)
        if answer.count != count or not 0 <= count < _MOST_POINTS:
            raise BadMessage(
                owner, f"must send a set of one size, not of {count} and then of {answer.count} points"
            )
        points = self._points_in(owner, piece)
        if len(answer.sealed) != POINT_BYTES * points + TAG_BYTES:
            raise BadMessage(
                owner,
                f"must send {points} points of its {count} in piece {piece}, not {len(answer.sealed)} bytes",
            )
        if piece == pieces_of(count, self._settings.piece_points) - 1:
            self.manifests[owner] = self._insisted(owner, answer.manifest)
        return answer.sealed

    def _insisted(self, owner: str, manifest: Manifest | None) -> Manifest:
        if manifest is None or manifest.party != owner:
            raise WrongManifest(owner, "must send its own manifest with the last piece of its set")
        manifest.verify(self._caller.identities, run=self._caller.run)
        manifest.insist(self._now_ms, self._settings.purpose)
        if (manifest.count, manifest.expires_ms) != (self._counts[owner], self._settings.expires_ms):
            raise WrongManifest(
                owner,
                f"must sign the {self._counts[owner]} points that it sent and the agreed expires_ms={self._settings.expires_ms},"
                f" not {manifest.count} and {manifest.expires_ms}",
            )
        return manifest

    def _passed(self, owner: str, piece: int, answer: Hopped, *, sealed: bool) -> bytes:
        """A piece as a channel passed it on."""
        if (answer.owner, answer.piece) != (owner, piece):
            raise BadMessage(
                answer.party,
                f"must pass on piece {piece} of {owner!r}, not piece {answer.piece} of {answer.owner!r}",
            )
        points = self._points_in(owner, piece)
        if len(answer.data) != POINT_BYTES * points + sealed * TAG_BYTES:
            raise BadMessage(
                answer.party,
                f"must pass on the {points} points of {owner!r} that it was given, not {len(answer.data)} bytes",
            )
        return answer.data

    def _ask(self, kind: str, bodies: Mapping[str, bytes], reply: type[M]) -> dict[str, M]:
        found: dict[str, M] = {}
        for party, answer in sorted(self._caller.ask(kind, bodies).items()):
            if isinstance(answer, Failure):
                if answer.lost:
                    raise TooFewParties(
                        f"party={party!r} {answer.cause}; an alignment needs all of its channels: begin another run, with or without it"
                    )
                raise Declined(party, f"declined {kind!r}: {answer.cause}")
            read = decode(answer, reply, party=party)
            if msgspec.structs.asdict(read).get("party") != party:
                raise BadMessage(party, f"must answer {kind!r} in its own name; stop it and check its node")
            found[party] = read
        self._answered += 1
        self._progress(kind, self._answered, self._of)
        return found


def _check_set(owner: str, points: bytes, *, last: str) -> None:
    if not are_canonical(points):
        raise BadMessage(last, f"must pass on the points of {owner!r} in canonical form, below 2^255 - 19")
    groups, distinct = group_equal(points)
    if distinct != groups.size:
        raise BadMessage(last, f"must pass on each point of {owner!r} once; it sent one twice")


def _regions(
    names: tuple[str, ...], parts: Mapping[str, NDArray[np.int64]], universe: int
) -> dict[tuple[str, ...], int]:
    masks = np.zeros(universe, np.int64)
    for place, name in enumerate(names):
        masks[parts[name]] |= 1 << place
    sizes = np.bincount(masks, minlength=1 << len(names))
    return {members_of(mask, names): int(sizes[mask]) for mask in range(1, 1 << len(names))}


def _insist_on_same_places(names: tuple[str, ...], placed: Mapping[str, Placed]) -> None:
    """Insist that the members of every region found its padding at the same places."""
    tags: dict[int, dict[str, bytes]] = {}
    for place, name in enumerate(names):
        shared = shared_regions(regions_of(place, len(names)))
        if len(placed[name].tags) != len(shared):
            raise BadMessage(name, f"must send {len(shared)} tags, not {len(placed[name].tags)}")
        for mask, tag in zip(shared, placed[name].tags, strict=True):
            tags.setdefault(mask, {})[name] = tag
    odd: set[str] = set()
    torn: set[str] = set()
    for said in tags.values():
        ways = {tag: [name for name in said if said[name] == tag] for tag in said.values()}
        if len(ways) > 1:
            torn.update(said)
            largest = max(ways.values(), key=len)
            if 2 * len(largest) > len(said):
                odd.update(set(said) - set(largest))
    if torn:
        suspects = tuple(sorted(odd or torn))
        raise RowsDisagree(
            suspects,
            "must find padding in common where the other channels find it; one of them, or a channel that blinded their sets, exchanged"
            " points: no rows of this run may be used",
        )
