"""Saved streams: they continue bit for bit, and no crash makes a step come out twice."""

import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.privacy.continual import (
    Participation,
    ParticipationLimiter,
    RunningTotals,
    SlidingTotals,
    SquareRoot,
    Stream,
    StreamFile,
    StreamPlan,
    dump_stream,
    load_stream,
)
from dayfly.privacy.errors import (
    InvalidArgument,
    StreamBusy,
    StreamDamaged,
    StreamInterrupted,
    StreamOrder,
    StreamRolledBack,
)

from .noises import Refusing, SeededNoise

PLAN = StreamPlan.restarts(3, 4, participation=Participation(steps=2, min_separation=2))
KINDS = ["running", "root", "sliding"]


def stream_of(kind: str) -> Stream:
    if kind == "root":
        return RunningTotals(StreamPlan(3, 8, SquareRoot()), Fraction(100, 3), name="root")
    if kind == "sliding":
        return SlidingTotals(PLAN, Fraction(100, 3), 3, name="sliding")
    return RunningTotals(PLAN, Fraction(100, 3), name="running")


def run(stream: Stream, first: int, last: int, noise: SeededNoise) -> list[list[int]]:
    return [
        stream.publish(step, np.array([step, 1, -step]), noise).lattice.tolist()
        for step in range(first, last)
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", range(8))
def test_a_restored_stream_continues_bit_for_bit(kind: str, cut: int) -> None:
    noise, again = SeededNoise(4), SeededNoise(4)
    whole = run(stream_of(kind), 0, 8, noise)
    stream = stream_of(kind)
    first = run(stream, 0, cut, again)
    restored, limiter = load_stream(dump_stream(stream))
    assert first + run(restored, cut, 8, again) == whole
    assert limiter is None
    assert type(restored) is type(stream)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_streams_have_equal_bytes_and_heads(kind: str) -> None:
    streams = [stream_of(kind) for _ in range(2)]
    for stream in streams:
        run(stream, 0, 5, SeededNoise(1))
    first, second = (dump_stream(stream) for stream in streams)
    assert first == second == dump_stream(load_stream(first)[0])
    assert streams[0].head == load_stream(first)[0].head


def test_a_restored_stream_repeats_its_last_step() -> None:
    stream = stream_of("sliding")
    last = run(stream, 0, 6, SeededNoise(1))[-1]
    restored, _ = load_stream(dump_stream(stream))
    noise = SeededNoise(2)
    assert restored.publish(5, np.zeros(3, np.int64), noise).lattice.tolist() == last
    assert noise.draws == 0


def test_a_limiter_is_saved_with_its_stream() -> None:
    limiter = ParticipationLimiter(PLAN.participation)
    limiter.admit(0, np.array([4, 2]))
    _, restored = load_stream(dump_stream(stream_of("running"), limiter=limiter))
    assert restored is not None
    assert restored.admit(1, np.array([2, 3, 4])).tolist() == [False, True, False]


@given(place=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_every_changed_byte_is_found(place: int, flip: int) -> None:
    data = bytearray(dump_stream(stream_of("running")))
    data[place % len(data)] ^= flip
    with pytest.raises(StreamDamaged, match="must"):
        load_stream(bytes(data))


@given(length=st.integers(0, 10_000))
def test_every_truncation_is_found(length: int) -> None:
    data = dump_stream(stream_of("running"))
    with pytest.raises(StreamDamaged, match="must"):
        load_stream(data[: length % len(data)])


def test_a_newer_format_and_a_foreign_file_are_told_apart() -> None:
    data = dump_stream(stream_of("running"))
    with pytest.raises(StreamDamaged, match="it is of a newer format"):
        load_stream(b"DFSTRM02" + data[8:])
    with pytest.raises(StreamDamaged, match="it is no stream"):
        load_stream(b"\x89PNG\r\n\x1a\n" + data[8:])


def publish(file: StreamFile, seed: int = 0) -> list[int]:
    step = file.stream.step
    published = file.publish(step, np.array([step, 1, -step]), SeededNoise(seed))
    return list(map(int, published.lattice))


def test_a_stream_in_a_file_is_the_same_stream(tmp_path: Path) -> None:
    plain, found = stream_of("running"), []
    expected = [
        plain.publish(step, np.array([step, 1, -step]), SeededNoise(step)).lattice.tolist()
        for step in range(8)
    ]
    StreamFile.create(tmp_path / "s", stream_of("running")).close()
    for step in range(8):
        with StreamFile.open(tmp_path / "s", published_steps=step) as file:
            found.append(publish(file, step))
    assert found == expected


def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    with StreamFile.create(tmp_path / "s", stream_of("running")) as file:
        publish(file)
        for path in tmp_path.iterdir():
            assert path.stat().st_mode & 0o777 == 0o600, path


@pytest.mark.parametrize("place", ["os.fsync", "pathlib.Path.replace", "pathlib.Path.unlink"])
def test_a_step_whose_state_did_not_reach_the_disk_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    file = StreamFile.create(tmp_path / "s", stream_of("running"))
    publish(file)
    monkeypatch.setattr(place, fail)
    with pytest.raises(StreamInterrupted, match="must be writable, but No space left on device"):
        publish(file)
    monkeypatch.undo()
    with pytest.raises(StreamInterrupted, match="must be opened again"):
        publish(file)
    file.close()
    with StreamFile.open(tmp_path / "s", published_steps=1) as again:
        assert again.stream.step == 1


def test_a_crash_after_the_rename_repeats_the_same_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = StreamFile.create(tmp_path / "s", stream_of("running"))
    replace, seen = Path.replace, []

    def cut(self: Path, target: Path) -> Path:
        replace(self, target)
        seen.append(load_stream(target.read_bytes())[0].publish(0, np.zeros(3, np.int64), Refusing()))
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", cut)
    with pytest.raises(KeyboardInterrupt):
        publish(file, 1)
    monkeypatch.undo()
    file.close()
    with StreamFile.open(tmp_path / "s") as again:
        assert again.stream.step == 1
        repeated = again.publish(0, np.array([5, 5, 5]), Refusing())
        assert repeated.lattice.tolist() == seen[0].lattice.tolist()


def test_noise_that_fails_closes_the_file_but_loses_nothing(tmp_path: Path) -> None:
    with StreamFile.create(tmp_path / "s", stream_of("running")) as file:
        publish(file)
        with pytest.raises(RuntimeError, match="no entropy"):
            file.publish(1, np.zeros(3, np.int64), Refusing())
        with pytest.raises(StreamInterrupted, match="must be opened again"):
            publish(file)
    with StreamFile.open(tmp_path / "s") as file:
        assert file.stream.step == 1


def test_a_wrong_call_does_not_close_the_file(tmp_path: Path) -> None:
    with StreamFile.create(tmp_path / "s", stream_of("running")) as file:
        with pytest.raises(StreamOrder, match="step=4 must be 0"):
            file.publish(4, np.zeros(3, np.int64), SeededNoise(1))
        with pytest.raises(InvalidArgument, match="increments="):
            file.publish(0, np.zeros(4, np.int64), SeededNoise(1))
        publish(file)


def test_an_older_copy_is_found_out_by_what_was_published(tmp_path: Path) -> None:
    with StreamFile.create(tmp_path / "s", stream_of("running")) as file:
        publish(file)
        older = (tmp_path / "s").read_bytes()
        publish(file)
    (tmp_path / "s").write_bytes(older)
    with pytest.raises(StreamRolledBack, match=r"step=1 of .* must be >= published_steps=2"):
        StreamFile.open(tmp_path / "s", published_steps=2)
    StreamFile.open(tmp_path / "s", published_steps=1).close()


def test_a_stream_is_open_in_one_place_only(tmp_path: Path) -> None:
    with StreamFile.create(tmp_path / "s", stream_of("running")):
        with pytest.raises(StreamBusy, match="must be open in one process only"):
            StreamFile.open(tmp_path / "s")
        with pytest.raises(StreamBusy, match="must be open in one process only"):
            StreamFile.create(tmp_path / "s", stream_of("running"))
    StreamFile.open(tmp_path / "s").close()


def test_a_fork_may_not_publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with StreamFile.create(tmp_path / "s", stream_of("running")) as file:
        monkeypatch.setattr(os, "getpid", lambda: -5)
        with pytest.raises(StreamBusy, match="pid=-5 must be"):
            publish(file)


def test_a_closed_file_publishes_nothing(tmp_path: Path) -> None:
    file = StreamFile.create(tmp_path / "s", stream_of("running"))
    file.close()
    file.close()
    with pytest.raises(StreamInterrupted, match="must be opened again"):
        publish(file)


def test_creating_is_refused_where_a_file_is_or_something_was_published(tmp_path: Path) -> None:
    StreamFile.create(tmp_path / "s", stream_of("running")).close()
    with pytest.raises(InvalidArgument, match="must be free"):
        StreamFile.create(tmp_path / "s", stream_of("running"))
    started = stream_of("running")
    run(started, 0, 1, SeededNoise(1))
    with pytest.raises(InvalidArgument, match="step=1 must be 0"):
        StreamFile.create(tmp_path / "t", started)
    other = ParticipationLimiter(Participation(steps=9))
    with pytest.raises(InvalidArgument, match=r"limiter=.* must have the plan's bounds"):
        StreamFile.create(tmp_path / "t", stream_of("running"), limiter=other)
    with pytest.raises(StreamInterrupted, match="must be within reach"):
        StreamFile.create(tmp_path / "none" / "t", stream_of("running"))


def test_opening_what_is_not_there_or_damaged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StreamDamaged, match="must be a saved stream; make one"):
        StreamFile.open(tmp_path / "s")
    (tmp_path / "s").write_bytes(b"")
    for _ in range(2):
        with pytest.raises(StreamDamaged, match="it is no stream"):
            StreamFile.open(tmp_path / "s")


def test_who_took_part_is_saved_with_the_step(tmp_path: Path) -> None:
    limiter = ParticipationLimiter(PLAN.participation)
    with StreamFile.create(tmp_path / "s", stream_of("running"), limiter=limiter) as file:
        assert file.admit(np.array([8])).tolist() == [True]
    with StreamFile.open(tmp_path / "s") as file:  # nothing was published, so nothing was used
        assert file.admit(np.array([8])).tolist() == [True]
        publish(file)
    with StreamFile.open(tmp_path / "s") as file:
        assert file.admit(np.array([8, 9])).tolist() == [False, True]
    with (
        StreamFile.create(tmp_path / "t", stream_of("running")) as file,
        pytest.raises(InvalidArgument, match="limiter=None must be given"),
    ):
        file.admit(np.array([8]))


CHILD = """
import sys
from pathlib import Path
import numpy as np
from dayfly.privacy.continual import StreamFile
class Noise:
    def gaussian(self, values, scale, *, l2_squared=1):
        return values + np.random.default_rng().integers(-10**6, 10**6, values.shape)
with StreamFile.open(Path(sys.argv[1])) as file:
    first = max(0, file.stream.step - 1)
    for step in range(first, 400):
        published = file.publish(step, np.array([1, 2, 3]), Noise())
        print(step, published.head.hex(), *published.lattice, flush=True)
"""


def storm(folder: Path, kills: int) -> None:
    path = folder / "s"
    StreamFile.create(path, RunningTotals(StreamPlan.running(3, 400), Fraction(100))).close()
    seen: dict[str, str] = {}
    generator = np.random.default_rng(8)
    for kill in range(kills + 1):
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            lines = [child.stdout.readline()]
            if kill < kills:
                time.sleep(generator.uniform(0, 0.03))
                child.send_signal(signal.SIGKILL)
            lines += child.stdout.readlines()
        for line in filter(lambda text: text.endswith("\n"), lines):
            step, release = line.split(" ", 1)
            assert seen.setdefault(step, release) == release
    assert sorted(map(int, seen)) == list(range(400))


def test_a_publisher_that_is_killed_never_shows_a_step_in_two_ways(tmp_path: Path) -> None:
    storm(tmp_path, 1)


@pytest.mark.slow
def test_a_publisher_that_is_killed_often_never_shows_a_step_in_two_ways(tmp_path: Path) -> None:
    storm(tmp_path, 12)
