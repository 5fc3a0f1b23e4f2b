"""Who is in exactly which audiences, by sets of rows."""

from collections.abc import Mapping


def cells(rows: Mapping[str, set[int]]) -> dict[tuple[str, ...], int]:
    """Non-empty sets of channels, sorted, to how many rows are in exactly these."""
    names = sorted(rows)
    found = {
        tuple(name for place, name in enumerate(names) if pattern >> place & 1): 0
        for pattern in range(1, 1 << len(names))
    }
    for row in set().union(*rows.values()):
        found[tuple(name for name in names if row in rows[name])] += 1
    return found
