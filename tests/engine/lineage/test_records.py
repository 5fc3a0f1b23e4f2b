"""Records: appended, read back, erased in place, recovered after a crash, and never lost unnoticed."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dayfly.engine.errors import LineageError
from dayfly.engine.lineage import FileRecords, MemoryRecords, Records

SECRET = b"what must not be found again"


@pytest.fixture(params=["memory", "file"])
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Records:
    return MemoryRecords() if request.param == "memory" else FileRecords(tmp_path / "lineage")


def test_records_come_back_in_order(records: Records) -> None:
    positions = [records.append(kind, payload) for kind, payload in ((1, b"one"), (2, b""), (255, b"three"))]
    assert [records.read(position) for position in positions] == [b"one", b"", b"three"]
    assert list(records.scan()) == list(zip(positions, (1, 2, 255), (b"one", b"", b"three"), strict=True))


def test_an_erased_record_is_not_scanned_and_the_others_stay(records: Records) -> None:
    first, second = records.append(1, SECRET), records.append(1, b"stays")
    records.erase(first)
    records.sync()
    assert [payload for _, _, payload in records.scan()] == [b"stays"]
    assert records.read(second) == b"stays"
    records.close()


def test_a_file_is_read_again_after_closing(tmp_path: Path) -> None:
    path = tmp_path / "lineage"
    writer = FileRecords(path)
    position = writer.append(2, b"kept")
    writer.close()
    reader = FileRecords(path)
    assert list(reader.scan()) == [(position, 2, b"kept")]
    assert reader.append(2, b"more") > position
    reader.close()


def test_no_byte_of_an_erased_record_is_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "lineage"
    records = FileRecords(path)
    position = records.append(2, SECRET)
    records.append(2, b"stays")
    assert SECRET in path.read_bytes()
    records.erase(position)
    records.close()
    assert SECRET not in path.read_bytes()
    assert SECRET[:8] not in path.read_bytes()


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    FileRecords(tmp_path / "lineage").close()
    assert (tmp_path / "lineage").stat().st_mode & 0o077 == 0


@settings(max_examples=30)
@given(payloads=st.lists(st.binary(max_size=40), min_size=1, max_size=4), data=st.data())
def test_a_crash_while_appending_loses_only_what_was_being_written(
    tmp_path_factory: pytest.TempPathFactory, payloads: list[bytes], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("crash") / "lineage"
    writer = FileRecords(path)
    ends = [8]
    for payload in payloads:
        writer.append(1, payload)
        ends.append(path.stat().st_size)
    writer.close()
    cut = data.draw(st.integers(8, ends[-1]))
    os.truncate(path, cut)
    reader = FileRecords(path)
    whole = sum(1 for end in ends[1:] if end <= cut)
    assert [payload for _, _, payload in reader.scan()] == payloads[:whole]
    assert path.stat().st_size == ends[whole]
    reader.close()


@pytest.mark.parametrize("missing", [1, 5, 17, 18])
def test_a_last_record_that_misses_bytes_is_cut(tmp_path: Path, missing: int) -> None:
    path = tmp_path / "lineage"
    writer = FileRecords(path)
    writer.append(1, b"kept")
    size = path.stat().st_size
    writer.append(1, b"12345")  # a head of 13 bytes and 5 of payload
    writer.close()
    os.truncate(path, size + 18 - missing)
    reader = FileRecords(path)
    assert [payload for _, _, payload in reader.scan()] == [b"kept"]
    assert path.stat().st_size == size
    reader.close()


def test_space_that_a_crash_left_unwritten_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "lineage"
    writer = FileRecords(path)
    writer.append(1, b"kept")
    writer.close()
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(bytes(200_000))
    reader = FileRecords(path)
    assert [payload for _, _, payload in reader.scan()] == [b"kept"]
    assert path.stat().st_size == size
    reader.close()


def test_an_erasure_that_a_crash_interrupted_is_finished_on_opening(tmp_path: Path) -> None:
    path, other = tmp_path / "lineage", tmp_path / "erased"
    for where in (path, other):
        writer = FileRecords(where)
        writer.append(1, SECRET)
        writer.close()
    eraser = FileRecords(other)
    eraser.erase(8)
    eraser.close()
    marked = other.read_bytes()[:21] + path.read_bytes()[21:]  # the head is erased, the payload still there
    path.write_bytes(marked)
    FileRecords(path).close()
    assert SECRET not in path.read_bytes()


@pytest.mark.parametrize("place", range(8, 21))
def test_a_damaged_head_is_refused(tmp_path: Path, place: int) -> None:
    path = _two_records(tmp_path)
    _flip(path, place)
    with pytest.raises(LineageError, match=r"record at byte 8 of 'lineage' must begin with a sound head"):
        FileRecords(path)


def test_a_damaged_payload_is_refused_when_read(tmp_path: Path) -> None:
    path = _two_records(tmp_path)
    _flip(path, 21)
    reader = FileRecords(path)
    with pytest.raises(LineageError, match=r"record at byte 8 of 'lineage' must match its checksum"):
        reader.read(8)
    reader.close()


def test_another_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("something else entirely")
    with pytest.raises(LineageError, match=r"path='notes.txt' must be a lineage file"):
        FileRecords(path)
    assert path.read_text() == "something else entirely"


def _two_records(folder: Path) -> Path:
    writer = FileRecords(folder / "lineage")
    writer.append(1, b"first")
    writer.append(1, b"second")
    writer.close()
    return folder / "lineage"


def _flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)
