"""One shard of a sharded store: a durable engine that is told inputs instead of payloads, and that moves persons.

A `Member` answers calls by name, so that it can stand at the other end of a pipe (`process`) or in the same process.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec

from dayfly.engine.durable.engine import Engine
from dayfly.engine.durable.feed import FeedItem
from dayfly.engine.durable.input_frames import decode_inputs
from dayfly.engine.durable.opening import Outside, open_store
from dayfly.engine.durable.settings import EngineSettings
from dayfly.engine.durable.work import Work
from dayfly.engine.events import EventBatch
from dayfly.engine.inputs import Input, Merge
from dayfly.engine.intake import IntakeResult, RejectedEvent
from dayfly.engine.policy.load import policy_from_source
from dayfly.engine.shard.moving import guests_of, seen_before
from dayfly.privacy.fragments.tombstones.note import note_verifier
from dayfly.privacy.keys import KeyProvider

__all__ = ["Member", "MemberSpec", "ShardNotes"]

Keys = Callable[[], KeyProvider]
"""Opens the tenant's keys. Picklable: each process opens them itself, no key crosses a pipe."""


@dataclass(frozen=True, slots=True)
class MemberSpec:
    """What a shard needs to open its store.

    Attributes:
        folder: Its own.
        number: 0, 1, 2, ...
        shards: How many there are.
        keys: Opens the tenant's keys.
        policy: Source of the policy in force; None for that of the store.
        recipients: Audience to key thumbprint.
        settings, outside: As of `Engine.open`.
    """

    folder: Path
    number: int
    shards: int
    keys: Keys
    policy: bytes | None
    recipients: Mapping[str, str]
    settings: EngineSettings
    outside: Outside


@dataclass(frozen=True, slots=True)
class _Signer:
    name: str
    key_id: bytes
    sign: Callable[[bytes], bytes]


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
        public: ec.EllipticCurvePublicKey = notes.public
        verifier = note_verifier(f"{notes.signer.name}/shard-{self._number:02}", public)
        signer = _Signer(verifier.name, verifier.key_id, notes.signer.sign)
        return type(notes)(signer, verifier, public)


class Member:
    """An open shard."""

    def __init__(self, spec: MemberSpec) -> None:
        keys: Any = ShardNotes(spec.keys(), spec.number)
        self._running: Final = open_store(
            spec.folder,
            keys,
            policy=None if spec.policy is None else policy_from_source(spec.policy),
            recipients=spec.recipients,
            settings=spec.settings,
            outside=spec.outside,
            progress=None,
            shards=spec.shards,
        )
        self.engine: Final = Engine(self._running)
        self._pool: Final = ThreadPoolExecutor(16, f"dayfly-shard-{spec.number:02}")

    def call(self, name: str, *args: Any) -> "Future[Any]":
        """Do a call by its name; calls that change something take effect in the order in which they come."""
        if name == "erase":
            return self._erase(*args)
        queued = getattr(self, f"_queue_{name}", None)
        if queued is not None:
            run, weight = queued(*args)
            future: Future[Any] = Future()
            self._running.put(Work(run, future, weight=weight))
            return future
        return self._pool.submit(getattr(self, f"_ask_{name}", None) or getattr(self.engine, name), *args)

    def close(self) -> None:
        """Close the engine."""
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

    def _queue_state(self) -> tuple[Callable[[int], Any], int]:
        """Policy source, guests and outbox, when the store is opened."""
        shard = self._running.host.engine.shard
        return (
            lambda _: (
                shard.policy.source,
                guests_of(shard),
                list(shard.moves.outbox.values()),
                shard.clock_ms,
            )
        ), 1

    def _erase(self, subject: bytes) -> "Future[Any]":
        """Erase a person: its place in the queue is taken now, what takes long is done beside it."""
        told: Future[Callable[[int], Any]] = Future()
        first: Future[Any] = Future()
        self._running.put(Work(partial(_do_told, told), first))

        def do(run: Callable[[int], Any]) -> Any:
            if told.done():
                return self._running.do(run)
            told.set_result(run)
            return first.result()

        return self._pool.submit(self._running.erasures.erase, subject, do)

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

    def _ask_feed(self, after: int, limit: int, timeout_seconds: float) -> list[FeedItem]:
        return self._running.feed.take(after, limit, timeout_seconds)

    def _ask_check(self, after: int) -> None:
        self._running.feed.subscribe(after).close()


def _do_told(told: "Future[Callable[[int], Any]]", now_ms: int) -> Any:
    """Do what is told by then."""
    return told.result()(now_ms)
