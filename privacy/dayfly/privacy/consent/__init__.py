"""Consent that fails closed: records, the decision, receipts, and the states of consent platforms.

Pure: nothing here reads a clock, draws randomness or does I/O, so that it can run inside a deterministic shard.
"""

from .decision import MAX_REQUIREMENTS, Decision, Requirements, compile_mask, decide
from .observation import Observation, Observed
from .person import PersonConsents, Use
from .reasons import WAY_OUT, ReasonCode
from .record import (
    INT64_MAX,
    SCHEMA_VERSION,
    ConsentRecord,
    ConsentState,
    Evidence,
    MalformedRecord,
    Notice,
    Party,
    Terms,
    TransferBasis,
    UseBudget,
    canonical_bytes,
    malformed_record,
    parse_record,
    record_digest,
    successor,
    verify_chain,
)
from .scope import EVERYTHING, ConsentRequest, Scope

__all__ = [
    "EVERYTHING",
    "INT64_MAX",
    "MAX_REQUIREMENTS",
    "SCHEMA_VERSION",
    "WAY_OUT",
    "ConsentRecord",
    "ConsentRequest",
    "ConsentState",
    "Decision",
    "Evidence",
    "MalformedRecord",
    "Notice",
    "Observation",
    "Observed",
    "Party",
    "PersonConsents",
    "ReasonCode",
    "Requirements",
    "Scope",
    "Terms",
    "TransferBasis",
    "Use",
    "UseBudget",
    "canonical_bytes",
    "compile_mask",
    "decide",
    "malformed_record",
    "parse_record",
    "record_digest",
    "successor",
    "verify_chain",
]
