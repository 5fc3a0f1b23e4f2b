"""What is too large for one frame goes into several, or is refused before anything is changed; never half into the log."""

from dataclasses import replace

import orjson
import pytest

from dayfly.engine.delivery.items import FragmentEnded, FragmentReady
from dayfly.engine.durable.host import EFFECTS
from dayfly.engine.errors import ValueOutOfRange
from dayfly.engine.store import LogSettings
from tests.engine.runtime.world import changed, furniture

from .breaking import ONE_BY_ONE, contents, cut, one_turn, records, segments, with_views_of
from .shop import Shop, everything
from .test_prefixes import Decided, balanced, check_recovered

TINY = LogSettings(segment_bytes=32_768, align_bytes=512, max_commit_bytes=1, retry_seconds=0.01)
PEOPLE = 40


def looked(shop: Shop, user: str, material: str) -> bytes:
    return shop.message(
        user, "Product Viewed", product_id="p", category="sofa", material=material, price=4_000
    )


def test_submissions_larger_than_a_frame_are_in_the_log_whole(shop: Shop) -> None:
    engine = shop.open(log=TINY)
    payloads = [shop.message("u-1", "Login", number % 300) for number in range(400)]
    assert engine.submit(payloads, "app").payloads == 400
    crashed = shop.crashed_copy()
    engine.close()
    engine = shop.open(crashed, log=TINY)
    assert engine._running.recovered.events == 400
    host = engine._running.host
    again = host.engine.intake.segment(payloads, "app", shop.clock.now_ms).batch
    assert host.engine.shard.apply([again], shop.clock.now_ms).counts == {"duplicate": 400}


def test_a_payload_that_no_frame_can_hold_is_refused_and_nothing_is_taken(shop: Shop) -> None:
    engine = shop.open(log=TINY)
    calls = [orjson.loads(shop.message("u-1", "Login")) for _ in range(400)]
    envelope = orjson.dumps({"batch": calls})
    before = engine._running.host.position
    with pytest.raises(ValueOutOfRange, match=r"EventBatch must fit a frame of .* bytes"):
        engine.submit([envelope], "app")
    assert engine._running.host.position == before
    assert engine.submit([orjson.dumps(call) for call in calls], "app").payloads == 400


def test_a_policy_that_no_frame_can_hold_is_refused_and_nothing_is_changed(shop: Shop) -> None:
    engine = shop.open(log=LogSettings(segment_bytes=16_384, align_bytes=512, retry_seconds=0.01))
    policy = changed("settings", lambda document: document.update(future_skew="4m"))
    with pytest.raises(ValueOutOfRange, match="Publish must fit a frame"):
        engine.publish(policy)
    assert engine._running.host.engine.shard.policy.digest == furniture().digest
    assert shop.act("u-1", "Login").payloads == 1


def crowded(shop: Shop) -> None:
    """Many people whose tags come in with one call, and whose fragments end in one instant."""
    users = [f"u-{number}" for number in range(PEOPLE)]
    for user in users:
        shop.allow(user)
    for material in ("leather", "fabric"):
        shop.engine.submit([looked(shop, user, material) for user in users], "app")
    shop.engine.submit([looked(shop, user, "velvet") for user in users], "app")


def test_effects_larger_than_a_frame_are_told_in_order_and_only_once_after_a_crash_anywhere(
    shop: Shop,
) -> None:
    engine = shop.open(log=ONE_BY_ONE)
    engine._running.host._limit = 8_192
    morning = shop.crashed_copy("morning")
    crowded(shop)
    evening = shop.crashed_copy("evening")
    told = everything(engine)
    engine.close()
    assert len([item for item in told if isinstance(item, FragmentReady)]) == PEOPLE
    log = [record for segment in segments(evening) for record in records(segment) if record.count]
    kinds = {
        frame.position: frame.kind
        for frame in contents(with_views_of(evening, evening, evening.with_name("r")), shop.keys).frames
    }
    several = [
        record for record in log if kinds[record.first] == EFFECTS and kinds.get(record.first + 1) == EFFECTS
    ]
    assert several, "the effects of a turn must need more than one frame"
    for number, record in enumerate(several[::3]):
        store = with_views_of(evening, morning, evening.with_name(f"cut {number}"))
        (segment,) = segments(store)
        cut(segment, record.end)
        decided = Decided(with_views_of(store, store, evening.with_name(f"read {number}")), shop)
        engine = shop.open(store, log=ONE_BY_ONE)
        check_recovered(everything(engine), decided, engine)
        engine.close()


def test_the_end_of_many_fragments_at_once_fits_the_log(shop: Shop) -> None:
    shop.settings = replace(shop.settings, feed_retention_ms=7 * 86_400_000)
    engine = shop.open(log=TINY)
    crowded(shop)
    balanced(engine)
    shop.clock.now_ms += 86_400_000
    shop.act("u-0", "Login")
    assert len([item for item in everything(engine) if isinstance(item, FragmentEnded)]) == PEOPLE
    crashed = shop.crashed_copy()
    engine.close()
    engine = shop.open(crashed, log=TINY)
    balanced(engine)
    assert len([item for item in everything(engine) if isinstance(item, FragmentEnded)]) == PEOPLE


def test_dead_letters_of_neighbours_in_one_turn_are_told_to_their_own_callers(shop: Shop) -> None:
    engine = shop.open()
    with one_turn(engine):
        first = engine.submit_later([shop.message("u-1", "Login"), b"{"], "app")
        second = engine.submit_later([b"[1]"], "app")
        third = engine.submit_later([shop.message("u-2", "Login")], "app")
    assert [letter.place for letter in first.result().dead_letters] == ["payload 1"]
    assert [letter.place for letter in second.result().dead_letters] == ["payload 0"]
    assert third.result().dead_letters == ()
    engine._running.sync_views()
    kept = list(engine._running.views.letters.read())
    assert [letter.place for letter in kept] == [
        "payload 1",
        "payload 0",
    ]  # as their callers count, on disk too
