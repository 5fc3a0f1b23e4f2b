"""Compiles the kernels of intake once, so that no first batch waits for a compiler."""

from dayfly.engine.catalog import Catalog, EventType, FieldSpec, FieldType
from dayfly.engine.intake.core import Intake
from dayfly.engine.intake.identity import IntakeKeys
from dayfly.engine.policy.model import Channel, Policy
from dayfly.privacy.deident import PseudonymKeys

__all__ = ["warm"]

_PAYLOAD = (
    b'{"type":"track","event":"Seen","messageId":"m","anonymousId":"a","properties":{"name":"n"},'
    b'"timestamp":"1970-01-01T00:00:00Z"}'
)


def warm() -> None:
    """Read one payload by the compiled path, under keys that protect nothing."""
    catalog = Catalog((EventType("Seen", (FieldSpec("name", FieldType.STRING),)),), ("warm",))
    keys = IntakeKeys(PseudonymKeys("warm", {1: bytes(range(32))}), bytes(range(32)))
    result = Intake(Policy(1, catalog, (Channel("warm"),)), keys).segment([_PAYLOAD], "warm", 0)
    assert result.counts["fast"] == 1
