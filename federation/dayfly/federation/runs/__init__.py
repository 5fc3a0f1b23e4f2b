"""Runs: a plan, the protocols by name, the channels' tables, and the same code over every grid."""

from .data import ChannelData, DataSettings, load_table
from .running import Plan, coordinate, run_locally
from .seats import PROTOCOLS, Chair, Outcome, Progress, RunProtocol, Seat, protocol_named
from .tickets import Opened, Parcel, Ticket, Tickets, checked_until, opened_parcel

__all__ = [
    "PROTOCOLS",
    "Chair",
    "ChannelData",
    "DataSettings",
    "Opened",
    "Outcome",
    "Parcel",
    "Plan",
    "Progress",
    "RunProtocol",
    "Seat",
    "Ticket",
    "Tickets",
    "checked_until",
    "coordinate",
    "load_table",
    "opened_parcel",
    "protocol_named",
    "run_locally",
]
