"""`FragmentService`: the one object that mints, leases and destroys fragments."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from dayfly.privacy._check import in_range
from dayfly.privacy.errors import FragmentError, InvalidArgument, LeaseRefused

from .cdp.keys import KeyRing, SigningKey
from .cdp.leases import LeaseDesk
from .cdp.mint import Mint
from .cdp.slab import KeySlab, kernel_random
from .cdp.state import State
from .orders import Destroyed, DestroyReason, Fragment, FragmentEvent, FragmentOrder, LiveFragment, OrderView
from .strict import MAX_CLEAR_TTL_SECONDS
from .tombstones import DeletionReceipt, NoteSigner, TombstoneSink
from .tombstones.graveyard import Graves, Graveyard
from .wire import Lease, LeaseRequest

__all__ = ["FragmentService", "ServiceSettings"]


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
        graves: The tombstone log itself, in place of one in memory with `sink`.
        settings: Limits.
        nonce_key: 32 secret bytes for the nonces of proofs, where several services answer for one URL; None: its own.

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
        graves: Graves | None = None,
        settings: ServiceSettings | None = None,
        nonce_key: bytes | None = None,
    ) -> None:
        limits = settings or ServiceSettings()
        path = urlsplit(lease_url).path
        if not path:
            raise InvalidArgument(
                f"lease_url={lease_url!r} must have a path; pass the full URL of the lease service"
            )
        slab = KeySlab(
            fill_random=fill_random or kernel_random(),
            keys_per_slab=limits.keys_per_slab,
            allow_unlocked=limits.allow_unlocked,
        )
        self._keys = keys
        self._state = State(slab, Graveyard(note_signer, sink) if graves is None else graves, log)
        self._mint = Mint(
            self._state,
            issuer=issuer,
            keys=keys,
            recipients=recipients,
            pairwise_sub=pairwise_sub,
            gate=gate,
            random_bytes=random_bytes,
            lease_path=path,
            clear_ttl_seconds=limits.clear_ttl_seconds,
        )
        self._desk = LeaseDesk(
            self._state,
            url=lease_url,
            gate=gate,
            nonce_key=random_bytes(32) if nonce_key is None else nonce_key,
            max_lease_ms=limits.max_lease_seconds * 1000,
            proof_max_age_ms=limits.proof_max_age_ms,
            replay_capacity=limits.replay_capacity,
            one_time_capacity=limits.one_time_capacity,
        )
        if not slab.locked:
            self._state.tell("unlocked", reason="mlock was refused; keys may reach the swap device")

    # --- minting and leasing -----------------------------------------------------------------------------------------

    def mint(self, order: FragmentOrder, now_ms: int) -> Fragment:
        """Mint one fragment.

        Raises:
            InvalidOrder: The order breaks a rule of the format.
            MintRefused: The gate says no, its time is over, or the order is superseded or minted already.
            MemoryNotLocked: The slab had to grow and could not be locked.
        """
        (outcome,) = self._mint.mint_many((order,), now_ms)
        if isinstance(outcome, FragmentError):
            raise outcome
        return outcome

    def mint_many(self, orders: Sequence[FragmentOrder], now_ms: int) -> tuple[Fragment | FragmentError, ...]:
        """Mint several fragments, cheaper per fragment than one by one.

        Returns:
            One outcome per order, in order: the fragment, or the `InvalidOrder` or `MintRefused` that stopped it.

        Raises:
            MemoryNotLocked: The slab had to grow and could not be locked; what was begun is destroyed.
        """
        return self._mint.mint_many(orders, now_ms)

    def nonce(self, now_ms: int) -> str:
        """The nonce that a CRM's next proof must carry."""
        return self._desk.nonces.current(now_ms)

    def lease(self, request: LeaseRequest, now_ms: int) -> Lease:
        """Give the key (F1) or one answer (F2), sealed to the one-time key of the request.

        Raises:
            LeaseRefused: With a code of `LeaseReason`; `NonceRequired` asks for a proof with a current nonce.
        """
        try:
            return self._desk.lease(request, now_ms)
        except LeaseRefused as refusal:
            self._state.tell("lease_refused", reason=refusal.reason)
            raise

    # --- destroying --------------------------------------------------------------------------------------------------

    def shred(self, jti: str, reason: DestroyReason, now_ms: int) -> tuple[Destroyed, ...]:
        """Destroy one fragment; empty when it was not alive."""
        with self._state.lock:
            self._state.advance(now_ms)
            entry = self._state.live.get(jti)
            return self._state.destroy([] if entry is None else [entry], reason)

    def shred_consent(
        self, record_id: str, now_ms: int, *, below_version: int | None = None
    ) -> tuple[Destroyed, ...]:
        """Destroy every fragment that rests on a consent record: withdrawn, or replaced by `below_version`."""
        with self._state.lock:
            self._state.advance(now_ms)
            return self._state.destroy(
                self._state.live.of_consent(record_id, below_version), DestroyReason.WITHDRAWN
            )

    def shred_subject(
        self, subject: bytes, now_ms: int, *, audience: str | None = None
    ) -> tuple[Destroyed, ...]:
        """Destroy every fragment about a subject (erasure)."""
        with self._state.lock:
            self._state.advance(now_ms)
            return self._state.destroy(self._state.live.of_subject(subject, audience), DestroyReason.ERASED)

    def supersede(self, order_ids: Iterable[str], now_ms: int) -> tuple[Destroyed, ...]:
        """Destroy the fragments of these orders, and refuse to mint those that were not minted yet."""
        with self._state.lock:
            self._state.advance(now_ms)
            return self._state.supersede_orders(order_ids)

    def supersede_subject(
        self, subject: bytes, audience: str, below_version: int, now_ms: int
    ) -> tuple[Destroyed, ...]:
        """Destroy what this audience holds about a subject below a version, and refuse to mint it later."""
        with self._state.lock:
            self._state.advance(now_ms)
            self._state.raise_floor(subject, audience, below_version)
            return self._state.destroy(
                [
                    entry
                    for entry in self._state.live.of_subject(subject, audience)
                    if entry.version < below_version
                ],
                DestroyReason.SUPERSEDED,
            )

    def expire(self, now_ms: int) -> tuple[Destroyed, ...]:
        """Destroy what is over at `now_ms`; returns every death that no other call has returned yet.

        These are: expired, used up, superseded by a mint, aborted.
        """
        with self._state.lock:
            self._state.advance(now_ms)
            told, self._state.unreported = tuple(self._state.unreported), []
            return told

    def close(self) -> tuple[Destroyed, ...]:
        """Destroy all fragments, sign a last checkpoint, and refuse everything from now on."""
        with self._state.lock:
            if self._state.closed:
                return ()
            destroyed = (
                *self._state.unreported,
                *self._state.destroy(list(self._state.live), DestroyReason.CLOSED),
            )
            self._state.graves.checkpoint(0, self._state.now_ms)
            self._state.slab.close()
            self._state.closed = True
            return destroyed

    def destroy_keys(self) -> None:
        """Overwrite every key and refuse everything from now on, without telling anybody: for a host that has failed.

        What was alive has no tombstone yet; its host buries it when it starts again.
        """
        with self._state.lock:
            if not self._state.closed:
                self._state.slab.close()
                self._state.closed = True

    # --- looking -----------------------------------------------------------------------------------------------------

    @property
    def memory_locked(self) -> bool:
        """Whether all key memory is locked; False only with `ServiceSettings.allow_unlocked`."""
        return self._state.slab.locked

    @property
    def minted(self) -> int:
        """Fragments minted so far."""
        return self._state.graves.minted

    @property
    def tombstones(self) -> int:
        """Fragments destroyed so far."""
        return len(self._state.graves)

    def live(self) -> tuple[LiveFragment, ...]:
        """The fragments alive, oldest first."""
        with self._state.lock:
            return tuple(
                LiveFragment(
                    jti=entry.jti,
                    order_id=entry.view.order_id,
                    audience=entry.view.audience,
                    profile=entry.view.profile,
                    expires_at_ms=entry.exp * 1000,
                    leases=entry.leases,
                )
                for entry in self._state.live
            )

    def live_count(self) -> int:
        """Number of fragments alive."""
        return len(self._state.live)

    def checkpoint(self, now_ms: int) -> str:
        """Sign the tombstone log as it stands: a C2SP signed note with the balance."""
        with self._state.lock:
            now_ms = self._state.advance(now_ms)
            self._state.tell("checkpoint")
            return self._state.graves.checkpoint(len(self._state.live), now_ms)

    def receipt(self, jti: str) -> DeletionReceipt:
        """Deletion receipt of a dead fragment; also after `close` where a checkpoint covers it.

        Raises:
            InvalidArgument: No tombstone of that name.
        """
        with self._state.lock:
            receipt = self._state.graves.receipt(jti, len(self._state.live), self._state.now_ms)
        if receipt is None:
            raise InvalidArgument(
                f"jti={jti!r} must name a destroyed fragment; it is alive or was never minted here"
            )
        return receipt

    def consistency_proof(self, old_size: int, size: int) -> tuple[bytes, ...]:
        """Proof that the log of `size` tombstones only appended to that of `old_size`."""
        with self._state.lock:
            return self._state.graves.consistency(old_size, size)

    def jwks(self, now_ms: int) -> Mapping[str, list[dict[str, str]]]:
        """The key set to publish."""
        with self._state.lock:
            return self._keys.jwks(now_ms)

    def rotate(self, key: SigningKey, now_ms: int, *, use_from_ms: int | None = None) -> int:
        """Publish the next signing key; returns when it begins to sign. See `KeyRing.publish`."""
        with self._state.lock:
            return self._keys.publish(key, now_ms, use_from_ms=use_from_ms)
