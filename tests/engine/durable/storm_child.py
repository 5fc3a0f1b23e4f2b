"""The process that the storm kills: `python -m ... FOLDER BEGAN` reads a seed per line and forks a run for each.

A run opens the store, lets several threads do what services do, and says before and after each call what it does, as lines of
JSON, each one write to the pipe. It never ends by itself.
"""

import itertools
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import orjson

from dayfly.engine.delivery.items import FragmentReady
from dayfly.engine.durable import Engine, FeedItem, TagChanged, verify_certificate
from dayfly.engine.errors import EngineClosed
from dayfly.privacy.consent import UseBudget
from dayfly.privacy.errors import LeaseRefused
from dayfly.privacy.fragments import service
from tests.engine.runtime.world import CHINA, consent_record

from .storm_world import COUNTING, MARK, WAVERING, World, marked_random, storm_policy


def tell(word: str, **content: Any) -> None:
    """One line to the parent; a write this small is whole or not there."""
    os.write(1, orjson.dumps({"is": word, **content}) + b"\n")


def digest_of(item: FeedItem) -> str:
    return blake2b(msgspec.json.encode(item), digest_size=12).hexdigest()


class Consumer:
    """Reads the feed; what it has handled is a line in a file, written with one write."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        lines = path.read_bytes().splitlines()
        self.position = orjson.loads(lines[-1])["position"] if lines else 0

    def handle(self, item: FeedItem) -> None:
        line: dict[str, Any] = {
            "position": item.position,
            "digest": digest_of(item),
            "is": type(item).__name__,
        }
        if isinstance(item, FragmentReady):
            line |= {"jti": item.jti, "order": item.order_id, "series": item.subject_digest.hex()}
        if isinstance(item, TagChanged):
            line["blank"] = not item.change.subject
        os.write(self._file, orjson.dumps(line) + b"\n")
        self.position = item.position


class Run:
    """One life of the store between an opening and a kill."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.seed = seed
        self.numbers = itertools.count()
        self.fragments: list[FragmentReady] = []
        self.engine: Engine

    def start(self) -> None:
        vars(service)["kernel_random"] = marked_random(self.seed)
        tell("opening")
        self.engine = self.world.open()
        tell("open")
        jobs: list[Callable[[random.Random], None]] = [
            self.log_in,
            self.log_in,
            self.wander,
            self.use_once,
            self.keep_house,
        ]
        for number, job in enumerate(jobs):
            chance = random.Random(self.seed * 101 + number)
            threading.Thread(target=self.forever, args=(job, chance), daemon=True).start()
        threading.Thread(target=self.consume, daemon=True).start()
        threading.Event().wait()

    def forever(self, job: Callable[[random.Random], None], chance: random.Random) -> None:
        try:
            while True:
                job(chance)
                time.sleep(chance.choice((0, 0, 0.001, 0.005)))
        except BaseException as error:
            tell("trouble", error=f"{type(error).__name__}: {error}"[:500])
            raise

    def name(self, kind: str) -> str:
        return f"{kind}-{self.seed}-{next(self.numbers)}"

    # --- jobs ---------------------------------------------------------------------------------------------------------

    def log_in(self, chance: random.Random) -> None:
        """A small batch of events, some of them sent twice."""
        logins = [(chance.choice(COUNTING), self.name("login")) for _ in range(chance.randrange(1, 6))]
        if chance.random() < 0.3:
            logins.append(logins[0])
        payloads = [self.world.message(user, "Login", number) for user, number in logins]
        tell("logging in", logins=logins)
        receipt = self.engine.submit(payloads, "app")
        assert not receipt.dead_letters
        tell("logged in", logins=logins, position=receipt.position)

    def wander(self, chance: random.Random) -> None:
        """Consents given and withdrawn, tags in and out, fragments; two people become one."""
        user = chance.choice(WAVERING)
        person = self.world.person(user)
        step = chance.random()
        if step < 0.25:
            self.engine.consent(person, consent_record(person, self.world.now_ms(), record_id=self.name("r")))
        elif step < 0.35:
            self.engine.withdraw(person, purpose=chance.choice(("*", "service")))
        elif step < 0.9:
            material = chance.choice(("leather", "fabric", "velvet"))
            view = {"product_id": "p", "category": "sofa", "material": material, "price": 4_000}
            self.engine.submit([self.world.message(user, "Product Viewed", self.name("v"), **view)], "app")
        else:
            self.join(chance)

    def join(self, chance: random.Random) -> None:
        names = [f"{MARK}-{self.name('m')}" for _ in range(2)]
        logins = [(chance.choice(names), self.name("login")) for _ in range(4)]
        for name in names:
            self.allow(name)
        tell("logging in", logins=logins)
        self.engine.submit([self.world.message(user, "Login", number) for user, number in logins], "app")
        tell("logged in", logins=logins)
        tell("merging", names=names)
        self.engine.merge(self.world.person(names[0]), self.world.person(names[1]))
        tell("merged", names=names)

    def allow(self, user: str, **changes: Any) -> None:
        person = self.world.person(user)
        self.engine.consent(person, consent_record(person, self.world.now_ms(), **changes))

    def use_once(self, chance: random.Random) -> None:
        """A consent for one use, and several triggers at once that want it."""
        user = f"{MARK}-{self.name('once')}"
        tell("consenting once", user=user)
        self.allow(user, record_id=self.name("r"), use=UseBudget(max_uses=1))
        tell("consented once", user=user)
        waiting = [
            self.engine.submit_later(
                [self.world.message(user, "Install Service Tapped", self.name("tap"), sku=f"{MARK}-sku")],
                "app",
            )
            for _ in range(chance.randrange(1, 6))
        ]
        for future in waiting:
            future.result()
        tell("triggered once", user=user)
        self.lease(chance)

    def lease(self, chance: random.Random) -> None:
        """Two CRM threads want the key of the same fragment, which may be read once."""
        with suppress(IndexError, LeaseRefused):
            fragment = self.fragments.pop(chance.randrange(len(self.fragments)) if self.fragments else 0)
            client = self.world.client(self.engine, CHINA)
            verified = client.verify(fragment.token, self.world.now_ms())

            def take() -> None:
                with suppress(LeaseRefused):
                    pending = client.lease_request(verified, self.world.now_ms(), self.engine.nonce())
                    lease = self.engine.lease(pending.request)
                    client.open(verified, pending, lease, self.world.now_ms())
                    tell("leased", jti=fragment.jti)

            other = threading.Thread(target=take, daemon=True)
            other.start()
            take()
            other.join()

    def keep_house(self, chance: random.Random) -> None:
        """Publishes, checkpoints, snapshots, erasures."""
        step = chance.random()
        if step < 0.2:
            self.engine.publish(storm_policy(chance.randrange(1, 5)))
        elif step < 0.6:
            tell("note", note=self.engine.checkpoint())
        elif step < 0.8:
            tell("snapshot")
            self.engine.snapshot()
        else:
            self.erase()

    def erase(self) -> None:
        user = f"{MARK}-{self.name('x')}"
        self.allow(user)
        tap = self.world.message(user, "Install Service Tapped", self.name("tap"), sku=f"{MARK}-sku")
        self.engine.submit([tap, self.world.message(user, "Login", self.name("e"))], "app")
        tell("erasing", user=user)
        certificate = self.engine.erase(self.world.person(user))
        verify_certificate(certificate, self.world.keys.notes().verifier)
        tell("erased", user=user)

    def consume(self) -> None:
        consumer = Consumer(self.world.folder / "consumer.log")
        tell("consuming", after=consumer.position)
        with suppress(EngineClosed), self.engine.fragments(consumer.position) as feed:
            for item in feed:
                consumer.handle(item)
                if isinstance(item, FragmentReady) and item.audience == CHINA and item.token:
                    self.fragments.append(item)


def main(folder: Path, began: float) -> None:
    """Import once, fork per run: a run costs what opening the store costs."""
    world = World(folder, began)
    storm_policy(1)
    for line in sys.stdin.buffer:
        seed = int(line)
        child = os.fork()
        if child == 0:
            try:
                Run(world, seed).start()
            except BaseException as error:  # noqa: BLE001 - the process ends; the parent must hear why
                tell("trouble", error=f"{type(error).__name__}: {error}"[:2000])
            finally:
                os._exit(1)
        tell("forked", pid=child)
        os.waitpid(child, 0)
        tell("ended", seed=seed)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
