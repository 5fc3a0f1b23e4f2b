"""The log while it is open: positions, durability, waiting, turning, forgetting, closing."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from dayfly.engine.errors import LogFailed, StoreDamaged, StoreError, StoreTimeout, ValueOutOfRange
from dayfly.engine.store import Frame, Log, LogSettings
from dayfly.privacy.errors import InvalidArgument
from dayfly.privacy.keys import MemoryKeys

from .faulty import SMALL, TENANT, FaultyDisk, fill, memory_keys, open_log, wait_until_prepared
from .simulated import SimulatedDisk, SimulatedKeys

MOMENT = 20.0


class GatedDisk(FaultyDisk):
    """Writes of the log wait at a gate, so that a test decides what gathers behind one."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.waiting = threading.Event()
        self.gate.set()

    def write(self, descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> int:
        if self._paths[descriptor].name == "00000001.seg":
            self.waiting.set()
            assert self.gate.wait(MOMENT)
        return super().write(descriptor, data, offset)


@pytest.fixture
def gated(tmp_path: Path) -> Iterator[tuple[Log, GatedDisk]]:
    disk = GatedDisk()
    settings = LogSettings(segment_bytes=1 << 20, max_buffer_bytes=4_000, retry_seconds=0.01)
    log = open_log(tmp_path, memory_keys(), settings=settings, disk=disk)
    try:
        yield log, disk
    finally:
        disk.gate.set()
        log.close()


def hold_a_commit(log: Log, disk: GatedDisk) -> int:
    """Have the committer stand at the gate with one frame."""
    disk.gate.clear()
    disk.waiting.clear()
    position = log.append(1, b"first")
    assert disk.waiting.wait(MOMENT)
    return position


@given(
    frames=st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=5_000)), max_size=40),
    align_bytes=st.sampled_from((512, 4096)),
    turns=st.sets(st.integers(0, 40)),
)
def test_what_was_appended_is_read_back_in_order_before_and_after_reopening(
    frames: list[tuple[int, bytes]], align_bytes: int, turns: set[int]
) -> None:
    disk = SimulatedDisk()
    keys = SimulatedKeys(disk)
    settings = LogSettings(segment_bytes=16_384, align_bytes=align_bytes, retry_seconds=0.01)
    expected = [Frame(at, kind, data) for at, (kind, data) in enumerate(frames, 1)]

    def opened() -> Log:
        return Log.open(Path("log"), keys, tenant=TENANT, settings=settings, disk=disk)

    with opened() as log:
        for frame in expected:
            assert log.append(frame.kind, frame.payload) == frame.position
            if frame.position in turns:
                assert log.turn() == log.durable == frame.position
        log.wait(len(frames))
        assert list(log.frames(0)) == expected
    with opened() as log:
        assert (log.durable, list(log.frames(0))) == (len(frames), expected)
        assert list(log.frames(len(frames) // 2)) == expected[len(frames) // 2 :]


def test_the_bytes_on_disk_are_what_the_format_says(tmp_path: Path) -> None:
    """A reader of its own, from the description at the head of `frames.py`, with `cryptography` alone."""
    keys = memory_keys()
    with open_log(tmp_path, keys) as log:
        log.wait(log.append(7, b"hello"))
    data = (tmp_path / "00000001.seg").read_bytes()
    assert (data[:8], data[40:56]) == (b"DAYFLYLG", TENANT)
    record = data[4096 + 512 : 4096 + 1024]
    assert (record[:4], record[4], int.from_bytes(record[12:16], "little")) == (b"DFR1", 2, 1)
    size = int.from_bytes(record[8:12], "little")
    assert size == 5 + 5 + 16
    assert int.from_bytes(record[24:32], "little") == 1
    plain = AESGCM(keys.get(1)).decrypt(record[32:44], record[52 : 52 + size], TENANT + record[:44])
    assert plain == b"\x07" + (5).to_bytes(4, "little") + b"hello"
    assert set(record[52 + size :]) == {0xA5}


def test_a_payload_may_come_in_pieces_and_its_buffers_may_be_used_again(gated: tuple[Log, GatedDisk]) -> None:
    log, disk = gated
    hold_a_commit(log, disk)
    buffer = bytearray(b"abc")
    log.append(1, [b"1", memoryview(buffer), b"2"])
    last = log.append(1, buffer)
    buffer[:] = b"xyz"
    disk.gate.set()
    log.wait(last, MOMENT)
    assert [frame.payload for frame in log.frames(1)] == [b"1abc2", b"abc"]


def test_a_frame_is_not_durable_before_its_write_has_returned(gated: tuple[Log, GatedDisk]) -> None:
    log, disk = gated
    position = hold_a_commit(log, disk)
    assert log.durable == position - 1
    assert list(log.frames(0)) == []
    with pytest.raises(StoreTimeout, match=r"position=1 must be durable within 0.01 s"):
        log.wait(position, 0.01)
    disk.gate.set()
    log.wait(position, MOMENT)
    assert log.durable == position


def test_frames_that_are_written_but_not_acknowledged_are_not_read(tmp_path: Path) -> None:
    class LateDisk(GatedDisk):
        def write(self, descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> int:
            written = FaultyDisk.write(self, descriptor, data, offset)
            if self._paths[descriptor].name == "00000001.seg":
                self.waiting.set()
                assert self.gate.wait(MOMENT)
            return written

    disk = LateDisk()
    with open_log(tmp_path, memory_keys(), disk=disk) as log:
        fill(log, 2)
        hold_a_commit(log, disk)
        assert [frame.position for frame in log.frames(0)] == [1, 2]
        disk.gate.set()
        log.wait(3, MOMENT)
        assert [frame.position for frame in log.frames(0)] == [1, 2, 3]


def test_what_gathers_while_a_commit_is_written_goes_in_one_write(gated: tuple[Log, GatedDisk]) -> None:
    log, disk = gated
    hold_a_commit(log, disk)
    told: list[int] = []
    log.on_durable(told.append)
    last = [log.append(1, b"x") for _ in range(50)][-1]
    disk.gate.set()
    log.wait(last, MOMENT)
    log.close()
    assert told == [1, 51]


def test_frames_given_together_are_one_write(tmp_path: Path) -> None:
    told: list[int] = []
    with open_log(tmp_path, memory_keys()) as log:
        log.on_durable(told.append)
        last = log.append_all([(1, b"in"), (2, b"out"), (2, b"more")])
        log.wait(last, MOMENT)
        assert last == 3
        assert [(frame.kind, frame.payload) for frame in log.frames(0)] == [
            (1, b"in"),
            (2, b"out"),
            (2, b"more"),
        ]
    assert told == [3]


def test_frames_given_together_that_do_not_fit_are_refused_whole(tmp_path: Path) -> None:
    with open_log(tmp_path, memory_keys()) as log:
        with pytest.raises(ValueOutOfRange, match="kind=256 must be 0 to 255"):
            log.append_all([(1, b"in"), (256, b"out")])
        assert log.newest == 0


def test_frames_given_together_wait_for_room_where_the_buffer_is_full(
    gated: tuple[Log, GatedDisk],
) -> None:
    log, disk = gated
    hold_a_commit(log, disk)
    appended: list[int] = []
    frames = [(1, bytes(1_500)) for _ in range(6)]
    thread = threading.Thread(target=lambda: appended.append(log.append_all(frames)))
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    disk.gate.set()
    thread.join(MOMENT)
    assert appended == [7]
    log.wait(7, MOMENT)


def test_a_full_buffer_makes_append_wait_for_room(gated: tuple[Log, GatedDisk]) -> None:
    log, disk = gated
    hold_a_commit(log, disk)
    log.append(1, bytes(3_000))
    appended: list[int] = []
    thread = threading.Thread(target=lambda: appended.append(log.append(1, bytes(1_000))))
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    disk.gate.set()
    thread.join(MOMENT)
    assert appended == [3]


def test_a_frame_larger_than_the_buffer_is_taken_when_the_buffer_is_empty(
    gated: tuple[Log, GatedDisk],
) -> None:
    log, _ = gated
    log.wait(log.append(1, bytes(50_000)), MOMENT)
    assert next(log.frames(0)).payload == bytes(50_000)


def test_closing_an_appender_that_waits_for_room_refuses_it(gated: tuple[Log, GatedDisk]) -> None:
    log, disk = gated
    hold_a_commit(log, disk)
    log.append(1, bytes(3_000))
    refusals: list[Exception] = []

    def append() -> None:
        try:
            log.append(1, bytes(1_000))
        except LogFailed as error:
            refusals.append(error)

    appender = threading.Thread(target=append)
    appender.start()
    closer = threading.Thread(target=log.close)
    closer.start()
    appender.join(MOMENT)
    disk.gate.set()
    closer.join(MOMENT)
    assert not closer.is_alive()
    assert [str(error)[:10] for error in refusals] == ["log=closed"]
    assert log.durable == 2


def test_every_waiter_is_woken_and_none_is_lost_over_many_idle_moments(tmp_path: Path) -> None:
    settings = LogSettings(segment_bytes=1 << 20, align_bytes=512)
    with open_log(tmp_path, memory_keys(), settings=settings) as log:
        lock = threading.Lock()
        failures: list[StoreError] = []

        def work() -> None:
            try:
                for _ in range(60):
                    with lock:
                        position = log.append(1, b"x")
                    log.wait(position, MOMENT)
            except StoreError as error:
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(3 * MOMENT)
        assert (failures, log.durable) == ([], 360)


@pytest.mark.parametrize("frames", [0, 1, 300])
def test_closing_writes_what_is_buffered_and_ends_idle_or_not(tmp_path: Path, frames: int) -> None:
    keys = memory_keys()
    for _ in range(8):
        log = open_log(tmp_path, keys)
        newest = log.durable
        for _ in range(frames):
            newest = log.append(1, b"x" * 100)
        log.close()
        log.close()
        assert log.durable == newest
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("dayfly-log")]
    with open_log(tmp_path, keys) as log:
        assert len(list(log.frames(0))) == 8 * frames


def test_a_closed_log_takes_nothing(tmp_path: Path) -> None:
    with open_log(tmp_path, memory_keys()) as log:
        fill(log, 1)
    attempts: tuple[Callable[[], object], ...] = (lambda: log.append(1, b""), log.turn)
    for attempt in attempts:
        with pytest.raises(LogFailed, match="log=closed must be open to append; open the store again"):
            attempt()
    log.wait(1)


def test_a_position_that_was_not_given_out_is_not_waited_for(tmp_path: Path) -> None:
    with (
        open_log(tmp_path, memory_keys()) as log,
        pytest.raises(StoreError, match="position=1 must be at most 0, the newest; append first"),
    ):
        log.wait(1)


@pytest.mark.parametrize("kind", [-1, 256])
def test_a_kind_that_is_no_byte_is_refused(tmp_path: Path, kind: int) -> None:
    with open_log(tmp_path, memory_keys()) as log:
        with pytest.raises(ValueOutOfRange, match=f"kind={kind} must be 0 to 255"):
            log.append(kind, b"")
        assert log.append(255, b"") == 1
        assert log.append(0, b"") == 2


@pytest.mark.parametrize("align_bytes", [512, 1024, 2048, 4096])
def test_the_largest_payload_fits_a_segment_and_one_byte_more_is_refused(
    tmp_path: Path, align_bytes: int
) -> None:
    settings = LogSettings(segment_bytes=32_768, align_bytes=align_bytes, max_commit_bytes=1)
    limit = settings.max_payload_bytes
    keys = memory_keys()
    with open_log(tmp_path, keys, settings=settings) as log:
        with pytest.raises(ValueOutOfRange, match=f"payload of {limit + 1} bytes must have at most {limit}"):
            log.append(1, bytes(limit + 1))
        for _ in range(3):
            log.wait(log.append(1, bytes(limit)), MOMENT)
    with open_log(tmp_path, keys, settings=settings) as log:
        assert [len(frame.payload) for frame in log.frames(0)] == [limit] * 3


def test_callbacks_are_told_every_commit_in_order(tmp_path: Path) -> None:
    told: list[int] = []
    with open_log(tmp_path, memory_keys()) as log:
        log.on_durable(told.append)
        fill(log, 50)
    assert told == list(range(1, 51))


def refuse(_position: int) -> None:
    raise ZeroDivisionError("division by zero")


def test_a_callback_that_raises_fails_the_log(tmp_path: Path) -> None:
    keys = memory_keys()
    trouble: list[StoreError | None] = []
    log = open_log(tmp_path, keys)
    log.on_trouble(trouble.append)
    log.on_durable(refuse)
    log.append(1, b"x")
    while log.status().trouble is None:
        threading.Event().wait(0.001)
    with pytest.raises(
        LogFailed, match=r"log=failed must be whole to append: .*division.*up to position 1"
    ) as caught:
        log.append(1, b"y")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    log.close()
    assert [type(item) for item in trouble] == [LogFailed]
    with open_log(tmp_path, keys) as again:
        assert again.durable == 1


def test_pausing_between_commits_writes_less_often_and_loses_nothing(tmp_path: Path) -> None:
    settings = LogSettings(segment_bytes=1 << 20, pause_seconds=0.02)
    told: list[int] = []
    with open_log(tmp_path, memory_keys(), settings=settings) as log:
        log.on_durable(told.append)
        log.wait(log.append(1, b"x"), MOMENT)
        for _ in range(500):
            log.append(1, b"x")
        log.wait(501, MOMENT)
    assert told[-1] == 501
    assert len(told) < 50


# --- turning and forgetting ------------------------------------------------------------------------------------------


def test_forgetting_destroys_keys_and_keeps_what_is_asked_for(tmp_path: Path) -> None:
    keys = memory_keys()
    with open_log(tmp_path, keys) as log:
        payloads = fill(log, 100)
        before = keys.live("log")
        log.truncate_before(60)
        oldest = log.status().oldest
        assert 1 < oldest <= 60
        assert set(keys.live("log")) < set(before)
        assert min(keys.live("log")) > 1
        assert [frame.payload for frame in log.frames(oldest - 1)] == payloads[oldest - 1 :]
        log.truncate_before(60)
        assert log.status().oldest == oldest


def test_after_a_turn_everything_before_can_be_forgotten_to_the_last_frame(tmp_path: Path) -> None:
    keys = memory_keys()
    with open_log(tmp_path, keys) as log:
        fill(log, 5)
        log.append(1, b"still buffered")
        old = keys.live("log")[0]
        assert log.turn() == 6
        assert log.turn() == 6
        log.truncate_before(7)
        assert log.status().oldest == 7
        assert old not in keys.live("log")
        assert not (tmp_path / "00000001.seg").exists()
        fill(log, 2)
        assert [frame.position for frame in log.frames(6)] == [7, 8]
    with open_log(tmp_path, keys, after=6) as log:
        assert [frame.position for frame in log.frames(6)] == [7, 8]


def test_the_segment_in_use_is_never_forgotten(tmp_path: Path) -> None:
    with open_log(tmp_path, memory_keys()) as log:
        payloads = fill(log, 5)
        log.truncate_before(1_000)
        assert [frame.payload for frame in log.frames(0)] == payloads


def test_a_turn_of_an_empty_segment_makes_no_segment(tmp_path: Path) -> None:
    keys = memory_keys()
    with open_log(tmp_path, keys) as log:
        assert [log.turn() for _ in range(20)] == [0] * 20
        assert log.status().segments == 1
    with open_log(tmp_path, keys, after=0) as log:
        assert log.turn() == 0
        assert log.status().segments == 1


def test_turns_from_many_threads_all_end(tmp_path: Path) -> None:
    with open_log(tmp_path, memory_keys()) as log:
        done: list[int] = []

        def work() -> None:
            for _ in range(10):
                log.append(1, b"x")
                done.append(log.turn())

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(3 * MOMENT)
        assert len(done) == 40
        assert len(list(log.frames(0))) == 40


@pytest.mark.parametrize("spares", [0, 1, 3])
def test_files_of_forgotten_segments_are_used_again_up_to_a_bound(tmp_path: Path, spares: int) -> None:
    settings = LogSettings(segment_bytes=32_768, align_bytes=512, spare_segments=spares)
    keys = memory_keys()
    with open_log(tmp_path, keys, settings=settings) as log:
        fill(log, 150)
        log.truncate_before(log.turn() + 1)
        assert len(list(tmp_path.glob("*.free"))) <= spares
        payloads = fill(log, 150)
        assert [frame.payload for frame in log.frames(150)] == payloads
        log.truncate_before(log.turn() + 1)
    open_log(tmp_path, keys, after=300, settings=SMALL).close()
    assert len(list(tmp_path.glob("*.free"))) <= min(spares, SMALL.spare_segments)


def test_a_segment_that_is_being_read_stays_whole_for_its_reader_when_it_is_forgotten(tmp_path: Path) -> None:
    settings = LogSettings(segment_bytes=1 << 20, align_bytes=512, retry_seconds=0.01)
    with open_log(tmp_path, memory_keys(), settings=settings) as log:
        payloads = fill(log, 60, 15_000)  # more than a reader reads ahead
        reader = log.frames(0)
        read = [next(reader).payload]
        log.turn()
        log.truncate_before(61)
        fill(log, 1)
        log.turn()
        wait_until_prepared(log)  # out of a file to use again, had there been one
        read += [frame.payload for frame in reader]
        assert read == payloads


def test_reading_on_into_what_was_forgotten_is_told(tmp_path: Path) -> None:
    with open_log(tmp_path, memory_keys()) as log:
        fill(log, 100)
        reader = log.frames(0)
        next(reader)
        log.truncate_before(log.turn() + 1)
        with pytest.raises(StoreDamaged, match="the log does not hold what is between"):
            list(reader)


def test_no_plain_byte_of_a_payload_is_on_the_disk(tmp_path: Path) -> None:
    with open_log(tmp_path, memory_keys()) as log:
        log.wait(log.append(1, b"a customer's most private wish" * 20))
    found = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"private" not in found


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"align_bytes": 256}, "align_bytes=256 must be 512, 1024, 2048 or 4096"),
        ({"segment_bytes": 12_288}, "segment_bytes=12288 must be a multiple of 4096"),
        ({"segment_bytes": 16_385}, "segment_bytes=16385 must be a multiple of 4096"),
        ({"segment_bytes": (1 << 31) + 4096}, "segment_bytes=2147487744 must be a multiple of 4096"),
        ({"max_commit_bytes": 0}, "max_commit_bytes=0 must be >= 1"),
        ({"max_buffer_bytes": 0}, "max_buffer_bytes=0 must be >= 1"),
        ({"spare_segments": -1}, "spare_segments=-1 must be >= 0"),
        ({"pause_seconds": -0.1}, "pause_seconds=-0.1 must be 0 to 60"),
        ({"pause_seconds": 60.1}, "pause_seconds=60.1 must be 0 to 60"),
        ({"retry_seconds": 0}, "retry_seconds=0 must be above 0"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidArgument, match=match):
        LogSettings(**change)


def test_settings_at_their_bounds_are_taken() -> None:
    LogSettings(
        segment_bytes=16_384, max_commit_bytes=1, max_buffer_bytes=1, spare_segments=0, pause_seconds=60
    )
    LogSettings(segment_bytes=1 << 31, retry_seconds=3600)


@pytest.mark.parametrize("tenant", [b"", bytes(15), bytes(17)])
def test_a_tenant_id_of_another_length_is_refused(tmp_path: Path, tenant: bytes) -> None:
    with pytest.raises(InvalidArgument, match=f"tenant of {len(tenant)} bytes must have 16"):
        open_log(tmp_path, memory_keys(), tenant=tenant)


def test_a_negative_position_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="after=-1 must be >= 0"):
        open_log(tmp_path, memory_keys(), after=-1)


def test_keys_are_asked_for_one_purpose_only(tmp_path: Path) -> None:
    keys: MemoryKeys = memory_keys()
    with open_log(tmp_path, keys) as log:
        fill(log, 60)
    assert keys.purposes() == ("log",)
