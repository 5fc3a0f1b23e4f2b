"""Scores of new customers: one channel that acts on them learns the joint score of its own customers, and nobody learns anything else.

Claim: the acting channel learns, for each of its own aligned customers, the sum of the other channels' partial scores, each cut to `limit` and rounded
to a multiple of `band`; for rows that are not its customers it learns nothing. The others and the coordinator learn nothing.
Precondition: as `party`: the dealer deals as agreed and colludes with nobody; channels follow the protocol.
Argument: presence m of the acting channel and a partial score s travel less masks b and a, as M and D; m s = M s + b D + b a, of which the other channel
computes M s and the acting one b D, and b a was dealt in two shares. The others' summands are under zero shares that cancel over them alone, sealed for
the acting channel: it learns their sum.
Not claimed: differential privacy; a score is about one customer, and is meant to be. Each channel that adds to scores is asked for `EXACT`, so that its budget
must allow them. What a sum gives away: a customer whom only one other channel has gets that channel's partial score, which a channel that
lacks the customer does not hide (it adds zero). It is known to a band at most, so at most log2(2 limit / band + 1) bits of it. With two channels every
score is of this kind: both must have agreed to that (`two_channels_agree`).
Source: Beaver, CRYPTO 1991.
"""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from dayfly.federation.accounting import EXACT, ReleaseBudget
from dayfly.federation.alignment import Rows
from dayfly.federation.errors import BadMessage, InvalidData, InvalidSetting, Refused
from dayfly.federation.identity import Identities, SigningIdentity
from dayfly.federation.secagg.messages import decode, encode
from dayfly.federation.secagg.seeds import derive, mask
from dayfly.federation.vertical.data import VerticalData
from dayfly.federation.vertical.relay import ask
from dayfly.federation.vertical.scoring import ScoringSpec
from dayfly.federation.vertical.sealing import Hello, Letter, Roster, Sealer, insist_on_manifest
from dayfly.federation.vertical.tasks import Exchange, array, digest_of, to_bytes
from dayfly.federation.wire import SERVER, Caller, Desk

__all__ = ["ScoringParty", "score_together"]

Words = NDArray[np.uint64]
Floats = NDArray[np.float64]
_ROOT_BYTES: Final = 32
_TWO: Final = 2


class _ScoreRequest(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Letters for this channel, and, for the acting one, the dealer's correction."""

    letters: tuple[Letter, ...]
    correction: bytes


class _Done(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The acting channel has its scores."""

    party: str


class ScoringParty:
    """One channel in one run of scoring; see the module.

    Args:
        identity: Of the channel's node.
        identities: All registered parties and the server.
        data: Customers to be scored, without labels.
        rows: Where they are in the common space.
        run: 16 to 64 random bytes.
        random_bytes: Of the operating system.
        budget: Must allow exact values where this channel adds to scores.
        now_ms: The clock (ms UTC).
        recheck: See `VerticalParty`.
        two_channels_agree: Whether, with one other channel, that channel may learn this one's partial scores.
    """

    def __init__(
        self,
        identity: SigningIdentity,
        identities: Identities,
        data: VerticalData,
        rows: Rows,
        *,
        run: bytes,
        random_bytes: Callable[[int], bytes],
        budget: ReleaseBudget,
        now_ms: Callable[[], int],
        recheck: Callable[[int], object] = lambda _: None,
        two_channels_agree: bool = False,
    ) -> None:
        self._identity: Final = identity
        self._identities: Final = identities
        self._data: Final = data
        self._rows: Final = rows
        self._run: Final = run
        self._random_bytes: Final = random_bytes
        self._budget: Final = budget
        self._now_ms: Final = now_ms
        self._recheck: Final = recheck
        self._two_channels_agree: Final = two_channels_agree
        self._desk: Final = Desk(identity, identities, run=run)
        self._expected = "hello"
        self._scores: Floats | None = None
        self.sums: NDArray[np.int64] = np.zeros(0, np.int64)
        """All that the acting channel opened, int64 (universe,): the others' sums in bands, 0 in rows that are not its customers."""

    @property
    def name(self) -> str:
        """As registered."""
        return self._identity.name

    @property
    def scores(self) -> Floats:
        """Linear predictors of the acting channel's customers, float64 (customers,) in its own order; NaN where it has no place.

        Raises:
            Refused: the run has not come to its end, or another channel acts.
        """
        if self._scores is None:
            raise Refused(
                f"scores=<none> must be computed first, and are {self.name!r}'s alone where it acts; run the scoring"
            )
        return self._scores

    def handle(self, message: bytes) -> bytes:
        """One request, one reply.

        Raises:
            FederationError: the message is not the server's next one, or what it asks is declined.
        """
        return self._desk.handle(message, self._answer)

    def _answer(self, kind: str, body: bytes) -> bytes:
        if kind != self._expected:
            raise Refused(f"message={kind!r} must be {self._expected!r}; nothing is answered out of order")
        if kind == "hello":
            return encode(self._hello(decode(body, ScoringSpec, party=SERVER)))
        if kind == "exchange":
            return encode(self._exchange(decode(body, Exchange, party=SERVER)))
        request = decode(body, _ScoreRequest, party=SERVER)
        return encode(self._add(request) if kind == "add" else self._open(request))

    def _hello(self, spec: ScoringSpec) -> Hello:
        try:
            spec.check()
        except InvalidSetting as error:
            raise BadMessage(SERVER, f"must send an agreement that can be kept: {error}") from error
        if self.name not in spec.names:
            raise BadMessage(SERVER, f"must name {self.name!r} among the channels {list(spec.names)}")
        if len(spec.names) == _TWO and not self._two_channels_agree:
            raise Refused(
                f"channels={list(spec.names)} must be three or more, or each score tells {spec.acting!r} the other's partial score of that"
                " customer; let both channels agree to that (two_channels_agree=True), or score with another channel"
            )
        if self._rows.universe != spec.universe:
            raise Refused(
                f"universe={spec.universe} must be that of the alignment of {self.name!r}, {self._rows.universe}; align again"
            )
        self._insist(spec)
        if self._data.features != spec.channels[spec.names.index(self.name)].features:
            raise InvalidData(self.name, "must have the model's features in their order; select them")
        if self._rows.positions.shape != (len(self._data.values),):
            raise InvalidData(
                self.name, f"must have one row for each of its {self._rows.positions.size} aligned customers"
            )
        self._spec = spec
        self._sealer = Sealer(
            self._identity,
            self._identities,
            run=self._run,
            agreement=digest_of(spec),
            root=self._random_bytes(_ROOT_BYTES),
        )
        self._mine = self._sealer.hello(self._rows.manifest)
        self._expected = "exchange"
        return self._mine

    def _exchange(self, asked: Exchange) -> Letter:
        spec = self._spec
        self._sealer.join(asked.roster, spec.names, self._mine, alignment=spec.alignment)
        self._seed = asked.seed
        partial = spec.partial(self.name, self._data.values)
        if self.name == spec.acting:
            self._own = partial
            vector = self._rows.spread(np.ones(len(partial))).astype(np.int64)
        else:
            whole = np.rint(np.clip(partial, -spec.limit, spec.limit) / spec.band)
            vector = self._rows.spread(whole).astype(np.int64)
        self._vector = vector.view(np.uint64)
        self._masked = self._vector - _mask(self._seed, "input", spec.universe)
        if self.name == spec.acting:
            self._expected = "open"
            return self._sealer.sealed("presence", self._masked, readers=spec.others)
        self._expected = "add"
        return self._sealer.sealed("partial", self._masked, readers=(spec.acting,))

    def _add(self, asked: _ScoreRequest) -> Letter:
        """Another channel's share of presence times partial score, for the acting channel."""
        spec = self._spec
        opened = self._sealer.opened(
            "presence", asked.letters, {spec.acting: spec.universe}, readers=spec.others
        )
        self._expected = "ended"
        self._insist(spec)
        self._budget.spend(run=self._run, release="scores", loss=EXACT)
        share = opened[spec.acting] * self._vector + _mask(self._seed, "product", spec.universe)
        share += self._sealer.zero_share("scores", spec.universe, without=spec.acting)
        return self._sealer.sealed("share", share, readers=(spec.acting,))

    def _open(self, asked: _ScoreRequest) -> _Done:
        """The acting channel's scores."""
        spec = self._spec
        sizes = dict.fromkeys(spec.others, spec.universe)
        count = len(spec.others)
        if len(asked.letters) != 2 * count:
            raise BadMessage(SERVER, f"must relay two vectors of each of {list(spec.others)}")
        partial = self._sealer.opened("partial", asked.letters[:count], sizes, readers=(spec.acting,))
        shares = self._sealer.opened("share", asked.letters[count:], sizes, readers=(spec.acting,))
        total = array(asked.correction, (spec.universe,)).copy()
        own_mask = _mask(self._seed, "input", spec.universe)
        for name in spec.others:
            total += shares[name] + own_mask * partial[name]
        here = self._rows.taking_part
        found = np.full(len(here), np.nan)
        self.sums = total.view(np.int64)
        found[here] = self.sums[self._rows.positions[here]] * spec.band + self._own[here] + spec.intercept
        self._scores = found
        self._expected = "ended"
        return _Done(self.name)

    def _insist(self, spec: ScoringSpec) -> None:
        now_ms, manifest = self._now_ms(), self._rows.manifest
        insist_on_manifest(manifest, self.name, self._identities, alignment=spec.alignment)
        manifest.insist(now_ms, spec.purpose)
        self._recheck(now_ms)


def score_together(caller: Caller, spec: ScoringSpec, *, random_bytes: Callable[[int], bytes]) -> None:
    """Have the acting channel learn its customers' scores: three messages to each channel.

    Args:
        caller: The coordinator's end of the wire.
        spec: The agreement.
        random_bytes: Of the operating system; 32 bytes are drawn, for the dealer.

    Raises:
        InvalidSetting: the agreement cannot be kept; nothing was sent.
        Declined: a channel declines; names it and its cause.
        TooFewParties: a channel is lost; names it.
        PartyFault: a reply is none; names whose.
    """
    spec.check()
    root = random_bytes(_ROOT_BYTES)
    seeds = {name: derive(root, "vertical scoring", name.encode()) for name in spec.names}
    hellos = ask(caller, "hello", dict.fromkeys(spec.names, encode(spec)), Hello)
    roster = Roster(tuple(hellos[name] for name in spec.names))
    letters = ask(
        caller, "exchange", {name: encode(Exchange(roster, seeds[name])) for name in spec.names}, Letter
    )
    presence = encode(_ScoreRequest((letters[spec.acting],), b""))
    shares = ask(caller, "add", dict.fromkeys(spec.others, presence), Letter)
    relayed = (*(letters[name] for name in spec.others), *(shares[name] for name in spec.others))
    request = encode(_ScoreRequest(relayed, to_bytes(_correction(spec, seeds))))
    ask(caller, "open", {spec.acting: request}, _Done)


def _correction(spec: ScoringSpec, seeds: Mapping[str, bytes]) -> Words:
    """The acting channel's share of the products of its mask and the others'."""
    presence = _mask(seeds[spec.acting], "input", spec.universe)
    found = np.zeros(spec.universe, np.uint64)
    for name in spec.others:
        found += presence * _mask(seeds[name], "input", spec.universe)
        found -= _mask(seeds[name], "product", spec.universe)
    return found


def _mask(seed: bytes, label: str, words: int) -> Words:
    return mask(derive(seed, "vertical scoring", label.encode()), words)
