"""Black-box audit: run a mechanism many times on two neighbouring data sets and bound its epsilon from below.

What an audit shows is one-sided: a lower bound above the claim proves the claim wrong; a lower bound below it proves
nothing, except that a bound close to the claim shows that the claim is not loose and that the audit had the power to see.
"""

from .bounds import BinomialInterval, clopper_pearson, delta_lower, epsilon_lower
from .parts import QueryParts, query_parts
from .queries import audit_query
from .run import AuditReport, Draws, Statistic, audit, audit_delta

__all__ = [
    "AuditReport",
    "BinomialInterval",
    "Draws",
    "QueryParts",
    "Statistic",
    "audit",
    "audit_delta",
    "audit_query",
    "clopper_pearson",
    "delta_lower",
    "epsilon_lower",
    "query_parts",
]
