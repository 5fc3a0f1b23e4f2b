"""Alignment by plain sets."""

from collections.abc import Mapping, Sequence


def regions_of_sets(sets: Mapping[str, Sequence[str]]) -> dict[tuple[str, ...], int]:
    """Channels to how many customers are in exactly these."""
    found: dict[tuple[str, ...], int] = {}
    for customer in set().union(*sets.values()):
        members = tuple(sorted(name for name, customers in sets.items() if customer in customers))
        found[members] = found.get(members, 0) + 1
    return found


def same_rows(sets: Mapping[str, Sequence[str]], rows: Mapping[str, Sequence[int]]) -> bool:
    """Whether rows are equal exactly where customers are: over all channels, customer to row is one to one."""
    pairs = {
        (customer, int(row))
        for name, customers in sets.items()
        for customer, row in zip(customers, rows[name], strict=True)
    }
    customers = {customer for customer, _ in pairs}
    places = {row for _, row in pairs}
    return len(pairs) == len(customers) == len(places)
