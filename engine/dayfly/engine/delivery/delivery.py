"""Delivery to CRMs: takes the engine's feed, keeps what must not be forgotten, says what to send, hands out to those who pull."""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, Self

from dayfly.engine.errors import DeliveryError, UnknownRecipient

from .desk import Desk
from .health import AudienceCounts, EndpointHealth
from .items import FeedItem
from .letters import Send
from .outcomes import Result
from .settings import DeliverySettings
from .store import DeliveryStore

__all__ = ["Delivery", "Pulled", "Work"]

_WIPE_EVERY_MS: Final = 1_000
_PLAIN: Final = (
    "delivered",
    "handed",
    "opened",
    "expired_unused",
    "recalled",
    "recalls_delivered",
    "unrouted",
)


@dataclass(frozen=True, slots=True)
class Work:
    """What a runner has to do: first break off, then send, then ask again at `wake_ms` (None: when woken)."""

    aborts: tuple[int, ...]
    sends: tuple[Send, ...]
    wake_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """One item of a pull: a fragment, or (`token` None, `reason` set) the recall of one handed out before.

    `position` is what to acknowledge with: pass the last one as `after`.
    """

    position: int
    jti: str
    order_id: str
    version: int
    expires_at_ms: int
    token: str | None = field(default=None, repr=False)
    reason: str = ""


class Delivery:
    """Delivery of one tenant. Thread-safe; a context manager.

    Whatever a method did is durable when it returns. After an error of the disk every method raises until it is opened anew,
    which resumes from what was durable. Times are milliseconds since 1970 UTC.

    Args:
        path: `delivery.db`; or `:memory:`.
        settings: Who receives what.
        tenant: Whose file it is; compared when it is opened again.
        random: Numbers in [0, 1), for jitter.

    Raises:
        DeliveryError: the file is foreign, of a newer version, damaged, or cannot be written.
    """

    def __init__(
        self, path: Path | str, settings: DeliverySettings, *, tenant: str, random: Callable[[], float]
    ) -> None:
        self._lock = threading.RLock()
        self._store = DeliveryStore(path, tenant=tenant)
        self._desk = Desk(self._store, settings, random=random)
        self._settings = settings
        self._failed = self._closed = False
        self._wiped_ms = -_WIPE_EVERY_MS
        self._wake: Callable[[], None] = lambda: None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def settings(self) -> DeliverySettings:
        """Who receives what."""
        return self._settings

    @property
    def position(self) -> int:
        """Last position of the feed that was taken: give the feed from the next one on."""
        return self._desk.position

    # --- feed -------------------------------------------------------------------------------------------------------

    @property
    def marks(self) -> dict[str, int]:
        """What was given with the items taken last, by name; for a feed that is made of several."""
        with self._lock:
            return self._desk.marks()

    def take(self, items: Iterable[FeedItem], *, now_ms: int, marks: Mapping[str, int] | None = None) -> int:
        """Take feed items in their order; those up to `position` are skipped, so a feed may be repeated.

        From the moment it returns, no request for a fragment that these items recall, replace or end is started.

        Args:
            items: Of the feed.
            now_ms: The instant.
            marks: Kept in the same transaction, by name.

        Returns:
            The new position.

        Raises:
            FeedOutOfOrder: positions do not rise, or a fragment comes twice; nothing was taken.
        """
        with self._lock:
            with self._guarded():
                fresh = self._desk.fresh(items)
            with self._transaction():
                position = self._desk.take(fresh, now_ms)
                self._desk.mark(marks or {})
            self._desk.position = position
        self._wake()
        return position

    def opened(self, jti: str, *, leases: int) -> None:
        """Tell that a fragment was leased, `leases` times by now; unknown fragments are ignored."""
        with self._transaction():
            self._desk.opened(jti, leases)

    # --- push -------------------------------------------------------------------------------------------------------

    def step(self, results: Sequence[tuple[int, Result]], *, now_ms: int) -> Work:
        """Note how attempts ended and say what to do next, in one transaction.

        The attempts it returns are durably begun: after a crash they count as possibly arrived, and a recall is sent for them.
        """
        with self._lock:
            with self._transaction():
                for job_id, result in results:
                    self._desk.settle(job_id, result, now_ms)
                sends, wake_ms = self._desk.begin(now_ms)
                self._desk.sweep(now_ms)
                expiry_ms = self._desk.next_expiry_ms()
            aborts = tuple(self._desk.aborts)
            self._desk.aborts.clear()
            wipe_ms = self._wipe(now_ms)
        wakes = [at for at in (wake_ms, expiry_ms, wipe_ms) if at is not None]
        return Work(aborts, sends, min(wakes, default=None))

    def finish(self, results: Sequence[tuple[int, Result]], *, now_ms: int) -> None:
        """Note how attempts ended, and begin none: the last call of a runner."""
        with self._transaction():
            for job_id, result in results:
                self._desk.settle(job_id, result, now_ms)

    def _wipe(self, now_ms: int) -> int | None:
        """Take deleted tokens out of the database's log, at most once a second; returns when that is due."""
        if not self._desk.wipe_wanted:
            return None
        due_ms = self._wiped_ms + _WIPE_EVERY_MS
        if self._wiped_ms <= now_ms < due_ms:
            return due_ms
        self._store.wipe()
        self._wiped_ms, self._desk.wipe_wanted = now_ms, False
        return None

    def on_work(self, wake: Callable[[], None]) -> None:
        """Call `wake` (from any thread) whenever `take` may have given a runner something to do."""
        self._wake = wake

    def enable(self, endpoint: str) -> None:
        """Send to an endpoint again that answered 410; what was given up meanwhile stays so.

        Raises:
            UnknownRecipient: the settings have no such endpoint.
        """
        if endpoint not in self._desk.endpoints:
            raise UnknownRecipient(
                f"endpoint={endpoint!r} must be one of {sorted(self._desk.endpoints)}; correct the name"
            )
        with self._transaction():
            self._desk.enable(endpoint)

    # --- pull -------------------------------------------------------------------------------------------------------

    def token(self, jti: str, audience: str, *, now_ms: int) -> str | None:
        """The sealed fragment behind a `dataref`, or None when it is not live or not this audience's."""
        with self._guarded():
            rows = self._store.rows(
                "SELECT t.token FROM fragments f JOIN tokens t ON t.position = f.position"
                " WHERE f.jti = ? AND f.audience = ? AND f.state = 'live' AND f.expires_ms > ?",
                (jti, audience, now_ms),
            )
        return rows[0][0] if rows else None

    def pull(
        self, consumer: str, audience: str, *, now_ms: int, after: int | None = None, limit: int = 100
    ) -> tuple[Pulled, ...]:
        """Next live fragments for a consumer, and recalls of what it may have had, in the order of the feed.

        Args:
            consumer: Name under which the acknowledged position is kept.
            audience: Whose fragments.
            now_ms: Expired fragments are not handed out.
            after: Acknowledges everything up to this position, for good; None repeats what is not acknowledged.
            limit: Most items, 1 to 10,000.

        Raises:
            UnknownRecipient: the settings do not keep fragments for this audience.
        """
        if audience not in self._settings.audiences:
            raise UnknownRecipient(
                f"audience={audience!r} must be in the settings; add it under pull or an endpoint"
            )
        if not 1 <= limit <= 10_000:
            raise DeliveryError(f"limit={limit} must lie in [1, 10000]; pass a value inside")
        with self._transaction():
            acknowledged, handed = self._cursor(consumer, audience)
            start = max(acknowledged, after or 0)
            items = self._items(audience, start, handed, limit, now_ms)
            new = sum(1 for item in items if item.token is not None and item.position > handed)
            if new:
                self._store.count(audience, "handed", n=new)
            last = max([handed, *(item.position for item in items if item.token is not None)])
            if (start, last) != (acknowledged, handed):
                self._store.rows(
                    "REPLACE INTO cursors VALUES (?, ?, ?, ?)", (consumer, audience, start, last)
                )
        return items

    def _cursor(self, consumer: str, audience: str) -> tuple[int, int]:
        rows = self._store.rows(
            "SELECT acknowledged, handed FROM cursors WHERE consumer = ? AND audience = ?",
            (consumer, audience),
        )
        return (rows[0][0], rows[0][1]) if rows else (0, 0)

    def _items(self, audience: str, after: int, handed: int, limit: int, now_ms: int) -> tuple[Pulled, ...]:
        rows = self._store.rows(
            "SELECT f.position, jti, order_id, version, f.expires_ms, token, '' FROM fragments f"
            " JOIN tokens t ON t.position = f.position"
            " WHERE audience = ?1 AND f.position > ?2 AND state = 'live' AND f.expires_ms > ?3"
            " UNION ALL "
            "SELECT recall_position, jti, order_id, version, expires_ms, NULL, recall_reason FROM fragments"
            " WHERE audience = ?1 AND recall_position > ?2 AND expires_ms > ?3 AND position <= ?4"
            " ORDER BY 1 LIMIT ?5",
            (audience, after, now_ms, handed, limit),
        )
        return tuple(
            Pulled(
                position=row[0],
                jti=row[1],
                order_id=row[2],
                version=row[3],
                expires_at_ms=row[4],
                token=row[5],
                reason=row[6],
            )
            for row in rows
        )

    # --- health -----------------------------------------------------------------------------------------------------

    def counts(self, *, now_ms: int) -> tuple[AudienceCounts, ...]:
        """What became of everything, per audience, by name."""
        plain: dict[str, dict[str, int]] = defaultdict(dict)
        reasons: dict[str, dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
        with self._guarded():
            for audience, name, reason, n in self._store.rows("SELECT * FROM counts"):
                if reason:
                    reasons[audience][name][reason] = n
                else:
                    plain[audience][name] = n
            queues = self._store.rows(
                "SELECT f.audience, count(*), min(j.at_ms) FROM jobs j JOIN fragments f ON f.position = j.fragment"
                " WHERE j.state != 'done' GROUP BY f.audience"
            )
        queued = {audience: (n, max(0, now_ms - oldest_ms)) for audience, n, oldest_ms in queues}
        return tuple(
            AudienceCounts(
                audience=audience,
                failed=MappingProxyType(reasons[audience]["failed"]),
                recalls_failed=MappingProxyType(reasons[audience]["recalls_failed"]),
                attempts_failed=MappingProxyType(reasons[audience]["attempt_failed"]),
                queued=queued.get(audience, (0, 0))[0],
                oldest_age_ms=queued.get(audience, (0, 0))[1],
                **{name: plain[audience].get(name, 0) for name in _PLAIN},
            )
            for audience in sorted({*self._settings.audiences, *plain, *reasons})
        )

    def endpoints(self, *, now_ms: int) -> tuple[EndpointHealth, ...]:
        """How each endpoint is doing, in the order of the settings."""
        plan = self._desk.plan
        with self._guarded():
            return tuple(
                EndpointHealth(
                    name=endpoint.name,
                    audience=endpoint.audience,
                    state="disabled"
                    if endpoint.name in self._desk.disabled
                    else plan.state(endpoint.name, now_ms),
                    queued=plan.depth(endpoint.name),
                    in_flight=plan.in_flight(endpoint.name),
                )
                for endpoint in self._settings.endpoints
            )

    def close(self) -> None:
        """Close the file; again does nothing. What is in flight counts as possibly arrived when it is opened again."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._store.close()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """The lock, on a delivery that works."""
        with self._lock:
            if self._closed:
                raise DeliveryError("delivery is closed and must be open; open it again")
            if self._failed:
                raise DeliveryError(
                    "delivery has failed and must be opened anew; see the first error for the cause"
                )
            yield

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Everything in the block or nothing; what fails half way makes the plan in memory unusable."""
        with self._guarded():
            try:
                with self._store.transaction():
                    yield
            except BaseException:
                self._failed = True
                raise
