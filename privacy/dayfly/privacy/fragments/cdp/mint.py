"""From orders to fragments: decide and take a key, seal and sign outside the lock, publish if still alive."""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from dayfly.privacy.errors import DayflyError, FragmentError, InvalidOrder, MintRefused
from dayfly.privacy.fragments.orders import DestroyReason, Fragment, FragmentOrder, OrderView
from dayfly.privacy.fragments.strict import Profile
from dayfly.privacy.fragments.wire import key_commitment

from .build import (
    Drawn,
    Stamp,
    build_payload,
    check_order,
    drawn,
    expiry_seconds,
    finish_token,
    random_length,
    seal_answers,
)
from .keys import KeyRing, SigningKey
from .registry import Entry
from .state import State

__all__ = ["Mint"]

_NO_KEY = memoryview(b"")


class _Draft(msgspec.Struct, gc=False):
    """A fragment between its decision and its publication."""

    order: FragmentOrder
    entry: Entry
    signing_key: SigningKey
    random: Drawn
    payload: bytes = b""
    token: str = ""
    token_hash: bytes = b""


class Mint:
    """Mints fragments into a `State`.

    Args:
        state: Shared state.
        issuer: `iss`.
        keys: Signing keys.
        recipients: Audience to key thumbprint.
        pairwise_sub: Internal pseudonym and audience to what the audience may see.
        gate: Raises when consent says no.
        random_bytes: Randomness for names, salts and initialisation vectors.
        lease_path: `lease` claim.
        clear_ttl_seconds: Life of F0 fragments.
    """

    def __init__(
        self,
        state: State,
        *,
        issuer: str,
        keys: KeyRing,
        recipients: Mapping[str, str],
        pairwise_sub: Callable[[bytes, str], bytes],
        gate: Callable[[OrderView], None],
        random_bytes: Callable[[int], bytes],
        lease_path: str,
        clear_ttl_seconds: int,
    ) -> None:
        self._state = state
        self._issuer = issuer
        self._keys = keys
        self._recipients = recipients
        self._pairwise_sub = pairwise_sub
        self._gate = gate
        self._random = random_bytes
        self._lease_path = lease_path
        self._clear_ttl_seconds = clear_ttl_seconds

    def mint_many(self, orders: Sequence[FragmentOrder], now_ms: int) -> tuple[Fragment | FragmentError, ...]:
        """One outcome per order, in order: the fragment, or the `InvalidOrder` or `MintRefused` that stopped it.

        Each stage runs over all orders before the next begins, which keeps its code and tables in the processor's
        cache: measured, a batch of 64 costs about a quarter less per fragment than 64 single calls.
        """
        drafts: list[_Draft | FragmentError] = []
        state = self._state
        try:
            with state.lock:
                now_ms = state.advance(now_ms)
                for order in orders:
                    drafts.append(self._draft(order, now_ms))  # noqa: PERF401 - what was begun must be known if one raises
            # Sealing and signing run outside the lock. A withdrawal may overwrite a key meanwhile; `_publish` then finds
            # the entry dead and drops the token, sealed under whatever the slot held, unseen.
            for stage in (self._seal, self._sign):
                drafts = [stage(draft) if type(draft) is _Draft else draft for draft in drafts]
        except BaseException:
            with state.lock:
                begun = [draft.entry for draft in drafts if isinstance(draft, _Draft)]
                state.unreported.extend(state.destroy(begun, DestroyReason.ABORTED))
            raise
        with state.lock:
            return tuple([self._publish(draft) if isinstance(draft, _Draft) else draft for draft in drafts])

    def _draft(self, order: FragmentOrder, now_ms: int) -> _Draft | FragmentError:
        try:
            return self._reserve(order, check_order(order), now_ms)
        except InvalidOrder as refusal:
            return refusal
        except MintRefused as refusal:
            self._state.tell("mint_refused", order_id=order.order_id, reason=str(refusal))
            return refusal

    def _reserve(self, order: FragmentOrder, names: tuple[str, ...], now_ms: int) -> _Draft:
        """Decide, take a key and enter the fragment into every index, unpublished."""
        state, profile = self._state, order.profile
        jkt = "" if profile is Profile.F0 else self._recipients.get(order.audience, "")
        if not jkt and profile is not Profile.F0:
            raise InvalidOrder(
                f"audience={order.audience!r} must be a registered recipient; register its key first"
            )
        if state.knows_order(order.order_id):
            raise MintRefused(f"order_id={order.order_id!r} must be new and not superseded; make a new order")
        if order.version < state.version_floor(order.subject, order.audience):
            raise MintRefused(f"version={order.version!r} must not be superseded; make a new order")
        iat, exp = now_ms // 1000, expiry_seconds(order, now_ms, self._clear_ttl_seconds)
        if exp <= iat or exp * 1000 <= now_ms:
            raise MintRefused(
                f"exp_ms={exp * 1000!r} must be after now_ms={now_ms!r}; nothing is left of its time"
            )
        view = _view(order, names, now_ms)
        try:
            self._gate(view)
        except DayflyError as refusal:
            raise MintRefused(
                f"order_id={order.order_id!r} must be covered by consent; {refusal}"
            ) from refusal
        random = self._random(random_length(order))
        if profile is Profile.F0:
            slot, commitment = None, b""
        else:
            slot, key = state.slab.take_viewed()
            commitment = key_commitment(key)
        spelled = drawn(random, commitment)
        entry = Entry(
            jti=spelled.jti,
            slot=slot,
            view=view,
            iat=iat,
            exp=exp,
            budget=order.use,
            version=order.version,
            kc=spelled.kc,
            jkt=jkt,
        )
        state.live.add(entry)
        state.graves.minted += 1
        state.remember_order(order.order_id)
        return _Draft(order, entry, self._keys.signing_key(now_ms, exp * 1000), spelled)

    def _seal(self, draft: _Draft) -> _Draft | FragmentError:
        order, entry = draft.order, draft.entry
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
        try:
            key = _NO_KEY if entry.slot is None else self._state.key_of(entry)
        except KeyError:
            return _withdrawn(order)
        draft.payload = build_payload(order, stamp, key, draft.random)
        if order.profile is Profile.F2:
            entry.answers = seal_answers(order, entry.jti, draft.random.iv, key)
        return draft

    def _sign(self, draft: _Draft) -> _Draft | FragmentError:
        try:
            token, draft.token_hash = finish_token(draft.order.profile, draft.payload, draft.signing_key)
        except InvalidOrder as refusal:
            with self._state.lock:
                self._state.unreported.extend(self._state.destroy([draft.entry], DestroyReason.ABORTED))
            return refusal
        # What is done with goes at once: a batch then lives in a third of the memory, which the next one finds warm.
        draft.token, draft.payload = token.decode("ascii"), b""
        return draft

    def _publish(self, draft: _Draft) -> Fragment | FragmentError:
        """Hand the token out, unless the fragment died meanwhile."""
        state, order, entry, token = self._state, draft.order, draft.entry, draft.token
        if state.live.get(entry.jti) is not entry:
            return MintRefused(
                f"order_id={order.order_id!r} must stay consented meanwhile; its key was destroyed"
            )
        entry.token_hash = draft.token_hash
        if order.supersedes:
            state.unreported.extend(state.supersede_orders(order.supersedes))
        state.tell("minted", jti=entry.jti, order_id=order.order_id)
        return Fragment(
            token=token,
            jti=entry.jti,
            order_id=order.order_id,
            audience=order.audience,
            profile=order.profile,
            issued_at_ms=entry.iat * 1000,
            expires_at_ms=entry.exp * 1000,
            kc=entry.kc,
        )


def _withdrawn(order: FragmentOrder) -> MintRefused:
    return MintRefused(
        f"order_id={order.order_id!r} must stay consented while it is minted; its key was destroyed"
    )


def _view(order: FragmentOrder, names: tuple[str, ...], now_ms: int) -> OrderView:
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
        field_names=names,
        subject=order.subject,
        consent=order.consent,
        profile=order.profile,
    )
