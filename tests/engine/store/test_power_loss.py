"""Power may go at any moment: recovery hands back all that was acknowledged and nothing that was not appended."""

import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from dayfly.engine.store import Log, LogSettings, Snapshots

from .simulated import Event, SimulatedDisk, SimulatedKeys, State, after_power_loss, marks, ways

FOLDER = Path("store/log")
TENANT = bytes(range(16))
SMALL = LogSettings(segment_bytes=32_768, align_bytes=512, max_commit_bytes=6_000, retry_seconds=0.01)


def payload(position: int, size: int) -> bytes:
    return random.Random(position).randbytes(size)


@dataclass(frozen=True)
class Run:
    """What a run left: the disk's record, and every payload by position."""

    start: State
    record: list[Event]
    payloads: dict[int, bytes]


def open_log(disk: SimulatedDisk, *, after: int = 0, settings: LogSettings = SMALL) -> Log:
    chance = random.Random(len(disk.start.content) + 1_000 * disk.start.next_key)
    return Log.open(
        FOLDER,
        SimulatedKeys(disk),
        tenant=TENANT,
        after=after,
        settings=settings,
        disk=disk,
        random_bytes=chance.randbytes,
    )


def write_some(disk: SimulatedDisk, seed: int, frames: int, *, settings: LogSettings, after: int = 0) -> Run:
    """Append frames of all sizes, now and then waiting, turning and forgetting."""
    chance = random.Random(seed)
    payloads: dict[int, bytes] = {}
    with open_log(disk, after=after, settings=settings) as log:
        log.on_durable(disk.mark)
        for _ in range(frames):
            size = chance.choice((0, 1, 40, 440, 600, 3_000, 9_000))
            data = payload(log.newest + 1, size)
            payloads[log.append(size % 7, data)] = data
            if chance.random() < 0.5:
                log.wait(log.newest)
            if chance.random() < 0.08:
                snapshot = log.turn() if chance.random() < 0.5 else log.durable
                disk.mark(snapshot, "snapshot")
                log.truncate_before(snapshot + 1)
    return Run(disk.start, list(disk.record), payloads)


def check_recovery(state: State, run: Run, seen: list[Event], *, settings: LogSettings) -> SimulatedDisk:
    """Open what the loss of power left, and compare with what had been acknowledged by then."""
    after = max(marks(seen, "snapshot"), default=0)
    acknowledged = max(marks(seen), default=0)
    disk = SimulatedDisk(state)
    with open_log(disk, after=after, settings=settings) as log:
        frames = list(log.frames(after))
        assert [frame.position for frame in frames] == list(range(after + 1, log.durable + 1))
        assert log.durable >= acknowledged
        assert all(frame.payload == run.payloads[frame.position] for frame in frames)
        assert all(frame.kind == len(frame.payload) % 7 for frame in frames)
        position = log.append(9, b"after the loss")
        log.wait(position)
        assert position == frames[-1].position + 1 if frames else after + 1
    return disk


def lose_power_everywhere(seed: int, frames: int, settings: LogSettings, step: int) -> int:
    run = write_some(SimulatedDisk(), seed, frames, settings=settings)
    count = 0
    for end in range(seed % step, len(run.record) + 1, step):
        for choose in ways(seed + end).values():
            state = after_power_loss(run.start, run.record[:end], choose)
            check_recovery(state, run, run.record[:end], settings=settings)
            count += 1
    return count


@pytest.mark.parametrize("align_bytes", [512, 4096])
def test_power_lost_at_any_moment_loses_nothing_acknowledged(align_bytes: int) -> None:
    settings = LogSettings(
        segment_bytes=32_768, align_bytes=align_bytes, max_commit_bytes=6_000, retry_seconds=0.01
    )
    assert lose_power_everywhere(align_bytes, 60, settings, step=5) > 100


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_power_lost_at_every_moment_of_many_runs_loses_nothing_acknowledged(seed: int) -> None:
    settings = LogSettings(
        segment_bytes=32_768,
        align_bytes=512 if seed % 2 else 4096,
        max_commit_bytes=6_000,
        spare_segments=seed % 3,
        retry_seconds=0.01,
    )
    lose_power_everywhere(seed, 90, settings, step=1)


def test_power_lost_again_while_recovering_loses_nothing_acknowledged() -> None:
    run = write_some(SimulatedDisk(), 3, 60, settings=SMALL)
    chance = random.Random(4)
    for _ in range(25):
        seen = run.record[: chance.randrange(len(run.record))]
        torn = after_power_loss(run.start, seen, lambda: chance.random() < 0.7)
        again = check_recovery(torn, run, seen, settings=SMALL)
        recovered = [event for event in again.record if event.what != "mark"]
        for end in range(0, len(recovered), 3):
            state = after_power_loss(torn, recovered[:end], lambda: chance.random() < 0.5)
            known = Run(
                run.start, run.record, run.payloads | {len(run.payloads) + 1: b""}
            )  # what is written after the first loss may be there
            check_twice(state, known, seen)


def check_twice(state: State, run: Run, seen: list[Event]) -> None:
    after = max(marks(seen, "snapshot"), default=0)
    acknowledged = max(marks(seen), default=0)
    with open_log(SimulatedDisk(state), after=after) as log:
        frames = list(log.frames(after))
        assert log.durable >= acknowledged
        for frame in frames:
            assert frame.payload in {run.payloads.get(frame.position), b"after the loss"}


def test_power_lost_while_a_snapshot_is_written_leaves_the_one_before_or_the_new_one() -> None:
    folder = Path("store/snapshots")
    disk = SimulatedDisk()
    chance = random.Random(5)
    old, new = chance.randbytes(150_000), chance.randbytes(180_000)
    snapshots = Snapshots(folder, SimulatedKeys(disk), tenant=TENANT, chunk_bytes=1 << 16, disk=disk)
    snapshots.write(5, {"state": old, "host": b""})
    begun = len(disk.record)
    snapshots.write(9, {"state": new, "host": b"x"}, verify=True)
    disk.mark(9)
    snapshots.drop_before(9)
    for end in range(begun, len(disk.record) + 1):
        for choose in ways(end).values():
            later = SimulatedDisk(after_power_loss(disk.start, disk.record[:end], choose))
            found = Snapshots(folder, SimulatedKeys(later), tenant=TENANT, disk=later).newest()
            assert found is not None
            position, parts = found
            assert parts == ({"state": old, "host": b""} if position == 5 else {"state": new, "host": b"x"})
            assert position == 9 or not marks(disk.record[:end])
