"""Delivery of fragments to CRMs: pushed by Standard Webhooks until they expire, or pulled; recalls where they may have arrived.

`Delivery` keeps the state and takes the engine's feed, `Courier` carries the messages, `HttpTransport` makes one attempt.
"""

from .courier import Courier
from .delivery import Delivery, Pulled, Work
from .health import AudienceCounts, EndpointHealth
from .items import FeedItem, FragmentEnded, FragmentReady, FragmentRecalled
from .letters import Send
from .outcomes import Outcome, Result
from .settings import DeliverySettings, Endpoint, load_settings
from .signing import WebhookSecret, signed_headers
from .transport import HttpTransport, Progress, Resolver, Transport, system_resolver

__all__ = [
    "AudienceCounts",
    "Courier",
    "Delivery",
    "DeliverySettings",
    "Endpoint",
    "EndpointHealth",
    "FeedItem",
    "FragmentEnded",
    "FragmentReady",
    "FragmentRecalled",
    "HttpTransport",
    "Outcome",
    "Progress",
    "Pulled",
    "Resolver",
    "Result",
    "Send",
    "Transport",
    "WebhookSecret",
    "Work",
    "load_settings",
    "signed_headers",
    "system_resolver",
]
