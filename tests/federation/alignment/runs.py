"""Alignments in one process."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

from dayfly.federation.accounting import TrialBudget
from dayfly.federation.alignment import (
    AlignmentParty,
    AlignmentReport,
    AlignmentSettings,
    Customers,
    Rows,
    align,
)
from dayfly.federation.identity import Identities, SigningIdentity
from dayfly.federation.local import Fault, LocalGrid
from dayfly.federation.wire import SERVER, Caller
from dayfly.privacy.consent import ConsentRecord, ConsentRequest, ConsentState, PersonConsents, Scope, Terms
from dayfly.privacy.noise import OpenDpNoise

NOW_MS = 1_700_000_000_000
HOUR_MS = 3_600_000
PURPOSE = "joint-model"
REQUEST = ConsentRequest(PURPOSE, recipient_country="DE")
EVERYWHERE = Scope(
    purposes=(PURPOSE,),
    topics=("*",),
    data_categories=("*",),
    recipients=("*",),
    channels=("*",),
    recipient_countries=("DE",),
)


def digest(*parts: object) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()


def stream(*seed: object) -> Callable[[int], bytes]:
    """Test randomness: the same seed gives the same bytes."""
    number = 0

    def draw(size: int) -> bytes:
        nonlocal number
        number += 1
        return hashlib.shake_256(repr((seed, number)).encode()).digest(size)

    return draw


def consenting(
    subject: str = "p", *, until_ms: int = NOW_MS + 10 * HOUR_MS, scope: Scope = EVERYWHERE
) -> PersonConsents:
    """A person who said yes a minute ago."""
    record = ConsentRecord(
        record_id=f"r-{subject}",
        principal=subject,
        state=ConsentState.GIVEN,
        time_ms=NOW_MS - 60_000,
        valid_from_ms=NOW_MS - 60_000,
        valid_until_ms=until_ms,
        scope=scope,
        terms=Terms(jurisdiction="DE"),
    )
    return PersonConsents(subject).with_record(record)


YES = consenting()


def settings_of(names: Sequence[str], **changes: Any) -> AlignmentSettings:
    """Little padding, so that runs are short."""
    given = {
        "channels": tuple(names),
        "purpose": PURPOSE,
        "kind": "id",
        "expires_ms": NOW_MS + HOUR_MS,
        "epsilon": (30, 1),
        "delta": (1, 2),
    }
    return AlignmentSettings(**{**given, **changes})


@dataclass
class Run:
    """Channels, their grid and the coordinator."""

    settings: AlignmentSettings
    parties: dict[str, AlignmentParty]
    grid: LocalGrid
    caller: Caller
    budgets: dict[str, TrialBudget]
    keys: dict[str, SigningIdentity]
    identities: Identities
    report: AlignmentReport | None = None
    steps: list[tuple[str, int, int]] = field(default_factory=list)

    def align(self, *, seed: object = 0, now_ms: int = NOW_MS, noise: Any = None) -> AlignmentReport:
        self.report = align(
            self.caller,
            self.settings,
            random_bytes=stream("server", seed),
            noise=noise or OpenDpNoise(),
            now_ms=now_ms,
            progress=lambda *step: self.steps.append(step),
        )
        return self.report

    @property
    def rows(self) -> dict[str, Rows]:
        return {name: party.rows for name, party in self.parties.items()}


def run_of(
    sets: Mapping[str, Sequence[str]],
    *,
    persons: Mapping[str, Sequence[PersonConsents | None]] | None = None,
    faults: Mapping[tuple[str, int], Fault] | None = None,
    seed: object = 0,
    run: bytes = digest("run")[:16],
    executor: Executor | None = None,
    parties: Mapping[str, type[AlignmentParty]] | None = None,
    noise: Any = None,
    **changes: Any,
) -> Run:
    names = sorted(sets)
    settings = settings_of(names, **changes)
    keys = {name: SigningIdentity(name, digest("node", name)) for name in (*names, SERVER)}
    identities = Identities({name: key.public_key for name, key in keys.items()})
    budgets = {name: TrialBudget() for name in names}
    made = {}
    for name in names:
        held = (persons or {}).get(name, [YES] * len(sets[name]))
        customers = Customers.of(name, sets[name], held, REQUEST, kind=settings.kind)
        made[name] = (parties or {}).get(name, AlignmentParty)(
            keys[name],
            identities,
            customers,
            run=run,
            random_bytes=stream(name, seed),
            noise=noise or OpenDpNoise(),
            budget=budgets[name],
            now_ms=NOW_MS,
            executor=executor,
        )
    grid = LocalGrid(made.values(), faults=faults, keep_replies=True)
    return Run(
        settings, made, grid, Caller(grid, keys[SERVER], identities, run=run), budgets, keys, identities
    )
