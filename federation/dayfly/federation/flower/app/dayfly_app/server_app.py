"""The server's side: the coordinator."""

from dayfly.federation.flower.server_app import app

__all__ = ["app"]
