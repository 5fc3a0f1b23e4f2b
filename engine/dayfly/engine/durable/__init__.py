"""The durable embedded runtime: nothing lost, nothing twice, really gone. `Engine` is what a service embeds."""

from .engine import Engine
from .erasure import ErasureCertificate, verify_certificate
from .feed import Feed, FeedItem, Subscription, TagChanged
from .loop import Receipt
from .opening import Outside
from .settings import EngineSettings

__all__ = [
    "Engine",
    "EngineSettings",
    "ErasureCertificate",
    "Feed",
    "FeedItem",
    "Outside",
    "Receipt",
    "Subscription",
    "TagChanged",
    "verify_certificate",
]
