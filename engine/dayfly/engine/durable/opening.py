"""Opening a store: check the folder, recover, bury what died with the last process, and start the engine's thread."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from dayfly.engine.durable.assembling import Base, assembled
from dayfly.engine.durable.engine_keys import engine_keys, series_of
from dayfly.engine.durable.feed_tail import FeedKept
from dayfly.engine.durable.folder import first_snapshot, open_folder
from dayfly.engine.durable.outside import Outside
from dayfly.engine.durable.part import Part
from dayfly.engine.durable.recovery import recover
from dayfly.engine.durable.running import Running
from dayfly.engine.durable.settings import EngineSettings
from dayfly.engine.policy.model import Policy
from dayfly.engine.store import Log, Snapshots, oldest_position
from dayfly.privacy.keys import KeyProvider

__all__ = ["open_store"]


def open_store(
    folder: Path,
    keys: KeyProvider,
    *,
    policy: Policy | None,
    recipients: Mapping[str, str],
    settings: EngineSettings,
    outside: Outside,
    progress: Callable[[int], object] | None,
    part: Part | None = None,
) -> Running:
    """Open or make a store; see `Engine.open`. One that is a shard of several is told which."""
    now_ms = outside.now_ms()
    with ExitStack() as stack:
        slots = open_folder(folder, keys, policy, outside, stack, part=part)
        secrets = engine_keys(keys, slots, now_ms)
        files = Snapshots(folder / "snapshots", slots, tenant=keys.tenant_id, disk=outside.disk)
        oldest = oldest_position(folder / "log", slots, tenant=keys.tenant_id)
        found = files.newest(log_oldest=oldest)
        if found is None:
            found = first_snapshot(
                folder, files, slots, policy, series_of(secrets.lineage), begun=oldest is not None
            )
        log = Log.open(
            folder / "log",
            slots,
            tenant=keys.tenant_id,
            after=found[0],
            settings=outside.log,
            disk=outside.disk,
        )
        stack.callback(log.close)
        recovered = recover(
            *found,
            log.frames(found[0]),
            series=series_of(secrets.lineage),
            progress=progress,
            kept=FeedKept(settings.feed_retention_ms, settings.feed_items),
            expected_people=settings.expected_people,
        )
        running = assembled(
            Base(
                folder,
                keys.tenant_id,
                log,
                files,
                slots,
                secrets,
                recovered,
                stack,
                recipients,
                settings,
                outside,
                part,
            )
        )
        stack.callback(running.abandon)
        running.start(policy)
        if pending := running.erasures.pending():
            running.erasures.complete(pending, running.do)
        running.stack = stack.pop_all()
        return running
