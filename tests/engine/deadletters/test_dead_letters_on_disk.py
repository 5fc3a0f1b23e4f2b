"""Dead letters on disk: counted, sealed, ended by period, without any value of an input, whole after a crash."""

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dayfly.engine.deadletters import DeadLetters, DeadLetterSettings
from dayfly.engine.errors import DeadLetterError
from dayfly.engine.intake import DeadLetterReason
from dayfly.engine.intake.results import RejectedEvent
from tests.engine.intake.support import make_intake, payload_bytes, raw
from tests.engine.intake.test_reasons import CASES
from tests.engine.lineage.map_keys import MapKeys

NOW = 1_773_144_000_000
TENANT = b"tenant-of-tests!"
Opener = Callable[..., DeadLetters]


def letter(number: int, **changes: Any) -> RejectedEvent:
    values: dict[str, Any] = {
        "at_ms": NOW + number,
        "channel": ("app", "wifi", "market")[number % 3],
        "reason": (DeadLetterReason.NOT_JSON, DeadLetterReason.BAD_TIME)[number % 2],
        "place": f"payload {number}",
        "digest": number.to_bytes(16, "big"),
        "detail": f"rule {number} must hold; correct it",
    }
    return RejectedEvent(**(values | changes))


@pytest.fixture
def keys() -> MapKeys:
    return MapKeys()


@pytest.fixture
def opener(tmp_path: Path, keys: MapKeys) -> Iterator[Opener]:
    made: list[DeadLetters] = []

    def open_(**changes: Any) -> DeadLetters:
        while made:
            made.pop().close()
        values: dict[str, Any] = {"keys": keys, "tenant": TENANT, "random_bytes": os.urandom, **changes}
        made.append(DeadLetters(tmp_path / "dead", **values))
        return made[-1]

    yield open_
    while made:
        made.pop().close()


def content(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def only_file(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "dead").iterdir()
    return path


# --- keeping and counting --------------------------------------------------------------------------------------------


def test_letters_come_back_as_they_were_counted_by_channel_and_reason(opener: Opener) -> None:
    kept = opener()
    written = [letter(number, at_ms=NOW + number * 10_000_000) for number in range(60)]  # a week
    assert kept.append(written[:20]) == 20
    assert kept.append(written[20:]) == 40
    for reopen in (False, True):
        again = opener() if reopen else kept
        assert list(again.read()) == written
        assert dict(again.counts) == {
            (channel, reason): 10
            for channel in ("app", "wifi", "market")
            for reason in ("not_json", "bad_time")
        }


def test_letters_wait_until_the_callers_log_has_them(opener: Opener, tmp_path: Path) -> None:
    kept = opener()
    for position in (1, 2, 3):
        kept.append([letter(position)], position=position)
    assert sum(kept.counts.values()) == 3
    assert list((tmp_path / "dead").iterdir()) == []
    kept.flush(2)
    assert (kept.applied, [found.place for found in kept.read()]) == (2, ["payload 1", "payload 2"])
    again = opener()
    assert again.applied == 2
    for position in (1, 2, 3):  # the log is replayed
        assert again.append([letter(position)], position=position) == (position == 3)
    again.flush(3)
    assert [found.place for found in opener().read()] == ["payload 1", "payload 2", "payload 3"]


def test_letters_of_two_periods_that_only_half_reached_the_disk_come_again(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = DeadLetterSettings(period_ms=1000)
    kept = opener(settings=limits)
    kept.append([letter(1, at_ms=1999), letter(2, at_ms=2000)], position=7)
    real, calls = kept._make, []

    def once(period: int) -> Any:
        calls.append(period)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return real(period)

    monkeypatch.setattr(kept, "_make", once)
    with pytest.raises(OSError, match="No space left"):
        kept.flush()
    assert (calls, kept.applied) == ([1, 2], 0)
    monkeypatch.undo()
    kept.flush()
    assert (kept.applied, sum(opener(settings=limits).counts.values())) == (7, 2)


# --- no value of an input --------------------------------------------------------------------------------------------


def planted(data: bytes) -> bytes:
    """The payload with a mark in every value that a sender chooses."""
    for value in (b"SOFA-3", b"a-77", b"m-1", b"Track", b'"text"', b"yesterday", b"service-info", b"19.99"):
        mark = b"7731.7731" if value == b"19.99" else b"PLANTED" + value.strip(b'"')
        data = data.replace(value, b'"PLANTED"' if value == b'"text"' else mark)
    return data


def test_no_value_of_any_refused_input_is_in_a_letter_or_a_file(opener: Opener, tmp_path: Path) -> None:
    kept = opener()
    found = 0
    extra = [
        raw(userId="PLANTED-user", type="PLANTED-type"),
        raw(properties={"product_id": "PLANTED", "price": "PLANTED-price"}),
        raw(timestamp="PLANTED-time"),
        raw(properties={"product_id": "PLANTED", "seen_at": "PLANTED"}),
        raw(messageId={"PLANTED": "PLANTED"}),
        raw(event="$PLANTED"),
        b'{"PLANTED',
    ]
    for data in [*(planted(data) for _, data in CASES), *extra]:
        for fast in (True, False):
            result = make_intake(fast=fast).segment([data], "app", NOW)
            found += kept.append(result.dead_letters)
    assert found > 90
    for each in kept.read():
        for text in (each.detail, each.place, each.channel):
            assert "PLANTED" not in text, each
            assert "7731" not in text, each
    assert b"PLANTED" not in content(tmp_path)


def leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    elif isinstance(value, str):
        yield value


@given(payload_bytes())
def test_no_text_of_a_generated_payload_is_in_its_letter(data: bytes) -> None:
    import json

    for each in make_intake(fast=False).segment([data], "app", NOW).dead_letters:
        try:
            texts = [text for text in leaves(json.loads(data)) if len(text) > 3]
        except (ValueError, RecursionError):
            continue
        words = set(each.detail.replace("=", " ").replace("'", " ").split())
        declared = {"batch", "track", "page", "screen", "identify", "group", "alias"}
        assert not words & (set(texts) - declared), (each, texts)


def test_nothing_of_a_letter_is_readable_in_the_file(opener: Opener, tmp_path: Path) -> None:
    opener().append(
        [letter(1, place="line 90 of SHOPS", channel="app-SHOPS", digest=b"D" * 16, detail="SHOPS")]
    )
    sealed = content(tmp_path)
    assert b"DFDEAD1" in sealed  # the scan can find what is there
    for text in (b"SHOPS", b"D" * 16, b"not_json", b"bad_time", TENANT):
        assert text not in sealed


# --- the end ---------------------------------------------------------------------------------------------------------


def test_a_period_ends_at_its_retention_to_the_millisecond(
    opener: Opener, keys: MapKeys, tmp_path: Path
) -> None:
    limits = DeadLetterSettings(period_ms=1000, retention_ms=5000)
    kept = opener(settings=limits)
    kept.append([letter(number, at_ms=at_ms) for number, at_ms in enumerate((10_000, 10_999, 11_000))])
    paths = sorted((tmp_path / "dead").iterdir())
    sealed = paths[0].read_bytes()
    before = keys.live("dead")
    assert kept.expire(15_999) == 0
    assert keys.live("dead") == before
    assert kept.expire(16_000) == 2
    assert keys.live("dead") == before[1:]
    assert sorted((tmp_path / "dead").iterdir()) == paths[1:]
    assert [found.place for found in kept.read()] == ["payload 2"]
    assert sum(kept.counts.values()) == 1
    paths[0].write_bytes(sealed)  # a copy from a backup, of which only the key is gone
    assert [found.place for found in opener(settings=limits).read()] == ["payload 2"]


def test_erasing_by_digest_leaves_nothing_that_the_old_key_could_open(
    opener: Opener, keys: MapKeys, tmp_path: Path
) -> None:
    kept = opener()
    kept.append([letter(number) for number in range(4)], position=3)
    kept.append([letter(number) for number in range(4, 9)], position=4)
    kept.flush()
    before, old_keys = only_file(tmp_path).read_bytes(), keys.live("dead")
    assert kept.erase([letter(2).digest, letter(7).digest, bytes(15)]) == 2
    assert kept.erase([letter(2).digest]) == 0
    assert not set(old_keys) & set(keys.live("dead"))
    assert len(keys.live("dead")) == 1
    after = content(tmp_path)
    for at in range(68, len(before) - 32, 16):
        assert before[at : at + 32] not in after
    again = opener()
    assert [found.place for found in again.read()] == [f"payload {n}" for n in (0, 1, 3, 4, 5, 6, 8)]
    assert (sum(again.counts.values()), again.applied) == (7, 4)
    again.append([letter(9)])
    assert len(list(opener().read())) == 8


def test_an_erasure_cut_short_is_completed_on_opening(
    opener: Opener, keys: MapKeys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = opener()
    kept.append([letter(number) for number in range(4)])
    old = keys.live("dead")
    monkeypatch.setattr(keys, "destroy", lambda _: (_ for _ in ()).throw(OSError(5, "cut")))
    with pytest.raises(OSError, match="cut"):
        kept.erase([letter(2).digest])
    assert set(old) < set(keys.live("dead"))
    monkeypatch.undo()
    (tmp_path / "dead" / "000000000000.dead.new").write_bytes(b"begun")
    assert len(list(opener().read())) == 3
    assert not set(old) & set(keys.live("dead"))
    assert only_file(tmp_path).suffix == ".dead"


# --- files that are not right ----------------------------------------------------------------------------------------


def test_a_file_cut_at_any_byte_keeps_its_whole_blocks_and_goes_on(opener: Opener, tmp_path: Path) -> None:
    kept, ends = opener(), []
    for number in range(3):
        kept.append([letter(number)])
        ends.append(only_file(tmp_path).stat().st_size)
    kept.close()
    path = only_file(tmp_path)
    whole = path.read_bytes()
    for cut in range(0, len(whole), 3):
        path.write_bytes(whole[:cut])
        again = opener()
        kept_whole = sum(end <= cut for end in ends)
        assert len(list(again.read())) == kept_whole
        again.append([letter(9)])
        assert len(list(opener().read())) == kept_whole + 1
        opener().close()
        for leftover in (tmp_path / "dead").iterdir():
            leftover.unlink()
    path.write_bytes(whole + bytes(500))  # space that a power cut left allocated
    assert len(list(opener().read())) == 3
    assert path.read_bytes() == whole


def test_a_flipped_bit_is_told_or_cut_off_with_the_last_block(opener: Opener, tmp_path: Path) -> None:
    kept = opener()
    for number in range(3):
        kept.append([letter(number)])
    truth = list(kept.read())
    kept.close()
    path = only_file(tmp_path)
    whole = path.read_bytes()
    rng, told = random.Random(5), 0
    for place in range(0, len(whole), 2):
        altered = bytearray(whole)
        altered[place] ^= 1 << rng.randrange(8)
        path.write_bytes(altered)
        try:
            found = list(opener().read())
        except DeadLetterError:
            told += 1
            assert path.read_bytes() == bytes(altered)
        else:
            assert found == truth[: len(found)]
        path.write_bytes(whole)
    assert told > len(whole) // 4


def test_what_a_full_disk_cut_short_does_not_spoil_the_next_block(
    opener: Opener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from dayfly.engine.deadletters import period_file

    kept = opener()
    kept.append([letter(0)])
    real = period_file._write

    def half(file: int, data: bytes, start: int) -> None:
        real(file, data[: len(data) // 2], start)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(period_file, "_write", half)
    with pytest.raises(OSError, match="No space left"):
        kept.append([letter(number) for number in range(1, 50)])
    monkeypatch.undo()
    assert sum(kept.counts.values()) == 50
    cut_short = only_file(tmp_path).stat().st_size
    kept._waiting = kept._waiting[:1]
    kept.flush()
    assert only_file(tmp_path).stat().st_size < cut_short  # nothing of it stands behind the new block
    assert [found.place for found in opener().read()] == ["payload 0", "payload 1"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tenant": b"another"}, r"file='\d+\.dead' must be of this tenant"),
        ({"settings": DeadLetterSettings(period_ms=1000)}, "period_ms=1000 must be 86400000"),
        ({"keys": MapKeys()}, "must find its key in this store: key_id=1"),
    ],
)
def test_another_tenant_setting_or_key_store_is_refused(
    opener: Opener, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    opener().append([letter(0)])
    before = content(tmp_path)
    with pytest.raises(DeadLetterError, match=message):
        opener(**changes)
    assert content(tmp_path) == before


def test_other_keys_of_the_same_id_are_refused(opener: Opener) -> None:
    opener().append([letter(0)])
    strangers = MapKeys()
    strangers.create("dead")
    with pytest.raises(DeadLetterError, match="key_id=1 must be the key that"):
        opener(keys=strangers)


def test_files_of_another_kind_version_or_name_are_refused(opener: Opener, tmp_path: Path) -> None:
    opener().append([letter(0)])
    opener().close()
    path = only_file(tmp_path)
    whole = path.read_bytes()
    for head, message in (
        (b"DFDEAD2\n", "it is of another kind or a newer version"),
        (b"%PDF-1.7", "it is of another kind or a newer version"),
        (whole[:7] + b"\n" + b"x", "must have a sound head"),
    ):
        path.write_bytes(head + whole[len(head) :])
        with pytest.raises(DeadLetterError, match=message):
            opener()
        assert path.read_bytes() == head + whole[len(head) :]
    path.write_bytes(whole)
    path.rename(path.with_name("000000000001.dead"))
    with pytest.raises(DeadLetterError, match="must be named after its period"):
        opener()


def test_one_process_at_a_time_has_the_folder_open(opener: Opener, tmp_path: Path, keys: MapKeys) -> None:
    opener()
    with pytest.raises(DeadLetterError, match="folder='dead' must have one writer"):
        DeadLetters(tmp_path / "dead", keys=keys, tenant=TENANT, random_bytes=os.urandom)


@pytest.mark.parametrize("values", [{"period_ms": 0}, {"retention_ms": -1}])
def test_settings_out_of_range_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(DeadLetterError, match="must be > 0 and retention_ms="):
        DeadLetterSettings(**values)
    assert DeadLetterSettings(period_ms=1, retention_ms=0).period_ms == 1


@settings(max_examples=30)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(0, 5)),
            st.tuples(st.sampled_from(["reopen", "expire", "erase"]), st.integers(0, 9)),
        ),
        max_size=25,
    )
)
def test_any_order_of_acts_keeps_what_a_list_keeps(
    tmp_path_factory: pytest.TempPathFactory, acts: list[tuple[str, int]]
) -> None:
    folder, keys = tmp_path_factory.mktemp("dead"), MapKeys()
    limits = DeadLetterSettings(period_ms=10, retention_ms=20)

    def opened() -> DeadLetters:
        return DeadLetters(folder, keys=keys, tenant=TENANT, random_bytes=os.urandom, settings=limits)

    kept, model, now = opened(), [], 1000
    for act, number in acts:
        now += 3
        if act == "append":
            new = [letter(place, at_ms=now, digest=bytes([place]) * 16) for place in range(number)]
            kept.append(new)
            model += new
        elif act == "erase":
            gone = bytes([number]) * 16
            assert kept.erase([gone]) == sum(each.digest == gone for each in model)
            model = [each for each in model if each.digest != gone]
        elif act == "expire":
            left = [each for each in model if (each.at_ms // 10 + 1) * 10 + 20 > now]
            assert kept.expire(now) == len(model) - len(left)
            model = left
        else:
            kept.close()
            kept = opened()
        assert list(kept.read()) == model
        assert sum(kept.counts.values()) == len(model)
    kept.close()
