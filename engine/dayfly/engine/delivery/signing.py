"""Signatures of Standard Webhooks: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md.

Signed is `id.timestamp.body`, with each secret of the endpoint, so that a receiver may hold the old or the new one while a secret
is changed. `whsec_` secrets sign with HMAC-SHA256 (`v1`), `whsk_` keys with Ed25519 (`v1a`).
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dayfly.engine.errors import DeliverySettingsError

__all__ = ["WebhookSecret", "signed_headers"]

_SYMMETRIC: Final = "whsec_"
_PRIVATE: Final = "whsk_"
_MIN_SECRET_BYTES: Final = 24
_MAX_SECRET_BYTES: Final = 64
_SEED_BYTES: Final = 32
_PAIR_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class WebhookSecret:
    """One signing secret; its bytes are in no representation.

    Make it with `parse`.
    """

    scheme: str
    """`v1` or `v1a`."""
    key: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> "WebhookSecret":
        """Read `whsec_` (24 to 64 bytes) or `whsk_` (Ed25519 seed, or seed with public key) followed by base64.

        Raises:
            DeliverySettingsError: another prefix, not base64, or a length that is not allowed; the text is not repeated.
        """
        if text.startswith(_SYMMETRIC):
            key = _decode(text.removeprefix(_SYMMETRIC))
            if not _MIN_SECRET_BYTES <= len(key) <= _MAX_SECRET_BYTES:
                raise DeliverySettingsError(
                    f"a whsec_ secret of {len(key)} bytes must have {_MIN_SECRET_BYTES} to {_MAX_SECRET_BYTES}; "
                    "make one of 32 random bytes"
                )
            return cls("v1", key)
        if text.startswith(_PRIVATE):
            key = _decode(text.removeprefix(_PRIVATE))
            if len(key) not in {_SEED_BYTES, _PAIR_BYTES}:
                raise DeliverySettingsError(
                    f"a whsk_ key of {len(key)} bytes must have {_SEED_BYTES} (seed) or {_PAIR_BYTES} (seed and public key); "
                    "export the Ed25519 key again"
                )
            return cls("v1a", key[:_SEED_BYTES])
        raise DeliverySettingsError(
            "a webhook secret must begin with whsec_ (HMAC-SHA256) or whsk_ (Ed25519); put the prefix before the base64 text"
        )

    def sign(self, content: bytes) -> str:
        """Signature of `content` as it stands in the header: scheme, comma, base64."""
        if self.scheme == "v1":
            signature = hmac.new(self.key, content, hashlib.sha256).digest()
        else:
            signature = Ed25519PrivateKey.from_private_bytes(self.key).sign(content)
        return f"{self.scheme},{base64.b64encode(signature).decode()}"


def signed_headers(
    webhook_id: str, body: bytes, secrets: Sequence[WebhookSecret], *, now_ms: int
) -> tuple[tuple[str, str], ...]:
    """The three headers of Standard Webhooks for one attempt at `now_ms`, one signature per secret.

    The id stays the same over all attempts, the time is that of the attempt.
    """
    seconds = str(now_ms // 1000)
    content = b".".join((webhook_id.encode(), seconds.encode(), body))
    return (
        ("webhook-id", webhook_id),
        ("webhook-timestamp", seconds),
        ("webhook-signature", " ".join(secret.sign(content) for secret in secrets)),
    )


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise DeliverySettingsError(
            "a webhook secret must be base64 after its prefix; copy it again, with its padding"
        ) from None
