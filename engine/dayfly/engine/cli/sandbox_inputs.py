"""What the sandbox's commands read: a document, a ledger, and the tables or the store behind the sources."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .exits import fail
from .opening import now_ms, open_keys, opened_engine

if TYPE_CHECKING:
    from dayfly.privacy.ledger import Ledger
    from dayfly.privacy.sandbox import QueryDocument, Sandbox, Source, Workload

__all__ = ["Asked", "SandboxInputs", "asked_of", "budget_ledger", "opened_sandbox"]


@dataclass(frozen=True, slots=True)
class SandboxInputs:
    """Options that say where rows come from, in the order of the commands."""

    tables: list[str] | None
    customer: str
    data_set: str
    store: Path | None
    keys: Path | None
    topic: str
    categories: list[str] | None
    recipient: str
    country: str
    passphrase_file: Path | None
    ask: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """A document, with the budget of the command line in place of its own.

    Attributes:
        document: It.
        budget: Its budget as keywords of `SandboxQuery.preview` and `explain`.
    """

    document: "QueryDocument"
    budget: Mapping[str, Any]

    @staticmethod
    def workload(file: Path | None) -> "Workload | None":
        """A workload from a JSON file; None where none is given."""
        from msgspec import MsgspecError, json  # noqa: PLC0415 - only commands load libraries

        from dayfly.privacy.sandbox import Workload  # noqa: PLC0415 - as above

        if file is None:
            return None
        try:
            return json.decode(file.read_bytes(), type=Workload)
        except (MsgspecError, UnicodeDecodeError) as error:
            fail(
                f"workload={str(file)!r} must be a workload ({error}); give customers and distributions as JSON"
            )


def asked_of(document: Path, epsilon: str | None, delta: str | None, rho: str | None) -> Asked:
    """Read a document and put the budget of the command line in place of its own."""
    from msgspec.structs import replace  # noqa: PLC0415 - only commands load libraries

    from dayfly.privacy.sandbox import Budget, parse_document  # noqa: PLC0415 - as above

    text = sys.stdin.read() if str(document) == "-" else document.read_text(encoding="utf-8")
    found = parse_document(text)
    budget = found.budget or Budget()
    if epsilon is not None or rho is not None:
        budget = Budget(epsilon=epsilon, rho=rho, delta=delta, shares=budget.shares)
    elif delta is not None:
        budget = replace(budget, delta=delta)
    keywords = {name: getattr(budget, name) for name in ("epsilon", "delta", "rho", "shares")}
    return Asked(replace(found, budget=budget), keywords)


@contextmanager
def budget_ledger(file: Path, *, create: bool = False) -> "Iterator[Ledger]":
    """The ledger of a file."""
    from dayfly.privacy.ledger import Ledger  # noqa: PLC0415 - only commands load libraries

    if not create and not file.exists():
        fail(f"ledger={str(file)!r} must be there; the data owner makes one with `dayfly sandbox account`")
    with Ledger.open(file, now_ms=now_ms, create=create) as opened:
        yield opened


@contextmanager
def opened_sandbox(inputs: SandboxInputs, ledger: Path, analyst: str, purpose: str) -> "Iterator[Sandbox]":
    """A sandbox over tables, or over a store that nobody else has open."""
    from dayfly.privacy.sandbox import Sandbox  # noqa: PLC0415 - only commands load libraries

    if (inputs.tables is None) == (inputs.store is None):
        fail("source must be --table NAME=FILE or --store DIR, one of them; choose one")
    with budget_ledger(ledger) as opened:
        sources = _tables(inputs) if inputs.store is None else _store(inputs, inputs.store, purpose)
        yield Sandbox(ledger=opened, sources=sources, analyst=analyst, purpose=purpose)


def _tables(inputs: SandboxInputs) -> "dict[str, Source]":
    from dayfly.privacy.sandbox import Source  # noqa: PLC0415 - only commands load libraries

    found = {}
    for text in inputs.tables or []:
        name, equals, file = text.partition("=")
        if not (name and equals and file):
            fail(f"table={text!r} must be NAME=FILE; write such as orders=orders.parquet")
        found[name] = Source(_existing(Path(file)), customer=inputs.customer, data_set=inputs.data_set)
    return found


def _existing(file: Path) -> Path:
    with file.open("rb"):
        return file


def _store(inputs: SandboxInputs, store: Path, purpose: str) -> "Mapping[str, Source]":
    from dayfly.privacy.consent import ConsentRequest  # noqa: PLC0415 - only commands load libraries

    if inputs.keys is None:
        fail("keys=<none> must be given with --store; pass the tenant's key file")
    need = ConsentRequest(
        purpose,
        topic=inputs.topic,
        data_categories=tuple(inputs.categories or ()),
        recipient=inputs.recipient,
        recipient_country=inputs.country,
    ).checked()
    provider = open_keys(inputs.keys, inputs.passphrase_file, inputs.ask)
    with opened_engine(store, provider, None) as engine:
        return engine.sandbox_sources(need, data_set=inputs.data_set or "store")
