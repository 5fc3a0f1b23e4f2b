"""Realistic multi-channel events for machines without data: seeded, deterministic, in the channels' own formats."""

from .faults import Fault, Shares
from .files import FILE_NAMES, write
from .payloads import MARKETPLACE_COLUMNS, Form
from .people import CONSENT_CATEGORIES, ONE_TIME_CATEGORY
from .stream import Generator, RawEvent

__all__ = [
    "CONSENT_CATEGORIES",
    "FILE_NAMES",
    "MARKETPLACE_COLUMNS",
    "ONE_TIME_CATEGORY",
    "Fault",
    "Form",
    "Generator",
    "RawEvent",
    "Shares",
    "write",
]
