"""Replay joins frames of events; what comes out is what frame by frame would give, wherever the log ends."""

import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dayfly.engine.durable import reading_ahead, replaying
from dayfly.engine.durable.feed_tail import FeedKept
from dayfly.engine.durable.host import EFFECTS, INPUTS
from dayfly.engine.durable.joining import joined, piece_of
from dayfly.engine.durable.reading_ahead import StoredFrame
from dayfly.engine.durable.recovered import Recovered
from dayfly.engine.durable.recovery import recover
from dayfly.engine.errors import FrameError
from dayfly.engine.shard import batches
from dayfly.engine.shard.kernels_strings import intern_rows
from dayfly.engine.store import Frame

from .breaking import ONE_BY_ONE, Contents, contents
from .shop import Shop
from .test_replay import Life, series


def lived(folder: pytest.TempPathFactory, seed: int, steps: int) -> Contents:
    """What a random day leaves on disk."""
    shop = Shop(folder.mktemp("joined"), seed=seed)
    engine = shop.open(log=ONE_BY_ONE)
    life = Life(shop, seed)
    for _ in range(steps):
        life.step()
        life.view(life.chance.choice(life.USERS))
        life.view(life.chance.choice(life.USERS))
    found = contents(shop.crashed_copy(), shop.keys)
    engine.close()
    return found


def told(recovered: Recovered) -> tuple[object, ...]:
    """Everything that a recovery brings back."""
    return (
        recovered.shard.snapshot(),
        recovered.standing.to_bytes(recovered.items),
        recovered.meter.to_bytes(),
        recovered.items,
        recovered.undone_orders,
        recovered.undone_recalls,
        recovered.undone_tags,
        recovered.lineage,
        recovered.audit,
        recovered.events,
        recovered.frames,
        recovered.position,
    )


@settings(max_examples=6)
@example(seed=502_790, cut=5, at_once=2)  # a dead letter between two frames of events that are joined
@given(seed=st.integers(0, 2**32), cut=st.integers(0, 200), at_once=st.sampled_from([2, 3, 10, 4_096]))
def test_frames_joined_in_any_way_give_what_each_alone_gives_at_any_end_of_the_log(
    tmp_path_factory: pytest.TempPathFactory, seed: int, cut: int, at_once: int
) -> None:
    found = lived(tmp_path_factory, seed, 25)
    cut %= len(found.frames) + 1

    def again(frames: Sequence[StoredFrame]) -> Recovered:
        return recover(found.position, found.parts, frames, series=series)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading_ahead, "piece_of", lambda _position, _payload: None)
        alone = again(found.frames[:cut])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replaying, "AT_ONCE", at_once)
        assert told(again(found.frames[:cut])) == told(alone)


def test_frames_of_events_are_applied_in_few_calls(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(tmp_path_factory.mktemp("few"))
    engine = shop.open(log=ONE_BY_ONE)
    for number in range(60):
        shop.act(
            f"u-{number % 5}", "Product Viewed", product_id="p", category="sofa", material="oak", price=1
        )
    found = contents(shop.crashed_copy(), shop.keys)
    engine.close()
    pieces = [piece_of(frame.position, frame.payload) for frame in found.frames if frame.kind == INPUTS]
    assert len([piece for piece in pieces if piece is not None and piece.size]) == 60
    calls = []

    def counted(*given: Any) -> Any:
        calls.append(1)
        return joined(*given)

    monkeypatch.setattr(replaying, "joined", counted)
    recovered = recover(found.position, found.parts, found.frames, series=series)
    assert recovered.events == 60
    assert len(calls) <= 2


@pytest.mark.parametrize("kept", [0, 1, 2, 5, 10_000])
def test_only_the_feed_items_that_are_kept_are_made_and_none_in_between_is_missing(
    tmp_path_factory: pytest.TempPathFactory, kept: int
) -> None:
    found = lived(tmp_path_factory, 7, 40)
    every = recover(found.position, found.parts, found.frames, series=series)
    tail = recover(found.position, found.parts, found.frames, series=series, kept=FeedKept(items=kept))
    assert any(frame.kind == EFFECTS for frame in found.frames)
    assert len(every.items) > 10
    assert tail.items == every.items[len(every.items) - len(tail.items) :]
    assert len(tail.items) >= min(kept, len(every.items))
    assert tail.standing.next_item == every.standing.next_item
    young = recover(found.position, found.parts, found.frames, series=series, kept=FeedKept(retention_ms=1))
    newest_ms = every.items[-1].at_ms
    assert [item for item in young.items if item.at_ms >= newest_ms - 1] == [
        item for item in every.items if item.at_ms >= newest_ms - 1
    ]
    assert len(young.items) < len(every.items)


def test_texts_of_the_next_events_are_never_interned_while_others_are(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More texts than the tables begin with, so that these must grow while the shard takes events in on its own thread."""
    shop = Shop(tmp_path_factory.mktemp("texts"))
    engine = shop.open(log=ONE_BY_ONE)
    for step in range(40):
        shop.clock.now_ms += 1
        views = [_viewed(shop, 60 * step + number) for number in range(60)]
        engine.submit(
            [*views, b"{"], "app"
        )  # its dead letter is an effect: what it covers is applied without waiting
    found = contents(shop.crashed_copy(), shop.keys)
    engine.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading_ahead, "piece_of", lambda _position, _payload: None)
        alone = recover(found.position, found.parts, found.frames, series=series)
    busy = threading.Lock()

    def guarded(*given: Any) -> None:
        assert busy.acquire(blocking=False), "texts are interned by two threads at once"
        time.sleep(0.002)
        intern_rows(*given)
        busy.release()

    monkeypatch.setattr(replaying, "AT_ONCE", 120)
    monkeypatch.setattr(batches, "intern_rows", guarded)
    again = recover(found.position, found.parts, found.frames, series=series)
    assert int(again.shard.arrays.strings.meta[0]) > 2_048
    assert told(again) == told(alone)


def _viewed(shop: Shop, number: int) -> bytes:
    return shop.message(
        f"u-{number % 7}",
        "Product Viewed",
        product_id=f"p-{number}",
        category="sofa",
        material="oak",
        price=1,
    )


def test_an_unreadable_frame_is_told_at_its_place_and_no_thread_is_left(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    found = lived(tmp_path_factory, 11, 10)
    last = found.frames[-1]
    frames = [*found.frames[:-1], Frame(last.position, 9, last.payload)]
    seen: list[int] = []
    before = threading.active_count()
    with pytest.raises(FrameError, match="frame kind=9 must be known"):
        recover(found.position, found.parts, frames, series=series, progress=seen.append)
    assert seen[-1] == len(frames) - 1
    holes = [*found.frames[:3], *found.frames[4:]]
    with pytest.raises(
        FrameError, match=f"frame position={holes[3].position} must be {holes[2].position + 1}"
    ):
        recover(found.position, found.parts, holes, series=series)
    assert threading.active_count() == before
