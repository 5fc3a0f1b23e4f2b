"""The lease: proof of the CRM's key, then one atomic decision, then the fragment's key sealed to a one-time key."""

import hashlib
from collections.abc import Callable

import msgspec

from dayfly.privacy.errors import DayflyError, LeaseRefused
from dayfly.privacy.fragments.orders import DestroyReason, LeaseReason, OrderView
from dayfly.privacy.fragments.strict import Profile
from dayfly.privacy.fragments.wire import (
    MAX_TTL_SECONDS,
    Lease,
    LeaseRequest,
    b64url,
    b64url_decode,
    hpke_suite,
    lease_info,
    one_time_public_key,
)

from .build import read_answer
from .proof import NonceSource, SeenOnce, check_proof
from .registry import Entry
from .state import State

__all__ = ["LeaseDesk"]


def _gone() -> LeaseRefused:
    return LeaseRefused(LeaseReason.GONE, "the fragment is dead or never lived; wait for a new one")


class LeaseDesk:
    """Gives leases on the fragments of a `State`.

    Args:
        state: Shared state.
        url: The lease service's URL as CRMs know it (`htu` of their proofs).
        gate: Raises when consent says no.
        nonce_key: 32 secret bytes for the server nonces.
        max_lease_ms: Longest lease.
        proof_max_age_ms: Largest distance of a proof's `iat` from now.
        replay_capacity: Proofs remembered at a time.
        one_time_capacity: One-time keys remembered at a time.
    """

    def __init__(
        self,
        state: State,
        *,
        url: str,
        gate: Callable[[OrderView], None],
        nonce_key: bytes,
        max_lease_ms: int,
        proof_max_age_ms: int,
        replay_capacity: int,
        one_time_capacity: int,
    ) -> None:
        self._state = state
        self._url = url
        self._gate = gate
        self._max_lease_ms = max_lease_ms
        self._proof_max_age_ms = proof_max_age_ms
        self.nonces = NonceSource(nonce_key)
        # A proof is accepted from max_age before to max_age after its iat, so that is how long it is remembered.
        self._proofs = SeenOnce(capacity=replay_capacity, keep_ms=2 * proof_max_age_ms + 1000)
        self._one_time = SeenOnce(capacity=one_time_capacity, keep_ms=2 * MAX_TTL_SECONDS * 1000)

    def lease(self, request: LeaseRequest, now_ms: int) -> Lease:
        """Decide on one request.

        Raises:
            LeaseRefused: With a code of `LeaseReason`; `NonceRequired` asks for a proof with a current nonce.
        """
        with self._state.lock:
            now_ms = self._state.advance(now_ms)
            entry = self._leasable(request)
        try:
            public = b64url_decode(request.otk)
            one_time_key = one_time_public_key(request.suite, public)
        except ValueError:
            raise LeaseRefused(
                LeaseReason.ONE_TIME_KEY, "send a fresh public key of the named suite"
            ) from None
        proof_jti = check_proof(
            request.proof,
            jkt=entry.jkt,
            url=self._url,
            token_hash=entry.token_hash,
            one_time_public=public,
            nonces=self.nonces,
            now_ms=now_ms,
            max_age_ms=self._proof_max_age_ms,
        )
        # Sealed before the decision and outside the lock, because it is the costly part; thrown away on a refusal.
        info = lease_info(entry.jti, entry.token_hash)
        try:
            sealed = hpke_suite(request.suite).encrypt(self._secret(entry, request), one_time_key, info=info)
        except KeyError:
            raise _gone() from None
        except ValueError:  # a point that the curve accepts and the key agreement does not
            raise LeaseRefused(
                LeaseReason.ONE_TIME_KEY, "send a fresh public key of the named suite"
            ) from None
        with self._state.lock:
            until_ms = self._decide(request, entry, public, proof_jti)
        return Lease(entry.jti, request.suite, b64url(sealed), until_ms, self.nonces.current(now_ms))

    def _leasable(self, request: LeaseRequest) -> Entry:
        entry = self._state.live.get(request.jti)
        if entry is None or not entry.token_hash:
            raise _gone()
        profile, names = entry.view.profile, entry.view.field_names
        fits = {Profile.F0: False, Profile.F1: request.ask is None, Profile.F2: request.ask in names}
        if not fits[profile]:
            raise LeaseRefused(
                LeaseReason.NOT_LEASED, "ask for the key of F1, or for one offered question of F2"
            )
        return entry

    def _secret(self, entry: Entry, request: LeaseRequest) -> memoryview | bytes:
        """The key itself, or the answer that it seals."""
        key = self._state.key_of(entry)
        return key if request.ask is None else read_answer(entry.answers, entry.jti, key, request.ask)

    def _decide(self, request: LeaseRequest, entry: Entry, one_time_public: bytes, proof_jti: str) -> int:
        """The atomic step: proof and key unused, alive, consent now, uses left; then count. Returns the lease's end."""
        state = self._state
        now_ms = state.advance(state.now_ms)
        self._proofs.admit(
            hashlib.sha256(f"{entry.jkt} {proof_jti}".encode()).digest(), now_ms, LeaseReason.REPLAY
        )
        self._one_time.admit(hashlib.sha256(one_time_public).digest(), now_ms, LeaseReason.ONE_TIME_KEY)
        if self._leasable(request) is not entry:
            raise _gone()
        view = msgspec.structs.replace(entry.view, at="lease", now_ms=now_ms, uses=entry.leases)
        try:
            self._gate(view)
        except DayflyError as refusal:
            raise LeaseRefused(
                LeaseReason.CONSENT, "consent does not cover this now; drop the fragment"
            ) from refusal
        if state.live.get(entry.jti) is not entry:  # the gate itself may have destroyed it
            raise _gone()
        entry.leases += 1
        if entry.budget is not None and entry.leases >= entry.budget:
            state.unreported.extend(state.destroy([entry], DestroyReason.USED))
        state.tell("leased", jti=entry.jti, order_id=entry.view.order_id)
        return min(now_ms + self._max_lease_ms, entry.exp * 1000)
