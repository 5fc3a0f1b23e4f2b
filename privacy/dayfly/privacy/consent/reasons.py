"""Reason codes of consent decisions, and for each the way out that an error shows."""

from enum import StrEnum
from typing import Final

__all__ = ["WAY_OUT", "ReasonCode"]


class ReasonCode(StrEnum):
    """Why a decision is what it is. Every code but `GRANTED` means no."""

    GRANTED = "granted"
    MALFORMED_REQUEST = "malformed_request"
    MALFORMED_RECORD = "malformed_record"
    STATE_BACKWARDS = "state_backwards"
    CONFLICT = "conflict"
    MERGE_CONFLICT = "merge_conflict"
    WITHDRAWN = "withdrawn"
    REFUSED = "refused"
    INVALIDATED = "invalidated"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    SPENT = "spent"
    REQUESTED = "requested"
    OUT_OF_SCOPE_PURPOSE = "out_of_scope_purpose"
    OUT_OF_SCOPE_TOPIC = "out_of_scope_topic"
    OUT_OF_SCOPE_DATA = "out_of_scope_data"
    OUT_OF_SCOPE_RECIPIENT = "out_of_scope_recipient"
    OUT_OF_SCOPE_CHANNEL = "out_of_scope_channel"
    OUT_OF_SCOPE_COUNTRY = "out_of_scope_country"
    NO_RECORD = "no_record"


_NEW_CONSENT: Final = "ask the person again"

WAY_OUT: Final[dict[ReasonCode, str]] = {
    ReasonCode.GRANTED: "nothing to do",
    ReasonCode.MALFORMED_REQUEST: "correct the request in the policy",
    ReasonCode.MALFORMED_RECORD: "correct the unreadable record at its source, or ask the person again",
    ReasonCode.STATE_BACKWARDS: "open a new record with a new record_id",
    ReasonCode.CONFLICT: "ask the person which of the two answers holds",
    ReasonCode.MERGE_CONFLICT: "ask the person, whose merged identities gave different answers",
    ReasonCode.WITHDRAWN: "respect the withdrawal; a later consent of the person would be needed",
    ReasonCode.REFUSED: "respect the refusal; a later consent of the person would be needed",
    ReasonCode.INVALIDATED: "obtain a valid consent",
    ReasonCode.SUPERSEDED: "use the record's newest version",
    ReasonCode.EXPIRED: _NEW_CONSENT,
    ReasonCode.NOT_YET_VALID: "wait until the consent begins",
    ReasonCode.SPENT: _NEW_CONSENT,
    ReasonCode.REQUESTED: "wait for the person's answer",
    ReasonCode.OUT_OF_SCOPE_PURPOSE: "ask the person for this purpose",
    ReasonCode.OUT_OF_SCOPE_TOPIC: "ask the person for this topic",
    ReasonCode.OUT_OF_SCOPE_DATA: "ask the person for these data categories",
    ReasonCode.OUT_OF_SCOPE_RECIPIENT: "ask the person for this recipient",
    ReasonCode.OUT_OF_SCOPE_CHANNEL: "ask the person for this channel",
    ReasonCode.OUT_OF_SCOPE_COUNTRY: "ask the person for this country and record the transfer basis",
    ReasonCode.NO_RECORD: "ask the person",
}
