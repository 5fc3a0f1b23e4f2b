"""What each feed item and each result changes, in `delivery.db` and in the plan together.

Every method runs inside a transaction of its caller; the plan in memory is what the tables say, at all times.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from dayfly.engine.errors import FeedOutOfOrder

from .items import FeedItem, FragmentEnded, FragmentReady, FragmentRecalled
from .letters import LETTERS, Letter, Send, message
from .messages import Kind
from .outcomes import Outcome, Result
from .plan import Plan
from .settings import DeliverySettings, Endpoint
from .store import DeliveryStore

__all__ = ["Desk"]

_KEEP_MS: Final = 60_000
"""How long a dead fragment's row is kept for what the feed still says about it; no token is in it."""


class Desk:
    """Keeps tables and plan in step.

    Args:
        store: The tables.
        settings: Who receives what.
        random: Numbers in [0, 1), for jitter.
    """

    def __init__(
        self, store: DeliveryStore, settings: DeliverySettings, *, random: Callable[[], float]
    ) -> None:
        self.store = store
        self.settings = settings
        self.endpoints = {endpoint.name: endpoint for endpoint in settings.endpoints}
        self._random = random
        self.plan = Plan(self.endpoints, random=random)
        self._audiences = settings.audiences
        self._routes: dict[str, list[Endpoint]] = {}
        for endpoint in settings.endpoints:
            self._routes.setdefault(endpoint.audience, []).append(endpoint)
        self.disabled: set[str] = set()
        self.unwanted: set[int] = set()
        """Messages in flight that must not be sent (any more); kept until settled."""
        self.aborts: list[int] = []
        """Those of them that the runner has not been told about."""
        self._held: dict[int, int] = {}
        """Message in flight to the recall that waits for its result."""
        self.wipe_wanted = True
        """Whether a deleted token may still stand in the log of the database."""
        with store.transaction():
            self._recover()
        self.position: int = store.rows("SELECT value FROM meta WHERE key = 'position'")[0][0]

    # --- feed -------------------------------------------------------------------------------------------------------

    def fresh(self, items: Iterable[FeedItem]) -> tuple[FeedItem, ...]:
        """The items after the known position; changes nothing.

        Raises:
            FeedOutOfOrder: positions do not rise, or a fragment comes twice.
        """
        position = self.position
        fresh: list[FeedItem] = []
        for item in items:
            if item.position <= self.position:
                continue
            if item.position <= position:
                raise FeedOutOfOrder(
                    f"position={item.position} must be > {position}; give the feed's items in their order"
                )
            position = item.position
            fresh.append(item)
        minted = [item.jti for item in fresh if isinstance(item, FragmentReady)]
        again = self.store.in_batches("SELECT jti FROM fragments WHERE jti IN ({})", minted)
        if again or len(set(minted)) < len(minted):
            raise FeedOutOfOrder(
                f"jti={again[0][0] if again else minted[0]!r} must come once; give each fragment one position"
            )
        return tuple(fresh)

    def take(self, fresh: Sequence[FeedItem], now_ms: int) -> int:
        """Take what `fresh` has checked; returns the new position, which the caller keeps when the commit held."""
        for item in fresh:
            if item.audience not in self._audiences:
                self.store.count(item.audience, "unrouted")
            elif isinstance(item, FragmentReady):
                self._ready(item, now_ms)
            elif isinstance(item, FragmentRecalled):
                self._recalled(item, now_ms)
            else:
                self._ended(item)
        position = fresh[-1].position if fresh else self.position
        self._do("UPDATE meta SET value = ? WHERE key = 'position'", position)
        return position

    def marks(self) -> dict[str, int]:
        """What `mark` kept, by name."""
        rows = self.store.rows("SELECT key, value FROM meta WHERE key LIKE 'mark.%'")
        return {key.removeprefix("mark."): value for key, value in rows}

    def mark(self, marks: Mapping[str, int]) -> None:
        """Keep numbers by name."""
        for name, value in marks.items():
            self._do("INSERT OR REPLACE INTO meta VALUES (?, ?)", f"mark.{name}", value)

    def opened(self, jti: str, leases: int) -> None:
        """A fragment was leased, so many times by now; the first time counts."""
        for position, audience, known in self.store.rows(
            "SELECT position, audience, leases FROM fragments WHERE jti = ?", (jti,)
        ):
            if leases > known:
                self._do("UPDATE fragments SET leases = ? WHERE position = ?", leases, position)
                if known == 0:
                    self.store.count(audience, "opened")

    def _ready(self, item: FragmentReady, now_ms: int) -> None:
        self._do(
            "INSERT INTO fragments (position, jti, audience, order_id, digest, version, ready_ms, expires_ms)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            item.position,
            item.jti,
            item.audience,
            item.order_id,
            item.subject_digest,
            item.version,
            item.at_ms,
            item.expires_at_ms,
        )
        if item.subject_digest and self._superseded(item):
            return
        if now_ms >= item.expires_at_ms:
            self._do("UPDATE fragments SET state = 'expired' WHERE position = ?", item.position)
            self.store.count(item.audience, "failed", reason="expired")
            return
        self._do("INSERT INTO tokens VALUES (?, ?, ?)", item.position, item.token, item.expires_at_ms)
        for endpoint in self._routes.get(item.audience, ()):
            if endpoint.name in self.disabled:
                self.store.count(item.audience, "failed", reason="disabled")
            else:
                self._enqueue(item.position, endpoint.name, "ready", end_ms=item.expires_at_ms, now_ms=now_ms)

    def _superseded(self, item: FragmentReady) -> bool:
        """End what this fragment replaces; True when it is itself replaced already."""
        rivals = self.store.rows(
            "SELECT position, version, state FROM fragments WHERE digest = ? AND audience = ? AND position != ?",
            (item.subject_digest, item.audience, item.position),
        )
        self._kill(
            [at for at, version, state in rivals if state == "live" and version < item.version], "superseded"
        )
        if any(version > item.version for _, version, _ in rivals):
            self._do("UPDATE fragments SET state = 'superseded' WHERE position = ?", item.position)
            self.store.count(item.audience, "failed", reason="superseded")
            return True
        return False

    def _recalled(self, item: FragmentRecalled, now_ms: int) -> None:
        wanted = "SELECT position, expires_ms FROM fragments WHERE recall_position IS NULL AND audience = ?"
        found: dict[int, int] = {}
        for column, values in (("order_id", item.order_ids), ("jti", item.jtis)):
            for value in values:
                found.update(self.store.rows(f"{wanted} AND {column} = ?", (item.audience, value)))
        for position, expires_ms in found.items():
            self._kill([position], "recalled")
            self._do(
                "UPDATE fragments SET recall_position = ?, recall_reason = ? WHERE position = ?",
                item.position,
                item.reason,
                position,
            )
            self.store.count(item.audience, "recalled")
            if now_ms < expires_ms:
                self._send_recalls(position, expires_ms, now_ms)

    def _send_recalls(self, fragment: int, end_ms: int, now_ms: int) -> None:
        """Tell every endpoint where the fragment arrived or may have; one in flight decides when its attempt ends."""
        for job_id, endpoint, in_flight, reached in self.store.rows(
            "SELECT id, endpoint, in_flight, reached FROM jobs WHERE fragment = ? AND kind = 'ready'",
            (fragment,),
        ):
            if endpoint in self.disabled or not (in_flight or reached):
                continue
            if reached:
                self._enqueue(fragment, endpoint, "recalled", end_ms=end_ms, now_ms=now_ms)
            else:
                self._held[job_id] = self._insert(fragment, endpoint, "recalled", "held", end_ms, now_ms)

    def _ended(self, item: FragmentEnded) -> None:
        rows = self.store.rows("SELECT position, settled FROM fragments WHERE jti = ?", (item.jti,))
        for position, settled in rows:
            self._kill([position], "expired" if item.reason == "expired" else "ended")
            self.opened(item.jti, item.leases)
            if not settled:
                self._do("UPDATE fragments SET settled = 1 WHERE position = ?", position)
                if item.reason == "expired" and item.leases == 0:
                    self.store.count(item.audience, "expired_unused")

    def _kill(self, fragments: Sequence[int], state: str) -> None:
        """Deliver these fragments no more, and forget their tokens."""
        for position in fragments:
            self._do("UPDATE fragments SET state = ? WHERE position = ? AND state = 'live'", state, position)
            self._do("DELETE FROM tokens WHERE position = ?", position)
            self.wipe_wanted = True
            for job_id, endpoint in self.store.rows(
                "SELECT id, endpoint FROM jobs WHERE fragment = ? AND kind = 'ready' AND state = 'queued'",
                (position,),
            ):
                if self.plan.drop(job_id) == "in_flight":
                    if job_id not in self.unwanted:
                        self.unwanted.add(job_id)
                        self.aborts.append(job_id)
                else:
                    self._finish(job_id)
                    self.store.count(self.endpoints[endpoint].audience, "failed", reason=state)

    # --- sending ----------------------------------------------------------------------------------------------------

    def begin(self, now_ms: int) -> tuple[tuple[Send, ...], int | None]:
        """Start what may start; its attempts are in the tables, so that a crash knows what may have arrived."""
        step = self.plan.next(now_ms)
        for job_id in step.ended:
            self._give_up(job_id, "expired")
        self.store.many(
            "UPDATE jobs SET in_flight = 1, attempts = attempts + 1 WHERE id = ?",
            [(job_id,) for job_id in step.begin],
        )
        return tuple(self._messages(step.begin)), step.wake_ms

    def settle(self, job_id: int, result: Result, now_ms: int) -> None:
        """Note how an attempt ended."""
        ((endpoint, kind, reached, state),) = self.store.rows(
            "SELECT j.endpoint, j.kind, j.reached, f.state FROM jobs j JOIN fragments f ON f.position = j.fragment"
            " WHERE j.id = ?",
            (job_id,),
        )
        ending, due_ms = self.plan.settle(job_id, result, now_ms)
        audience = self.endpoints[endpoint].audience
        reached = reached or result.reached
        self.unwanted.discard(job_id)
        self._do(
            "UPDATE jobs SET in_flight = 0, reached = ?, due_ms = ? WHERE id = ?",
            int(reached),
            due_ms,
            job_id,
        )
        if result.outcome not in {Outcome.DELIVERED, Outcome.ABORTED}:
            self.store.count(audience, "attempt_failed", reason=result.reason)
        if ending is not None:
            self._finish(job_id)
            dropped = "disabled" if state == "live" or kind == "recalled" else state
            reasons = {"refused": result.reason, "dropped": dropped}
            self._count_ending(audience, kind, ending, reasons.get(ending, ending))
        self._release(job_id, arrived=bool(reached), now_ms=now_ms)
        if result.outcome is Outcome.GONE:
            self.disable(endpoint, now_ms)

    def disable(self, endpoint: str, now_ms: int) -> None:
        """Send to this endpoint no more, across restarts, until it is enabled."""
        if endpoint in self.disabled:
            return
        self.disabled.add(endpoint)
        self._do("INSERT INTO endpoints VALUES (?, ?)", endpoint, now_ms)
        for job_id in self.plan.disable(endpoint):
            self._give_up(job_id, "disabled")
        in_flight = self.store.rows(
            "SELECT id FROM jobs WHERE endpoint = ? AND state = 'queued' AND in_flight = 1", (endpoint,)
        )
        for (job_id,) in in_flight:
            if job_id not in self.unwanted:
                self.unwanted.add(job_id)
                self.aborts.append(job_id)

    def enable(self, endpoint: str) -> None:
        """Send to this endpoint again what becomes ready from now on."""
        self._do("DELETE FROM endpoints WHERE name = ?", endpoint)
        self.disabled.discard(endpoint)
        self.plan.enable(endpoint)

    def sweep(self, now_ms: int) -> None:
        """Delete tokens whose fragments have expired, and rows that nothing will refer to."""
        expired = self.store.rows("SELECT position FROM tokens WHERE expires_ms <= ?", (now_ms,))
        if expired:
            self.wipe_wanted = True
            self.store.many("DELETE FROM tokens WHERE position = ?", expired)
            self.store.many(
                "UPDATE fragments SET state = 'expired' WHERE position = ? AND state = 'live'", expired
            )
        done = self.store.rows(
            "SELECT position, audience, leases, settled FROM fragments WHERE expires_ms <= ?"
            " AND NOT EXISTS (SELECT 1 FROM jobs WHERE fragment = position AND in_flight = 1)",
            (now_ms - _KEEP_MS,),
        )
        for position, audience, leases, settled in done:
            if not settled and leases == 0:
                self.store.count(audience, "expired_unused")
            self._do("DELETE FROM jobs WHERE fragment = ?", position)
            self._do("DELETE FROM fragments WHERE position = ?", position)

    def next_expiry_ms(self) -> int | None:
        """When `sweep` has a token to delete."""
        first: int | None = self.store.rows("SELECT min(expires_ms) FROM tokens")[0][0]
        return first

    def _release(self, job_id: int, *, arrived: bool, now_ms: int) -> None:
        """Let the recall go that waited for this attempt, or drop it when nothing can have arrived."""
        recall = self._held.pop(job_id, None)
        if recall is None:
            return
        ((endpoint, end_ms),) = self.store.rows("SELECT endpoint, end_ms FROM jobs WHERE id = ?", (recall,))
        if not arrived or endpoint in self.disabled:
            self._finish(recall)
            return
        self._do("UPDATE jobs SET state = 'queued', due_ms = ? WHERE id = ?", now_ms, recall)
        self.plan.add(recall, endpoint, end_ms=end_ms, due_ms=now_ms, urgent=True)

    def _count_ending(self, audience: str, kind: str, ending: str, reason: str) -> None:
        if ending == "delivered":
            self.store.count(audience, "delivered" if kind == "ready" else "recalls_delivered")
        else:
            self.store.count(audience, "failed" if kind == "ready" else "recalls_failed", reason=reason)

    def _give_up(self, job_id: int, reason: str) -> None:
        ((endpoint, kind),) = self.store.rows("SELECT endpoint, kind FROM jobs WHERE id = ?", (job_id,))
        self._finish(job_id)
        name = "failed" if kind == "ready" else "recalls_failed"
        self.store.count(self.endpoints[endpoint].audience, name, reason=reason)

    def _finish(self, job_id: int) -> None:
        self._do("UPDATE jobs SET state = 'done' WHERE id = ?", job_id)

    def _enqueue(self, fragment: int, endpoint: str, kind: Kind, *, end_ms: int, now_ms: int) -> None:
        urgent = kind == "recalled"
        due_ms = now_ms if urgent else now_ms + self.endpoints[endpoint].backoff.delay_ms(0, self._random)
        job_id = self._insert(fragment, endpoint, kind, "queued", end_ms, due_ms)
        self.plan.add(job_id, endpoint, end_ms=end_ms, due_ms=due_ms, urgent=urgent)

    def _insert(self, fragment: int, endpoint: str, kind: Kind, state: str, end_ms: int, due_ms: int) -> int:
        ((job_id,),) = self.store.rows(
            "INSERT INTO jobs (fragment, endpoint, kind, state, at_ms, end_ms, due_ms) VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id",
            (fragment, endpoint, kind, state, due_ms, end_ms, due_ms),
        )
        return int(job_id)

    def _messages(self, job_ids: Sequence[int]) -> Iterator[Send]:
        rows = {row[0]: row for row in self.store.in_batches(LETTERS, job_ids)}
        for job_id in job_ids:
            letter = Letter(*rows[job_id])
            wanted = partial(self._wanted, job_id)
            yield message(letter, self.endpoints[letter.endpoint], self.settings, wanted=wanted)

    def _wanted(self, job_id: int) -> bool:
        """Asked from the courier's thread while another may hold the lock; looking in a set needs none."""
        return job_id not in self.unwanted

    def _do(self, sql: str, *parameters: object) -> None:
        self.store.rows(sql, parameters)

    # --- restart ----------------------------------------------------------------------------------------------------

    def _recover(self) -> None:
        """Read the queue; what was in flight may have arrived, and is sent again under its id if it still may be."""
        self.disabled.update(
            name for (name,) in self.store.rows("SELECT name FROM endpoints") if name in self.endpoints
        )
        self._do("UPDATE jobs SET in_flight = 0, reached = 1 WHERE in_flight = 1")
        self._do("UPDATE jobs SET state = 'queued' WHERE state = 'held'")
        waiting = self.store.rows(
            "SELECT j.id, j.endpoint, j.kind, j.end_ms, j.due_ms, j.attempts, f.audience, f.state"
            " FROM jobs j JOIN fragments f ON f.position = j.fragment WHERE j.state = 'queued' ORDER BY j.id"
        )
        for job_id, endpoint, kind, end_ms, due_ms, attempts, audience, state in waiting:
            ready = kind == "ready"
            served = endpoint in self.endpoints and endpoint not in self.disabled
            if served and not (ready and state != "live"):
                self.plan.add(
                    job_id, endpoint, end_ms=end_ms, due_ms=due_ms, attempts=attempts, urgent=not ready
                )
                continue
            self._finish(job_id)
            reason = state if state != "live" else "disabled" if endpoint in self.disabled else "removed"
            self.store.count(audience, "failed" if ready else "recalls_failed", reason=reason)
