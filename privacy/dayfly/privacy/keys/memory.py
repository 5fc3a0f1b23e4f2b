"""Data keys that live in this process only: for the in-memory engine and for tests."""

from collections.abc import Callable, Iterable
from typing import Final

from dayfly.privacy.errors import KeyDestroyed, KeyStoreFailed, UnknownKey

from .interfaces import KEY_BYTES, DestroyedKey
from .slots.layout import checked_purpose

__all__ = ["MemoryKeys"]


class MemoryKeys:
    """`DataKeys` without a file.

    Args:
        random_bytes: Source of the keys.
        now_ms: Clock of the record of destroyed keys.

    Guarantees:
        The copy kept here is overwritten by `destroy` and `close`. Copies handed out are `bytes`, which Python cannot
        overwrite: they are gone when the caller has dropped them *and* the allocator has reused their memory.
    """

    def __init__(self, *, random_bytes: Callable[[int], bytes], now_ms: Callable[[], int]) -> None:
        self._random_bytes: Final = random_bytes
        self._now_ms: Final = now_ms
        self._live: dict[int, tuple[str, bytearray]] = {}
        self._destroyed: dict[int, DestroyedKey] = {}
        self._next = 1
        self._closed = False

    def __repr__(self) -> str:
        """Count the keys."""
        return f"MemoryKeys(live={len(self._live)}, destroyed={len(self._destroyed)})"

    def create(self, purpose: str) -> tuple[int, bytes]:
        """A new key. Raises `InvalidArgument` for a purpose that a slot could not hold, `KeyStoreFailed` when closed."""
        self._check_open()
        name = checked_purpose(purpose)
        key = self._random_bytes(KEY_BYTES)
        key_id = self._next
        self._next += 1
        self._live[key_id] = name, bytearray(key)
        return key_id, key

    def get(self, key_id: int) -> bytes:
        """The key. Raises `KeyDestroyed`, `UnknownKey`, or `KeyStoreFailed` when closed."""
        self._check_open()
        found = self._live.get(key_id)
        if found is None:
            gone = self._destroyed.get(key_id)
            if gone is None:
                raise UnknownKey(f"key_id={key_id!r} must have been created here; use an id of `live`")
            raise KeyDestroyed(key_id, gone.purpose)
        return bytes(found[1])

    def destroy(self, key_ids: Iterable[int]) -> None:
        """Overwrite and forget keys. Raises `UnknownKey` before anything is destroyed."""
        self._check_open()
        chosen = sorted(set(key_ids))
        for key_id in chosen:
            if key_id not in self._live and key_id not in self._destroyed:
                raise UnknownKey(f"key_id={key_id!r} must have been created here; use an id of `live`")
        for key_id in chosen:
            found = self._live.pop(key_id, None)
            if found is not None:
                found[1][:] = bytes(KEY_BYTES)
                self._destroyed[key_id] = DestroyedKey(key_id, found[0], self._now_ms())

    def live(self, purpose: str) -> tuple[int, ...]:
        """Ids of the keys that exist for a purpose, ascending."""
        return tuple(sorted(key_id for key_id, (name, _) in self._live.items() if name == purpose))

    def purposes(self) -> tuple[str, ...]:
        """Purposes with at least one live key, sorted."""
        return tuple(sorted({name for name, _ in self._live.values()}))

    def destroyed(self, key_ids: Iterable[int]) -> tuple[DestroyedKey, ...]:
        """What the record says of destroyed keys, in the order asked. Raises `UnknownKey` for one not destroyed."""
        found = []
        for key_id in key_ids:
            gone = self._destroyed.get(key_id)
            if gone is None:
                raise UnknownKey(f"key_id={key_id!r} must have been destroyed; destroy it first")
            found.append(gone)
        return tuple(found)

    def close(self) -> None:
        """Overwrite all keys. They are lost, as with the process."""
        for _, key in self._live.values():
            key[:] = bytes(KEY_BYTES)
        self._live.clear()
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise KeyStoreFailed("keys=<closed> must be open; make new ones")
