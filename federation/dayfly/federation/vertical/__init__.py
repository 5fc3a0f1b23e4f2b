"""Vertical training: channels with different features of the same customers train one model, one of them has the label."""

from .data import VerticalData
from .newton import Moments, Release
from .party import VerticalParty
from .plan import LEAST_PRIVATE_ROWS, agree, plan_noise, precision_for
from .prediction import ScoringParty, score_together
from .scoring import ScoringSpec
from .spec import INTERCEPT, ChannelColumns, NoisePlan, Precision, VerticalSpec
from .training import VerticalFit, train_vertical

__all__ = [
    "INTERCEPT",
    "LEAST_PRIVATE_ROWS",
    "ChannelColumns",
    "Moments",
    "NoisePlan",
    "Precision",
    "Release",
    "ScoringParty",
    "ScoringSpec",
    "VerticalData",
    "VerticalFit",
    "VerticalParty",
    "VerticalSpec",
    "agree",
    "plan_noise",
    "precision_for",
    "score_together",
    "train_vertical",
]
