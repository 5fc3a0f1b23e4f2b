"""`dayfly sandbox`: differentially private answers from the shell, foreseen, explained and paid from a ledger."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .exits import ExitCode, fail, guarded
from .opening import Ask, PassphraseFile
from .output import notes, print_json, screen
from .sandbox_inputs import SandboxInputs, asked_of, budget_ledger, opened_sandbox
from .sandbox_tables import accounts_table, budgets, cost_line, preview_table, release_table

__all__ = ["sandbox_app"]

sandbox_app = typer.Typer(
    help="Differentially private answers about customers, paid from a ledger.", no_args_is_help=True
)

Document = Annotated[
    Path, typer.Argument(metavar="QUERY", help="YAML or JSON document of the query (- for standard input).")
]
LedgerFile = Annotated[Path, typer.Option("--ledger", metavar="FILE", help="The budget ledger.")]
LedgerArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The budget ledger.")]
Analyst = Annotated[str, typer.Option(metavar="NAME", help="Who asks; has an account in the ledger.")]
Purpose = Annotated[
    str, typer.Option(metavar="PURPOSE", help="What for, dotted; an account of the ledger covers it.")
]
Tables = Annotated[
    list[str] | None,
    typer.Option(
        "--table", metavar="NAME=FILE", help="A Parquet file as a source of that name; may be repeated."
    ),
]
Customer = Annotated[
    str, typer.Option(metavar="COLUMN", help="Column of the tables that says whose row it is.")
]
DataSet = Annotated[
    str, typer.Option(metavar="NAME", help="Account that pays for the data; by default the source's name.")
]
Store = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="A stopped store, whose events and profiles are the sources."),
]
StoreKeys = Annotated[
    Path | None, typer.Option("--keys", metavar="FILE", help="The tenant's key file, for a store.")
]
Topic = Annotated[str, typer.Option(metavar="TOPIC", help="Topic that the consents of a store must cover.")]
Category = Annotated[
    list[str] | None,
    typer.Option(metavar="CATEGORY", help="Data category that they must cover; may be repeated."),
]
Recipient = Annotated[str, typer.Option(metavar="NAME", help="Recipient that they must cover.")]
Country = Annotated[str, typer.Option(metavar="CODE", help="Recipient's country that they must cover.")]
Epsilon = Annotated[
    str | None, typer.Option(metavar="NUMBER", help="What it may cost; by default what the document says.")
]
Delta = Annotated[
    str | None, typer.Option(metavar="NUMBER", help="Probability with which that may fail; for unknown keys.")
]
Rho = Annotated[
    str | None, typer.Option(metavar="NUMBER", help="What it may cost in zCDP, instead of epsilon.")
]
Confidence = Annotated[float, typer.Option(metavar="SHARE", help="Of the intervals.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


class Scope(StrEnum):
    """What an account belongs to."""

    DATA_SET = "data_set"
    ANALYST = "analyst"
    PURPOSE = "purpose"


class Every(StrEnum):
    """How often an account is full again."""

    DAY = "day"
    WEEK = "week"


@sandbox_app.command("query")
@guarded
def query(
    *,
    document: Document,
    ledger: LedgerFile,
    analyst: Analyst,
    purpose: Purpose,
    table: Tables = None,
    customer: Customer = "customer_id",
    data_set: DataSet = "",
    store: Store = None,
    keys: StoreKeys = None,
    topic: Topic = "*",
    category: Category = None,
    recipient: Recipient = "*",
    country: Country = "*",
    epsilon: Epsilon = None,
    delta: Delta = None,
    rho: Rho = None,
    confidence: Confidence = 0.95,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw the answer (PNG, SVG or PDF).")
    ] = None,
    passphrase_file: PassphraseFile = None,
    ask: Ask = False,
    as_json: Json = False,
) -> None:
    """Pay from the ledger, and print the answer with its intervals, what it cost and what is left.

    Exit status 1 if the ledger says no; then nothing was spent and nothing was read.

    Example: dayfly sandbox query weekly.yaml --ledger budget.db --analyst ann --purpose marketing.analytics
    --table orders=orders.parquet --epsilon 0.5
    """
    from dayfly.privacy.errors import AccountMissing, BudgetExceeded, EpsilonUnbounded  # noqa: PLC0415 - only commands load libraries

    inputs = SandboxInputs(
        table, customer, data_set, store, keys, topic, category, recipient, country, passphrase_file, ask
    )
    asked = asked_of(document, epsilon, delta, rho)
    with opened_sandbox(inputs, ledger, analyst, purpose) as sandbox:
        try:
            release = sandbox.ask(asked.document, confidence=confidence)
        except (AccountMissing, BudgetExceeded, EpsilonUnbounded) as error:
            fail(str(error), ExitCode.NO)
    if plot is not None:
        release.plot().savefig(plot)
    if as_json:
        print_json(release.to_dict())
        return
    screen().print(release_table(release))
    notes().print(cost_line(release), markup=False)
    notes().print(accounts_table(release.remaining))


@sandbox_app.command("preview")
@guarded
def preview(
    *,
    document: Document,
    ledger: LedgerFile,
    analyst: Analyst,
    purpose: Purpose,
    table: Tables = None,
    customer: Customer = "customer_id",
    data_set: DataSet = "",
    store: Store = None,
    keys: StoreKeys = None,
    topic: Topic = "*",
    category: Category = None,
    recipient: Recipient = "*",
    country: Country = "*",
    epsilon: Epsilon = None,
    delta: Delta = None,
    rho: Rho = None,
    confidence: Confidence = 0.95,
    workload: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="JSON object with what is assumed about how customers contribute."),
    ] = None,
    passphrase_file: PassphraseFile = None,
    ask: Ask = False,
    as_json: Json = False,
) -> None:
    """Print how far off an answer would be. Spends nothing; no value of a row has a part in it.

    Example: dayfly sandbox preview weekly.yaml --ledger budget.db --analyst ann --purpose marketing.analytics
    --table orders=orders.parquet --epsilon 0.5
    """
    inputs = SandboxInputs(
        table, customer, data_set, store, keys, topic, category, recipient, country, passphrase_file, ask
    )
    asked = asked_of(document, epsilon, delta, rho)
    with opened_sandbox(inputs, ledger, analyst, purpose) as sandbox:
        found = sandbox.query(asked.document.query).preview(
            **asked.budget, workload=asked.workload(workload), confidence=confidence
        )
    if as_json:
        print_json(found.to_dict())
    else:
        screen().print(preview_table(found))


@sandbox_app.command("explain")
@guarded
def explain(
    *,
    document: Document,
    ledger: LedgerFile,
    analyst: Analyst,
    purpose: Purpose,
    table: Tables = None,
    customer: Customer = "customer_id",
    data_set: DataSet = "",
    store: Store = None,
    keys: StoreKeys = None,
    topic: Topic = "*",
    category: Category = None,
    recipient: Recipient = "*",
    country: Country = "*",
    epsilon: Epsilon = None,
    delta: Delta = None,
    rho: Rho = None,
    passphrase_file: PassphraseFile = None,
    ask: Ask = False,
    as_json: Json = False,
) -> None:
    """Print sensitivity, mechanism, noise scale and cost of every number of an answer. Spends nothing.

    Example: dayfly sandbox explain weekly.yaml --ledger budget.db --analyst ann --purpose marketing.analytics
    --table orders=orders.parquet --epsilon 0.5
    """
    inputs = SandboxInputs(
        table, customer, data_set, store, keys, topic, category, recipient, country, passphrase_file, ask
    )
    asked = asked_of(document, epsilon, delta, rho)
    with opened_sandbox(inputs, ledger, analyst, purpose) as sandbox:
        found = sandbox.query(asked.document.query).explain(**asked.budget)
    if as_json:
        print_json(found.to_dict())
    else:
        screen().print(str(found), markup=False, soft_wrap=True)


@sandbox_app.command("budget")
@guarded
def budget(*, ledger: LedgerArgument, as_json: Json = False) -> None:
    """Print every account of a ledger: limit, spent, left, and when it is full again.

    Example: dayfly sandbox budget budget.db
    """
    import dataclasses  # noqa: PLC0415 - see `query`

    from dayfly.privacy.ledger import budget_rows  # noqa: PLC0415 - see `query`

    with budget_ledger(ledger) as opened:
        rows = budget_rows(opened)
    if as_json:
        print_json({"accounts": [dataclasses.asdict(row) for row in rows]})
    else:
        screen().print(budgets(rows))


@sandbox_app.command("account")
@guarded
def account(
    *,
    ledger: LedgerArgument,
    scope: Annotated[Scope, typer.Option(help="What the account belongs to.")],
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Of the data set or analyst, or a dotted purpose.")
    ],
    epsilon: Annotated[
        str | None, typer.Option(metavar="NUMBER", help="The most that it may lose, in epsilon.")
    ] = None,
    rho: Annotated[
        str | None, typer.Option(metavar="NUMBER", help="The most that it may lose, in zCDP.")
    ] = None,
    delta: Annotated[
        str, typer.Option(metavar="NUMBER", help="The most that its deltas may add up to.")
    ] = "0",
    every: Annotated[Every | None, typer.Option(help="How often it is full again; never without.")] = None,
    amend: Annotated[
        bool, typer.Option("--amend", help="Change the limit of an account that there is.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Open an account in a ledger, which is made where there is none; for the data owner.

    Example: dayfly sandbox account budget.db --scope analyst --name ann --epsilon 1 --every week
    """
    import dataclasses  # noqa: PLC0415 - see `query`

    from dayfly.privacy.ledger import DAY_MS, WEEK_MS, Account, Limit, budget_rows  # noqa: PLC0415 - see `query`
    from dayfly.privacy.sandbox.numbers import exact  # noqa: PLC0415 - see `query`

    limit = Limit(
        epsilon=None if epsilon is None else exact(epsilon, "epsilon"),
        rho=None if rho is None else exact(rho, "rho"),
        delta=exact(delta, "delta"),
    )
    period_ms = {None: None, Every.DAY: DAY_MS, Every.WEEK: WEEK_MS}[every]
    opened_account = Account(scope.value, name, limit, period_ms=period_ms)
    with budget_ledger(ledger, create=not amend) as opened:
        (opened.amend if amend else opened.declare)(opened_account)
        rows = [row for row in budget_rows(opened) if (row.scope, row.name) == (scope.value, name)]
    if as_json:
        print_json({"accounts": [dataclasses.asdict(row) for row in rows]})
    else:
        screen().print(budgets(rows))
