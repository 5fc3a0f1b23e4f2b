"""From a message's rows to what is sent."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from .messages import Kind, envelope, ready_body, recalled_body, webhook_id
from .settings import DeliverySettings, Endpoint

__all__ = ["LETTERS", "Letter", "Send", "message"]

LETTERS: Final = """
SELECT j.id, j.endpoint, j.kind, j.end_ms, f.jti, f.order_id, f.version, f.ready_ms, f.expires_ms, f.recall_reason, t.token
FROM jobs j JOIN fragments f ON f.position = j.fragment LEFT JOIN tokens t ON t.position = f.position WHERE j.id IN ({})
"""


class Letter(NamedTuple):
    """One row of `LETTERS`."""

    job_id: int
    endpoint: str
    kind: Kind
    end_ms: int
    jti: str
    order_id: str
    version: int
    ready_ms: int
    expires_ms: int
    recall_reason: str | None
    token: str | None


@dataclass(frozen=True, slots=True)
class Send:
    """One attempt to make.

    Attributes:
        job_id: Settle it under this.
        endpoint: The receiver.
        webhook_id: The same for all attempts of the message.
        body: What is signed and posted.
        end_ms: Not a byte may be sent from here on.
        wanted: Asked right before the first byte: False once the message was recalled or superseded.
    """

    job_id: int
    endpoint: Endpoint
    webhook_id: str
    body: bytes = field(repr=False)
    end_ms: int
    wanted: Callable[[], bool] = field(repr=False)


def message(
    letter: Letter, endpoint: Endpoint, settings: DeliverySettings, *, wanted: Callable[[], bool]
) -> Send:
    """What goes to `endpoint`: its form decides whether a fragment is named or sent."""
    message_id = webhook_id(letter.kind, letter.endpoint, letter.jti)
    head = envelope(
        message_id=message_id,
        source=settings.source,
        jti=letter.jti,
        version=letter.version,
        at_ms=letter.ready_ms,
        expires_at_ms=letter.expires_ms,
    )
    if letter.kind == "recalled":
        body = recalled_body(head, order_id=letter.order_id, reason=letter.recall_reason or "")
    else:
        token = letter.token if endpoint.form == "full" else None
        body = ready_body(head, order_id=letter.order_id, dataref=settings.dataref, token=token)
    return Send(letter.job_id, endpoint, message_id, body, letter.end_ms, wanted)
