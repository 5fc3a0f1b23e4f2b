"""Data keys in slots: life, death, ids, damage, raw bytes."""

import os
import random
from pathlib import Path

import pytest

from dayfly.privacy.errors import (
    InvalidArgument,
    KeyDestroyed,
    KeyFileUnsafe,
    KeyStoreBusy,
    KeyStoreDamaged,
    KeyStoreExists,
    KeyStoreFailed,
    KeyStoreForeign,
    KeyStoreVersion,
    UnknownKey,
    WrongKey,
)
from dayfly.privacy.keys import DestroyedKey, SlotKeys, record_path
from dayfly.privacy.keys.slots.layout import SLOT_BYTES, SLOTS_OFFSET

from .support import (
    NOW_MS,
    TENANT,
    FailingFile,
    PowerFile,
    draw,
    files_holding,
    new_slots,
    open_slots,
    options,
    ring,
    wrapped_forms,
)


def slot_of(slots: SlotKeys, key_id: int) -> int:
    return SLOTS_OFFSET + SLOT_BYTES * slots._live[key_id].slot


def patch(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def flip(path: Path, offset: int, bit: int = 0) -> None:
    raw = path.read_bytes()
    patch(path, offset, bytes([raw[offset] ^ (1 << bit)]))


def test_a_key_is_the_same_after_reopening(tmp_path: Path) -> None:
    with new_slots(tmp_path) as slots:
        made = dict(slots.create(purpose) for purpose in ("log", "snapshot", "log"))
    with open_slots(tmp_path) as slots:
        assert {key_id: slots.get(key_id) for key_id in made} == made
        assert len(set(made.values())) == 3
        assert slots.live("log") == (min(made), max(made))
        assert slots.live("backup") == ()
        assert slots.purposes() == ("log", "snapshot")


def test_a_destroyed_key_is_named_by_id_and_purpose(tmp_path: Path) -> None:
    with new_slots(tmp_path) as slots:
        key_id, _ = slots.create("log")
        slots.destroy([key_id])
        with pytest.raises(
            KeyDestroyed, match=rf"key_id={key_id} purpose='log' must be a live key"
        ) as caught:
            slots.get(key_id)
    assert (caught.value.key_id, caught.value.purpose) == (key_id, "log")
    with open_slots(tmp_path) as slots, pytest.raises(KeyDestroyed, match="purpose='log'"):
        slots.get(key_id)


def test_destroying_twice_is_one_destruction(tmp_path: Path) -> None:
    clock = iter(range(NOW_MS, NOW_MS + 10))
    with new_slots(tmp_path, now_ms=lambda: next(clock)) as slots:
        key_id, _ = slots.create("log")
        slots.destroy([key_id, key_id])
        slots.destroy([key_id])
        assert slots.destroyed([key_id]) == (DestroyedKey(key_id, "log", NOW_MS),)


def test_an_unknown_id_destroys_nothing(tmp_path: Path) -> None:
    with new_slots(tmp_path) as slots:
        key_id, key = slots.create("log")
        with pytest.raises(UnknownKey, match=f"key_id={key_id + 1} must have been created"):
            slots.destroy([key_id, key_id + 1])
        assert slots.get(key_id) == key


def test_the_stores_own_key_is_not_for_callers(tmp_path: Path) -> None:
    with new_slots(tmp_path) as slots:
        assert slots.purposes() == ()
        assert slots.live("store.check") == ()
        for call in (slots.get, lambda key_id: slots.destroy([key_id])):
            with pytest.raises(UnknownKey, match="key_id=1 must have been created"):
                call(1)


def test_an_id_never_comes_again_even_when_the_newest_was_destroyed_before_a_restart(tmp_path: Path) -> None:
    seen = set()
    new_slots(tmp_path).close()
    for _ in range(5):
        with open_slots(tmp_path) as slots:
            for _ in range(3):
                key_id, _ = slots.create("log")
                assert key_id not in seen
                seen.add(key_id)
                slots.destroy([key_id])


def test_a_slot_is_used_again(tmp_path: Path) -> None:
    slots, file, _ = on_memory(FailingFile, tmp_path)
    size = file.size()
    for _ in range(300):  # more than there are slots
        slots.destroy([slots.create("log")[0]])
    assert file.size() == size


def test_the_file_grows_by_zeroed_blocks(tmp_path: Path) -> None:
    with new_slots(tmp_path) as slots:
        made = dict(slots.create("log") for _ in range(300))
    assert (tmp_path / "keys.slots").stat().st_size == SLOTS_OFFSET + 512 * SLOT_BYTES
    with open_slots(tmp_path) as slots:
        assert {key_id: slots.get(key_id) for key_id in made} == made


def test_after_destroy_neither_form_of_the_key_is_in_any_file(tmp_path: Path) -> None:
    with new_slots(tmp_path) as slots:
        made = dict(slots.create("log") for _ in range(400))
        gone, kept = list(made)[::2], list(made)[1::2]
        wrapped = wrapped_forms(slots, gone)
        assert files_holding(tmp_path, wrapped) == ["keys.slots"]  # the scan finds what it is for
        slots.destroy(gone)
        assert files_holding(tmp_path, [*wrapped, *(made[key_id] for key_id in gone)]) == []
        assert files_holding(tmp_path, wrapped_forms(slots, kept)) == ["keys.slots"]
    assert files_holding(tmp_path, list(made.values())) == []


def test_many_keys_die_with_one_sync_of_the_slots_and_one_of_the_record(tmp_path: Path) -> None:
    slots, file, record = on_memory(FailingFile, tmp_path)
    made = [slots.create("log")[0] for _ in range(50)]
    before = file.syncs, record.syncs
    slots.destroy(made)
    assert (file.syncs, record.syncs) == (before[0] + 1, before[1] + 1)


def test_bytes_that_survive_the_overwriting_are_an_error(tmp_path: Path) -> None:
    with new_slots(tmp_path) as slots:
        key_id, _ = slots.create("log")
        slots._slots._file.read_from_disk = lambda offset, count: b"\1" * count  # type: ignore[method-assign]
        with pytest.raises(KeyStoreFailed, match="must read as zeros after it was overwritten"):
            slots.destroy([key_id])


def test_the_record_holds_ids_times_and_purposes_and_may_be_asked_in_any_order(tmp_path: Path) -> None:
    times = iter([5, 7])
    with new_slots(tmp_path, now_ms=lambda: next(times)) as slots:
        first, second = slots.create("log")[0], slots.create("dead")[0]
        slots.destroy([first])
        slots.destroy([second])
    with open_slots(tmp_path) as slots:
        assert slots.destroyed([second, first]) == (
            DestroyedKey(second, "dead", 7),
            DestroyedKey(first, "log", 5),
        )
        with pytest.raises(UnknownKey, match="key_id=99 must have been destroyed"):
            slots.destroyed([99])


@pytest.mark.parametrize("purpose", ["", "Log", "1log", "log\n", "a" * 25, "lög"])
def test_a_purpose_that_no_slot_can_hold_is_refused(tmp_path: Path, purpose: str) -> None:
    with new_slots(tmp_path) as slots:
        with pytest.raises(InvalidArgument, match="must be 1 to 24 of a-z"):
            slots.create(purpose)
        assert slots.create("a" * 24)[0] == 2


def test_a_short_answer_of_the_random_source_is_refused(tmp_path: Path) -> None:
    with new_slots(tmp_path) as slots:
        slots._random_bytes = lambda count: b"x" * (count - 1)  # type: ignore[misc]
        with pytest.raises(InvalidArgument, match=r"random_bytes\(32\)=<31 bytes> must be as many"):
            slots.create("log")


# --- wrong files, wrong keys ------------------------------------------------------------------------------------------


def test_a_second_opening_is_refused(tmp_path: Path) -> None:
    with new_slots(tmp_path), pytest.raises(KeyStoreBusy, match="must have one writer"):
        open_slots(tmp_path)
    open_slots(tmp_path).close()


def test_a_new_store_never_replaces_one(tmp_path: Path) -> None:
    with new_slots(tmp_path) as slots:
        made = slots.create("log")
    with pytest.raises(KeyStoreExists, match="must not exist; open it instead"):
        new_slots(tmp_path)
    with open_slots(tmp_path) as slots:
        assert slots.get(made[0]) == made[1]


def test_a_lost_slot_file_is_not_replaced_by_an_empty_one(tmp_path: Path) -> None:
    with new_slots(tmp_path) as slots:
        slots.create("log")
    (tmp_path / "keys.slots").unlink()
    with pytest.raises(KeyStoreDamaged, match=r"must exist, as '.*keys\.destroyed' does"):
        new_slots(tmp_path)


def test_a_crash_between_the_two_files_of_a_new_store_leaves_no_hindrance(tmp_path: Path) -> None:
    new_slots(tmp_path).close()
    (tmp_path / "keys.slots").unlink()
    new_slots(tmp_path).close()
    open_slots(tmp_path).close()


def test_another_tenants_store_is_foreign(tmp_path: Path) -> None:
    new_slots(tmp_path).close()
    with pytest.raises(KeyStoreForeign, match=f"tenant='{TENANT.hex()}' of .* must be '{'ff' * 16}'"):
        open_slots(tmp_path, tenant=b"\xff" * 16)


def test_a_tenant_id_has_sixteen_bytes(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="tenant=<15 bytes> must be 16 bytes"):
        new_slots(tmp_path, tenant=b"x" * 15)


def test_another_key_encryption_key_is_noticed_at_once_also_in_an_empty_store(tmp_path: Path) -> None:
    new_slots(tmp_path, ring(1)).close()
    other = type(ring())({1: b"k" * 31 + b"x"}, os.urandom)
    raw = (tmp_path / "keys.slots").read_bytes()
    with pytest.raises(WrongKey, match="kek version=1 must be the one that wrapped"):
        open_slots(tmp_path, other)
    with pytest.raises(WrongKey, match=r"kek version=1 must be one of \(2,\); keep an old key"):
        open_slots(tmp_path, ring(2))
    assert (tmp_path / "keys.slots").read_bytes() == raw


def test_a_file_of_another_kind_is_foreign(tmp_path: Path) -> None:
    new_slots(tmp_path).close()
    (tmp_path / "keys.slots").write_bytes(b"PK\3\4" * 4000)
    with pytest.raises(KeyStoreForeign, match="must be a slot file of Dayfly"):
        open_slots(tmp_path)


def test_a_newer_version_is_refused(tmp_path: Path) -> None:
    new_slots(tmp_path).close()
    for copy in (0, 4096):
        patch(tmp_path / "keys.slots", copy + 8, b"\2\0")
    with pytest.raises(KeyStoreVersion, match=r"version=2 of .* must be <= 1; use a newer Dayfly"):
        open_slots(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    new_slots(tmp_path).close()
    record_path(tmp_path / "keys.slots").unlink()
    with pytest.raises(KeyStoreDamaged, match=r"keys\.destroyed' must exist"):
        open_slots(tmp_path)


def test_the_record_of_another_store_is_refused(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        with new_slots(folder) as slots:
            slots.create("log")
    record_path(one / "keys.slots").write_bytes(record_path(other / "keys.slots").read_bytes())
    with pytest.raises(KeyStoreDamaged, match="must be the record of these slots"):
        open_slots(one)


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    new_slots(tmp_path).close()
    (tmp_path / "keys.slots").chmod(0o640)
    with pytest.raises(KeyFileUnsafe, match=r"mode=0o640 .* must be 0o600"):
        open_slots(tmp_path)


def test_new_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        new_slots(tmp_path).close()
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(KeyStoreFailed, match="must succeed, but No such file"):
        new_slots(tmp_path / "missing")


def test_a_closed_store_answers_with_an_error(tmp_path: Path) -> None:
    slots = new_slots(tmp_path)
    slots.close()
    slots.close()
    for call in (lambda: slots.get(2), lambda: slots.create("log"), lambda: slots.destroy([2])):
        with pytest.raises(KeyStoreFailed, match="keys=<closed> must be open"):
            call()


# --- damage ----------------------------------------------------------------------------------------------------------


def test_every_flipped_bit_of_a_used_slot_is_noticed_and_nothing_is_overwritten(tmp_path: Path) -> None:
    with new_slots(tmp_path) as slots:
        key_id, _ = slots.create("log")
        start = slot_of(slots, key_id)
    path = tmp_path / "keys.slots"
    whole = path.read_bytes()
    for offset in range(start, start + SLOT_BYTES):
        flip(path, offset, bit=offset % 8)
        changed = path.read_bytes()
        with pytest.raises(
            KeyStoreDamaged, match=r"slots=\[1\] of .* must check; open with discard_damaged=True"
        ):
            open_slots(tmp_path)
        assert path.read_bytes() == changed
        path.write_bytes(whole)


def test_a_flipped_bit_in_one_header_copy_is_healed_by_the_other(tmp_path: Path) -> None:
    with new_slots(tmp_path) as slots:
        made = dict(slots.create("log") for _ in range(3))
        slots.destroy([2])
    path = tmp_path / "keys.slots"
    for copy in (0, 4096):
        flip(path, copy + 60)
        with open_slots(tmp_path) as slots:
            assert slots.get(3) == made[3]
            slots.destroy([slots.create("log")[0]])  # writes a header again
            slots.create("log")


def test_two_damaged_header_copies_are_an_error(tmp_path: Path) -> None:
    new_slots(tmp_path).close()
    for copy in (0, 4096):
        flip(tmp_path / "keys.slots", copy + 60)
    with pytest.raises(KeyStoreDamaged, match=r"header of .* must check"):
        open_slots(tmp_path)


def test_a_truncated_slot_file_is_an_error(tmp_path: Path) -> None:
    new_slots(tmp_path).close()
    path = tmp_path / "keys.slots"
    os.truncate(path, path.stat().st_size - SLOT_BYTES)
    with pytest.raises(KeyStoreDamaged, match=r"slots=255 of .* must be >= 256"):
        open_slots(tmp_path)


def test_a_vanished_slot_is_an_error_and_can_be_given_up(tmp_path: Path) -> None:
    with new_slots(tmp_path) as slots:
        made = dict(slots.create("log") for _ in range(4))
        start = slot_of(slots, 3)
    patch(tmp_path / "keys.slots", start, bytes(SLOT_BYTES))
    with pytest.raises(KeyStoreDamaged, match=r"key_ids=\[3\] must be in .* or recorded as destroyed"):
        open_slots(tmp_path)
    with open_slots(tmp_path, discard=True) as slots:
        assert slots.get(4) == made[4]
        assert slots.destroyed([3]) == (DestroyedKey(3, "", NOW_MS),)
        with pytest.raises(KeyDestroyed, match="key_id=3 purpose=''"):
            slots.get(3)
    open_slots(tmp_path).close()


def test_the_newest_keys_cannot_vanish_unnoticed(tmp_path: Path) -> None:
    with new_slots(tmp_path) as slots:
        for _ in range(3):
            slots.create("log")
        start = slot_of(slots, 3)
    patch(
        tmp_path / "keys.slots", start, bytes(2 * SLOT_BYTES)
    )  # the last one is known for certain at the next write only
    with pytest.raises(KeyStoreDamaged, match=r"key_ids=\[3\] must be in"):
        open_slots(tmp_path)


@pytest.mark.parametrize("copy", [0, 4096])
def test_one_header_copy_alone_still_tells_that_the_record_was_truncated(tmp_path: Path, copy: int) -> None:
    with new_slots(tmp_path) as slots:
        slots.destroy([slots.create("log")[0]])
        slots.create("log")
        slots.create("log")
    os.truncate(record_path(tmp_path / "keys.slots"), 64)
    flip(tmp_path / "keys.slots", copy + 60)
    with pytest.raises(KeyStoreDamaged, match=r"entries=0 of .* must be >= 1"):
        open_slots(tmp_path)


def test_damaged_slots_can_be_given_up(tmp_path: Path) -> None:
    with new_slots(tmp_path) as slots:
        made = dict(slots.create("log") for _ in range(3))
        wrapped = wrapped_forms(slots, [3])
        flip(tmp_path / "keys.slots", slot_of(slots, 3) + 50)
    with open_slots(tmp_path, discard=True) as slots:
        assert slots.live("log") == (2, 4)
        assert slots.get(2) == made[2]
    assert files_holding(tmp_path, [wrapped[0][-32:]]) == []
    open_slots(tmp_path).close()


def test_a_slot_altered_while_open_is_never_a_wrong_key(tmp_path: Path) -> None:
    with new_slots(tmp_path) as slots:
        first, second = slots.create("log")[0], slots.create("log")[0]
        path = tmp_path / "keys.slots"
        raw = path.read_bytes()
        start = slot_of(slots, second)
        patch(path, slot_of(slots, first), raw[start : start + SLOT_BYTES])
        with pytest.raises(KeyStoreDamaged, match=f"key_id={first} slot=1 must check"):
            slots.get(first)


def test_a_well_formed_slot_that_another_key_wrapped_is_never_a_wrong_key(tmp_path: Path) -> None:
    from dayfly.privacy.keys.slots.layout import Slot, encode_slot

    with new_slots(tmp_path) as slots:
        key_id, _ = slots.create("log")
        forged = Slot(key_id, "log", 1, os.urandom(60))
        patch(tmp_path / "keys.slots", slot_of(slots, key_id), encode_slot(forged, TENANT))
        with pytest.raises(KeyStoreDamaged, match=f"key_id={key_id} slot=1 must open under its key"):
            slots.get(key_id)


def test_a_wrapped_key_moved_to_another_id_does_not_open(tmp_path: Path) -> None:
    from dayfly.privacy.keys.slots.layout import Slot, encode_slot

    with new_slots(tmp_path) as slots:
        first, second = slots.create("log")[0], slots.create("log")[0]
        moved = Slot(first, "log", 1, wrapped_forms(slots, [second])[0])
        patch(tmp_path / "keys.slots", slot_of(slots, first), encode_slot(moved, TENANT))
        with pytest.raises(KeyStoreDamaged, match="must open under its key"):
            slots.get(first)


@pytest.mark.parametrize("length", [1, 17, 64, 100, 127])
def test_a_torn_creation_leaves_no_key_and_a_free_slot(tmp_path: Path, length: int) -> None:
    with new_slots(tmp_path) as slots:
        kept = slots.create("log")
        torn, _ = slots.create("log")
        start = slot_of(slots, torn)
    patch(tmp_path / "keys.slots", start + length, bytes(SLOT_BYTES - length))
    with open_slots(tmp_path) as slots:
        assert slots.live("log") == (kept[0],)
        key_id, key = slots.create("log")
        assert slot_of(slots, key_id) == start
        assert slots.get(key_id) == key
    open_slots(tmp_path).close()


def test_flipped_bits_of_the_record_are_noticed(tmp_path: Path) -> None:
    with new_slots(tmp_path) as slots:
        made = [slots.create("log")[0] for _ in range(3)]
        slots.destroy(made[:2])
    path = record_path(tmp_path / "keys.slots")
    whole = path.read_bytes()
    for offset in range(64, 128):
        flip(path, offset)
        with pytest.raises(KeyStoreDamaged, match=r"entry=0 of .* must check"):
            open_slots(tmp_path)
        path.write_bytes(whole)
    flip(path, 70)
    with open_slots(tmp_path, discard=True) as slots:
        assert slots.destroyed(made[:1])[0].purpose == ""
        assert slots.destroyed(made[1:2])[0].purpose == "log"
    open_slots(tmp_path).close()


def test_a_truncated_record_is_noticed(tmp_path: Path) -> None:
    with new_slots(tmp_path) as slots:
        slots.destroy([slots.create("log")[0] for _ in range(3)])
    os.truncate(record_path(tmp_path / "keys.slots"), 64 * 3)
    with pytest.raises(KeyStoreDamaged, match=r"entries=2 of .* must be >= 3"):
        open_slots(tmp_path)


def test_a_slot_file_from_before_a_destruction_does_not_bring_the_key_back(tmp_path: Path) -> None:
    with new_slots(tmp_path) as slots:
        key_id, key = slots.create("log")
        wrapped = wrapped_forms(slots, [key_id])
        slots.create("log")
    old = (tmp_path / "keys.slots").read_bytes()
    with open_slots(tmp_path) as slots:
        slots.destroy([key_id])
    (tmp_path / "keys.slots").write_bytes(old)
    with open_slots(tmp_path, now_ms=lambda: NOW_MS + 5) as slots:
        with pytest.raises(KeyDestroyed, match="purpose='log'"):
            slots.get(key_id)
        assert slots.destroyed([key_id]) == (DestroyedKey(key_id, "log", NOW_MS + 5),)
    assert files_holding(tmp_path, [*wrapped, key]) == []


# --- disks that refuse -----------------------------------------------------------------------------------------------


def on_memory(kind: type[FailingFile], folder: Path) -> tuple[SlotKeys, FailingFile, FailingFile]:
    """A store on two files in memory."""
    new_slots(folder).close()
    files = [kind(name, (folder / name).read_bytes()) for name in ("keys.slots", "keys.destroyed")]
    return SlotKeys(files[0], files[1], ring(), **options()), files[0], files[1]


def again(file: PowerFile, record: PowerFile) -> SlotKeys:
    return SlotKeys(
        PowerFile(file.name, bytes(file.durable)),
        PowerFile(record.name, bytes(record.durable)),
        ring(),
        **options(),
    )


def test_a_full_disk_refuses_new_keys_and_still_destroys_old_ones(tmp_path: Path) -> None:
    slots, file, record = on_memory(FailingFile, tmp_path)
    made = [slots.create("log")[0] for _ in range(255)]
    file.full = record.full = True
    with pytest.raises(KeyStoreFailed, match="must succeed, but refused"):
        slots.create("log")
    slots.destroy(made)
    again(file, record).close()
    file.full = record.full = False
    assert slots.create("log")[0] == made[-1] + 1


def test_after_a_refused_write_only_reopening_helps(tmp_path: Path) -> None:
    slots, file, record = on_memory(FailingFile, tmp_path)
    key_id, key = slots.create("log")
    file.refuse_writes = True
    with pytest.raises(KeyStoreFailed, match="must succeed, but refused"):
        slots.create("log")
    file.refuse_writes = False
    with pytest.raises(KeyStoreFailed, match="must be whole, but a write had failed"):
        slots.create("log")
    assert slots.get(key_id) == key
    assert again(file, record).get(key_id) == key


def test_a_destruction_that_the_disk_interrupts_is_completed_by_the_next_opening(tmp_path: Path) -> None:
    slots, file, record = on_memory(FailingFile, tmp_path)
    key_id, _ = slots.create("log")
    wrapped = wrapped_forms(slots, [key_id])[0]
    file.refuse_writes = True
    with pytest.raises(KeyStoreFailed, match="must succeed, but refused"):
        slots.destroy([key_id])
    with pytest.raises(KeyDestroyed, match="purpose='log'"):
        slots.get(key_id)
    assert wrapped in bytes(file.durable)
    later = again(file, record)
    with pytest.raises(KeyDestroyed, match="purpose='log'"):
        later.get(key_id)
    assert wrapped not in bytes(later._slots._file.durable)  # type: ignore[attr-defined]


# --- rotation of the key-encryption key ------------------------------------------------------------------------------


def test_rewrapping_keeps_every_key_and_leaves_nothing_under_the_old_one(tmp_path: Path) -> None:
    with new_slots(tmp_path, ring(1)) as slots:
        made = dict(slots.create("log") for _ in range(300))
        old = wrapped_forms(slots, list(made))
        slots.destroy([5])
        assert slots.keks_in_use() == (1,)
        assert slots.rewrap(ring(1, 2)) == 300  # 299 and the store's own
        assert slots.keks_in_use() == (2,)
        assert slots.rewrap(ring(1, 2)) == 0
        assert {key_id: slots.get(key_id) for key_id in made if key_id != 5} == {
            key_id: key for key_id, key in made.items() if key_id != 5
        }
    assert files_holding(tmp_path, old) == []
    with open_slots(tmp_path, ring(2)) as slots:
        assert slots.get(300) == made[300]


def test_opening_with_a_newer_key_completes_a_rewrapping(tmp_path: Path) -> None:
    with new_slots(tmp_path, ring(1)) as slots:
        made = dict(slots.create("log") for _ in range(3))
    with open_slots(tmp_path, ring(1, 2)) as slots:
        assert slots.keks_in_use() == (2,)
        assert {key_id: slots.get(key_id) for key_id in made} == made
    open_slots(tmp_path, ring(2)).close()


def test_of_two_copies_the_one_under_the_newer_key_is_kept_so_the_older_key_is_not_needed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "keys.slots"
    with new_slots(tmp_path, ring(1)) as slots:
        made = dict(slots.create("log") for _ in range(3))
        start = slot_of(slots, 2)
        old = path.read_bytes()[start : start + 3 * SLOT_BYTES]
        slots.rewrap(ring(1, 2))
    patch(path, start, old)  # as if the power had gone before the old copies were zeroed
    with open_slots(tmp_path, ring(2)) as slots:
        assert {key_id: slots.get(key_id) for key_id in made} == made
    assert path.read_bytes()[start : start + 3 * SLOT_BYTES] == bytes(3 * SLOT_BYTES)


def test_rewrapping_without_the_old_key_changes_nothing(tmp_path: Path) -> None:
    with new_slots(tmp_path, ring(1)) as slots:
        key_id, key = slots.create("log")
        with pytest.raises(WrongKey, match=r"kek version=1 must be one of \(2,\)"):
            slots.rewrap(ring(2))
        assert slots.get(key_id) == key
        assert slots.create("log")[0] == key_id + 1


# --- in pieces -------------------------------------------------------------------------------------------------------


def test_threads_get_different_ids_and_their_own_keys(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with new_slots(tmp_path) as slots, ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: slots.create("log"), range(64)))
        assert len({key_id for key_id, _ in made}) == 64
        assert list(pool.map(lambda one: slots.get(one[0]), made)) == [key for _, key in made]


def test_no_repr_shows_more_than_counts(tmp_path: Path) -> None:
    with new_slots(tmp_path, random_bytes=draw(3)) as slots:
        slots.create("log")
        slots.destroy([slots.create("log")[0]])
        assert repr(slots) == "SlotKeys(live=1, destroyed=1)"


def test_random_bytes_in_place_of_the_slots_never_open_as_keys(tmp_path: Path) -> None:
    new_slots(tmp_path).close()
    path = tmp_path / "keys.slots"
    whole = path.read_bytes()
    for seed in range(50):
        junk = random.Random(seed).randbytes(SLOT_BYTES)
        patch(path, SLOTS_OFFSET + 10 * SLOT_BYTES, b"\1" + junk[1:-1] + b"\1")
        with pytest.raises(KeyStoreDamaged, match=r"slots=\[10\]"):
            open_slots(tmp_path)
        path.write_bytes(whole)
