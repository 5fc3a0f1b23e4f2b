"""RFC 9162 section 2.1 word for word, on lists of entries: roots, proofs, and the check of a proof by plain recursion."""

import hashlib


class SlowTree:
    """MTH, PATH and PROOF over `entries`; hashes of ranges are remembered, nothing else is clever."""

    def __init__(self, entries: list[bytes]) -> None:
        self.entries = entries
        self._known: dict[tuple[int, int], bytes] = {}

    def mth(self, first: int, end: int) -> bytes:
        """MTH(D[first:end])."""
        known = self._known.get((first, end))
        if known is None:
            known = self._known[first, end] = self._mth(first, end)
        return known

    def _mth(self, first: int, end: int) -> bytes:
        if first == end:
            return hashlib.sha256().digest()
        if end - first == 1:
            return hashlib.sha256(b"\0" + self.entries[first]).digest()
        middle = first + largest_power_below(end - first)
        return hashlib.sha256(b"\1" + self.mth(first, middle) + self.mth(middle, end)).digest()

    def path(self, index: int, first: int, end: int) -> list[bytes]:
        """PATH(index, D[first:end])."""
        if end - first == 1:
            return []
        k = largest_power_below(end - first)
        if index < k:
            return [*self.path(index, first, first + k), self.mth(first + k, end)]
        return [*self.path(index - k, first + k, end), self.mth(first, first + k)]

    def proof(self, old: int, size: int) -> list[bytes]:
        """PROOF(old, D[0:size])."""
        return [] if old in (0, size) else self._subproof(old, 0, size, whole=True)

    def _subproof(self, m: int, first: int, end: int, *, whole: bool) -> list[bytes]:
        if m == end - first:
            return [] if whole else [self.mth(first, end)]
        k = largest_power_below(end - first)
        if m <= k:
            return [*self._subproof(m, first, first + k, whole=whole), self.mth(first + k, end)]
        return [*self._subproof(m - k, first + k, end, whole=False), self.mth(first, first + k)]


def largest_power_below(n: int) -> int:
    """The largest power of two smaller than n."""
    k = 1
    while k * 2 < n:
        k *= 2
    return k
