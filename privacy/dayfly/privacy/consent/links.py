"""Merges of identities in a form that does not depend on the order in which they were reported."""

from collections.abc import Iterable
from itertools import groupby

from .acts import Link

__all__ = ["canonical_links", "subjects_of"]


def subjects_of(subject: str, links: Iterable[Link]) -> frozenset[str]:
    """Every identity named by the links, and `subject`."""
    names = {subject}
    for one, other, _ in links:
        names |= {one, other}
    return frozenset(names)


def canonical_links(links: Iterable[Link]) -> tuple[Link, ...]:
    """The unique set of links that joins the same identities at the same instants.

    At each instant every group that grows is written as a star from its smallest name to the smallest names of the
    groups it swallows. Two histories with the same groups at every instant give equal tuples.

    Args:
        links: Any links, with repetitions, cycles and links of an identity to itself.
    """
    group: dict[str, str] = {}

    def smallest(name: str) -> str:
        while group.setdefault(name, name) != name:
            name = group[name]
        return name

    result: list[Link] = []
    for time_ms, batch in groupby(sorted(links, key=lambda link: link[2]), key=lambda link: link[2]):
        swallowed: set[str] = set()
        for one, other, _ in batch:
            low, high = sorted((smallest(one), smallest(other)))
            if low != high:
                group[high] = low
                swallowed.add(high)
        result.extend((smallest(name), name, time_ms) for name in swallowed)
    return tuple(sorted(result))
