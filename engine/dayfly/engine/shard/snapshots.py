"""Snapshots: the logical content of a shard in canonical order, without anything that can be derived from it.

Taken by `snapshot_image`, written by `snapshot_writing`, read by `snapshot_reading`, in the form of `snapshot_format`.
"""

from .snapshot_image import Image, take
from .snapshot_reading import read
from .snapshot_writing import write

__all__ = ["Image", "read", "take", "write"]
