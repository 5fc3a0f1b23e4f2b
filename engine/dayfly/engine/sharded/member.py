"""One shard of a sharded store: a durable engine that is told inputs instead of payloads, and that moves persons.

A `Member` answers calls by name, so that it can stand at the other end of a pipe (`process`) or in the same process.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec

from dayfly.engine.durable.engine import Engine
from dayfly.engine.durable.input_frames import decode_inputs
from dayfly.engine.durable.opening import open_store
from dayfly.engine.durable.outside import Outside
from dayfly.engine.durable.part import Part
from dayfly.engine.durable.settings import EngineSettings
from dayfly.engine.durable.work import Work
from dayfly.engine.errors import EngineFailed
from dayfly.engine.events import EventBatch
from dayfly.engine.health.model import HealthReport
from dayfly.engine.inputs import Input, Merge
from dayfly.engine.intake import IntakeResult, RejectedEvent
from dayfly.engine.lineage.explain import Explanation
from dayfly.engine.policy.load import policy_from_source
from dayfly.engine.shard.moving import guests_of, seen_before
from dayfly.privacy.fragments import DeletionReceipt, Lease, LeaseRequest
from dayfly.privacy.fragments.tombstones.note import NoteVerifier, note_verifier
from dayfly.privacy.keys import KeyProvider

__all__ = ["Keys", "Member", "MemberSpec", "ShardNotes", "ShardState", "shard_verifier"]

Keys: TypeAlias = Callable[[], KeyProvider]
"""Opens the tenant's keys. Picklable: each process opens them itself, no key crosses a pipe."""

_ASKING: Final = 16
_FEEDING: Final = 64
"""Threads for calls that wait for something else than the engine's thread: files and the feed."""
_AUDIT_PIECES: Final = 64
"""Pieces of the audit log that are checked for one report."""
_UNBOUNDED: Final = 1 << 24
_PATIENCE_SECONDS: Final = 3_600.0

_Run: TypeAlias = Callable[[int], Any]


@dataclass(frozen=True, slots=True)
class MemberSpec:
    """What a shard needs to open its store.

    Attributes:
        folder: Its own.
        part: Which shard it is.
        keys: Opens the tenant's keys.
        policy: Source of the policy in force; None for that of the store.
        recipients: Audience to key thumbprint.
        settings, outside: As of `Engine.open`.
    """

    folder: Path
    part: Part
    keys: Keys
    policy: bytes | None
    recipients: Mapping[str, str]
    settings: EngineSettings
    outside: Outside


@dataclass(frozen=True, slots=True)
class ShardState:
    """What the router must know of a shard.

    Attributes:
        policy: Source of the policy in force.
        guests: Pseudonyms that came to it by a move.
        outbox: Parcels that are not known to have arrived.
        clock_ms: Its instant.
    """

    policy: bytes
    guests: tuple[bytes, ...]
    outbox: tuple[bytes, ...]
    clock_ms: int


@dataclass(frozen=True, slots=True)
class _Signer:
    name: str
    key_id: bytes
    sign: Callable[[bytes], bytes]


def shard_verifier(origin: str, public: ec.EllipticCurvePublicKey, number: int) -> NoteVerifier:
    """Verifies checkpoints, deletion receipts and certificates of one shard, under ``ORIGIN/shard-NN``."""
    return note_verifier(f"{origin}/shard-{number:02}", public)


class ShardNotes:
    """The tenant's keys, with an origin of its own for each shard's tombstone log.

    Two logs under one origin would look like one log that tells two stories.
    """

    def __init__(self, keys: KeyProvider, number: int) -> None:
        self._keys: Final = keys
        self._number: Final = number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._keys, name)

    def notes(self) -> Any:
        """The provider's key under ``ORIGIN/shard-NN``."""
        notes = self._keys.notes()
        verifier = shard_verifier(notes.signer.name, notes.public, self._number)
        signer = _Signer(verifier.name, verifier.key_id, notes.signer.sign)
        return type(notes)(signer, verifier, notes.public)


class Member:
    """An open shard."""

    def __init__(self, spec: MemberSpec) -> None:
        keys: Any = ShardNotes(spec.keys(), spec.part.number)
        # What may wait is bounded where it is sent, so that a submission is refused as a whole or not at all; and the board is
        # that of all shards.
        settings = replace(
            spec.settings,
            max_waiting_events=_UNBOUNDED,
            patience_seconds=_PATIENCE_SECONDS,
            health_seconds=0,
        )
        self._running: Final = open_store(
            spec.folder,
            keys,
            policy=None if spec.policy is None else policy_from_source(spec.policy),
            recipients=spec.recipients,
            settings=settings,
            outside=spec.outside,
            progress=None,
            part=spec.part,
        )
        self.engine: Final = Engine(self._running)
        self._auditing: Final = threading.Lock()
        self._pool: Final = ThreadPoolExecutor(_ASKING, f"dayfly-shard-{spec.part.number:02}")
        self._feeds: Final = ThreadPoolExecutor(_FEEDING, f"dayfly-feed-{spec.part.number:02}")

    def call(self, name: str, *args: Any) -> "Future[Any]":
        """Do a call by its name; calls that change something take effect in the order in which they come."""
        if name == "erase":
            return self._placed(self._running.erasures.erase, *args)
        if name == "backup":
            return self._placed(self._running.backups.write, *args)
        if name == "feed":
            return self._feeds.submit(self._running.feed.take, *args)
        queued = getattr(self, f"_queue_{name}", None)
        if queued is None:
            return self._pool.submit(getattr(self, f"_ask_{name}"), *args)
        run, weight = queued(*args)
        future: Future[Any] = Future()
        self._running.put(Work(run, future, weight=weight))
        return future

    def on_end(self, told: Callable[[EngineFailed], object]) -> None:
        """As `ProcessClient.on_end`: a shard of this process ends with it."""

    def close(self) -> None:
        """Close the engine."""
        self._running.feed.close()
        self._feeds.shutdown()
        self._pool.shutdown()
        self.engine.close()

    # --- in the order of the queue ------------------------------------------------------------------------------------

    def _queue_take(
        self, data: bytes, letters: tuple[RejectedEvent, ...]
    ) -> tuple[Callable[[int], int], int]:
        inputs, _ = decode_inputs(data)
        batch = inputs[0]
        assert isinstance(batch, EventBatch)
        merges = tuple(item for item in inputs[1:] if isinstance(item, Merge))
        return partial(self._take, IntakeResult(batch, letters, merges)), max(1, len(batch))

    def _take(self, result: IntakeResult, now_ms: int) -> int:
        host = self._running.host
        host.take(result, now_ms)
        return host.position

    def _queue_apply(self, data: bytes) -> tuple[Callable[[int], None], int]:
        inputs, _ = decode_inputs(data)
        return partial(self._apply, inputs), 1

    def _apply(self, inputs: Sequence[Input], now_ms: int) -> None:
        self._running.host.apply(inputs, now_ms)

    def _queue_depart(self, data: bytes) -> tuple[Callable[[int], bytes], int]:
        inputs, _ = decode_inputs(data)
        return partial(self._depart, inputs), 1

    def _depart(self, inputs: Sequence[Input], now_ms: int) -> bytes:
        self._running.host.apply(inputs, now_ms)
        moves = self._running.host.engine.shard.moves
        return moves.outbox[moves.departures]

    def _queue_names(self, subject: bytes) -> tuple[Callable[[int], tuple[bytes, ...]], int]:
        return (lambda _: self._running.host.engine.shard.names_of(subject)), 1

    def _queue_state(self) -> tuple[Callable[[int], ShardState], int]:
        shard = self._running.host.engine.shard
        return (
            lambda _: ShardState(
                shard.policy.source,
                tuple(guests_of(shard)),
                tuple(shard.moves.outbox.values()),
                shard.clock_ms,
            )
        ), 1

    def _queue_lease(self, request: LeaseRequest) -> tuple[Callable[[int], Lease], int]:
        return partial(self._running.host.lease, request), 1

    def _queue_nonce(self) -> tuple[Callable[[int], str], int]:
        return self._running.host.engine.fragments.nonce, 1

    def _queue_jwks(self) -> tuple[_Run, int]:
        return self._running.host.engine.fragments.jwks, 1

    def _queue_deletion_receipt(self, jti: str) -> tuple[Callable[[int], DeletionReceipt], int]:
        return (lambda _: self._running.host.engine.fragments.receipt(jti)), 1

    def _queue_checkpoint(self) -> tuple[Callable[[int], str], int]:
        return self._running.host.engine.fragments.checkpoint, 1

    def _queue_explain(self, fragment_id: str, field: str) -> tuple[Callable[[int], Explanation], int]:
        return (lambda _: self._running.host.engine.explain(fragment_id, field)), 1

    def _queue_explain_all(self, fragment_id: str) -> tuple[Callable[[int], tuple[Explanation, ...]], int]:
        return (lambda _: self._running.host.engine.explain_all(fragment_id)), 1

    def _placed(self, do: Callable[..., Any], *args: Any) -> "Future[Any]":
        """Do something long that begins with a step in the queue: that step's place is taken now, the rest is done beside it."""
        told: Future[_Run] = Future()
        first: Future[Any] = Future()
        self._running.put(Work(partial(_do_told, told), first))

        def step(run: _Run) -> Any:
            if told.done():
                return self._running.do(run)
            told.set_result(run)
            return first.result()

        done: Future[Any] = Future()

        def begin() -> None:
            try:
                done.set_result(do(*args, step))
            except BaseException as error:  # noqa: BLE001 - the caller gets it
                done.set_exception(error)
            finally:
                if not told.done():  # it ended before its first step: nobody may wait for that
                    told.set_result(_nothing)

        # A thread of its own: the engine's thread waits until this one has begun, so it must not wait for others.
        threading.Thread(target=begin, name="dayfly-placed", daemon=True).start()
        return done

    # --- beside the queue ---------------------------------------------------------------------------------------------

    def _ask_holds(self, jti: str) -> bool:
        return jti in self._running.host.standing.alive

    def _ask_seen(self, ids: bytes, received_ms: bytes) -> bytes:
        """Asked about persons who have moved away: what this shard took in of them is all in the table by now.

        The table only ever gains rows, or is replaced as a whole, so that it may be read while the engine goes on.
        """
        rows = np.frombuffer(ids, np.uint64).reshape(-1, 2)
        instants = np.frombuffer(received_ms, np.int64)
        return seen_before(self._running.host.engine.shard, rows, instants).tobytes()

    def _ask_newest(self) -> int:
        return self._running.feed.newest

    def _ask_oldest(self) -> int:
        return self._running.feed.oldest

    def _ask_check(self, after: int) -> None:
        self._running.feed.subscribe(after).close()

    def _ask_snapshot(self) -> int:
        return self.engine.snapshot()

    def _ask_health(self) -> tuple[HealthReport, bytes]:
        """What the shard itself knows, and the counts that cannot be added as shares and quantiles."""
        board, host = self._running.board, self._running.host
        with self._auditing:
            for _ in range(_AUDIT_PIECES):
                if not board.audit.step():
                    break
        return self._running.do(lambda now_ms: (board.gather(now_ms), host.meter.to_bytes()))


def _nothing(_: int) -> None:
    """Done in place of a step that never came."""


def _do_told(told: "Future[_Run]", now_ms: int) -> Any:
    """Do what is told by then."""
    return told.result()(now_ms)
