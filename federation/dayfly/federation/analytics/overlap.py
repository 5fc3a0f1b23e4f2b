"""Reach and overlap: how many customers are in the audiences of exactly which channels, without anybody learning of one who is where else.

Claim: the coordinator and the channels learn noisy counts, one per set of channels; the release is rho-zCDP for one customer in all channels
together (`OverlapSpec.loss`). No channel's audience is opened to anybody, and no row's cell.
Precondition: an alignment (`alignment.Rows`); the dealer, which is the coordinator, deals as agreed and does not collude with a channel; channels
follow the protocol, all stay to the end, and all but `colluding` of them keep their noise to themselves.
Argument: channel k has the bit m_k of a row, so the row's cell is t = sum of 2^k m_k modulo 2^K, K channels. The dealer gives the channels
shares r_k of a uniform r, and shares modulo 2^64 of the table e_r that is 1 at r and 0 elsewhere. Each channel shows the others 2^k m_k
+ r_k, sealed so that the dealer cannot read it: uniform, whatever m_k is. All know t + r, and t = p exactly if the table's place t + r - p
is r: so every channel's share of the count of cell p is a sum of its table entries. It pays, adds its share of noise and a share of
zero that the dealer does not know (`vertical.sealing`), and sends that. Of every summand but the last, any value is possible.
Why not sketches: registers that are merged by a maximum or an "or" need their noise on every register before the merger, where it costs
more than the answer is worth with few parties; at the same loss their error grows with the audience. Here the error does not: each count has a
standard deviation of at most scale sqrt(K / (K - colluding)), and reach, a sum of 2^K - 1 counts, sqrt(2^K - 1) times that.
Why not the sizes that an alignment shows the coordinator: they are of whole customer bases. Audiences are chosen afterwards, by what each channel knows.
Cost: 2^K words per row for one channel, 1 byte per row for the others, three messages each.
Not claimed: anything against channels that lie about their audience, or a dealer that deals other tables.
Source: Ishai, Kushilevitz, Meldgaard, Orlandi, Paskin-Cherniavsky, TCC 2013 (one-time truth tables); Ghazi et al., PoPETs 2022 (reach with sketches).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from dayfly.federation.accounting import ReleaseBudget, release_name
from dayfly.federation.alignment import Rows
from dayfly.federation.analytics.kernels import add_patterns
from dayfly.federation.analytics.overlap_spec import OverlapDealer, OverlapDealt, OverlapSpec, decode_overlap
from dayfly.federation.errors import BadMessage, InvalidData, InvalidSetting, Refused
from dayfly.federation.identity import Identities, SigningIdentity
from dayfly.federation.secagg.messages import decode, encode
from dayfly.federation.vertical.relay import ask
from dayfly.federation.vertical.sealing import Hello, Letter, Roster, Sealer, insist_on_manifest
from dayfly.federation.wire import SERVER, Caller, Desk
from dayfly.privacy.accounting import ZcdpLoss
from dayfly.privacy.noise import NoiseSource

__all__ = ["NoisyOverlap", "OverlapParty", "count_overlap"]

_SEED_BYTES: Final = 32
_LABEL: Final = "audience"
_RELEASE: Final = "overlap"


class Deal(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Who takes part, this channel's seed, and the last channel's tables: asks for the shifted audience."""

    roster: Roster
    seed: bytes
    tables: bytes


class Shifted(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The others' shifted audiences: asks for the summand of the counts."""

    letters: tuple[Letter, ...]


class Counted(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Ring words of one channel, with its noise, under a share of zero."""

    party: str
    words: bytes


class OverlapParty:
    """A channel in one run; see the module.

    Args:
        identity: Of the channel's node.
        identities: All registered parties and the server.
        audience: Which of its customers are in it, bool (n,), in the channel's own order.
        rows: Where they are in the common space.
        run: 16 to 64 random bytes.
        random_bytes: Of the operating system.
        noise: Where its shares of noise come from.
        budget: Where it pays, before it draws.
        now_ms: The clock (ms UTC), for the manifest's expiry.
        recheck: Raises where consents that the rows rest on do not hold any more; called before the release with the time.

    Raises:
        InvalidData: the audience is not one bool per customer.
    """

    def __init__(
        self,
        identity: SigningIdentity,
        identities: Identities,
        audience: NDArray[np.bool_],
        rows: Rows,
        *,
        run: bytes,
        random_bytes: Callable[[int], bytes],
        noise: NoiseSource,
        budget: ReleaseBudget,
        now_ms: Callable[[], int],
        recheck: Callable[[int], object] = lambda _: None,
    ) -> None:
        if audience.dtype != np.bool_ or audience.shape != rows.positions.shape:
            raise InvalidData(
                identity.name,
                f"must say of each of its {rows.positions.size} customers whether it is in the audience, not {audience.dtype} {audience.shape}",
            )
        self._identity: Final = identity
        self._identities: Final = identities
        self._audience: Final = audience
        self._rows: Final = rows
        self._run: Final = run
        self._random_bytes: Final = random_bytes
        self._noise: Final = noise
        self._budget: Final = budget
        self._now_ms: Final = now_ms
        self._recheck: Final = recheck
        self._desk: Final = Desk(identity, identities, run=run)
        self._count: _Count | None = None

    @property
    def name(self) -> str:
        """As registered."""
        return self._identity.name

    def handle(self, message: bytes) -> bytes:
        """One request, one reply.

        Raises:
            FederationError: the message is not the server's next one, or what it asks is declined.
        """
        return self._desk.handle(message, self._answer)

    def _answer(self, kind: str, body: bytes) -> bytes:
        if kind == "hello":
            return encode(self._hello(decode_overlap(body)))
        if self._count is None:
            raise Refused(f"kind={kind!r} must follow hello; begin a run")
        if kind == "deal":
            return encode(self._count.shifted(decode(body, Deal, party=SERVER)))
        if kind == "count":
            return encode(self._count.counted(decode(body, Shifted, party=SERVER), self._release))
        raise BadMessage(SERVER, f"must send hello, deal or count, not {kind!r}; check its version")

    def _hello(self, spec: OverlapSpec) -> Hello:
        if self._count is not None:
            raise Refused("overlap=<second> must be the first of this run; begin another run for another one")
        if self.name not in spec.channels:
            raise BadMessage(SERVER, f"must name {self.name!r} among the channels {list(spec.channels)}")
        if self._rows.universe != spec.universe:
            raise Refused(
                f"universe={spec.universe} must be that of the alignment of {self.name!r}, {self._rows.universe}; align again"
            )
        self._insist(spec)
        sealer = Sealer(
            self._identity,
            self._identities,
            run=self._run,
            agreement=spec.agreement,
            root=self._random_bytes(_SEED_BYTES),
        )
        hello = sealer.hello(self._rows.manifest)
        bits = self._rows.spread(self._audience.astype(np.float64)).astype(np.uint8)
        self._count = _Count(spec, hello, sealer, bits)
        return hello

    def _release(self, spec: OverlapSpec, counts: NDArray[np.uint64]) -> NDArray[np.uint64]:
        self._insist(spec)
        self._budget.spend(run=self._run, release=release_name(_RELEASE, encode(spec)), loss=spec.loss)
        return spec.shares.add(counts.view(np.int64), self._noise).view(np.uint64)

    def _insist(self, spec: OverlapSpec) -> None:
        now_ms, manifest = self._now_ms(), self._rows.manifest
        insist_on_manifest(manifest, self.name, self._identities, alignment=spec.alignment)
        manifest.insist(now_ms, spec.purpose)
        self._recheck(now_ms)


class _Count:
    """What a channel holds between messages."""

    def __init__(self, spec: OverlapSpec, hello: Hello, sealer: Sealer, bits: NDArray[np.uint8]) -> None:
        self._spec: Final = spec
        self._hello: Final = hello
        self._sealer: Final = sealer
        self._bits: Final = bits
        self._mine: NDArray[np.uint8] | None = None
        self._tables: NDArray[np.uint64] = np.zeros((0, spec.cells), np.uint64)
        self._done = False

    def shifted(self, deal: Deal) -> Letter:
        """The audience, shifted, for the other channels."""
        spec, me = self._spec, self._hello.party
        if self._mine is not None:
            raise Refused("deal=<second> must be the first of this run; nothing is shifted twice")
        if len(deal.seed) != _SEED_BYTES:
            raise BadMessage(SERVER, f"must deal a seed of {_SEED_BYTES} bytes, not {len(deal.seed)}")
        expected = 8 * spec.universe * spec.cells if me == spec.channels[-1] else 0
        if len(deal.tables) != expected:
            raise BadMessage(SERVER, f"must deal {me!r} {expected} bytes of tables, not {len(deal.tables)}")
        self._sealer.join(deal.roster, spec.channels, self._hello, alignment=spec.alignment)
        dealt = OverlapDealt(spec, deal.seed)
        own = np.frombuffer(deal.tables, "<u8").reshape(-1, spec.cells)
        self._tables = own if expected else dealt.tables()
        place = np.uint8(spec.channels.index(me))
        self._mine = ((self._bits << place) + dealt.shift()) & np.uint8(spec.cells - 1)
        return self._sealer.sealed(_LABEL, _packed(self._mine))

    def counted(
        self, asked: Shifted, release: Callable[[OverlapSpec, NDArray[np.uint64]], NDArray[np.uint64]]
    ) -> Counted:
        """The summand of the counts."""
        spec = self._spec
        if self._mine is None or self._done:
            raise Refused("count must follow deal, once; begin another run, and pay for it")
        size = len(_packed(self._mine))
        letters = self._sealer.opened(_LABEL, asked.letters, dict.fromkeys(self._sealer.others, size))
        total = self._mine.copy()
        for words in letters.values():
            total += words.astype("<u8").view(np.uint8)[: spec.universe]
        found = np.zeros(spec.cells, np.uint64)
        add_patterns(self._tables, total & np.uint8(spec.cells - 1), found)
        noisy = release(spec, found[1:]) + self._sealer.zero_share(_RELEASE, spec.cells - 1)
        self._done = True
        return Counted(self._hello.party, noisy.astype("<u8").tobytes())


@dataclass(frozen=True, slots=True)
class NoisyOverlap:
    """What was released.

    Attributes:
        cells: Channels, sorted, to the noisy number of customers in the audiences of exactly these; may be negative.
        channels: All of them, sorted.
        loss: Of each customer.
        standard_deviation: Of each cell.
    """

    cells: Mapping[tuple[str, ...], int]
    channels: tuple[str, ...]
    loss: ZcdpLoss
    standard_deviation: float

    @property
    def reach(self) -> int:
        """Customers in at least one audience; its deviation is `deviation_of(len(cells))`."""
        return sum(self.cells.values())

    def overlap(self, *channels: str) -> int:
        """Customers in the audiences of all of these, whatever others they are in.

        Raises:
            InvalidSetting: one is no channel of this overlap.
        """
        return sum(self.cells[cell] for cell in self._within(channels))

    def overlap_deviation(self, *channels: str) -> float:
        """Standard deviation of `overlap`."""
        return self.deviation_of(len(self._within(channels)))

    def deviation_of(self, cells: int) -> float:
        """Standard deviation of a sum of so many cells."""
        return float(self.standard_deviation * cells**0.5)

    def _within(self, channels: Iterable[str]) -> list[tuple[str, ...]]:
        asked = set(channels)
        if not asked <= set(self.channels) or not asked:
            raise InvalidSetting(
                f"channels={sorted(asked)} must be some of {list(self.channels)}; name those"
            )
        return [cell for cell in self.cells if asked <= set(cell)]


def count_overlap(caller: Caller, spec: OverlapSpec, *, random_bytes: Callable[[int], bytes]) -> NoisyOverlap:
    """Count the audiences of the channels that the agreement names.

    Args:
        caller: The coordinator's end of the wire.
        spec: The agreement.
        random_bytes: Of the operating system; 32 bytes are drawn, for the dealer.

    Raises:
        InvalidSetting: the agreement does not hold together; nothing was sent.
        Declined: a channel declines; names it and its cause.
        TooFewParties: a channel is lost; names it. Nothing was opened.
        PartyFault: a reply is none; names whose.
    """
    spec.check()
    dealer = OverlapDealer(spec, random_bytes(_SEED_BYTES))
    names = spec.channels
    hellos = ask(caller, "hello", dict.fromkeys(names, encode(spec)), Hello)
    for hello in hellos.values():
        hello.verify(caller.identities, run=caller.run, agreement=spec.agreement, alignment=spec.alignment)
    roster = Roster(tuple(hellos[name] for name in names))
    tables = dealer.correction().astype("<u8").tobytes()
    deals = {
        name: encode(Deal(roster, dealer.seeds[name], tables if name == names[-1] else b"")) for name in names
    }
    letters = ask(caller, "deal", deals, Letter)
    relayed = {
        name: encode(Shifted(tuple(letters[other] for other in names if other != name))) for name in names
    }
    total = np.zeros(spec.cells - 1, np.uint64)
    for name, counted in ask(caller, "count", relayed, Counted).items():
        if len(counted.words) != 8 * total.size:
            raise BadMessage(name, f"must send {total.size} counts, not {len(counted.words)} bytes")
        total += np.frombuffer(counted.words, "<u8")
    counts = total.view(np.int64).tolist()
    cells = {_cell(names, pattern): count for pattern, count in enumerate(counts, start=1)}
    deviation = float(spec.shares.share_scale) * len(names) ** 0.5
    return NoisyOverlap(cells, names, spec.loss, deviation)


def _cell(names: tuple[str, ...], pattern: int) -> tuple[str, ...]:
    return tuple(name for place, name in enumerate(names) if pattern >> place & 1)


def _packed(values: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Bytes as ring words, with zeros at the end."""
    return np.frombuffer(values.tobytes() + bytes(-len(values) % 8), "<u8")
