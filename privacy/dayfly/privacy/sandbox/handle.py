"""`Sandbox`: the only handle on customers' rows that an analyst gets.

The order of a release is fixed: check and plan without reading a row; spend in the ledger, durably; read and bound; draw
noise; answer. What is refused is refused before the spend, from public facts. Nothing after the spend gives it back.
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NoReturn

import msgspec
import pyarrow as pa

from dayfly.privacy.accounting import Cost
from dayfly.privacy.bounding.salts import SALT_BYTES
from dayfly.privacy.errors import InvalidQuery, ReleaseFailed
from dayfly.privacy.ledger import Ledger, Receipt, Remaining, Spend
from dayfly.privacy.noise import NoiseSource

from .asking import SandboxQuery, alpha_of
from .checking import check
from .documents import QueryDocument, canonical, digest_of, parse_document
from .drawing import drawn, prepared
from .finishing import estimates, table_of
from .numbers import Budget
from .planning import Outline, Plan, outline, plan
from .queries import Query, output_columns
from .results import Release, lineage_of
from .sources import Source
from .streaming import ContinualRelease, StreamTerms, created, opened

__all__ = ["Sandbox"]

_RELEASE_ID_BYTES: Final = 16
_PLANS_KEPT: Final = 256


class Sandbox:
    """Differentially private answers about the customers of some sources, paid from a ledger.

    Args:
        ledger: Where every loss is written before its noise is drawn.
        sources: By the names that queries use.
        analyst: Who asks; an account of the ledger.
        purpose: What for, dotted; an account of the ledger covers it.
        noise: Where noise comes from; OpenDP where none is given.
        random_bytes: Source of salts and release ids.

    Guarantees:
        Claim: all releases together are differentially private, for one customer added or removed, with the losses that the
        ledger charged. Assumes: each row is of the customer whom its customer column names; the caller gives analysts this
        object and not the tables behind it. Errors, representations, previews and explanations are made from the query, the
        schema and the ledger alone. The duration of a release is not protected.
    """

    __slots__ = (
        "_ledger",
        "_noise",
        "_outlines",
        "_plans",
        "_random_bytes",
        "_sources",
        "analyst",
        "purpose",
    )

    def __init__(
        self,
        *,
        ledger: Ledger,
        sources: Mapping[str, Source],
        analyst: str,
        purpose: str,
        noise: NoiseSource | None = None,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._ledger: Final = ledger
        self._sources: Final = dict(sources)
        self._noise = noise
        self._random_bytes: Final = random_bytes
        self._outlines: Final[OrderedDict[bytes, Outline]] = OrderedDict()
        self._plans: Final[OrderedDict[bytes, Plan]] = OrderedDict()
        self.analyst: Final = analyst
        self.purpose: Final = purpose

    def __repr__(self) -> str:
        return f"Sandbox(sources={sorted(self._sources)}, analyst={self.analyst!r}, purpose={self.purpose!r})"

    def schema(self, source: str) -> Mapping[str, str]:
        """Names and kinds of the columns of a source.

        Raises:
            InvalidQuery: there is no such source.
        """
        return {name: str(kind) for name, kind in self._source(source).schema.items()}

    def query(self, source: str | Query) -> "SandboxQuery":
        """Begin a query of a source, or take one that is written already.

        Raises:
            InvalidQuery: there is no such source.
        """
        query = Query(source=source) if isinstance(source, str) else source
        self._source(query.source)
        return SandboxQuery(self, query)

    def ask(
        self,
        document: str | bytes | QueryDocument,
        *,
        confidence: float = 0.95,
        release_id: bytes | None = None,
    ) -> Release:
        """Answer a YAML or JSON document that states its budget.

        Raises:
            InvalidQuery: it is none, or states no budget.
            LedgerError, ReleaseFailed: as `SandboxQuery.release`.
        """
        found = document if isinstance(document, QueryDocument) else parse_document(document)
        if found.budget is None:
            raise InvalidQuery(
                "budget=<none> must be in a document that is to be answered; add `budget: {epsilon: ...}`"
            )
        return self._release(found.query, found.budget, confidence, release_id)

    def remaining(self) -> list[Remaining]:
        """The accounts of the ledger that are this analyst's, this purpose's, or of the sources' data sets."""
        parts = self.purpose.split(".")
        purposes = {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
        mine = {("analyst", self.analyst), *(("purpose", name) for name in purposes)}
        mine |= {("data_set", source.data_set or name) for name, source in self._sources.items()}
        return [one for one in self._ledger.accounts() if (one.account.scope, one.account.name) in mine]

    # --- the order of a release ----------------------------------------------------------------------------------------

    def _source(self, name: str) -> Source:
        if name not in self._sources:
            raise InvalidQuery(
                f"source={name!r} must be one of {', '.join(sorted(self._sources))}; check the name"
            )
        return self._sources[name]

    def _plan(self, query: Query, budget: Budget) -> Plan:
        """The plan of a query; the most recent ones are kept, because dashboards ask the same again."""
        key = msgspec.msgpack.encode((query, budget))
        found = self._plans.get(key)
        if found is None:
            found = plan(self._outline(query, budget), budget)
            self._plans[key] = found
            while len(self._plans) > _PLANS_KEPT:
                self._plans.popitem(last=False)
        return found

    def _outline(self, query: Query, budget: Budget) -> Outline:
        """A query that holds for its source; kept as plans are, because the same one is asked with other budgets."""
        key = msgspec.msgpack.encode((query, budget.shares))
        found = self._outlines.get(key)
        if found is None:
            found = outline(check(canonical(query), self._source(query.source).schema), budget.shares)
            self._outlines[key] = found
            while len(self._outlines) > _PLANS_KEPT:
                self._outlines.popitem(last=False)
        return found

    def _release(self, query: Query, budget: Budget, confidence: float, release_id: bytes | None) -> Release:
        alpha = alpha_of(confidence)
        planned = self._plan(query, budget)
        source = self._source(query.source)
        lineage = self._lineage(query, source)
        receipt = self._spend(planned.cost, f"query {planned.digest}", lineage, release_id)
        table, failed = None, ""
        try:
            table = self._answer(planned, source, alpha)
        except Exception as error:  # noqa: BLE001 - whatever it is, its text could hold a value of a row
            failed = type(error).__name__
        if table is None:
            _fail(receipt, failed)
        asked = planned.checked.query
        return Release(
            table=table,
            columns=tuple(name for measure in asked.measures for name in output_columns(measure)),
            confidence=confidence,
            loss=planned.cost,
            receipt=receipt,
            plan=planned,
            lineage=lineage_of(planned.digest, receipt, **lineage),
            document=QueryDocument(query=asked, budget=budget),
        )

    def _continual(
        self,
        query: Query,
        path: Path,
        *,
        rho: Budget,
        length: int,
        steps_per_customer: int,
        min_separation: int,
    ) -> ContinualRelease:
        source, amount = self._source(query.source), rho.exact_rho
        assert amount is not None
        checked = check(canonical(query), source.schema)
        terms = StreamTerms(
            checked, length=length, steps_per_customer=steps_per_customer, min_separation=min_separation
        )
        if path.exists():
            file = opened(terms, path, amount)
        else:
            lineage = self._lineage(query, source)
            what = f"stream of {length} steps of query {digest_of(checked.query).hex()}"
            self._spend(terms.cost(amount), what, lineage, None)
            file = created(terms, path, amount)
        return ContinualRelease(
            terms, file, customer=source.customer, noise=self._noise_source(), random_bytes=self._random_bytes
        )

    def _lineage(self, query: Query, source: Source) -> dict[str, str]:
        data_set = source.data_set or query.source
        return {"data_set": data_set, "analyst": self.analyst, "purpose": self.purpose}

    def _spend(self, cost: Cost, what: str, lineage: Mapping[str, str], release_id: bytes | None) -> Receipt:
        receipt = self._ledger.spend(
            Spend(
                **lineage,
                cost=cost,
                what=what,
                release_id=self._random_bytes(_RELEASE_ID_BYTES) if release_id is None else release_id,
            )
        )
        if not receipt.fresh:
            raise ReleaseFailed(
                f"release_id={receipt.release_id.hex()} must be new, because its answer was drawn before and a second one would "
                "cost again; use the first answer, or ask with another id"
            )
        return receipt

    def _answer(self, planned: Plan, source: Source, alpha: float) -> pa.Table:
        found = prepared(planned, source, self._random_bytes(SALT_BYTES))
        shown, noisy = drawn(planned, found.exact, self._noise_source())
        keys = found.keys if shown is None else found.keys.take(pa.array(shown))
        return table_of(keys, estimates(planned, noisy, alpha), planned)

    def _noise_source(self) -> NoiseSource:
        if self._noise is None:
            from dayfly.privacy.noise import OpenDpNoise  # noqa: PLC0415 - importing OpenDP takes half a second

            self._noise = OpenDpNoise()
        return self._noise


def _fail(receipt: Receipt, kind: str) -> NoReturn:
    raise ReleaseFailed(
        f"release_id={receipt.release_id.hex()} must be finished and was not ({kind}); what it cost stays spent, because an "
        "answer could have been seen; ask the data owner to look, then ask again"
    )
