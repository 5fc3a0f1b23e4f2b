"""Cross-border transfers: a table of allowed paths and live yearly head-counts that stop before a threshold."""

from .counts import TransferCounts
from .decision import TransferDecision, TransferReason, TransferRequest, decide_transfer
from .table import CHINA_2024, FieldClass, Threshold, TransferRow, TransferTable, parse_transfer_table

__all__ = [
    "CHINA_2024",
    "FieldClass",
    "Threshold",
    "TransferCounts",
    "TransferDecision",
    "TransferReason",
    "TransferRequest",
    "TransferRow",
    "TransferTable",
    "decide_transfer",
    "parse_transfer_table",
]
