"""The slot store against a dictionary, through restarts and power cuts at any step."""

import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dayfly.privacy.errors import KeyDestroyed, UnknownKey
from dayfly.privacy.keys import MemoryKeys, SlotKeys

from .support import (
    NOW_MS,
    PowerFile,
    draw,
    files_holding,
    new_slots,
    open_slots,
    options,
    ring,
    wrapped_forms,
)

PURPOSES = st.sampled_from(["log", "snapshot", "lineage", "dead", "backup"])


class SlotMachine(RuleBasedStateMachine):
    """Every operation on a store in a folder and on a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.path = Path(self.folder.name)
        self.live: dict[int, tuple[str, bytes]] = {}
        self.gone: dict[int, tuple[str, bytes, bytes]] = {}
        self.kek = 1

    def keks(self) -> Any:
        return ring(*range(1, self.kek + 1))

    @initialize()
    def begin(self) -> None:
        self.slots = new_slots(self.path, self.keks())

    @rule(purpose=PURPOSES)
    def create(self, purpose: str) -> None:
        key_id, key = self.slots.create(purpose)
        assert key_id not in self.live
        assert key_id not in self.gone
        self.live[key_id] = purpose, key

    @rule(data=st.data())
    def destroy(self, data: st.DataObject) -> None:
        if not (self.live or self.gone):
            return
        ids = data.draw(st.lists(st.sampled_from(sorted([*self.live, *self.gone])), max_size=4))
        fresh = [key_id for key_id in set(ids) if key_id in self.live]
        wrapped = dict(zip(fresh, wrapped_forms(self.slots, fresh), strict=True))
        self.slots.destroy(ids)
        for key_id in fresh:
            purpose, key = self.live.pop(key_id)
            self.gone[key_id] = purpose, key, wrapped[key_id]

    @rule()
    def reopen(self) -> None:
        self.slots.close()
        self.slots = open_slots(self.path, self.keks())

    @rule()
    def rotate(self) -> None:
        self.kek += 1
        self.slots.rewrap(self.keks())
        assert self.slots.keks_in_use() == (self.kek,)

    @rule(key_id=st.integers(1_000_000, 2_000_000))
    def ask_for_a_stranger(self, key_id: int) -> None:
        with pytest.raises(UnknownKey, match="must have been created here"):
            self.slots.get(key_id)

    @invariant()
    def equals_the_dictionary(self) -> None:
        for key_id, (_, key) in self.live.items():
            assert self.slots.get(key_id) == key
        for key_id in self.gone:
            with pytest.raises(KeyDestroyed, match=f"key_id={key_id} purpose='{self.gone[key_id][0]}'"):
                self.slots.get(key_id)
        purposes = {purpose for purpose, _ in self.live.values()}
        assert self.slots.purposes() == tuple(sorted(purposes))
        for purpose in purposes:
            assert self.slots.live(purpose) == tuple(
                sorted(key_id for key_id, (name, _) in self.live.items() if name == purpose)
            )

    def teardown(self) -> None:
        self.slots.close()
        plain = [key for _, key in self.live.values()]
        dead = [form for _, key, wrapped in self.gone.values() for form in (key, wrapped)]
        assert files_holding(self.path, plain + dead) == []
        self.folder.cleanup()


TestSlotMachine = SlotMachine.TestCase
TestSlotMachine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


class MemoryMachine(RuleBasedStateMachine):
    """The store in memory against the store in a folder: same ids, same answers."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.slots = new_slots(Path(self.folder.name))
        self.memory = MemoryKeys(random_bytes=draw(1), now_ms=lambda: NOW_MS)
        self.ids: list[tuple[int, int]] = []

    @rule(purpose=PURPOSES)
    def create(self, purpose: str) -> None:
        self.ids.append((self.slots.create(purpose)[0], self.memory.create(purpose)[0]))

    @rule(choice=st.lists(st.integers(0, 50), max_size=3))
    def destroy(self, choice: list[int]) -> None:
        chosen = [self.ids[one % len(self.ids)] for one in choice if self.ids]
        self.slots.destroy(slot_id for slot_id, _ in chosen)
        self.memory.destroy(memory_id for _, memory_id in chosen)

    @invariant()
    def agree(self) -> None:
        assert self.memory.purposes() == self.slots.purposes()
        twin = dict(self.ids)
        for purpose in self.slots.purposes():
            assert self.memory.live(purpose) == tuple(twin[one] for one in self.slots.live(purpose))

    def teardown(self) -> None:
        self.slots.close()
        self.folder.cleanup()


TestMemoryMachine = MemoryMachine.TestCase
TestMemoryMachine.settings = settings(max_examples=10, stateful_step_count=20, deadline=None)


class PowerCut(Exception):  # noqa: N818 - not an error of ours
    """The power went."""


class Storm:
    """Operations on a store whose disk loses power at a chosen step, and what was acknowledged by then."""

    def __init__(self, files: tuple[bytes, bytes], state: "Storm | None", cut_after: int) -> None:
        self.live: dict[int, bytes] = dict(state.live) if state else {}
        self.dying: dict[int, bytes] = {}
        self.dead: dict[int, tuple[bytes, bytes]] = dict(state.dead) if state else {}
        self.kek: int = state.kek if state else 1
        self.steps = cut_after
        self.file, self.record = PowerFile("keys.slots", files[0]), PowerFile("keys.destroyed", files[1])
        self.file.on_step = self.record.on_step = self.step

    def step(self) -> None:
        self.steps -= 1
        if self.steps < 0:
            raise PowerCut

    def run(self, chance: random.Random) -> None:
        """Work until the power goes; what a finished call promised is in `live` and `dead`."""
        slots = SlotKeys(self.file, self.record, ring(*range(1, self.kek + 1)), **options())
        for key_id in [one for one in self.live if one not in slots._live]:
            raise AssertionError(f"acknowledged key {key_id} is gone")
        while True:
            what = chance.random()
            if what < 0.5 or not self.live:
                key_id, key = slots.create("log")
                assert key_id not in self.live
                assert key_id not in self.dead
                self.live[key_id] = key
            elif what < 0.9:
                chosen = chance.sample(sorted(self.live), chance.randint(1, min(4, len(self.live))))
                forms = dict(zip(chosen, wrapped_forms(slots, chosen), strict=True))
                self.dying = {one: self.live.pop(one) for one in chosen}
                slots.destroy(chosen)
                self.dead |= {one: (key, forms[one]) for one, key in self.dying.items()}
                self.dying = {}
            else:
                self.kek += 1
                slots.rewrap(ring(*range(1, self.kek + 1)))


def weather_storms(seed: int, cuts: int) -> int:
    """Cut the power again and again on one store; returns how many promises were checked."""
    chance = random.Random(seed)
    with TemporaryDirectory() as name:
        new_slots(Path(name)).close()
        files = tuple((Path(name) / one).read_bytes() for one in ("keys.slots", "keys.destroyed"))
    state: Storm | None = None
    checked = 0
    for _ in range(cuts):
        storm = Storm((files[0], files[1]), state, chance.randint(0, 60))
        with pytest.raises(PowerCut):
            storm.run(chance)
        crashed = files = storm.file.after_power_loss(chance), storm.record.after_power_loss(chance)
        after = SlotKeys(
            PowerFile("keys.slots", files[0]),
            PowerFile("keys.destroyed", files[1]),
            ring(*range(1, storm.kek + 1)),
            **options(),
        )
        for key_id, key in storm.live.items():
            assert after.get(key_id) == key
        for key_id, key in storm.dying.items():  # either, but never something else
            try:
                assert after.get(key_id) == key
            except KeyDestroyed:
                pass
            else:
                storm.live[key_id] = key
        for key_id in storm.dead:
            with pytest.raises(KeyDestroyed, match="purpose='log'"):
                after.get(key_id)
        disk = bytes(after._slots._file.durable) + bytes(after._record._file.durable)  # type: ignore[attr-defined]
        assert not [one for one, forms in storm.dead.items() if any(form in disk for form in forms)]
        checked += len(storm.live) + len(storm.dead)
        files = (
            bytes(after._slots._file.durable),  # type: ignore[attr-defined]
            bytes(after._record._file.durable),  # type: ignore[attr-defined]
        )
        if chance.random() < 0.4:  # so that the next cut may hit the recovery itself
            files = crashed
        state = storm
    return checked


@pytest.mark.parametrize("step", range(9))
def test_a_power_cut_while_the_file_grows_breaks_no_promise(tmp_path: Path, step: int) -> None:
    new_slots(tmp_path).close()
    names = ("keys.slots", "keys.destroyed")
    full = [PowerFile(name, (tmp_path / name).read_bytes()) for name in names]
    slots = SlotKeys(full[0], full[1], ring(), **options())
    made = dict(slots.create("log") for _ in range(255))
    for seed in range(15):
        storm = Storm((bytes(full[0].durable), bytes(full[1].durable)), None, step)
        with pytest.raises(PowerCut):
            storm.run(random.Random(seed))  # nothing is live for it, so it creates first
        chance = random.Random(1_000 + seed)
        files = [
            PowerFile(name, file.after_power_loss(chance))
            for name, file in zip(names, (storm.file, storm.record), strict=True)
        ]
        after = SlotKeys(files[0], files[1], ring(*range(1, storm.kek + 1)), **options())
        assert {key_id: after.get(key_id) for key_id in made} == made
        assert {key_id: after.get(key_id) for key_id in storm.live} == storm.live


@pytest.mark.parametrize("seed", range(6))
def test_a_power_cut_at_any_step_breaks_no_promise(seed: int) -> None:
    assert weather_storms(seed, cuts=25) > 100


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 140))
def test_many_power_cuts_at_any_step_break_no_promise(seed: int) -> None:
    assert weather_storms(seed, cuts=120) > 1_000
