"""One store over several cores: events routed by pseudonym to shards in processes of their own. `ShardedEngine` is what a service embeds."""

from .backups import restore_sharded
from .desk import ShardedReceipt
from .dispatch import ShardedDispatcher
from .engine import ShardedEngine
from .feed import ShardedSubscription

__all__ = [
    "ShardedDispatcher",
    "ShardedEngine",
    "ShardedReceipt",
    "ShardedSubscription",
    "restore_sharded",
]
