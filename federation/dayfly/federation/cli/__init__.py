"""`dayfly federate`: channels that train together. The `dayfly` command finds it here when this portion is installed."""

from .app import federate_app

__all__ = ["federate_app"]
