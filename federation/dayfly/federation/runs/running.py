"""Runs of a plan: over any grid, and in one process."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from dayfly.federation.accounting import ReleaseBudget
from dayfly.federation.grid import DEAD_AFTER_SECONDS, Grid
from dayfly.federation.identity import Identities, SigningIdentity
from dayfly.federation.journal import Journal, JournaledGrid
from dayfly.federation.local import LocalGrid
from dayfly.federation.runs.data import ChannelData
from dayfly.federation.runs.seats import Chair, Outcome, Progress, Seat, protocol_named
from dayfly.federation.wire import SERVER, Caller
from dayfly.privacy.noise import NoiseSource

__all__ = ["Plan", "coordinate", "run_locally"]

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
        most_seconds: A channel that shows life but has not answered a message for so long is lost.
    """

    protocol: str
    settings: dict[str, Any]
    channels: tuple[str, ...] | None = None
    hours: float = 24.0
    return_within_seconds: float = 0.0
    most_seconds: float = 300.0


def coordinate(
    plan: Plan,
    grid: Grid,
    *,
    identity: SigningIdentity,
    identities: Identities,
    journal: Journal,
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
            random_bytes=journaled.random_bytes(random_bytes),
            noise=journaled.noise(noise),
            now_ms=journaled.clock(now_ms),
            shown=shown,
        )
    )


def run_locally(
    plan: Plan,
    channels: Sequence[ChannelData],
    *,
    budgets: Mapping[str, ReleaseBudget],
    random_bytes: Callable[[int], bytes],
    noise: NoiseSource,
    now_ms: Callable[[], int],
    shown: Callable[[Progress], object] = lambda _: None,
) -> Outcome:
    """Run a plan in this process: the same parties and coordinator, without Flower and without a journal.

    Args:
        plan: What.
        channels: The channels' tables.
        budgets: Channel to where it pays.
        random_bytes: Where chance comes from.
        noise: Where noise comes from.
        now_ms: The clock.
        shown: Told each step.

    Raises:
        FederationError: as the protocol says.
    """
    keys = {name: SigningIdentity(name, random_bytes(_KEY_BYTES)) for name in (*budgets, SERVER)}
    identities = Identities({name: key.public_key for name, key in keys.items()})
    protocol, run = protocol_named(plan.protocol), random_bytes(_RUN_BYTES)
    terms = protocol.terms(plan.settings)
    parties = [
        protocol.party(
            Seat(
                identity=keys[data.party],
                identities=identities,
                run=run,
                data=data,
                terms=terms,
                random_bytes=random_bytes,
                noise=noise,
                now_ms=now_ms,
                budget=budgets[data.party],
            )
        )
        for data in channels
        if plan.channels is None or data.party in plan.channels
    ]
    caller = Caller(LocalGrid(parties), keys[SERVER], identities, run=run)
    return protocol.coordinate(Chair(caller, plan.settings, random_bytes, noise, now_ms, shown))
