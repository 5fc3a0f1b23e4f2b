"""Compiled loops of contribution bounding: priorities, the per-customer slot table, row samples, lattice rounding.

The slot table holds, for each customer, at most L0 groups with the exact count and total of that customer's rows in each. A row is
*offered*; its (customer, group) has one priority, fixed by the salt, and the table keeps the L0 groups of smallest priority.

Claim: after any sequence of offers, a customer's slots are exactly the L0 groups of smallest `(priority, group code)` among all groups
offered for that customer, and each slot's count and total cover every row offered for it.

Precondition: codes lie inside the tables (the callers check), and words do not change between offers.

Argument: `limits[c]` is the largest priority in a full table, else the maximum of 64 bits; it never grows, because a group enters a full
table only by replacing one of larger priority. A row is turned away only when L0 groups of smaller `(priority, code)` are held, and those
are only ever replaced by smaller ones, so a group once turned away or evicted never returns: nothing that is held at the end lost a row,
and what is held at the end are the L0 smallest. Totals are added modulo 2^64 and counts saturate at 2^31 - 1; both are associative and
commutative, so the state does not depend on the order of offers or on how they were split.

With ``settings.uniform == 0`` groups are kept in the order of first arrival instead: then the state depends on the order of rows.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dayfly.privacy._jit import lean_kernel

__all__ = [
    "COUNT_LIMIT",
    "NO_VALUE",
    "Clamp",
    "Rows",
    "Settings",
    "Slots",
    "choose_rows",
    "offer_rows",
    "round_to_lattice",
    "settle",
    "siphash_words",
]

NO_VALUE: Final = -(2**63)
"""Lattice value of a row that has none (null or NaN): the row is left out."""

COUNT_LIMIT: Final = 2**31 - 1
"""Where the count of one (customer, group) saturates."""

_FIRST_ROOM: Final = 4
_NO_LIMIT: Final = np.uint64(0xFFFFFFFFFFFFFFFF)
_MIX_A: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B: Final = np.uint64(0x94D049BB133111EB)
_STRIDE: Final = np.uint64(0x9E3779B97F4A7C15)
_S13: Final = np.uint64(13)
_S16: Final = np.uint64(16)
_S17: Final = np.uint64(17)
_S21: Final = np.uint64(21)
_S27: Final = np.uint64(27)
_S30: Final = np.uint64(30)
_S31: Final = np.uint64(31)
_S32: Final = np.uint64(32)
_S43: Final = np.uint64(43)
_S47: Final = np.uint64(47)
_S48: Final = np.uint64(48)
_S51: Final = np.uint64(51)
_S56: Final = np.uint64(56)
_SIP_0: Final = np.uint64(0x736F6D6570736575)
_SIP_1: Final = np.uint64(0x646F72616E646F6D)
_SIP_2: Final = np.uint64(0x6C7967656E657261)
_SIP_3: Final = np.uint64(0x7465646279746573)
_SIP_END: Final = np.uint64(0xFF)


class Slots(NamedTuple):
    """Views of the slot table: one entry per customer, per group, per slot."""

    customer_words: NDArray[np.uint64]
    limits: NDArray[np.uint64]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int32]
    rooms: NDArray[np.int32]
    group_words: NDArray[np.uint64]
    groups: NDArray[np.int32]
    counts: NDArray[np.int32]
    sums: NDArray[np.int64]


class Rows(NamedTuple):
    """Rows to offer; a negative code leaves a row out. Empty counts: one each. Empty values: a total of 0."""

    customers: NDArray[np.int32]
    groups: NDArray[np.int32]
    counts: NDArray[np.int32]
    values: NDArray[np.int64]


class Settings(NamedTuple):
    """What does not change between offers: L0, and 1 for uniform sampling or 0 for first come."""

    l0: int
    uniform: int


class Clamp(NamedTuple):
    """Bounds of one (customer, group)."""

    rows: int
    lower: int
    upper: int


@lean_kernel
def _mix(word: np.uint64) -> np.uint64:
    """A bijection of 64 bits in which every input bit moves every output bit (Stafford's Mix13, as in SplitMix64)."""
    word = (word ^ (word >> _S30)) * _MIX_A
    word = (word ^ (word >> _S27)) * _MIX_B
    return word ^ (word >> _S31)


@lean_kernel
def offer_rows(
    slots: Slots, rows: Rows, settings: Settings, used: NDArray[np.int64], queue: NDArray[np.int32], first: int
) -> int:
    """Offer `rows[first:]` to the table.

    Rows are looked at in blocks of `queue.size`: one pass without branches collects those under their customer's limit, a second pass
    places them. Limits only fall, so the first pass never turns away a row that the second would have placed.

    Args:
        slots: The table; changed in place.
        rows: Codes inside the table, or negative.
        settings: L0 and the method.
        used: `used[0]` slots of the arena are taken.
        queue: Scratch.
        first: Row to begin with.

    Returns:
        Number of rows done. Fewer than there are: the arena is full; enlarge it and call again from there.
    """
    total = rows.customers.size
    weighted = rows.counts.size > 0
    valued = rows.values.size > 0
    l0 = settings.l0
    uniform = settings.uniform
    begin = first
    while begin < total:
        end = min(begin + queue.size, total)
        waiting = 0
        for row in range(begin, end):
            customer = rows.customers[row]
            group = rows.groups[row]
            if customer < 0 or group < 0:
                continue
            queue[waiting] = row
            if _mix(slots.customer_words[customer] ^ slots.group_words[group]) <= slots.limits[customer]:
                waiting += 1
        for place in range(waiting):
            row = queue[place]
            if valued and rows.values[row] == NO_VALUE:
                continue
            customer = rows.customers[row]
            group = rows.groups[row]
            start = slots.starts[customer]
            size = slots.sizes[customer]
            at = -1
            for slot in range(start, start + size):
                if slots.groups[slot] == group:
                    at = slot
                    break
            if at < 0:
                word = slots.customer_words[customer]
                if size < l0:
                    if size == slots.rooms[customer]:
                        room = min(max(_FIRST_ROOM, 2 * size), l0)
                        fresh = used[0]
                        if fresh + room > slots.groups.size:
                            return row
                        for slot in range(size):
                            slots.groups[fresh + slot] = slots.groups[start + slot]
                            slots.counts[fresh + slot] = slots.counts[start + slot]
                            slots.sums[fresh + slot] = slots.sums[start + slot]
                        used[0] = fresh + room
                        slots.starts[customer] = fresh
                        slots.rooms[customer] = room
                        start = fresh
                    at = start + size
                    size += 1
                    slots.sizes[customer] = size
                elif uniform == 1:
                    at = _largest(slots, word, start, size)
                    mine = _mix(word ^ slots.group_words[group])
                    largest = _mix(word ^ slots.group_words[slots.groups[at]])
                    if mine > largest or (mine == largest and group > slots.groups[at]):
                        continue
                else:
                    continue
                slots.groups[at] = group
                slots.counts[at] = 0
                slots.sums[at] = 0
                if uniform == 1 and size == l0:
                    at_limit = _largest(slots, word, start, size)
                    slots.limits[customer] = _mix(word ^ slots.group_words[slots.groups[at_limit]])
            count = np.int64(slots.counts[at])
            if weighted:
                count += rows.counts[row]
            else:
                count += 1
            slots.counts[at] = min(count, COUNT_LIMIT)
            if valued:
                slots.sums[at] += rows.values[row]
        begin = end
    return total


@lean_kernel
def _largest(slots: Slots, word: np.uint64, start: int, size: int) -> int:
    """Slot of the largest (priority, group code) among `size` slots from `start`."""
    best = start
    best_priority = _mix(word ^ slots.group_words[slots.groups[start]])
    for slot in range(start + 1, start + size):
        priority = _mix(word ^ slots.group_words[slots.groups[slot]])
        if priority > best_priority or (
            priority == best_priority and slots.groups[slot] > slots.groups[best]
        ):
            best = slot
            best_priority = priority
    return best


@lean_kernel
def settle(
    slots: Slots,
    clamp: Clamp,
    counts: NDArray[np.int64],
    sums: NDArray[np.int64],
    customers: NDArray[np.int64],
) -> None:
    """Clamp every slot and add it to its group.

    Claim: taking one customer out changes at most L0 entries of each result; one entry of `counts` by at most `clamp.rows`, of
    `customers` by at most 1, of `sums` by at most `max(|lower|, |upper|)`.

    Precondition: `customers.size * max(|bound|) < 2^63`, which `Contribution` guarantees before any data is read.

    Argument: an entry is the plain sum, over customers, of a term that depends on this customer's slots alone, and a customer has at most
    L0 slots. The terms are clamped, so the claim holds even where a customer's total wrapped modulo 2^64.
    """
    for customer in range(slots.sizes.size):
        start = slots.starts[customer]
        for slot in range(start, start + slots.sizes[customer]):
            group = slots.groups[slot]
            counts[group] += min(np.int64(slots.counts[slot]), clamp.rows)
            sums[group] += min(max(slots.sums[slot], clamp.lower), clamp.upper)
            customers[group] += 1


@lean_kernel
def choose_rows(
    slots: Slots,
    rows: Rows,
    limit: int,
    key: np.uint64,
    taken: NDArray[np.int32],
    chosen: NDArray[np.bool_],
) -> None:
    """Mark a uniform sample of at most `limit` rows of each slot's (customer, group).

    Knuth's selection sampling (The Art of Computer Programming 3.4.2, algorithm S): of `n` rows, row `j` is taken with probability
    `(limit - already taken) / (n - j)`, by a random word keyed with the salt, the customer, the group and `j`.

    Claim: a customer's chosen rows depend on this customer's rows, their order and the salt, never on anybody else; at most `limit` a slot.

    Precondition: `slots` was filled by offering exactly these rows, and no count saturated; both arrays of `taken` start at zero.

    Args:
        slots: The filled table.
        rows: The rows that filled it.
        limit: Largest number of rows per (customer, group).
        key: Secret word of the salt, for rows only.
        taken: Zeros, shape (2, slots): rows seen, and rows taken.
        chosen: Filled with True for rows taken.
    """
    valued = rows.values.size > 0
    for row in range(rows.customers.size):
        customer = rows.customers[row]
        group = rows.groups[row]
        if customer < 0 or group < 0:
            continue
        word = _mix(slots.customer_words[customer] ^ slots.group_words[group])
        if word > slots.limits[customer] or (valued and rows.values[row] == NO_VALUE):
            continue
        start = slots.starts[customer]
        for slot in range(start, start + slots.sizes[customer]):
            if slots.groups[slot] == group:
                seen = taken[0, slot]
                left = np.uint64(slots.counts[slot] - seen)
                random = _mix(_mix(word ^ key) + _STRIDE * np.uint64(seen + 1)) >> _S32
                wanted = np.int64(limit) - np.int64(taken[1, slot])
                if np.int64((random * left) >> _S32) < wanted:
                    taken[1, slot] += 1
                    chosen[row] = True
                taken[0, slot] = seen + 1
                break


@lean_kernel
def round_to_lattice(
    values: NDArray[np.float64], numerator: float, denominator: float, limit: int, out: NDArray[np.int64]
) -> None:
    """`out = rint(values * denominator / numerator)`, saturated at ±`limit`; NaN becomes `NO_VALUE`.

    Each row is rounded by itself, so rounding moves no sensitivity.
    """
    ceiling = float(limit)
    for row in range(values.size):
        scaled = np.rint(values[row] * denominator / numerator)
        if np.isnan(values[row]):
            out[row] = NO_VALUE
        elif scaled >= ceiling:
            out[row] = limit
        elif scaled <= -ceiling:
            out[row] = -limit
        else:
            out[row] = np.int64(scaled)


@lean_kernel
def _sip_round(
    v0: np.uint64, v1: np.uint64, v2: np.uint64, v3: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    """One SipRound."""
    v0 = v0 + v1
    v1 = ((v1 << _S13) | (v1 >> _S51)) ^ v0
    v0 = (v0 << _S32) | (v0 >> _S32)
    v2 = v2 + v3
    v3 = ((v3 << _S16) | (v3 >> _S48)) ^ v2
    v0 = v0 + v3
    v3 = ((v3 << _S21) | (v3 >> _S43)) ^ v0
    v2 = v2 + v1
    v1 = ((v1 << _S17) | (v1 >> _S47)) ^ v2
    v2 = (v2 << _S32) | (v2 >> _S32)
    return v0, v1, v2, v3


@lean_kernel
def siphash_words(
    data: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    key_0: np.uint64,
    key_1: np.uint64,
    out: NDArray[np.uint64],
) -> None:
    """SipHash-2-4 (Aumasson and Bernstein, 2012) of the byte strings `data[offsets[i]:offsets[i + 1]]`, little-endian words."""
    for item in range(out.size):
        begin = offsets[item]
        length = offsets[item + 1] - begin
        v0 = key_0 ^ _SIP_0
        v1 = key_1 ^ _SIP_1
        v2 = key_0 ^ _SIP_2
        v3 = key_1 ^ _SIP_3
        whole = length // 8
        for block in range(whole + 1):
            word = np.uint64(0)
            width = 8
            if block == whole:
                word = np.uint64(length & 0xFF) << _S56
                width = length - 8 * whole
            for byte in range(width):
                word |= np.uint64(data[begin + 8 * block + byte]) << np.uint64(8 * byte)
            v3 ^= word
            v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
            v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
            v0 ^= word
        v2 ^= _SIP_END
        for _ in range(4):
            v0, v1, v2, v3 = _sip_round(v0, v1, v2, v3)
        out[item] = v0 ^ v1 ^ v2 ^ v3
