"""Correlated randomness: what the dealer gives the channels, so that they can multiply what they hold as shares.

Claim: to each channel, what it is given is uniform and independent of every other channel's masks, whatever it knows of its own.
Precondition: the dealer deals as agreed, and tells no channel another one's seed. It sees no vector that is hidden by what it dealt: these travel
sealed between channels (`sealing`), and sums are under zero shares that it does not know. So the dealer and a channel must not collude: together
they know all inputs.
Argument: every channel expands its own 256-bit seed into masks and into its shares of products of masks. Only the label channel's shares of products
are corrections: the product less all others' shares, which are uniform as long as one other channel keeps its seed.
Source: Beaver, CRYPTO 1991 (multiplication with dealt triples); Mohassel, Zhang, SecureML, IEEE S&P 2017 (matrix triples, masks opened once).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dayfly.federation.secagg.seeds import derive, mask
from dayfly.federation.vertical.kernels import add_gram, add_product
from dayfly.federation.vertical.spec import VerticalSpec

__all__ = ["Dealer", "Dealt", "input_columns", "power_count"]

Words = NDArray[np.uint64]


def input_columns(spec: VerticalSpec, channel: str) -> int:
    """Columns that a channel masks: the label channel's are presence, features and label; the others' the features, beside their presence."""
    return len(spec.columns(channel).features) + (2 if channel == spec.label_channel else 0)


def power_count(spec: VerticalSpec) -> int:
    """Products of score masks and the presence mask that are dealt per row: a^2 .. a^n, and b a .. b a^n."""
    return 2 * spec.degree - 1


class Dealt:
    """A channel's part: expanded from its seed.

    Args:
        spec: As agreed.
        channel: Its name.
        seed: 32 bytes of the dealer.
    """

    __slots__ = ("_channel", "_seed", "_spec")

    def __init__(self, spec: VerticalSpec, channel: str, seed: bytes) -> None:
        self._spec: Final = spec
        self._channel: Final = channel
        self._seed: Final = seed

    def inputs(self) -> Words:
        """Masks of the columns, uint64 (universe, columns)."""
        columns = input_columns(self._spec, self._channel)
        return self._stream("inputs", 0, self._spec.universe * columns).reshape(-1, columns)

    def gram(self) -> Words:
        """Share of the products of different channels' masks, uint64 (all columns, all columns)."""
        size = self._spec.size + 1
        return self._stream("gram", 0, size * size).reshape(size, size)

    def presence(self) -> Words:
        """Mask of which rows another channel than the label's has, uint64 (universe,)."""
        return self._stream("presence", 0, self._spec.universe)

    def counts(self) -> Words:
        """Share of the label channel's presence mask times each other's, uint64 (other channels,)."""
        return self._stream("counts", 0, len(self._spec.unlabelled))

    def scores(self, step: int) -> Words:
        """Mask of the partial scores, uint64 (universe,)."""
        return self._stream("scores", step, self._spec.universe)

    def powers(self, step: int) -> Words:
        """Shares of products of masks, uint64 (power_count, universe)."""
        count = power_count(self._spec)
        return self._stream("powers", step, count * self._spec.universe).reshape(count, -1)

    def residuals(self, step: int) -> Words:
        """Mask of the residuals' share, uint64 (universe,)."""
        return self._stream("residuals", step, self._spec.universe)

    def products(self, step: int) -> Words:
        """Share of every channel's masks times the other channels' masks of residuals, uint64 (model size,)."""
        return self._stream("products", step, self._spec.size)

    def _stream(self, label: str, step: int, words: int) -> Words:
        return mask(derive(self._seed, "vertical dealt", label.encode(), step.to_bytes(4)), words)


class Dealer:
    """The dealer's part.

    Args:
        spec: As agreed.
        root: 32 random bytes, used for this run alone.
    """

    def __init__(self, spec: VerticalSpec, root: bytes) -> None:
        self._spec: Final = spec
        self._seeds: Final = {name: derive(root, "vertical dealer", name.encode()) for name in spec.names}
        self._parts: Final = {name: Dealt(spec, name, seed) for name, seed in self._seeds.items()}
        self._others: Final = [part for name, part in self._parts.items() if name != spec.label_channel]
        self._inputs: Final = {name: part.inputs() for name, part in self._parts.items()}

    def seed(self, channel: str) -> bytes:
        """For a channel, 32 bytes."""
        return self._seeds[channel]

    def gram(self) -> Words:
        """The label channel's share of products of inputs, uint64 (all columns, all columns)."""
        places = places_of(self._spec)
        found = np.zeros((self._spec.size + 1, self._spec.size + 1), np.uint64)
        names = self._spec.names
        for first, left in enumerate(names):
            for right in names[first + 1 :]:
                block = np.zeros((len(places[left]), len(places[right])), np.uint64)
                add_gram(self._inputs[left], self._inputs[right], block)
                found[np.ix_(places[left], places[right])] = block
        for part in self._others:
            found -= part.gram()
        return found

    def counts(self) -> Words:
        """The label channel's share of its presence mask times each other's, uint64 (other channels,)."""
        presence = self._inputs[self._spec.label_channel][:, 0]
        found = np.array([presence @ part.presence() for part in self._others], np.uint64)
        for part in self._others:
            found -= part.counts()
        return found

    def powers(self, step: int) -> Words:
        """The label channel's shares of products, uint64 (power_count, universe)."""
        degree = self._spec.degree
        mask_of_scores = np.zeros(self._spec.universe, np.uint64)
        for part in self._parts.values():
            mask_of_scores += part.scores(step)
        presence = self._inputs[self._spec.label_channel][:, 0]
        powers = [mask_of_scores]
        for _ in range(degree - 1):
            powers.append(powers[-1] * mask_of_scores)
        found = np.stack([*powers[1:], *(presence * power for power in powers)])
        for part in self._others:
            found -= part.powers(step)
        return found

    def products(self, step: int) -> Words:
        """The label channel's share of masks of inputs times the others' masks of residuals, uint64 (model size,)."""
        masks = {name: part.residuals(step) for name, part in self._parts.items()}
        total = np.zeros(self._spec.universe, np.uint64)
        for one in masks.values():
            total += one
        found = np.zeros(self._spec.size, np.uint64)
        for name, inputs in self._inputs.items():
            columns = model_columns(self._spec, name, inputs)
            block = np.zeros(columns.shape[1], np.uint64)
            add_product(columns, total - masks[name], block)
            found[self._spec.block(name)] = block
        for part in self._others:
            found -= part.products(step)
        return found


def places_of(spec: VerticalSpec) -> dict[str, list[int]]:
    """Channel to the places of its masked columns in the joint matrix, whose last column is the label."""
    found = {name: list(range(spec.size)[spec.block(name)]) for name in spec.names}
    found[spec.label_channel].append(spec.size)
    return found


def model_columns(spec: VerticalSpec, channel: str, inputs: Words) -> Words:
    """A channel's columns without the label."""
    return np.ascontiguousarray(inputs[:, :-1]) if channel == spec.label_channel else inputs
