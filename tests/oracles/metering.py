"""Counting events one by one: what the meter has to agree with, without its columns, classes or waiting."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from dayfly.engine.catalog import Catalog
from dayfly.engine.events import Event

HOUR_MS = 3_600_000


@dataclass
class CountedOneByOne:
    """Plain counts of events under the hour in which they were decided."""

    catalog: Catalog
    received: Counter[tuple[int, str]] = field(default_factory=Counter)
    undeclared: Counter[tuple[int, str]] = field(default_factory=Counter)
    late_ms: dict[tuple[int, str], list[int]] = field(default_factory=lambda: defaultdict(list))
    fields: Counter[tuple[int, str, str, str]] = field(default_factory=Counter)

    def take(self, events: Sequence[Event], now_ms: int) -> None:
        hour = now_ms // HOUR_MS
        for event in events:
            self.received[hour, event.channel] += 1
            self.late_ms[hour, event.channel].append(event.received_ms - event.time_ms)
            declared = {kind.name: kind for kind in self.catalog.types}.get(event.type)
            if declared is None:
                self.undeclared[hour, event.channel] += 1
                continue
            self.fields[hour // 24, event.channel, event.type, ""] += 1
            for spec in declared.fields:
                if event.properties.get(spec.name) is None:
                    self.fields[hour // 24, event.channel, event.type, spec.name] += 1
