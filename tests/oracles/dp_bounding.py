"""Slow, plain-Python statements of what the bounding kernels compute."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

WORD = 2**64 - 1

Row = tuple[int, int, int | None]


def siphash(message: bytes, key_0: int, key_1: int) -> int:
    """SipHash-2-4, from the paper's text."""
    state = [
        key_0 ^ 0x736F6D6570736575,
        key_1 ^ 0x646F72616E646F6D,
        key_0 ^ 0x6C7967656E657261,
        key_1 ^ 0x7465646279746573,
    ]
    padded = message + bytes(7 - len(message) % 8) + bytes([len(message) % 256])
    for start in range(0, len(padded), 8):
        word = int.from_bytes(padded[start : start + 8], "little")
        state[3] ^= word
        _rounds(state, 2)
        state[0] ^= word
    state[2] ^= 0xFF
    _rounds(state, 4)
    return state[0] ^ state[1] ^ state[2] ^ state[3]


def _rotated(word: int, bits: int) -> int:
    return (word << bits | word >> (64 - bits)) & WORD


def _rounds(state: list[int], count: int) -> None:
    for _ in range(count):
        for first, second, bits in ((0, 1, 13), (2, 3, 16), (0, 3, 21), (2, 1, 17)):
            state[first] = (state[first] + state[second]) & WORD
            state[second] = _rotated(state[second], bits) ^ state[first]
            if (first, second) in {(0, 1), (2, 1)}:
                state[first] = _rotated(state[first], 32)


def mix(word: int) -> int:
    """SplitMix64's output function."""
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & WORD
    word = (word ^ word >> 27) * 0x94D049BB133111EB & WORD
    return word ^ word >> 31


def sub_key(salt: bytes, person: bytes) -> tuple[int, int]:
    """A SipHash key from the salt."""
    digest = hashlib.blake2b(key=salt, person=person, digest_size=16).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


def key_word(key: int | str | None, keys: tuple[int, int]) -> int:
    """Word of one key."""
    if key is None:
        return siphash(b"\0", *keys)
    message = key.to_bytes(8, "little", signed=True) if isinstance(key, int) else key.encode()
    return siphash(message + b"\1", *keys)


def salted_priority(salt: bytes) -> Callable[[int | str, int | str | None], int]:
    """Priority of a (customer key, group key)."""
    customers, groups = sub_key(salt, b"bound customers"), sub_key(salt, b"bound groups")
    return lambda customer, group: mix(key_word(customer, customers) ^ key_word(group, groups))


@dataclass(frozen=True)
class Totals:
    """Per group."""

    counts: list[int]
    sums: list[int]
    customers: list[int]


def kept_groups(
    rows: Iterable[Row], l0: int, *, uniform: bool, priority: Callable[[int, int], int]
) -> dict[int, list[int]]:
    """Groups that each customer keeps."""
    seen: dict[int, list[int]] = {}
    for customer, group, _ in rows:
        if group not in seen.setdefault(customer, []):
            seen[customer].append(group)
    if uniform:
        seen = {
            who: sorted(found, key=lambda group: (priority(who, group), group)) for who, found in seen.items()
        }
    return {who: found[:l0] for who, found in seen.items()}


def bounded(
    rows: Sequence[Row],
    group_count: int,
    bounds: tuple[int, int, int, int],
    *,
    uniform: bool,
    priority: Callable[[int, int], int],
) -> Totals:
    """Bounded count, sum and customers of each group; a value of None leaves the row out, as do negative codes."""
    l0, rows_per_group, lower, upper = bounds
    rows = [row for row in rows if row[0] >= 0 and row[1] >= 0 and row[2] is not None]
    totals = Totals([0] * group_count, [0] * group_count, [0] * group_count)
    for customer, groups in kept_groups(rows, l0, uniform=uniform, priority=priority).items():
        for group in groups:
            mine = [value or 0 for who, where, value in rows if (who, where) == (customer, group)]
            totals.counts[group] += min(len(mine), rows_per_group)
            totals.sums[group] += min(max(sum(mine), lower), upper)
            totals.customers[group] += 1
    return totals


def nearest_multiple(value: float, step: Fraction, limit: int) -> int:
    """`value / step` to the nearest whole number, half to even, by exact fractions."""
    exact = round(Fraction(value) / step)
    return max(-limit, min(limit, exact))
