"""Vertical training: channels with different features of the same customers train one model, one of them has the label."""

from .data import VerticalData
from .newton import Moments
from .party import VerticalParty
from .plan import LEAST_PRIVATE_ROWS, agree, plan_noise, precision_for
from .spec import INTERCEPT, ChannelColumns, NoisePlan, Precision, VerticalSpec
from .training import Release, VerticalFit, train_vertical

__all__ = [
    "INTERCEPT",
    "LEAST_PRIVATE_ROWS",
    "ChannelColumns",
    "Moments",
    "NoisePlan",
    "Precision",
    "Release",
    "VerticalData",
    "VerticalFit",
    "VerticalParty",
    "VerticalSpec",
    "agree",
    "plan_noise",
    "precision_for",
    "train_vertical",
]
