"""The full walk against a ledger whose digests and links all hold, but whose entries say what no ledger would accept.

Such a file is what somebody makes who may write it and knows the format. The head file is renewed, so nothing but the walk is left.
"""

import hashlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import orjson
import pytest

from dayfly.privacy.errors import LedgerDamaged
from dayfly.privacy.ledger import WEEK_MS, Account, Limit

from .support import NOW_MS, declare, opened, spend, surgery

Entries = list[dict[str, Any]]


def forge(path: Path, change: Callable[[Entries], object]) -> None:
    """Change the entries, then recompute every number of an entry, link and digest."""
    with surgery(path) as connection:
        entries: Entries = [
            orjson.loads(body) for (body,) in connection.execute("SELECT body FROM entries ORDER BY seq")
        ]
        change(entries)
        for table in ("entries", "accounts", "charged", "releases"):
            connection.execute(f"DELETE FROM {table}")
        prev = "0" * 64
        for seq, one in enumerate(entries, start=1):
            body = orjson.dumps({**one, "seq": seq, "prev": prev})
            prev = hashlib.sha256(body).hexdigest()
            connection.execute(
                "INSERT INTO entries VALUES (?, ?, ?)", (seq, body.decode(), bytes.fromhex(prev))
            )
            if one["kind"] == "account":
                connection.execute("INSERT INTO accounts VALUES (?, ?, ?)", (one["scope"], one["name"], seq))
            if one["kind"] == "spend":
                release_id = bytes.fromhex(one["release_id"].replace("no hex", ""))
                connection.execute("INSERT INTO releases VALUES (?, ?)", (release_id, seq))
                for charged in one["charges"]:
                    connection.execute(
                        "INSERT OR IGNORE INTO charged VALUES (?, ?)", (charged["account"], seq)
                    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Entries: 1 genesis, 2 to 4 accounts, 5 to 7 spends of 1/4, 8 an amendment, 9 a spend."""
    path = tmp_path / "budget.db"
    with opened(path) as ledger:
        declare(ledger)
        for _ in range(3):
            ledger.spend(spend(Fraction(1, 4)))
        ledger.amend(Account("analyst", "ann", Limit(epsilon=Fraction(2))))
        ledger.spend(spend(Fraction(1, 4)))
    return path


def entry(number: int, **changes: Any) -> Callable[[Entries], object]:
    return lambda entries: entries[number - 1].update(changes)


def total(number: int, member: str, value: str | int) -> Callable[[Entries], object]:
    return lambda entries: entries[number - 1]["charges"][1].update({member: value})


def overspend(entries: Entries) -> None:
    """One more spend, which the account of the data set has no budget for, with totals that add up."""
    last = entries[-1]
    charges = [{**one, "spent": "5/4", "ever": "5/4"} for one in last["charges"]]
    entries.append({**last, "release_id": "00" * 16, "charges": charges})


FORGERIES: dict[str, tuple[Callable[[Entries], object], str]] = {
    "a second beginning": (lambda e: e.insert(4, e[0]), r"entry=5 must .* a ledger begins once"),
    "no beginning": (lambda e: e.pop(0), "its first entry is not the beginning of a ledger"),
    "time that goes back": (
        entry(7, at_ms=NOW_MS - 1),
        r"entry=7 must .* at_ms=\d+ is before the entry before it",
    ),
    "a smaller total": (total(6, "spent", "1/4"), r"entry=6 must .* its totals are not"),
    "a smaller total of deltas": (total(6, "ever_delta", "1/9"), r"entry=6 must .* its totals are not"),
    "another period": (total(6, "period", 1), r"entry=6 must .* its totals are not"),
    "another account": (total(6, "account", 4), r"entry=6 must .* table charged does not list it"),
    "a release id that is none": (entry(9, release_id="no hex"), r"entry=9 must .* is not hexadecimal"),
    "an account left out": (
        lambda e: e[5]["charges"].pop(),
        r"entry=6 must .* table charged does not list it",
    ),
    "a smaller cost": (entry(6, epsilon="1/8"), r"entry=6 must .* its totals are not"),
    "a cost that is no number": (
        entry(6, epsilon="0.25"),
        r"entry=6 must .* must read numerator/denominator",
    ),
    "a cost not reduced": (entry(6, epsilon="2/8"), r"entry=6 must .* must be reduced"),
    "a total that is no number": (total(9, "spent", "x"), r"entry=9 must .*"),
    "a spend more than the limit": (
        overspend,
        r"entry=10 must .* it should have been refused: epsilon=1/4 must be <= 0",
    ),
    "a cost without epsilon": (
        entry(6, epsilon=None),
        r"entry=6 must .* it should have been refused: cost.epsilon=None",
    ),
    "a purpose without account": (
        entry(6, purpose="sales"),
        r"entry=6 must .* no account covers purpose='sales'",
    ),
    "a spend forgotten": (lambda e: e.pop(5), r"entry=6 must .* its totals are not"),
    "spends exchanged": (lambda e: e.insert(5, e.pop(6)), r"entry=6 must .* its totals are not"),
    "another period of an account": (
        entry(8, period_ms=WEEK_MS),
        r"entry=8 must .* it changes the unit or the period of an account",
    ),
    "another unit of an account": (
        entry(8, unit="rho"),
        r"entry=8 must .* it changes the unit or the period",
    ),
    "an unknown unit": (entry(3, unit="bits"), r"entry=3 must .* unit='bits' is unknown"),
    "an account declared for another": (
        entry(8, account=2),
        r"entry=8 must .* account 2 is not analyst='ann'",
    ),
    "a limit of zero": (entry(8, limit="0/1"), r"entry=8 must .* epsilon=0 must be > 0"),
    "a member too many": (entry(6, note="x"), r"entry=6 must .* it does not read as an entry"),
    "a kind unknown": (entry(6, kind="refund"), r"entry=6 must .* it does not read as an entry"),
}


def test_what_is_forged_with_nothing_changed_verifies(path: Path) -> None:
    """The forger of these tests writes as the ledger does."""
    with opened(path) as ledger:
        head = ledger.head()
    forge(path, lambda _: None)
    with opened(path, expected_head=head) as ledger:
        assert ledger.verify() == head


@pytest.mark.parametrize("name", FORGERIES)
def test_the_walk_finds_a_forgery_that_the_digests_do_not_show(path: Path, name: str) -> None:
    change, match = FORGERIES[name]
    forge(path, change)
    with pytest.raises(LedgerDamaged, match=match), opened(path, renew_anchor=True) as ledger:
        ledger.verify()


def test_a_forgery_of_another_format_version_is_told(path: Path) -> None:
    forge(path, entry(1, version=2))
    with pytest.raises(Exception, match="version=2 must be at most 1; open it with a newer release"):
        opened(path, renew_anchor=True).__enter__()
