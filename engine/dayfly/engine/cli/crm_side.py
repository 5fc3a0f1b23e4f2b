"""The CRM's half of the demo: it holds its own key and the published key set, and nothing of the engine's."""

import os
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import ec

from dayfly.engine.runtime import MemoryEngine
from dayfly.privacy.errors import InvalidFragment, LeaseRefused
from dayfly.privacy.fragments import CrmClient, OpenedFragment
from dayfly.privacy.fragments.wire import thumbprint

from .running import ISSUER, LEASE_URL

__all__ = ["DemoCrm"]


@dataclass(frozen=True, slots=True)
class DemoCrm:
    """One CRM with its long-lived key."""

    audience: str
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1()), repr=False
    )

    @property
    def jkt(self) -> str:
        """Thumbprint of its key, as it registers it."""
        return thumbprint(self.key.public_key())

    def client(self, engine: MemoryEngine, now_ms: int) -> CrmClient:
        """Its software, with the key set as published now."""
        return CrmClient(
            jwks=engine.fragments.jwks(now_ms),
            issuer=ISSUER,
            audience=self.audience,
            key=self.key,
            lease_url=LEASE_URL,
            random_bytes=os.urandom,
        )

    def open(self, engine: MemoryEngine, token: str, now_ms: int) -> OpenedFragment:
        """Verify offline, lease the key with a proof, open.

        Raises:
            InvalidFragment: not genuine for this CRM.
            LeaseRefused: the key is not given.
        """
        client = self.client(engine, now_ms)
        fragment = client.verify(token, now_ms)
        pending = client.lease_request(fragment, now_ms, engine.fragments.nonce(now_ms))
        return client.open(fragment, pending, engine.lease(pending.request, now_ms), now_ms)

    def accepts(self, engine: MemoryEngine, token: str, now_ms: int) -> bool:
        """Whether its verifier takes the token, offline."""
        try:
            self.client(engine, now_ms).verify(token, now_ms)
        except InvalidFragment:
            return False
        return True

    def lease_refusal(self, engine: MemoryEngine, token: str, now_ms: int) -> str:
        """Why the key of a fragment is not given; empty when it is."""
        try:
            self.open(engine, token, now_ms)
        except LeaseRefused as refusal:
            return str(refusal.reason)
        return ""
