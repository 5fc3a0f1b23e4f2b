"""Opening a store: check the folder, recover, bury what died with the last process, and start the engine's thread."""

import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, TypeVar

from dayfly.engine.deadletters import DeadLetters, DeadLetterSettings
from dayfly.engine.durable.backup import Backups
from dayfly.engine.durable.checkpoints import Checkpoints
from dayfly.engine.durable.clock import SteadyClock
from dayfly.engine.durable.erasure import Erasures
from dayfly.engine.durable.feed import Feed
from dayfly.engine.durable.feed_tail import FeedKept
from dayfly.engine.durable.host import Host
from dayfly.engine.durable.keeping import Keeper
from dayfly.engine.durable.loop import Loop
from dayfly.engine.durable.part import Part
from dayfly.engine.durable.recording import LineageView
from dayfly.engine.durable.recovered import Recovered
from dayfly.engine.durable.recovery import fresh_parts, recover
from dayfly.engine.durable.release import Releases
from dayfly.engine.durable.settings import EngineSettings
from dayfly.engine.durable.undone import bury_the_lost, carry_out_undone
from dayfly.engine.durable.views import AuditFile, Views, heal_views
from dayfly.engine.durable.work import Work, WorkQueue
from dayfly.engine.errors import (
    EngineClosed,
    EngineFailed,
    LogFailed,
    RunError,
    StoreDamaged,
    StoreError,
    StoreForeign,
)
from dayfly.engine.health.collect import Board
from dayfly.engine.health.reporter import Reporter
from dayfly.engine.intake import IntakeKeys
from dayfly.engine.lineage.vault import LineageVault, VaultSettings
from dayfly.engine.policy.model import Policy
from dayfly.engine.runtime import EngineKeys, MemoryEngine, Resume
from dayfly.engine.store import (
    LOCAL_DISK,
    Disk,
    Log,
    LogSettings,
    Snapshots,
    StoreLock,
    StoreMarker,
    oldest_position,
)
from dayfly.privacy.fragments import ServiceSettings
from dayfly.privacy.fragments.tombstones.durable import DurableGraveyard
from dayfly.privacy.fragments.tombstones.log import TombstoneLog
from dayfly.privacy.keys import KeyName, KeyProvider, ProbeDayKeys, SlotKeys

__all__ = ["Outside", "Running", "engine_keys", "open_folder", "open_store", "series_of"]

T = TypeVar("T")

KEY_FILE: Final = "keys.slots"
UPKEEP_MS: Final = 60_000
"""How often retention ends are looked for."""


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Outside:
    """What an engine takes from outside.

    Attributes:
        now_ms: The wall clock, int64 milliseconds UTC.
        random_bytes: Randomness for token ids, salts and nonces.
        issuer: `iss` of every fragment.
        lease_url: Where CRMs lease keys.
        fragments: Limits of the fragment service.
        log: How the log is laid out and commits.
        disk: File operations of log and snapshots.
        lineage, letters: Periods and retention of lineage and dead letters.
    """

    now_ms: Callable[[], int] = _wall_ms
    random_bytes: Callable[[int], bytes] = os.urandom
    issuer: str = "https://cdp.example"
    lease_url: str = "https://cdp.example/lease"
    fragments: ServiceSettings = field(default_factory=ServiceSettings)
    log: LogSettings = field(default_factory=LogSettings)
    disk: Disk = LOCAL_DISK
    lineage: VaultSettings = field(default_factory=VaultSettings)
    letters: DeadLetterSettings = field(default_factory=DeadLetterSettings)


@dataclass(slots=True)
class Running:
    """The parts of an open engine, and their beginning and end."""

    host: Host
    log: Log
    feed: Feed
    queue: WorkQueue
    releases: Releases
    views: Views
    graves: DurableGraveyard
    stones: TombstoneLog
    clock: SteadyClock
    recovered: Recovered
    settings: EngineSettings
    forget_probe_days: Callable[[int], object]
    checkpoints: Checkpoints
    keeper: Keeper = field(init=False)
    erasures: Erasures = field(init=False)
    backups: Backups = field(init=False)
    loop: Loop = field(init=False)
    board: Board = field(init=False)
    reporter: Reporter = field(init=False)
    stack: ExitStack = field(default_factory=ExitStack)
    failure: EngineFailed | None = None
    closed: bool = False
    next_checkpoint_ms: int = 0
    next_upkeep_ms: int = 0
    viewing: threading.Lock = field(default_factory=threading.Lock)

    def do(self, run: Callable[[int], T], *, weight: int = 1) -> T:
        """Run something on the engine's thread, and wait until it is durable.

        Raises:
            EngineFailed, EngineClosed, EngineBusy: it was not run.
        """
        future: Future[Any] = Future()
        self.put(Work(run, future, weight=weight))
        result: T = future.result()
        return result

    def put(self, work: Work) -> None:
        """Queue a call. Raises as `do`."""
        if self.failure is not None:
            raise EngineFailed(str(self.failure)) from self.failure
        self.queue.put(work)

    def trouble(self, trouble: StoreError | None) -> None:
        """Trouble of the log: when it has failed, the engine has."""
        if isinstance(trouble, LogFailed):
            self.fail(trouble)

    def fail(self, error: BaseException) -> None:
        """Stop everything: the state in memory may differ from the log, so nothing may be decided with it any more."""
        if self.failure is not None:
            return
        self.failure = EngineFailed(
            f"engine=<failed> must be opened again: {type(error).__name__}: {error}; what was acknowledged is safe on disk"
        )
        self.failure.__cause__ = error
        for work in self.queue.close():
            if work.future.set_running_or_notify_cancel():
                work.future.set_exception(self.failure)
        self.loop.halt()
        self.releases.fail(self.failure)
        self.feed.close()
        self.host.engine.fragments.destroy_keys()

    def close(self) -> None:
        """End everything in order; twice does nothing."""
        if self.closed:
            return
        self.closed = True
        refused = EngineClosed("engine=<closed> must be open; open the store again")
        self.queue.refuse()
        self.loop.stop()
        for work in self.queue.close():
            if work.future.set_running_or_notify_cancel():
                work.future.set_exception(refused)
        with self.stack:  # whatever goes wrong, keys are destroyed and the folder is released
            self.keeper.stop()
            self.checkpoints.stop()
            if self.failure is None:
                self._last_turn()

    def abandon(self) -> None:
        """Stop all threads and destroy every key; whatever was not logged is lost."""
        self.loop.halt()
        self.loop.stop()
        self.keeper.stop()
        self.checkpoints.stop()
        self.feed.close()
        self.host.engine.fragments.destroy_keys()

    def _last_turn(self) -> None:
        """Destroy what is alive, log the deaths, and write a last snapshot so that the next start is quick."""
        self.host.close_fragments()
        self.checkpoints.signed = len(self.graves)
        self.settle()
        self.keeper.write(*self.keeper.image())

    def settle(self) -> None:
        """End a turn outside the loop, or in the middle of one, and wait for it; the views then hold what the log holds."""
        turn = self.host.end_turn()
        self.releases.add(turn, ())
        self.log.wait(turn.position)
        self.releases.durable(turn.position)
        self.write_views()

    def settle_views(self) -> None:
        """As `settle`, with the views durable; on the engine's thread."""
        self.settle()
        with self.viewing:
            self.views.flush()
            self.views.sync()

    def write_views(self) -> None:
        """Write what became durable into the views; on the engine's thread, or when it has ended."""
        with self.viewing:
            self.views.write(self.releases.take_views())

    def sync_views(self) -> None:
        """Make the views durable up to now; from any thread."""
        if self.loop.running:
            self.do(self._sync_views)
        else:
            self._sync_views(self.clock())

    def _sync_views(self, now_ms: int) -> None:
        self.releases.durable(self.log.durable)  # the committer's thread may not have come to tell it
        self.write_views()
        self.checkpoints.sign_now(self.host.engine.fragments, now_ms)
        with self.viewing:
            self.views.sync()

    def start(self, policy: Policy | None) -> None:
        """Bury the lost, do what was left undone, publish a changed policy, and start the thread."""
        now_ms = self.clock()
        bury_the_lost(self.host, self.graves, self.stones, now_ms)
        carry_out_undone(self.host, self.recovered, now_ms)
        if policy is not None and policy.digest != self.host.engine.shard.policy.digest:
            self.host.note(self.host.engine.publish(policy, now_ms))
        self.settle()
        self.board.gather(now_ms)
        self.loop.start()
        self.reporter.start()

    def after_turn(self, now_ms: int) -> None:
        """Keep views, checkpoints and snapshots up; on the engine's thread."""
        self.write_views()
        self.checkpoints.go_on(self.log.durable)
        if now_ms >= self.next_checkpoint_ms:
            self.next_checkpoint_ms = now_ms + self.settings.checkpoint_ms
            self.checkpoints.begin(self.host.engine.fragments, self.host.position, now_ms)
            self.views.flush()
        if now_ms >= self.next_upkeep_ms:
            self.next_upkeep_ms = now_ms + UPKEEP_MS
            self.views.expire(now_ms)
            self.forget_probe_days(now_ms)
        self.board.after_turn(now_ms)
        if self.keeper.due():
            self.keeper.begin()


def engine_keys(keys: KeyProvider, slots: SlotKeys, now_ms: int) -> EngineKeys:
    """The keys of an engine, from where they are kept."""
    notes = keys.notes()
    return EngineKeys(
        intake=IntakeKeys(keys.pseudonyms(), keys.key(KeyName.DIGEST), keys.probes(ProbeDayKeys(slots))),
        signing=keys.signing(now_ms),
        notes=notes.signer,
        notes_verifier=notes.verifier,
        notes_public=notes.public,
        pairwise=keys.key(KeyName.PAIRWISE),
        lineage=keys.key(KeyName.LINEAGE),
        audit=keys.key(KeyName.AUDIT),
    )


def _probe_days(secrets: EngineKeys, slots: SlotKeys) -> Callable[[int], object]:
    """Destroys the probe keys of earlier days, also when no probe comes."""
    probes, days = secrets.intake.probes, ProbeDayKeys(slots)
    return lambda now_ms: None if probes is None else days.forget_before(probes.local_day(now_ms))


def series_of(key: bytes) -> Callable[[bytes, str], bytes]:
    """Digest of a subject and a trigger under the lineage key: says which fragments replace each other, and no more."""

    def digest(subject: bytes, trigger: str) -> bytes:
        return blake2b(
            subject + trigger.encode(), digest_size=16, key=key, person=b"dayfly-series-1"
        ).digest()

    return digest


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
            found = _first_snapshot(
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
        base = _Base(folder, keys.tenant_id, log, files, slots, secrets, recovered, stack)
        running = _assembled(base, recipients, settings, outside, part)
        stack.callback(running.abandon)
        running.start(policy)
        if pending := running.erasures.pending():
            running.erasures.complete(pending, running.do)
        running.stack = stack.pop_all()
        return running


def _first_snapshot(
    folder: Path,
    files: Snapshots,
    slots: SlotKeys,
    policy: Policy | None,
    series: Callable[[bytes, str], bytes],
    *,
    begun: bool,
) -> tuple[int, Mapping[str, bytes]]:
    """The snapshot that a new store begins with; a store whose log has begun had one."""
    if begun or slots.live("log"):
        raise StoreDamaged(
            f"folder={str(folder / 'snapshots')!r} must hold the snapshot that the log goes on from; put the missing files"
            " back, or restore the store from a backup",
            path=str(folder / "snapshots"),
        )
    if policy is None:
        raise RunError(f"policy=None must be given for a new store in {str(folder)!r}; pass its first policy")
    files.write(0, fresh_parts(policy, series))
    found = files.newest()
    assert found is not None
    return found


def open_folder(
    folder: Path,
    keys: KeyProvider,
    policy: Policy | None,
    outside: Outside,
    stack: ExitStack,
    *,
    shards: int = 1,
    part: Part | None = None,
) -> SlotKeys:
    """Check, or make, the folder; lock it; open its data keys.

    Raises:
        StoreForeign: another tenant's store, one of another number of shards, or a shard that is opened by itself.
    """
    marker = StoreMarker.find(folder)
    if marker is not None:
        _check_shards(folder, marker, shards, part)
    if marker is None and policy is None:
        raise RunError(f"policy=None must be given for a new store in {str(folder)!r}; pass its first policy")
    if marker is None:
        folder.mkdir(parents=True, exist_ok=True)
    stack.enter_context(StoreLock.acquire(folder, started_ms=outside.now_ms()))
    options: Any = {
        "tenant": keys.tenant_id,
        "random_bytes": outside.random_bytes,
        "now_ms": outside.now_ms,
    }
    if marker is None:
        StoreMarker.create(
            folder,
            tenant=keys.tenant_id,
            created_ms=outside.now_ms() if part is None else part.made_ms,
            shards=shards if part is None else part.shards,
            shard=None if part is None else part.number,
        )
    else:
        StoreMarker.read(folder, tenant=keys.tenant_id)
    path = folder / KEY_FILE
    if not path.exists() and any(name.is_dir() for name in folder.iterdir()):
        raise StoreDamaged(
            f"path={str(path)!r} must hold the data keys of what is beside it; put it back, or restore the store from a backup",
            path=str(path),
        )
    made = SlotKeys.open if path.exists() else SlotKeys.new
    slots = made(path, keys.keks(), **options)
    stack.callback(slots.close)
    return slots


def _check_shards(folder: Path, marker: StoreMarker, shards: int, part: Part | None) -> None:
    """Refuse a store that is split in another way, and a shard of another store, or in another's place."""
    if part is None and marker.shard is not None:
        raise StoreForeign(
            f"folder={str(folder)!r} must be a whole store and is shard {marker.shard} of {marker.shards}; open the folder"
            f" above it with shards={marker.shards}"
        )
    if part is None and marker.shards != shards:
        raise StoreForeign(
            f"shards={shards} must be {marker.shards}, which {str(folder)!r} was made with; open it with that number"
        )
    if part is not None and (marker.shard, marker.shards, marker.created_ms) != (
        part.number,
        part.shards,
        part.made_ms,
    ):
        raise StoreForeign(
            f"folder={str(folder)!r} must be shard {part.number} of {part.shards} of this store; put the right folder back"
        )


@dataclass(frozen=True, slots=True)
class _Base:
    """What is there once a store was read."""

    folder: Path
    tenant: bytes
    log: Log
    files: Snapshots
    slots: SlotKeys
    secrets: EngineKeys
    recovered: Recovered
    stack: ExitStack


def _assembled(
    base: _Base,
    recipients: Mapping[str, str],
    settings: EngineSettings,
    outside: Outside,
    part: Part | None,
) -> Running:
    """All parts, wired together."""
    folder, log, secrets, recovered, stack = base.folder, base.log, base.secrets, base.recovered, base.stack
    standing = recovered.standing
    host = Host(
        standing,
        log,
        recovered.position,
        meter=recovered.meter,
        frame_bytes=outside.log.max_payload_bytes,
        tags_in_feed=settings.tags_in_feed,
    )
    stones = TombstoneLog(folder / "tombstones", verifiers=[secrets.notes_verifier])
    graves = DurableGraveyard(stones, secrets.notes, ready=host.ready)
    stack.callback(graves.close)
    for first, entries in recovered.stones:
        graves.restore(first, entries)
    sealed: Any = {"keys": base.slots, "tenant": base.tenant, "random_bytes": outside.random_bytes}
    vault = LineageVault(
        folder / "lineage.db", subject_key=secrets.lineage, settings=outside.lineage, **sealed
    )
    stack.callback(vault.close)
    lineage = LineageView(vault)
    audit = AuditFile(folder / "audit.jsonl")
    stack.callback(audit.close)
    letters = DeadLetters(folder / "dead", settings=outside.letters, **sealed)
    stack.callback(letters.close)
    views = Views(audit, lineage, letters, graves)
    engine = MemoryEngine(
        recovered.shard.policy,
        secrets,
        recipients=recipients,
        random_bytes=outside.random_bytes,
        issuer=outside.issuer,
        lease_url=outside.lease_url,
        audit=host.audit,
        lineage=lineage,
        settings=outside.fragments,
        tap=host.tap,
        resume=Resume(recovered.shard, standing.transfers, standing.audit, graves),
        shards=1 if part is None else part.shards,
        nonce_key=None if part is None else part.nonce_key,
    )
    host.use(engine, lineage, graves)
    feed = Feed(
        next_position=standing.next_item - len(recovered.items),
        retention_ms=settings.feed_retention_ms,
        max_items=settings.feed_items,
    )
    feed.publish(recovered.items)
    running = Running(
        host=host,
        log=log,
        feed=feed,
        queue=WorkQueue(max_events=settings.max_waiting_events, patience_seconds=settings.patience_seconds),
        releases=Releases(feed),
        views=views,
        graves=graves,
        stones=stones,
        clock=SteadyClock(outside.now_ms, start_ms=recovered.shard.clock_ms),
        recovered=recovered,
        settings=settings,
        forget_probe_days=_probe_days(secrets, base.slots),
        checkpoints=Checkpoints(graves),
    )
    heal_views(views, recovered)
    running.keeper = Keeper(
        host, log, base.files, running.releases.items, settings, sync_views=running.sync_views
    )
    running.erasures = Erasures(
        host,
        running.keeper,
        feed,
        base.slots,
        signer=secrets.notes,
        now_ms=running.clock,
        random_bytes=outside.random_bytes,
    )
    running.backups = Backups(
        folder,
        base.slots,
        tenant=base.tenant,
        keeper=running.keeper,
        views=views,
        stones=stones,
        settle=running.settle_views,
        erasing=running.erasures.pending,
    )
    running.loop = Loop(
        host,
        running.queue,
        running.releases,
        running.clock,
        settings,
        after_turn=running.after_turn,
        failed=running.fail,
    )
    running.board = Board(running)
    running.reporter = Reporter(running.board, folder, every_seconds=settings.health_seconds)
    stack.callback(lambda: running.reporter.stop(running.clock()))
    log.on_durable(running.releases.durable)
    log.on_trouble(running.trouble)
    return running
