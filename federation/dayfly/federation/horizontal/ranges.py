"""How large a channel's sums can become, from what is agreed, and the fixed point that holds them.

Claim: the sum over all members' encoded vectors cannot wrap around (secagg.encoder, with `largest` checked by each member).
Argument: features lie in agreed bounds, so that scaled features, the linear predictor and hence every summand are bounded; a
channel has at most `most_rows` rows. Where a bound is not implied (a Poisson mean during the first steps), the member's encoder refuses.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dayfly.federation.errors import InvalidSetting
from dayfly.federation.horizontal.messages import Family, GlmSpec
from dayfly.federation.horizontal.starts import LARGEST_START

__all__ = ["encoding_of"]

_LEAST_BITS: Final = 12
_MOST_BITS: Final = 44
_MEAN_ROOM: Final = 4.0  # how far above the largest label a fitted Poisson mean may be


def encoding_of(
    spec: GlmSpec,
    family: Family,
    center: NDArray[np.float64],
    scale: NDArray[np.float64],
    coefficients: NDArray[np.float64],
    *,
    members: int,
    start: bool = False,
) -> tuple[float, int]:
    """Largest magnitude of a channel's sum, and the binary places that still fit.

    Raises:
        InvalidSetting: the bounds are so wide that fewer than 12 places are left; names the widest feature.
    """
    low, high = np.array(spec.bounds, np.float64).T
    reach = np.maximum(np.abs(low - center), np.abs(high - center)) / scale
    widest = max(1.0, float(reach.max()))
    predictor = min(float(abs(coefficients[0]) + np.abs(coefficients[1:]) @ reach), 1e4)
    label = spec.largest_label
    if family == "linear":
        label = 1.0 if spec.family == "linear" else max(1.0, label)
        residual, weight, deviance = label + predictor, 1.0, (label + predictor) ** 2
    elif family == "logistic":
        residual, weight, deviance = 1.0, 0.25, 2.0 * (predictor + 1.0)
    else:
        mean = _MEAN_ROOM * max(1.0, label)
        residual, weight, deviance = mean, mean, 2.0 * (label * (math.log1p(label) + predictor) + mean)
    if start:
        weight = (weight + 1.0) * LARGEST_START * len(coefficients)
    worst = max(widest**2 * max(weight, 1.0), widest * residual, deviance)
    largest = spec.most_rows * worst
    bits = min(_MOST_BITS, math.floor(62 - math.log2(members * largest)))
    if bits < _LEAST_BITS:
        name = spec.features[int(np.argmax(reach))]
        raise InvalidSetting(
            f"bounds of {name!r} must be closer: scaled, it reaches {widest:.3g}, and sums of {spec.most_rows} rows leave {bits}"
            " binary places; clip it, or lower most_rows"
        )
    return largest, bits
