"""The shard: exact windows, tags, consent and orders as one deterministic state machine."""

from .shard import Shard

__all__ = ["Shard"]
