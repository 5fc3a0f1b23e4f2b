"""Horizontal training: channels with the same features and different customers train one model by secure sums."""

from .averaging import Averaged, AverageRound, AverageSettings, average
from .data import Shard
from .glm import GlmFit, GlmSettings, RoundReport, train_glm
from .local_fit import FitWorkload, LocalFit
from .messages import GlmSpec
from .party import ChannelParty, Workload
from .private_averaging import PrivateAverage, PrivateSettings, average_privately
from .private_fit import PrivateFitWorkload, PrivateSpec
from .session import SecureSession, SecureSum
from .workload import GlmWorkload

__all__ = [
    "AverageRound",
    "AverageSettings",
    "Averaged",
    "ChannelParty",
    "FitWorkload",
    "GlmFit",
    "GlmSettings",
    "GlmSpec",
    "GlmWorkload",
    "LocalFit",
    "PrivateAverage",
    "PrivateFitWorkload",
    "PrivateSettings",
    "PrivateSpec",
    "RoundReport",
    "SecureSession",
    "SecureSum",
    "Shard",
    "Workload",
    "average",
    "average_privately",
    "train_glm",
]
