"""Privacy accounting: frozen loss events, exact costs, conversions, calibration.

Descriptions of loss (`losses`) are kept apart from what adds them up (`costs`).
"""

from .calibration import gaussian_scale, laplace_scale
from .conversions import delta_of_rho, epsilon_of_rho, exact_epsilon_of_rho, group_loss, rho_of_epsilon_delta
from .costs import Cost, cost_of
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

__all__ = [
    "ApproxLoss",
    "ComposedLoss",
    "Cost",
    "GaussianLoss",
    "LaplaceLoss",
    "LossEvent",
    "NoLoss",
    "PoissonSampledLoss",
    "PureLoss",
    "RandomizedResponseLoss",
    "RepeatedLoss",
    "Sensitivity",
    "ThresholdLoss",
    "ZcdpLoss",
    "cost_of",
    "delta_of_rho",
    "epsilon_of_rho",
    "exact_epsilon_of_rho",
    "gaussian_scale",
    "group_loss",
    "laplace_scale",
    "rho_of_epsilon_delta",
]
