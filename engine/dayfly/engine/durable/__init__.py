"""The durable embedded runtime: nothing lost, nothing twice, really gone. `Engine` is what a service embeds."""

from .backup import BackupInfo
from .dispatch import Dispatcher
from .engine import Engine
from .erasure import ErasureCertificate, verify_certificate
from .feed import Feed, FeedItem, Listening, Subscription, TagChanged
from .loop import Receipt
from .outside import Outside
from .restore import Restored, restore
from .settings import EngineSettings

__all__ = [
    "BackupInfo",
    "Dispatcher",
    "Engine",
    "EngineSettings",
    "ErasureCertificate",
    "Feed",
    "FeedItem",
    "Listening",
    "Outside",
    "Receipt",
    "Restored",
    "Subscription",
    "TagChanged",
    "restore",
    "verify_certificate",
]
