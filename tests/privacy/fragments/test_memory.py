"""Key memory: locked, wiped, never inherited; and a scan of a whole process that finds no key after shredding."""

import base64
import errno
import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dayfly.privacy.errors import FragmentServiceClosed, InvalidArgument, MemoryNotLocked
from dayfly.privacy.fragments import DestroyReason, ServiceSettings, service
from dayfly.privacy.fragments.cdp.slab import KEY_BYTES, KeySlab, kernel_random

from .shredder import FIRST, FRAGMENTS, SECOND
from .world import NOW_MS, World, order

ROOT = Path(__file__).parents[3]


def counting() -> "functools.partial[None]":
    """A key source that numbers its bytes."""
    state = [0]

    def fill(buffer: memoryview) -> None:
        for place in range(len(buffer)):
            state[0] = state[0] % 251 + 1
            buffer[place] = state[0]

    return functools.partial(fill)


def mappings(pid: int | str) -> Iterator[tuple[int, int]]:
    """Readable and writable mappings of a process."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        span, rights = line.split()[:2]
        if rights.startswith("rw") and "[vvar" not in line:
            low, high = span.split("-")
            yield int(low, 16), int(high, 16)


def occurrences(pid: int, patterns: list[bytes]) -> int:
    """How often the patterns stand in the memory of a process."""
    found = 0
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for low, high in mappings(pid):
            memory.seek(low)
            chunk = memory.read(high - low)
            while len(chunk) < high - low and (more := memory.read(high - low - len(chunk))):
                chunk += more
            found += sum(chunk.count(pattern) for pattern in patterns)
    return found


MARKS = [FIRST.to_bytes(8, "big"), SECOND.to_bytes(8, "big")]


def spellings() -> list[bytes]:
    """Marks as they would look in a file: raw, hexadecimal, base64 in each alignment."""
    found = list(MARKS)
    for mark in MARKS:
        found += [mark.hex().encode(), mark.hex().upper().encode()]
        for shift in range(3):  # eight characters each, so that a random token does not hold them by chance
            text = base64.b64encode(bytes(shift) + mark)
            text = text[4:] if shift == 1 else text[4 if shift else 0 : -4]
            assert len(text) == 8
            found += [text, text.translate(bytes.maketrans(b"+/", b"-_"))]
    return found


@pytest.fixture
def shredder(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.privacy.fragments.shredder", str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()
    process.wait(timeout=30)


def step(process: "subprocess.Popen[str]", *, go_on: bool = True) -> str:
    assert process.stdout is not None
    assert process.stdin is not None
    word = process.stdout.readline().strip()
    if not go_on:
        return word
    process.stdin.write("\n")
    process.stdin.flush()
    return word


def test_after_ten_thousand_shreds_no_key_byte_is_left_in_memory_files_or_logs(
    shredder: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    pid = shredder.pid
    assert step(shredder, go_on=False) == "live"
    assert occurrences(pid, MARKS) == 2 * FRAGMENTS, "while alive, each key stands in exactly one place"
    _answer(shredder)
    assert step(shredder, go_on=False) == f"shredded {FRAGMENTS}"
    assert occurrences(pid, MARKS) == 0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"tombstones.jsonl", "checkpoint", "events.jsonl", "tokens.txt"}
    for path in files:
        content = path.read_bytes()
        assert len(content) > 100
        assert not any(spelling in content for spelling in spellings())
    _answer(shredder)
    assert step(shredder, go_on=False) == "planted 24"
    assert occurrences(pid, MARKS) >= 2, "the scanner must find a planted key"
    _answer(shredder)


def _answer(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_the_file_scanner_finds_every_spelling() -> None:
    key = MARKS[0] + bytes(range(8)) + MARKS[1] + bytes(8)
    for shift in range(3):
        padded = bytes(shift) + key + bytes(3)
        for text in (
            padded,
            padded.hex().encode(),
            base64.b64encode(padded),
            base64.urlsafe_b64encode(padded),
        ):
            assert any(spelling in text for spelling in spellings())


# --- the slab --------------------------------------------------------------------------------------------------------


def test_a_key_is_filled_in_place_and_overwritten_in_place() -> None:
    slab = KeySlab(fill_random=counting(), keys_per_slab=4)
    slot = slab.take()
    view = slab.view(slot)
    assert len(view) == KEY_BYTES
    assert any(view)
    slab.shred(slot)
    assert bytes(view) == bytes(KEY_BYTES)
    with pytest.raises(KeyError):
        slab.view(slot)
    with pytest.raises(KeyError):
        slab.shred(slot)


def test_a_reused_place_has_another_generation_and_another_key() -> None:
    slab = KeySlab(fill_random=counting(), keys_per_slab=1)
    first = slab.take()
    key = bytes(slab.view(first))
    slab.shred(first)
    second = slab.take()
    assert (first.place, second.place, second.generation) == (0, 0, first.generation + 1)
    assert bytes(slab.view(second)) != key
    with pytest.raises(KeyError):
        slab.view(first)


def test_keys_are_distinct_and_the_slab_grows() -> None:
    slab = KeySlab(fill_random=kernel_random(), keys_per_slab=8)
    keys = {bytes(slab.view(slab.take())) for _ in range(100)}
    assert len(keys) == len(slab) == 100
    assert slab._head[: slab._left] != bytes(slab._left)
    assert bytes(slab._head[slab._left : 256]) == bytes(256 - slab._left), (
        "what left the reservoir is overwritten there"
    )


def test_closing_overwrites_everything() -> None:
    slab = KeySlab(fill_random=counting(), keys_per_slab=4)
    view = slab.view(slot := slab.take())
    slab.close()
    assert bytes(view) == bytes(KEY_BYTES)
    for act in (slab.take, lambda: slab.view(slot), lambda: slab.shred(slot)):
        with pytest.raises(FragmentServiceClosed, match="must be open and in its own process"):
            act()


def test_a_source_that_fails_gives_no_slot_away() -> None:
    def broken(buffer: memoryview) -> None:
        raise OSError("no randomness")

    slab = KeySlab(fill_random=broken, keys_per_slab=4)
    with pytest.raises(OSError, match="no randomness"):
        slab.take()
    assert len(slab) == 0


@pytest.mark.parametrize("number", [0, -1])
def test_a_slab_needs_room(number: int) -> None:
    with pytest.raises(InvalidArgument, match=r"keys_per_slab=.* must be > 0"):
        KeySlab(fill_random=counting(), keys_per_slab=number)


def test_refused_locking_is_an_error_that_names_the_way_out() -> None:
    with pytest.raises(MemoryNotLocked, match=r"Cannot allocate memory.*raise RLIMIT_MEMLOCK"):
        KeySlab(fill_random=counting(), mlock=lambda address, length: errno.ENOMEM)


def test_refused_locking_can_be_accepted_but_not_overlooked(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = functools.partial(KeySlab, mlock=lambda address, length: errno.EPERM)
    monkeypatch.setattr(service, "KeySlab", refusing)
    world = World(settings=ServiceSettings(allow_unlocked=True))
    assert world.cdp.memory_locked is False
    assert [event.kind for event in world.events] == ["unlocked"]
    with pytest.raises(MemoryNotLocked):
        World()


def test_growth_that_cannot_be_locked_stops_the_mint_and_not_the_service() -> None:
    allowed = [2]

    def mlock(address: int, length: int) -> int:
        allowed[0] -= 1
        return 0 if allowed[0] >= 0 else errno.ENOMEM

    slab = KeySlab(fill_random=counting(), keys_per_slab=1, mlock=mlock)
    slot = slab.take()
    with pytest.raises(MemoryNotLocked):
        slab.take()
    assert (len(slab), slab.locked) == (1, True)
    slab.shred(slot)
    slab.take()


def test_the_pages_are_locked_and_kept_out_of_dumps_and_children() -> None:
    slab = KeySlab(fill_random=counting(), keys_per_slab=2048)
    slab.view(slab.take())
    address = _address(slab)
    flags = _flags_of(address)
    assert {"lo", "dd", "wf"} <= flags, f"VmFlags of the slab: {flags}"


def _address(slab: KeySlab) -> int:
    import ctypes

    return ctypes.addressof(ctypes.c_char.from_buffer(slab._slabs[0]))


def _flags_of(address: int) -> set[str]:
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        head = line.split()[0]
        if "-" in head and not head.endswith(":"):
            low, high = (int(edge, 16) for edge in head.split("-"))
            inside = low <= address < high
        elif inside and head == "VmFlags:":
            return set(line.split()[1:])
    raise AssertionError(f"no mapping holds {address:#x}")


def test_a_forked_child_finds_zeros_and_a_closed_service() -> None:
    world = World()
    fragment = world.cdp.mint(order(), NOW_MS)
    slab = world.cdp._state.slab
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        told = b"wiped" if not any(bytes(slab._slabs[0])) and not any(bytes(slab._head)) else b"readable"
        try:
            world.cdp.mint(order("o-2"), NOW_MS)
            told += b" open"
        except FragmentServiceClosed:
            told += b" closed"
        os.write(writer, told)
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    assert os.read(reader, 100) == b"wiped closed"
    os.close(reader)
    assert len(world.cdp.shred(fragment.jti, DestroyReason.OPERATOR, NOW_MS)) == 1
