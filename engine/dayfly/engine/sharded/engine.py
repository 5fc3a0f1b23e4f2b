"""`ShardedEngine`: one store over several processes, with the calls of `Engine`."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from dayfly.engine.durable.arguments import check_policy, check_pseudonym, check_type, payloads_of
from dayfly.engine.durable.clock import SteadyClock
from dayfly.engine.durable.erasure import ErasureCertificate
from dayfly.engine.durable.opening import Outside, open_folder
from dayfly.engine.durable.settings import EngineSettings
from dayfly.engine.durable.work import Work, WorkQueue
from dayfly.engine.errors import EngineClosed, LineageError
from dayfly.engine.health import HealthReport
from dayfly.engine.inputs import ConsentGiven, ConsentWithdrawn, Input, Merge, Publish
from dayfly.engine.intake import Intake, IntakeKeys, IntakeResult
from dayfly.engine.lineage.explain import Explanation
from dayfly.engine.policy.load import policy_from_source
from dayfly.engine.policy.model import Policy
from dayfly.engine.shard.compile import compile_policy
from dayfly.engine.sharded.clients import Client, Port
from dayfly.engine.sharded.desk import Desk, ShardedReceipt
from dayfly.engine.sharded.feed import Positions, ShardedSubscription
from dayfly.engine.sharded.member import Keys, MemberSpec
from dayfly.engine.sharded.process import ProcessClient
from dayfly.engine.sharded.router import Router
from dayfly.engine.sharded.routes import Routes
from dayfly.engine.store import LOCAL_DISK, StoreMarker
from dayfly.engine.store.files import replace_file
from dayfly.privacy.consent import ConsentRecord
from dayfly.privacy.errors import InvalidArgument
from dayfly.privacy.fragments import DeletionReceipt, Lease, LeaseRequest
from dayfly.privacy.keys import KeyName, ProbeDayKeys

__all__ = ["ShardedEngine"]

PUBLISHING: Final = "publishing.policy"
"""A policy that is being published: whatever a crash leaves of that is done when the store is opened."""


class ShardedEngine:
    """A durable engine for one tenant, split over processes by pseudonym. Thread-safe; a context manager.

    Guarantees:
        As of `Engine`, for every shard. A person is in one shard at any time; persons who turn out to be one are brought
        together before that is acted on, so that what is decided does not depend on the number of shards. Live fragments
        of somebody who moves are recalled.
    """

    def __init__(
        self,
        clients: Sequence[Client],
        keys: IntakeKeys,
        folder: Path,
        *,
        policy: Policy | None,
        settings: EngineSettings,
        now_ms: Callable[[], int],
        stack: ExitStack,
    ) -> None:
        self._ports: Final = [Port(client) for client in clients]
        self._keys: Final = keys
        self._folder: Final = folder
        self._stack: Final = stack
        self._closed = False
        states = [client.call("state").result() for client in clients]
        router = Router(self._ports, Routes([guests for _, guests, _, _ in states]))
        clock = SteadyClock(now_ms, start_ms=max(state[3] for state in states))
        self._queue: Final = WorkQueue(
            max_events=settings.max_waiting_events, patience_seconds=settings.patience_seconds
        )
        self._desk: Final = Desk(self._ports, router, self._queue, clock, settings.max_batch_events)
        self._prepare(policy, clock())

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
        start: Callable[[MemberSpec], Client] | None = None,
    ) -> Self:
        """Open the store in a folder, made where there is none, and recover it.

        Args:
            folder: The store's folder.
            keys: Opens the tenant's keys; called in every process, so it must be picklable.
            shards: How many; a store keeps the number that it was made with.
            policy: As of `Engine.open`.
            recipients: As of `Engine.open`.
            settings: As of `Engine.open`.
            outside: As of `Engine.open`, picklable.
            start: Starts a shard; by default in a process of its own.

        Raises:
            StoreForeign: made with another number of shards; and as `Engine.open`.
        """
        outside, settings = outside or Outside(), settings or EngineSettings()
        secrets = keys()
        with ExitStack() as stack:
            slots = open_folder(folder, secrets, policy, outside, stack, shards=shards)
            specs = [
                MemberSpec(
                    (path := folder / f"shard-{number:02}"),
                    number,
                    shards,
                    keys,
                    None if policy is None or StoreMarker.find(path) is not None else policy.source,
                    recipients,
                    settings,
                    outside,
                )
                for number in range(shards)
            ]
            clients = [_closing(stack, (start or ProcessClient)(spec)) for spec in specs]
            for client in clients:
                opened: Future[Any] | None = getattr(client, "opened", None)
                if opened is not None:
                    opened.result()
            probes = secrets.probes(ProbeDayKeys(slots))
            kept = ExitStack()
            engine = cls(
                clients,
                IntakeKeys(secrets.pseudonyms(), secrets.key(KeyName.DIGEST), probes),
                folder,
                policy=policy,
                settings=settings,
                now_ms=outside.now_ms,
                stack=kept,
            )
            kept.push(stack.pop_all())
            return engine

    def _prepare(self, policy: Policy | None, now_ms: int) -> None:
        """Finish half-done moves, make all shards follow one policy, and start."""
        self._desk.router.heal(now_ms)
        sources = [policy_from_source(port.client.call("state").result()[0]) for port in self._ports]
        pending = self._folder / PUBLISHING
        if policy is None and pending.exists():
            policy = policy_from_source(pending.read_bytes())
        wanted = policy or sources[0]
        if any(source.digest != wanted.digest for source in sources):
            self._publish(wanted, now_ms)
        pending.unlink(missing_ok=True)
        self._use(wanted)
        self._desk.start()

    def _use(self, policy: Policy) -> None:
        self._desk.policy = policy
        self._desk.intake = Intake(policy, self._keys)

    # --- telling it -------------------------------------------------------------------------------------------------

    def submit(self, payloads: Sequence[bytes], channel: str) -> ShardedReceipt:
        """As `Engine.submit`; durable in all shards concerned when it returns."""
        return self.submit_later(payloads, channel).result()

    def submit_later(self, payloads: Sequence[bytes], channel: str) -> "Future[ShardedReceipt]":
        """As `submit`, without waiting."""
        taken = payloads_of(payloads)
        future: Future[ShardedReceipt] = Future()
        self._queue.put(Work(None, future, taken, channel, max(1, len(taken))))
        return future

    async def asubmit(self, payloads: Sequence[bytes], channel: str) -> ShardedReceipt:
        """As `submit`, for asyncio."""
        return await asyncio.wrap_future(self.submit_later(payloads, channel))

    def take(self, result: IntakeResult) -> ShardedReceipt:
        """As `Engine.take`."""

        def run(now_ms: int) -> "Future[ShardedReceipt]":
            future: Future[ShardedReceipt] = Future()
            self._desk.send(
                result,
                now_ms,
                lambda positions: future.set_result(
                    ShardedReceipt(positions, now_ms, len(result.batch), result.dead_letters)
                ),
                future.set_exception,
            )
            return future

        receipt: ShardedReceipt = self._do(run, weight=max(1, len(result.batch)))
        return receipt

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
            self._desk.router.bring_together([(subject, other)], now_ms)
            return self._home(subject).apply([Merge(now_ms, subject, other)], now_ms)

        self._do(run)

    def publish(self, policy: Policy) -> None:
        """Put a policy in force in all shards; what a crash leaves of it is done when the store is opened.

        Raises:
            ShardError: it does not compile; nothing was changed.
        """
        check_policy(policy)
        compile_policy(policy)
        self._do(lambda now_ms: self._publish(policy, now_ms))

    def _publish(self, policy: Policy, now_ms: int) -> None:
        pending = self._folder / PUBLISHING
        replace_file(LOCAL_DISK, pending, policy.source)
        for told in [port.apply([Publish(now_ms, policy)], now_ms) for port in self._ports]:
            told.result()
        pending.unlink(missing_ok=True)
        self._use(policy)

    def erase(self, subject: bytes) -> tuple[ErasureCertificate, ...]:
        """Forget a person everywhere; returns when no key and no file can bring anything back.

        Returns:
            The certificate of the shard where the person lived. Somebody who ever moved is erased in all shards, since
            older files of each may tell of that: then certificates of all of them.
        """
        check_pseudonym(subject)
        begun: list[Future[Any]] = self._do(lambda _: self._erase(subject))
        return tuple(future.result() for future in begun)

    def _erase(self, subject: bytes) -> "list[Future[Any]]":
        routes = self._desk.router.routes
        home = self._home(subject)
        names: tuple[bytes, ...] = home.client.call("names", subject).result()
        begun = [home.client.call("erase", subject)]
        if any(routes.is_guest(name) for name in names):
            others = [port for port in self._ports if port is not home]
            begun += [port.client.call("erase", name) for port in others for name in names]
        routes.forget(names)
        return begun

    def _tell_home(self, subject: bytes, item: Callable[[int], Input]) -> None:
        self._do(lambda now_ms: self._home(subject).apply([item(now_ms)], now_ms))

    def _home(self, subject: bytes) -> Port:
        return self._ports[self._desk.router.routes.home(subject)]

    def _do(self, run: Callable[[int], object], *, weight: int = 1) -> Any:
        future: Future[Any] = Future()
        self._queue.put(Work(run, future, weight=weight))
        return future.result()

    # --- by shard ---------------------------------------------------------------------------------------------------

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
            FeedGap: items in between are gone.
        """
        clients = self._clients()
        if after is None:
            after = tuple(client.call("newest").result() for client in clients)
        if len(after) != len(clients):
            raise InvalidArgument(
                f"after={after!r} must have {len(clients)} positions; pass the position of a subscription"
            )
        for client, position in zip(clients, after, strict=True):
            client.call("check", position).result()
        return ShardedSubscription(clients, after)

    def lease(self, request: LeaseRequest) -> Lease:
        """As `Engine.lease`; asked of the shard that holds the fragment."""
        lease: Lease = self._holder(request.jti).call("lease", request).result()
        return lease

    def nonce(self, jti: str) -> str:
        """The nonce that a CRM's next proof for a fragment must carry."""
        nonce: str = self._holder(jti).call("nonce").result()
        return nonce

    def jwks(self) -> Mapping[str, list[dict[str, str]]]:
        """The public keys to publish; the same for all shards."""
        keys: Mapping[str, list[dict[str, str]]] = self._clients()[0].call("jwks").result()
        return keys

    def deletion_receipt(self, jti: str) -> DeletionReceipt:
        """As `Engine.deletion_receipt`; it names the log of the shard that held the fragment."""
        receipt: DeletionReceipt = self._first("deletion_receipt", InvalidArgument, jti)
        return receipt

    def checkpoints(self) -> tuple[str, ...]:
        """The tombstone log of each shard as it stands, signed, each under an origin of its own."""
        return self._all("checkpoint")

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

    def health(self) -> tuple[HealthReport, ...]:
        """Each shard's report."""
        return self._all("health")

    def snapshot(self) -> tuple[int, ...]:
        """Write a snapshot of each shard now; returns their log positions."""
        return self._all("snapshot")

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
        if self._closed:
            raise EngineClosed("engine=<closed> must be open; open the store again")
        return [port.client for port in self._ports]

    # --- ending -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Finish what waits and close every shard; twice does nothing."""
        if self._closed:
            return
        self._closed = True
        self._queue.refuse()
        self._desk.stop()
        self._stack.close()

    def __enter__(self) -> Self:
        """The engine itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def _closing(stack: ExitStack, client: Client) -> Client:
    """Have a client closed at the end."""
    stack.callback(client.close)
    return client
