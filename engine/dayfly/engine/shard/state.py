"""The arrays of a shard: made, grown, and handed to the kernels as one `Core`."""

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from dayfly.engine.shard import kernels_layout
from dayfly.engine.shard.compile import Compiled
from dayfly.engine.shard.kernels_core import Core
from dayfly.engine.shard.kernels_handle import empty_handle, fill_handle
from dayfly.engine.shard.kernels_lines import Lines, rehash
from dayfly.engine.shard.kernels_people import VALUE, Ids, rehash_ids
from dayfly.engine.shard.kernels_program import Handle, Program, Rows, World
from dayfly.engine.shard.kernels_strings import Strings, answer_all, index_strings

__all__ = ["Arrays", "Loan", "aligned_rows", "empty_ids"]

Words = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint64]
_Cell = TypeVar("_Cell", bound=np.generic)

_SMALLEST = 1 << 10
_PAGE_WORDS = 512
_SPARE = 16


def aligned_rows(rows: int) -> Words:
    """Zeroed int64[rows, 8] whose rows are whole cache lines, from the start of a page. Untouched pages cost nothing."""
    return _aligned_words(rows * 8).reshape(rows, 8)


def _aligned_words(words: int) -> Words:
    """Zeroed int64[words] from the start of a page."""
    raw = np.zeros(words + _PAGE_WORDS, np.int64)
    skip = (-raw.ctypes.data // 8) % _PAGE_WORDS
    return raw[skip : skip + words]


def _power_of_two(least: int) -> int:
    return 1 << max(least - 1, _SMALLEST - 1).bit_length()


def empty_ids(capacity: int) -> Ids:
    """Keys and values side by side in rows of 32 bytes, so that looking one up touches one cache line."""
    rows = aligned_rows(capacity // 2).reshape(capacity, 4)
    return Ids(rows.view(np.uint64), rows, np.zeros(1, np.int64))


def _lines(capacity: int, arena_words: int) -> Lines:
    table = aligned_rows(capacity)
    return Lines(
        table,
        table.reshape(-1),
        _aligned_words(arena_words),
        np.full(64, -1, np.int64),
        np.zeros(4, np.int64),
    )


def _longer(array: npt.NDArray[_Cell], rows: int) -> npt.NDArray[_Cell]:
    """A copy with room for at least `rows` rows, at least half as many again as now."""
    grown = np.zeros((max(rows, len(array) + len(array) // 2), *array.shape[1:]), array.dtype)
    grown[: len(array)] = array
    return grown


def _copied(array: npt.NDArray[_Cell], rows: int) -> npt.NDArray[_Cell]:
    """A copy of the first rows in an array of the same length."""
    copied = np.zeros_like(array)
    copied[:rows] = array[:rows]
    return copied


def _ahead(program: Program) -> Bits:
    return np.zeros((16, max(int(program.scalars[5]), 1)), np.uint64)


def _matched(program: Program) -> Words:
    most = int((program.type_features[:, 1] - program.type_features[:, 0]).max(initial=0))
    return np.zeros((16, 2 + 2 * most), np.int64)


def _words_per_mask(compiled: Compiled) -> int:
    return len(compiled.mask_groups())


class Loan:
    """Held by whoever reads the history, values, names and texts of a shard where they are, on another thread.

    Rows are added behind those that it reads; `Arrays.own` is called before any of these is changed.
    """

    __slots__ = ("__weakref__",)


def _nobody() -> None:
    """There is no loan."""


@dataclass(slots=True)
class Arrays:
    """Owner of all arrays; `core` is set anew whenever one of them was replaced, and `handle` stands for it.

    Attributes:
        compiled: The policy in force.
        expected_people: Tables are made large enough for so many people at once, so that none has to grow under load.
        seed: Seed of the string table's hash; it has no influence on any decision.
    """

    compiled: Compiled
    expected_people: int = 1_000
    seed: int = 0
    strings: Strings = field(init=False)
    handle: Handle = field(init=False, default_factory=empty_handle)
    _core: Core = field(init=False)
    _loan: Callable[[], Loan | None] = field(init=False, default=_nobody)

    @property
    def core(self) -> Core:
        """All arrays."""
        return self._core

    @core.setter
    def core(self, core: Core) -> None:
        self._core = core
        fill_handle(self.handle, core)

    def __post_init__(self) -> None:
        """Allocate."""
        people = max(self.expected_people, 256)
        # few texts are unlike all others, and a small index stays in the cache
        self.strings = self._empty_strings(max(people // 4, 1_024), 4 * people + 65_536)
        program = self.compiled.program
        tags = int(program.scalars[3])
        control = np.zeros(32, np.int64)
        control[kernels_layout.CLOCK] = -(2**62)
        control[kernels_layout.WAITING] = 2**63 - 1
        control[kernels_layout.UNSETTLED] = -1
        world = World(
            program,
            _lines(3 * people, 32 * people + 1_000_000),
            Rows(np.zeros(64 * people, np.int64), self.strings.bits),
            aligned_rows(_power_of_two(2 * people + 4 * tags)),
            np.zeros(2, np.int64),
            np.zeros(129, np.int64),
            np.zeros((32, 5), np.int64),
            self.handle,
        )
        self.core = Core(
            world,
            empty_ids(_power_of_two(2 * people)),
            empty_ids(_power_of_two(2 * people)),
            np.zeros((people + 16, 8), np.int64),
            np.zeros((people + 16, 2), np.uint64),
            np.zeros((people + 16, _words_per_mask(self.compiled)), np.uint64),
            aligned_rows(8 * people),
            np.zeros((4 * people + 4 * tags, 2), np.int64),
            np.zeros(max(int(program.scalars[4]), 1), np.uint64),
            _matched(program),
            *self._buffers(),
            control,
        )

    def _buffers(self) -> tuple[Words, Words]:
        program = self.compiled.program
        triggers = len(program.triggers) + len(program.tag_triggers)
        emitted = 4_096 + 4 * int(program.scalars[3]) + 4 * triggers
        return np.zeros((emitted, 6), np.int64), np.zeros((64 + 4 * triggers, 4), np.int64)

    def _empty_strings(self, strings: int, text_bytes: int) -> Strings:
        tests = self.compiled.tests
        most = int((tests.ranges[:, 1] - tests.ranges[:, 0]).max(initial=0))
        return Strings(
            np.zeros(_power_of_two(2 * strings), np.uint64),
            np.zeros(strings, np.uint64),
            np.zeros((strings, 3), np.int64),
            np.zeros(text_bytes, np.uint8),
            np.zeros((strings, max(-(-most // 64), 1)), np.uint64),
            np.array([0, 0, self.seed & 0x7FFF_FFFF_FFFF], np.int64),
            _ahead(self.compiled.program),
        )

    # --- lending ------------------------------------------------------------------------------------------------------

    def lend(self) -> Loan:
        """Let somebody read rows that are there now, where they are, for as long as the loan is kept."""
        loan = self._loan()
        if loan is None:
            loan = Loan()
            self._loan = weakref.ref(loan)
        return loan

    def own(self) -> None:
        """Called before rows that are already there are changed: whoever reads them keeps them, and they are copied here."""
        if self._loan() is None:
            return
        self._loan = _nobody
        core, strings = self.core, self.strings
        people, events, values = (
            int(core.control[cell])
            for cell in (kernels_layout.PEOPLE, kernels_layout.EVENTS, kernels_layout.VALUES)
        )
        texts, text_bytes = (int(used) for used in strings.meta[:2])
        history = aligned_rows(len(core.history))
        history[:events] = core.history[:events]
        self.core = core._replace(history=history, names=_copied(core.names, people))
        self._replace_world(rows=core.world.rows._replace(values=_copied(core.world.rows.values, values)))
        self.strings = strings._replace(
            where=_copied(strings.where, texts), text=_copied(strings.text, text_bytes)
        )

    # --- a fresh shard is filled --------------------------------------------------------------------------------------

    def reserve_people(self, people: int, *, ids: int, seen: int) -> None:
        """Make room in empty tables for so many persons, pseudonyms and ids of events."""
        core = self.core
        if len(core.people) < people + _SPARE:
            rows = people + people // 8 + _SPARE
            words = core.masks.shape[1]
            self.core = core._replace(
                people=np.zeros((rows, 8), np.int64),
                names=np.zeros((rows, 2), np.uint64),
                masks=np.zeros((rows, words), np.uint64),
            )
        if len(core.ids.keys) * 3 < ids * 5:
            self.core = self.core._replace(ids=empty_ids(_power_of_two(ids * 5 // 3)))
        if len(core.seen.keys) * 3 < seen * 5:
            self.core = self.core._replace(seen=empty_ids(_power_of_two(seen * 5 // 3)))

    def reserve_events(self, events: int, values: int) -> None:
        """Make room in empty tables for so many events with so many values."""
        if len(self.core.history) < events + _SPARE:
            self.core = self.core._replace(history=aligned_rows(events + events // 4 + _SPARE))
        rows = self.core.world.rows
        if len(rows.values) < values + 1_024:
            self._replace_world(rows=rows._replace(values=np.zeros(values + values // 4 + 1_024, np.int64)))

    def start_lines(self, share: int) -> None:
        """Have the empty table of windows begin with a share of its usual size: how many there will be is about to be seen."""
        assert not self.core.world.lines.meta[0], "only an empty table is replaced"
        self._replace_lines(max(3 * self.expected_people // share, _SMALLEST))

    def reserve_lines(self, count: int, words: int) -> None:
        """Make room for about so many windows with so many words out of line, and at least for the usual number."""
        rows = max(count * 4 // 3, 3 * self.expected_people)
        if rows > len(self.core.world.lines.table):
            self._replace_lines(rows)
        lines = self.core.world.lines
        if words * 5 // 4 > len(lines.arena):
            self._replace_world(lines=lines._replace(arena=_longer(lines.arena, words * 5 // 4)))

    def _replace_lines(self, rows: int) -> None:
        lines = self.core.world.lines
        table = aligned_rows(rows)
        rehash(lines.table, table)
        self._replace_world(lines=lines._replace(table=table, flat=table.reshape(-1)))

    def reserve_members(self, members: int, *, timers: int) -> None:
        """Make room in empty tables for so many memberships and timers."""
        world = self.core.world
        tags = int(world.program.scalars[3])
        if len(world.members) < 2 * (members + tags):
            self._replace_world(members=aligned_rows(2 * (members + tags)))
        if len(self.core.heap) < timers + tags + _SPARE:
            self.core = self.core._replace(heap=np.zeros((2 * timers + 4 * tags + 1_024, 2), np.int64))

    # --- growing ------------------------------------------------------------------------------------------------------

    def has_room_for_strings(self, count: int, text_bytes: int) -> bool:
        """Whether `count` more strings of `text_bytes` in all can be interned into the arrays that are there."""
        strings = self.strings
        needed, needed_bytes = int(strings.meta[0]) + count, int(strings.meta[1]) + text_bytes
        room = needed <= len(strings.hashes) and needed_bytes <= len(strings.text)
        return room and 2 * needed <= len(strings.slots)

    def make_room_for_strings(self, count: int, text_bytes: int) -> None:
        """See to it that `count` more strings of `text_bytes` in all can be interned."""
        if self.has_room_for_strings(count, text_bytes):
            return
        strings = self.strings
        needed, needed_bytes = int(strings.meta[0]) + count, int(strings.meta[1]) + text_bytes
        slots, hashes, where, text, bits = strings[:5]
        if needed > len(hashes):
            hashes, where, bits = _longer(hashes, needed), _longer(where, needed), _longer(bits, needed)
        if needed_bytes > len(text):
            text = _longer(text, needed_bytes)
        if 2 * needed > len(slots):
            slots = np.zeros(_power_of_two(4 * needed), np.uint64)
            index_strings(hashes, int(strings.meta[0]), slots)
        self.strings = Strings(slots, hashes, where, text, bits, strings.meta, strings.ahead)
        if bits is not self.core.world.rows.text_bits:
            self._replace_world(rows=Rows(self.core.world.rows.values, bits))

    def grow(self) -> None:
        """Make every table that could be met full by the next event half as large again, or twice where it is hashed."""
        core, world = self.core, self.core.world
        control, program, lines = core.control, world.program, world.lines
        tags, widest, features = (int(program.scalars[cell]) for cell in (3, 5, 6))
        if control[kernels_layout.EVENTS] + 1 >= len(core.history):
            history = aligned_rows(2 * len(core.history))
            history[: len(core.history)] = core.history
            self.core = self.core._replace(history=history)
        if control[kernels_layout.VALUES] + widest >= len(world.rows.values):
            values = _longer(world.rows.values, int(control[kernels_layout.VALUES]) + widest + 1_024)
            self._replace_world(rows=Rows(values, world.rows.text_bits))
        if control[kernels_layout.PEOPLE] + 2 >= len(core.people):
            rows = int(control[kernels_layout.PEOPLE]) + 16
            people, names, masks = (
                _longer(core.people, rows),
                _longer(core.names, rows),
                _longer(core.masks, rows),
            )
            self.core = self.core._replace(people=people, names=names, masks=masks)
        self._grow_ids()
        if (lines.meta[0] + features) * 20 >= len(lines.table) * 17:
            self._replace_lines((len(lines.table) + features) * 3 // 2)
        slack = features * (4 << max(int(lines.meta[2]), 5))
        if lines.meta[1] + slack >= len(lines.arena):
            arena = _longer(lines.arena, int(lines.meta[1]) + 2 * slack)
            self._replace_world(lines=self.core.world.lines._replace(arena=arena))
        if (world.meta[0] + tags) * 10 >= len(world.members) * 7:
            members = aligned_rows(2 * (int(world.meta[0]) + tags))
            rehash(world.members, members)
            self._replace_world(members=members)
        if control[kernels_layout.HEAP] + tags + 4 >= len(core.heap):
            self._grow_heap()
        if control[kernels_layout.FIRES] + len(program.triggers) + len(program.tag_triggers) >= len(
            core.fired
        ):
            self.core = self.core._replace(fired=_longer(core.fired, 2 * len(core.fired)))

    def _grow_ids(self) -> None:
        core = self.core
        if (core.ids.meta[0] + 2) * 10 >= len(core.ids.keys) * 7:
            grown = empty_ids(2 * len(core.ids.keys))
            rehash_ids(core.ids, grown, -(2**63))
            self.core = self.core._replace(ids=grown)
        if (core.seen.meta[0] + 2) * 10 >= len(core.seen.keys) * 7:
            now = int(core.control[kernels_layout.CLOCK])
            live = int(np.count_nonzero(core.seen.values[:, VALUE] > now))
            kept = empty_ids(_power_of_two(3 * live + 64))
            rehash_ids(core.seen, kept, now + 1)
            self.core = self.core._replace(seen=kept)

    def _grow_heap(self) -> None:
        """Drop timers that were set again since; what is left decides how much room is needed."""
        core = self.core
        live = self.live_timers()
        heap = np.zeros((2 * len(live) + 4 * int(core.world.program.scalars[3]) + 1_024, 2), np.int64)
        heap[: len(live)] = live  # sorted, so it is a heap
        core.control[kernels_layout.HEAP] = len(live)
        self.core = self.core._replace(heap=heap)

    def live_timers(self) -> Words:
        """int64[n, 2]: (instant, key) of all timers that count, in order, each once."""
        core, world = self.core, self.core.world
        heap = core.heap[: int(core.control[kernels_layout.HEAP])]
        tags = (heap[:, 1] & 0xFFFF) > 0
        people = heap[~tags]
        people = people[core.people[people[:, 1] >> 16, kernels_layout.CONSENT_DUE_AT] == people[:, 0]]
        members = world.members[(world.members[:, 0] > 0) & (world.members[:, 3] != 0)]
        armed = np.stack([members[:, 3], members[:, 0]], axis=1)
        both = np.concatenate([people, armed])
        live = both[np.lexsort((both[:, 1], both[:, 0]))]  # five times as fast as np.unique over rows
        fresh = np.ones(len(live), np.bool_)
        np.any(live[1:] != live[:-1], axis=1, out=fresh[1:])
        return np.ascontiguousarray(live[fresh], np.int64)

    def _replace_world(self, **changes: object) -> None:
        world = self.core.world._replace(**changes)  # type: ignore[arg-type]
        self.core = self.core._replace(world=world)

    # --- a new policy ---------------------------------------------------------------------------------------------------

    def swap_program(self, compiled: Compiled) -> None:
        """Put another program in force: windows, memberships, timers and masks start empty, text tests are answered anew."""
        same_catalog = self.compiled.policy.catalog == compiled.policy.catalog
        self.compiled = compiled
        program = compiled.program
        tests = compiled.tests
        most = int((tests.ranges[:, 1] - tests.ranges[:, 0]).max(initial=0))
        bits = np.zeros((len(self.strings.hashes), max(-(-most // 64), 1)), np.uint64)
        self.strings = self.strings._replace(bits=bits, ahead=_ahead(program))
        if same_catalog:  # else the strings are interned anew, field by field
            answer_all(self.strings, tests)
        core, world = self.core, self.core.world
        lines = _lines(len(world.lines.table), len(world.lines.arena))
        members = aligned_rows(_power_of_two(int(world.meta[0]) + 4 * int(program.scalars[3])))
        emitted, fired = self._buffers()
        core.control[[kernels_layout.HEAP, kernels_layout.EMITTED, kernels_layout.FIRES]] = 0
        core.control[kernels_layout.UNSETTLED] = -1
        core.people[:, kernels_layout.CONSENT_DUE_AT] = 0
        self.core = core._replace(
            world=World(
                program,
                lines,
                Rows(world.rows.values, bits),
                members,
                np.zeros(2, np.int64),
                np.zeros(129, np.int64),
                np.zeros((32, 5), np.int64),
                self.handle,
            ),
            masks=np.zeros((len(core.people), _words_per_mask(compiled)), np.uint64),
            heap=np.zeros((len(core.heap) + 4 * int(program.scalars[3]), 2), np.int64),
            marks=np.zeros(max(int(program.scalars[4]), 1), np.uint64),
            matched=_matched(program),
            emitted=emitted,
            fired=fired,
        )
