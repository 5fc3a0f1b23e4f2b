"""What becomes of fragments: delivery, recall, supersession, expiry, pull, counts."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.engine.delivery import Delivery, FeedItem, Outcome, Result, Send
from dayfly.engine.errors import DeliveryError, FeedOutOfOrder, UnknownRecipient

from .simulation import Behaviour, Sent, simulate
from .support import (
    CRM,
    ERROR,
    NOW,
    OK,
    TTL,
    UNREACHED,
    ended,
    endpoint,
    open_delivery,
    ready,
    recalled,
    settings_of,
)

MINUTE = 60_000
TIMEOUT = Result(Outcome.FAILED, "timeout")
GONE = Result(Outcome.GONE, "http_410")
ABORTED = Result(Outcome.ABORTED, "aborted", reached=False)


def kind_of(body: bytes) -> str:
    kind: str = json.loads(body)["type"]
    return kind.rpartition(".")[2]


def begin(delivery: Delivery, now_ms: int = NOW) -> list[Send]:
    return list(delivery.step([], now_ms=now_ms).sends)


def settle(delivery: Delivery, send: Send, result: Result, now_ms: int = NOW) -> list[Send]:
    return list(delivery.step([(send.job_id, result)], now_ms=now_ms).sends)


def counts(delivery: Delivery, now_ms: int = NOW) -> dict[str, Any]:
    (found,) = (each for each in delivery.counts(now_ms=now_ms) if each.audience == CRM)
    plain = {name: getattr(found, name) for name in found.__slots__}
    return {name: value for name, value in plain.items() if value and name != "audience"}


# --- push ------------------------------------------------------------------------------------------------------------


def test_a_fragment_is_sent_to_each_endpoint_of_its_audience_under_an_id_of_its_own() -> None:
    settings = settings_of(endpoint("a"), endpoint("b", form="full"), endpoint("c", audience="https://other"))
    with open_delivery(settings=settings) as delivery:
        delivery.take([ready(1, token="tok~")], now_ms=NOW)
        first, second = begin(delivery)
    assert (first.endpoint.name, second.endpoint.name) == ("a", "b")
    assert first.webhook_id != second.webhook_id
    thin, full = json.loads(first.body), json.loads(second.body)
    assert thin["dataref"] == "https://cdp.example/fragments/jti-1"
    assert full["data"] == {"fragment": "tok~"}
    assert "dataref" not in full
    for event in (thin, full):
        assert event["specversion"] == "1.0"
        assert event["source"] == "https://cdp.example"
        assert event["subject"] == "jti-1"
        assert event["orderid"] == "order-1"
        assert event["time"] == "2027-01-15T08:00:00.000Z"
        assert event["expirytime"] == "2027-01-15T08:30:00.000Z"


def test_a_repeated_feed_item_is_taken_once() -> None:
    with open_delivery() as delivery:
        assert delivery.take([ready(1), ready(2)], now_ms=NOW) == 2
        assert delivery.take([ready(1), ready(2), ready(3)], now_ms=NOW) == 3
        assert len(begin(delivery)) == 3
        assert delivery.position == 3


def test_a_feed_out_of_order_is_refused_whole_and_delivery_goes_on() -> None:
    with open_delivery() as delivery:
        with pytest.raises(FeedOutOfOrder, match="position=2 must be > 3"):
            delivery.take([ready(3), ready(2)], now_ms=NOW)
        with pytest.raises(FeedOutOfOrder, match="jti='jti-1' must come once"):
            delivery.take([ready(1), ready(2, jti="jti-1")], now_ms=NOW)
        assert delivery.position == 0
        delivery.take([ready(1)], now_ms=NOW)
        with pytest.raises(FeedOutOfOrder, match="jti='jti-1' must come once"):
            delivery.take([ready(2, jti="jti-1")], now_ms=NOW)
        assert len(begin(delivery)) == 1


def test_a_retry_has_the_same_id_and_body() -> None:
    with open_delivery() as delivery:
        delivery.take([ready(1)], now_ms=NOW)
        (first,) = begin(delivery)
        assert settle(delivery, first, ERROR) == []
        assert begin(delivery, NOW + 999) == []
        (second,) = begin(delivery, NOW + 1_000)
        assert (second.webhook_id, second.body) == (first.webhook_id, first.body)
        settle(delivery, second, OK, NOW + 1_001)
        assert counts(delivery) == {"delivered": 1, "attempts_failed": {"http_500": 1}}


def test_a_refusal_is_final_and_counted_by_its_status() -> None:
    with open_delivery() as delivery:
        delivery.take([ready(1)], now_ms=NOW)
        (send,) = begin(delivery)
        settle(delivery, send, Result(Outcome.REFUSED, "http_404"))
        assert begin(delivery, NOW + MINUTE) == []
        assert counts(delivery) == {"failed": {"http_404": 1}, "attempts_failed": {"http_404": 1}}


def test_an_endpoint_that_is_gone_gets_nothing_until_it_is_enabled(tmp_path: Path) -> None:
    path = tmp_path / "delivery.db"
    settings = settings_of(endpoint(max_in_flight=4, concurrency=2))
    with open_delivery(path, settings) as delivery:
        delivery.take([ready(position) for position in range(1, 7)], now_ms=NOW)
        first, *flying = begin(delivery)
        work = delivery.step([(first.job_id, GONE)], now_ms=NOW)
        assert work.sends == ()
        assert set(work.aborts) == {send.job_id for send in flying}
        assert not any(send.wanted() for send in flying)
        for send in flying:
            settle(delivery, send, ABORTED)
        assert counts(delivery)["failed"] == {"http_410": 1, "disabled": 5}
    with open_delivery(path, settings) as delivery:
        delivery.take([ready(7)], now_ms=NOW)
        assert begin(delivery) == []
        assert delivery.endpoints(now_ms=NOW)[0].state == "disabled"
        delivery.enable("crm-7")
        delivery.take([ready(8)], now_ms=NOW)
        assert [json.loads(send.body)["subject"] for send in begin(delivery)] == ["jti-8"]
        with pytest.raises(UnknownRecipient, match="endpoint='crm-8' must be one of"):
            delivery.enable("crm-8")


def test_nothing_begins_at_or_after_the_end_of_a_fragment() -> None:
    with open_delivery() as delivery:
        delivery.take([ready(1), ready(2, expires_at_ms=NOW + 5)], now_ms=NOW)
        (send,) = begin(delivery, NOW + 5)
        assert json.loads(send.body)["subject"] == "jti-1"
        assert counts(delivery)["failed"] == {"expired": 1}


def test_a_fragment_that_comes_expired_is_never_queued() -> None:
    with open_delivery() as delivery:
        delivery.take([ready(1, expires_at_ms=NOW), ready(2, expires_at_ms=NOW + 1)], now_ms=NOW)
        assert delivery.endpoints(now_ms=NOW)[0].queued == 1
        assert [json.loads(send.body)["subject"] for send in begin(delivery)] == ["jti-2"]
        assert delivery.token("jti-1", CRM, now_ms=NOW) is None


def test_items_of_other_audiences_are_counted_and_not_kept() -> None:
    with open_delivery() as delivery:
        delivery.take([ready(1, audience="https://nobody.example")], now_ms=NOW)
        assert begin(delivery) == []
        (_, nobody) = delivery.counts(now_ms=NOW)
        assert (nobody.audience, nobody.unrouted) == ("https://nobody.example", 1)


# --- supersession and recall -----------------------------------------------------------------------------------------


def test_a_newer_version_replaces_what_waits_and_breaks_off_what_flies() -> None:
    with open_delivery(settings=settings_of(endpoint(max_in_flight=1, concurrency=1))) as delivery:
        delivery.take([ready(1, subject_digest=b"s"), ready(2, subject_digest=b"s", version=1)], now_ms=NOW)
        (flying,) = begin(delivery)
        assert flying.wanted()
        delivery.take([ready(3, subject_digest=b"s")], now_ms=NOW)
        assert not flying.wanted()
        assert delivery.step([], now_ms=NOW).aborts == (flying.job_id,)
        (send,) = settle(delivery, flying, ABORTED)
        assert json.loads(send.body)["subject"] == "jti-3"
        assert counts(delivery)["failed"] == {"superseded": 2}


def test_an_older_version_that_comes_late_is_never_sent() -> None:
    with open_delivery() as delivery:
        delivery.take([ready(1, subject_digest=b"s", version=9)], now_ms=NOW)
        delivery.take([ready(2, subject_digest=b"s", version=8)], now_ms=NOW)
        assert [json.loads(send.body)["subject"] for send in begin(delivery)] == ["jti-1"]
        assert delivery.token("jti-2", CRM, now_ms=NOW) is None


def test_equal_versions_do_not_replace_each_other() -> None:
    with open_delivery() as delivery:
        delivery.take([ready(1, subject_digest=b"s", version=4)], now_ms=NOW)
        delivery.take([ready(2, subject_digest=b"s", version=4)], now_ms=NOW)
        assert len(begin(delivery)) == 2


def test_other_subjects_other_audiences_and_unnamed_subjects_replace_nothing() -> None:
    settings = settings_of(endpoint("a"), endpoint("b", audience="https://other"))
    with open_delivery(settings=settings) as delivery:
        delivery.take(
            [
                ready(1, subject_digest=b"s"),
                ready(2, subject_digest=b"t"),
                ready(3, subject_digest=b"s", audience="https://other"),
                ready(4),
                ready(5),
            ],
            now_ms=NOW,
        )
        assert len(begin(delivery)) == 5


@pytest.mark.parametrize("named", ["order", "jti"])
def test_a_recall_is_sent_where_the_fragment_arrived_or_may_have(named: str) -> None:
    settings = settings_of(*(endpoint(name) for name in ("arrived", "unclear", "unreached", "flying")))
    with open_delivery(settings=settings) as delivery:
        delivery.take([ready(1)], now_ms=NOW)
        arrived, unclear, unreached, flying = begin(delivery)
        delivery.step(
            [(arrived.job_id, OK), (unclear.job_id, TIMEOUT), (unreached.job_id, UNREACHED)], now_ms=NOW
        )
        item = recalled(2, "order-1") if named == "order" else recalled(2, jtis=("jti-1",))
        delivery.take([item, recalled(3, "order-1", "order-9")], now_ms=NOW)
        work = delivery.step([], now_ms=NOW)
        assert [(send.endpoint.name, kind_of(send.body)) for send in work.sends] == [
            ("arrived", "recalled"),
            ("unclear", "recalled"),
        ]
        assert work.aborts == (flying.job_id,)
        (last,) = settle(delivery, flying, Result(Outcome.ABORTED, "aborted", reached=True))
        assert (last.endpoint.name, kind_of(last.body)) == ("flying", "recalled")
        event = json.loads(last.body)
        assert event["data"] == {"jti": "jti-1", "order_id": "order-1", "reason": "contradicted"}
        assert event["expirytime"] == "2027-01-15T08:30:00.000Z"
        assert begin(delivery, NOW + 10 * MINUTE) == []
        assert counts(delivery)["recalled"] == 1


def test_a_recall_of_what_did_not_leave_is_not_sent() -> None:
    with open_delivery() as delivery:
        delivery.take([ready(1), ready(2)], now_ms=NOW)
        first, second = begin(delivery)
        settle(delivery, first, UNREACHED)
        delivery.take([recalled(3, "order-1", "order-2"), recalled(4, "order-7")], now_ms=NOW)
        assert settle(delivery, second, ABORTED) == []
        assert begin(delivery, NOW + MINUTE) == []
        assert counts(delivery)["recalled"] == 2


def test_a_recall_is_retried_until_its_fragment_would_have_expired() -> None:
    with open_delivery() as delivery:
        delivery.take([ready(1)], now_ms=NOW)
        (send,) = begin(delivery)
        settle(delivery, send, OK)
        delivery.take([recalled(2, "order-1")], now_ms=NOW)
        (recall,) = begin(delivery)
        settle(delivery, recall, ERROR)
        (again,) = begin(delivery, NOW + MINUTE)
        assert again.webhook_id == recall.webhook_id != send.webhook_id
        settle(delivery, again, ERROR, NOW + TTL - 1)
        assert begin(delivery, NOW + TTL) == []
        assert counts(delivery)["recalls_failed"] == {"expired": 1}


def test_a_recall_after_the_end_still_reaches_who_had_the_fragment() -> None:
    """The engine tells of the death and of the recall in either order."""
    with open_delivery() as delivery:
        delivery.take([ready(1)], now_ms=NOW)
        (send,) = begin(delivery)
        settle(delivery, send, OK)
        delivery.take([ended(2, "jti-1", reason="withdrawn")], now_ms=NOW)
        assert begin(delivery) == []
        delivery.take([recalled(3, "order-1", reason="withdrawn")], now_ms=NOW)
        assert [kind_of(each.body) for each in begin(delivery)] == ["recalled"]


def test_a_recall_of_another_audience_recalls_nothing() -> None:
    settings = settings_of(endpoint("a"), endpoint("b", audience="https://other"))
    with open_delivery(settings=settings) as delivery:
        delivery.take([ready(1), recalled(2, "order-1", audience="https://other")], now_ms=NOW)
        assert [kind_of(send.body) for send in begin(delivery)] == ["ready"]


def test_a_fragment_that_ended_is_not_sent() -> None:
    with open_delivery() as delivery:
        delivery.take([ready(1), ended(2, "jti-1", reason="erased")], now_ms=NOW)
        assert begin(delivery) == []
        assert delivery.token("jti-1", CRM, now_ms=NOW) is None


# --- restart ---------------------------------------------------------------------------------------------------------


def test_a_restart_resumes_with_the_same_ids_and_the_attempts_made(tmp_path: Path) -> None:
    path = tmp_path / "delivery.db"
    with open_delivery(path) as delivery:
        delivery.take([ready(1), ready(2)], now_ms=NOW)
        first, flying = begin(delivery)
        settle(delivery, first, ERROR)
    with open_delivery(path) as delivery:
        assert delivery.position == 2
        assert delivery.take([ready(1), ready(2)], now_ms=NOW) == 2
        (again,) = begin(delivery)
        assert again.webhook_id == flying.webhook_id
        (retry,) = begin(delivery, NOW + 1_000)
        assert retry.webhook_id == first.webhook_id
        settle(delivery, retry, ERROR, NOW + 1_000)
        assert begin(delivery, NOW + 5_999) == []
        assert len(begin(delivery, NOW + 6_000)) == 1


def test_what_was_in_flight_at_a_crash_counts_as_possibly_arrived(tmp_path: Path) -> None:
    path = tmp_path / "delivery.db"
    with open_delivery(path) as delivery:
        delivery.take([ready(1), ready(2)], now_ms=NOW)
        begin(delivery)
        delivery.take([recalled(3, "order-1")], now_ms=NOW)
    with open_delivery(path) as delivery:
        delivery.take([recalled(4, "order-2")], now_ms=NOW)
        sends = begin(delivery)
        assert sorted(kind_of(send.body) for send in sends) == ["recalled", "recalled"]
        assert {json.loads(send.body)["subject"] for send in sends} == {"jti-1", "jti-2"}


def test_an_endpoint_that_left_the_settings_leaves_its_queue(tmp_path: Path) -> None:
    path = tmp_path / "delivery.db"
    with open_delivery(path) as delivery:
        delivery.take([ready(1)], now_ms=NOW)
    with open_delivery(path, settings_of(endpoint("other"))) as delivery:
        assert begin(delivery) == []
        assert counts(delivery)["failed"] == {"removed": 1}


# --- pull ------------------------------------------------------------------------------------------------------------

PULL = settings_of(pull=[CRM])


def test_a_consumer_gets_each_fragment_once_when_it_acknowledges() -> None:
    with open_delivery(settings=PULL) as delivery:
        delivery.take([ready(position) for position in range(1, 6)], now_ms=NOW)
        got: list[int] = []
        after: int | None = None
        while page := delivery.pull("till", CRM, now_ms=NOW, after=after, limit=2):
            got += [item.position for item in page]
            after = page[-1].position
        assert got == [1, 2, 3, 4, 5]
        assert delivery.pull("till", CRM, now_ms=NOW, after=0) == ()
        assert len(delivery.pull("other", CRM, now_ms=NOW)) == 5
        assert counts(delivery) == {"handed": 10}


def test_what_is_not_acknowledged_comes_again_also_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "delivery.db"
    with open_delivery(path, PULL) as delivery:
        delivery.take([ready(1), ready(2)], now_ms=NOW)
        first = delivery.pull("till", CRM, now_ms=NOW)
        assert delivery.pull("till", CRM, now_ms=NOW) == first
        assert [item.token for item in first] == ["token-1", "token-2"]
        delivery.pull("till", CRM, now_ms=NOW, after=1)
    with open_delivery(path, PULL) as delivery:
        assert [item.position for item in delivery.pull("till", CRM, now_ms=NOW)] == [2]


def test_expired_recalled_and_superseded_fragments_are_not_handed_out() -> None:
    with open_delivery(settings=PULL) as delivery:
        delivery.take(
            [
                ready(1, expires_at_ms=NOW + 10),
                ready(2),
                ready(3, subject_digest=b"s"),
                ready(4, subject_digest=b"s"),
                ready(5),
                recalled(6, "order-2"),
                ended(7, "jti-5", reason="used", leases=1),
            ],
            now_ms=NOW,
        )
        assert [item.jti for item in delivery.pull("a", CRM, now_ms=NOW + 9)] == ["jti-1", "jti-4"]
        assert [item.jti for item in delivery.pull("b", CRM, now_ms=NOW + 10)] == ["jti-4"]


def test_a_consumer_learns_of_recalls_of_what_it_was_handed_only() -> None:
    with open_delivery(settings=PULL) as delivery:
        delivery.take([ready(1), ready(2)], now_ms=NOW)
        delivery.pull("till", CRM, now_ms=NOW, limit=1)
        delivery.take([recalled(3, "order-1"), recalled(4, "order-2")], now_ms=NOW)
        (item,) = delivery.pull("till", CRM, now_ms=NOW, after=1)
        assert (item.position, item.jti, item.token, item.reason) == (3, "jti-1", None, "contradicted")
        assert delivery.pull("till", CRM, now_ms=NOW, after=3) == ()
        assert delivery.pull("other", CRM, now_ms=NOW) == ()


def test_a_pull_of_an_unknown_audience_or_size_is_refused() -> None:
    with open_delivery(settings=PULL) as delivery:
        with pytest.raises(UnknownRecipient, match="audience='x' must be in the settings"):
            delivery.pull("till", "x", now_ms=NOW)
        with pytest.raises(DeliveryError, match=r"limit=0 must lie in \[1, 10000\]"):
            delivery.pull("till", CRM, now_ms=NOW, limit=0)
        with pytest.raises(DeliveryError, match="limit=10001 must lie"):
            delivery.pull("till", CRM, now_ms=NOW, limit=10_001)


def test_a_token_is_given_to_its_own_audience_while_it_lives() -> None:
    with open_delivery() as delivery:
        delivery.take([ready(1)], now_ms=NOW)
        assert delivery.token("jti-1", CRM, now_ms=NOW + TTL - 1) == "token-1"
        assert delivery.token("jti-1", CRM, now_ms=NOW + TTL) is None
        assert delivery.token("jti-1", "https://other", now_ms=NOW) is None
        assert delivery.token("jti-2", CRM, now_ms=NOW) is None


# --- counts ----------------------------------------------------------------------------------------------------------


def test_a_fragment_counts_as_opened_once_and_as_unused_only_without_a_lease() -> None:
    with open_delivery(settings=PULL) as delivery:
        delivery.take([ready(position) for position in range(1, 5)], now_ms=NOW)
        delivery.opened("jti-1", leases=1)
        delivery.opened("jti-1", leases=2)
        delivery.opened("nobody", leases=1)
        later = NOW + TTL + 1
        delivery.take(
            [ended(5, "jti-1", leases=2), ended(6, "jti-2", leases=1), ended(7, "jti-3")], now_ms=later
        )
        assert counts(delivery) == {"opened": 2, "expired_unused": 1}
        delivery.step([], now_ms=later + MINUTE)
        assert counts(delivery) == {"opened": 2, "expired_unused": 2}
        delivery.step([], now_ms=later + 2 * MINUTE)
        assert counts(delivery) == {"opened": 2, "expired_unused": 2}


def test_depth_and_age_of_the_queue_are_told() -> None:
    with open_delivery() as delivery:
        delivery.take([ready(1)], now_ms=NOW)
        delivery.take([ready(2)], now_ms=NOW + 50)
        (found,) = delivery.counts(now_ms=NOW + 80)
        assert (found.queued, found.oldest_age_ms) == (2, 80)
        begin(delivery, NOW + 80)
        (health,) = delivery.endpoints(now_ms=NOW)
        assert (health.state, health.queued, health.in_flight) == ("open", 2, 2)


def test_after_closing_every_method_says_so() -> None:
    delivery = open_delivery()
    delivery.close()
    delivery.close()
    with pytest.raises(DeliveryError, match="closed and must be open"):
        delivery.take([], now_ms=NOW)


# --- the world in which endpoints fail -------------------------------------------------------------------------------


def answers(took_ms: int, result: Result = OK) -> Behaviour:
    return lambda _send, _now_ms: (took_ms, result)


def never(_send: Send, _now_ms: int) -> tuple[int, Result]:
    return 10**9, OK


def test_an_endpoint_that_never_answers_delays_another_by_nothing() -> None:
    """The living endpoint's requests are the same, to the millisecond, with the dead one and without."""
    dice = random.Random(7)
    feed = [(NOW + dice.randrange(10 * MINUTE), position) for position in range(1, 401)]
    items: list[tuple[int, FeedItem]] = [
        (at_ms, ready(position, at_ms=at_ms, expires_at_ms=at_ms + TTL))
        for position, (at_ms, _) in enumerate(sorted(feed), start=1)
    ]

    def living(*names: str) -> list[tuple[int, str, str]]:
        settings = settings_of(*(endpoint(name) for name in names))
        with open_delivery(settings=settings) as delivery:
            sent = simulate(
                delivery, {"dead": never, "living": answers(40)}, items, until_ms=NOW + 40 * MINUTE
            )
            return [
                (each.begin_ms, each.webhook_id, each.result.reason)
                for each in sent
                if each.endpoint == "living"
            ]

    alone = living("living")
    assert len(alone) == 400
    assert living("dead", "living") == alone


def test_every_fragment_reaches_an_endpoint_that_is_down_for_five_minutes() -> None:
    up_again = NOW + 7 * MINUTE

    def down_for_a_while(send: Send, now_ms: int) -> tuple[int, Result]:
        return (20, OK) if not NOW + 2 * MINUTE <= now_ms < up_again else (5, UNREACHED)

    items: list[tuple[int, FeedItem]] = [
        (
            NOW + position * 500,
            ready(position, at_ms=NOW + position * 500, expires_at_ms=NOW + position * 500 + TTL),
        )
        for position in range(1, 1_201)
    ]
    with open_delivery() as delivery:
        sent = simulate(delivery, {"crm-7": down_for_a_while}, items, until_ms=NOW + 60 * MINUTE)
        assert counts(delivery, NOW + 60 * MINUTE)["delivered"] == 1_200
    arrived = [each for each in sent if each.result is OK]
    assert max(each.end_ms for each in arrived) < NOW + 11 * MINUTE + TTL
    late = [each for each in arrived if each.begin_ms >= up_again]
    assert min(each.begin_ms for each in late) <= up_again + 72_000
    assert sum(each.result is UNREACHED for each in sent) < 100


@given(st.data())
def test_nothing_is_sent_after_expiry_supersession_or_recall_and_recalls_only_where_due(
    data: st.DataObject,
) -> None:
    feed: list[tuple[int, FeedItem]] = []
    at_ms = NOW
    dead_ms: dict[str, int] = {}
    newest: dict[bytes, tuple[str, int]] = {}
    alive: list[str] = []
    for position in range(1, data.draw(st.integers(2, 25)) + 1):
        at_ms += data.draw(st.integers(1, 20_000))
        action = data.draw(st.sampled_from(["ready", "ready", "recalled", "ended"])) if alive else "ready"
        if action == "ready":
            digest = data.draw(st.sampled_from([b"", b"s", b"t"]))
            life_ms = data.draw(st.integers(1, 90_000))
            feed.append((at_ms, ready(position, subject_digest=digest, expires_at_ms=at_ms + life_ms)))
            jti = f"jti-{position}"
            dead_ms[jti] = at_ms + life_ms
            if digest:
                if digest in newest:
                    dead_ms[newest[digest][0]] = min(dead_ms[newest[digest][0]], at_ms)
                newest[digest] = (jti, position)
            alive.append(jti)
            continue
        jti = alive.pop(data.draw(st.integers(0, len(alive) - 1)))
        dead_ms[jti] = min(dead_ms[jti], at_ms)
        if action == "recalled":
            feed.append((at_ms, recalled(position, jtis=(jti,))))
        else:
            feed.append((at_ms, ended(position, jti, reason="withdrawn")))

    def moody(_send: Send, _now_ms: int) -> tuple[int, Result]:
        return data.draw(st.integers(0, 20_000)), data.draw(st.sampled_from([OK, ERROR, UNREACHED, TIMEOUT]))

    with open_delivery() as delivery:
        sent = simulate(delivery, {"crm-7": moody}, feed, until_ms=at_ms + TTL)
        found = counts(delivery, at_ms + TTL)
    check(sent, dead_ms)
    assert "queued" not in found
    minted = sum(1 for _, item in feed if item.__class__.__name__ == "FragmentReady")
    assert found.get("delivered", 0) + sum(found.get("failed", {}).values()) == minted


def check(sent: list[Sent], dead_ms: dict[str, int]) -> None:
    """No fragment begins when it is dead; a recall follows a request that may have arrived, and no fragment follows it."""
    touched: set[str] = set()
    recalls: set[str] = set()
    for each in sent:
        jti = json.loads(each.body)["subject"]
        if kind_of(each.body) == "ready":
            assert each.begin_ms < dead_ms[jti]
            assert jti not in recalls
            if each.result.reached:
                touched.add(jti)
        else:
            assert jti in touched
            recalls.add(jti)


def test_jitter_comes_from_the_given_randomness() -> None:
    with Delivery(":memory:", settings_of(endpoint()), tenant="t", random=lambda: 0.0) as delivery:
        delivery.take([ready(1)], now_ms=NOW)
        (send,) = begin(delivery)
        settle(delivery, send, ERROR)
        assert begin(delivery, NOW + 799) == []
        assert len(begin(delivery, NOW + 800)) == 1
