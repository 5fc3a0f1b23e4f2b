"""The privacy sandbox: differentially private answers about customers, foreseen before and paid from a ledger.

An analyst gets a `Sandbox` and nothing else::

    answer = (
        sandbox.query("orders")
        .where(col("quantity") > 0)
        .derive(net=col("quantity") * col("unit_price"))
        .group_by("country", keys=["France", "Germany"])
        .bound(groups_per_customer=1, rows_per_group=20)
        .count()
        .sum("net", lower=0, upper=500)
        .release(epsilon="0.5")
    )
    answer.table, answer.loss, answer.remaining, answer.lineage

`language` is what expressions mean, `queries` and `documents` what a query is, `checking` and `planning` what is decided before
anything is spent, `parts` why the sensitivities hold, `handle` the order of a release.
"""

from .contributing import Contributions
from .documents import QueryDocument, parse_document, query_schema, to_json, to_yaml
from .explaining import Explanation, PartExplanation
from .fluent import calendar_keys
from .handle import Sandbox, SandboxQuery
from .language import Expression, Kind, col
from .numbers import Budget
from .preview import ColumnPreview, Preview
from .queries import Query
from .results import Lineage, Release
from .sources import Source
from .suggesting import Suggestion
from .workloads import Workload

__all__ = [
    "Budget",
    "ColumnPreview",
    "Contributions",
    "Explanation",
    "Expression",
    "Kind",
    "Lineage",
    "PartExplanation",
    "Preview",
    "Query",
    "QueryDocument",
    "Release",
    "Sandbox",
    "SandboxQuery",
    "Source",
    "Suggestion",
    "Workload",
    "calendar_keys",
    "col",
    "parse_document",
    "query_schema",
    "to_json",
    "to_yaml",
]
