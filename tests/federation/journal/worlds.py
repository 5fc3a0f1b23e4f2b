"""A federation whose processes can be killed at any write to a journal, in one process or in several."""

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dayfly.federation.accounting import LedgerBudget
from dayfly.federation.deployed.service import ChannelService
from dayfly.federation.grid import DEAD_AFTER_SECONDS, Failure
from dayfly.federation.identity import Identities, SigningIdentity
from dayfly.federation.journal import Journal, JournalHead
from dayfly.federation.runs import (
    ChannelData,
    ConsentColumn,
    DataSettings,
    Outcome,
    Plan,
    Ticket,
    Tickets,
    coordinate,
    protocol_named,
)
from dayfly.federation.wire import SERVER
from dayfly.privacy.errors import DayflyError
from dayfly.privacy.ledger import Account, Ledger, Limit
from dayfly.privacy.noise import OpenDpNoise

CHANNELS = ("app", "shop", "wifi")
NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000


def digest(*parts: object) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()


class Killed(BaseException):
    """Stands for `kill -9`: no handler of ours may catch it."""


class Deadly:
    """Counts writes to journals, and kills at one of them: before it, or after it.

    Args: number from 1, or 0 for never; whether the write is still made; what kills.
    """

    def __init__(self, at: int = 0, *, written: bool = False, kill: Callable[[], None] | None = None) -> None:
        self.count = 0
        self.at = at
        self.written = written
        self.kill = kill or _raise
        self.killed = False

    def guard(self, journal: Journal) -> None:
        append = journal.append

        def deadly(kind: int, content: bytes) -> None:
            self.count += 1
            if self.count != self.at or self.killed:
                append(kind, content)
                return
            self.killed = True
            if self.written:
                append(kind, content)
            self.kill()

        journal.append = deadly  # type: ignore[method-assign]


def _raise() -> None:
    raise Killed


class LedgerNoise:
    """Noise that depends on how many releases the ledger holds: the same whenever a process was killed, other for each release."""

    def __init__(self, party: str, ledger: Ledger) -> None:
        self.party, self.ledger = party, ledger

    def gaussian(self, values: Any, scale: Fraction, *, l2_squared: int = 1) -> Any:
        seed = digest(self.party, len(self.ledger.history()), str(scale), values.shape)
        noise = np.random.default_rng(list(seed)).normal(0.0, float(scale), values.shape)
        return values + np.rint(noise).astype(np.int64)

    def laplace(self, values: Any, scale: Fraction, *, l1: int = 1) -> Any:
        return self.gaussian(values, scale)

    def laplace_threshold(self, *args: Any, **kwargs: Any) -> dict[int, int]:
        raise NotImplementedError

    gaussian_threshold = laplace_threshold


def keys() -> tuple[dict[str, SigningIdentity], Identities]:
    made = {name: SigningIdentity(name, digest("node", name)) for name in (*CHANNELS, SERVER)}
    return made, Identities({name: key.public_key for name, key in made.items()})


def write_tables(root: Path, rows: int = 120) -> None:
    """Every channel's customers, consents, features and, at the shop, label and category."""
    rng = np.random.default_rng(3)
    label = np.zeros(rows)
    for name in CHANNELS:
        values = rng.normal(size=(rows, 2)).clip(-3, 3)
        label += values @ [0.8, -0.5]
        table: dict[str, Any] = {
            "customer": [f"c{row}" for row in range(rows)],
            "until": [NOW_MS + 100 * HOUR_MS] * rows,
            "city": [("north", "south")[row % 2] for row in range(rows)],
            f"{name}_a": values[:, 0],
            f"{name}_b": values[:, 1],
        }
        if name == "shop":
            table["bought"] = (rng.random(rows) < 1 / (1 + np.exp(-label))).astype(np.float64)
        folder = root / name
        folder.mkdir(parents=True)
        pq.write_table(pa.table(table), folder / "table.parquet")
        with Ledger.open(folder / "budget.db", now_ms=lambda: NOW_MS, create=True) as ledger:
            wide = Limit(rho=Fraction(1_000), delta=Fraction(1, 2))
            for scope, account in (("data_set", name), ("analyst", "ann"), ("purpose", "joint_model")):
                ledger.declare(Account(scope, account, wide))  # type: ignore[arg-type]


def settings_of(name: str) -> DataSettings:
    return DataSettings(
        path="table.parquet",
        customer="customer",
        category="city",
        label="bought" if name == "shop" else None,
        consent=ConsentColumn(until="until", country="DE"),
    )


def service_of(root: Path, name: str, deadly: Deadly | None = None) -> tuple[ChannelService, Ledger]:
    """A channel's service over its folder, as after a start of its process."""
    made, identities = keys()
    ledger = Ledger.open(root / name / "budget.db", now_ms=lambda: NOW_MS)

    def budget(resumed: bool) -> LedgerBudget:  # noqa: FBT001 - the service's call
        return LedgerBudget(
            ledger, channel=name, data_set=name, analyst="ann", purpose="joint_model", resumed=resumed
        )

    service = ChannelService(
        made[name],
        identities,
        home=root / name,
        secret=digest("secret", name),
        load=lambda: ChannelData.load(name, settings_of(name), folder=root / name),
        budget=budget,
        protocols=("align", "histogram", "vertical"),
        random_bytes=os.urandom,
        noise=LedgerNoise(name, ledger),
        now_ms=lambda: NOW_MS,
        opened=None if deadly is None else deadly.guard,
    )
    return service, ledger


def spent(root: Path) -> dict[str, list[tuple[str, Any]]]:
    found = {}
    for name in CHANNELS:
        with Ledger.open(root / name / "budget.db", now_ms=lambda: NOW_MS) as ledger:
            found[name] = [(one.what, one.cost) for one in ledger.history()]
    return found


ALIGN = Plan(
    protocol="align",
    settings={"epsilon": 30.0, "delta": 0.25, "hours": 4},
    hours=3,
    return_within_seconds=60,
)


def vertical_plan(aligned: Mapping[str, Any], *, steps: int = 1) -> Plan:
    return Plan(
        protocol="vertical",
        settings={
            "label": "bought",
            "label_channel": "shop",
            "channels": {
                name: {"features": {f"{name}_a": [-3, 3], f"{name}_b": [-3, 3]}, "clip": 1.0}
                for name in CHANNELS
            },
            "alignment": aligned["alignment"],
            "universe": aligned["universe"],
            "epsilon": 8.0,
            "steps": steps,
            "accept_few_rows": True,
        },
        hours=3,
        return_within_seconds=60,
    )


class ServiceGrid:
    """Services in this process; one that is killed is lost, and starts again."""

    def __init__(self, root: Path, deadly: Mapping[str, Deadly]) -> None:
        self.root, self.deadly = root, deadly
        self.services = {name: service_of(root, name, deadly.get(name)) for name in CHANNELS}
        self.parcel: Callable[[str, bytes], bytes] = lambda _, frame: frame

    def parties(self) -> tuple[str, ...]:
        return CHANNELS

    def ask(
        self, requests: Mapping[str, bytes], *, timeout_seconds: float = DEAD_AFTER_SECONDS
    ) -> dict[str, bytes | Failure]:
        return {name: self._one(name, request) for name, request in sorted(requests.items())}

    def _one(self, name: str, request: bytes) -> bytes | Failure:
        try:
            return self.services[name][0].handle(self.parcel(name, request))
        except DayflyError as error:
            return Failure(name, str(error), lost=False)
        except Killed:
            self.close_one(name)
            self.services[name] = service_of(self.root, name, self.deadly.get(name))
            return Failure(name, "was killed", lost=True)

    def close_one(self, name: str) -> None:
        service, ledger = self.services[name]
        service.close()
        ledger.close()

    def close(self) -> None:
        for name in CHANNELS:
            self.close_one(name)


def coordinated(
    root: Path,
    plan: Plan,
    grid: Any,
    *,
    run: bytes,
    deadly: Deadly | None = None,
    shown: Any = lambda _: None,
) -> Outcome:
    """One life of a coordinator: its journal is opened, and closed whatever happens."""
    made, identities = keys()
    terms = protocol_named(plan.protocol).terms(plan.settings)
    grid.parcel = Tickets(
        made[SERVER], run=run, ticket=Ticket(plan.protocol, terms, NOW_MS, NOW_MS + 3 * HOUR_MS)
    )
    head = JournalHead(run, SERVER, plan.protocol, terms)
    with Journal.open(
        root / f"journal-{run.hex()[:8]}",
        head,
        secret=digest("secret", SERVER),
        random_bytes=os.urandom,
        now_ms=lambda: NOW_MS,
    ) as journal:
        if deadly is not None:
            deadly.guard(journal)
        outcome = coordinate(
            plan,
            grid,
            identity=made[SERVER],
            identities=identities,
            journal=journal,
            began_ms=NOW_MS,
            random_bytes=os.urandom,
            noise=OpenDpNoise(),
            now_ms=lambda: NOW_MS,
            shown=shown,
        )
        journal.end()
    return outcome


def lives(
    root: Path, plan: Plan, grid: Any, *, run: bytes, deadly: Deadly | None = None, most: int = 20
) -> Outcome:
    """A coordinator that is started again whenever it was killed."""
    for _ in range(most):
        with suppress(Killed):
            return coordinated(root, plan, grid, run=run, deadly=deadly)
    raise AssertionError("killed too often")


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
