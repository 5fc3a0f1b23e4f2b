"""Files that are not as they were written: a clear error, nothing changed, and never a wrong frame."""

import random
import re
import shutil
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import pytest

from dayfly.engine.errors import StoreDamaged, StoreError, StoreForeign, StoreVersion
from dayfly.engine.store import Frame, Log, LogSettings, oldest_position
from dayfly.privacy.keys import MemoryKeys

from .faulty import SMALL, TENANT, fill, memory_keys, open_log, wait_until_prepared
from .simulated import SimulatedDisk, SimulatedKeys, after_power_loss

HEADER, SECTOR = 4096, 512


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def read_all(folder: Path, keys: MemoryKeys, after: int = 0) -> list[Frame]:
    with open_log(folder, keys, after=after) as log:
        return list(log.frames(after))


def made(folder: Path, frames: int, size: int = 500) -> tuple[MemoryKeys, list[bytes]]:
    keys = memory_keys()
    with open_log(folder, keys) as log:
        payloads = fill(log, frames, size)
        wait_until_prepared(log)
    return keys, payloads


def refused(
    folder: Path, keys: MemoryKeys, error: type[StoreError], match: str, after: int = 0
) -> StoreError:
    """Opening or reading raises `error`, and changes nothing."""
    before = content(folder)
    with pytest.raises(error, match=match) as caught:
        read_all(folder, keys, after)
    assert content(folder) == before
    return caught.value


def flip(path: Path, offset: int, mask: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= mask
    path.write_bytes(data)


def reseal_header(path: Path, changes: dict[int, bytes]) -> None:
    """Change header fields and make its checksum right again: layout of `frames.py`, written down a second time."""
    data = bytearray(path.read_bytes())
    for offset, value in changes.items():
        data[offset : offset + len(value)] = value
    end = struct.calcsize("<8sHHIQQQ16s12s") + 16
    struct.pack_into("<I", data, end, zlib.crc32(data[:end]))
    path.write_bytes(data)


# --- flipped bits ----------------------------------------------------------------------------------------------------


def check_flips(offsets: Iterable[int]) -> tuple[int, int]:
    """Numbers of flips that were refused, and that did not matter."""
    folder, disk = Path("log"), SimulatedDisk()
    with Log.open(folder, SimulatedKeys(disk), tenant=TENANT, settings=SMALL, disk=disk) as log:
        payloads = fill(log, 12)
        wait_until_prepared(log)
    sound = after_power_loss(disk.start, disk.record, lambda: True)
    segment = sound.names[folder / "00000001.seg"]
    refusals = harmless = 0
    for offset in offsets:
        sound.content[segment][offset] ^= 1 << offset % 8
        other = SimulatedDisk(sound)
        sound.content[segment][offset] ^= 1 << offset % 8
        try:
            with Log.open(folder, SimulatedKeys(other), tenant=TENANT, settings=SMALL, disk=other) as log:
                frames = list(log.frames(0))
        except StoreError:
            refusals += 1
        else:
            assert [frame.payload for frame in frames] == payloads
            harmless += 1
    return refusals, harmless


def test_a_flipped_bit_never_yields_a_wrong_frame_and_never_loses_one() -> None:
    used = HEADER + 13 * 1024
    every_part = [*range(120), *range(HEADER, HEADER + 90), *range(used - 1100, used + 600, 7)]
    sampled = random.Random(1).sample(range(32_768), 150)
    refusals, harmless = check_flips(sorted({*every_part, *sampled}))
    assert refusals > 300
    assert harmless > 50  # filler behind records, and zeros that are cut


@pytest.mark.slow
def test_no_flipped_byte_of_a_whole_segment_yields_a_wrong_frame() -> None:
    refusals, harmless = check_flips(range(32_768))
    assert refusals + harmless == 32_768


def test_a_flip_in_the_last_acknowledged_commit_is_damage_and_not_a_torn_write(tmp_path: Path) -> None:
    keys, _ = made(tmp_path, 3)
    last = HEADER + SECTOR + 2 * 1024
    for offset in (last + 4, last + 20, last + 60, last + 400):
        flip(tmp_path / "00000001.seg", offset)
        found = refused(
            tmp_path, keys, StoreDamaged, r"at offset 6656: .*must hold; restore the store from a backup"
        )
        assert isinstance(found, StoreDamaged)
        assert (Path(found.path).name, found.offset) == ("00000001.seg", last)
        flip(tmp_path / "00000001.seg", offset)


# --- sectors that turn into zeros ------------------------------------------------------------------------------------


def zero(path: Path, offset: int, size: int = SECTOR) -> None:
    data = bytearray(path.read_bytes())
    assert any(data[offset : offset + size])
    data[offset : offset + size] = bytes(size)
    path.write_bytes(data)


@pytest.mark.parametrize("sector", [0, 1])
@pytest.mark.parametrize("commit", [0, 3, 8])
def test_a_lost_sector_before_a_later_commit_is_damage(tmp_path: Path, commit: int, sector: int) -> None:
    keys, _ = made(tmp_path, 10)
    offset = HEADER + SECTOR + commit * 1024
    zero(tmp_path / "00000001.seg", offset + sector * SECTOR)
    refused(tmp_path, keys, StoreDamaged, f"at offset {offset}: .*restore the store from a backup")


@pytest.mark.parametrize("lost", [{0}, {1}, {0, 1}])
def test_a_last_write_of_which_sectors_are_missing_is_cut_and_the_log_goes_on(
    tmp_path: Path, lost: set[int]
) -> None:
    keys, payloads = made(tmp_path, 4)
    path = tmp_path / "00000001.seg"
    last = HEADER + SECTOR + 3 * 1024
    for sector in lost:
        zero(path, last + sector * SECTOR)
    assert [frame.payload for frame in read_all(tmp_path, keys)] == payloads[:3]
    assert not any(path.read_bytes()[last:])
    with open_log(tmp_path, keys) as log:
        log.wait(log.append(2, b"new"))
    assert read_all(tmp_path, keys)[3:] == [Frame(4, 2, b"new")]


def test_nonces_are_not_repeated_where_a_cut_write_is_written_again(tmp_path: Path) -> None:
    keys, _ = made(tmp_path, 1)
    path = tmp_path / "00000001.seg"
    last = HEADER + SECTOR + 1024
    nonces = set()
    for _ in range(3):  # each time the first commit since the log was opened, at the same place and position
        with open_log(tmp_path, keys) as log:
            fill(log, 1)
        nonces.add(path.read_bytes()[last + 32 : last + 44])
        zero(path, last + SECTOR)
    assert len(nonces) == 3


def test_commits_that_changed_places_are_damage(tmp_path: Path) -> None:
    keys, _ = made(tmp_path, 4)
    path = tmp_path / "00000001.seg"
    data = path.read_bytes()
    second = HEADER + SECTOR + 1024
    third, fourth = second + 1024, second + 2048
    path.write_bytes(data[:second] + data[third:fourth] + data[second:third] + data[fourth:])
    refused(tmp_path, keys, StoreDamaged, f"at offset {second}: position=3 must be 2")


def test_zeros_that_are_written_on_behind_a_torn_head_are_damage(tmp_path: Path) -> None:
    keys, _ = made(tmp_path, 3)
    path = tmp_path / "00000001.seg"
    last = HEADER + SECTOR + 2 * 1024
    zero(path, last + SECTOR)
    flip(path, last + 4 * SECTOR)
    refused(tmp_path, keys, StoreDamaged, "a torn write must be the last")


# --- files that are missing, mixed up or cut off ---------------------------------------------------------------------


@pytest.fixture
def several(tmp_path: Path) -> tuple[Path, MemoryKeys, int]:
    """A log of several segments, with one prepared behind them."""
    keys, payloads = made(tmp_path / "log", 100)
    assert len(list((tmp_path / "log").glob("*.seg"))) >= 4
    return tmp_path / "log", keys, len(payloads)


def test_a_log_of_several_segments_reads_back_whole(several: tuple[Path, MemoryKeys, int]) -> None:
    folder, keys, count = several
    assert [frame.position for frame in read_all(folder, keys)] == list(range(1, count + 1))
    assert [frame.position for frame in read_all(folder, keys, 60)] == list(range(61, count + 1))


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_missing_segment_is_damage(several: tuple[Path, MemoryKeys, int], number: int) -> None:
    folder, keys, _ = several
    (folder / f"{number:08d}.seg").unlink()
    refused(folder, keys, StoreDamaged, "must hold the segments of keys .*put them back")


def test_a_missing_segment_is_damage_even_where_nobody_knows_its_key(
    several: tuple[Path, MemoryKeys, int],
) -> None:
    folder, keys, _ = several
    (folder / "00000002.seg").unlink()
    keys.destroy([2])
    refused(folder, keys, StoreDamaged, "00000002.seg.*it is missing, but the log goes on behind it")


def test_a_missing_last_segment_is_damage_since_the_one_before_says_that_the_log_goes_on(
    tmp_path: Path,
) -> None:
    keys = memory_keys()
    with open_log(tmp_path, keys) as log:
        fill(log, 3)
        log.turn()
        fill(log, 2)
        wait_until_prepared(log)
    for number in (2, 3):
        (tmp_path / f"{number:08d}.seg").unlink()
    keys.destroy([2, 3])
    refused(tmp_path, keys, StoreDamaged, "00000002.seg.*it is missing, but the log goes on in it")


def test_all_segments_missing_is_damage(several: tuple[Path, MemoryKeys, int]) -> None:
    folder, keys, _ = several
    shutil.rmtree(folder)
    folder.mkdir()
    refused(folder, keys, StoreDamaged, "their files are missing")


def test_a_destroyed_key_in_the_middle_is_damage(several: tuple[Path, MemoryKeys, int]) -> None:
    folder, keys, _ = several
    keys.destroy([2])
    refused(folder, keys, StoreDamaged, "its key is destroyed, but the log goes on behind it")


def test_a_segment_under_another_name_is_damage(several: tuple[Path, MemoryKeys, int]) -> None:
    folder, keys, _ = several
    (folder / "00000002.seg").rename(folder / "00000012.seg")
    refused(folder, keys, StoreDamaged, "segment=2 must be what its name says")


def test_two_segments_that_changed_places_are_damage(several: tuple[Path, MemoryKeys, int]) -> None:
    folder, keys, _ = several
    (folder / "00000002.seg").rename(folder / "kept")
    (folder / "00000003.seg").rename(folder / "00000002.seg")
    (folder / "kept").rename(folder / "00000003.seg")
    refused(folder, keys, StoreDamaged, "segment=3 must be what its name says")


def test_a_copied_segment_is_refused(several: tuple[Path, MemoryKeys, int]) -> None:
    folder, keys, _ = several
    shutil.copy(folder / "00000002.seg", folder / "00000002 (copy).seg")
    refused(folder, keys, StoreForeign, "must be named by its number.*remove what does not belong here")


def test_an_older_copy_of_a_segment_is_damage(tmp_path: Path) -> None:
    keys = memory_keys()
    with open_log(tmp_path, keys) as log:
        fill(log, 5)
        old = (tmp_path / "00000001.seg").read_bytes()
        fill(log, 60)
    (tmp_path / "00000001.seg").write_bytes(old)
    refused(tmp_path, keys, StoreDamaged, "position=6 must be in this segment")


def test_a_segment_of_another_store_of_the_tenant_is_foreign(tmp_path: Path) -> None:
    mine, _ = made(tmp_path / "mine", 5)
    other = memory_keys(2)
    with open_log(tmp_path / "other", other) as log:
        fill(log, 5)
    shutil.copy(tmp_path / "other" / "00000001.seg", tmp_path / "mine" / "00000001.seg")
    refused(tmp_path / "mine", mine, StoreForeign, "key_id=1 must be the key that .*own keys.slots")


def test_records_of_another_segment_are_damage(several: tuple[Path, MemoryKeys, int]) -> None:
    folder, keys, _ = several
    other = (folder / "00000002.seg").read_bytes()
    path = folder / "00000001.seg"
    path.write_bytes(path.read_bytes()[:HEADER] + other[HEADER:])
    refused(folder, keys, StoreDamaged, "segment=2 of a record must be 1")


@pytest.mark.parametrize("size", [0, 100, 4095, 4096, 20_000, 32_767])
def test_a_truncated_segment_is_damage(several: tuple[Path, MemoryKeys, int], size: int) -> None:
    folder, keys, _ = several
    data = (folder / "00000002.seg").read_bytes()
    (folder / "00000002.seg").write_bytes(data[:size])
    refused(folder, keys, StoreDamaged, rf"size={size} must be")


def test_a_segment_that_grew_is_damage(several: tuple[Path, MemoryKeys, int]) -> None:
    folder, keys, _ = several
    with (folder / "00000002.seg").open("ab") as file:
        file.write(b"more")
    refused(folder, keys, StoreDamaged, "size=32772 must be 32768")


def test_a_file_of_something_else_is_foreign(several: tuple[Path, MemoryKeys, int]) -> None:
    folder, keys, _ = several
    (folder / "00000002.seg").write_bytes(b"PK\x03\x04".ljust(32_768, b"x"))
    refused(folder, keys, StoreForeign, "must be a file of this store: magic=")


def test_a_newer_version_is_told_so(several: tuple[Path, MemoryKeys, int]) -> None:
    folder, keys, _ = several
    reseal_header(folder / "00000002.seg", {8: struct.pack("<H", 2)})
    refused(folder, keys, StoreVersion, "version=2 must be <= 1; upgrade dayfly")


def test_another_tenants_log_is_foreign(tmp_path: Path) -> None:
    keys, _ = made(tmp_path, 3)
    before = content(tmp_path)
    with pytest.raises(StoreForeign, match=rf"tenant={TENANT.hex()} of .* must be {bytes(16).hex()}"):
        open_log(tmp_path, keys, tenant=bytes(16))
    assert content(tmp_path) == before


def test_a_header_that_was_changed_on_purpose_is_foreign(tmp_path: Path) -> None:
    keys, _ = made(tmp_path, 3)
    reseal_header(tmp_path / "00000001.seg", {80: b"!"})
    refused(tmp_path, keys, StoreForeign, "key_id=1 must be the key")


def test_a_log_with_keys_that_were_all_lost_is_foreign_and_stays_as_it_is(tmp_path: Path) -> None:
    made(tmp_path, 3)
    refused(tmp_path, memory_keys(9), StoreForeign, re.escape("keys=0 live must hold those of the segments"))


def test_keys_of_another_store_are_noticed_before_anything_is_removed(tmp_path: Path) -> None:
    keys = memory_keys()
    with open_log(tmp_path, keys) as log:
        fill(log, 90)
        wait_until_prepared(log)
    other = memory_keys(2)
    ids = [other.create("log")[0] for _ in range(8)]
    other.destroy(ids[:2])  # so that the first segments look forgotten
    refused(tmp_path, other, StoreForeign, "must be the key that", after=60)


def test_frames_that_a_snapshot_lacks_and_the_log_forgot_are_told(tmp_path: Path) -> None:
    keys = memory_keys()
    with open_log(tmp_path, keys) as log:
        fill(log, 90)
        log.truncate_before(80)
        oldest = log.status().oldest
        assert 30 < oldest <= 80
        with pytest.raises(StoreDamaged, match=f"after={oldest - 2} must be at least {oldest - 1}"):
            list(log.frames(oldest - 2))
        assert next(log.frames(oldest - 1)).position == oldest
    assert oldest_position(tmp_path, keys, tenant=TENANT) == oldest
    refused(
        tmp_path, keys, StoreDamaged, f"after={oldest - 2} must be at least {oldest - 1}", after=oldest - 2
    )
    assert read_all(tmp_path, keys, oldest - 1)[0].position == oldest


def test_a_log_that_ends_before_its_snapshot_is_damage(tmp_path: Path) -> None:
    keys, _ = made(tmp_path, 5)
    assert read_all(tmp_path, keys, 5) == []
    refused(tmp_path, keys, StoreDamaged, "after=6 must be at most 5, where the log .* ends", after=6)


# --- what a crash leaves ---------------------------------------------------------------------------------------------


def test_a_forgetting_that_was_interrupted_is_finished(several: tuple[Path, MemoryKeys, int]) -> None:
    folder, keys, _ = several
    keys.destroy([1])
    with open_log(folder, keys, after=60) as log:
        assert log.status().oldest > 20
    assert not (folder / "00000001.seg").exists()


def test_an_unfinished_segment_and_its_key_are_removed(tmp_path: Path) -> None:
    keys, payloads = made(tmp_path, 3)
    (tmp_path / "00000003.new").write_bytes(bytes(100))
    orphan, _ = keys.create("log")
    assert [frame.payload for frame in read_all(tmp_path, keys)] == payloads
    assert orphan not in keys.live("log")
    assert not (tmp_path / "00000003.new").exists()


def test_a_prepared_segment_whose_key_is_gone_is_made_again(tmp_path: Path) -> None:
    keys, payloads = made(tmp_path, 3)
    keys.destroy([2])
    with open_log(tmp_path, keys) as log:
        payloads += fill(log, 60)
        assert [frame.payload for frame in log.frames(0)] == payloads


def test_a_prepared_segment_that_is_not_zero_is_damage(tmp_path: Path) -> None:
    keys, _ = made(tmp_path, 3)
    flip(tmp_path / "00000002.seg", 20_000)
    refused(tmp_path, keys, StoreDamaged, "a segment in use must begin with its first position")


def test_segments_prepared_under_other_settings_are_made_anew(tmp_path: Path) -> None:
    keys, payloads = made(tmp_path, 3)
    larger = LogSettings(segment_bytes=65_536, align_bytes=4096, retry_seconds=0.01)
    with open_log(tmp_path, keys, settings=larger) as log:
        payloads.append(bytes(50_000))
        log.wait(log.append(1, payloads[-1]))
        payloads += fill(log, 3)
    with open_log(tmp_path, keys, settings=SMALL) as log:
        payloads += fill(log, 90)
        assert [frame.payload for frame in log.frames(0)] == payloads
    assert [frame.payload for frame in read_all(tmp_path, keys)] == payloads


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    keys, payloads = made(tmp_path, 3)
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    assert [frame.payload for frame in read_all(tmp_path, keys)] == payloads
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_new_log_begins_behind_its_snapshot(tmp_path: Path) -> None:
    assert oldest_position(tmp_path / "log", memory_keys(), tenant=TENANT) is None
    keys = memory_keys()
    with open_log(tmp_path / "log", keys, after=41) as log:
        assert (log.durable, log.append(1, b"x")) == (41, 42)
    assert oldest_position(tmp_path / "log", keys, tenant=TENANT) == 42
    assert isinstance(log, Log)
    assert read_all(tmp_path / "log", keys, 41) == [Frame(42, 1, b"x")]
