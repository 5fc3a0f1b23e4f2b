"""Runs: a plan, the protocols by name, the channels' tables, and the same code over every grid."""

from .data import ChannelData, ConsentColumn, DataSettings, load_table
from .running import LocalFederation, Plan, coordinate
from .seats import PROTOCOLS, Chair, MemoryShelf, Outcome, Progress, RunProtocol, Seat, Shelf, protocol_named
from .store_windows import StoreSettings, WindowSettings
from .tickets import Opened, Parcel, Ticket, Tickets, checked_until, opened_parcel

__all__ = [
    "PROTOCOLS",
    "Chair",
    "ChannelData",
    "ConsentColumn",
    "DataSettings",
    "LocalFederation",
    "MemoryShelf",
    "Opened",
    "Outcome",
    "Parcel",
    "Plan",
    "Progress",
    "RunProtocol",
    "Seat",
    "Shelf",
    "StoreSettings",
    "Ticket",
    "Tickets",
    "WindowSettings",
    "checked_until",
    "coordinate",
    "load_table",
    "opened_parcel",
    "protocol_named",
]
