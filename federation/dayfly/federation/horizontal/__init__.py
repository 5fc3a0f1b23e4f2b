"""Horizontal training: channels with the same features and different customers train one model by secure sums."""

from .data import Shard
from .glm import GlmFit, GlmSettings, RoundReport, train_glm
from .messages import GlmSpec
from .party import ChannelParty, Workload
from .session import SecureSession, SecureSum
from .workload import GlmWorkload

__all__ = [
    "ChannelParty",
    "GlmFit",
    "GlmSettings",
    "GlmSpec",
    "GlmWorkload",
    "RoundReport",
    "SecureSession",
    "SecureSum",
    "Shard",
    "Workload",
    "train_glm",
]
