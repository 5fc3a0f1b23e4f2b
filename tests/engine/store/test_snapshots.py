"""Snapshots: whole or refused, under a key of their own, and gone with it."""

import random
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from dayfly.engine.errors import (
    StoreDamaged,
    StoreError,
    StoreForeign,
    StoreFull,
    StoreUnusable,
    StoreVersion,
)
from dayfly.engine.store import LocalDisk, Snapshots
from dayfly.privacy.errors import InvalidArgument, WrongKey
from dayfly.privacy.keys import MemoryKeys

from .faulty import BROKEN, FULL, READ_ONLY, TENANT, FaultyDisk, failing_with, memory_keys
from .simulated import SimulatedDisk, SimulatedKeys

CHUNK = 1 << 16
STATE = random.Random(1).randbytes(2 * CHUNK + 777)
PARTS = {"state": STATE, "host": b"h" * 10, "empty": b""}


def snapshots(
    folder: Path,
    keys: MemoryKeys,
    *,
    tenant: bytes = TENANT,
    report: Callable[[StoreError], object] = lambda _: None,
    disk: LocalDisk | None = None,
) -> Snapshots:
    return Snapshots(folder, keys, tenant=tenant, report=report, chunk_bytes=CHUNK, disk=disk or LocalDisk())


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


@given(
    parts=st.dictionaries(
        st.text(max_size=5),
        st.lists(st.integers(0, 150_000).map(lambda size: STATE[:size]), max_size=3),
        max_size=4,
    )
)
def test_parts_come_back_whole_whether_given_at_once_or_in_pieces(parts: dict[str, list[bytes]]) -> None:
    disk = SimulatedDisk()
    store = Snapshots(Path("s"), SimulatedKeys(disk), tenant=TENANT, chunk_bytes=CHUNK, disk=disk)
    whole = {name: b"".join(pieces) for name, pieces in parts.items()}
    store.write(3, parts, verify=True)
    assert store.newest() == (3, whole)
    store.write(4, {name: memoryview(data) for name, data in whole.items()})
    assert store.newest() == (4, whole)


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK])
def test_parts_around_the_size_of_a_chunk_come_back(tmp_path: Path, size: int) -> None:
    store = snapshots(tmp_path, memory_keys())
    store.write(1, {"whole": STATE[:size], "pieces": iter((STATE[: size // 2], STATE[size // 2 : size]))})
    assert store.newest() == (1, {"whole": STATE[:size], "pieces": STATE[:size]})


def test_the_bytes_on_disk_are_what_the_format_says(tmp_path: Path) -> None:
    """A reader of its own, from the description at the head of `snapshots.py`, with `cryptography` alone."""
    keys = memory_keys()
    snapshots(tmp_path, keys).write(9, {"state": STATE})
    data = (tmp_path / "00000009.snap").read_bytes()
    assert data[:8] == b"DAYFLYSN"
    cipher, plain, offset, index, last = AESGCM(keys.get(1)), b"", 4096, 0, 0
    while not last:
        size, last, number, crc = struct.unpack_from("<IIII", data, offset)
        body = data[offset + 16 : offset + 16 + size + 16]
        assert (number, zlib.crc32(body)) == (index, crc)
        aad = TENANT + (9).to_bytes(8, "little") + data[offset : offset + 12]
        nonce = bytes(7) + index.to_bytes(4, "big") + bytes([last])
        chunk = cipher.decrypt(nonce, body, aad)
        plain += b"" if last else chunk
        offset += 32 + size
        index += 1
    assert (plain, offset) == (STATE, len(data))


def test_without_a_snapshot_there_is_none(tmp_path: Path) -> None:
    store = snapshots(tmp_path / "absent", memory_keys())
    assert store.newest() is None
    assert store.positions() == ()
    store.drop_before(5)


def test_the_newest_by_number_is_taken(tmp_path: Path) -> None:
    store = snapshots(tmp_path, memory_keys())
    for position in (99_999_999, 100_000_000, 7):
        store.write(position, {"at": str(position).encode()})
    assert store.positions() == (7, 99_999_999, 100_000_000)
    assert store.newest() == (100_000_000, {"at": b"100000000"})


def test_a_snapshot_at_the_same_position_takes_the_place_and_the_old_key_is_destroyed(tmp_path: Path) -> None:
    keys = memory_keys()
    store = snapshots(tmp_path, keys)
    store.write(5, {"a": b"old"})
    store.write(5, {"a": b"new"})
    assert store.newest() == (5, {"a": b"new"})
    assert keys.live("snapshot") == (2,)


def test_dropping_destroys_keys_and_files_and_keeps_what_is_not_older(tmp_path: Path) -> None:
    keys = memory_keys()
    store = snapshots(tmp_path, keys)
    for position in (5, 6, 7):
        store.write(position, PARTS)
    orphan, _ = keys.create("snapshot")
    other, _ = keys.create("log")
    store.drop_before(6)
    assert (store.positions(), keys.live("snapshot")) == ((6, 7), (2, 3))
    assert (orphan, keys.live("log")) == (4, (other,))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000006.snap", "00000007.snap"]


def test_a_dropping_that_was_interrupted_counts_and_is_finished(tmp_path: Path) -> None:
    keys = memory_keys()
    store = snapshots(tmp_path, keys)
    store.write(5, PARTS)
    store.write(6, PARTS)
    keys.destroy([2])
    assert store.newest() == (5, PARTS)
    keys.destroy([1])
    assert store.newest() is None
    store.drop_before(7)
    assert store.positions() == ()


def test_dropping_beside_a_snapshot_that_cannot_be_told_apart_destroys_nothing(tmp_path: Path) -> None:
    keys = memory_keys()
    store = snapshots(tmp_path, keys)
    store.write(5, PARTS)
    store.write(6, PARTS)
    flip(tmp_path / "00000006.snap", 20)
    with pytest.raises(StoreDamaged, match="checksum of the header must hold"):
        store.drop_before(6)
    assert keys.live("snapshot") == (1, 2)


# --- damage ----------------------------------------------------------------------------------------------------------


def test_no_flipped_bit_yields_other_content(tmp_path: Path) -> None:
    keys = memory_keys()
    store = snapshots(tmp_path, keys)
    store.write(5, {"state": STATE[:3_000]})
    path = tmp_path / "00000005.snap"
    sound = path.read_bytes()
    for offset in [*range(100), *range(100, 4096, 97), *range(4096, 4140), *range(4140, len(sound), 11)]:
        flip(path, offset)
        with pytest.raises(StoreError):
            store.newest()
        path.write_bytes(sound)
    assert store.newest() == (5, {"state": STATE[:3_000]})


def test_a_damaged_snapshot_is_reported_and_an_older_one_taken_where_the_log_reaches_back_to_it(
    tmp_path: Path,
) -> None:
    told: list[StoreError] = []
    store = snapshots(tmp_path, memory_keys(), report=told.append)
    store.write(5, PARTS)
    store.write(9, PARTS)
    flip(tmp_path / "00000009.snap", 5_000)
    assert store.newest() == (5, PARTS)
    assert store.newest(log_oldest=6) == (5, PARTS)
    assert [type(item) for item in told] == [StoreDamaged, StoreDamaged]
    with pytest.raises(StoreDamaged, match=r"00000009.snap.*checksum of a chunk must hold; restore"):
        store.newest(log_oldest=7)


def test_damaged_snapshots_only_are_an_error_and_not_none(tmp_path: Path) -> None:
    store = snapshots(tmp_path, memory_keys())
    store.write(5, PARTS)
    flip(tmp_path / "00000005.snap", 5_000)
    with pytest.raises(StoreDamaged, match="checksum of a chunk must hold"):
        store.newest()


def test_a_snapshot_cut_off_anywhere_is_damaged(tmp_path: Path) -> None:
    store = snapshots(tmp_path, memory_keys())
    store.write(5, PARTS)
    path = tmp_path / "00000005.snap"
    sound = path.read_bytes()
    for size in [0, 4095, 4096, 4100, 4096 + 16 + CHUNK + 16, len(sound) - 1, *range(0, len(sound), 9_973)]:
        path.write_bytes(sound[:size])
        with pytest.raises(StoreDamaged, match="at offset"):
            store.newest()
    path.write_bytes(sound + b"\0")
    with pytest.raises(StoreDamaged, match="the snapshot must end here"):
        store.newest()


def resealed(chunk: bytes, index: int) -> bytes:
    """A chunk with another index in its head."""
    return chunk[:8] + struct.pack("<I", index) + chunk[12:]


def test_chunks_cannot_change_places_be_dropped_or_be_repeated(tmp_path: Path) -> None:
    store = snapshots(tmp_path, memory_keys())
    store.write(5, {"state": STATE[: 3 * CHUNK // 2 * 2]})
    path = tmp_path / "00000005.snap"
    sound = path.read_bytes()
    size = CHUNK + 32
    header, first, second, rest = (
        sound[:4096],
        sound[4096 : 4096 + size],
        sound[4096 + size : 4096 + 2 * size],
        None,
    )
    rest = sound[4096 + 2 * size :]
    for other in (
        header + resealed(second, 0) + resealed(first, 1) + rest,
        header + first + resealed(first, 1) + rest,
        header + resealed(second, 0) + rest,
    ):
        path.write_bytes(other)
        with pytest.raises(StoreDamaged, match="of a chunk must hold"):
            store.newest()


def test_a_snapshot_under_another_name_is_damaged(tmp_path: Path) -> None:
    store = snapshots(tmp_path, memory_keys())
    store.write(5, PARTS)
    (tmp_path / "00000005.snap").rename(tmp_path / "00000006.snap")
    with pytest.raises(StoreDamaged, match="position=5 must be what its name says"):
        store.newest()


@pytest.mark.parametrize("name", ["00000005 (copy).snap", "5.snap", "x.snap", "00000005.snap.old"])
def test_files_with_other_names_are_foreign(tmp_path: Path, name: str) -> None:
    store = snapshots(tmp_path, memory_keys())
    store.write(5, PARTS)
    shutil.copy(tmp_path / "00000005.snap", tmp_path / name)
    with pytest.raises(
        StoreForeign, match=r"must be named by its position.*remove what does not belong here"
    ):
        store.newest()


def test_another_tenants_snapshot_is_foreign(tmp_path: Path) -> None:
    keys = memory_keys()
    snapshots(tmp_path, keys).write(5, PARTS)
    with pytest.raises(StoreForeign, match=f"tenant={TENANT.hex()} of .* must be {bytes(16).hex()}"):
        snapshots(tmp_path, keys, tenant=bytes(16)).newest()


def test_a_snapshot_under_another_key_is_foreign(tmp_path: Path) -> None:
    snapshots(tmp_path, memory_keys(1)).write(5, PARTS)
    other = memory_keys(2)
    other.create("snapshot")
    with pytest.raises(StoreForeign, match=r"key_id=1 must be the key that .*own keys.slots"):
        snapshots(tmp_path, other).newest()


def test_another_key_encryption_key_is_foreign(tmp_path: Path) -> None:
    class OtherKek(MemoryKeys):
        def get(self, key_id: int) -> bytes:
            raise WrongKey(f"key_id={key_id} must open under this key; use the key that sealed it")

    keys = OtherKek(random_bytes=random.Random(1).randbytes, now_ms=lambda: 0)
    snapshots(tmp_path, keys).write(5, PARTS)
    with pytest.raises(StoreForeign, match=r"key_id=1 of .* must open under the key-encryption key given"):
        snapshots(tmp_path, keys).newest()


def test_a_newer_version_is_told_so_and_not_passed_over(tmp_path: Path) -> None:
    store = snapshots(tmp_path, memory_keys())
    store.write(4, PARTS)
    store.write(5, PARTS)
    path = tmp_path / "00000005.snap"
    data = bytearray(path.read_bytes())
    data[8] = 2
    path.write_bytes(data)
    with pytest.raises(StoreVersion, match=r"version=2 of .* must be <= 1; upgrade dayfly"):
        store.newest()


def test_a_file_of_something_else_is_foreign(tmp_path: Path) -> None:
    (tmp_path / "00000005.snap").write_bytes(bytes(5_000))
    with pytest.raises(StoreForeign, match="must be a snapshot of this store"):
        snapshots(tmp_path, memory_keys()).newest()


# --- what the system refuses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "error"), [(FULL, StoreFull), (BROKEN, StoreUnusable), (READ_ONLY, StoreUnusable)]
)
@pytest.mark.parametrize("operation", ["open for writing", "write", "sync", "rename"])
def test_a_snapshot_that_cannot_be_written_leaves_nothing_and_the_one_before(
    tmp_path: Path, operation: str, number: int, error: type[StoreError]
) -> None:
    keys = memory_keys()
    snapshots(tmp_path, keys).write(5, PARTS)
    disk = FaultyDisk(failing_with(number, operation, "00000006"))
    with pytest.raises(error, match="writing a snapshot"):
        snapshots(tmp_path, keys, disk=disk).write(6, PARTS)
    assert keys.live("snapshot") == (1,)
    assert [path.name for path in tmp_path.iterdir()] == ["00000005.snap"]
    assert snapshots(tmp_path, keys).newest() == (5, PARTS)


def test_what_a_part_raises_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> object:
        yield b"x" * CHUNK
        raise ZeroDivisionError

    keys = memory_keys()
    with pytest.raises(ZeroDivisionError):
        snapshots(tmp_path, keys).write(6, {"state": broken()})  # type: ignore[dict-item]
    assert (keys.live("snapshot"), list(tmp_path.iterdir())) == ((), [])


def test_verifying_finds_what_the_disk_did_not_keep(tmp_path: Path) -> None:
    class LossyDisk(LocalDisk):
        def write(self, descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> int:
            return super().write(descriptor, bytes(len(data)) if offset > CHUNK else data, offset)

    keys = memory_keys()
    store = snapshots(tmp_path, keys, disk=LossyDisk())
    with pytest.raises(StoreDamaged, match="must hold"):
        store.write(6, PARTS, verify=True)
    assert (keys.live("snapshot"), list(tmp_path.iterdir())) == ((), [])


def test_an_unfinished_snapshot_is_removed_by_the_next(tmp_path: Path) -> None:
    store = snapshots(tmp_path, memory_keys())
    (tmp_path / "00000004.snap.part").write_bytes(b"half")
    assert store.newest() is None
    store.write(5, PARTS)
    assert [path.name for path in tmp_path.iterdir()] == ["00000005.snap"]


def test_no_plain_byte_of_a_part_is_on_the_disk(tmp_path: Path) -> None:
    snapshots(tmp_path, memory_keys()).write(5, {"secret-name": b"a most private wish" * 50})
    data = (tmp_path / "00000005.snap").read_bytes()
    assert b"private" not in data
    assert b"secret-name" not in data


@pytest.mark.parametrize("chunk_bytes", [(1 << 16) - 1, (1 << 24) + 1])
def test_chunks_of_other_sizes_are_refused(tmp_path: Path, chunk_bytes: int) -> None:
    with pytest.raises(InvalidArgument, match=f"chunk_bytes={chunk_bytes} must be 64 KiB to 16 MiB"):
        Snapshots(tmp_path, memory_keys(), tenant=TENANT, chunk_bytes=chunk_bytes)
    Snapshots(tmp_path, memory_keys(), tenant=TENANT, chunk_bytes=1 << 24)


def test_names_that_do_not_fit_a_chunk_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="parts=2 must have names that fit one chunk"):
        snapshots(tmp_path, memory_keys()).write(1, {"a" * CHUNK: b"", "b": b""})


def test_a_tenant_id_of_another_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="tenant of 5 bytes must have 16"):
        snapshots(tmp_path, memory_keys(), tenant=b"short")
