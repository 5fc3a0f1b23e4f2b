"""Locked memory for fragment keys: filled in place, overwritten in place, never swapped, dumped or inherited.

Source of the rules: NIST SP 800-88 Rev. 2, cryptographic erase (every copy of the key must be destroyed).
"""

import ctypes
import mmap
import os
from collections.abc import Callable
from typing import NamedTuple

from dayfly.privacy._check import positive
from dayfly.privacy.errors import FragmentServiceClosed, MemoryNotLocked

__all__ = ["KEY_BYTES", "KeySlab", "Slot", "kernel_random"]

KEY_BYTES = 32
_ZEROS = bytes(KEY_BYTES)
_RESERVOIR = 256  # bytes asked of the kernel at once: eight keys, and never a short read (getrandom(2))
_CANARY = _RESERVOIR
_MADV_WIPEONFORK = 18  # linux/mman.h; the mmap module does not name it before Python 3.13


def kernel_random() -> Callable[[memoryview], None]:
    """A source that lets the kernel write random bytes straight into a buffer: no copy of a key is made on the way."""
    getrandom = ctypes.CDLL(None, use_errno=True).getrandom
    getrandom.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint)
    getrandom.restype = ctypes.c_ssize_t

    def fill(buffer: memoryview) -> None:
        size = len(buffer)
        written = getrandom((ctypes.c_char * size).from_buffer(buffer), size, 0)
        if written != size:  # getrandom(2) never stops early for up to 256 bytes
            raise OSError(
                f"getrandom({size} bytes)={written} must fill the buffer; check the kernel's random source"
            )

    return fill


def _libc_mlock(address: int, length: int) -> int:
    """Lock pages; 0 or an errno."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mlock.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    return 0 if libc.mlock(address, length) == 0 else ctypes.get_errno()


class Slot(NamedTuple):
    """A place in the slab and how often that place had been given away before."""

    place: int
    generation: int


class KeySlab:
    """Keys of live fragments, `KEY_BYTES` each, in slabs of locked anonymous memory.

    Not thread-safe: the owner holds its lock around `take` and `shred`.

    Args:
        fill_random: Writes random bytes into the given buffer.
        keys_per_slab: Keys per mapping; the whole mapping is locked at once.
        allow_unlocked: Go on when the operating system refuses to lock; `locked` then tells so.
        mlock: Locks `(address, length)`; returns 0 or an errno.

    Guarantees:
        A shredded key is overwritten with zeros before `shred` returns, in the only place where it ever stood.
        A view is never handed out for a dead slot. A forked child finds zeros in the pages and an error in front.
    """

    def __init__(
        self,
        *,
        fill_random: Callable[[memoryview], None],
        keys_per_slab: int = 2048,
        allow_unlocked: bool = False,
        mlock: Callable[[int, int], int] = _libc_mlock,
    ) -> None:
        self._fill = fill_random
        self._per_slab = positive(keys_per_slab=keys_per_slab)
        self._allow_unlocked = allow_unlocked
        self._mlock = mlock
        self._slabs: list[memoryview] = []
        self._generations: list[int] = []
        self._free: list[int] = []
        self.locked = True
        self._head = self._lock_pages(_CANARY + 1)
        self._head[_CANARY] = 1
        self._left = 0
        self._grow()

    def __len__(self) -> int:
        """Number of keys alive."""
        return len(self._generations) - len(self._free)

    def take(self) -> Slot:
        """Give away a slot holding a fresh random key.

        Raises:
            MemoryNotLocked: A new slab was needed and could not be locked.
            FragmentServiceClosed: Closed, or a forked child.
        """
        slot, _ = self.take_viewed()
        return slot

    def take_viewed(self) -> tuple[Slot, memoryview]:
        """`take`, with the `view` of the slot."""
        self._check_owner()
        if not self._free:
            self._grow()
        place = self._free[-1]
        key = self._place(place)
        self._draw(key)
        self._free.pop()
        return Slot(place, self._generations[place]), key

    def view(self, slot: Slot) -> memoryview:
        """The key itself, in place. Use it at once and let it go; never copy it.

        Raises:
            KeyError: The key of that slot is gone.
            FragmentServiceClosed: Closed, or a forked child.
        """
        self._check_owner()
        if self._generations[slot.place] != slot.generation:
            raise KeyError(slot.place)
        return self._place(slot.place)

    def shred(self, slot: Slot) -> None:
        """Overwrite the key with zeros and free its slot.

        Raises:
            KeyError: The key of that slot is gone already.
        """
        self.view(slot)[:] = _ZEROS
        self._generations[slot.place] += 1
        self._free.append(slot.place)

    def close(self) -> None:
        """Overwrite every slab; no key can be taken or viewed any more."""
        for pages in (*self._slabs, self._head):
            pages[:] = bytes(len(pages))

    def _check_owner(self) -> None:
        # The canary lies in pages that a fork wipes and `close` overwrites: one byte tells both, without a system call.
        if not self._head[_CANARY]:
            raise FragmentServiceClosed(
                "slab=<closed> must be open and in its own process; start a new service"
            )

    def _place(self, place: int) -> memoryview:
        slab, index = divmod(place, self._per_slab)
        return self._slabs[slab][index * KEY_BYTES : (index + 1) * KEY_BYTES]

    def _draw(self, key: memoryview) -> None:
        """Move the next random bytes of the reservoir into `key`; what is moved is overwritten at once."""
        if self._left == 0:
            self._fill(self._head[:_RESERVOIR])
            self._left = _RESERVOIR
        source = self._head[self._left - KEY_BYTES : self._left]
        key[:] = source
        source[:] = _ZEROS
        self._left -= KEY_BYTES

    def _grow(self) -> None:
        pages = self._lock_pages(self._per_slab * KEY_BYTES)
        first = len(self._generations)
        self._slabs.append(pages)
        self._generations.extend([0] * self._per_slab)
        self._free.extend(range(first + self._per_slab - 1, first - 1, -1))

    def _lock_pages(self, length: int) -> memoryview:
        """Fresh pages that are never swapped, dumped or inherited."""
        size = -(-length // mmap.PAGESIZE) * mmap.PAGESIZE
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        pages.madvise(mmap.MADV_DONTDUMP)
        pages.madvise(_MADV_WIPEONFORK)
        refused = self._mlock(ctypes.addressof(ctypes.c_char.from_buffer(pages)), size)
        if refused and not self._allow_unlocked:
            raise MemoryNotLocked(
                f"mlock({size} bytes)={os.strerror(refused)!r} must succeed; raise RLIMIT_MEMLOCK or grant CAP_IPC_LOCK, "
                "or pass allow_unlocked=True and accept that keys may reach the swap device"
            )
        self.locked = self.locked and not refused
        return memoryview(pages)
