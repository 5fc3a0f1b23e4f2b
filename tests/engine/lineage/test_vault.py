"""The vault: what the store answers, from disk, sealed by period; erased and ended so that nothing readable is left."""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dayfly.engine.errors import LineageError
from dayfly.engine.lineage import (
    LineageStore,
    LineageVault,
    VaultSettings,
    encode,
    vault_names,
    vault_records,
)
from dayfly.engine.lineage.vault_periods import Period
from dayfly.privacy.errors import KeyDestroyed

from .map_keys import MapKeys
from .support import CONSENT, DAY_MS, KEY, NOW_MS, SHAPE, SUBJECT, event, order, sofa_block

OTHER = bytes(range(16, 32))
TENANT = b"tenant-of-tests!"
Opener = Callable[..., LineageVault]


@pytest.fixture
def keys() -> MapKeys:
    return MapKeys()


@pytest.fixture
def opener(tmp_path: Path, keys: MapKeys) -> Iterator[Opener]:
    """Opens the vault of this test; one that is open is closed first."""
    made: list[LineageVault] = []

    def close() -> None:
        while made:
            made.pop().close()

    def open_(**changes: Any) -> LineageVault:
        close()
        values: dict[str, Any] = {
            "keys": keys,
            "subject_key": KEY,
            "tenant": TENANT,
            "random_bytes": os.urandom,
            **changes,
        }
        made.append(LineageVault(tmp_path / "lineage.db", **values))
        made[-1].declare([SHAPE])
        return made[-1]

    yield open_
    close()


def content(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


# --- the same answers as the store -----------------------------------------------------------------------------------


def test_vault_and_store_answer_alike(opener: Opener) -> None:
    store = LineageStore.in_memory(subject_key=KEY)
    store.declare([SHAPE])
    vault = opener()
    for kept in (store, vault):
        kept.put("jti-1", order(1))
        kept.put("jti-2", order(2, block=sofa_block(fields=["comparing"])))
    for reopen in (False, True):
        again = opener() if reopen else vault
        for jti in ("jti-1", "jti-2"):
            assert again.fragment(jti) == store.fragment(jti)
            assert again.explain_all(jti) == store.explain_all(jti)
        assert again.explain("jti-1", "budget") == store.explain("jti-1", "budget")
        assert again.jti_of("order-2") == "jti-2"
        assert len(again) == 2
        for jti, field, message in (
            ("jti-2", "budget", "field='budget' must be in fragment 'jti-2', which left it out"),
            ("jti-2", "colour", "field='colour' must be a field of trigger"),
            ("jti-3", "budget", "jti='jti-3' must be a fragment whose lineage is kept"),
        ):
            with pytest.raises(LineageError, match=message):
                again.explain(jti, field)
        with pytest.raises(LineageError, match="order_id='order-3' must have a fragment"):
            again.jti_of("order-3")
    store.close()


@pytest.mark.parametrize("reopened", [False, True])
def test_lineage_is_never_replaced_and_the_same_again_changes_nothing(
    opener: Opener, *, reopened: bool
) -> None:
    vault = opener()
    vault.put("jti-1", order())
    if reopened:
        vault = opener()
    vault.put("jti-1", order())
    for jti, number, audience in (
        ("jti-1", 1, "crm-eu-1"),
        ("jti-2", 1, "crm-cn-1"),
        ("jti-1", 2, "crm-cn-1"),
    ):
        with pytest.raises(LineageError, match=f"jti='{jti}' or its order must not have lineage already"):
            vault.put(jti, order(number, audience=audience))
    assert len(vault) == 1
    assert vault.explain("jti-1", "comparing").audience == "crm-cn-1"


def test_what_the_store_refuses_the_vault_refuses(opener: Opener) -> None:
    vault = opener()
    for refused, message in (
        (order(lineage=encode(sofa_block(fields=["budget"]))), "must cover exactly its fields"),
        (order(lineage=encode(sofa_block(consents=(replace(CONSENT, version=4),)))), "exactly its consents"),
        (order(lineage=bytes(200)), "block version=0 must be 1"),
        (order(lineage=encode(replace(sofa_block(), shape=bytes(16)))), "must be declared"),
    ):
        with pytest.raises(LineageError, match=message):
            vault.put("jti-1", refused)
    assert len(vault) == 0


def test_fragments_are_found_in_runs_and_behind_them(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (vault_names, vault_records):
        monkeypatch.setattr(module, "RUN", 40)
    vault = opener(settings=VaultSettings(at_once=7))
    for number in range(205):
        vault.put(f"jti-{number}", order(number, subject=bytes([number % 10]) * 16))
    for reopen in (False, True):
        again = opener(settings=VaultSettings(at_once=7)) if reopen else vault
        for number in range(205):
            assert again.jti_of(f"order-{number}") == f"jti-{number}"
            assert again.fragment(f"jti-{number}").order_id == f"order-{number}"
        with pytest.raises(LineageError, match="or its order must not have lineage already"):
            again.put("jti-3", order(3, topic="other"))
        again.put("jti-3", order(3, subject=bytes([3]) * 16))
        assert len(again) == 205
    assert again.erase(bytes([4]) * 16) == 21
    assert again.erase(bytes([4]) * 16) == 0
    with pytest.raises(LineageError, match="jti='jti-14' must be a fragment"):
        again.fragment("jti-14")
    assert again.jti_of("order-15") == "jti-15"


def test_a_name_is_found_where_an_entry_begins_and_nowhere_else() -> None:
    """Bytes of a name may also lie across two entries."""
    name = b"\1\1\1\1\1\1\1\1"
    names = b"\0" * 4 + b"\1" * 4 + b"\1" * 4 + name + b"\7\0\0\0" + name + b"\1\0\0\0"
    assert vault_names._places(names, name) == [12, 24]


def test_names_of_an_older_period_leave_memory(opener: Opener) -> None:
    limits = VaultSettings(period_ms=1000, retention_ms=900_000, at_once=4)
    vault = opener(settings=limits)
    for number in range(10):
        vault.put(f"jti-{number}", order(number, issued_at_ms=10_000))
    (period,) = vault._records.readable()
    vault.expire(11_999)
    assert len(period.recent) == 21  # jti and order of ten, and one person
    vault.expire(12_000)
    assert (period.indexed, len(period.recent)) == (8, 5)  # two wait to be written
    for reopen in (False, True):
        again = opener(settings=limits) if reopen else vault
        for number in range(10):
            assert again.jti_of(f"order-{number}") == f"jti-{number}"
        with pytest.raises(LineageError, match="or its order must not have lineage already"):
            again.put("jti-3", order(3, issued_at_ms=10_000, topic="other"))
    assert opener(settings=limits).erase(SUBJECT) == 10


@pytest.mark.parametrize("serial", range(1, 6))
def test_every_bucket_of_names_has_rows_of_its_own(serial: int) -> None:
    """Also the last one, whose end is the beginning of the next period."""
    period = Period(serial, 0, 1, b"")
    ranges = [
        vault_names._range(period, bucket.to_bytes(2, "big") + bytes(6)) for bucket in range(0, 1 << 16, 16)
    ]
    assert ranges[0][0] == serial << 32
    assert [end - start for start, end in ranges] == [1 << 20] * 4096
    assert [end for _, end in ranges[:-1]] == [start for start, _ in ranges[1:]]
    assert ranges[-1][1] == (serial + 1) << 32


def test_every_name_of_thousands_is_found_in_several_periods(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (vault_names, vault_records):
        monkeypatch.setattr(module, "RUN", 128)
    vault = opener(settings=VaultSettings(at_once=64))
    people = 30
    for number in range(6000):
        made = order(
            number, subject=(number % people).to_bytes(16, "big"), issued_at_ms=NOW_MS + number % 3 * DAY_MS
        )
        vault.put(f"jti-{number}", made)
    vault = opener(settings=VaultSettings(at_once=64))
    for number in range(6000):
        assert vault.jti_of(f"order-{number}") == f"jti-{number}"
        assert vault.fragment(f"jti-{number}").order_id == f"order-{number}"
    for person in range(people):
        assert vault.erase(person.to_bytes(16, "big")) == 200
    assert len(vault) == 0


class VaultAgainstStore(RuleBasedStateMachine):
    """Any sequence of puts, merges, erasures, flushes and reopenings against the store in memory."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = Path(tempfile.mkdtemp())
        self.keys = MapKeys()
        self.store = LineageStore.in_memory(subject_key=KEY)
        self.store.declare([SHAPE])
        self.vault = self.open()
        self.numbers: set[int] = set()

    def open(self) -> LineageVault:
        vault = LineageVault(
            self.folder / "lineage.db",
            keys=self.keys,
            subject_key=KEY,
            tenant=TENANT,
            random_bytes=os.urandom,
            settings=VaultSettings(at_once=5),
        )
        vault.declare([SHAPE])
        return vault

    @rule(number=st.integers(0, 30), person=st.integers(0, 4), day=st.integers(0, 3))
    def put(self, number: int, person: int, day: int) -> None:
        if number not in self.numbers:
            made = order(number, subject=bytes([person]) * 16, issued_at_ms=NOW_MS + day * DAY_MS)
            self.store.put(f"j{number}", made)
            self.vault.put(f"j{number}", made)
            self.numbers.add(number)

    @rule(one=st.integers(0, 4), two=st.integers(0, 4))
    def merge(self, one: int, two: int) -> None:
        for kept in (self.store, self.vault):
            kept.merge(bytes([one]) * 16, bytes([two]) * 16)

    @rule(person=st.integers(0, 4))
    def erase(self, person: int) -> None:
        assert self.vault.erase(bytes([person]) * 16) == self.store.erase(bytes([person]) * 16)
        for number in list(self.numbers):
            try:
                self.store.fragment(f"j{number}")
            except LineageError:
                self.numbers.discard(number)
                with pytest.raises(LineageError):
                    self.vault.fragment(f"j{number}")

    @rule()
    def flush(self) -> None:
        self.vault.flush()

    @rule()
    def reopen(self) -> None:
        self.vault.close()
        self.vault = self.open()

    @invariant()
    def the_same_fragments_are_kept(self) -> None:
        assert len(self.vault) == len(self.store) == len(self.numbers)
        for number in self.numbers:
            assert self.vault.jti_of(f"order-{number}") == f"j{number}"

    def teardown(self) -> None:
        for number in self.numbers:
            assert self.vault.fragment(f"j{number}") == self.store.fragment(f"j{number}")
        self.vault.close()
        shutil.rmtree(self.folder)


VaultAgainstStore.TestCase.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
TestVaultAgainstStore = VaultAgainstStore.TestCase


# --- nothing to read -------------------------------------------------------------------------------------------------


def test_no_file_holds_a_value_a_pseudonym_or_any_text_of_the_record(opener: Opener, tmp_path: Path) -> None:
    vault = opener()
    vault.put("jti-in-clear", order())
    vault.merge(SUBJECT, OTHER)
    vault.sync()
    raw = content(tmp_path)
    assert TENANT in raw  # the scan can find what is there
    made = order()
    for planted in (
        b"SECRET VALUE",
        SUBJECT,
        OTHER,
        b"jti-in-clear",
        b"order-1",
        b"crm-cn-1",
        b"service.advice",
        b"furniture.sofas",
        event(1).digest,
        b"7Q2mZk1b",
        made.lineage,
        made.lineage[17:40],
        b"Product Viewed",
        b"comparing",
        KEY,
    ):
        assert planted not in raw, planted


def rows_of(path: Path) -> list[tuple[int, bytes, bytes]]:
    """All records as SQLite's own library reads them."""
    with sqlite3.connect(path) as connection:
        found = connection.execute("SELECT id, names, sealed FROM records ORDER BY id").fetchall()
    connection.close()
    return found


def test_after_an_erasure_no_byte_of_the_person_is_in_any_file(opener: Opener, tmp_path: Path) -> None:
    vault = opener()
    for number in range(30):
        vault.put(f"jti-{number}", order(number, subject=SUBJECT if number % 3 == 0 else OTHER))
    vault.merge(SUBJECT, bytes(range(50, 66)))
    vault.close()
    rows = rows_of(tmp_path / "lineage.db")
    secrets = next((tmp_path / "lineage.secrets").iterdir()).read_bytes()[32:]
    mine = [row for row in rows if (row[0] & 0xFFFF_FFFF) % 3 == 0]
    before = content(tmp_path)
    vault = opener()
    assert vault.erase(SUBJECT) == 10
    after = content(tmp_path)  # while it is open: the write-ahead log is searched too
    for number, names, sealed in mine:
        place = 16 * (number & 0xFFFF_FFFF)
        for gone in (sealed, sealed[:24], sealed[-24:], names, names[:8], secrets[place : place + 16]):
            assert gone in before
            assert gone not in after
        person = names[16:]
        assert person not in after
    for number, names, sealed in rows:
        if (number & 0xFFFF_FFFF) % 3:
            assert sealed in after
            assert names in after
    assert vault.jti_of("order-1") == "jti-1"


def test_names_of_an_erased_person_also_leave_the_runs(
    opener: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (vault_names, vault_records):
        monkeypatch.setattr(module, "RUN", 10)
    limits = VaultSettings(at_once=10)
    vault = opener(settings=limits)
    for number in range(30):
        vault.put(f"jti-{number}", order(number, subject=SUBJECT if number % 3 == 0 else OTHER))
    vault.close()
    rows = rows_of(tmp_path / "lineage.db")
    vault = opener(settings=limits)
    assert vault.erase(SUBJECT) == 10
    after = content(tmp_path)
    for number, names, _ in rows:
        for at in (0, 8):
            assert (names[at : at + 8] in after) == bool((number & 0xFFFF_FFFF) % 3)


def test_an_older_copy_of_the_database_reads_nothing_of_an_erased_person(
    opener: Opener, tmp_path: Path
) -> None:
    vault = opener()
    vault.put("mine", order(1))
    vault.put("theirs", order(2, subject=OTHER))
    vault.close()
    shutil.copy(tmp_path / "lineage.db", tmp_path / "backup.db")
    opener().erase(SUBJECT)
    opener().close()
    shutil.copy(tmp_path / "backup.db", tmp_path / "lineage.db")
    restored = opener()
    assert restored.jti_of("order-2") == "theirs"
    for question in (lambda: restored.fragment("mine"), lambda: restored.jti_of("order-1")):
        with pytest.raises(LineageError, match="lineage is kept"):
            question()
    assert restored.erase(SUBJECT) == 1  # what is left of it goes as well


def test_merged_people_are_erased_together_and_strangers_afterwards(opener: Opener) -> None:
    third = bytes(range(32, 48))
    vault = opener()
    vault.put("jti-1", order(1, subject=third))
    vault.merge(OTHER, third)
    vault.merge(SUBJECT, OTHER)
    vault = opener()
    vault.put("jti-2", order(2, subject=OTHER, issued_at_ms=NOW_MS + 3 * DAY_MS))
    vault.put("jti-3", order(3))
    assert vault.erase(third) == 3
    vault.put("jti-4", order(4, subject=OTHER))
    assert vault.erase(SUBJECT) == 0
    assert len(opener()) == 1


def test_an_erasure_cut_short_behind_the_secrets_is_completed_by_repeating_it(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = opener()
    vault.put("mine", order(1))
    vault.put("theirs", order(2, subject=OTHER))
    vault.flush()

    def power_cut(*_: object) -> None:
        raise LineageError("cut")

    monkeypatch.setattr(vault._records._names, "remove", power_cut)
    with pytest.raises(LineageError, match="cut"):
        vault.erase(SUBJECT)
    with pytest.raises(LineageError, match="jti='mine' must be a fragment whose lineage is kept"):
        vault.fragment("mine")
    vault = opener()
    with pytest.raises(LineageError, match="jti='mine'"):
        vault.fragment("mine")
    assert vault.erase(SUBJECT) == 1
    assert (len(vault), vault.jti_of("order-2")) == (1, "theirs")


# --- the end of a period ---------------------------------------------------------------------------------------------


def test_a_period_ends_at_its_retention_to_the_millisecond(
    opener: Opener, keys: MapKeys, tmp_path: Path
) -> None:
    limits = VaultSettings(period_ms=1000, retention_ms=5000)
    vault = opener(settings=limits)
    for number, issued in enumerate((10_000, 10_999, 11_000)):
        vault.put(f"jti-{number}", order(number, issued_at_ms=issued, subject=OTHER))
    vault.close()
    rows = rows_of(tmp_path / "lineage.db")
    vault = opener(settings=limits)
    before = keys.live("lineage")
    assert vault.expire(15_999) == 0
    assert keys.live("lineage") == before
    assert vault.expire(16_000) == 2
    assert len(set(before) - set(keys.live("lineage"))) == 1
    after = content(tmp_path)
    for number, names, sealed in rows:
        ended = number >> 32 == rows[0][0] >> 32
        assert (sealed in after, names[:8] in after) == (not ended, not ended)
    for jti in ("jti-0", "jti-1"):
        with pytest.raises(LineageError, match=f"jti='{jti}' must be"):
            vault.fragment(jti)
    assert vault.jti_of("order-2") == "jti-2"
    vault.put("jti-0", order(0, issued_at_ms=10_000))  # a late replay brings nothing back
    assert len(vault) == len(opener(settings=limits)) == 1


def test_bytes_of_an_ended_period_are_removed_in_strides(
    opener: Opener, keys: MapKeys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (vault_names, vault_records):
        monkeypatch.setattr(module, "RUN", 20)
    limits = VaultSettings(period_ms=1000, retention_ms=0, at_once=25)
    vault = opener(settings=limits)
    for number in range(50):
        vault.put(f"jti-{number}", order(number, issued_at_ms=10_000))
    assert vault.expire(11_000, max_records=30) == 50
    assert len(vault) == 0
    with pytest.raises(LineageError):
        vault.fragment("jti-49")
    opener(settings=limits).close()
    assert len(rows_of(tmp_path / "lineage.db")) == 20
    vault = opener(settings=limits)
    for _ in range(5):
        assert vault.expire(11_000, max_records=30) == 0
    vault.close()
    with sqlite3.connect(tmp_path / "lineage.db") as connection:
        for table in ("records", "runs"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM periods").fetchone() == (1,)  # that of the shapes
    connection.close()
    assert list((tmp_path / "lineage.secrets").iterdir()) == []


def test_a_period_whose_key_was_destroyed_elsewhere_is_as_good_as_ended(
    opener: Opener, keys: MapKeys
) -> None:
    vault = opener()
    vault.put("jti-1", order(1))
    vault.put("jti-2", order(2, issued_at_ms=NOW_MS + DAY_MS))
    vault.flush()
    keys.destroy([keys.live("lineage")[1]])
    vault = opener()
    with pytest.raises(LineageError, match="jti='jti-1' must be a fragment whose lineage is kept"):
        vault.fragment("jti-1")
    assert vault.jti_of("order-2") == "jti-2"
    vault.put("jti-1", order(1))
    assert vault.erase(SUBJECT) == 1


@pytest.mark.parametrize(
    "values",
    [
        {"period_ms": 0},
        {"at_once": 0},
        {"retention_ms": -1},
        {"period_ms": 1000, "retention_ms": 1_024_001},
    ],
)
def test_settings_out_of_range_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(LineageError, match=r"retention_ms=.* must be 0 to 1024 times period_ms="):
        VaultSettings(**values)
    assert VaultSettings(period_ms=1000, retention_ms=1_024_000).at_once == 256


# --- a view of a log -------------------------------------------------------------------------------------------------


def test_nothing_is_written_before_the_callers_log_has_it(opener: Opener) -> None:
    vault = opener(settings=VaultSettings(at_once=1))
    for number in range(1, 10):
        vault.put(f"jti-{number}", order(number), position=number * 10)
    vault.merge(SUBJECT, OTHER, position=95)
    assert vault.jti_of("order-9") == "jti-9"  # readable at once
    vault.flush(55)
    assert vault.applied == 55
    vault.close(through=55)
    vault = opener()
    assert (vault.applied, len(vault)) == (55, 5)
    for number in range(1, 10):  # the log is replayed
        vault.put(f"jti-{number}" if number <= 5 else f"new-{number}", order(number), position=number * 10)
    vault.merge(SUBJECT, OTHER, position=95)
    vault.flush(100)
    assert (vault.applied, len(vault)) == (100, 9)
    assert vault.jti_of("order-9") == "new-9"
    assert vault.erase(OTHER, position=101) == 9


def test_a_replay_brings_nothing_back_that_was_erased(opener: Opener) -> None:
    vault = opener()
    vault.put("jti-1", order(1), position=1)
    vault.flush(1)
    assert vault.erase(SUBJECT, position=3) == 1
    assert vault.applied == 2
    for reopen in (False, True):
        again = opener() if reopen else vault
        again.put("jti-1", order(1), position=1)
        again.merge(SUBJECT, OTHER, position=1)
        assert again.erase(SUBJECT, position=3) == 0
        assert (len(again), again.applied) == (0, 2)
    again.flush(3)
    assert opener().applied == 3
    assert opener().erase(OTHER, position=3) == 0


@pytest.mark.parametrize("crash", [False, True])
def test_what_stands_around_an_erasure_at_its_position_is_not_lost(
    opener: Opener, monkeypatch: pytest.MonkeyPatch, *, crash: bool
) -> None:
    """One frame may hold a fragment, an erasure, and after it a merge and another person's erasure."""
    for module in (vault_names, vault_records):
        monkeypatch.setattr(module, "RUN", 1)
    third, fourth = bytes(range(32, 48)), bytes(range(48, 64))
    vault = opener()
    vault.put("before", order(1, subject=fourth), position=4)
    vault.put("jti-2", order(2, subject=third), position=5)
    assert vault.erase(SUBJECT, position=5) == 0
    if crash:  # what was to follow is lost; the log is replayed behind `applied`
        vault.close(through=0)
        vault = opener()
        assert vault.applied == 4
        vault.put("before", order(1, subject=fourth), position=4)
        vault.put("jti-2", order(2, subject=third), position=5)
        assert vault.erase(SUBJECT, position=5) == 0
    vault.merge(OTHER, third, position=5)
    assert vault.erase(fourth, position=5) == 1
    vault.flush(5)
    assert (len(vault), vault.applied) == (1, 5)
    assert opener().erase(OTHER, position=6) == 1


def test_what_could_not_be_written_is_written_later(
    opener: Opener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    vault = opener()
    vault.put("jti-1", order(1), position=1)
    vault.merge(SUBJECT, OTHER, position=2)
    for method in ("run_many", "run"):
        real = getattr(vault._records._file, method)
        calls: list[int] = []

        def full(*values: Any, calls: list[int] = calls, real: Any = real) -> Any:
            calls.append(1)
            if len(calls) == 2:
                with vault._records._file.guard():
                    raise sqlite3.OperationalError("database or disk is full")
            return real(*values)

        monkeypatch.setattr(vault._records._file, method, full)
        with pytest.raises(LineageError, match="database or disk is full; give it room"):
            vault.flush()
        monkeypatch.undo()
        assert vault.applied == 0
        assert vault.jti_of("order-1") == "jti-1"
    vault.flush()
    assert len(opener()) == 1
    assert opener().erase(OTHER) == 1


def test_a_full_disk_under_the_secrets_is_told(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = opener()
    vault.put("jti-1", order(1))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(vault._records._secrets, "write", full)
    with pytest.raises(LineageError, match="No space left on device; give it room"):
        vault.flush()
    monkeypatch.undo()
    vault.flush()
    assert opener().jti_of("order-1") == "jti-1"


# --- files that are not right ----------------------------------------------------------------------------------------


@pytest.fixture
def whole(opener: Opener, tmp_path: Path) -> Path:
    """A closed vault with three fragments; its database."""
    vault = opener()
    for number in range(3):
        vault.put(f"jti-{number}", order(number))
    vault.close()
    return tmp_path / "lineage.db"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tenant": b"another tenant"}, "tenant=.* must be .*, whose vault this is"),
        (
            {"subject_key": b"another-test-key"},
            "subject_key=<key> must be the one that the vault was made with",
        ),
        ({"subject_key": b"short"}, "subject_key of 5 bytes must have 16 to 64"),
        ({"settings": VaultSettings(period_ms=3_600_000)}, "period_ms=3600000 must be 86400000"),
    ],
)
def test_another_tenant_or_key_is_refused_and_nothing_changed(
    whole: Path, opener: Opener, changes: dict[str, Any], message: str
) -> None:
    before = whole.read_bytes()
    with pytest.raises(LineageError, match=message):
        opener(**changes)
    assert whole.read_bytes() == before


def test_keys_of_another_store_are_refused(whole: Path, opener: Opener, keys: MapKeys) -> None:
    before = whole.read_bytes()
    strangers = MapKeys()
    with pytest.raises(LineageError, match=r"key_id=1 .* must be a live key of this store"):
        opener(keys=strangers)
    for _ in range(3):
        strangers.create("lineage")
    with pytest.raises(LineageError, match=r"key_id=1 must be the key that period .* was made with"):
        opener(keys=strangers)
    assert whole.read_bytes() == before
    keys.destroy([1])
    with pytest.raises(LineageError, match="must hold its own keys") as caught:
        opener()
    assert isinstance(caught.value.__cause__, KeyDestroyed)


def test_a_second_process_is_refused(whole: Path, opener: Opener, tmp_path: Path) -> None:
    vault = opener()
    with pytest.raises(LineageError, match="close the process that has it open"):
        LineageVault(whole, keys=MapKeys(), subject_key=KEY, tenant=TENANT, random_bytes=os.urandom)
    assert vault.jti_of("order-1") == "jti-1"


@pytest.mark.parametrize("raw", [b"no database at all" * 99, b"\0" * 4096])
def test_a_file_of_another_kind_is_refused_and_left_alone(tmp_path: Path, opener: Opener, raw: bytes) -> None:
    path = tmp_path / "lineage.db"
    path.write_bytes(raw)
    with pytest.raises(LineageError, match=r"path='lineage\.db' must be a lineage vault"):
        opener()
    assert path.read_bytes() == raw


def test_a_database_of_another_kind_or_version_is_refused_and_left_alone(whole: Path, opener: Opener) -> None:
    for pragma, message in (
        ("user_version = 2", "version=2 must be at most 1; open it with a newer release"),
        ("application_id = 7", "must be a lineage vault; choose another path"),
        ("application_id = 0", "must be a lineage vault; choose another path"),
    ):
        connection = sqlite3.connect(whole)
        connection.execute(f"PRAGMA {pragma}")
        connection.close()
        before = whole.read_bytes()
        with pytest.raises(LineageError, match=message):
            opener()
        assert whole.read_bytes() == before


def test_a_cut_database_is_told(whole: Path, opener: Opener) -> None:
    raw = whole.read_bytes()
    for length in (10, 4096, len(raw) - 4096, len(raw) // 2):
        whole.write_bytes(raw[:length])
        with pytest.raises(LineageError, match="must be a lineage vault"):
            assert [opener().fragment(f"jti-{number}").order_id for number in range(3)]


def test_no_flipped_bit_ever_gives_other_lineage(whole: Path, opener: Opener, tmp_path: Path) -> None:
    opened = opener()
    truth = {f"jti-{number}": opened.fragment(f"jti-{number}") for number in range(3)}
    opened.close()
    rng = random.Random(11)
    told = 0
    for path in (whole, next((tmp_path / "lineage.secrets").iterdir())):
        raw = path.read_bytes()
        used = [place for place, byte in enumerate(raw) if byte]
        for place in rng.sample(used, min(120, len(used))):
            altered = bytearray(raw)
            altered[place] ^= 1 << rng.randrange(8)
            path.write_bytes(altered)
            try:
                vault = opener()
                for jti, fragment in truth.items():
                    assert vault.fragment(jti) == fragment
                vault.close()
            except LineageError:
                told += 1
            for leftover in tmp_path.glob("lineage.db-*"):
                leftover.unlink()
            path.write_bytes(raw)
    assert told > 60


def test_records_and_secrets_of_another_vault_are_refused(
    whole: Path, opener: Opener, tmp_path: Path
) -> None:
    secrets = next((tmp_path / "lineage.secrets").iterdir())
    raw = secrets.read_bytes()
    secrets.write_bytes(raw[:16] + bytes(16) + raw[32:])
    with pytest.raises(LineageError, match="must belong to this vault; put its own file back"):
        opener().fragment("jti-1")
    secrets.write_bytes(raw[:-1])
    with pytest.raises(LineageError, match="must reach record 2; the file was cut off"):
        opener().fragment("jti-2")
    secrets.unlink()
    with pytest.raises(LineageError, match="must exist; without it the period cannot be read"):
        opener().fragment("jti-1")
    secrets.write_bytes(raw)
    opener().close()
    connection = sqlite3.connect(whole)
    rows = connection.execute("SELECT id, sealed FROM records ORDER BY id").fetchall()
    connection.execute("UPDATE records SET sealed = ? WHERE id = ?", (rows[1][1], rows[0][0]))
    connection.commit()
    connection.close()
    with pytest.raises(LineageError, match="must open under its key; it was altered"):
        opener().fragment("jti-0")


def test_a_record_that_is_gone_from_the_table_is_told(
    opener: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (vault_names, vault_records):
        monkeypatch.setattr(module, "RUN", 3)
    vault = opener(settings=VaultSettings(at_once=3))
    for number in range(3):
        vault.put(f"jti-{number}", order(number))
    vault.close()
    connection = sqlite3.connect(tmp_path / "lineage.db")
    connection.execute("DELETE FROM records WHERE id & 0xFFFFFFFF = 2")
    connection.commit()
    connection.close()
    with pytest.raises(LineageError, match=r"record=\d+ must exist; the vault is damaged"):
        opener().fragment("jti-2")


def test_a_damaged_table_of_periods_is_told_before_a_record_could_be_overwritten(
    whole: Path, opener: Opener
) -> None:
    raw = whole.read_bytes()
    for change, message in (
        ("next = 2 WHERE next = 3", "next=2 of period .* must be above its records"),
        ("indexed = 4 WHERE next = 3", "next=3 of period .* must be above its records"),
        ("key_id = 'x' WHERE next = 3", "periods must hold numbers"),
        ("period = 5 WHERE period < 0", "must hold that of the shapes"),
    ):
        connection = sqlite3.connect(whole)
        connection.execute(f"UPDATE periods SET {change}")
        connection.commit()
        connection.close()
        with pytest.raises(LineageError, match=message):
            opener()
        whole.write_bytes(raw)


# --- kill -9 ---------------------------------------------------------------------------------------------------------

CHILD = """
import os, pickle, sys
from pathlib import Path
from tests.engine.lineage.test_vault import TENANT, made_order
from tests.engine.lineage.support import KEY, SHAPE
from dayfly.engine.lineage import LineageVault, VaultSettings
folder = Path(sys.argv[1])
keys = pickle.loads((folder / "keys").read_bytes())
vault = LineageVault(folder / "lineage.db", keys=keys, subject_key=KEY, tenant=TENANT, random_bytes=os.urandom)
number = vault.applied
print("open", number, flush=True)
while True:
    number += 1
    vault.put(f"jti-{number}", made_order(number), position=number)
    if number % 13 == 0:
        vault.flush(number - 3); print("flushed", number - 3, flush=True)
"""


def made_order(number: int) -> Any:
    return order(number, subject=(number % 7).to_bytes(16, "big"))


@pytest.mark.parametrize("rounds", [2, pytest.param(25, marks=pytest.mark.slow)])
def test_a_killed_writer_reopens_and_heals_by_putting_again(tmp_path: Path, rounds: int) -> None:
    import pickle

    rng, keys, flushed = random.Random(rounds), MapKeys(), 0
    values: dict[str, Any] = {
        "keys": keys,
        "subject_key": KEY,
        "tenant": TENANT,
        "random_bytes": os.urandom,
    }
    with_shape = LineageVault(tmp_path / "lineage.db", **values)
    with_shape.declare([SHAPE])
    with_shape.put("jti-1", made_order(1), position=1)  # makes the period's key, which the child gets
    with_shape.close()
    (tmp_path / "keys").write_bytes(pickle.dumps(keys))
    for _ in range(rounds):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
        )
        assert child.stdout is not None
        stop = rng.randrange(1, 40)
        with child:
            for line_number, line in enumerate(child.stdout):
                if line.startswith("flushed"):
                    flushed = int(line.split()[1])
                if line_number == stop:
                    child.send_signal(signal.SIGKILL)
        vault = LineageVault(tmp_path / "lineage.db", **values)
        assert vault.applied >= flushed
        assert len(vault) == vault.applied
        for number in range(1, vault.applied + 21):
            vault.put(f"jti-{number}", made_order(number), position=number)
        vault.close()
    vault = LineageVault(tmp_path / "lineage.db", **values)
    for number in range(1, vault.applied + 1):
        assert vault.fragment(f"jti-{number}").order_id == f"order-{number}"
    assert vault.erase((3).to_bytes(16, "big")) == len([n for n in range(1, vault.applied + 1) if n % 7 == 3])
    vault.close()
