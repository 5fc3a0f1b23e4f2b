"""What all channels of a vertical training agree on, what of it is public, and how much one customer can move each opened value.

Claim: for neighbours that differ in all of one customer's rows, in all channels together, the integers of a release differ by at most
`gram_l2_squared` (second moments with counts), `cross_l2_squared` (moments with the label) and `gradient_l2_squared` (a gradient).
Precondition: each channel's integers of a row have a squared norm of at most its `room` (checked when they are made), the label's
integer is at most `label_unit` in size, each partial score at most its limit.
Argument: the rooms of all channels and the constant add up to at most 4^row_bits, so a customer's whole row x has |x|^2 <= 4^row_bits. The
upper triangle of x x' is at most |x|^2 long, and beside it the customer counts once for each channel other than the label's, as one that has a label or as
one that has none, at `count_unit`; x z at most |x| label_unit; a gradient's part x c at most |x| max |c|, and the largest |c| is found
by trying every integer that the sum of partial scores can be (`polynomial`).
"""

import math
from fractions import Fraction
from typing import Final, Literal

import msgspec

from dayfly.federation.errors import BadMessage, InvalidSetting
from dayfly.federation.noise_shares import NoiseShares
from dayfly.federation.secagg.messages import decode
from dayfly.federation.wire import SERVER
from dayfly.privacy.accounting import ZcdpLoss, gaussian_scale
from dayfly.privacy.accounting.rounding import sqrt_up

__all__ = [
    "INTERCEPT",
    "ChannelColumns",
    "NoisePlan",
    "Precision",
    "VerticalSpec",
    "decode_spec",
    "residual_room",
]

INTERCEPT: Final = "(intercept)"
_RING_BITS: Final = 62
_COUNT_PART: Final = 64
"""Counts are this much less of a customer's squared share in the first release than second moments: their noise grows by 1/128."""

Family = Literal["linear", "logistic"]


class ChannelColumns(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A channel's features.

    Attributes:
        channel: Its name.
        features: Names.
        bounds: Lowest and highest value per feature; public, not taken from the data. Values beyond them count as them.
        clip: Largest norm of a row whose features are mapped from their bounds to -1 and 1; longer rows are shortened.
    """

    channel: str
    features: tuple[str, ...]
    bounds: tuple[tuple[float, float], ...]
    clip: float


class Precision(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Binary places.

    Attributes:
        row_bits: Of a row of norm 1.
        score_bits: Of a linear predictor.
        residual_bits: Of a residual.
    """

    row_bits: int
    score_bits: int
    residual_bits: int


class NoisePlan(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """How the loss is split, in zCDP; each a numerator and a denominator.

    Attributes:
        gram: Of the second moments.
        cross: Of the moments with the label.
        steps: Of each gradient.
        colluding: How many channels may tell others their noise; with 1, the loss is the stated one also toward each single channel.
    """

    gram: tuple[int, int]
    cross: tuple[int, int]
    steps: tuple[tuple[int, int], ...]
    colluding: int = 1


class VerticalSpec(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A vertical training.

    Attributes:
        family: Link identity or logit.
        label: Name of the label.
        label_bounds: Of the label; (0, 1) where the family is logistic.
        label_channel: Who has it.
        channels: Sorted by name.
        alignment: Run of the alignment that made the common space.
        universe: Rows of the common space.
        purpose: For which the customers' consents must be.
        steps: Gradients after the one-shot solution.
        precision: Of the fixed point.
        constant: Size of the intercept's column beside features that reach from -1 to 1.
        noise: None opens exact sums: no differential privacy.
    """

    family: Family
    label: str
    label_bounds: tuple[float, float]
    label_channel: str
    channels: tuple[ChannelColumns, ...]
    alignment: bytes
    universe: int
    purpose: str
    steps: int
    precision: Precision
    constant: float
    noise: NoisePlan | None

    @property
    def names(self) -> tuple[str, ...]:
        """The channels."""
        return tuple(columns.channel for columns in self.channels)

    @property
    def features(self) -> tuple[str, ...]:
        """Of all channels, in order, without the intercept."""
        return tuple(name for columns in self.channels for name in columns.features)

    @property
    def size(self) -> int:
        """Columns of the model, intercept included."""
        return len(self.features) + 1

    @property
    def degree(self) -> int:
        """Of the polynomial that stands for the inverse link."""
        return 1 if self.family == "linear" else 3

    @property
    def residual_room(self) -> int:
        """Bits that a residual may have before its binary point."""
        return residual_room(self.family, exact=self.noise is None)

    @property
    def label_unit(self) -> int:
        """Integer that the largest label becomes."""
        return 1 if self.family == "logistic" else 1 << self.precision.score_bits

    def columns(self, channel: str) -> ChannelColumns:
        """Of a channel."""
        return self.channels[self.names.index(channel)]

    def block(self, channel: str) -> slice:
        """Places of a channel's columns in the model; the intercept is the first of the label channel's."""
        begin = 0
        for columns in self.channels:
            end = begin + len(columns.features) + (columns.channel == self.label_channel)
            if columns.channel == channel:
                return slice(begin, end)
            begin = end
        raise InvalidSetting(f"channel={channel!r} must be one of {self.names}; name it in the training")

    @property
    def intercept(self) -> int:
        """Place of the intercept."""
        return int(self.block(self.label_channel).start)

    @property
    def length_squared(self) -> Fraction:
        """Largest squared norm of a customer's whole row, features from -1 to 1, constant included."""
        squares = [Fraction(columns.clip) ** 2 for columns in self.channels]
        return sum(squares, Fraction(self.constant) ** 2)

    def room(self, channel: str) -> int:
        """Largest squared norm of a row of a channel, in integers, without the constant."""
        share = Fraction(self.columns(channel).clip) ** 2 / self.length_squared
        return int(share * (1 << 2 * self.precision.row_bits))

    @property
    def constant_unit(self) -> int:
        """The constant column's integer, rounded down."""
        low, high = 0, 1 << self.precision.row_bits
        limit = Fraction(self.constant) ** 2 / self.length_squared * (1 << 2 * self.precision.row_bits)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if middle**2 <= limit else (low, middle - 1)
        return int(low)

    @property
    def unlabelled(self) -> tuple[str, ...]:
        """The channels but the label's."""
        return tuple(name for name in self.names if name != self.label_channel)

    @property
    def count_words(self) -> int:
        """Customers of each other channel who have a label, and those who have none."""
        return 2 * len(self.unlabelled)

    @property
    def second_words(self) -> int:
        """Second moments, with the counts after them."""
        return self.gram_words + self.count_words

    @property
    def count_unit(self) -> int:
        """What one customer adds to a count."""
        return math.isqrt((1 << 4 * self.precision.row_bits) // (_COUNT_PART * len(self.unlabelled)))

    @property
    def gram_l2_squared(self) -> int:
        """Of the second moments' upper triangle with the counts: a customer is in one of a channel's two."""
        return (1 << 4 * self.precision.row_bits) + len(self.unlabelled) * self.count_unit**2

    @property
    def cross_l2_squared(self) -> int:
        """Of the moments with the label; a linear family's have the label's own square, in units that make it as long as the rest at most."""
        return (1 + (self.family == "linear")) * self.label_unit**2 << 2 * self.precision.row_bits

    @property
    def square_unit(self) -> int:
        """What the label's square is multiplied by: at most label_unit 2^row_bits for one customer."""
        return (1 << self.precision.row_bits) // self.label_unit

    @property
    def cross_words(self) -> int:
        """Moments with the label."""
        return self.size + (self.family == "linear")

    def gradient_l2_squared(self, largest: int) -> int:
        """Of a gradient whose residuals are at most `largest` in size.

        Raises:
            InvalidSetting: such residuals do not fit the ring.
        """
        if not 0 < largest <= 1 << (self.precision.residual_bits + self.residual_room):
            raise InvalidSetting(
                f"residual={largest / 2.0**self.precision.residual_bits:g} must be above 0 and at most"
                f" {1 << self.residual_room}; lower the limits of the scores"
            )
        return largest**2 << 2 * self.precision.row_bits

    @property
    def gram_words(self) -> int:
        """Entries of the upper triangle."""
        return self.size * (self.size + 1) // 2

    def shares(self, rho: tuple[int, int], l2_squared: int) -> NoiseShares:
        """How the noise of a release is spread.

        Raises:
            InvalidSetting: too many may collude, or the noise does not fit the ring.
        """
        shares = NoiseShares.among(
            gaussian_scale(l2_squared, Fraction(*rho)),
            members=len(self.channels),
            colluding=self._noise().colluding,
        )
        shares.check_room(self.universe * sqrt_up(l2_squared).__ceil__(), parties=len(self.channels))
        return shares

    def moments_loss(self) -> ZcdpLoss:
        """Of the first release; noise must be set."""
        noise = self._noise()
        gram = self.shares(noise.gram, self.gram_l2_squared).loss(self.gram_l2_squared, self.second_words)
        cross = self.shares(noise.cross, self.cross_l2_squared).loss(self.cross_l2_squared, self.cross_words)
        return ZcdpLoss(gram.rho + cross.rho)

    def gradient_loss(self, step: int, largest: int) -> ZcdpLoss:
        """Of gradient `step`, from 1."""
        l2_squared = self.gradient_l2_squared(largest)
        return self.gradient_shares(step, largest).loss(l2_squared, self.size)

    def gradient_shares(self, step: int, largest: int) -> NoiseShares:
        """How the noise of gradient `step` is spread."""
        return self.shares(self._noise().steps[step - 1], self.gradient_l2_squared(largest))

    def _noise(self) -> NoisePlan:
        if self.noise is None:
            raise InvalidSetting("noise=None has no loss that is finite; plan a noise")
        return self.noise

    def check(self) -> None:
        """Insist on an agreement that can be kept.

        Raises:
            InvalidSetting: names what breaks its rule.
        """
        _check_channels(self)
        _check_numbers(self)
        if self.noise is not None:
            if len(self.noise.steps) != self.steps:
                raise InvalidSetting(
                    f"noise must plan {self.steps} steps, not {len(self.noise.steps)}; plan each"
                )
            if min(part[1] for part in (self.noise.gram, self.noise.cross, *self.noise.steps)) < 1:
                raise InvalidSetting("noise must be planned in fractions; send denominators above 0")
            _ = self.moments_loss()


def _check_channels(spec: VerticalSpec) -> None:
    names = spec.names
    if list(names) != sorted(set(names)) or len(names) < 2:
        raise InvalidSetting(f"channels={names} must be two or more, sorted, each once; name them so")
    if spec.label_channel not in names:
        raise InvalidSetting(
            f"label_channel={spec.label_channel!r} must be one of {names}; say who has the label"
        )
    owner: dict[str, str] = {spec.label: spec.label_channel, INTERCEPT: "the model"}
    for columns in spec.channels:
        if not columns.features:
            raise InvalidSetting(
                f"channel={columns.channel!r} must have a feature; leave it out of the training"
            )
        for name in columns.features:
            if name in owner:
                raise InvalidSetting(
                    f"feature={name!r} of channel={columns.channel!r} must be named once, but is also a name of"
                    f" {owner[name]!r}; rename one"
                )
            owner[name] = columns.channel
        if len(columns.bounds) != len(columns.features) or not all(
            -_LARGEST <= low < high <= _LARGEST for low, high in columns.bounds
        ):
            raise InvalidSetting(
                f"bounds of channel={columns.channel!r} must rise, one pair per feature; correct them"
            )
        if not 2**-10 <= columns.clip <= 2**10:
            raise InvalidSetting(
                f"clip={columns.clip} of channel={columns.channel!r} must be from 2^-10 to 2^10"
            )


_LARGEST: Final = 2.0**100
_MOST_STEPS: Final = 100


def _check_numbers(spec: VerticalSpec) -> None:
    low, high = spec.label_bounds
    if not -_LARGEST <= low < high <= _LARGEST or (spec.family == "logistic" and (low, high) != (0, 1)):
        raise InvalidSetting(
            f"label_bounds={spec.label_bounds} must rise, and be (0, 1) for a logistic model"
        )
    if not 1 <= spec.universe < 1 << 32:
        raise InvalidSetting(f"universe={spec.universe} must be at least 1 and below 2^32; align first")
    if not 0 <= spec.steps <= _MOST_STEPS:
        raise InvalidSetting(f"steps={spec.steps} must be 0 to {_MOST_STEPS}; pass 3")
    if not 2**-10 <= spec.constant <= 2**10:
        raise InvalidSetting(f"constant={spec.constant} must be from 2^-10 to 2^10; pass 0.5")
    bits = spec.precision
    if not (
        bits.score_bits <= bits.row_bits <= 24
        and 4 <= bits.score_bits <= 20
        and 8 <= bits.residual_bits <= 48
    ):
        raise InvalidSetting(
            f"precision={bits} must have 4 to 20 bits of scores, no more than of rows, at most 24 of these, and 8 to 48 of residuals"
        )
    gradient = spec.universe.bit_length() + bits.row_bits + bits.residual_bits + spec.residual_room
    gram = spec.universe.bit_length() + 2 * bits.row_bits
    if max(gradient, gram) > _RING_BITS:
        raise InvalidSetting(
            f"precision={bits} must leave room for the sum over {spec.universe} rows in 64 bits; lower residual_bits"
        )


def residual_room(family: Family, *, exact: bool) -> int:
    """Bits of a residual before its binary point: it is a bit above 1 in size, but where a cubic may be far off, or a score has no link."""
    return 1 if family == "logistic" and not exact else 3


def decode_spec(data: bytes) -> VerticalSpec:
    """Read what a channel is asked to agree on.

    Raises:
        BadMessage: it cannot be read, or contradicts itself.
    """
    spec = decode(data, VerticalSpec, party=SERVER)
    try:
        spec.check()
    except InvalidSetting as error:
        raise BadMessage(SERVER, f"must send an agreement that can be kept: {error}") from error
    return spec
