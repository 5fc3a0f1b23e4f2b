"""The dead-letter file."""

import json
from pathlib import Path

from dayfly.engine.intake import DeadLetterFile, DeadLetterReason, RejectedEvent

from .support import NOW, make_intake, raw

LETTER = RejectedEvent(NOW, "app", DeadLetterReason.NOT_JSON, "payload 3", bytes(range(16)), "fix it")


def test_a_line_holds_everything_but_content(tmp_path: Path) -> None:
    path = tmp_path / "new" / "dead.jsonl"
    with DeadLetterFile(path) as file:
        assert file.append([LETTER]) == 1
    assert json.loads(path.read_text()) == {
        "at_ms": NOW,
        "channel": "app",
        "reason": "not_json",
        "place": "payload 3",
        "digest": "000102030405060708090a0b0c0d0e0f",
        "detail": "fix it",
    }


def test_letters_are_appended_and_counted_by_channel_and_reason(tmp_path: Path) -> None:
    path = tmp_path / "dead.jsonl"
    letters = make_intake().segment([b"{", b"", raw(type="x"), raw()], "app", NOW).dead_letters
    for _ in range(2):
        with DeadLetterFile(path) as file:
            assert file.append(letters) == 3
            assert dict(file.counts) == {("app", "not_json"): 2, ("app", "unknown_kind"): 1}
    assert [json.loads(line)["place"] for line in path.read_text().splitlines()] == [
        "payload 0",
        "payload 1",
        "payload 2",
    ] * 2


def test_a_line_cut_short_by_a_crash_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "dead.jsonl"
    path.write_bytes(b'{"at_ms": 1, "cha')
    with DeadLetterFile(path) as file:
        file.append([LETTER])
    assert json.loads(path.read_text().splitlines()[1])["place"] == "payload 3"
