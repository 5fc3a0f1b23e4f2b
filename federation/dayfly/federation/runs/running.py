"""Runs of a plan: over any grid, and in one process."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from dayfly.federation.accounting import ReleaseBudget
from dayfly.federation.errors import InvalidSetting
from dayfly.federation.grid import DEAD_AFTER_SECONDS, Grid
from dayfly.federation.identity import Identities, SigningIdentity
from dayfly.federation.journal import Journal, JournaledGrid
from dayfly.federation.local import LocalGrid
from dayfly.federation.runs.data import ChannelData
from dayfly.federation.runs.seats import (
    Chair,
    MemoryShelf,
    Outcome,
    Progress,
    Seat,
    protocol_named,
)
from dayfly.federation.wire import SERVER, Caller
from dayfly.privacy.noise import NoiseSource

__all__ = ["LocalFederation", "Plan", "coordinate"]

_KEY_BYTES: Final = 32
_RUN_BYTES: Final = 16


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is to be run.

    Attributes:
        protocol: Its name.
        settings: Its own.
        channels: Who takes part; by default all that are registered.
        hours: The run is over after so long, whatever happened.
        return_within_seconds: A channel that is lost is waited for so long; 0 where the protocol goes on without it.
        alignment: Name of the run whose rows are trained on, at the same server; fills in the settings `alignment`, `universe` and `purpose`.
        most_seconds: A channel that shows life but has not answered a message for so long is lost.
    """

    protocol: str
    settings: dict[str, Any]
    channels: tuple[str, ...] | None = None
    hours: float = 24.0
    return_within_seconds: float = 0.0
    most_seconds: float = 300.0
    alignment: str | None = None


def coordinate(
    plan: Plan,
    grid: Grid,
    *,
    identity: SigningIdentity,
    identities: Identities,
    journal: Journal,
    began_ms: int,
    random_bytes: Callable[[int], bytes],
    noise: NoiseSource,
    now_ms: Callable[[], int],
    shown: Callable[[Progress], object],
) -> Outcome:
    """Run a plan, or go on with it where its journal ends.

    Raises:
        FederationError: as the protocol says.
        JournalDiverged: the plan, the channels or the version are not those that the run began with.
    """
    journaled = JournaledGrid(grid, journal, return_within_seconds=plan.return_within_seconds)
    caller = Caller(journaled, identity, identities, run=journal.head.run, timeout_seconds=DEAD_AFTER_SECONDS)
    return protocol_named(plan.protocol).coordinate(
        Chair(
            caller=caller,
            settings=plan.settings,
            began_ms=began_ms,
            random_bytes=journaled.random_bytes(random_bytes),
            noise=journaled.noise(noise),
            now_ms=journaled.clock(now_ms),
            shown=shown,
        )
    )


class LocalFederation:
    """Channels in this process: the same parties and coordinators as deployed ones, without Flower and without journals.

    Args:
        channels: Their tables.
        budgets: Channel to where it pays.
        random_bytes: Where chance comes from.
        noise: Where noise comes from.
        now_ms: The clock.
    """

    def __init__(
        self,
        channels: Sequence[ChannelData],
        *,
        budgets: Mapping[str, ReleaseBudget],
        random_bytes: Callable[[int], bytes],
        noise: NoiseSource,
        now_ms: Callable[[], int],
    ) -> None:
        self._channels: Final = {data.party: data for data in channels}
        self._budgets: Final = budgets
        self._random_bytes: Final = random_bytes
        self._noise: Final = noise
        self._now_ms: Final = now_ms
        self._keys: Final = {
            name: SigningIdentity(name, random_bytes(_KEY_BYTES)) for name in (*self._channels, SERVER)
        }
        self._identities: Final = Identities({name: key.public_key for name, key in self._keys.items()})
        self._shelves: Final = {name: MemoryShelf() for name in self._channels}
        self.messages: Mapping[str, int] = {}
        """Of the last run, per channel."""

    def run(self, plan: Plan, *, shown: Callable[[Progress], object] = lambda _: None) -> Outcome:
        """Run a plan.

        Args:
            plan: What.
            shown: Told each step.

        Raises:
            InvalidSetting: a channel is not of this federation.
            FederationError: as the protocol says.
        """
        names = plan.channels or tuple(self._channels)
        unknown = sorted(set(names) - set(self._channels))
        if unknown:
            raise InvalidSetting(
                f"channels={unknown} must be among {sorted(self._channels)}; correct the plan"
            )
        protocol, run = protocol_named(plan.protocol), self._random_bytes(_RUN_BYTES)
        terms = protocol.terms(plan.settings)
        began_ms = self._now_ms()
        grid = LocalGrid([protocol.party(self._seat(name, run, terms, began_ms)) for name in names])
        caller = Caller(grid, self._keys[SERVER], self._identities, run=run)
        try:
            return protocol.coordinate(
                Chair(
                    caller,
                    plan.settings,
                    began_ms,
                    self._random_bytes,
                    self._noise,
                    self._now_ms,
                    shown,
                )
            )
        finally:
            self.messages = dict(grid.messages)

    def _seat(self, name: str, run: bytes, terms: bytes, began_ms: int) -> Seat:
        return Seat(
            identity=self._keys[name],
            identities=self._identities,
            run=run,
            data=self._channels[name],
            terms=terms,
            random_bytes=self._random_bytes,
            noise=self._noise,
            now_ms=self._now_ms,
            budget=self._budgets[name],
            began_ms=began_ms,
            shelf=self._shelves[name],
        )
