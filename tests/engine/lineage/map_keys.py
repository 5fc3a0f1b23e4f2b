"""A `DataKeys` in a dictionary, the smallest that can be, so that the stores are not tested with our own key files alone."""

import os
from collections.abc import Iterable

from dayfly.privacy.errors import KeyDestroyed, UnknownKey


class MapKeys:
    """Keys by id; a destroyed one stays known as destroyed."""

    def __init__(self) -> None:
        self.keys: dict[int, tuple[str, bytes | None]] = {}

    def create(self, purpose: str) -> tuple[int, bytes]:
        key_id, key = len(self.keys) + 1, os.urandom(32)
        self.keys[key_id] = purpose, key
        return key_id, key

    def get(self, key_id: int) -> bytes:
        if key_id not in self.keys:
            raise UnknownKey(f"key_id={key_id} must have been created here; use an id of `live`")
        purpose, key = self.keys[key_id]
        if key is None:
            raise KeyDestroyed(key_id, purpose)
        return key

    def destroy(self, key_ids: Iterable[int]) -> None:
        for key_id in key_ids:
            self.keys[key_id] = self.keys[key_id][0], None

    def live(self, purpose: str) -> tuple[int, ...]:
        return tuple(
            key_id for key_id, (kind, key) in self.keys.items() if key is not None and kind == purpose
        )
