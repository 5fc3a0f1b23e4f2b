"""A channel's side of an alignment.

Claim: the coordinator sees, of each channel's set, points blinded by all channels in an order that only the owner knows, and gives each
channel nothing but places for its own customers in an order that only the coordinator knows. A channel sees others' sets blinded by at least
one other channel. What sizes tell is bounded by `padding`; the sizes that the coordinator sees are those of all regions, padded.
Precondition: coordinator and channels keep to the protocol and do not tell each other what they saw; the decisional Diffie-Hellman
assumption holds in the large subgroups of Curve25519 and of its twist; BLAKE2b is a random function.
Argument: channel k sends a_k H(x) for its customers x in a secret order to the next in the ring; each channel multiplies by its own scalar, drawn for
this run, and after all hops a point is F(x) = (a_1 ... a_n) H(x), the same whichever channel it came from. Partly blinded sets pass
through the coordinator sealed (`sealing`). A channel never sees two sets blinded by the same channels: the stages of two sets that pass
one place in the ring began at different places. It does not see F of its own set, since its predecessor does the last hop; so it
can compare nothing. Hops keep the order, or nobody could tell the owner which place is whose.
Detected, with the name: points of small order, not canonical, or twice (by the next hop); a changed number of points (by the coordinator, from the
length); anything that the coordinator changes in what is sealed; sets of another run (keys are new); two rosters; a manifest that is not of the set.
Detected, with the names of those whose places disagree: points exchanged for others. Members of a region must find its padding at the same
places, and on its way nobody can tell padding from customers, its members included: it is hashed and blinded as they are. Of a set with m
padding points in common with others, a changed share f stays unseen with probability (1 - f)^m.
Not claimed: that a channel's set holds its customers only. It may put in any identifier that it knows or guesses; it learns nothing by it
as long as the coordinator does not tell it where others' customers are. The coordinator together with a channel learns which of that
channel's customers are in which other channel (true of every private set intersection), and two channels together may find two sets at
the same stage: their own customers in a third channel, or sizes. A lying coordinator can misplace rows, and say that padding was found where
it should be: this spoils the model, and reveals nothing.
Source: Meadows 1986; Huberman, Franklin, Hogg 1999 (the two-party protocol); Buddhavarapu et al., Private matching for compute, 2020
(Private-ID: a universe of rows); Curve25519: Bernstein 2006, RFC 7748.
"""

from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dayfly.federation.accounting import ReleaseBudget, release_name
from dayfly.federation.alignment.customers import Customers
from dayfly.federation.alignment.group import Group
from dayfly.federation.alignment.manifest import Manifest
from dayfly.federation.alignment.messages import (
    AlignmentSettings,
    Blinded,
    BlindRequest,
    HopRequest,
    Joined,
    Placed,
    Placement,
    Roster,
)
from dayfly.federation.alignment.own_set import OwnSet
from dayfly.federation.alignment.passing import Passing
from dayfly.federation.alignment.rows import Rows
from dayfly.federation.errors import BadMessage, InvalidData, ManifestExpired, Refused, WrongManifest
from dayfly.federation.identity import Identities, SigningIdentity
from dayfly.federation.secagg.messages import decode, encode
from dayfly.federation.wire import SERVER, Desk
from dayfly.privacy.noise import NoiseSource

__all__ = ["RELEASE", "AlignmentParty"]

RELEASE: Final = "alignment"
"""What the ledger calls the padded sizes."""

_SEED_BYTES: Final = 32
_PIECE: Final = 1


class AlignmentParty:
    """One channel in one alignment. See the module for what it claims.

    Args:
        identity: Of the channel's node.
        identities: All registered parties and the server.
        customers: Its own.
        run: 16 to 64 random bytes.
        random_bytes: Of the operating system, or a recording of it.
        noise: Where padding comes from.
        budget: Charged once, before any padding is drawn.
        now_ms: When the run is, int64 milliseconds UTC; consents are decided at this instant.
        executor: Runs multiplications in other processes; None: in this one.
        done: Told how many more points are multiplied.
    """

    def __init__(
        self,
        identity: SigningIdentity,
        identities: Identities,
        customers: Customers,
        *,
        run: bytes,
        random_bytes: Callable[[int], bytes],
        noise: NoiseSource,
        budget: ReleaseBudget,
        now_ms: int,
        executor: Executor | None = None,
        done: Callable[[int], object] = lambda _: None,
    ) -> None:
        if customers.party != identity.name:
            raise InvalidData(
                identity.name, f"must bring its own customers, not those of {customers.party!r}"
            )
        self._identity: Final = identity
        self._identities: Final = identities
        self._customers: Final = customers
        self._run: Final = run
        self._random_bytes: Final = random_bytes
        self._noise: Final = noise
        self._budget: Final = budget
        self._now_ms: Final = now_ms
        self._compute: Final[dict[str, Any]] = {"executor": executor, "done": done}
        self._desk: Final = Desk(identity, identities, run=run)
        self._settings: AlignmentSettings | None = None
        self._group: Group | None = None
        self._passing: Passing | None = None
        self._own: OwnSet | None = None
        self._entering: NDArray[np.int64] = np.zeros(0, np.int64)
        self._scalar = b""
        self._manifest: Manifest | None = None
        self._rows: Rows | None = None

    @property
    def name(self) -> str:
        """As registered."""
        return self._identity.name

    @property
    def rows(self) -> Rows:
        """Places of the channel's customers, once the alignment has ended.

        Raises:
            Refused: it has not.
        """
        if self._rows is None:
            raise Refused("rows=<none> come with the end of the alignment; run it first")
        return self._rows

    def handle(self, message: bytes) -> bytes:
        """One request, one reply.

        Raises:
            FederationError: the message is not the server's next one, or another channel or the server is at fault; names it.
        """
        return self._desk.handle(message, self._answer)

    def _answer(self, kind: str, body: bytes) -> bytes:
        if kind == "hello":
            return self._hello(decode(body, AlignmentSettings, party=SERVER))
        if kind == "join":
            return encode(self._join(decode(body, Roster, party=SERVER)))
        if kind == "blind":
            return encode(self._blind(decode(body, BlindRequest, party=SERVER)))
        if kind == "hop":
            return encode(self._passed().pass_on(decode(body, HopRequest, party=SERVER), **self._compute))
        if kind == "place":
            return encode(self._place(decode(body, Placement, party=SERVER)))
        raise BadMessage(
            SERVER, f"must send hello, join, blind, hop or place, not {kind!r}; check its version"
        )

    def _hello(self, settings: AlignmentSettings) -> bytes:
        if self._group is not None:
            raise Refused("settings=<second> must be the only ones of the run; begin another run")
        settings.check()
        customers = self._customers
        if self.name not in settings.channels:
            raise BadMessage(SERVER, f"must list {self.name!r} among the channels {list(settings.channels)}")
        if settings.purpose != customers.request.purpose:
            raise Refused(
                f"purpose={settings.purpose!r} must be {customers.request.purpose!r}, which the channel's customers were asked about"
            )
        if settings.kind != customers.kind:
            raise Refused(
                f"kind={settings.kind!r} must be {customers.kind!r}, the identifiers of the channel"
            )
        if settings.expires_ms <= self._now_ms:
            raise ManifestExpired(
                self.name, f"cannot sign a manifest that expires at {settings.expires_ms}, before now"
            )
        self._settings = settings
        self._group = Group(
            self._identity, self._identities, settings, run=self._run, random_bytes=self._random_bytes
        )
        return encode(self._group.hello)

    def _join(self, roster: Roster) -> Joined:
        settings, group = self._agreed()
        group.insist(roster)
        self._budget.spend(
            run=self._run, release=release_name(RELEASE, encode(settings)), loss=settings.padding.loss
        )
        return group.bundles(self._noise)

    def _blind(self, asked: BlindRequest) -> Blinded:
        settings, group = self._agreed()
        own = self._own
        if own is None:
            own = self._own = self._enter(settings, group, asked)
        product = own.blinded(asked.piece, self._scalar, settings.piece_points, **self._compute)
        place = (_PIECE, group.ring.index, asked.piece)
        if own.points_digest is not None:
            self._manifest = Manifest(
                self.name,
                self._run,
                settings.purpose,
                own.count,
                self._now_ms,
                settings.expires_ms,
                own.points_digest,
            ).signed(self._identity)
        return Blinded(
            self.name, own.count, group.seals.seal(group.ring.successor, place, product), self._manifest
        )

    def _enter(self, settings: AlignmentSettings, group: Group, asked: BlindRequest) -> OwnSet:
        group.complete(asked.bundles)
        self._scalar = self._random_bytes(_SEED_BYTES)
        self._passing = Passing(group, self._scalar, settings.piece_points)
        self._entering = self._customers.entering(now_ms=self._now_ms, until_ms=settings.expires_ms)
        identifiers = [self._customers.identifiers[int(row)] for row in self._entering]
        return OwnSet(
            group.hash_key,
            settings.kind,
            identifiers,
            group.regions,
            order_seed=self._random_bytes(_SEED_BYTES),
        )

    def _place(self, placement: Placement) -> Placed:
        settings, _ = self._agreed()
        own, manifest = self._own, self._manifest
        if own is None or manifest is None:
            raise Refused(
                "positions=<early> must come after the whole set was sent; ask for its pieces first"
            )
        if self._rows is not None:
            raise Refused("positions=<second> must be the only ones of the run; begin another run")
        self._insist_manifests(placement.manifests, settings, manifest)
        counts = sum(manifest.count for manifest in placement.manifests)
        if not own.count <= placement.universe <= counts + settings.padding.most:
            raise BadMessage(
                SERVER, f"must send a universe of {own.count} to {counts + settings.padding.most} rows"
            )
        places = own.placed(placement.universe, placement.positions)
        self._rows = own.rows(
            places, self._entering, len(self._customers.identifiers), manifest, placement.universe
        )
        return Placed(self.name, own.tags(places))

    def _insist_manifests(
        self, manifests: tuple[Manifest, ...], settings: AlignmentSettings, own: Manifest
    ) -> None:
        if tuple(manifest.party for manifest in manifests) != settings.channels:
            raise BadMessage(SERVER, f"must send the manifests of {list(settings.channels)}")
        for manifest in manifests:
            manifest.verify(self._identities, run=self._run)
            manifest.insist(self._now_ms, settings.purpose)
            if manifest.party == self.name:
                if manifest != own:
                    raise WrongManifest(self.name, "must get its own manifest back unchanged")
            else:
                self._passed().insist(manifest)

    def _agreed(self) -> tuple[AlignmentSettings, Group]:
        if self._settings is None or self._group is None:
            raise Refused("settings=<none> must be agreed on first; send hello")
        return self._settings, self._group

    def _passed(self) -> Passing:
        if self._passing is None:
            raise Refused("piece=<early> must come after this channel's own set; ask for that first")
        return self._passing
