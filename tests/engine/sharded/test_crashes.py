"""A crash at each call that the router makes of a shard, before it is done and after: opened again, all is as if there was none.

The shards are of this process; a crash ends all of them at once, without the last turn that a close takes. (`test_kills` kills
real processes at places that nobody chose.)
"""

import itertools
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal

import pytest

from dayfly.engine.durable import TagChanged
from dayfly.engine.errors import EngineFailed
from dayfly.engine.sharded.engine import ShardedEngine
from dayfly.engine.sharded.member import Member, MemberSpec
from dayfly.privacy.consent import ConsentRecord
from tests.engine.runtime.world import changed, consent_record, furniture
from tests.engine.sharded.world import SHARDS, Store, everything, now_ms

When = Literal["before", "after"]
ASKED: Final = {"holds", "newest", "oldest", "check", "feed", "health", "state"}
"""Calls that change nothing: a crash there is one at the next call."""


class Fuse:
    """Blows at a call."""

    def __init__(self, at: int, when: When) -> None:
        self.at = at
        self.when = when
        self.calls = 0
        self.blown = False
        self.lock = threading.Lock()

    def blows(self) -> bool:
        with self.lock:
            self.calls += 1
            return self.calls == self.at


class Fused:
    """A shard that dies with all others when the fuse blows."""

    def __init__(self, spec: MemberSpec, fuse: Fuse) -> None:
        self.member = Member(spec)
        self.fuse = fuse

    def call(self, name: str, *args: Any) -> "Future[Any]":
        fuse = self.fuse
        if not fuse.blown and name not in ASKED and fuse.blows():
            if fuse.when == "after":
                with suppress(Exception):
                    self.member.call(name, *args).result()
            fuse.blown = True
        if fuse.blown:
            dead: Future[Any] = Future()
            dead.set_exception(EngineFailed("shard=? must be running and has crashed"))
            return dead
        return self.member.call(name, *args)

    def on_end(self, told: Callable[[EngineFailed], object]) -> None:
        pass

    def close(self) -> None:
        if not self.fuse.blown:
            self.member.close()
            return
        running = self.member._running
        running.closed = True
        with running.stack:
            running.abandon()


class Story:
    """Persons who are linked, merged and erased, under a policy that is edited: the same bytes whenever it is told."""

    def __init__(self, store: Store) -> None:
        self.store = store
        engine = store.open(policy=furniture())
        routes = engine._desk.router.routes
        self.user = next(store.users(0))
        self.device = next(
            n for n in (f"a-{i}" for i in itertools.count()) if routes.home(store.anonymous(n)) == 1
        )
        self.friend, self.gone, self.gone_too = (
            next(itertools.islice(store.users(shard), nth, None)) for shard, nth in ((1, 0), (0, 1), (1, 1))
        )
        engine.close()
        at_ms = now_ms()
        self.names = [
            store.person(self.user),
            store.anonymous(self.device),
            *(store.person(user) for user in (self.friend, self.gone, self.gone_too)),
        ]
        self.records: list[ConsentRecord] = [consent_record(name, at_ms) for name in self.names]
        self.calls = [
            store.view("leather", anonymousId=self.device),
            store.view("fabric", anonymousId=self.device),
            store.call("identify", userId=self.user, anonymousId=self.device),
            store.view("velvet", userId=self.user),
            store.view("oak", userId=self.friend),
        ]
        self.of_gone = [
            store.view("oak", userId=user) for user in (self.gone, self.gone_too) for _ in range(2)
        ]
        self.edited = changed("settings", lambda document: document.update(history="500d"), version=2)
        self.erased = False

    def tell(self, engine: ShardedEngine) -> None:
        kept = 3 if self.erased else len(self.names)
        for name, record in zip(self.names[:kept], self.records, strict=False):
            engine.consent(name, record)
        for call in self.calls:
            engine.submit([call], "app")
        engine.merge(self.names[0], self.names[2])
        if not self.erased:
            engine.submit(self.of_gone, "app")
            engine.merge(self.names[3], self.names[4])
        self.erased = True  # from here on it may have been
        engine.erase(self.names[3])
        engine.publish(self.edited)

    def check(self, engine: ShardedEngine) -> None:
        states = [port.state() for port in engine._ports]
        assert {state.policy for state in states} == {self.edited.source}
        assert not any(state.outbox for state in states)
        assert len({engine.shard_of(name) for name in self.names[:3]}) == 1
        assert not {*self.names[3:]}.intersection(*[state.guests for state in states])
        entered = Counter(
            item.change.tag
            for item in everything(engine)
            if isinstance(item, TagChanged)
            and item.change.subject == self.names[0]
            and item.change.change == "enter"
        )
        assert entered
        assert set(entered.values()) == {1}
        report = engine.health()
        assert report.consent.people == 1
        (app,) = (channel for channel in report.channels if channel.name == "app")
        assert app.total_received - app.total_duplicates == len(self.calls) + len(self.of_gone)
        fragments = report.fragments
        assert fragments.minted == fragments.live + fragments.tombstones


def calls_of_the_story(folder: Path) -> int:
    folder.mkdir()
    store = Store(folder)
    story = Story(store)
    fuse = Fuse(0, "before")
    engine = store.open(start=lambda spec: Fused(spec, fuse))
    story.tell(engine)
    story.check(engine)
    engine.close()
    return fuse.calls


def crash_and_go_on(folder: Path, at: int, when: When) -> None:
    folder.mkdir()
    store = Store(folder)
    story = Story(store)
    fuse = Fuse(at, when)
    engine = store.open(start=lambda spec: Fused(spec, fuse))
    with pytest.raises(EngineFailed):
        story.tell(engine)
    assert fuse.blown
    engine.close()
    engine = store.open()
    story.tell(engine)
    story.check(engine)
    engine.close()


def places(stride: int, calls: int, when: When) -> range:
    """Calls to crash at; other ones before than after."""
    return range(1 if when == "before" else 1 + stride // 2, calls + 1, stride)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_at_some_calls_leaves_no_trace(tmp_path: Path, when: When) -> None:
    calls = calls_of_the_story(tmp_path / "whole")
    for at in places(9, calls, when):
        crash_and_go_on(tmp_path / str(at), at, when)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_at_any_call_leaves_no_trace(tmp_path: Path, when: When) -> None:
    calls = calls_of_the_story(tmp_path / "whole")
    assert calls > 5 * SHARDS
    for at in places(1, calls, when):
        crash_and_go_on(tmp_path / str(at), at, when)
