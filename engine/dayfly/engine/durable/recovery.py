"""Coming back: the newest snapshot, then every durable frame after it, then what the crash left undone.

Replay tells the shard again what it was told and folds the effects that were carried out. Orders whose effects are not in
the log were shown to nobody: they are handed back to be carried out now. Fragments whose end is not in the log died with
their keys, which were in memory only: they get their tombstones now.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from dayfly.engine.durable.feed_tail import FeedKept
from dayfly.engine.durable.reading_ahead import StoredFrame, decoded_ahead
from dayfly.engine.durable.recovered import Recovered
from dayfly.engine.durable.replaying import replaying
from dayfly.engine.durable.standing import Standing, read_standing
from dayfly.engine.errors import FrameError
from dayfly.engine.health.meter import ChannelMeter
from dayfly.engine.policy.load import policy_from_source
from dayfly.engine.policy.model import Policy
from dayfly.engine.shard import Shard

__all__ = ["METER", "POLICY", "SHARD", "STANDING", "fresh_parts", "recover"]

POLICY: Final = "policy"
SHARD: Final = "shard"
STANDING: Final = "standing"
METER: Final = "meter"
"""Parts of a snapshot."""


def fresh_parts(policy: Policy, series: Callable[[bytes, str], bytes]) -> dict[str, bytes]:
    """The first snapshot of a store: nobody known, a policy in force.

    Raises:
        ShardError: the policy does not compile.
    """
    return {
        POLICY: policy.source,
        SHARD: Shard(policy).snapshot(),
        STANDING: Standing(series).to_bytes(()),
        METER: ChannelMeter(policy.catalog).to_bytes(),
    }


def recover(
    position: int,
    parts: Mapping[str, bytes],
    frames: Iterable[StoredFrame],
    *,
    series: Callable[[bytes, str], bytes],
    progress: Callable[[int], object] | None = None,
    kept: FeedKept | None = None,
    **shard_options: Any,
) -> Recovered:
    """State after a snapshot and the frames that follow it.

    Args:
        position: Log position of the snapshot.
        parts: Its content.
        frames: Every durable frame after it, in order.
        series: Keyed digest of subject and trigger, for the feed.
        progress: Told the number of frames replayed, after each.
        kept: How much the feed keeps.
        **shard_options: As for `Shard.restore`.

    Raises:
        FrameError: a frame or part cannot be read, or the frames do not follow the snapshot.
        SnapshotError: the shard's part is not of this version.
    """
    for name in (POLICY, SHARD, STANDING, METER):
        if name not in parts:
            raise FrameError(f"part={name!r} must be in the snapshot; use an older snapshot")
    policy = policy_from_source(bytes(parts[POLICY]))
    standing, items = read_standing(bytes(parts[STANDING]), series)
    shard = Shard.restore(bytes(parts[SHARD]), policy, **shard_options)
    meter = ChannelMeter.from_bytes(bytes(parts[METER]), policy.catalog)
    recovered = Recovered(shard, standing, meter, items, position=position)
    with replaying(recovered, kept or FeedKept()) as replay, decoded_ahead(frames) as ahead:
        for decoded in ahead:
            frame = decoded.frame
            if frame.position != recovered.position + 1:
                raise FrameError(
                    f"frame position={frame.position} must be {recovered.position + 1}; restore the store from a backup"
                )
            recovered.position = frame.position
            recovered.frames += 1
            replay.take(decoded)
            if progress is not None:
                progress(recovered.frames)
        replay.finish()
    return recovered
