"""The parts of an open engine, wired together: their beginning, what they do after a turn, and their end."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from dayfly.engine.durable.backup import Backups
from dayfly.engine.durable.checkpoints import Checkpoints
from dayfly.engine.durable.clock import SteadyClock
from dayfly.engine.durable.erasure import Erasures
from dayfly.engine.durable.feed import Feed
from dayfly.engine.durable.host import Host
from dayfly.engine.durable.keeping import Keeper
from dayfly.engine.durable.loop import Loop
from dayfly.engine.durable.recovered import Recovered
from dayfly.engine.durable.release import Releases
from dayfly.engine.durable.settings import EngineSettings
from dayfly.engine.durable.undone import bury_the_lost, carry_out_undone
from dayfly.engine.durable.views import Views
from dayfly.engine.durable.work import Work, WorkQueue
from dayfly.engine.errors import EngineClosed, EngineFailed, LogFailed, StoreError
from dayfly.engine.health.collect import Board
from dayfly.engine.health.reporter import Reporter
from dayfly.engine.policy.model import Policy
from dayfly.engine.store import Log
from dayfly.privacy.fragments.tombstones.durable import DurableGraveyard
from dayfly.privacy.fragments.tombstones.log import TombstoneLog

__all__ = ["UPKEEP_MS", "Running"]

T = TypeVar("T")

UPKEEP_MS: Final = 60_000
"""How often retention ends are looked for."""


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
