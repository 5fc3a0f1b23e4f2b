"""Vertical training: the coordinator's part. It deals, relays what it cannot read, opens noisy sums, and takes steps.

Claim: it learns the releases: second moments with the label's moments, and `steps` gradients; from them it computes the model.
Precondition: as `party`; all channels stay to the end, or come back.
Argument: of every summand but the last it is told, any is possible: the zero shares are unknown to it.
Source: Newton's method with a fixed matrix of second moments (Boehning, Lindsay 1988), scaled by the mean slope of the inverse link;
reference section 4.2 of this project.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dayfly.federation.alignment import Manifest
from dayfly.federation.errors import BadMessage
from dayfly.federation.secagg.messages import encode
from dayfly.federation.vertical.newton import Moments, Release, step_size, step_task, summed_deviation
from dayfly.federation.vertical.polynomial import largest_residual
from dayfly.federation.vertical.randomness import Dealer
from dayfly.federation.vertical.relay import ask
from dayfly.federation.vertical.sealing import Hello, Letter, Roster
from dayfly.federation.vertical.spec import VerticalSpec
from dayfly.federation.vertical.tasks import (
    Exchange,
    GradientRequest,
    MomentsRequest,
    ResidualRequest,
    Summand,
    array,
    digest_of,
    to_bytes,
)
from dayfly.federation.vertical.uncertainty import covariance_of
from dayfly.federation.wire import Caller

__all__ = ["VerticalFit", "train_vertical"]

Floats = NDArray[np.float64]
Words = NDArray[np.uint64]
_ROOT_BYTES: Final = 32


@dataclass(frozen=True, slots=True, eq=False)
class VerticalFit:
    """A trained model.

    Attributes:
        spec: What the channels agreed on.
        weights: float64 (size,), of columns of rows of norm 1, intercept's included.
        covariance: float64 (size, size), of the weights: what sampling and the noise of all releases make of them (`uncertainty`).
        releases: What was opened.
        moments: As opened.
        manifests: Of the channels' customers, in order.
    """

    spec: VerticalSpec
    weights: Floats
    covariance: Floats
    releases: tuple[Release, ...]
    moments: Moments
    manifests: tuple[Manifest, ...]


def train_vertical(
    caller: Caller,
    spec: VerticalSpec,
    *,
    random_bytes: Callable[[int], bytes],
    shown: Callable[[Release], object] = lambda _: None,
) -> VerticalFit:
    """Train over the channels that the agreement names.

    Args:
        caller: The coordinator's end of the wire.
        spec: The agreement.
        random_bytes: Of the operating system; 32 bytes are drawn, for the dealer.
        shown: Told each release.

    Raises:
        InvalidSetting: the agreement cannot be kept; nothing was sent.
        Declined: a channel declines; names it and its cause.
        TooFewParties: a channel is lost; names it. Nothing more was opened.
        NotEstimable: columns determine each other.
        PartyFault: a reply is none; names whose.
    """
    spec.check()
    training = _Coordinator(caller, spec, random_bytes(_ROOT_BYTES), shown)
    training.begin()
    for step in range(1, spec.steps + 1):
        training.step(step)
    return training.fit()


class _Coordinator:
    """State between rounds."""

    def __init__(
        self, caller: Caller, spec: VerticalSpec, root: bytes, shown: Callable[[Release], object]
    ) -> None:
        self.caller: Final = caller
        self.spec: Final = spec
        self.shown: Final = shown
        self.dealer: Final = Dealer(spec, root)
        self.releases: list[Release] = []
        self.weights: Floats = np.zeros(spec.size)
        self.manifests: tuple[Manifest, ...] = ()

    def begin(self) -> None:
        """Set up, open the moments, and solve for the first weights."""
        spec = self.spec
        agreement = digest_of(spec)
        hellos = ask(self.caller, "hello", dict.fromkeys(spec.names, encode(spec)), Hello)
        for hello in hellos.values():
            hello.verify(
                self.caller.identities, run=self.caller.run, agreement=agreement, alignment=spec.alignment
            )
        self.manifests = tuple(hellos[name].manifest for name in spec.names)
        roster = Roster(tuple(hellos[name] for name in spec.names))
        seeds = {name: encode(Exchange(roster, self.dealer.seed(name))) for name in spec.names}
        letters = ask(self.caller, "exchange", seeds, Letter)
        correction = np.concatenate([self.dealer.gram().reshape(-1), self.dealer.counts()])
        requests = self._relay(
            letters, correction, lambda others, words: encode(MomentsRequest(others, words))
        )
        words = self._sum("moments", requests, spec.second_words + spec.cross_words)
        self.moments = Moments.of(spec, words)
        loss = None if spec.noise is None else spec.moments_loss()
        self._move(Release("moments", words.size, loss, self.weights, 0.0), -self.moments.cross, 1.0)

    def step(self, step: int) -> None:
        """Open a gradient, and follow it."""
        spec = self.spec
        task = step_task(spec, self.moments, self.weights, step)
        scores = ask(self.caller, "score", dict.fromkeys(spec.names, encode(task)), Letter)
        residuals = ask(
            self.caller,
            "residual",
            self._relay(
                scores,
                self.dealer.powers(step),
                lambda others, words: encode(ResidualRequest(step, others, words)),
            ),
            Letter,
        )
        requests = self._relay(
            residuals,
            self.dealer.products(step),
            lambda others, words: encode(GradientRequest(step, others, words)),
        )
        words = self._sum(f"gradient {step}", requests, spec.size)
        bits = spec.precision
        gradient = words.view(np.int64) / 2.0 ** (bits.row_bits + bits.residual_bits)
        unit = 1 << bits.residual_bits
        lowest = 0 if spec.family == "logistic" else -unit
        largest = largest_residual(task.coefficients, sum(task.limits), (lowest, unit))
        loss, deviation = None, 0.0
        if spec.noise is not None:
            loss = spec.gradient_loss(step, largest)
            deviation = summed_deviation(
                spec, spec.gradient_shares(step, largest), bits.row_bits + bits.residual_bits
            )
        release = Release(f"gradient {step}", words.size, loss, self.weights, deviation)
        self._move(release, gradient, step_size(spec, step))

    def fit(self) -> VerticalFit:
        """What came out."""
        releases = tuple(self.releases)
        covariance = covariance_of(self.spec, self.moments, self.weights, releases)
        return VerticalFit(self.spec, self.weights, covariance, releases, self.moments, self.manifests)

    def _move(self, release: Release, gradient: NDArray[np.floating], size: float) -> None:
        change = size * np.linalg.solve(self.moments.information(self.spec, self.weights), gradient)
        self.weights = np.asarray(self.weights - change, np.float64)
        self.releases.append(release)
        self.shown(release)

    def _relay(
        self,
        letters: Mapping[str, Letter],
        correction: Words,
        request: Callable[[tuple[Letter, ...], bytes], bytes],
    ) -> dict[str, bytes]:
        """To each channel the others' letters, and the correction to the label channel."""
        names = self.spec.names
        return {
            name: request(
                tuple(letters[other] for other in names if other != name),
                to_bytes(correction) if name == self.spec.label_channel else b"",
            )
            for name in names
        }

    def _sum(self, release: str, requests: Mapping[str, bytes], size: int) -> Words:
        kind = release.split(maxsplit=1)[0]
        total = np.zeros(size, np.uint64)
        for name, summand in ask(self.caller, kind, requests, Summand).items():
            if summand.release != release:
                raise BadMessage(name, f"must answer {release!r}, not {summand.release!r}; check its version")
            total += array(summand.words, (size,), party=name)
        return total
