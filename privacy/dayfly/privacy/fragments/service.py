"""`FragmentService`: the one object that mints, leases and destroys fragments."""

import hashlib
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec

from dayfly.privacy._check import in_range
from dayfly.privacy.errors import (
    DayflyError,
    FragmentServiceClosed,
    InvalidArgument,
    InvalidOrder,
    LeaseRefused,
    MintRefused,
)

from .build import Stamp, build_token, check_order, expiry_seconds, random_length, read_answer, seal_answers
from .graveyard import Graveyard
from .keys import KeyRing, SigningKey
from .orders import (
    Destroyed,
    DestroyReason,
    EventKind,
    Fragment,
    FragmentEvent,
    FragmentOrder,
    LeaseReason,
    LiveFragment,
    OrderView,
)
from .proof import NonceSource, SeenOnce, check_proof
from .registry import Entry, Registry, Wheel
from .slab import KeySlab, kernel_random
from .strict import MAX_CLEAR_TTL_SECONDS, Profile
from .tombstones import DeletionReceipt, NoteSigner, TombstoneSink
from .wire import (
    MAX_TTL_SECONDS,
    Lease,
    LeaseRequest,
    b64url,
    b64url_decode,
    hpke_suite,
    key_commitment,
    lease_info,
    one_time_public_key,
)

__all__ = ["FragmentService", "ServiceSettings"]

_GONE = "the fragment is dead or never lived; wait for a new one"


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """Limits of a service; the defaults are the documented ones.

    Attributes:
        clear_ttl_seconds: Life of F0 fragments, 60 to 300.
        max_lease_seconds: Longest lease, 1 to 300.
        proof_max_age_ms: Largest distance between a proof's `iat` and now.
        replay_capacity: Proofs remembered at a time (each for twice `proof_max_age_ms`).
        one_time_capacity: One-time keys remembered at a time (each for an hour).
        keys_per_slab: Keys per locked mapping (32 bytes each).
        allow_unlocked: Go on where the operating system refuses to lock memory.
    """

    clear_ttl_seconds: int = 60
    max_lease_seconds: int = 300
    proof_max_age_ms: int = 60_000
    replay_capacity: int = 262_144
    one_time_capacity: int = 2_097_152
    keys_per_slab: int = 2048
    allow_unlocked: bool = False

    def __post_init__(self) -> None:
        in_range(1, MAX_CLEAR_TTL_SECONDS, clear_ttl_seconds=self.clear_ttl_seconds)
        in_range(1, 300, max_lease_seconds=self.max_lease_seconds)


class FragmentService:
    """Mints, leases and destroys fragments. Thread-safe; every decision is one atomic step under one lock.

    Args:
        issuer: `iss` of every token.
        keys: Signing keys.
        recipients: Audience to the RFC 7638 thumbprint of its registered key.
        pairwise_sub: Internal pseudonym and audience to the 16 bytes that this audience may see.
        gate: Raises a `DayflyError` when the full consent decision says no. Called under the service's lock, at the
            mint and at each lease; it must not wait for a thread that calls the service.
        note_signer: Signs the checkpoints of the tombstone log; its name is the log's origin.
        lease_url: Full URL of the lease service, as the CRMs know it.
        random_bytes: Randomness for names, salts and nonces, for example `os.urandom`.
        fill_random: Randomness for keys, written in place; default: the kernel's.
        log: Receives one `FragmentEvent` per act; holds no key, token, value or subject.
        sink: Makes the tombstone log outlive the process.
        settings: Limits.

    Guarantees:
        A key exists only in locked memory and is overwritten at expiry, last use, withdrawal, supersession, erasure
        and close. Time never runs backwards: a smaller `now_ms` than before counts as the largest seen.
        minted = live + tombstones at every checkpoint. A refused call changes nothing but the memory of used proofs.
    """

    def __init__(
        self,
        *,
        issuer: str,
        keys: KeyRing,
        recipients: Mapping[str, str],
        pairwise_sub: Callable[[bytes, str], bytes],
        gate: Callable[[OrderView], None],
        note_signer: NoteSigner,
        lease_url: str,
        random_bytes: Callable[[int], bytes],
        fill_random: Callable[[memoryview], None] | None = None,
        log: Callable[[FragmentEvent], None] | None = None,
        sink: TombstoneSink | None = None,
        settings: ServiceSettings | None = None,
    ) -> None:
        self._settings = settings or ServiceSettings()
        self._issuer = issuer
        self._keys = keys
        self._recipients = recipients
        self._pairwise_sub = pairwise_sub
        self._gate = gate
        self._lease_url = lease_url
        self._lease_path = urlsplit(lease_url).path
        if not self._lease_path:
            raise InvalidArgument(
                f"lease_url={lease_url!r} must have a path; pass the full URL of the lease service"
            )
        self._random = random_bytes
        self._log = log
        self._lock = threading.RLock()
        self._closed = False
        self._now_ms = 0
        self._next_due_ms = 0
        self._live = Registry()
        self._graves = Graveyard(note_signer, sink)
        self._unreported: list[Destroyed] = []
        self._orders: set[str] = set()
        self._floors: dict[tuple[bytes, str], tuple[int, int]] = {}
        self._forget: Wheel[str | tuple[bytes, str]] = Wheel()
        self._nonces = NonceSource(random_bytes(32))
        limits = self._settings
        self._proofs = SeenOnce(capacity=limits.replay_capacity, keep_ms=2 * limits.proof_max_age_ms + 1000)
        self._one_time = SeenOnce(capacity=limits.one_time_capacity, keep_ms=2 * MAX_TTL_SECONDS * 1000)
        self._slab = KeySlab(
            fill_random=fill_random or kernel_random(),
            keys_per_slab=limits.keys_per_slab,
            allow_unlocked=limits.allow_unlocked,
        )
        if not self._slab.locked:
            self._tell("unlocked", 0, reason="mlock was refused; keys may reach the swap device")

    # --- minting -----------------------------------------------------------------------------------------------------

    def mint(self, order: FragmentOrder, now_ms: int) -> Fragment:
        """Mint one fragment.

        Raises:
            InvalidOrder: The order breaks a rule of the format.
            MintRefused: The gate says no, its time is over, or the order is superseded or minted already.
            MemoryNotLocked: The slab had to grow and could not be locked.
        """
        check_order(order)
        jkt = "" if order.profile is Profile.F0 else self._recipients.get(order.audience, "")
        if not jkt and order.profile is not Profile.F0:
            raise InvalidOrder(
                f"audience={order.audience!r} must be a registered recipient; register its key first"
            )
        try:
            with self._lock:
                entry, signing_key, random = self._reserve(order, jkt, now_ms)
        except MintRefused as refusal:
            self._tell("mint_refused", now_ms, order_id=order.order_id, reason=str(refusal))
            raise
        # Signing and sealing run outside the lock. A withdrawal may overwrite the key meanwhile; `_publish` then finds
        # the entry dead and the token, sealed under whatever the slot held, is dropped unseen.
        try:
            token = self._build(order, entry, signing_key, random)
        except BaseException:
            with self._lock:
                self._unreported.extend(self._destroy([entry], DestroyReason.ABORTED))
            raise
        with self._lock:
            return self._publish(order, entry, token)

    def _reserve(self, order: FragmentOrder, jkt: str, now_ms: int) -> tuple[Entry, SigningKey, bytes]:
        """Decide, take a key and enter the fragment into every index, unpublished."""
        now_ms = self._advance(now_ms)
        if order.order_id in self._orders:
            raise MintRefused(f"order_id={order.order_id!r} must be new and not superseded; make a new order")
        if order.version < self._floors.get((order.subject, order.audience), (0, 0))[0]:
            raise MintRefused(f"version={order.version!r} must not be superseded; make a new order")
        exp = expiry_seconds(order, now_ms, self._settings.clear_ttl_seconds)
        if exp * 1000 <= now_ms or exp <= now_ms // 1000:
            raise MintRefused(
                f"expires_at_ms={exp * 1000!r} must be after now_ms={now_ms!r}; nothing is left of its time"
            )
        view = _view(order, now_ms)
        try:
            self._gate(view)
        except DayflyError as refusal:
            raise MintRefused(
                f"order_id={order.order_id!r} must be covered by consent; {refusal}"
            ) from refusal
        slot = None if order.profile is Profile.F0 else self._slab.take()
        random = self._random(16 + random_length(order))
        entry = Entry(
            jti=b64url(random[:16]),
            slot=slot,
            view=view,
            iat=now_ms // 1000,
            exp=exp,
            budget=order.use,
            version=order.version,
            kc="" if slot is None else b64url(key_commitment(self._slab.view(slot))),
            jkt=jkt,
        )
        self._live.add(entry)
        self._graves.minted += 1
        self._remember(order.order_id)
        return entry, self._keys.signing_key(now_ms, exp * 1000), random[16:]

    def _build(self, order: FragmentOrder, entry: Entry, signing_key: SigningKey, random: bytes) -> bytes:
        stamp = Stamp(
            issuer=self._issuer,
            iat=entry.iat,
            exp=entry.exp,
            jti=entry.jti,
            sub=self._pairwise_sub(order.subject, order.audience),
            jkt=entry.jkt,
            kc=entry.kc,
            lease_path=self._lease_path,
        )
        key = memoryview(b"") if entry.slot is None else self._key(entry)
        token = build_token(order, stamp, key, random, signing_key)
        if order.profile is Profile.F2:
            entry.answers = seal_answers(order, entry.jti, random[-12:], key)
        return token

    def _key(self, entry: Entry) -> memoryview:
        """The key of an entry, unless it died meanwhile."""
        try:
            if entry.slot is not None:
                return self._slab.view(entry.slot)
        except KeyError:
            pass
        raise MintRefused(
            f"order_id={entry.view.order_id!r} must stay consented while it is minted; it was withdrawn"
        )

    def _publish(self, order: FragmentOrder, entry: Entry, token: bytes) -> Fragment:
        if self._live.get(entry.jti) is not entry:
            raise MintRefused(
                f"order_id={order.order_id!r} must stay consented while it is minted; it was withdrawn"
            )
        entry.token_hash = hashlib.sha256(token).digest()
        if order.supersedes:
            self._unreported.extend(self._supersede_orders(order.supersedes))
        self._tell("minted", self._now_ms, jti=entry.jti, order_id=order.order_id)
        return Fragment(
            token=token.decode("ascii"),
            jti=entry.jti,
            order_id=order.order_id,
            audience=order.audience,
            profile=order.profile,
            issued_at_ms=entry.iat * 1000,
            expires_at_ms=entry.exp * 1000,
        )

    # --- leasing -----------------------------------------------------------------------------------------------------

    def nonce(self, now_ms: int) -> str:
        """The nonce that a CRM's next proof must carry."""
        return self._nonces.current(now_ms)

    def lease(self, request: LeaseRequest, now_ms: int) -> Lease:
        """Give the key (F1) or one answer (F2), sealed to the one-time key of the request.

        Raises:
            LeaseRefused: With a code of `LeaseReason`; `NonceRequired` asks for a proof with a current nonce.
        """
        try:
            return self._lease(request, now_ms)
        except LeaseRefused as refusal:
            self._tell("lease_refused", now_ms, reason=refusal.reason)
            raise

    def _lease(self, request: LeaseRequest, now_ms: int) -> Lease:
        with self._lock:
            now_ms = self._advance(now_ms)
            entry = self._leasable(request)
        try:
            public = b64url_decode(request.otk)
            one_time_key = one_time_public_key(request.suite, public)
        except ValueError:
            raise LeaseRefused(
                LeaseReason.ONE_TIME_KEY, "send a fresh public key of the named suite"
            ) from None
        proof = check_proof(
            request.proof,
            jkt=entry.jkt,
            url=self._lease_url,
            token_hash=entry.token_hash,
            one_time_public=public,
            nonces=self._nonces,
            now_ms=now_ms,
            max_age_ms=self._settings.proof_max_age_ms,
        )
        # Sealed before the decision and outside the lock, because it is the costly part; thrown away on a refusal.
        info = lease_info(entry.jti, entry.token_hash)
        try:
            sealed = hpke_suite(request.suite).encrypt(self._secret(entry, request), one_time_key, info=info)
        except (MintRefused, ValueError):
            raise LeaseRefused(LeaseReason.GONE, _GONE) from None
        with self._lock:
            until_ms = self._decide(request, entry, public, proof)
        return Lease(entry.jti, request.suite, b64url(sealed), until_ms, self._nonces.current(now_ms))

    def _leasable(self, request: LeaseRequest) -> Entry:
        entry = self._live.get(request.jti)
        if entry is None or not entry.token_hash:
            raise LeaseRefused(LeaseReason.GONE, _GONE)
        asked = request.ask is not None and request.ask in entry.view.field_names
        if (
            entry.view.profile is Profile.F0
            or (entry.view.profile is Profile.F2) != asked
            or (entry.view.profile is Profile.F1 and request.ask is not None)
        ):
            raise LeaseRefused(
                LeaseReason.NOT_LEASED, "ask for the key of F1, for one offered question of F2"
            )
        return entry

    def _secret(self, entry: Entry, request: LeaseRequest) -> memoryview | bytes:
        key = self._key(entry)
        if request.ask is None:
            return key
        return read_answer(entry.answers, entry.jti, key, request.ask)

    def _decide(self, request: LeaseRequest, entry: Entry, one_time_public: bytes, proof_jti: str) -> int:
        """The atomic step: alive, proof and key unused, consent now, uses left; then count. Returns the lease's end."""
        now_ms = self._advance(self._now_ms)
        one_time = hashlib.sha256(one_time_public).digest()
        self._proofs.admit(
            hashlib.sha256(f"{entry.jkt} {proof_jti}".encode()).digest(), now_ms, LeaseReason.REPLAY
        )
        self._one_time.admit(one_time, now_ms, LeaseReason.ONE_TIME_KEY)
        if self._leasable(request) is not entry:
            raise LeaseRefused(LeaseReason.GONE, _GONE)
        try:
            self._gate(msgspec.structs.replace(entry.view, at="lease", now_ms=now_ms, uses=entry.leases))
        except DayflyError as refusal:
            raise LeaseRefused(
                LeaseReason.CONSENT, "consent does not cover this now; drop the fragment"
            ) from refusal
        if self._live.get(entry.jti) is not entry:  # the gate itself may have destroyed it
            raise LeaseRefused(LeaseReason.GONE, _GONE)
        entry.leases += 1
        if entry.budget is not None and entry.leases >= entry.budget:
            self._unreported.extend(self._destroy([entry], DestroyReason.USED))
        self._tell("leased", now_ms, jti=entry.jti, order_id=entry.view.order_id)
        return min(now_ms + self._settings.max_lease_seconds * 1000, entry.exp * 1000)

    # --- destroying --------------------------------------------------------------------------------------------------

    def shred(self, jti: str, reason: DestroyReason, now_ms: int) -> tuple[Destroyed, ...]:
        """Destroy one fragment; empty when it was not alive."""
        with self._lock:
            self._advance(now_ms)
            entry = self._live.get(jti)
            return self._destroy([] if entry is None else [entry], reason)

    def shred_consent(
        self, record_id: str, now_ms: int, *, below_version: int | None = None
    ) -> tuple[Destroyed, ...]:
        """Destroy every fragment that rests on a consent record: withdrawn, or replaced by `below_version`."""
        with self._lock:
            self._advance(now_ms)
            return self._destroy(self._live.of_consent(record_id, below_version), DestroyReason.WITHDRAWN)

    def shred_subject(
        self, subject: bytes, now_ms: int, *, audience: str | None = None
    ) -> tuple[Destroyed, ...]:
        """Destroy every fragment about a subject (erasure)."""
        with self._lock:
            self._advance(now_ms)
            return self._destroy(self._live.of_subject(subject, audience), DestroyReason.ERASED)

    def supersede(self, order_ids: Iterable[str], now_ms: int) -> tuple[Destroyed, ...]:
        """Destroy the fragments of these orders, and refuse to mint those that were not minted yet."""
        with self._lock:
            self._advance(now_ms)
            return self._supersede_orders(order_ids)

    def supersede_subject(
        self, subject: bytes, audience: str, below_version: int, now_ms: int
    ) -> tuple[Destroyed, ...]:
        """Destroy what this audience holds about a subject below a version, and refuse to mint it later."""
        with self._lock:
            self._advance(now_ms)
            key = (subject, audience)
            until = self._now_ms // 1000 + MAX_TTL_SECONDS + 1
            self._floors[key] = (max(below_version, self._floors.get(key, (0, 0))[0]), until)
            self._forget.add(until, key)
            return self._destroy(
                [
                    entry
                    for entry in self._live.of_subject(subject, audience)
                    if entry.version < below_version
                ],
                DestroyReason.SUPERSEDED,
            )

    def expire(self, now_ms: int) -> tuple[Destroyed, ...]:
        """Destroy what is over at `now_ms`; returns every death that no other call has returned yet.

        These are: expired, used up, superseded by a mint, aborted.
        """
        with self._lock:
            self._advance(now_ms)
            told, self._unreported = tuple(self._unreported), []
            return told

    def close(self) -> tuple[Destroyed, ...]:
        """Destroy all fragments, sign a last checkpoint, and refuse everything from now on."""
        with self._lock:
            if self._closed:
                return ()
            destroyed = (*self._unreported, *self._destroy(list(self._live), DestroyReason.CLOSED))
            self._graves.checkpoint(0, self._now_ms)
            self._slab.close()
            self._closed = True
            return destroyed

    def _supersede_orders(self, order_ids: Iterable[str]) -> tuple[Destroyed, ...]:
        entries = []
        for order_id in order_ids:
            self._remember(order_id)
            entry = self._live.of_order(order_id)
            if entry is not None:
                entries.append(entry)
        return self._destroy(entries, DestroyReason.SUPERSEDED)

    def _destroy(self, entries: Iterable[Entry], reason: DestroyReason) -> tuple[Destroyed, ...]:
        """Overwrite first, then forget, then record."""
        dead = []
        for entry in list(entries):
            if self._live.get(entry.jti) is entry:
                if entry.slot is not None:
                    self._slab.shred(entry.slot)
                self._live.remove(entry)
                dead.append(entry)
        destroyed = tuple([self._graves.bury(entry, reason, self._now_ms) for entry in dead])
        for entry in dead:
            self._tell("destroyed", self._now_ms, jti=entry.jti, order_id=entry.view.order_id, reason=reason)
        return destroyed

    # --- looking -----------------------------------------------------------------------------------------------------

    @property
    def memory_locked(self) -> bool:
        """Whether all key memory is locked; False only with `ServiceSettings.allow_unlocked`."""
        return self._slab.locked

    @property
    def minted(self) -> int:
        """Fragments minted so far."""
        return self._graves.minted

    @property
    def tombstones(self) -> int:
        """Fragments destroyed so far."""
        return len(self._graves)

    def live(self) -> tuple[LiveFragment, ...]:
        """The fragments alive, oldest first."""
        with self._lock:
            return tuple(
                LiveFragment(
                    jti=entry.jti,
                    order_id=entry.view.order_id,
                    audience=entry.view.audience,
                    profile=entry.view.profile,
                    expires_at_ms=entry.exp * 1000,
                    leases=entry.leases,
                )
                for entry in self._live
            )

    def live_count(self) -> int:
        """Number of fragments alive."""
        return len(self._live)

    def checkpoint(self, now_ms: int) -> str:
        """Sign the tombstone log as it stands: a C2SP signed note with the balance."""
        with self._lock:
            now_ms = self._advance(now_ms)
            self._tell("checkpoint", now_ms)
            return self._graves.checkpoint(len(self._live), now_ms)

    def receipt(self, jti: str) -> DeletionReceipt:
        """Deletion receipt of a dead fragment; also after `close` where a checkpoint covers it.

        Raises:
            InvalidArgument: No tombstone of that name.
        """
        with self._lock:
            receipt = self._graves.receipt(jti, len(self._live), self._now_ms)
        if receipt is None:
            raise InvalidArgument(
                f"jti={jti!r} must name a destroyed fragment; it is alive or was never minted here"
            )
        return receipt

    def consistency_proof(self, old_size: int, size: int) -> tuple[bytes, ...]:
        """Proof that the log of `size` tombstones only appended to that of `old_size`."""
        with self._lock:
            return self._graves.consistency(old_size, size)

    def jwks(self, now_ms: int) -> Mapping[str, list[dict[str, str]]]:
        """The key set to publish."""
        with self._lock:
            return self._keys.jwks(now_ms)

    def rotate(self, key: SigningKey, now_ms: int, *, use_from_ms: int | None = None) -> int:
        """Publish the next signing key; returns when it begins to sign. See `KeyRing.publish`."""
        with self._lock:
            return self._keys.publish(key, now_ms, use_from_ms=use_from_ms)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _advance(self, now_ms: int) -> int:
        """Move time forward, never back, and destroy what is over. The caller holds the lock."""
        if self._closed:
            raise FragmentServiceClosed("service=<closed> must be open; start a new one")
        self._now_ms = now_ms = max(now_ms, self._now_ms)
        if now_ms < self._next_due_ms:
            return now_ms
        self._unreported.extend(self._destroy(self._live.due(now_ms), DestroyReason.EXPIRED))
        self._forget_due(now_ms)
        self._next_due_ms = (now_ms // 1000 + 1) * 1000  # buckets begin at whole seconds
        return now_ms

    def _forget_due(self, now_ms: int) -> None:
        for forgotten in self._forget.due(now_ms):
            if isinstance(forgotten, str):
                self._orders.discard(forgotten)
            elif self._floors[forgotten][1] * 1000 <= now_ms:  # not renewed since
                del self._floors[forgotten]

    def _remember(self, order_id: str) -> None:
        """Refuse this order id until every order issued up to now is over."""
        if order_id not in self._orders:
            self._orders.add(order_id)
            self._forget.add(self._now_ms // 1000 + MAX_TTL_SECONDS + 1, order_id)

    def _tell(
        self, kind: EventKind, at_ms: int, *, jti: str = "", order_id: str = "", reason: str = ""
    ) -> None:
        if self._log is not None:
            self._log(FragmentEvent(kind=kind, at_ms=at_ms, jti=jti, order_id=order_id, reason=reason))


def _view(order: FragmentOrder, now_ms: int) -> OrderView:
    return OrderView(
        at="mint",
        now_ms=now_ms,
        uses=0,
        order_id=order.order_id,
        audience=order.audience,
        purpose=order.purpose,
        topic=order.topic,
        trigger_id=order.trigger_id,
        rule=order.rule,
        field_names=tuple([field.name for field in order.fields]),
        subject=order.subject,
        consent=order.consent,
        profile=order.profile,
    )
