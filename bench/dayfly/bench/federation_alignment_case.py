"""Alignment: CPU of all channels and the coordinator together, beside what X25519 alone takes."""

import hashlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from resource import RUSAGE_CHILDREN, getrusage
from typing import Final

from dayfly.bench.measuring import median
from dayfly.bench.rows import Row, at_most
from dayfly.federation.accounting import TrialBudget
from dayfly.federation.alignment import (
    AlignmentParty,
    AlignmentSettings,
    Customers,
    align,
    normalise_all,
    worker_pool,
)
from dayfly.federation.alignment.multiplication import multiply
from dayfly.federation.identity import Identities, SigningIdentity
from dayfly.federation.local import LocalGrid
from dayfly.federation.wire import SERVER, Caller
from dayfly.privacy.consent import ConsentRecord, ConsentRequest, ConsentState, PersonConsents, Scope, Terms
from dayfly.privacy.noise import OpenDpNoise

__all__ = ["run"]

SUITE: Final = "federation"
PAIR_BAR_US, FOUR_BAR_SECONDS = 150.0, 60.0
BAR_CUSTOMERS: Final = 100_000
OPENMINED_US: Final = 291
"""What openmined.psi took when the bar was set; it cannot be installed beside Flower."""
NOW_MS: Final = 1_700_000_000_000
PURPOSE: Final = "joint-model"
REQUEST: Final = ConsentRequest(PURPOSE, recipient_country="DE")
SCOPE: Final = Scope(
    purposes=(PURPOSE,),
    topics=("*",),
    data_categories=("*",),
    recipients=("*",),
    channels=("*",),
    recipient_countries=("DE",),
)


def run(*, quick: bool) -> list[Row]:
    """Rows of two channels, four channels, and of normalising identifiers."""
    customers = 10_000 if quick else BAR_CUSTOMERS
    rows = [_pair(customers, rounds=1 if quick else 3)]
    rows.append(_four(2_000 if quick else BAR_CUSTOMERS))
    if not quick:
        rows.append(_processes(customers))
    return [*rows, _consents(2_000 if quick else 20_000), *_identifiers(2_000 if quick else 20_000)]


def _pair(customers: int, *, rounds: int) -> Row:
    spent, alone = [], []
    for _ in range(rounds):
        before = _x25519_us()
        seconds, _ = _aligned(2, customers)
        alone.append((before + _x25519_us()) / 2)
        spent.append(seconds * 1e6 / customers)
    measured, one = median(spent), median(alone)
    full = customers == BAR_CUSTOMERS
    return Row(
        suite=SUITE,
        case=f"alignment of {customers:,} customers with {customers:,}, half in common: CPU per customer, both channels and the coordinator",
        measured=round(measured, 1),
        unit="us",
        peer="the four X25519 products that it takes, in the same run",
        ratio=round(measured / (4 * one), 3),
        note=f"median of {rounds}; X25519 alone 4 x {one:.1f} us; padding for epsilon 1, delta 1e-9 is in it, normalising and deciding consents of different people is not; openmined.psi"
        f" took {OPENMINED_US} us when the bar was set, and is not measured here"
        + ("" if full else f"; the bar of {PAIR_BAR_US:g} us is for {BAR_CUSTOMERS:,}"),
        **(at_most(measured, PAIR_BAR_US, "us") if full else {}),
    )


def _four(customers: int) -> Row:
    before = _x25519_us()
    seconds, _ = _aligned(4, customers)
    one = (before + _x25519_us()) / 2
    products = 16 * customers * one / 1e6
    full = customers == BAR_CUSTOMERS
    return Row(
        suite=SUITE,
        case=f"alignment of four channels of {customers:,} customers: CPU of all channels and the coordinator",
        measured=round(seconds, 2),
        unit="s",
        peer="the sixteen X25519 products per customer that it takes, in the same run",
        ratio=round(seconds / products, 3),
        note=f"7 messages a channel; X25519 alone 16 x {one:.1f} us a customer, {products:.1f} s"
        + ("" if full else f"; the bar of {FOUR_BAR_SECONDS:g} s is for {BAR_CUSTOMERS:,}"),
        **(at_most(seconds, FOUR_BAR_SECONDS, "s") if full else {}),
    )


def _processes(customers: int) -> Row:
    workers = os.cpu_count() or 1
    with worker_pool(workers) as executor:
        multiply(_digest("warm"), (9).to_bytes(32, "little") * 5_000, executor=executor)
        seconds, wall = _aligned(2, customers, executor=executor)
    return Row(
        suite=SUITE,
        case=f"the same over {workers} processes: wall time",
        measured=round(wall, 2),
        unit="s",
        note=f"{seconds * 1e6 / customers:.1f} CPU us per customer in this process alone; wall time hangs on what else runs on the machine",
    )


def _identifiers(count: int) -> list[Row]:
    texts = {
        "e-mail addresses": ("email", [f"Some.User{n}@Example{n % 50}.com" for n in range(count)]),
        "phone numbers": ("phone", [f"+86 138 {n // 10_000:04d} {n % 10_000:04d}" for n in range(count)]),
        "other identifiers": ("id", [f"customer {n}" for n in range(count)]),
    }
    rows = []
    for name, (kind, values) in texts.items():
        begin = time.process_time()
        normalise_all(kind, values)  # type: ignore[arg-type]  # a table of kinds
        spent = time.process_time() - begin
        rows.append(
            Row(
                suite=SUITE,
                case=f"normalising {count:,} {name}: CPU each",
                measured=round(spent * 1e6 / count, 1),
                unit="us",
                note="before an alignment, once per customer",
            )
        )
    return rows


def _x25519_us(points: int = 16_000) -> float:
    packed = multiply(_digest("scalar"), b"".join((9 + n).to_bytes(32, "little") for n in range(points // 8)))
    begin = time.process_time()
    multiply(_digest("other"), packed * 8)
    return (time.process_time() - begin) * 1e6 / points


def _aligned(channels: int, customers: int, *, executor: Executor | None = None) -> tuple[float, float]:
    """CPU seconds of everybody, children included as far as they have ended, and wall seconds."""
    names = tuple(f"channel-{number}" for number in range(channels))
    settings = AlignmentSettings(channels=names, purpose=PURPOSE, kind="id", expires_ms=NOW_MS + 3_600_000)
    keys = {name: SigningIdentity(name, _digest("node", name)) for name in (*names, SERVER)}
    identities = Identities({name: key.public_key for name, key in keys.items()})
    run_id = os.urandom(16)
    parties = [
        AlignmentParty(
            keys[name],
            identities,
            _customers(name, _overlapping(place, customers)),
            run=run_id,
            random_bytes=os.urandom,
            noise=OpenDpNoise(),
            budget=TrialBudget(),
            now_ms=NOW_MS,
            executor=executor,
        )
        for place, name in enumerate(names)
    ]
    caller = Caller(LocalGrid(parties), keys[SERVER], identities, run=run_id)
    wall, begin = time.perf_counter(), _cpu_seconds()
    report = align(caller, settings, random_bytes=os.urandom, noise=OpenDpNoise(), now_ms=NOW_MS)
    spent, elapsed = _cpu_seconds() - begin, time.perf_counter() - wall
    common = report.regions[names] - customers // 2
    assert 0 <= common <= 2 * settings.padding.most
    return spent, elapsed


def _overlapping(place: int, customers: int) -> list[str]:
    """Half of every channel's customers are everybody's."""
    shared = [f"customer {number}" for number in range(customers // 2)]
    return shared + [f"customer {place} {number}" for number in range(customers - customers // 2)]


def _customers(name: str, identifiers: Sequence[str]) -> Customers:
    return Customers.of(name, identifiers, [_person("p")] * len(identifiers), REQUEST, kind="id")


def _person(subject: str) -> PersonConsents:
    record = ConsentRecord(
        record_id="r",
        principal=subject,
        state=ConsentState.GIVEN,
        time_ms=NOW_MS - 1,
        valid_until_ms=NOW_MS + 7_200_000,
        scope=SCOPE,
        terms=Terms(jurisdiction="DE"),
    )
    return PersonConsents(subject).with_record(record)


def _consents(count: int) -> Row:
    persons = [_person(f"p{number}") for number in range(count)]
    customers = Customers.of("shop", [str(number) for number in range(count)], persons, REQUEST, kind="id")
    begin = time.process_time()
    entering = customers.entering(now_ms=NOW_MS, until_ms=NOW_MS + 3_600_000)
    spent = time.process_time() - begin
    assert entering.size == count
    return Row(
        suite=SUITE,
        case=f"deciding the consents of {count:,} different customers for the first time: CPU each",
        measured=round(spent * 1e6 / count, 1),
        unit="us",
        note="before an alignment, once per customer; the rows above decide on one person's again and again",
    )


def _cpu_seconds() -> float:
    children = getrusage(RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _digest(*parts: object) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()
