"""The soak: a durable engine under a steady load with churn of consents, rules, merges and erasures, judged by the oracle.

`python -m tests.engine.durable.soak --minutes 30`

Its clock runs fast and its windows are short, so that within seconds as much is forgotten as comes in: memory must stay flat.
What a few witnesses do is also told to the brute-force oracle, which must name the same tags at the end.
"""

import argparse
import random
import resource
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import orjson

from dayfly.engine.decisions import Decisions
from dayfly.engine.delivery.items import FragmentReady
from dayfly.engine.durable import Engine
from dayfly.engine.events import Event, EventBatch
from dayfly.engine.inputs import ConsentGiven, ConsentWithdrawn, Erase, Input, Merge, Publish
from dayfly.engine.policy.load import policy_from_documents
from dayfly.engine.policy.model import Policy
from dayfly.privacy.errors import ExpiredFragment, LeaseRefused
from tests.engine.runtime.world import CHINA, T0, consent_record, documents
from tests.oracles.consent_real import RealConsent
from tests.oracles.membership import OracleEngine
from tests.oracles.unpack import events_of

from .storm_world import MARK, SETTINGS, World

SPEED: Final = 360
"""Two hours of history are twenty seconds of the soak."""
EVENTS_PER_SECOND: Final = 2_000
BATCH: Final = 20
PEOPLE: Final = 5_000
WITNESSES: Final = 25
MATERIALS: Final = ("leather", "fabric", "velvet", "oak")

TAGS: Final[list[dict[str, Any]]] = [
    {
        "tag": "comparing-sofa-materials",
        "purpose": "service.recommendation",
        "topic": "furniture.sofa",
        "when": 'distinct("Product Viewed", properties.material, within: 30m) >= 3',
        "captures": {
            "materials": 'distinct("Product Viewed", properties.material, within: 30m)',
            "dearest": 'max("Product Viewed", properties.price, within: 30m)',
        },
    },
    {
        "tag": "busy",
        "purpose": "marketing",
        "topic": "furniture",
        "when": 'count("Product Viewed", within: 10m) >= 4 && absent("Login", within: 5m)',
    },
    {"tag": "in", "purpose": "service.store", "topic": "stores", "when": 'count("Login", within: 1h) >= 2'},
]


def policy(version: int) -> Policy:
    """Short windows; versions differ in what makes somebody busy."""
    read = [item for item in documents() if item["kind"] not in ("tags", "settings", "mapping")]
    for document in read:
        if document["kind"] == "triggers":
            wanted = ("advise-on-sofa-materials", "install-service-tapped")
            document["triggers"] = [item for item in document["triggers"] if item["trigger"] in wanted]
            document["contradictions"] = []
            for trigger in document["triggers"]:
                trigger["ttl"] = "15m"
                if trigger["trigger"] == "install-service-tapped":
                    measure = 'last("Install Service Tapped", properties.sku, within: 30m)'
                    trigger["fields"] = {"sku": {"measure": measure, "data_category": "behaviour"}}
    busy = [*TAGS]
    busy[1] = {**busy[1], "when": busy[1]["when"].replace(">= 4", f">= {3 + version % 2}")}
    settings = {
        "kind": "settings",
        "history": "2h",
        "allowed_lateness": "10m",
        "future_skew": "5m",
        "controller": "cdp",
        "controller_country": "CN",
        "tag_data_category": "behaviour",
    }
    return policy_from_documents([*read, {"kind": "tags", "tags": busy}, settings], version=version)


@dataclass
class Measured:
    """What a soak found: bytes of resident memory every second, calls by name, the longest wait for a submission."""

    rss_bytes: list[int] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    events: int = 0
    slowest_ms: float = 0.0
    seconds: float = 0.0

    def growth(self) -> float:
        """Largest memory of the last quarter over that of the second."""
        quarter = max(1, len(self.rss_bytes) // 4)
        return max(self.rss_bytes[-quarter:]) / max(self.rss_bytes[quarter : 2 * quarter] or self.rss_bytes)


class Witness:
    """Hears what the shard is told, and keeps what is about some people."""

    def __init__(self, engine: Engine, names: set[bytes]) -> None:
        self.names = names
        self.heard: list[tuple[list[Input | list[Event]], int]] = []
        self._memory = engine._running.host.engine
        self._tap = self._memory._tap
        self._memory._tap = self.hear

    def hear(self, inputs: Sequence[Input], now_ms: int, decisions: Decisions) -> None:
        assert self._tap is not None
        mine = [found for item in inputs for found in self._mine(item)]
        if mine:
            self.heard.append((mine, now_ms))
        self._tap(inputs, now_ms, decisions)

    def _mine(self, item: Input) -> list[Input | list[Event]]:
        """What of an input is about the witnesses; events as values, which take less room than columns of a few."""
        if isinstance(item, EventBatch):
            catalog = self._memory.shard.policy.catalog
            events = [event for event in events_of(item, catalog) if event.subject in self.names]
            return [events] if events else []
        if isinstance(item, Publish):
            return [item]
        if isinstance(item, Merge):
            return [item] if {item.subject, item.other} & self.names else []
        if isinstance(item, ConsentGiven | ConsentWithdrawn | Erase):
            return [item] if item.subject in self.names else []
        return []


class Soak:
    """One engine, a paced load, and churn beside it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.world = FastWorld.made(folder)
        self.chance = random.Random(seed)
        self.measured = Measured()
        self.stop = threading.Event()
        self.numbers = iter(range(1 << 62))
        self.merged: deque[str] = deque()
        self.trouble: list[BaseException] = []
        self.users = [f"{MARK}-{number}" for number in range(PEOPLE)]
        self.guests = 0
        self.engine = self.world.open_with(policy(1))
        names = {self.world.person(user) for user in self.users[:WITNESSES]}
        self.witness = Witness(self.engine, names)
        for user in self.users:
            self.allow(user)

    def run(self, seconds: float) -> Measured:
        """Load and churn for so long, then compare."""
        threads = [
            threading.Thread(target=self.guarded, args=(job,))
            for job in (self.load, self.churn, self.lease, self.watch)
        ]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        self.stop.wait(seconds)
        self.stop.set()
        for thread in threads:
            thread.join()
        self.measured.seconds = time.monotonic() - began
        if self.trouble:
            raise self.trouble[0]
        self.judge()
        self.engine.close()
        return self.measured

    def guarded(self, job: Any) -> None:
        try:
            job()
        except BaseException as error:  # noqa: BLE001 - the main thread raises it
            self.trouble.append(error)
            self.stop.set()

    # --- load ---------------------------------------------------------------------------------------------------------

    def load(self) -> None:
        due = time.monotonic()
        while not self.stop.is_set():
            payloads = [self.event() for _ in range(BATCH)]
            began = time.monotonic()
            self.engine.submit(payloads, "app")
            self.measured.slowest_ms = max(self.measured.slowest_ms, (time.monotonic() - began) * 1000)
            self.measured.events += BATCH
            due += BATCH / EVENTS_PER_SECOND
            time.sleep(max(0.0, due - time.monotonic()))

    def event(self) -> bytes:
        chance, number = self.chance, f"e-{next(self.numbers)}"
        user = chance.choice(self.users[:WITNESSES] if chance.random() < 0.02 else self.users)
        kind = chance.random()
        if kind < 0.8:
            seen = {
                "product_id": "p",
                "category": "sofa",
                "material": chance.choice(MATERIALS),
                "price": 4_000,
            }
            return self.world.message(user, "Product Viewed", number, **seen)
        if kind < 0.99:
            return self.world.message(user, "Login", number)
        return self.world.message(user, "Install Service Tapped", number, sku="sku-1")

    # --- churn --------------------------------------------------------------------------------------------------------

    def churn(self) -> None:
        chance = random.Random(self.chance.random())
        acts = (self.consent, self.withdraw, self.merge, self.erase, self.publish, self.check)
        while not self.stop.wait(0.05):
            act = chance.choices(acts, (10, 4, 2, 1, 0.5, 1))[0]
            some = self.users[:WITNESSES] if chance.random() < 0.2 else self.users
            act(chance.choice(some))
            self.measured.calls[act.__name__] += 1

    def allow(self, user: str) -> None:
        person = self.world.person(user)
        self.engine.consent(
            person, consent_record(person, self.world.now_ms(), record_id=f"r-{next(self.numbers)}")
        )

    def consent(self, user: str) -> None:
        self.allow(user)

    def withdraw(self, user: str) -> None:
        self.engine.withdraw(self.world.person(user), purpose="marketing")

    def merge(self, user: str) -> None:
        """A guest turns out to be somebody; who was merged before long is erased, so that names do not pile up."""
        self.guests += 1
        guest = f"{MARK}-guest-{self.guests}"
        if self.world.person(user) in self.witness.names:
            self.witness.names.add(self.world.person(guest))
        self.engine.submit([self.world.message(guest, "Login", f"e-{next(self.numbers)}")], "app")
        self.engine.merge(self.world.person(user), self.world.person(guest))
        self.merged.append(user)
        if len(self.merged) > 50:
            self.erase(self.merged.popleft())

    def erase(self, user: str) -> None:
        self.engine.erase(self.world.person(user))
        self.allow(user)

    def publish(self, _user: str) -> None:
        self.engine.publish(policy(self.chance.randrange(1, 5)))

    def check(self, _user: str) -> None:
        self.engine.checkpoint()

    def lease(self) -> None:
        """A CRM that reads some of the fragments, while it can."""
        with self.engine.fragments() as feed:
            while not self.stop.is_set():
                item = feed.get(timeout_seconds=0.2)
                self.measured.calls[type(item).__name__] += 1
                if isinstance(item, FragmentReady) and item.audience == CHINA and item.position % 50 == 0:
                    self.read(item)

    def read(self, fragment: FragmentReady) -> None:
        client = self.world.client(self.engine, CHINA)
        try:
            verified = client.verify(fragment.token, self.world.now_ms())
            pending = client.lease_request(verified, self.world.now_ms(), self.engine.nonce())
            client.open(verified, pending, self.engine.lease(pending.request), self.world.now_ms())
            self.measured.calls["leased"] += 1
        except (LeaseRefused, ExpiredFragment) as error:
            self.measured.calls[type(error).__name__] += 1

    def watch(self) -> None:
        pages = Path("/proc/self/statm")
        while not self.stop.wait(1.0):
            self.measured.rss_bytes.append(int(pages.read_text().split()[1]) * resource.getpagesize())

    # --- judging ------------------------------------------------------------------------------------------------------

    def judge(self) -> None:
        """The witnesses carry the tags that the oracle finds by recounting everything that they did."""
        host = self.engine._running.host
        names = sorted(self.witness.names)

        def look(now_ms: int) -> tuple[int, dict[bytes, frozenset[str]]]:
            host.apply([], now_ms)
            return now_ms, {name: frozenset(host.engine.shard.tags(name)) for name in names}

        now_ms, found = self.engine._running.do(look)
        first = policy(1)
        oracle = OracleEngine(first, RealConsent(first.settings))
        for heard, at_ms in self.witness.heard:
            catalog = oracle.policy.catalog
            oracle.apply(
                [EventBatch.from_events(item, catalog) if isinstance(item, list) else item for item in heard],
                at_ms,
            )
        oracle.apply([], now_ms)
        judged = {name: oracle.tags(name, now_ms) for name in names}
        assert found == judged
        self.measured.calls["witnessed tags"] = sum(map(len, found.values()))


class FastWorld(World):
    """The storm's world with a faster clock."""

    def now_ms(self) -> int:
        return T0 + int((time.time() - self.began) * 1000 * SPEED)

    def open_with(self, first: Policy) -> Engine:
        settings = replace(SETTINGS, feed_items=2_000, snapshot_seconds=5.0, checkpoint_ms=360_000)
        return self.open(policy=first, settings=settings)


def soak(folder: Path, *, seconds: float, seed: int = 1) -> Measured:
    """Run a soak in a folder."""
    return Soak(folder, seed).run(seconds)


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=30)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = soak(Path(folder), seconds=options.minutes * 60)
    mib = [rss >> 20 for rss in found.rss_bytes]
    report = {
        "seconds": round(found.seconds),
        "events": found.events,
        "events per second": round(found.events / found.seconds),
        "slowest submission ms": round(found.slowest_ms),
        "rss MiB each eighth": mib[:: max(1, len(mib) // 8)],
        "growth": round(found.growth(), 3),
        **found.calls,
    }
    sys.stdout.write(orjson.dumps(report, option=orjson.OPT_INDENT_2).decode() + "\n")


if __name__ == "__main__":
    main()
