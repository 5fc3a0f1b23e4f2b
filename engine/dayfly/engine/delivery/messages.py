"""Bodies of the messages: CloudEvents 1.0 in JSON, about one fragment each.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md with the extensions `dataref`, `expirytime` and `sequence`.
A receiver keeps, per `subject` (the fragment's id), the highest `sequence` and drops what is older; past `expirytime` it drops the
message as well.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, Literal
from urllib.parse import quote

import orjson

__all__ = ["READY", "RECALLED", "Kind", "envelope", "ready_body", "recalled_body", "webhook_id"]

Kind = Literal["ready", "recalled"]
READY: Final = "dayfly.fragment.ready"
RECALLED: Final = "dayfly.fragment.recalled"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def webhook_id(kind: Kind, endpoint: str, jti: str) -> str:
    """Id of a message, the same whenever it is computed: receivers drop repeats by it."""
    digest = hashlib.blake2b(b"\x00".join(part.encode() for part in (kind, endpoint, jti)), digest_size=16)
    return f"msg_{digest.hexdigest()}"


def ready_body(
    envelope: Mapping[str, str], *, order_id: str, dataref: str = "", token: str | None = None
) -> bytes:
    """A fragment is there: thin (where to fetch it) without `token`, full with it.

    Args:
        envelope: From `envelope`.
        order_id: The order it was minted for.
        dataref: URL with `{jti}`, used when there is no token.
        token: The sealed fragment.
    """
    event: dict[str, object] = {**envelope, "type": READY, "orderid": order_id}
    if token is None:
        event["dataref"] = dataref.replace("{jti}", quote(envelope["subject"], safe=""))
    else:
        event["datacontenttype"] = "application/json"
        event["data"] = {"fragment": token}
    return orjson.dumps(event)


def recalled_body(envelope: Mapping[str, str], *, order_id: str, reason: str) -> bytes:
    """A fragment must be forgotten now."""
    return orjson.dumps(
        {
            **envelope,
            "type": RECALLED,
            "orderid": order_id,
            "datacontenttype": "application/json",
            "data": {"jti": envelope["subject"], "order_id": order_id, "reason": reason},
        }
    )


def envelope(
    *, message_id: str, source: str, jti: str, version: int, at_ms: int, expires_at_ms: int
) -> dict[str, str]:
    """Attributes that every message has."""
    return {
        "specversion": "1.0",
        "id": message_id,
        "source": source,
        "subject": jti,
        "time": _timestamp(at_ms),
        "expirytime": _timestamp(expires_at_ms),
        "sequence": f"{version:020d}",
    }


def _timestamp(at_ms: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return (_EPOCH + timedelta(milliseconds=at_ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
