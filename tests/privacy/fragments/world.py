"""A small world for the fragment tests: one CDP, one CRM, a clock that only moves when told."""

import os
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from dayfly.privacy.fragments import (
    ConsentRef,
    CrmClient,
    FragmentOrder,
    FragmentService,
    KeyRing,
    LeaseRequest,
    OrderField,
    PendingLease,
    Profile,
    RuleRef,
    ServiceSettings,
    SigningKey,
    SuiteName,
    Verified,
    note_signer,
    note_verifier,
)
from dayfly.privacy.fragments.wire import Lease

NOW_MS = 1_795_358_400_250
ISSUER = "https://cdp.example"
AUDIENCE = "crm-7"
LEASE_URL = "https://cdp.example/v1/lease"
ORIGIN = "cdp.example/fragments"

FIELDS = (
    OrderField("intent", "children_furniture"),
    OrderField("budget_band", "2000-5000"),
    OrderField("room", "small flat"),
    OrderField("materials", ("leather", "fabric", "velvet")),
    OrderField("visits_7d", 6),
    OrderField("score", 0.82),
    OrderField("member", value=True),
    OrderField("store", "Shanghai-3"),
)


def order(order_id: str = "o-1", **changes: Any) -> FragmentOrder:
    """An order of eight fields that everything allows."""
    values: dict[str, Any] = {
        "order_id": order_id,
        "audience": AUDIENCE,
        "purpose": "dpv:Personalisation",
        "topic": "furniture.children",
        "trigger_id": bytes(range(16)),
        "rule": RuleRef("compares-sofas", 3),
        "fields": FIELDS,
        "subject": b"internal-subject",
        "consent": (ConsentRef("c:7Q2mZk1b", 3, NOW_MS + 86_400_000),),
        "issued_at_ms": NOW_MS,
        "expires_at_ms": NOW_MS + 1_800_000,
        "lineage": b"lineage block",
    }
    return FragmentOrder(**{**values, **changes})


def allow(view: Any) -> None:
    """A gate that always opens."""


class World:
    """CDP and CRM with fresh keys."""

    def __init__(self, *, gate: Callable[[Any], None] = allow, **options: Any) -> None:
        self.signing_key = ec.generate_private_key(ec.SECP256R1())
        self.crm_key = ec.generate_private_key(ec.SECP256R1())
        self.log_key = ed25519.Ed25519PrivateKey.generate()
        self.events: list[Any] = []
        self.recipients: dict[str, str] = {}
        settings = options.pop("settings", ServiceSettings(keys_per_slab=128))
        self.cdp = FragmentService(
            issuer=ISSUER,
            keys=KeyRing(SigningKey(self.signing_key)),
            recipients=self.recipients,
            pairwise_sub=options.pop(
                "pairwise_sub", lambda subject, audience: f"{audience:.<16}".encode()[:16]
            ),
            gate=gate,
            note_signer=note_signer(ORIGIN, self.log_key),
            lease_url=LEASE_URL,
            random_bytes=options.pop("random_bytes", os.urandom),
            log=self.events.append,
            settings=settings,
            **options,
        )
        self.note_verifier = note_verifier(ORIGIN, self.log_key.public_key())
        self.crm = self.client()
        self.recipients[AUDIENCE] = self.crm.jkt

    def client(self, **changes: Any) -> CrmClient:
        """Another CRM-side client; by default with this world's key."""
        values: dict[str, Any] = {
            "jwks": self.cdp.jwks(NOW_MS),
            "issuer": ISSUER,
            "audience": AUDIENCE,
            "key": self.crm_key,
            "lease_url": LEASE_URL,
            "random_bytes": os.urandom,
            "profiles": tuple(Profile),
        }
        return CrmClient(**{**values, **changes})

    def ask(
        self,
        verified: Verified,
        now_ms: int = NOW_MS,
        *,
        suite: SuiteName = SuiteName.X25519,
        question: str | None = None,
    ) -> PendingLease:
        """A lease request with a current nonce."""
        return self.crm.lease_request(
            verified, now_ms, self.cdp.nonce(now_ms), suite=suite, question=question
        )

    def lease(self, request: LeaseRequest, now_ms: int = NOW_MS) -> Lease:
        """Post a lease request."""
        return self.cdp.lease(request, now_ms)
