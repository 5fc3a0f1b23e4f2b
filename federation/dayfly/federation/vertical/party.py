"""A channel's end of vertical training.

Claim: what leaves the channel is (a) vectors that are uniform to every other channel and closed to the coordinator, and (b) summands of releases
that are uniform but for their sum over all channels; the sum is noisy, unless the channel's budget allows exact sums. No value of one customer is
opened to anybody: not a feature, label, membership, partial score, score or residual. One customer loses by a release what was spent in the ledger.
Precondition: the dealer deals as agreed and does not collude with a channel (`randomness`); channels follow the protocol; all but `colluding` of them
keep their noise to themselves; the transport between coordinator and channel is confidential.
Argument: inputs, partial scores and residuals travel less a mask that the dealer expanded from a seed which only their owner has, sealed for the
channels (`sealing`). From E = X - U all products of columns follow by local products and dealt shares of U_j'U_k. From D = t - a, the sum of
partial scores less the sum of masks, and M = m - b, the label channel's presence less its mask, every channel computes its share of m P(D + a), a polynomial in a and b
whose coefficients are public to the channels and whose powers were dealt. From G = c - b' and E it computes its share of X'c. It spends, draws its
share of discrete Gaussian noise and adds it and its share of zero, in this order and once per release.
Not claimed: anything against channels that send other vectors than agreed, or a dealer that deals others: these change the sums, or their noise. What an
error says (a column is constant, a budget is used up) is no private release.
Source: Beaver 1991; SecureML 2017; Kairouz, Liu, Steinke 2021 (`noise_shares`); the construction in all is this project's.
"""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dayfly.federation.accounting import EXACT, ReleaseBudget
from dayfly.federation.alignment import Rows
from dayfly.federation.errors import BadMessage, InvalidSetting, Refused
from dayfly.federation.identity import Identities, SigningIdentity
from dayfly.federation.secagg.messages import decode, encode
from dayfly.federation.vertical.data import IntegerRows, VerticalData
from dayfly.federation.vertical.kernels import add_product
from dayfly.federation.vertical.polynomial import MOST_SCORES, largest_residual
from dayfly.federation.vertical.randomness import Dealt, input_columns, power_count
from dayfly.federation.vertical.sealing import Hello, Letter, Sealer, insist_on_manifest
from dayfly.federation.vertical.shares import added, count_share, gram_share, residual_share
from dayfly.federation.vertical.spec import VerticalSpec, decode_spec
from dayfly.federation.vertical.tasks import (
    Exchange,
    GradientRequest,
    MomentsRequest,
    ResidualRequest,
    StepTask,
    Summand,
    array,
    digest_of,
    to_bytes,
)
from dayfly.federation.wire import SERVER, Desk
from dayfly.privacy.accounting import LossEvent
from dayfly.privacy.noise import NoiseSource

__all__ = ["VerticalParty"]

Words = NDArray[np.uint64]
_ROOT_BYTES: Final = 32
_SEED_BYTES: Final = 32


class VerticalParty:
    """One channel in one run; see the module.

    Args:
        identity: Of the channel's node.
        identities: All registered parties and the server.
        data: Its customers.
        rows: Where they are in the common space.
        run: 16 to 64 random bytes.
        random_bytes: Of the operating system.
        noise: Where its shares of noise come from.
        budget: Where it pays, before it draws.
        now_ms: The clock (ms UTC), for the manifest's expiry.
        recheck: Raises where consents that the rows rest on do not hold any more; called before each release with the time
            (`alignment.customers.Customers.insist`).
        least_colluding: Fewest channels that the noise must be planned for to tell others their part: with 1, no single channel sees more than the
            loss says.
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
        noise: NoiseSource,
        budget: ReleaseBudget,
        now_ms: Callable[[], int],
        recheck: Callable[[int], object] = lambda _: None,
        least_colluding: int = 1,
    ) -> None:
        self._identity: Final = identity
        self._identities: Final = identities
        self._data: Final = data
        self._rows: Final = rows
        self._run: Final = run
        self._random_bytes: Final = random_bytes
        self._noise: Final = noise
        self._budget: Final = budget
        self._now_ms: Final = now_ms
        self._recheck: Final = recheck
        self._least_colluding: Final = least_colluding
        self._desk: Final = Desk(identity, identities, run=run)
        self._training: _Training | None = None

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
            return encode(self._hello(decode_spec(body)))
        training = self._training
        if training is None:
            raise Refused(f"kind={kind!r} must follow hello; begin a run")
        if kind == "exchange":
            return encode(training.exchange(decode(body, Exchange, party=SERVER)))
        if kind == "moments":
            return encode(training.moments(decode(body, MomentsRequest, party=SERVER)))
        if kind == "score":
            return encode(training.score(body, decode(body, StepTask, party=SERVER)))
        if kind == "residual":
            return encode(training.residual(decode(body, ResidualRequest, party=SERVER)))
        if kind == "gradient":
            return encode(training.gradient(decode(body, GradientRequest, party=SERVER)))
        raise BadMessage(
            SERVER,
            f"must send hello, exchange, moments, score, residual or gradient, not {kind!r}; check its version",
        )

    def _hello(self, spec: VerticalSpec) -> Hello:
        if self._training is not None:
            raise Refused(
                "training=<second> must be the first of this run; begin another run for another training"
            )
        if self.name not in spec.names:
            raise BadMessage(SERVER, f"must name {self.name!r} among the channels {list(spec.names)}")
        if self._rows.universe != spec.universe:
            raise Refused(
                f"universe={spec.universe} must be that of the alignment of {self.name!r}, {self._rows.universe}; align again"
            )
        if spec.noise is not None and spec.noise.colluding < self._least_colluding:
            raise Refused(
                f"colluding={spec.noise.colluding} must be at least {self._least_colluding}, or the loss is more than it says toward channels that"
                " know their own noise; plan more noise"
            )
        self._insist(spec)
        self._data.check(spec)
        rows = self._data.integers(spec, self._rows.positions)
        sealer = Sealer(
            self._identity,
            self._identities,
            run=self._run,
            agreement=digest_of(spec),
            root=self._random_bytes(_ROOT_BYTES),
        )
        hello = sealer.hello(self._rows.manifest)
        self._training = _Training(spec, rows, sealer, hello, self._pay, self._noise)
        return hello

    def _pay(self, spec: VerticalSpec, release: str, loss: LossEvent) -> None:
        self._insist(spec)
        self._budget.spend(run=self._run, release=release, loss=loss)

    def _insist(self, spec: VerticalSpec) -> None:
        now_ms, manifest = self._now_ms(), self._rows.manifest
        insist_on_manifest(manifest, self.name, self._identities, alignment=spec.alignment)
        manifest.insist(now_ms, spec.purpose)
        self._recheck(now_ms)


class _Training:
    """What a channel holds between messages."""

    def __init__(
        self,
        spec: VerticalSpec,
        rows: IntegerRows,
        sealer: Sealer,
        hello: Hello,
        pay: Callable[[VerticalSpec, str, LossEvent], None],
        noise: NoiseSource,
    ) -> None:
        self.spec: Final = spec
        self.me: Final = hello.party
        self.sealer: Final = sealer
        self.hello: Final = hello
        self.pay: Final = pay
        self.noise: Final = noise
        self.labelled: Final = spec.label_channel == self.me
        columns, self.presence = rows.values.view(np.uint64), rows.present.view(np.uint64)
        if self.labelled:
            columns = np.column_stack([self.presence, columns, rows.labels.view(np.uint64)])
        self.inputs: Final = np.ascontiguousarray(columns)
        self.expected = "exchange"
        self.step = 0
        self.masked: dict[str, Words] = {}

    def exchange(self, asked: Exchange) -> Letter:
        """Masked inputs for the other channels."""
        self._insist_on("exchange", 0)
        if len(asked.seed) != _SEED_BYTES:
            raise BadMessage(SERVER, f"must deal a seed of {_SEED_BYTES} bytes, not {len(asked.seed)}")
        self.sealer.join(asked.roster, self.spec.names, self.hello, alignment=self.spec.alignment)
        self.dealt = Dealt(self.spec, self.me, asked.seed)
        self.masked[self.me] = self.inputs - self.dealt.inputs()
        self.expected = "moments"
        words = self.masked[self.me].reshape(-1)
        if not self.labelled:
            words = np.concatenate([words, self.presence - self.dealt.presence()])
        return self.sealer.sealed("inputs", words)

    def moments(self, asked: MomentsRequest) -> Summand:
        """The summand of second moments and moments with the label."""
        self._insist_on("moments", 0)
        spec = self.spec
        columns = {name: input_columns(spec, name) for name in self.sealer.others}
        sizes = {
            name: (count + (name != spec.label_channel)) * spec.universe for name, count in columns.items()
        }
        opened = self.sealer.opened("inputs", asked.letters, sizes)
        ends = {name: count * spec.universe for name, count in columns.items()}
        self.masked |= {
            name: words[: ends[name]].reshape(-1, columns[name]) for name, words in opened.items()
        }
        square, size = (spec.size + 1) ** 2, len(spec.unlabelled)
        self._insist_no_correction(asked.correction)
        if self.labelled:
            dealt, counts = np.split(array(asked.correction, (square + size,)), [square])
        else:
            dealt, counts = self.dealt.gram(), self.dealt.counts()
        self.expected = "score"
        gram, cross = gram_share(
            spec, self.me, self.inputs, self.masked, dealt.reshape(spec.size + 1, spec.size + 1)
        )
        found = self._counted({name: words[ends[name] :] for name, words in opened.items()}, counts)
        return self._release("moments", np.concatenate([gram, found, cross]), self._noisy_moments)

    def score(self, body: bytes, task: StepTask) -> Letter:
        """Masked partial scores for the other channels."""
        self._insist_on("score", task.step)
        spec = self.spec
        shape = (len(task.weights), len(task.limits), len(task.coefficients))
        if shape != (spec.size, len(spec.channels), spec.degree + 1):
            raise BadMessage(
                SERVER, f"must send weights, limits and coefficients for {spec.size} columns, not {shape}"
            )
        if min(task.limits) < 1 or sum(task.limits) > MOST_SCORES or not np.isfinite(task.weights).all():
            raise BadMessage(
                SERVER, f"must send finite weights, and limits that sum to at most {MOST_SCORES}"
            )
        unit = 1 << spec.precision.residual_bits
        lowest = 0 if spec.family == "logistic" else -unit
        self.largest = largest_residual(task.coefficients, sum(task.limits), (lowest, unit))
        try:
            spec.gradient_l2_squared(self.largest)
        except InvalidSetting as error:
            raise BadMessage(SERVER, f"must send a step that fits the ring: {error}") from error
        self.task = task
        self.sealer.told(body)
        limit = task.limits[spec.names.index(self.me)]
        scores = self._partial_scores(np.array(task.weights, np.float64)[spec.block(self.me)], limit)
        self.scores = scores.view(np.uint64) - self.dealt.scores(task.step)
        self.expected = "residual"
        return self.sealer.sealed(f"scores {task.step}", self.scores)

    def residual(self, asked: ResidualRequest) -> Letter:
        """The masked share of the residuals for the other channels."""
        self._insist_on("residual", asked.step)
        spec, rows = self.spec, self.spec.universe
        others = self.sealer.opened(
            f"scores {asked.step}", asked.letters, dict.fromkeys(self.sealer.others, rows)
        )
        total = added(self.scores, others)
        shape = (power_count(spec), rows)
        powers = array(asked.correction, shape) if self.labelled else self.dealt.powers(asked.step)
        self._insist_no_correction(asked.correction)
        presence = self.masked[spec.label_channel][:, 0]
        share = residual_share(self.task.coefficients, total, presence, self.dealt.scores(asked.step), powers)
        if self.labelled:
            share += self._own_residual(total)
        self.mask = self.dealt.residuals(asked.step)
        self.residuals = share - self.mask
        self.expected = "gradient"
        return self.sealer.sealed(f"residuals {asked.step}", self.residuals)

    def gradient(self, asked: GradientRequest) -> Summand:
        """The summand of the gradient."""
        self._insist_on("gradient", asked.step)
        spec = self.spec
        others = self.sealer.opened(
            f"residuals {asked.step}", asked.letters, dict.fromkeys(self.sealer.others, spec.universe)
        )
        total = added(self.residuals, others)
        found = np.zeros(spec.size, np.uint64)
        for name in spec.names:
            inputs = self.inputs if name == self.me else self.masked[name]
            vector = total + self.mask if name == self.me else self.mask
            block = np.zeros(inputs.shape[1], np.uint64)
            add_product(inputs, vector, block)
            found[spec.block(name)] = block[:-1] if name == spec.label_channel else block
        found += array(asked.correction, (spec.size,)) if self.labelled else self.dealt.products(asked.step)
        self._insist_no_correction(asked.correction)
        found[spec.intercept : spec.intercept + 1] *= np.uint64(spec.constant_unit)
        self.expected = "score"
        self.step = asked.step
        return self._release(f"gradient {asked.step}", found, self._noisy_gradient)

    def _counted(self, presences: Mapping[str, Words], dealt: Words) -> Words:
        """This channel's share of the counts, from the others' presence less its mask."""
        spec = self.spec
        if self.labelled:
            own_mask = self.presence - self.masked[self.me][:, 0]
            return count_share(
                spec, {name: int(own_mask @ presences[name]) for name in spec.unlabelled}, {}, dealt
            )
        masked = self.masked[spec.label_channel][:, 0]
        here = int(self.presence.sum())
        return count_share(spec, {self.me: int(masked @ self.presence)}, {self.me: here}, dealt)

    def _insist_on(self, kind: str, step: int) -> None:
        expected = self.step + (self.expected in ("score", "residual", "gradient"))
        if (kind, step) != (self.expected, expected) or step > self.spec.steps:
            raise Refused(
                f"message={kind} {step} must be {self.expected} {expected} of {self.spec.steps}; nothing is answered out of order"
            )

    def _insist_no_correction(self, correction: bytes) -> None:
        if correction and not self.labelled:
            raise BadMessage(SERVER, f"must send corrections to {self.spec.label_channel!r} alone")

    def _partial_scores(self, weights: NDArray[np.float64], limit: int) -> NDArray[np.int64]:
        values = self.inputs.view(np.int64)
        if self.labelled:
            values, weights = values[:, 1:-1], weights[1:]
        bits = self.spec.precision
        scores = values @ (weights * 2.0 ** (bits.score_bits - bits.row_bits))
        return np.rint(np.clip(scores, -limit, limit)).astype(np.int64)

    def _own_residual(self, total: Words) -> Words:
        """What the label channel alone adds: presence times the part without powers of the mask, less the label."""
        presence, labels = self.inputs[:, 0], self.inputs[:, -1]
        constant = np.zeros(len(total), np.uint64)
        for coefficient in reversed(self.task.coefficients):
            constant = constant * total + np.uint64(coefficient % (1 << 64))
        bits = self.spec.precision
        if self.spec.family == "logistic":
            return presence * constant - (labels + presence) * np.uint64(1 << (bits.residual_bits - 1))
        return presence * constant - labels * np.uint64(1 << (bits.residual_bits - bits.score_bits))

    def _release(self, release: str, words: Words, noisy: Callable[[str, Words], Words]) -> Summand:
        masked = noisy(release, words) + self.sealer.zero_share(release, words.size)
        return Summand(self.me, release, to_bytes(masked))

    def _noisy_moments(self, release: str, words: Words) -> Words:
        spec, plan = self.spec, self.spec.noise
        if plan is None:
            self.pay(spec, release, EXACT)
            return words
        self.pay(spec, release, spec.moments_loss())
        gram, cross = np.split(words.view(np.int64), [spec.second_words])
        parts = (
            spec.shares(plan.gram, spec.gram_l2_squared).add(gram, self.noise),
            spec.shares(plan.cross, spec.cross_l2_squared).add(cross, self.noise),
        )
        return np.concatenate(parts).view(np.uint64)

    def _noisy_gradient(self, release: str, words: Words) -> Words:
        spec, step = self.spec, self.task.step
        if spec.noise is None:
            self.pay(spec, release, EXACT)
            return words
        self.pay(spec, release, spec.gradient_loss(step, self.largest))
        shares = spec.gradient_shares(step, self.largest)
        return shares.add(words.view(np.int64), self.noise).view(np.uint64)
