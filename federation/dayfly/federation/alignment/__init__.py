"""Alignment: channels place their customers in a common row space without showing each other who they are."""

from .manifest import Manifest
from .rows import Rows

__all__ = ["Manifest", "Rows"]
