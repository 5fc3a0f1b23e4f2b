"""From what is wanted (a model, a total loss) to an agreement that all channels can keep.

Claim: the releases of a planned training compose to (epsilon, delta)-DP for one customer, whatever channels it is in.
Precondition: as `party`.
Argument: zCDP adds up over releases, also when a later one depends on what was opened before; the shares of rho add up to at most the rho that implies
(epsilon, delta), less a part of 2^-30 for what distributed noise loses against one draw.
Source: Bun, Steinke 2016 (composition); Canonne, Kamath, Steinke 2020, Corollary 13 (conversion).
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Final, Literal

from dayfly.federation.errors import InvalidSetting
from dayfly.federation.vertical.spec import ChannelColumns, NoisePlan, Precision, VerticalSpec, residual_room
from dayfly.privacy.accounting import rho_of_epsilon_delta

__all__ = ["LEAST_PRIVATE_ROWS", "agree", "plan_noise", "precision_for"]

LEAST_PRIVATE_ROWS: Final = 10_000
"""Below it noise that protects a customer hides the model, at any loss that protects much."""
_ROUNDING: Final = 1 - Fraction(1, 1 << 30)
_RING_BITS: Final = 62
_ROW_BITS, _SCORE_BITS, _MOST_RESIDUAL_BITS = 12, 6, 36
_EXACT_ROW_BITS: Final = 14


def precision_for(
    universe: int, *, family: Literal["linear", "logistic"] = "logistic", exact: bool = False
) -> Precision:
    """Binary places that fill the ring for so many rows.

    Args:
        universe: Rows of the common space.
        family: Of the model.
        exact: Whether sums are opened without noise; rows are then rounded more finely.

    Raises:
        InvalidSetting: there are too many rows.
    """
    row_bits = _EXACT_ROW_BITS if exact else _ROW_BITS
    room = residual_room(family, exact=exact)
    score_bits = _SCORE_BITS if family == "logistic" else _ROW_BITS  # no cube, no need to save bits
    residual_bits = min(_RING_BITS - universe.bit_length() - row_bits - room, _MOST_RESIDUAL_BITS)
    if residual_bits < 3 * _SCORE_BITS + 8:
        raise InvalidSetting(f"universe={universe} must be below 2^22 rows; train on a part of them")
    return Precision(row_bits, score_bits, residual_bits)


def plan_noise(
    epsilon: Fraction,
    delta: Fraction,
    steps: int,
    *,
    gram_share: Fraction = Fraction(35, 100),
    colluding: int = 1,
) -> NoisePlan:
    """Split a total loss: a part to the second moments, the rest evenly over the label's moments and the gradients.

    Args:
        epsilon: Of all releases together, for one customer.
        delta: Of the same.
        steps: Gradients.
        gram_share: Part of the second moments, between 0 and 1.
        colluding: How many channels may tell others their noise.
    """
    if not 0 < gram_share < 1:
        raise InvalidSetting(f"gram_share={gram_share} must lie between 0 and 1; pass Fraction(35, 100)")
    total = rho_of_epsilon_delta(epsilon, delta) * _ROUNDING
    gram, rest = total * gram_share, total * (1 - gram_share) / (steps + 1)
    return NoisePlan(_pair(gram), _pair(rest), (_pair(rest),) * steps, colluding)


def _pair(rho: Fraction) -> tuple[int, int]:
    """A fraction that is not above, in 48 bits."""
    denominator = 1 << 48
    return int(rho * denominator), denominator


def agree(
    channels: Sequence[ChannelColumns],
    *,
    label: str,
    label_channel: str,
    alignment: bytes,
    universe: int,
    purpose: str,
    family: Literal["linear", "logistic"] = "logistic",
    label_bounds: tuple[float, float] = (0.0, 1.0),
    steps: int = 3,
    constant: float = 0.5,
    noise: NoisePlan | None,
    accept_few_rows: bool = False,
) -> VerticalSpec:
    """An agreement, checked.

    Args:
        channels: Their features, with public bounds.
        label: Name of the label.
        label_channel: Who has it.
        alignment: Run of the alignment that made the common space.
        universe: Rows of the common space.
        purpose: For which the customers' consents must be.
        family: Link identity or logit.
        label_bounds: Public; beyond them labels are refused.
        steps: Gradients after the one-shot solution.
        constant: Size of the intercept's column beside features that reach from -1 to 1.
        noise: From `plan_noise`; None opens exact sums, which is no differential privacy and must be allowed by each channel.
        accept_few_rows: Train with noise on fewer than 10,000 rows all the same.

    Raises:
        InvalidSetting: names what breaks its rule.
    """
    if noise is not None and universe < LEAST_PRIVATE_ROWS and not accept_few_rows:
        raise InvalidSetting(
            f"universe={universe} must be at least {LEAST_PRIVATE_ROWS} for training with noise: noise that hides one customer among so few"
            " hides the model, too; gather more rows, train without noise where that is allowed, or pass accept_few_rows=True"
        )
    spec = VerticalSpec(
        family,
        label,
        label_bounds,
        label_channel,
        tuple(sorted(channels, key=lambda columns: columns.channel)),
        alignment,
        universe,
        purpose,
        steps,
        precision_for(universe, family=family, exact=noise is None),
        constant,
        noise,
    )
    spec.check()
    return spec
