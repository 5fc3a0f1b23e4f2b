"""The privacy budget ledger: durable, append-only, hash-chained; per data set, analyst and purpose.

>>> import tempfile
>>> from fractions import Fraction
>>> from pathlib import Path
>>> from dayfly.privacy.ledger import Account, Amounts, Ledger, Limit, Spend
>>> folder = tempfile.TemporaryDirectory()
>>> with Ledger.open(Path(folder.name) / "budget.db", now_ms=lambda: 1_800_000_000_000, create=True) as ledger:
...     for scope, name in (("data_set", "orders"), ("analyst", "ann"), ("purpose", "marketing")):
...         ledger.declare(Account(scope, name, Limit(epsilon=Fraction(1))))
...     receipt = ledger.spend(
...         Spend(
...             data_set="orders",
...             analyst="ann",
...             purpose="marketing.analytics",
...             cost=Amounts(Fraction(1, 4), Fraction(1, 32), Fraction(0)),
...             what="count by country",
...             release_id=b"release one",
...         )
...     )
...     print(receipt.fresh, receipt.remaining[0].left)
True 3/4
>>> folder.cleanup()
"""

from .accounts import (
    DAY_MS,
    MONDAY_MS,
    WEEK_MS,
    Account,
    Amounts,
    CostLike,
    Limit,
    Remaining,
    Scope,
)
from .amounts import GRID
from .entries import Head
from .ledger import Ledger
from .reports import budget_rows
from .values import BudgetRow, Odometer, Receipt, Spend, Spending

__all__ = [
    "DAY_MS",
    "GRID",
    "MONDAY_MS",
    "WEEK_MS",
    "Account",
    "Amounts",
    "BudgetRow",
    "CostLike",
    "Head",
    "Ledger",
    "Limit",
    "Odometer",
    "Receipt",
    "Remaining",
    "Scope",
    "Spend",
    "Spending",
    "budget_rows",
]
