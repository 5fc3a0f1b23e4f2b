"""All parts of an engine, made and wired together."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dayfly.engine.deadletters import DeadLetters
from dayfly.engine.durable.backup import Backups
from dayfly.engine.durable.checkpoints import Checkpoints
from dayfly.engine.durable.clock import SteadyClock
from dayfly.engine.durable.engine_keys import probe_days
from dayfly.engine.durable.erasure import Erasures
from dayfly.engine.durable.feed import Feed
from dayfly.engine.durable.host import Host
from dayfly.engine.durable.keeping import Keeper
from dayfly.engine.durable.loop import Loop
from dayfly.engine.durable.outside import Outside
from dayfly.engine.durable.part import Part
from dayfly.engine.durable.recording import LineageView
from dayfly.engine.durable.recovered import Recovered
from dayfly.engine.durable.release import Releases
from dayfly.engine.durable.running import Running
from dayfly.engine.durable.settings import EngineSettings
from dayfly.engine.durable.views import AuditFile, Views, heal_views
from dayfly.engine.durable.work import WorkQueue
from dayfly.engine.health.collect import Board
from dayfly.engine.health.reporter import Reporter
from dayfly.engine.lineage.vault import LineageVault
from dayfly.engine.runtime import EngineKeys, MemoryEngine, Resume
from dayfly.engine.store import Log, Snapshots
from dayfly.privacy.fragments.tombstones.durable import DurableGraveyard
from dayfly.privacy.fragments.tombstones.log import TombstoneLog
from dayfly.privacy.keys import SlotKeys

__all__ = ["Base", "assembled"]


@dataclass(frozen=True, slots=True)
class Base:
    """What is there once a store was read, and what the engine was told when it was opened."""

    folder: Path
    tenant: bytes
    log: Log
    files: Snapshots
    slots: SlotKeys
    secrets: EngineKeys
    recovered: Recovered
    stack: ExitStack
    recipients: Mapping[str, str]
    settings: EngineSettings
    outside: Outside
    part: Part | None

    @property
    def sealed(self) -> dict[str, Any]:
        """What everything takes that writes sealed files."""
        return {"keys": self.slots, "tenant": self.tenant, "random_bytes": self.outside.random_bytes}


def assembled(base: Base) -> Running:
    """All parts, wired together; nothing runs yet."""
    settings, recovered = base.settings, base.recovered
    host = Host(
        recovered.standing,
        base.log,
        recovered.position,
        meter=recovered.meter,
        frame_bytes=base.outside.log.max_payload_bytes,
        tags_in_feed=settings.tags_in_feed,
    )
    stones, graves = _graves(base, host)
    views = _views(base, graves)
    host.use(_engine(base, host, views, graves), views.lineage, graves)
    feed = _feed(base)
    running = Running(
        host=host,
        log=base.log,
        feed=feed,
        queue=WorkQueue(max_events=settings.max_waiting_events, patience_seconds=settings.patience_seconds),
        releases=Releases(feed),
        views=views,
        graves=graves,
        stones=stones,
        clock=SteadyClock(base.outside.now_ms, start_ms=recovered.shard.clock_ms),
        recovered=recovered,
        settings=settings,
        forget_probe_days=probe_days(base.secrets, base.slots),
        checkpoints=Checkpoints(graves),
    )
    heal_views(views, recovered)
    _keep(base, running)
    _run(base, running)
    base.log.on_durable(running.releases.durable)
    base.log.on_trouble(running.trouble)
    return running


def _graves(base: Base, host: Host) -> tuple[TombstoneLog, DurableGraveyard]:
    """The tombstone log, with what it may have missed."""
    stones = TombstoneLog(base.folder / "tombstones", verifiers=[base.secrets.notes_verifier])
    graves = DurableGraveyard(stones, base.secrets.notes, ready=host.ready)
    base.stack.callback(graves.close)
    for first, entries in base.recovered.stones:
        graves.restore(first, entries)
    return stones, graves


def _views(base: Base, graves: DurableGraveyard) -> Views:
    """Everything that is written when the log is durable."""
    vault = LineageVault(
        base.folder / "lineage.db",
        subject_key=base.secrets.lineage,
        settings=base.outside.lineage,
        **base.sealed,
    )
    base.stack.callback(vault.close)
    audit = AuditFile(base.folder / "audit.jsonl")
    base.stack.callback(audit.close)
    letters = DeadLetters(base.folder / "dead", settings=base.outside.letters, **base.sealed)
    base.stack.callback(letters.close)
    return Views(audit, LineageView(vault), letters, graves)


def _engine(base: Base, host: Host, views: Views, graves: DurableGraveyard) -> MemoryEngine:
    """The engine in memory, as it was recovered, with the host as its recorder."""
    outside, recovered, standing = base.outside, base.recovered, base.recovered.standing
    return MemoryEngine(
        recovered.shard.policy,
        base.secrets,
        recipients=base.recipients,
        random_bytes=outside.random_bytes,
        issuer=outside.issuer,
        lease_url=outside.lease_url,
        audit=host.audit,
        lineage=views.lineage,
        settings=outside.fragments,
        tap=host.tap,
        resume=Resume(recovered.shard, standing.transfers, standing.audit, graves),
        shards=1 if base.part is None else base.part.shards,
        nonce_key=None if base.part is None else base.part.nonce_key,
    )


def _feed(base: Base) -> Feed:
    """The feed, with what it still keeps."""
    recovered, settings = base.recovered, base.settings
    feed = Feed(
        next_position=recovered.standing.next_item - len(recovered.items),
        retention_ms=settings.feed_retention_ms,
        max_items=settings.feed_items,
    )
    feed.publish(recovered.items)
    return feed


def _keep(base: Base, running: Running) -> None:
    """What writes snapshots, erases persons and makes backups."""
    running.keeper = Keeper(
        running.host,
        base.log,
        base.files,
        running.releases.items,
        base.settings,
        sync_views=running.sync_views,
    )
    running.erasures = Erasures(
        running.host,
        running.keeper,
        running.feed,
        base.slots,
        signer=base.secrets.notes,
        now_ms=running.clock,
        random_bytes=base.outside.random_bytes,
    )
    running.backups = Backups(
        base.folder,
        base.slots,
        tenant=base.tenant,
        keeper=running.keeper,
        views=running.views,
        stones=running.stones,
        settle=running.settle_views,
        erasing=running.erasures.pending,
    )


def _run(base: Base, running: Running) -> None:
    """The engine's thread, and the board that is kept beside it."""
    running.loop = Loop(
        running.host,
        running.queue,
        running.releases,
        running.clock,
        base.settings,
        after_turn=running.after_turn,
        failed=running.fail,
    )
    running.board = Board(running)
    running.reporter = Reporter(running.board, base.folder, every_seconds=base.settings.health_seconds)
    base.stack.callback(lambda: running.reporter.stop(running.clock()))
