"""The protocol `align`: the channels' customers get places in a common row space, which each channel keeps for training."""

import os
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from fractions import Fraction
from typing import Any, Final

import msgspec
import numpy as np

from dayfly.federation.alignment import (
    AlignmentParty,
    AlignmentReport,
    AlignmentSettings,
    Customers,
    Manifest,
    Rows,
    align,
    worker_pool,
)
from dayfly.federation.alignment.messages import Kind
from dayfly.federation.errors import InvalidData, InvalidSetting, Refused
from dayfly.federation.grid import Party
from dayfly.federation.runs.data import ChannelData
from dayfly.federation.runs.seats import Chair, Outcome, Seat, Shelf
from dayfly.federation.secagg.messages import decode, encode
from dayfly.federation.wire import SERVER
from dayfly.privacy.consent import ConsentRecord, ConsentRequest, ConsentState, PersonConsents, Scope, Terms

__all__ = ["PROTOCOL", "AlignPlan", "aligned_rows", "customers_of"]

_HOUR_MS: Final = 3_600_000
_SKEW_MS: Final = 600_000
_MANY_POINTS: Final = 20_000


class AlignPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of a plan.

    Attributes:
        kind: Of identifier.
        purpose: A path of the purpose taxonomy.
        hours: How long the rows may be used.
        epsilon, delta: Of the padding of sizes.
    """

    kind: Kind = "id"
    purpose: str = "joint-model"
    hours: float = 24.0
    epsilon: float = 1.0
    delta: float = 1e-9


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    """Rows on a channel's shelf."""

    universe: int
    positions: bytes
    manifest: Manifest


class _Align:
    def terms(self, settings: Mapping[str, Any]) -> bytes:
        return encode(_plan(settings))

    def party(self, seat: Seat) -> Party:
        plan = decode(seat.terms, AlignPlan, party=SERVER)
        now_ms = seat.began_ms
        if abs(seat.now_ms() - now_ms) > _SKEW_MS:
            raise InvalidSetting(
                f"began_ms={now_ms} must be within ten minutes of the clock of {seat.name!r}; set the clocks, or begin another run"
            )
        customers = customers_of(seat.data, kind=plan.kind, purpose=plan.purpose)
        cores = os.cpu_count() or 1
        many = seat.data.table.num_rows >= _MANY_POINTS and cores > 1
        processes = ExitStack()
        pool = processes.enter_context(worker_pool(cores)) if many else None
        party = AlignmentParty(
            seat.identity,
            seat.identities,
            customers,
            run=seat.run,
            random_bytes=seat.random_bytes,
            noise=seat.noise,
            budget=seat.budget,
            now_ms=now_ms,
            executor=pool,
        )
        return _Keeping(party, seat.shelf, seat.run, processes)

    def coordinate(self, chair: Chair) -> Outcome:
        plan, now_ms = _plan(chair.settings), chair.began_ms
        settings = AlignmentSettings(
            channels=chair.caller.grid.parties(),
            purpose=plan.purpose,
            kind=plan.kind,
            expires_ms=now_ms + int(plan.hours * _HOUR_MS),
            epsilon=_pair(plan.epsilon),
            delta=_pair(plan.delta),
        )

        def shown(step: str, answered: int, of: int) -> None:
            chair.shown({"step": "message", "kind": step, "number": answered, "of": of})

        report = align(
            chair.caller,
            settings,
            random_bytes=chair.random_bytes,
            noise=chair.noise,
            now_ms=now_ms,
            progress=shown,
        )
        return Outcome(_document(plan, report, chair.caller.run))


class _Keeping:
    """An alignment's party that puts its rows on the channel's shelf before it says that it has them."""

    def __init__(self, party: AlignmentParty, shelf: Shelf, run: bytes, processes: ExitStack) -> None:
        self._party: Final = party
        self._shelf: Final = shelf
        self._run: Final = run
        self._processes: Final = processes
        self._kept = False

    @property
    def name(self) -> str:
        return self._party.name

    def handle(self, message: bytes) -> bytes:
        reply = self._party.handle(message)
        if not self._kept:
            with suppress(Refused):
                self._keep(self._party.rows)
        return reply

    def _keep(self, rows: Rows) -> None:
        kept = _Kept(rows.universe, rows.positions.astype("<i8").tobytes(), rows.manifest)
        self._shelf.put(_key(self._run), encode(kept))
        self._kept = True
        self._processes.close()


def aligned_rows(shelf: Shelf, alignment: bytes, party: str) -> Rows:
    """A channel's rows of an earlier alignment.

    Raises:
        InvalidData: the channel took part in none of this name.
    """
    content = shelf.get(_key(alignment))
    if content is None:
        raise InvalidData(
            party,
            f"has no rows of the alignment {alignment.hex()[:8]}; align first, and keep the channel's folder",
        )
    kept = msgspec.msgpack.decode(content, type=_Kept)
    return Rows(kept.universe, np.frombuffer(kept.positions, "<i8").astype(np.int64), kept.manifest)


def customers_of(data: ChannelData, *, kind: Kind, purpose: str) -> Customers:
    """A channel's customers with what its table says of their consents.

    Raises:
        InvalidData: there is no column of customers or consents, or an identifier breaks its rule.
    """
    consent = data.settings.consent
    if consent is None:
        raise InvalidData(
            data.party,
            "has no consents; name the column with the instants until which they stand in channel.yaml",
        )
    known: dict[int | None, PersonConsents | None] = {None: None}
    persons = []
    for until_ms in data.instants(consent.until):
        if until_ms is not None and until_ms not in known:
            known[until_ms] = _consenting(purpose, consent.country, until_ms)
        persons.append(known[until_ms])
    request = ConsentRequest(purpose, recipient_country=consent.country)
    return Customers.of(
        data.party, data.customers(), persons, request, kind=kind, region=data.settings.phone_region
    )


def _consenting(purpose: str, country: str, until_ms: int) -> PersonConsents:
    record = ConsentRecord(
        record_id="table",
        principal="customer",
        state=ConsentState.GIVEN,
        time_ms=0,
        valid_from_ms=0,
        valid_until_ms=until_ms,
        scope=Scope(
            purposes=(purpose,),
            topics=("*",),
            data_categories=("*",),
            recipients=("*",),
            channels=("*",),
            recipient_countries=(country,),
        ),
        terms=Terms(jurisdiction=country),
    )
    return PersonConsents("customer").with_record(record)


def _document(plan: AlignPlan, report: AlignmentReport, run: bytes) -> dict[str, Any]:
    return {
        "protocol": "align",
        "alignment": run.hex(),
        "universe": report.universe,
        "purpose": plan.purpose,
        "counts": report.counts,
        "manifests": {name: manifest.digest().hex() for name, manifest in report.manifests.items()},
        "privacy": {"epsilon": float(report.loss.epsilon), "delta": float(report.loss.delta)},
    }


def _key(run: bytes) -> str:
    return f"alignment-{run.hex()}"


def _pair(number: float) -> tuple[int, int]:
    fraction = Fraction(number).limit_denominator(10**12)
    return fraction.numerator, fraction.denominator


def _plan(settings: Mapping[str, Any]) -> AlignPlan:
    try:
        return msgspec.convert(dict(settings), AlignPlan)
    except msgspec.ValidationError as error:
        raise InvalidSetting(
            f"settings of the plan must be those of an alignment: {error}; correct them"
        ) from None


PROTOCOL: Final = _Align()
