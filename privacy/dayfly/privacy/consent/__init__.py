"""Consent that fails closed: records, the decision, receipts, and the states of consent platforms.

Pure: nothing here reads a clock, draws randomness or does I/O, so that it can run inside a deterministic shard.
"""

from .chain import record_digest, successor, verify_chain
from .decider import Decider
from .decision import Decision, decide
from .dpv import DpvTaxonomy, load_json_ld, record_from_dpv
from .mask import MAX_REQUIREMENTS, Requirements, compile_mask
from .observation import Observation, Observed
from .parsing import malformed_record, parse_record
from .person import PersonConsents, Use
from .platforms import (
    CategoryRule,
    PlatformMapping,
    parse_mapping,
    records_from_rudderstack,
    records_from_segment,
    tc_string_evidence,
)
from .reasons import WAY_OUT, ReasonCode
from .receipts import ConsentReceipt, missing_fields, receipt, receipt_json, receipt_json_ld
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
)
from .scope import EVERYTHING, ConsentRequest, Scope

__all__ = [
    "EVERYTHING",
    "INT64_MAX",
    "MAX_REQUIREMENTS",
    "SCHEMA_VERSION",
    "WAY_OUT",
    "CategoryRule",
    "ConsentReceipt",
    "ConsentRecord",
    "ConsentRequest",
    "ConsentState",
    "Decider",
    "Decision",
    "DpvTaxonomy",
    "Evidence",
    "MalformedRecord",
    "Notice",
    "Observation",
    "Observed",
    "Party",
    "PersonConsents",
    "PlatformMapping",
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
    "load_json_ld",
    "malformed_record",
    "missing_fields",
    "parse_mapping",
    "parse_record",
    "receipt",
    "receipt_json",
    "receipt_json_ld",
    "record_digest",
    "record_from_dpv",
    "records_from_rudderstack",
    "records_from_segment",
    "successor",
    "tc_string_evidence",
    "verify_chain",
]
