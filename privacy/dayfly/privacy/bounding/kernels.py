"""Compiled loops of contribution bounding: priorities, the per-customer slot table, row samples, lattice rounding.

The slot table holds, for each customer, at most L0 groups with the exact count and total of that customer's rows in each. A row is
*offered*; its (customer, group) has one priority, fixed by the salt, and the table keeps the L0 groups of smallest priority.

Claim: after any sequence of offers, a customer's slots are exactly the L0 groups of smallest `(priority, group code)` among all groups
offered for that customer, and each slot's count and total cover every row offered for it.

Precondition: codes lie inside the tables (the callers check), and words do not change between offers.

Argument: a customer's limit is the largest priority in a full table, else the maximum of 64 bits; it never grows, because a group enters a full
table only by replacing one of larger priority. A row is turned away only when L0 groups of smaller `(priority, code)` are held, and those
are only ever replaced by smaller ones, so a group once turned away or evicted never returns: nothing that is held at the end lost a row,
and what is held at the end are the L0 smallest. Totals are added modulo 2^64 and counts saturate at 2^31 - 1; both are associative and
commutative, so the state does not depend on the order of offers or on how they were split.

With ``settings.uniform == 0`` groups are kept in the order of first arrival instead: then the state depends on the order of rows.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dayfly.privacy._jit import inlined_kernel, lean_kernel

__all__ = [
    "COUNT_LIMIT",
    "FIRST_ROOM",
    "NO_VALUE",
    "Buckets",
    "Clamp",
    "Layout",
    "Marks",
    "Rows",
    "Settings",
    "Slots",
    "choose_rows",
    "code_range",
    "count_customers",
    "fill_buckets",
    "offer_rows",
    "rename_codes",
    "round_to_lattice",
    "scale_to_lattice",
    "settle",
]

NO_VALUE: Final = -(2**63)
"""Lattice value of a row that has none (null or NaN): the row is left out."""

COUNT_LIMIT: Final = 2**31 - 1
"""Where the count of one (customer, group) saturates."""

FIRST_ROOM: Final = 4
"""Slots a customer begins with; a power of two. They double, so that 4, 8, 16, ... in use means that the room is full."""

_LOW: Final = np.uint64(0xFFFFFFFF)
_MIX_A: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B: Final = np.uint64(0x94D049BB133111EB)
_STRIDE: Final = np.uint64(0x9E3779B97F4A7C15)
_S1: Final = np.uint64(1)
_S27: Final = np.uint64(27)
_S30: Final = np.uint64(30)
_S31: Final = np.uint64(31)
_S32: Final = np.uint64(32)


class Slots(NamedTuple):
    """The slot table: one row per customer, per group, per slot.

    Attributes:
        heads: uint64, shape (customers, 2): the customer's word, and the largest priority that may still enter.
        places: int64, shape (customers, 2): first slot, and number of slots in use.
        group_words: uint64, shape (groups,).
        slots: int64, shape (slots, 2): group code in the upper and count in the lower 32 bits, and the total.
        priorities: uint64, shape (slots,): of the slot's (customer, group).
    """

    heads: NDArray[np.uint64]
    places: NDArray[np.int64]
    group_words: NDArray[np.uint64]
    slots: NDArray[np.int64]
    priorities: NDArray[np.uint64]


class Rows(NamedTuple):
    """Rows to offer; a negative code leaves a row out. Empty counts: one each. Empty values: a total of 0."""

    customers: NDArray[np.int32]
    groups: NDArray[np.int32]
    counts: NDArray[np.int32]
    values: NDArray[np.int64]


class Layout(NamedTuple):
    """How a row lies in one word of 64 bits: the customer's place in its bucket, the group, the value, from the upper bits down.

    Where these do not fit, the value lies elsewhere.

    Attributes:
        shift: Customers per bucket, as a power of two.
        group_bits: Bits of the group code.
        value_bits: Bits of the value (two's complement, moved up to begin at zero); 0 where it lies elsewhere.
    """

    shift: int
    group_bits: int
    value_bits: int


class Buckets(NamedTuple):
    """Rows side by side with those of neighbouring customers.

    Attributes:
        rows: uint64, shape (rows,): see `Layout`.
        values: int64, shape (rows,), or empty when they are in `rows`.
        counts: int32, shape (rows,), or empty when every row counts once.
        starts: int64, shape (buckets,): first row of each.
        ends: int64, shape (buckets,): one past the last row that is there already.
        queue: int32: scratch, its size is the length of a block.
    """

    rows: NDArray[np.uint64]
    values: NDArray[np.int64]
    counts: NDArray[np.int32]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    queue: NDArray[np.int32]


class Settings(NamedTuple):
    """What does not change between offers: L0, and 1 for uniform sampling or 0 for first come."""

    l0: int
    uniform: int


class Marks(NamedTuple):
    """Where `choose_rows` writes.

    Attributes:
        taken: int32, shape (slots, 2): rows seen, and rows taken, of each slot.
        chosen: bool, shape (rows,).
    """

    taken: NDArray[np.int32]
    chosen: NDArray[np.bool_]


class Clamp(NamedTuple):
    """Bounds of one (customer, group)."""

    rows: int
    lower: int
    upper: int


@inlined_kernel
def _mix(word: np.uint64) -> np.uint64:
    """A bijection of 64 bits in which every input bit moves every output bit (Stafford's Mix13, as in SplitMix64)."""
    word = (word ^ (word >> _S30)) * _MIX_A
    word = (word ^ (word >> _S27)) * _MIX_B
    return word ^ (word >> _S31)


@lean_kernel
def count_customers(customers: NDArray[np.int32], limit: int, shift: int, sizes: NDArray[np.int64]) -> bool:
    """Add to `sizes` the number of rows of each bucket of `1 << shift` customers; negative codes are left out.

    Returns:
        False when a code is not below `limit`; then `sizes` is of no use.
    """
    for row in range(customers.size):
        customer = customers[row]
        if customer >= limit:
            return False
        if customer >= 0:
            sizes[np.uint32(customer) >> shift] += 1
    return True


@lean_kernel
def fill_buckets(rows: Rows, groups: int, layout: Layout, buckets: Buckets) -> bool:
    """Put rows into the buckets of their customers, so that the part of the table in use fits a cache. The order of rows is kept.

    Rows with a negative code or without a value are left out.

    Precondition: `count_customers` made room for these rows, and values fit `layout`.

    Args:
        rows: Some rows.
        groups: Number of group codes.
        layout: How rows lie there.
        buckets: Filled further; `ends` move.

    Returns:
        False when a group code is too large.
    """
    customers, codes, values, ends = rows.customers, rows.groups, rows.values, buckets.ends
    valued = values.size > 0
    weighted = rows.counts.size > 0
    wide = buckets.values.size > 0
    inside = (np.int64(1) << layout.shift) - 1
    mask = (np.int64(1) << layout.value_bits) - 1
    half = (mask + 1) >> 1
    for row in range(customers.size):
        customer = np.int64(customers[row])
        group = np.int64(codes[row])
        value = values[row] if valued else np.int64(0)
        if group >= groups:
            return False
        if customer >= 0 and group >= 0 and value != NO_VALUE:
            bucket = np.uint32(customer) >> layout.shift
            at = np.uint64(ends[bucket])
            ends[bucket] += 1
            pair = (customer & inside) << layout.group_bits | group
            buckets.rows[at] = np.uint64(pair << layout.value_bits | ((value + half) & mask))
            if wide:
                buckets.values[at] = value
            if weighted:
                buckets.counts[at] = rows.counts[row]
    return True


@lean_kernel
def offer_rows(
    table: Slots, buckets: Buckets, layout: Layout, settings: Settings, state: NDArray[np.int64]
) -> bool:
    """Offer the rows of `buckets` to the table.

    Rows are looked at in blocks: one pass without branches collects those under their customer's limit, a second pass places them. Limits
    only fall, so the first pass never turns away a row that the second would have placed.

    Args:
        table: Changed in place.
        buckets: Rows with codes inside the table.
        layout: How they lie there.
        settings: L0 and the method.
        state: Slots of the arena that are taken, the bucket to go on with, and the number of its rows that are done.

    Returns:
        Whether all rows are done. If not, the arena is full; enlarge it and call again.
    """
    heads, places, slots, words = table.heads, table.places, table.slots, table.group_words
    priorities, rows, queue = table.priorities, buckets.rows, buckets.queue
    weighted = buckets.counts.size > 0
    wide = buckets.values.size > 0
    group_bits, value_bits = np.uint64(layout.group_bits), np.uint64(layout.value_bits)
    codes = (np.uint64(1) << group_bits) - np.uint64(1)
    half = np.int64((np.uint64(1) << value_bits) >> _S1)
    mask = (np.uint64(1) << value_bits) - np.uint64(1)
    while state[1] < buckets.starts.size:
        first = np.uint64(state[1]) << np.uint64(layout.shift)
        begin = buckets.starts[state[1]] + state[2]
        total = buckets.ends[state[1]]
        while begin < total:
            end = min(begin + queue.size, total)
            waiting = 0
            for row in range(begin, end):
                pair = rows[np.uint64(row)] >> value_bits
                customer = first + (pair >> group_bits)
                queue[waiting] = row - begin
                priority = _mix(heads[customer, 0] ^ words[pair & codes])
                waiting += np.int64(priority <= heads[customer, 1])
            for place in range(waiting):
                row = begin + queue[place]
                pair = rows[np.uint64(row)] >> value_bits
                customer = first + (pair >> group_bits)
                group = np.int64(pair & codes)
                start = places[customer, 0]
                size = places[customer, 1]
                at = np.int64(-1)
                for slot in range(start, start + size):
                    if slots[np.uint64(slot), 0] >> 32 == group:
                        at = slot
                        break
                if at < 0:
                    priority = _mix(heads[customer, 0] ^ words[pair & codes])
                    if size < settings.l0:
                        if size == 0 or (size >= FIRST_ROOM and size & (size - 1) == 0):
                            room = min(max(FIRST_ROOM, 2 * size), settings.l0)
                            if state[0] + room > slots.shape[0]:
                                state[2] = row - buckets.starts[state[1]]
                                return False
                            start = _moved(table, start, size, state[0])
                            places[customer, 0] = start
                            state[0] += room
                        at = start + size
                        places[customer, 1] = size + 1
                        priorities[np.uint64(at)] = priority
                        if settings.uniform == 1 and size + 1 == settings.l0:
                            _, heads[customer, 1], _ = _largest(table, start, size + 1)
                    elif settings.uniform == 1:
                        if priority > heads[customer, 1]:
                            continue
                        at, limit, second = _largest(table, start, size)
                        if priority == limit or second == limit:
                            at = _last(table, start, size, limit)
                            if priority == limit and group > slots[np.uint64(at), 0] >> 32:
                                continue
                        priorities[np.uint64(at)] = priority
                        heads[customer, 1] = max(priority, second)
                    else:
                        continue
                    slots[np.uint64(at), 0] = group << 32
                    slots[np.uint64(at), 1] = 0
                count = slots[np.uint64(at), 0] & COUNT_LIMIT
                more = np.int64(buckets.counts[row]) if weighted else np.int64(1)
                value = buckets.values[row] if wide else np.int64(rows[np.uint64(row)] & mask) - half
                slots[np.uint64(at), 0] += min(more, COUNT_LIMIT - count)
                slots[np.uint64(at), 1] += value
            begin = end
        state[1] += 1
        state[2] = 0
    return True


@inlined_kernel
def _moved(table: Slots, start: int, size: int, fresh: int) -> int:
    """Copy `size` slots from `start` to `fresh`, which is returned."""
    for step in range(size):
        table.slots[fresh + step, 0] = table.slots[start + step, 0]
        table.slots[fresh + step, 1] = table.slots[start + step, 1]
        table.priorities[fresh + step] = table.priorities[start + step]
    return fresh


@inlined_kernel
def _largest(table: Slots, start: int, size: int) -> tuple[int, np.uint64, np.uint64]:
    """Among `size` slots from `start`: one of the largest priority, that priority, and the next largest, equal to it where two have it."""
    best = start
    best_priority = table.priorities[np.uint64(start)]
    second = np.uint64(0)
    for slot in range(start + 1, start + size):  # without branches: who is larger cannot be foretold
        priority = table.priorities[np.uint64(slot)]
        best = slot if priority > best_priority else best
        second = max(second, min(best_priority, priority))
        best_priority = max(best_priority, priority)
    return best, best_priority, second


@inlined_kernel
def _last(table: Slots, start: int, size: int, priority: np.uint64) -> int:
    """Among `size` slots from `start`, that of the largest group code of those that have this priority; one has."""
    last, largest = start, np.int64(-1)
    for slot in range(start, start + size):
        group = table.slots[np.uint64(slot), 0] >> 32
        if table.priorities[np.uint64(slot)] == priority and group > largest:
            last, largest = slot, group
    return last


@lean_kernel
def settle(
    table: Slots,
    clamp: Clamp,
    counts: NDArray[np.int64],
    sums: NDArray[np.int64],
    customers: NDArray[np.int64],
) -> None:
    """Clamp every slot and add it to its group.

    Claim: taking one customer out changes at most L0 entries of each result; one entry of `counts` by at most `clamp.rows`, of
    `customers` by at most 1, of `sums` by at most `max(|lower|, |upper|)`.

    Precondition: the number of customers times `max(|bound|)` is below 2^63, which `Contribution` guarantees before any data is read.

    Argument: an entry is the plain sum, over customers, of a term that depends on this customer's slots alone, and a customer has at most
    L0 slots. The terms are clamped, so the claim holds even where a customer's total wrapped modulo 2^64.
    """
    for customer in range(table.places.shape[0]):
        start = table.places[customer, 0]
        for slot in range(start, start + table.places[customer, 1]):
            group = table.slots[slot, 0] >> 32
            counts[group] += min(table.slots[slot, 0] & COUNT_LIMIT, clamp.rows)
            sums[group] += min(max(table.slots[slot, 1], clamp.lower), clamp.upper)
            customers[group] += 1


@lean_kernel
def choose_rows(
    table: Slots, buckets: Buckets, layout: Layout, limit: int, key: np.uint64, marks: Marks
) -> None:
    """Mark a uniform sample of at most `limit` rows of each slot's (customer, group).

    Knuth's selection sampling (The Art of Computer Programming 3.4.2, algorithm S): of `n` rows, row `j` is taken with probability
    `(limit - already taken) / (n - j)`, by a random word keyed with the salt, the customer, the group and `j`.

    Claim: a customer's chosen rows depend on this customer's rows, their order and the salt, never on anybody else; at most `limit` a slot.

    Precondition: `table` was filled by offering exactly these rows, once, and no count saturated; `marks.taken` began as zeros.

    Args:
        table: The filled table.
        buckets: Rows whose value is their row number.
        layout: How they lie there.
        limit: Largest number of rows per (customer, group).
        key: Secret word of the salt, for rows only.
        marks: Filled in.
    """
    group_bits, value_bits = np.uint64(layout.group_bits), np.uint64(layout.value_bits)
    codes = (np.uint64(1) << group_bits) - np.uint64(1)
    half = np.int64((np.uint64(1) << value_bits) >> _S1)
    mask = (np.uint64(1) << value_bits) - np.uint64(1)
    wide = buckets.values.size > 0
    for bucket in range(buckets.starts.size):
        for row in range(buckets.starts[bucket], buckets.ends[bucket]):
            pair = buckets.rows[np.uint64(row)] >> value_bits
            customer = (np.uint64(bucket) << np.uint64(layout.shift)) + (pair >> group_bits)
            word = _mix(table.heads[customer, 0] ^ table.group_words[pair & codes])
            if word > table.heads[customer, 1]:
                continue
            start = table.places[customer, 0]
            for slot in range(start, start + table.places[customer, 1]):
                if table.slots[slot, 0] >> 32 == np.int64(pair & codes):
                    seen = np.int64(marks.taken[slot, 0])
                    left = np.uint64((table.slots[slot, 0] & COUNT_LIMIT) - seen)
                    random = _mix(_mix(word ^ key) + _STRIDE * np.uint64(seen + 1)) >> _S32
                    if np.int64((random * left) >> _S32) < limit - marks.taken[slot, 1]:
                        marks.taken[slot, 1] += 1
                        number = np.int64(buckets.rows[np.uint64(row)] & mask) - half
                        marks.chosen[buckets.values[row] if wide else number] = True
                    marks.taken[slot, 0] = seen + 1
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
def scale_to_lattice(values: NDArray[np.int64], per_unit: int, limit: int, out: NDArray[np.int64]) -> None:
    """`out = values * per_unit`, exactly, saturated at ±`limit`."""
    bound = limit // per_unit
    for row in range(values.size):
        if values[row] > bound:
            out[row] = limit
        elif values[row] < -bound:
            out[row] = -limit
        else:
            out[row] = values[row] * per_unit


@lean_kernel
def code_range(
    values: NDArray[np.int64], low: int, codes: NDArray[np.int32], present: NDArray[np.bool_]
) -> None:
    """`codes = values - low`, and mark the codes that occur. `present` spans the range of the values."""
    for row in range(values.size):
        code = values[row] - low
        codes[row] = code
        present[code] = True


@lean_kernel
def rename_codes(codes: NDArray[np.int32], renamed: NDArray[np.int32]) -> None:
    """`codes = renamed[codes]` in place; negative codes stay. `renamed` covers every code."""
    for row in range(codes.size):
        if codes[row] >= 0:
            codes[row] = renamed[codes[row]]
