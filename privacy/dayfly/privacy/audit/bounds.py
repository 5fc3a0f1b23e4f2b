"""What counts of an event on two neighbouring data sets say about epsilon and delta.

Claim: with probability at least `confidence` over the draws, a mechanism that is (epsilon, delta)-differentially private
has `epsilon_lower(...) <= epsilon`; and likewise `delta_lower(...) <= delta`.
Precondition: the event was fixed before these draws were made, and the draws are independent.
Argument: (epsilon, delta)-DP says P1 <= e^epsilon P0 + delta for every event, so epsilon >= ln((P1 - delta) / P0), and delta >=
P1 - e^epsilon P0. The exact binomial bounds hold P1 from below and P0 from above, each but with probability (1 - confidence) / 2;
both expressions fall with P0 and rise with P1.
Source: Clopper and Pearson, Biometrika 26 (1934); Jagielski, Ullman and Oprea, NeurIPS 2020 (arXiv:2006.07709), section 4.
"""

import math
from typing import Final, NamedTuple

from scipy import special

from dayfly.privacy.errors import InvalidArgument

__all__ = ["BinomialInterval", "clopper_pearson", "delta_lower", "epsilon_lower"]

_LARGE: Final = 700.0
"""Its exponential is a float still."""


class BinomialInterval(NamedTuple):
    """Bounds of a probability.

    Attributes:
        lower: From below.
        upper: From above.
    """

    lower: float
    upper: float


def clopper_pearson(successes: int, draws: int, *, confidence: float = 0.95) -> BinomialInterval:
    """The exact interval of a binomial probability; each end fails with probability at most (1 - confidence) / 2.

    Args:
        successes: How often the event was seen.
        draws: Of how many.
        confidence: Of both ends together.

    Raises:
        InvalidArgument: counts are negative, more successes than draws, or a confidence outside (0, 1).
    """
    if draws < 1 or not 0 <= successes <= draws:
        raise InvalidArgument(
            f"successes={successes} must be from 0 to draws={draws}, of which there must be at least 1; count again"
        )
    if not 0 < confidence < 1:
        raise InvalidArgument(f"confidence={confidence} must be between 0 and 1; 0.95 is usual")
    tail = (1 - confidence) / 2
    failures = draws - successes
    lower = 0.0 if successes == 0 else float(special.betaincinv(successes, failures + 1, tail))
    upper = 1.0 if failures == 0 else float(special.betainccinv(successes + 1, failures, tail))
    return BinomialInterval(lower, upper)


def epsilon_lower(
    seen_with: int,
    draws_with: int,
    seen_without: int,
    draws_without: int,
    *,
    delta: float = 0.0,
    confidence: float,
) -> float:
    """A lower bound of epsilon from how often one event was seen on each of two neighbours.

    Args:
        seen_with: How often on the one.
        draws_with: Of how many draws.
        seen_without: How often on the other.
        draws_without: Of how many draws.
        delta: Of the claim.
        confidence: That the bound holds.

    Returns:
        At least 0; 0 says nothing.

    Raises:
        InvalidArgument: delta is outside [0, 1), or as `clopper_pearson`.
    """
    if not 0 <= delta < 1:
        raise InvalidArgument(
            f"delta={delta} must be at least 0 and less than 1; pass the delta of the claim"
        )
    likely = clopper_pearson(seen_with, draws_with, confidence=confidence).lower - delta
    rare = clopper_pearson(seen_without, draws_without, confidence=confidence).upper
    return max(0.0, math.log(likely / rare)) if likely > 0 else 0.0


def delta_lower(
    seen_with: int,
    draws_with: int,
    seen_without: int,
    draws_without: int,
    *,
    epsilon: float,
    confidence: float,
) -> float:
    """A lower bound of delta from how often one event was seen on each of two neighbours.

    Args:
        seen_with: How often on the one.
        draws_with: Of how many draws.
        seen_without: How often on the other.
        draws_without: Of how many draws.
        epsilon: Of the claim.
        confidence: That the bound holds.

    Returns:
        At least 0; 0 says nothing.

    Raises:
        InvalidArgument: epsilon is not above 0, or as `clopper_pearson`.
    """
    if not epsilon > 0:
        raise InvalidArgument(
            f"epsilon={epsilon} must be a number above 0; pass the epsilon that the mechanism claims"
        )
    likely = clopper_pearson(seen_with, draws_with, confidence=confidence).lower
    rare = clopper_pearson(seen_without, draws_without, confidence=confidence).upper
    return max(0.0, likely - math.exp(min(epsilon, _LARGE)) * rare)
