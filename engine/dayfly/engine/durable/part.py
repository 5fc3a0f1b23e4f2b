"""What a store is told that is one shard of several."""

from dataclasses import dataclass, field

__all__ = ["Part"]


@dataclass(frozen=True, slots=True)
class Part:
    """Which shard a store is, of which sharded store.

    Attributes:
        number: 0, 1, 2, ...
        shards: How many there are.
        made_ms: When the sharded store was made; tells its shards from those of another one.
        nonce_key: 32 bytes that all shards make lease nonces with, so that a CRM need not know which shard it talks to; new
            each time the store is opened.
    """

    number: int
    shards: int
    made_ms: int
    nonce_key: bytes = field(repr=False)
