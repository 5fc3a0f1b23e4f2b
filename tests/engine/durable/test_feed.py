"""The feed: each item once and in order, kept as long and as many as was said, waited for without polling."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.engine.decisions import TagChange
from dayfly.engine.durable import Feed, FeedItem, TagChanged
from dayfly.engine.errors import EngineClosed, FeedGap

ANN, BEN = bytes(15) + b"\x01", bytes(15) + b"\x02"


def item(position: int, at_ms: int = 0, subject: bytes = ANN) -> FeedItem:
    change = TagChange(position, at_ms, subject, "tag", "enter", at_ms + 1)
    return TagChanged(position=position, at_ms=at_ms, change=change)


def filled(first: int, last: int, **options: int) -> Feed:
    feed = Feed(next_position=first, **options)
    feed.publish(item(position) for position in range(first, last + 1))
    return feed


def drained(feed: Feed, after: int) -> list[int]:
    found = []
    with feed.subscribe(after) as subscription:
        while (got := subscription.get(timeout_seconds=0)) is not None:
            found.append(got.position)
    return found


@given(first=st.integers(1, 50), count=st.integers(0, 700), data=st.data())
def test_a_subscription_hands_out_what_follows_its_position_once_and_in_order(
    first: int, count: int, data: st.DataObject
) -> None:
    feed = filled(first, first + count - 1)
    after = data.draw(st.integers(first - 1, first + count - 1))
    assert drained(feed, after) == list(range(after + 1, first + count))
    assert (feed.newest, feed.oldest, len(feed)) == (first + count - 1, first, count)


def test_items_published_again_are_passed_over() -> None:
    feed = filled(1, 5)
    feed.publish([item(4), item(5), item(6)])
    assert drained(feed, 0) == [1, 2, 3, 4, 5, 6]


def test_positions_that_were_never_given_out_or_are_gone_are_refused() -> None:
    feed = filled(10, 12)
    with pytest.raises(FeedGap, match="after=13 must be a position from 0 to 12"):
        feed.subscribe(13)
    with pytest.raises(FeedGap, match="after=-1 must be a position from 0 to 12"):
        feed.subscribe(-1)
    with pytest.raises(FeedGap, match="after=8 must be at least 9, older items are gone"):
        feed.subscribe(8)
    assert drained(feed, 9) == [10, 11, 12]
    assert drained(feed, 12) == []


def test_so_many_items_are_kept_and_no_more() -> None:
    assert filled(1, 10, max_items=3).oldest == 8
    assert filled(1, 3, max_items=3).oldest == 1


def test_items_are_kept_for_their_time_and_no_longer() -> None:
    feed = Feed(retention_ms=100)
    feed.publish([item(1, 0), item(2, 1), item(3, 100)])
    assert feed.oldest == 1, "an item exactly as old as is kept stays"
    feed.publish([item(4, 101)])
    assert feed.oldest == 2


def test_a_consumer_that_was_overtaken_is_told() -> None:
    feed = filled(1, 4, max_items=4)
    with feed.subscribe(0) as slow:
        feed.publish(item(position) for position in range(5, 7))
        with pytest.raises(FeedGap, match="after=0 must be at least 2") as caught:
            slow.get(timeout_seconds=0)
    assert caught.value.resume_after == 2


def test_forgetting_persons_blanks_their_changes_and_keeps_positions_and_others() -> None:
    feed = Feed()
    feed.publish([item(1, subject=ANN), item(2, subject=BEN), item(3, subject=ANN)])
    feed.forget([ANN])
    kept = [entry for entry in feed.kept() if isinstance(entry, TagChanged)]
    assert [entry.position for entry in kept] == [1, 2, 3]
    assert [entry.change.subject for entry in kept] == [b"", BEN, b""]
    assert {entry.change.tag for entry in kept} == {"", "tag"}


def test_a_waiting_consumer_wakes_for_an_item_and_for_the_end() -> None:
    feed = Feed()
    got: list[object] = []

    def consume() -> None:
        got.extend(feed.subscribe(0))
        got.append("ended")

    thread = threading.Thread(target=consume)
    thread.start()
    feed.publish([item(1)])
    feed.publish([item(2)])
    feed.close()
    thread.join(10)
    assert got == [item(1), item(2), "ended"]
    with pytest.raises(EngineClosed, match="open the store again and subscribe after the last position"):
        feed.subscribe(2).get()
    assert drained_after_close(feed) == [1, 2]


def drained_after_close(feed: Feed) -> list[int]:
    """What is kept can still be read when the engine is closed."""
    return [entry.position for entry in feed.subscribe(0)]


def test_waiting_ends_with_its_time() -> None:
    feed = Feed()
    began = time.monotonic()
    assert feed.subscribe().get(timeout_seconds=0.05) is None
    assert time.monotonic() - began >= 0.05


def test_a_closed_subscription_iterates_no_further() -> None:
    subscription = filled(1, 3).subscribe(0)
    seen = []
    for entry in subscription:
        seen.append(entry.position)
        subscription.close()
    assert seen == [1]


@given(kept=st.integers(0, 20), after=st.integers(0, 20), groups=st.lists(st.integers(0, 4), max_size=6))
def test_a_listener_hears_what_follows_its_position_once_and_in_order(
    kept: int, after: int, groups: list[int]
) -> None:
    feed = filled(1, kept)
    after = min(after, kept)
    heard: list[int] = []
    with feed.listen(lambda item: heard.append(item.position), after) as listening:
        for size in groups:
            known = max(feed.newest, 1)
            feed.publish(item(position) for position in range(known, feed.newest + size + 1))
        assert heard == list(range(after + 1, feed.newest + 1))
        assert listening.position == feed.newest
    feed.publish([item(feed.newest + 1)])
    assert feed.newest not in heard


def test_a_listener_from_now_on_hears_nothing_that_was_before() -> None:
    feed = filled(1, 5)
    heard: list[int] = []
    feed.listen(lambda item: heard.append(item.position))
    feed.publish([item(6)])
    assert heard == [6]
    with pytest.raises(FeedGap, match="after=9 must be a position from 0 to 6"):
        feed.listen(lambda item: heard.append(item.position), 9)


def test_what_a_listener_raises_ends_its_listening_and_nobody_elses() -> None:
    feed = filled(1, 2)
    heard: list[int] = []

    def fails(_: FeedItem) -> None:
        raise ValueError("a consumer's mistake")

    failed = feed.listen(fails)
    other = feed.listen(lambda item: heard.append(item.position))
    feed.publish([item(3), item(4)])
    feed.publish([item(5)])
    assert (heard, other.position, other.error) == ([3, 4, 5], 5, None)
    assert failed.position == 2
    assert isinstance(failed.error, ValueError)
