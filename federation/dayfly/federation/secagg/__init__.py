"""Secure aggregation: the server learns a sum over enough members, and no member's input.

Complete graph of 2 to 50 members; keys and shares are set up once (two messages), each round takes two more. Exact in Z_2^64.
"""

from .aggregator import Aggregator, Round
from .encoder import FixedPoint
from .member import Member
from .messages import Hello, Joined, Masked, MaskRequest, Roster, Settings, Unmask, Unmasked
from .roster import least_threshold

__all__ = [
    "Aggregator",
    "FixedPoint",
    "Hello",
    "Joined",
    "MaskRequest",
    "Masked",
    "Member",
    "Roster",
    "Round",
    "Settings",
    "Unmask",
    "Unmasked",
    "least_threshold",
]
