"""Data keys in a file of fixed slots: zeroed in place, so nothing of a destroyed key is left."""

from .store import SlotKeys, record_path

__all__ = ["SlotKeys", "record_path"]
