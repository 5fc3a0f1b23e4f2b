"""The channel's side: a stub."""

from dayfly.federation.flower.stub import app

__all__ = ["app"]
