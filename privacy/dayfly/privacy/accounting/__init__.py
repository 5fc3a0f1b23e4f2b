"""Privacy accounting: frozen loss events, exact costs, and everything that turns one into the other.

Descriptions of loss (`losses`) are kept apart from what adds them up: `costs` for a ledger and for `filters` (parameters may be chosen as
answers come), `plans` for parameters that are fixed ahead, where privacy loss distributions (`pld`) are sharper. `calibration` and
`gaussian` go from a loss to a scale of noise, `selection` to thresholds of unknown keys, `intervals` to error bars.

Everything is exact (`Fraction`) or rounded against the one who asks. Names that need SciPy are imported when they are first used.
"""

import typing

from dayfly.privacy import _lazy

__all__ = [
    "ApproxLoss",
    "ComposedLoss",
    "Cost",
    "GaussianLoss",
    "KeySelection",
    "LaplaceLoss",
    "LossEvent",
    "NoLoss",
    "Odometer",
    "Plan",
    "PoissonSampledLoss",
    "PrivacyLoss",
    "PureFilter",
    "PureLoss",
    "RandomizedResponseLoss",
    "RepeatedLoss",
    "Sensitivity",
    "ThresholdLoss",
    "ZcdpFilter",
    "ZcdpLoss",
    "analytic_gaussian_scale",
    "cost_of",
    "delta_of_gaussian",
    "delta_of_rho",
    "epsilon_of_gaussian",
    "epsilon_of_rho",
    "exact_epsilon_of_rho",
    "gaussian_scale",
    "group_loss",
    "half_width",
    "laplace_scale",
    "loss_distribution",
    "noise_variance",
    "rho_of_epsilon_delta",
    "smallest_threshold",
    "tail_probability",
    "threshold_delta",
    "threshold_loss",
]

from .calibration import gaussian_scale, laplace_scale
from .conversions import delta_of_rho, epsilon_of_rho, exact_epsilon_of_rho, group_loss, rho_of_epsilon_delta
from .costs import Cost, cost_of
from .filters import Odometer, PureFilter, ZcdpFilter
from .losses import (
    ApproxLoss,
    ComposedLoss,
    GaussianLoss,
    LaplaceLoss,
    LossEvent,
    NoLoss,
    PoissonSampledLoss,
    PureLoss,
    RandomizedResponseLoss,
    RepeatedLoss,
    Sensitivity,
    ThresholdLoss,
    ZcdpLoss,
)

_HOMES: typing.Final = {
    "dayfly.privacy.accounting.gaussian": (
        "analytic_gaussian_scale",
        "delta_of_gaussian",
        "epsilon_of_gaussian",
    ),
    "dayfly.privacy.accounting.intervals": ("half_width", "noise_variance"),
    "dayfly.privacy.accounting.plans": ("Plan", "PrivacyLoss", "loss_distribution"),
    "dayfly.privacy.accounting.selection": (
        "KeySelection",
        "smallest_threshold",
        "tail_probability",
        "threshold_delta",
        "threshold_loss",
    ),
}

if typing.TYPE_CHECKING:
    from .gaussian import analytic_gaussian_scale, delta_of_gaussian, epsilon_of_gaussian
    from .intervals import half_width, noise_variance
    from .plans import Plan, PrivacyLoss, loss_distribution
    from .selection import KeySelection, smallest_threshold, tail_probability, threshold_delta, threshold_loss
else:
    __getattr__ = _lazy.loader(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
