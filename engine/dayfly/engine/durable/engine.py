"""`Engine`: the object that a service embeds. One folder, one writer, everything durable before anybody is told."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from dayfly.engine.durable.arguments import check_policy, check_pseudonym, check_type, payloads_of
from dayfly.engine.durable.backup import BackupInfo
from dayfly.engine.durable.erasure import ErasureCertificate
from dayfly.engine.durable.feed import FeedItem, Listening, Subscription
from dayfly.engine.durable.loop import Receipt
from dayfly.engine.durable.opening import open_store
from dayfly.engine.durable.outside import Outside
from dayfly.engine.durable.running import Running
from dayfly.engine.durable.settings import EngineSettings
from dayfly.engine.durable.work import Work
from dayfly.engine.health import HealthReport, Watched
from dayfly.engine.inputs import ConsentGiven, ConsentWithdrawn, Input, Merge, Publish
from dayfly.engine.intake import IntakeResult
from dayfly.engine.lineage.explain import Explanation
from dayfly.engine.policy.model import Policy
from dayfly.privacy.consent import ConsentRecord, ConsentRequest
from dayfly.privacy.fragments import DeletionReceipt, Lease, LeaseRequest
from dayfly.privacy.keys import KeyProvider

if TYPE_CHECKING:
    from dayfly.engine.window_features import WindowColumns, WindowFeature
    from dayfly.privacy.sandbox import Source

__all__ = ["Engine"]


class Engine:
    """A durable engine for one tenant. Thread-safe; use it as a context manager, or call `close`.

    Guarantees:
        What a call returned is durable: no crash loses it, and none makes it count twice. An order becomes at most one
        live fragment. Fragment keys are in locked memory only, so fragments that were alive when the process died are
        dead; they get their tombstones when the store is opened again, before anything else is taken in.
    """

    def __init__(self, running: Running) -> None:
        self._running = running

    @classmethod
    def open(
        cls,
        folder: Path,
        keys: KeyProvider,
        *,
        policy: Policy | None = None,
        recipients: Mapping[str, str],
        settings: EngineSettings | None = None,
        outside: Outside | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> Self:
        """Open the store in a folder, made where there is none, and recover it.

        Args:
            folder: The store's folder; on a local file system.
            keys: The tenant's long-lived keys.
            policy: Needed for a new store. For an existing one it is published where its content differs from what is in force.
            recipients: Audience to the RFC 7638 thumbprint of the key that it registered.
            settings: How the engine works.
            outside: Clock, randomness, addresses; by default those of the machine.
            progress: Told the number of frames replayed.

        Raises:
            StoreLocked: another process writes here.
            StoreForeign: another tenant's store, other keys, or no store.
            StoreDamaged: what was acknowledged is not there as it was written; nothing was changed.
            StoreVersion: written by a newer version.
            StoreUnusable: read-only, no permission, no room.
            ShardError: the policy does not compile.
        """
        if policy is not None:
            check_policy(policy)
        return cls(
            open_store(
                folder,
                keys,
                policy=policy,
                recipients=recipients,
                settings=settings or EngineSettings(),
                outside=outside or Outside(),
                progress=progress,
            )
        )

    # --- telling it -------------------------------------------------------------------------------------------------

    def submit(self, payloads: Sequence[bytes], channel: str) -> Receipt:
        """Take Segment or RudderStack payloads in; durable when it returns.

        Args:
            payloads: One call or ``{"batch": [...]}`` envelope each.
            channel: A declared channel.

        Raises:
            CatalogError: the channel is not declared.
            EngineBusy: too much waits already; nothing was taken.
            EngineClosed, EngineFailed: nothing is taken any more. Events of a call that raised `EngineFailed` may or may
                not be in the log: submit them again after opening, each counts once.
        """
        return self.submit_later(payloads, channel).result()

    def submit_later(self, payloads: Sequence[bytes], channel: str) -> "Future[Receipt]":
        """As `submit`, without waiting: the future resolves when the events are durable."""
        future: Future[Receipt] = Future()
        taken = payloads_of(payloads)
        self._running.put(Work(None, future, taken, channel, max(1, len(taken))))
        return future

    async def asubmit(self, payloads: Sequence[bytes], channel: str) -> Receipt:
        """As `submit`, for asyncio."""
        return await asyncio.wrap_future(self.submit_later(payloads, channel))

    def take(self, result: IntakeResult) -> Receipt:
        """Take in what `engine.intake` made of a file or a CloudEvents message; durable when it returns."""

        def run(now_ms: int) -> Receipt:
            host = self._running.host
            host.take(result, now_ms)
            return Receipt(host.position, now_ms, len(result.batch), result.dead_letters)

        return self._running.do(run, weight=max(1, len(result.batch)))

    def consent(self, subject: bytes, record: ConsentRecord) -> None:
        """Record a consent act of a person."""
        check_pseudonym(subject)
        check_type(ConsentRecord, record=record)
        self._apply(lambda now_ms: [ConsentGiven(now_ms, subject, record)])

    def withdraw(self, subject: bytes, *, purpose: str = "*", topic: str = "*") -> None:
        """Withdraw consent: when this returns, tags and live fragments under it are gone and their keys destroyed."""
        check_pseudonym(subject)
        check_type(str, purpose=purpose, topic=topic)
        self._apply(lambda now_ms: [ConsentWithdrawn(now_ms, subject, purpose, topic)])

    def merge(self, subject: bytes, other: bytes) -> None:
        """Two pseudonyms are one person; `subject` stays."""
        check_pseudonym(subject)
        check_pseudonym(other)
        self._apply(lambda now_ms: [Merge(now_ms, subject, other)])

    def publish(self, policy: Policy) -> None:
        """Put a policy in force, for everybody at once and from history.

        Raises:
            ShardError: it does not compile; nothing was changed.
            InvalidArgument: it does not come from a loader, or was changed since.
        """
        check_policy(policy)
        self._apply(lambda now_ms: [Publish(now_ms, policy)])

    def erase(self, subject: bytes) -> ErasureCertificate:
        """Forget a person everywhere; returns when no key and no file can bring anything back.

        Tags, live fragments and their keys are gone at once. Then a snapshot without the person is written, and the data
        keys of all older snapshots and log segments are destroyed: backups made before this cannot be read any more.

        Returns:
            A certificate: what was destroyed and when, signed with the key of the tombstone log.
        """
        check_pseudonym(subject)
        return self._running.erasures.erase(subject, self._running.do)

    def _apply(self, inputs: Callable[[int], list[Input]]) -> None:
        host = self._running.host

        def run(now_ms: int) -> None:
            host.apply(inputs(now_ms), now_ms)

        self._running.do(run)

    # --- fragments --------------------------------------------------------------------------------------------------

    def fragments(self, after: int | None = None) -> Subscription:
        """The feed: fragments, recalls, ends and tag changes, each once, in order, when durable.

        Args:
            after: Position of the last item handled; None: only what comes from now on; 0: everything kept.

        Raises:
            FeedGap: items in between are gone.
        """
        return self._running.feed.subscribe(after)

    def listen(self, hear: Callable[[FeedItem], object], after: int | None = None) -> Listening:
        """As `fragments`, by calling a function: the quickest way, for no other thread has to wake up.

        It is called by the thread that makes calls durable, which waits for it: pass the item on (`loop.call_soon_threadsafe`,
        a queue) and return. It must not wait for the engine. What it raises ends the listening, and is kept there. Items
        that are kept already are told before this returns.

        Args:
            hear: Called with each item, in order, when it is durable.
            after: As for `fragments`.

        Raises:
            FeedGap: items in between are gone.
        """
        return self._running.feed.listen(hear, after)

    def lease(self, request: LeaseRequest) -> Lease:
        """Give a CRM the key of a fragment, if everything allows it at this instant; logged before it is given.

        Raises:
            LeaseRefused: with a code; the CRM learns nothing else.
        """
        return self._running.do(lambda now_ms: self._running.host.lease(request, now_ms))

    def nonce(self) -> str:
        """The nonce that a CRM's next proof must carry."""
        return self._running.do(self._running.host.engine.fragments.nonce)

    def jwks(self) -> Mapping[str, list[dict[str, str]]]:
        """The public keys to publish."""
        return self._running.do(self._running.host.engine.fragments.jwks)

    def deletion_receipt(self, jti: str) -> DeletionReceipt:
        """Proof that a fragment's key is destroyed; verifies offline.

        Raises:
            InvalidArgument: it is alive or was never minted here.
        """
        return self._running.do(lambda _: self._running.host.engine.fragments.receipt(jti))

    def checkpoint(self) -> str:
        """The tombstone log as it stands, signed: a C2SP note with the balance minted = live + tombstoned."""
        return self._running.do(self._running.host.engine.fragments.checkpoint)

    # --- asking -----------------------------------------------------------------------------------------------------

    def explain(self, fragment_id: str, field: str) -> Explanation:
        """Why a CRM sees a field of a fragment (by jti or order id).

        Raises:
            LineageError: no such fragment or field, or its lineage is erased or past its retention.
        """
        return self._running.do(lambda _: self._running.host.engine.explain(fragment_id, field))

    def explain_all(self, fragment_id: str) -> tuple[Explanation, ...]:
        """Why a CRM sees each field of a fragment."""
        return self._running.do(lambda _: self._running.host.engine.explain_all(fragment_id))

    def health(self, *, expected: Mapping[str, float] | None = None) -> HealthReport:
        """How everything is doing: channels, consents, fragments, delivery, lineage, transfers, budgets, and the engine itself.

        Of an engine that has failed it is the last report, with the failure. No personal data is in it.

        Args:
            expected: Usable events per hour that channels should bring, by channel; by default what `watch` was given, and a
                channel without an expectation is judged by the same hours of the days before.

        Raises:
            InvalidArgument: an expectation names no declared channel, or is no number above zero.
            EngineClosed: the engine is closed; read `health.json` of its folder.
        """
        return self._running.board.report(expected)

    def watch(self, watched: Watched) -> None:
        """What the health board shows beside the engine from now on: expectations, a delivery, budgets, limits.

        Raises:
            InvalidArgument: an expectation names no declared channel, or is no number above zero.
        """
        check_type(Watched, watched=watched)
        self._running.board.watch(watched)

    def snapshot(self) -> int:
        """Write a snapshot now; returns its log position. Recovery then starts there."""
        return self._running.keeper.take_now(self._running.do)

    def backup(self, path: Path) -> BackupInfo:
        """Write everything up to now into one sealed file, and read it back; the engine goes on meanwhile.

        Erasing a person ends every backup written before. `dayfly.engine.durable.restore` opens it again.

        Args:
            path: Must not exist.

        Raises:
            BackupEnded: an erasure came in between; write another one.
            StoreForeign: `path` exists.
            StoreFull, StoreUnusable: the system refuses.
        """
        return self._running.backups.write(path, self._running.do)

    def sandbox_sources(self, need: ConsentRequest, *, data_set: str = "store") -> Mapping[str, "Source"]:
        """Events and profiles for a privacy sandbox: a copy of this instant, of what consent covers.

        The engine waits while it is made. Take a new one for each session, so that withdrawals and erasures count.

        Args:
            need: What consent must cover; see `dayfly.engine.sandbox_source.sandbox_sources`.
            data_set: Account of the budget ledger that pays.
        """
        from dayfly.engine.sandbox_source import sandbox_sources  # noqa: PLC0415 - only analysts pay for the sandbox

        shard = self._running.host.engine.shard
        return self._running.do(lambda now_ms: sandbox_sources(shard, need, now_ms, data_set=data_set))

    def window_features(
        self, subjects: Sequence[bytes], wanted: Sequence["WindowFeature"], need: ConsentRequest
    ) -> "WindowColumns":
        """Windows of customers' events as columns of a feature matrix: a copy of this instant, of what consent covers.

        The engine waits while it is made.

        Args:
            subjects: Pseudonyms, in the order of the rows.
            wanted: The columns; see `dayfly.engine.window_features`.
            need: What consent must cover.

        Raises:
            InvalidArgument: a column names no event type or field of the policy, or its window is out of range.
        """
        from dayfly.engine.window_features import window_features  # noqa: PLC0415 - as above

        shard = self._running.host.engine.shard
        return self._running.do(lambda now_ms: window_features(shard, subjects, wanted, need, now_ms))

    # --- ending -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Finish what waits, destroy every live key, write a last snapshot and release the folder; twice does nothing."""
        self._running.close()

    def __enter__(self) -> Self:
        """The engine itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
