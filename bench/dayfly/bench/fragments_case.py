"""Sealed fragments: mint, strict verify and open of eight fields, against bare ES256 of the same library."""

import gc
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256

from dayfly.privacy.fragments import (
    ConsentRef,
    FragmentOrder,
    FragmentService,
    KeyRing,
    OrderField,
    RuleRef,
    SigningKey,
    SuiteName,
    Verified,
    Verifier,
    note_signer,
)
from dayfly.privacy.fragments.crm import CrmClient, open_sealed

__all__ = ["run"]

MINT_BAR: Final = 3.0
VERIFY_BAR: Final = 1.6
OPEN_BAR: Final = 2.2
BATCH: Final = 64
NOW_MS: Final = 1_795_358_400_250
ISSUER: Final = "https://cdp.example"
AUDIENCE: Final = "crm-7"
LEASE_URL: Final = "https://cdp.example/v1/lease"
_ECDSA = ec.ECDSA(SHA256())
_FIELDS = (
    OrderField("intent", "children_furniture"),
    OrderField("budget_band", "2000-5000"),
    OrderField("room", "small flat"),
    OrderField("materials", ("leather", "fabric", "velvet")),
    OrderField("visits_7d", 6),
    OrderField("score", 0.82),
    OrderField("member", value=True),
    OrderField("store", "Shanghai-3"),
)


def run(*, quick: bool = False) -> list[dict[str, object]]:
    """Rows of the realtime suite. CPU time of this thread; the best of several interleaved rounds.

    A round runs each case once over `BATCH` operations, so that a slow moment of the machine hits all of them alike.
    """
    bench = _Bench()
    best = bench.best(rounds=10 if quick else 40)
    mint, single = best["mint"] / best["sign"], best["mint one"] / best["sign"]
    spread = f"single call {best['mint one']:.1f} µs = {single:.2f}x; bare {best['sign']:.1f} µs"
    bare = f"bare {best['check']:.1f} µs"
    return [
        _row(
            f"mint a sealed fragment of eight fields, in batches of {BATCH}",
            best["mint"],
            "bare ES256 signature",
            mint,
            MINT_BAR,
            spread,
        ),
        _row(
            "mint a sealed fragment of eight fields, one call each",
            best["mint one"],
            "bare ES256 signature",
            single,
            None,
            "shown, no bar",
        ),
        _row(
            "strict verify",
            best["verify"],
            "bare ES256 verify",
            best["verify"] / best["check"],
            VERIFY_BAR,
            bare,
        ),
        _row(
            "strict verify and open",
            best["open"],
            "bare ES256 verify",
            best["open"] / best["check"],
            OPEN_BAR,
            bare,
        ),
        _row(
            "lease by HPKE X25519, both sides",
            best["lease"],
            "bare ES256 verify",
            best["lease"] / best["check"],
            None,
            "shown, no bar",
        ),
    ]


def _row(
    case: str, measured: float, peer: str, ratio: float, bar: float | None, note: str
) -> dict[str, object]:
    return {
        "suite": "realtime",
        "case": case,
        "measured": round(measured, 1),
        "unit": "us",
        "peer": peer,
        "ratio": round(ratio, 2),
        "bar": bar,
        "holds": bar is None or ratio <= bar,
        "note": note,
    }


class _Bench:
    """A CDP, a CRM and a message of the size of a payload."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        crm_key = ec.generate_private_key(ec.SECP256R1())
        recipients: dict[str, str] = {}
        self._cdp = FragmentService(
            issuer=ISSUER,
            keys=KeyRing(SigningKey(self._key)),
            recipients=recipients,
            pairwise_sub=lambda subject, _audience: subject[::-1],
            gate=lambda _view: None,
            note_signer=note_signer("cdp.example/fragments", ed25519.Ed25519PrivateKey.generate()),
            lease_url=LEASE_URL,
            random_bytes=os.urandom,
        )
        jwks = self._cdp.jwks(NOW_MS)
        self._crm = CrmClient(
            jwks=jwks,
            issuer=ISSUER,
            audience=AUDIENCE,
            key=crm_key,
            lease_url=LEASE_URL,
            random_bytes=os.urandom,
        )
        recipients[AUDIENCE] = self._crm.jkt
        self._verifier = Verifier(jwks, ISSUER, AUDIENCE)
        self._count = 0
        self._token = self._cdp.mint(self._orders(1)[0], NOW_MS).token
        # A bench may look inside: opening is timed without the lease, whose time is a row of its own.
        state = self._cdp._state  # noqa: SLF001
        (entry,) = state.live
        self._content_key = bytes(state.key_of(entry))
        self._message = os.urandom(len(self._token) - 88)
        self._signature = self._key.sign(self._message, _ECDSA)

    def best(self, rounds: int) -> dict[str, float]:
        """Smallest CPU microseconds per operation of each case."""
        public, verified = self._key.public_key(), self._verifier.verify(self._token, NOW_MS)
        key, message, signature, content_key = self._key, self._message, self._signature, self._content_key

        def sign() -> None:
            for _ in range(BATCH):
                key.sign(message, _ECDSA)

        def check() -> None:
            for _ in range(BATCH):
                public.verify(signature, message, _ECDSA)

        def verify() -> None:
            for _ in range(BATCH):
                self._verifier.verify(self._token, NOW_MS)

        def open_one() -> None:
            for _ in range(BATCH):
                open_sealed(self._verifier.verify(self._token, NOW_MS), content_key, NOW_MS)

        def lease() -> None:
            for _ in range(BATCH):
                self._lease(verified)

        found: dict[str, list[float]] = {}
        for _ in range(rounds):
            batch, singles = self._orders(BATCH), self._orders(BATCH)
            cases: dict[str, Callable[[], object]] = {
                "sign": sign,
                "mint": partial(self._cdp.mint_many, batch, NOW_MS),
                "mint one": partial(self._mint_singly, singles),
                "check": check,
                "verify": verify,
                "open": open_one,
                "lease": lease,
            }
            for name, case in cases.items():
                gc.collect(0)
                start = time.thread_time_ns()
                case()
                found.setdefault(name, []).append((time.thread_time_ns() - start) / BATCH / 1000)
        return {name: min(times) for name, times in found.items()}

    def _mint_singly(self, orders: list[FragmentOrder]) -> None:
        for order in orders:
            self._cdp.mint(order, NOW_MS)

    def _lease(self, verified: Verified) -> None:
        pending = self._crm.lease_request(verified, NOW_MS, self._cdp.nonce(NOW_MS), suite=SuiteName.X25519)
        self._crm.open(verified, pending, self._cdp.lease(pending.request, NOW_MS), NOW_MS)

    def _orders(self, count: int) -> list[FragmentOrder]:
        self._count += count
        return [_order(f"order-{self._count - n}") for n in range(count)]


def _order(order_id: str) -> FragmentOrder:
    return FragmentOrder(
        order_id=order_id,
        audience=AUDIENCE,
        purpose="dpv:Personalisation",
        topic="furniture.children",
        trigger_id=bytes(range(16)),
        rule=RuleRef("compares-sofas", 3),
        fields=_FIELDS,
        subject=b"subject-16-bytes",
        consent=(ConsentRef("c:7Q2mZk1b", 3, NOW_MS + 86_400_000),),
        issued_at_ms=NOW_MS,
        expires_at_ms=NOW_MS + 1_800_000,
        lineage=bytes(194),
    )
