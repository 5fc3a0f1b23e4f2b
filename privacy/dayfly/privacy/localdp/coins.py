"""Coins whose odds are never above the promised ones: whole numbers out of 2^bits, compared with random bytes.

Claim:
    `share(odds, others, bits)` is the smallest `w` for which a true answer of weight `2^bits - others w` against `others`
    answers of weight `w` each has odds of at most `odds`. `odds_of(epsilon)` is at most `e^epsilon`.

Argument:
    `(2^bits - others w) / w <= odds` is `w >= 2^bits / (odds + others)`; the ceiling is exact in integers. `exp_down` is a
    lower bound. No float and no rejection loop takes part, so every draw uses the same number of bytes.

Source:
    Mironov, CCS 2012, and Jin, McMurtry, Rubinstein, Ohrimenko, S&P 2022: what floats and timing give away.
"""

from collections.abc import Callable
from fractions import Fraction

from dayfly.privacy._check import in_range
from dayfly.privacy.accounting.rounding import exp_down, positive_exact
from dayfly.privacy.errors import InvalidArgument

__all__ = ["RandomBytes", "draw", "odds_of", "share"]

RandomBytes = Callable[[int], bytes]


def odds_of(epsilon: Fraction | int) -> Fraction:
    """A lower bound of e^epsilon.

    Raises:
        InvalidArgument: Not an exact number in (0, 64].
    """
    checked = positive_exact("epsilon", epsilon)
    if checked > 64:
        raise InvalidArgument(
            f"epsilon={epsilon!r} must be <= 64; such an answer is the truth, so ask for it openly"
        )
    return exp_down(checked)


def share(odds: Fraction, others: int, bits: int) -> int:
    """Weight out of 2^bits of each of `others` untrue answers, rounded up.

    Raises:
        InvalidArgument: So few bits, so many answers or so small an epsilon that truth and untruth weigh the same.
    """
    whole = 1 << bits
    weight = -(-whole // (odds + others))
    if whole - others * weight <= weight:
        raise InvalidArgument(
            f"precision_bytes={bits // 8!r} must tell {others + 1} answers apart; take more bytes (up to 8), a larger epsilon "
            "or fewer categories"
        )
    return weight


def draw(random_bytes: RandomBytes, size: int) -> int:
    """An even number in [0, 256^size).

    Raises:
        InvalidArgument: The source gave another number of bytes.
    """
    drawn = random_bytes(in_range(1, 8, size=size))
    if not isinstance(drawn, bytes) or len(drawn) != size:
        raise InvalidArgument(f"random_bytes={drawn!r} must be {size} bytes; pass os.urandom")
    return int.from_bytes(drawn, "little")
