"""Entries of the ledger: their canonical text, their digests, and how each continues the one before.

An entry is one JSON object with its members in a fixed order, so equal entries are equal bytes. It names the SHA-256 of the
entry before it, hence `sha256sum` and `jq` are enough to check a chain by hand. A spend tells, for every account that it
charged, the total after it: the totals live nowhere else.

Entries hold names of analysts, data sets and purposes and a digest of each query; nothing of a customer. Erasing a person
therefore leaves every budget as it is, as it must: what was released about the others, and about them, stays released.
"""

import hashlib
from fractions import Fraction
from typing import Final, NamedTuple

import msgspec

from dayfly.privacy.errors import DayflyError, InvalidArgument, LedgerDamaged

from .accounts import Account, Amounts, Limit, Scope, Standing
from .amounts import parse, written

__all__ = [
    "FORMAT_VERSION",
    "ZERO",
    "Charge",
    "Declared",
    "Entry",
    "Genesis",
    "Head",
    "Spent",
    "account_of",
    "amounts_of",
    "charge_of",
    "decode",
    "encode",
    "release_of",
    "standing_of",
]

FORMAT_VERSION: Final = 1
ZERO: Final = "0" * 64
"""What the first entry names as the one before it."""


class Head(NamedTuple):
    """Where a ledger stands. Kept elsewhere, it proves later that the ledger still holds what it held.

    Attributes:
        entries: How many entries there are.
        sha256: Of the last of them, 64 hexadecimal digits.
    """

    entries: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.entries}:{self.sha256}"

    @classmethod
    def parse(cls, text: str) -> "Head":
        """What `str` wrote.

        Raises:
            InvalidArgument: it does not read so.
        """
        count, _, digest = text.partition(":")
        hexadecimal = len(digest) == 64 and not set(digest) - set("0123456789abcdef")
        if not (count.isascii() and count.isdecimal() and hexadecimal):
            raise InvalidArgument(f"head={text!r:.100} must read entries:sha256; copy it as it was printed")
        return cls(int(count), digest)


class Genesis(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="genesis"):
    """The first entry."""

    seq: int
    prev: str
    at_ms: int
    ledger: str
    version: int


class Declared(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="account"):
    """An account begins (`account` is this entry's own number) or gets another limit (`account` is its first entry's)."""

    seq: int
    prev: str
    at_ms: int
    account: int
    scope: Scope
    name: str
    unit: str
    limit: str
    delta: str
    period_ms: int | None
    epoch_ms: int


class Charge(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An account after a spend."""

    account: int
    period: int
    spent: str
    delta: str
    ever: str
    ever_delta: str


class Spent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="spend"):
    """A loss, charged."""

    seq: int
    prev: str
    at_ms: int
    release_id: str
    analyst: str
    data_set: str
    purpose: str
    what: str
    epsilon: str | None
    rho: str
    delta: str
    charges: tuple[Charge, ...]


Entry = Genesis | Declared | Spent

_encode: Final = msgspec.json.Encoder().encode
_decoder: Final[msgspec.json.Decoder[Entry]] = msgspec.json.Decoder(Entry)


def encode(entry: Entry) -> tuple[str, bytes]:
    """The text of an entry and its SHA-256."""
    body = _encode(entry)
    return body.decode(), hashlib.sha256(body).digest()


def decode(seq: int, body: object, digest: object) -> Entry:
    """Read an entry and check that it is as it was written.

    Raises:
        LedgerDamaged: its text, number or digest was changed.
    """
    try:
        if not isinstance(body, str) or hashlib.sha256(body.encode()).digest() != digest:
            raise _damaged(seq, "its text does not have its digest")
        entry = _decoder.decode(body)
        if entry.seq != seq:
            raise _damaged(seq, f"it says it is entry {entry.seq}")
    except (msgspec.DecodeError, UnicodeEncodeError, ValueError) as error:
        raise _damaged(seq, f"it does not read as an entry: {error}") from error
    return entry


def account_of(entry: Declared) -> Account:
    """The account that an entry declares.

    Raises:
        LedgerDamaged: it breaks a rule of accounts.
    """
    try:
        amount, delta = parse(entry.limit), parse(entry.delta)
        limit = (
            Limit(epsilon=amount, delta=delta) if entry.unit == "epsilon" else Limit(rho=amount, delta=delta)
        )
        if limit.unit != entry.unit:
            raise _damaged(entry.seq, f"unit={entry.unit!r} is unknown")
        return Account(entry.scope, entry.name, limit, period_ms=entry.period_ms, epoch_ms=entry.epoch_ms)
    except (DayflyError, ValueError) as error:
        raise _damaged(entry.seq, str(error)) from error


def amounts_of(entry: Spent) -> Amounts:
    """What a spend cost.

    Raises:
        LedgerDamaged: an amount does not read as a rational.
    """
    try:
        epsilon: Fraction | None = None if entry.epsilon is None else parse(entry.epsilon)
        return Amounts(epsilon, parse(entry.rho), parse(entry.delta))
    except ValueError as error:
        raise _damaged(entry.seq, str(error)) from error


def charge_of(account: int, standing: Standing) -> Charge:
    """A standing as it is written."""
    return Charge(
        account,
        standing.period,
        written(standing.spent),
        written(standing.delta),
        written(standing.ever),
        written(standing.ever_delta),
    )


def release_of(entry: Spent) -> bytes:
    """The release id of a spend.

    Raises:
        LedgerDamaged: it is not hexadecimal.
    """
    try:
        return bytes.fromhex(entry.release_id)
    except ValueError as error:
        raise _damaged(entry.seq, f"release_id={entry.release_id!r:.80} is not hexadecimal") from error


def standing_of(entry: Spent, account: int) -> Standing:
    """What a spend says about an account.

    Raises:
        LedgerDamaged: it did not charge that account.
    """
    for one in entry.charges:
        if one.account == account:
            try:
                return Standing(
                    one.period, parse(one.spent), parse(one.delta), parse(one.ever), parse(one.ever_delta)
                )
            except ValueError as error:
                raise _damaged(entry.seq, str(error)) from error
    raise _damaged(entry.seq, f"it is listed for account {account} and did not charge it")


def _damaged(seq: int, fact: str) -> LedgerDamaged:
    return LedgerDamaged(
        f"entry={seq} must be as it was written, but {fact}; restore the ledger from a copy that verifies",
        entry=seq,
    )
