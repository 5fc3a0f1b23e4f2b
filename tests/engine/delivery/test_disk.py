"""`delivery.db`: what is gone is gone from the file, and a file that is not ours is refused."""

import os
import random
import re
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dayfly.engine.delivery import Delivery
from dayfly.engine.errors import DeliveryError

from .support import CRM, NOW, OK, TTL, ended, middle, open_delivery, ready, recalled, settings_of

PULL = settings_of(pull=[CRM])


def token_of(position: int) -> str:
    """A recognisable token of about the size of a sealed fragment."""
    piece = f"tok{position:06d}."
    return piece * (2_300 // len(piece))


def found(folder: Path, positions: range) -> list[int]:
    """Positions of which any piece of the token is in any file of the folder."""
    content = b"".join(path.read_bytes() for path in sorted(folder.iterdir()))
    here = {int(digits) for digits in re.findall(rb"tok(\d{6})\.", content)}
    return [position for position in positions if position in here]


def test_tokens_are_in_no_file_after_expiry_whatever_the_order_of_their_deaths(tmp_path: Path) -> None:
    dice = random.Random(3)
    everything = range(1, 801)
    lives = {position: dice.randrange(1, TTL) for position in everything}
    with open_delivery(tmp_path / "delivery.db", PULL) as delivery:
        for start in range(1, 801, 50):
            delivery.take(
                [
                    ready(position, token=token_of(position), expires_at_ms=NOW + lives[position])
                    for position in range(start, start + 50)
                ],
                now_ms=NOW,
            )
        assert found(tmp_path, everything) == list(everything), "the scanner must find what is there"
        for elapsed_ms in range(0, TTL + 1, TTL // 12):
            now_ms = NOW + elapsed_ms
            delivery.step([], now_ms=now_ms)
            alive = [position for position in everything if lives[position] > elapsed_ms]
            assert found(tmp_path, everything) == alive
        assert found(tmp_path, everything) == []


def test_a_token_is_in_the_file_until_the_instant_of_its_expiry(tmp_path: Path) -> None:
    with open_delivery(tmp_path / "delivery.db", PULL) as delivery:
        delivery.take([ready(1, token=token_of(1))], now_ms=NOW)
        work = delivery.step([], now_ms=NOW + TTL - 1)
        assert work.wake_ms == NOW + TTL
        assert found(tmp_path, range(1, 2)) == [1]
        delivery.step([], now_ms=NOW + TTL + 999)
        assert found(tmp_path, range(1, 2)) == []


def test_tokens_at_exactly_their_expiry_are_deleted() -> None:
    with open_delivery(":memory:", PULL) as delivery:
        delivery.take([ready(1)], now_ms=NOW)
        delivery.step([], now_ms=NOW + TTL)
        assert delivery._store.rows("SELECT * FROM tokens") == []


def test_tokens_of_recalled_ended_and_superseded_fragments_are_gone_within_a_second(tmp_path: Path) -> None:
    with open_delivery(tmp_path / "delivery.db", PULL) as delivery:
        delivery.step([], now_ms=NOW)
        delivery.take(
            [
                ready(position, token=token_of(position), subject_digest=b"s" if position > 3 else b"")
                for position in range(1, 6)
            ],
            now_ms=NOW,
        )
        delivery.take([recalled(6, "order-1"), ended(7, "jti-2", reason="used", leases=1)], now_ms=NOW)
        work = delivery.step([], now_ms=NOW + 1)
        assert work.wake_ms is not None
        assert work.wake_ms <= NOW + 1_000
        delivery.step([], now_ms=work.wake_ms)
        assert found(tmp_path, range(1, 6)) == [3, 5]


def test_nothing_of_a_fragment_is_kept_a_minute_after_its_end(tmp_path: Path) -> None:
    path = tmp_path / "delivery.db"
    with open_delivery(path) as delivery:
        delivery.take([ready(1, subject_digest=b"digest-of-somebody")], now_ms=NOW)
        (send,) = delivery.step([], now_ms=NOW).sends
        delivery.step([(send.job_id, OK)], now_ms=NOW)
        delivery.step([], now_ms=NOW + TTL + 59_999)
        assert b"digest-of-somebody" in path.read_bytes()
        delivery.step([], now_ms=NOW + TTL + 60_000)
    for needle in (b"digest-of-somebody", b"jti-1", b"order-1"):
        assert needle not in path.read_bytes()


def test_the_file_is_private_and_every_commit_is_synced(tmp_path: Path) -> None:
    path = tmp_path / "delivery.db"
    with open_delivery(path) as delivery:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert delivery._store.rows("PRAGMA synchronous") == [(2,)]
        assert delivery._store.rows("PRAGMA journal_mode") == [("wal",)]
        assert delivery._store.rows("PRAGMA secure_delete") == [(1,)]


def test_another_tenants_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "delivery.db"
    open_delivery(path).close()
    before = path.read_bytes()
    with pytest.raises(DeliveryError, match="must belong to tenant='u'"):
        Delivery(path, PULL, tenant="u", random=middle)
    assert path.read_bytes() == before


def test_a_foreign_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "delivery.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE precious (x)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(DeliveryError, match="must be a delivery database"):
        open_delivery(path)
    assert path.read_bytes() == before


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "delivery.db"
    open_delivery(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=2")
    db.close()
    with pytest.raises(DeliveryError, match="has version 2, which must be 1"):
        open_delivery(path)


@pytest.mark.parametrize("damage", ["text", "cut", "bits"])
def test_a_damaged_file_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "delivery.db"
    with open_delivery(path, PULL) as delivery:
        delivery.take([ready(position, token=token_of(position)) for position in range(1, 40)], now_ms=NOW)
    content = bytearray(path.read_bytes())
    if damage == "text":
        content = bytearray(b"this is no database" * 100)
    elif damage == "cut":
        content = content[: len(content) // 2]
    else:
        for offset in range(4_096, len(content), 4_096):
            content[offset : offset + 8] = bytes(8)
    path.write_bytes(content)
    with pytest.raises(DeliveryError, match=r"must be (a )?sound"):
        open_delivery(path, PULL)


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeliveryError, match="must be a file that can be written"):
        open_delivery(tmp_path / "absent" / "delivery.db")


def test_a_full_disk_stops_delivery_until_it_is_opened_again_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "delivery.db"
    with open_delivery(path, PULL) as delivery:
        delivery.take([ready(1)], now_ms=NOW)
        delivery._store.rows("PRAGMA max_page_count=1")
        with pytest.raises(DeliveryError, match=r"full.*free the disk"):
            delivery.take(
                [ready(position, token=token_of(position)) for position in range(2, 99)], now_ms=NOW
            )
        with pytest.raises(DeliveryError, match="has failed and must be opened anew"):
            delivery.step([], now_ms=NOW)
        assert delivery.position == 1
    with open_delivery(path, PULL) as delivery:
        assert delivery.position == 1
        assert delivery.take([ready(1), ready(2)], now_ms=NOW) == 2


CRASHES = """
import sys
from tests.engine.delivery.support import NOW, OK, open_delivery, ready
delivery = open_delivery(sys.argv[1])
position = delivery.position
while True:
    position += 1
    delivery.take([ready(position)], now_ms=NOW)
    work = delivery.step([], now_ms=NOW)
    for send in work.sends:
        print("sent", send.webhook_id, flush=True)
    delivery.step([(send.job_id, OK) for send in work.sends], now_ms=NOW)
    print("took", position, flush=True)
"""


def test_a_killed_process_loses_no_item_and_repeats_only_under_the_same_id(tmp_path: Path) -> None:
    path = tmp_path / "delivery.db"
    sent: list[str] = []
    took = 0
    for lines in (7, 20, 3):
        with subprocess.Popen(
            [sys.executable, "-c", CRASHES, str(path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
            env={**os.environ, "COVERAGE_PROCESS_START": ""},
        ) as child:
            assert child.stdout is not None
            for _ in range(lines):
                kind, value = child.stdout.readline().split()
                if kind == "sent":
                    sent.append(value)
                else:
                    took = int(value)
            child.kill()
    with open_delivery(path) as delivery:
        assert delivery.position >= took
        again = [send.webhook_id for send in delivery.step([], now_ms=NOW + 60_000).sends]
        delivered = delivery.counts(now_ms=NOW)[0].delivered
    assert delivered + len(again) == delivery.position
    assert len(set(sent) | set(again)) <= delivery.position
    assert len(set(again)) == len(again)
