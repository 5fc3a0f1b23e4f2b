"""Signatures: the vector of the specification, and other people's verifiers."""

import base64
from datetime import UTC, datetime

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dayfly.engine.delivery import WebhookSecret, signed_headers
from dayfly.engine.errors import DeliverySettingsError

from .support import OTHER_SECRET, SECRET


def test_the_signature_of_the_published_example_is_reproduced() -> None:
    """The example that the libraries of Standard Webhooks (and of Svix before) test themselves with."""
    secret = WebhookSecret.parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = dict(
        signed_headers(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            b'{"test": 2432232314}',
            [secret],
            now_ms=1_614_265_330_999,
        )
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@pytest.mark.parametrize("held", [SECRET, OTHER_SECRET])
def test_the_reference_receiver_accepts_with_the_old_and_with_the_new_secret(held: str) -> None:
    peer = pytest.importorskip("standardwebhooks", reason="needs the package standardwebhooks")
    body = '{"subject":"jti","note":"沙发"}'.encode()
    secrets = [WebhookSecret.parse(OTHER_SECRET), WebhookSecret.parse(SECRET)]
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    headers = dict(signed_headers("msg_1", body, secrets, now_ms=now_ms))
    assert peer.Webhook(held).verify(body, headers) == {"subject": "jti", "note": "沙发"}


def test_the_reference_receiver_refuses_another_body_time_or_secret() -> None:
    peer = pytest.importorskip("standardwebhooks", reason="needs the package standardwebhooks")
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    headers = dict(signed_headers("msg_1", b"{}", [WebhookSecret.parse(SECRET)], now_ms=now_ms))
    for receiver, body, changed in (
        (SECRET, b"{ }", headers),
        (OTHER_SECRET, b"{}", headers),
        (SECRET, b"{}", {**headers, "webhook-timestamp": str(now_ms // 1000 - 1)}),
        (SECRET, b"{}", {**headers, "webhook-id": "msg_2"}),
    ):
        with pytest.raises(peer.WebhookVerificationError, match="No matching signature"):
            peer.Webhook(receiver).verify(body, changed)


@pytest.mark.parametrize("with_public_key", [False, True])
def test_an_ed25519_signature_verifies_under_the_public_key(*, with_public_key: bool) -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    seed = key.private_bytes_raw() + (key.public_key().public_bytes_raw() if with_public_key else b"")
    secret = WebhookSecret.parse("whsk_" + base64.b64encode(seed).decode())
    headers = dict(signed_headers("msg_1", b"{}", [secret], now_ms=5_000))
    scheme, signature = headers["webhook-signature"].split(",")
    assert scheme == "v1a"
    key.public_key().verify(base64.b64decode(signature), b"msg_1.5.{}")
    with pytest.raises(InvalidSignature):
        key.public_key().verify(base64.b64decode(signature), b"msg_1.6.{}")


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "must begin with whsec_"),
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "must begin with whsec_"),
        ("whpk_AAAA", "must begin with whsec_"),
        ("whsec_not base64!", "must be base64"),
        ("whsec_" + base64.b64encode(bytes(23)).decode(), "of 23 bytes must have 24 to 64"),
        ("whsec_" + base64.b64encode(bytes(65)).decode(), "of 65 bytes must have 24 to 64"),
        ("whsk_" + base64.b64encode(bytes(33)).decode(), "of 33 bytes must have 32"),
    ],
)
def test_a_secret_that_is_none_is_refused_without_repeating_it(text: str, rule: str) -> None:
    with pytest.raises(DeliverySettingsError, match=rule) as caught:
        WebhookSecret.parse(text)
    assert not text or text not in str(caught.value)


@pytest.mark.parametrize("size", [24, 64])
def test_the_shortest_and_the_longest_secret_are_accepted(size: int) -> None:
    assert WebhookSecret.parse("whsec_" + base64.b64encode(bytes(size)).decode()).key == bytes(size)


def test_a_secret_shows_itself_in_no_representation() -> None:
    secret = WebhookSecret.parse(SECRET)
    assert "key" not in repr(secret)
    assert SECRET not in repr(secret)
