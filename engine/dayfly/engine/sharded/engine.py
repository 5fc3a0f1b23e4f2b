"""`ShardedEngine`: one store over several processes, with the calls of `Engine`."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NoReturn, Self

from dayfly.engine.durable.arguments import check_policy, check_pseudonym, check_type, payloads_of
from dayfly.engine.durable.backup import BackupInfo
from dayfly.engine.durable.clock import SteadyClock
from dayfly.engine.durable.erasure import ErasureCertificate
from dayfly.engine.durable.outside import Outside
from dayfly.engine.durable.settings import EngineSettings
from dayfly.engine.durable.work import Work, WorkQueue
from dayfly.engine.errors import EngineClosed, EngineFailed, LineageError, RunError
from dayfly.engine.health import HealthReport, Watched
from dayfly.engine.inputs import ConsentGiven, ConsentWithdrawn, Input, Merge
from dayfly.engine.intake import Intake, IntakeResult
from dayfly.engine.lineage.explain import Explanation
from dayfly.engine.policy.model import Policy
from dayfly.engine.shard.compile import compile_policy
from dayfly.engine.sharded.backups import write_backups
from dayfly.engine.sharded.board import ShardedBoard
from dayfly.engine.sharded.clients import Client, Port
from dayfly.engine.sharded.desk import Desk, Limits, ShardedReceipt
from dayfly.engine.sharded.erasing import Erasing
from dayfly.engine.sharded.feed import Positions, ShardedSubscription, subscribe
from dayfly.engine.sharded.member import Keys
from dayfly.engine.sharded.opening import Opened, Publishing, Start, open_shards
from dayfly.engine.sharded.router import Router
from dayfly.engine.sharded.routes import Routes
from dayfly.privacy.consent import ConsentRecord
from dayfly.privacy.errors import InvalidArgument
from dayfly.privacy.fragments import DeletionReceipt, Lease, LeaseRequest, NoteVerifier

__all__ = ["ShardedEngine"]


class ShardedEngine:
    """A durable engine for one tenant, split over processes by pseudonym. Thread-safe; a context manager.

    Guarantees:
        As of `Engine`. A person is in one shard at any time; persons who turn out to be one are brought together before that is
        acted on, so that what is decided does not depend on the number of shards (`docs/operations.md` has the exceptions). When
        the process of a shard ends, the engine has failed: open it again, nothing acknowledged is lost. When this process
        ends, those of the shards do.
    """

    def __init__(
        self, opened: Opened, folder: Path, policy: Policy | None, settings: EngineSettings, outside: Outside
    ) -> None:
        self._opened: Final = opened
        self._ports: Final = opened.ports
        self._closed = False
        states = [port.state() for port in self._ports]
        router = Router(self._ports, Routes([state.guests for state in states]))
        clock = SteadyClock(outside.now_ms, start_ms=max(state.clock_ms for state in states))
        frame_bytes = outside.log.max_payload_bytes
        self._queue: Final = WorkQueue(
            max_events=settings.max_waiting_events, patience_seconds=settings.patience_seconds
        )
        self._desk: Final = Desk(
            self._ports,
            router,
            self._queue,
            clock,
            Limits(settings.max_batch_events, settings.max_waiting_events, frame_bytes),
            upkeep=opened.forget_probe_days,
        )
        self._erasing: Final = Erasing(self._ports, router, self._do)
        self._publishing: Final = Publishing(folder, self._ports, frame_bytes)
        router.heal(clock())
        self._use(self._publishing.finish(policy, clock()))
        for port in self._ports:
            port.client.on_end(self._desk.fatal)
        self._board: Final = ShardedBoard(folder, settings.health_seconds, clock, self._reports, self._desk)
        self._desk.start()
        self._board.start()

    @classmethod
    def open(
        cls,
        folder: Path,
        keys: Keys,
        *,
        shards: int,
        policy: Policy | None = None,
        recipients: Mapping[str, str],
        settings: EngineSettings | None = None,
        outside: Outside | None = None,
        start: Start | None = None,
    ) -> Self:
        """Open the store in a folder, made where there is none, and recover it.

        Processes are started by `multiprocessing` (spawn), so a program that calls this must guard its main part with
        ``if __name__ == "__main__"``, and whatever is passed here goes to other processes: it must be picklable.

        Args:
            folder: The store's folder.
            keys: Opens the tenant's keys; called in every process, so that no key leaves one.
            shards: How many, 2 to 64; a store keeps the number that it was made with.
            policy: As of `Engine.open`.
            recipients: As of `Engine.open`.
            settings: As of `Engine.open`.
            outside: As of `Engine.open`.
            start: Starts a shard; by default in a process of its own.

        Raises:
            StoreForeign: made with another number of shards, or a shard's folder is another's; and as `Engine.open`.
            InvalidArgument: `shards` is out of range.
        """
        if policy is not None:
            check_policy(policy)
            compile_policy(policy)
        outside, settings = outside or Outside(), settings or EngineSettings()
        opened = open_shards(
            folder,
            keys,
            shards=shards,
            policy=policy,
            recipients=recipients,
            settings=settings,
            outside=outside,
            start=start,
        )
        try:
            return cls(opened, folder, policy, settings, outside)
        except BaseException:
            opened.stack.close()
            raise

    def _use(self, policy: Policy) -> None:
        self._desk.policy = policy
        self._desk.intake = Intake(policy, self._opened.keys)

    # --- telling it -------------------------------------------------------------------------------------------------

    def submit(self, payloads: Sequence[bytes], channel: str) -> ShardedReceipt:
        """As `Engine.submit`; durable in all shards concerned when it returns."""
        return self.submit_later(payloads, channel).result()

    def submit_later(self, payloads: Sequence[bytes], channel: str) -> "Future[ShardedReceipt]":
        """As `submit`, without waiting."""
        taken = payloads_of(payloads)
        future: Future[ShardedReceipt] = Future()
        self._put(Work(None, future, taken, channel, max(1, len(taken))))
        return future

    async def asubmit(self, payloads: Sequence[bytes], channel: str) -> ShardedReceipt:
        """As `submit`, for asyncio."""
        return await asyncio.wrap_future(self.submit_later(payloads, channel))

    def take(self, result: IntakeResult) -> ShardedReceipt:
        """As `Engine.take`."""
        sent: Future[Mapping[int, int]]
        sent, now_ms = self._do(
            lambda now_ms: (self._desk.send([result], now_ms), now_ms), weight=max(1, len(result.batch))
        )
        return ShardedReceipt(sent.result(), now_ms, len(result.batch), result.dead_letters)

    def consent(self, subject: bytes, record: ConsentRecord) -> None:
        """Record a consent act of a person."""
        check_pseudonym(subject)
        check_type(ConsentRecord, record=record)
        self._tell_home(subject, lambda now_ms: ConsentGiven(now_ms, subject, record))

    def withdraw(self, subject: bytes, *, purpose: str = "*", topic: str = "*") -> None:
        """Withdraw consent: when this returns, tags and live fragments under it are gone and their keys destroyed."""
        check_pseudonym(subject)
        check_type(str, purpose=purpose, topic=topic)
        self._tell_home(subject, lambda now_ms: ConsentWithdrawn(now_ms, subject, purpose, topic))

    def merge(self, subject: bytes, other: bytes) -> None:
        """Two pseudonyms are one person; `subject` stays."""
        check_pseudonym(subject)
        check_pseudonym(other)

        def run(now_ms: int) -> "Future[Any]":
            self._desk.bring_together([(subject, other)], now_ms)
            return self._home(subject).apply([Merge(now_ms, subject, other)], now_ms)

        self._do(run)

    def publish(self, policy: Policy) -> None:
        """Put a policy in force in all shards; what a crash leaves of it is done when the store is opened.

        Raises:
            ShardError: it does not compile; nothing was changed.
            InvalidArgument: it does not come from a loader, or was changed since.
        """
        check_policy(policy)
        compile_policy(policy)
        self._publishing.check(policy)
        self._do(lambda now_ms: self._publish(policy, now_ms))

    def _publish(self, policy: Policy, now_ms: int) -> None:
        try:
            self._publishing.publish(policy, now_ms)
        except BaseException as error:
            self._desk.fatal(error)  # some shards may follow it and others not
            raise
        self._use(policy)

    def erase(self, subject: bytes) -> tuple[ErasureCertificate, ...]:
        """Forget a person everywhere; returns when no key and no file can bring anything back.

        Returns:
            The certificate of the shard where the person lived. Somebody who ever moved is erased in all shards, since
            older files of each may tell of that: then certificates of all of them, one for each pseudonym of the person.
        """
        check_pseudonym(subject)
        return self._erasing.erase(subject)

    def _tell_home(self, subject: bytes, item: Callable[[int], Input]) -> None:
        self._do(lambda now_ms: self._home(subject).apply([item(now_ms)], now_ms))

    def _home(self, subject: bytes) -> Port:
        return self._ports[self._desk.router.routes.home(subject)]

    def _do(self, run: Callable[[int], object], *, weight: int = 1) -> Any:
        future: Future[Any] = Future()
        self._put(Work(run, future, weight=weight))
        return future.result()

    def _put(self, work: Work) -> None:
        self._check()
        self._queue.put(work)

    # --- by shard ---------------------------------------------------------------------------------------------------

    @property
    def shards(self) -> int:
        """How many there are."""
        return len(self._ports)

    def shard_of(self, subject: bytes) -> int:
        """Number of the shard that a pseudonym lives in now."""
        check_pseudonym(subject)
        return self._desk.router.routes.home(subject)

    def tell(self, shard: int, inputs: Sequence[Input], now_ms: int) -> None:
        """Tell one shard many inputs at once, all of persons who live there; durable when it returns."""
        self._do(lambda _: self._ports[shard].apply(inputs, now_ms))

    # --- fragments --------------------------------------------------------------------------------------------------

    def fragments(self, after: Positions | None = None) -> ShardedSubscription:
        """The feeds of all shards as one.

        Args:
            after: `position` of a subscription; None: only what comes from now on; all zero: everything kept.

        Raises:
            FeedGap: items in between are gone; `resume_positions` is where to go on.
        """
        return subscribe(self._clients(), after)

    def lease(self, request: LeaseRequest) -> Lease:
        """As `Engine.lease`; asked of the shard that holds the fragment."""
        check_type(LeaseRequest, request=request)
        lease: Lease = self._holder(request.jti).call("lease", request).result()
        return lease

    def nonce(self) -> str:
        """The nonce that a CRM's next proof must carry; the same for all shards."""
        nonce: str = self._clients()[0].call("nonce").result()
        return nonce

    def jwks(self) -> Mapping[str, list[dict[str, str]]]:
        """The public keys to publish; the same for all shards."""
        keys: Mapping[str, list[dict[str, str]]] = self._clients()[0].call("jwks").result()
        return keys

    def deletion_receipt(self, jti: str) -> DeletionReceipt:
        """As `Engine.deletion_receipt`; signed by the shard that held the fragment, see `verifiers`."""
        receipt: DeletionReceipt = self._first("deletion_receipt", InvalidArgument, jti)
        return receipt

    def checkpoint(self) -> NoReturn:
        """Not offered: each shard has a tombstone log of its own, so there is no one checkpoint.

        Raises:
            RunError: always; call `checkpoints`.
        """
        raise RunError(
            f"shards={self.shards} have a tombstone log each, and one checkpoint would hide that; call checkpoints()"
        )

    def checkpoints(self) -> tuple[str, ...]:
        """The tombstone log of each shard as it stands, signed, each under an origin of its own."""
        return self._all("checkpoint")

    @property
    def verifiers(self) -> tuple[NoteVerifier, ...]:
        """For what each shard signs: checkpoints, deletion receipts, certificates of erasure."""
        return self._opened.verifiers

    def _holder(self, jti: str) -> Client:
        """The shard that holds a live fragment; any where none does: it refuses as it would refuse an unknown one."""
        clients = self._clients()
        asked = [client.call("holds", jti) for client in clients]
        for client, held in zip(clients, asked, strict=True):
            if held.exception() is None and held.result():
                return client
        return clients[0]

    # --- asking -----------------------------------------------------------------------------------------------------

    def explain(self, fragment_id: str, field: str) -> Explanation:
        """As `Engine.explain`."""
        found: Explanation = self._first("explain", LineageError, fragment_id, field)
        return found

    def explain_all(self, fragment_id: str) -> tuple[Explanation, ...]:
        """As `Engine.explain_all`."""
        found: tuple[Explanation, ...] = self._first("explain_all", LineageError, fragment_id)
        return found

    def health(self, *, expected: Mapping[str, float] | None = None) -> HealthReport:
        """As `Engine.health`, over all shards: numbers are added, and `minted = live + tombstones` holds for the sums."""
        if self._closed:
            self._check()
        return self._board.report(expected)

    def health_by_shard(self) -> tuple[HealthReport, ...]:
        """What each shard knows of itself, without delivery and budgets."""
        return tuple(report for report, _ in self._reports())

    def watch(self, watched: Watched) -> None:
        """As `Engine.watch`."""
        check_type(Watched, watched=watched)
        self._check()
        self._board.watch(watched)

    def _reports(self) -> tuple[tuple[HealthReport, bytes], ...]:
        return self._all("health")

    def snapshot(self) -> tuple[int, ...]:
        """Write a snapshot of each shard now; returns their log positions."""
        return self._all("snapshot")

    def backup(self, folder: Path) -> tuple[BackupInfo, ...]:
        """As `Engine.backup`, one file for each shard, all of one instant: nobody moves in between.

        Args:
            folder: Where the files go, `shard-NN.backup`; must not exist. `restore_sharded` opens it again.

        Raises:
            StoreForeign: `folder` exists; and as `Engine.backup`.
        """
        return write_backups(self._ports, folder, self._opened.made_ms, self._do)

    def _all(self, name: str) -> tuple[Any, ...]:
        return tuple(future.result() for future in [client.call(name) for client in self._clients()])

    def _first(self, name: str, miss: type[Exception], *args: object) -> Any:
        """The answer of the one shard that has it; of the first shard's refusal where none has."""
        asked = [client.call(name, *args) for client in self._clients()]
        errors: list[BaseException] = []
        for future in asked:
            error = future.exception()
            if error is None:
                return future.result()
            errors.append(error)
        raise next((error for error in errors if not isinstance(error, miss)), errors[0])

    def _clients(self) -> list[Client]:
        self._check()
        return [port.client for port in self._ports]

    def _check(self) -> None:
        if self._closed:
            raise EngineClosed("engine=<closed> must be open; open the store again")
        if self._desk.failure is not None:
            raise EngineFailed(str(self._desk.failure)) from self._desk.failure

    # --- ending -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Finish what waits and close every shard; twice does nothing."""
        if self._closed:
            return
        with self._opened.stack:  # whatever goes wrong, the shards are closed and the folder is released
            try:
                self._board.stop()
            finally:
                self._closed = True
                self._queue.refuse()
                self._desk.stop()

    def __enter__(self) -> Self:
        """The engine itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
