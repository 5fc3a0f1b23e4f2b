"""Factors of the running-total matrix, as multiples of 2^-30, with what they promise computed in integers.

A factor is a lower triangular Toeplitz matrix `C` with ones on its diagonal. Noise `z` is drawn once per step, and what
is added to the data is `C^-1 z`; the running totals then carry the noise `B z` with `B C` = the matrix of running totals.
The reach of one contribution, `h`, bounds how far it moves the centre of each later step's noise *in the arithmetic that
the kernels really do*: roundings are inside the bound, so a sensitivity that is computed from `h` holds exactly.

Claim (reach):
    Fix what was published. Change the increments of one series at the steps `s_1, s_2, ...`, each by at most `M` in
    size. Then the centre of step `t` moves by at most `sum over s_i <= t of h[t - s_i]`, with `h = reach(M * 2^f, ...)`.

Argument:
    What was published being fixed, the residual (published less increment) moves only at the steps `s_i`, by at most
    `I = M * 2^f`; clipping moves nothing further apart. BLT: a buffer's update is `clip(floor(t b + 1/2) + 2^g r)`, and
    `|floor(x + 1/2) - floor(y + 1/2)| <= ceil(|x - y|)`, so a bound `H` of the difference of two buffers becomes
    `ceil(t H)`, from `2^g I` on; what is returned is `floor(sum_j w_j b_j / 2^g + 1/2)`, which moves by at most
    `ceil(sum_j w_j H_j / 2^g)`. `ceil(x + y) <= ceil(x) + ceil(y)`, so the bounds of several contributions add up, by
    induction over the steps. Square root: the same without buffers.

    `h` does not increase: `ceil(t H) <= H` for an integer `H` and `t < 1`, and `h[1] <= h[0]` because the `w_j` sum to
    at most one. `dayfly.privacy.continual.participation` needs that.

Source:
    Fichtenberger, Henzinger, Upadhyay, arXiv 2202.11205 (square root); Dvijotham, McMahan, Pillutla, Steinke,
    Thakurta, arXiv 2404.16706 (BLT). The integer bound is ours.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dayfly.privacy._check import in_range, positive
from dayfly.privacy.errors import InvalidArgument

__all__ = ["FRACTION_BITS", "Blt", "Factor", "SquareRoot", "blt", "tabulated_lengths"]

FRACTION_BITS: Final = 30
_UNIT: Final = 1 << FRACTION_BITS
_MOST_BUFFERS: Final = 4
_LONGEST_ROOT: Final = 16_384


class Factor(Protocol):
    """A Toeplitz factor that running totals can be released with."""

    def reach(self, impulse: int, length: int, *, guard_bits: int) -> list[int]:
        """Bounds on the change of each later centre, non-increasing, in lattice units; see the module's claim.

        Args:
            impulse: Largest change of one increment, lattice units.
            length: Steps.
            guard_bits: Bits below the lattice that buffers hold.
        """
        ...

    def columns(self, length: int) -> NDArray[np.float64]:
        """First column of `C`: float64 (length,)."""
        ...

    def rows(self, length: int) -> NDArray[np.float64]:
        """First column of `B`, the weights of the newest to the oldest draw in a running total: float64 (length,)."""
        ...


@dataclass(frozen=True, slots=True)
class Blt:
    """Buffered linear Toeplitz: `c[0] = 1`, `c[k] = sum_j scales[j] decays[j]^(k-1)`; 32 bytes of state per series.

    Attributes:
        decays: Up to four, multiples of 2^-30, in `(0, 1)`, falling.
        scales: As many, multiples of 2^-30, positive, with a sum of at most one.

    Raises:
        InvalidArgument: Numbers that break these rules.
    """

    decays: tuple[int, ...]
    scales: tuple[int, ...]

    def __post_init__(self) -> None:
        in_range(1, _MOST_BUFFERS, buffers=len(self.decays))
        if len(self.scales) != len(self.decays):
            raise InvalidArgument(
                f"scales={self.scales!r} must be as many as decays; pass one scale per decay"
            )
        if list(self.decays) != sorted(set(self.decays), reverse=True) or self.decays[-1] <= 0:
            raise InvalidArgument(
                f"decays={self.decays!r} must fall and be > 0; order them, merge equal ones"
            )
        in_range(1, _UNIT - 1, decay=self.decays[0])
        if min(self.scales) <= 0 or sum(self.scales) > _UNIT:
            raise InvalidArgument(
                f"scales={self.scales!r} must be > 0 and sum to at most 2^{FRACTION_BITS}; take a row of the table"
            )

    def reach(self, impulse: int, length: int, *, guard_bits: int) -> list[int]:
        """As `Factor.reach`."""
        bounds = [impulse << guard_bits] * len(self.decays)
        found = [impulse]
        divisor = FRACTION_BITS + guard_bits
        for _ in range(1, length):
            moved = sum(scale * bound for scale, bound in zip(self.scales, bounds, strict=True))
            found.append(-(-moved >> divisor))
            bounds = [
                -(-decay * bound >> FRACTION_BITS) for decay, bound in zip(self.decays, bounds, strict=True)
            ]
        return found

    def columns(self, length: int) -> NDArray[np.float64]:
        """As `Factor.columns`."""
        found = np.zeros(length)
        found[0] = 1
        for decay, scale in zip(self.decays, self.scales, strict=True):
            found[1:] += scale / _UNIT * (decay / _UNIT) ** np.arange(length - 1, dtype=np.float64)
        return found

    def rows(self, length: int) -> NDArray[np.float64]:
        """As `Factor.rows`."""
        decays = [decay / _UNIT for decay in self.decays]
        scales = [scale / _UNIT for scale in self.scales]
        buffers = [0.0] * len(decays)
        found = np.empty(length)
        total = 0.0
        for k in range(length):
            part = (k == 0) - sum(scale * buffer for scale, buffer in zip(scales, buffers, strict=True))
            buffers = [decay * buffer + part for decay, buffer in zip(decays, buffers, strict=True)]
            total += part
            found[k] = total
        return found


@dataclass(frozen=True, slots=True)
class SquareRoot:
    """The square root of the running-total matrix: least error of all Toeplitz factors, 8 bytes of state per series and step.

    `c[k] = c[k-1] (1 - 1/(2k))`, rounded to multiples of 2^-30. A step costs one product per series and earlier step,
    so it is for short streams.
    """

    def coefficients(self, length: int) -> NDArray[np.int64]:
        """`c` in multiples of 2^-30: int64 (length,).

        Raises:
            InvalidArgument: More steps than int64 sums are proven for.
        """
        in_range(1, _LONGEST_ROOT, length=length)
        return _root_coefficients(length).copy()

    def reach(self, impulse: int, length: int, *, guard_bits: int) -> list[int]:
        """As `Factor.reach`; there are no buffers, so no guard bits."""
        in_range(0, 0, guard_bits=guard_bits)
        later = [
            -(-coefficient * impulse >> FRACTION_BITS) for coefficient in self.coefficients(length).tolist()
        ]
        return [impulse, *later[1:]]

    def columns(self, length: int) -> NDArray[np.float64]:
        """As `Factor.columns`."""
        return self.coefficients(length) / _UNIT

    def rows(self, length: int) -> NDArray[np.float64]:
        """As `Factor.rows`."""
        columns = self.columns(length)
        inverse = np.zeros(length)
        inverse[0] = 1
        for k in range(1, length):
            inverse[k] = -np.dot(columns[1 : k + 1], inverse[k - 1 :: -1])
        return np.cumsum(inverse)


@lru_cache(maxsize=4)
def _root_coefficients(length: int) -> NDArray[np.int64]:
    # 2^60 keeps the recurrence's own rounding far below the 2^-30 it is rounded to.
    value, found = 1 << 60, [_UNIT]
    for k in range(1, length):
        value = value * (2 * k - 1) // (2 * k)
        found.append(min(found[-1], (value + (1 << 29)) >> 30))
    return np.array(found, np.int64)


@lru_cache(maxsize=1)
def _table() -> dict[tuple[int, int], Blt]:
    stored = json.loads(
        files("dayfly.privacy.continual").joinpath("blt_table.json").read_text(encoding="utf-8")
    )
    rows = ((row["length"], Blt(tuple(row["decays"]), tuple(row["scales"]))) for row in stored["rows"])
    return {(length, len(factor.decays)): factor for length, factor in rows}


def tabulated_lengths() -> tuple[int, ...]:
    """Numbers of steps that the shipped table has optimised factors for, rising."""
    return tuple(sorted({length for length, _ in _table()}))


def blt(length: int, *, buffers: int = _MOST_BUFFERS) -> Blt:
    """The shipped factor for a stream of `length` steps: the row of the smallest tabulated length that is not shorter.

    Args:
        length: Steps, known ahead.
        buffers: 1 to 4; four are within 0.7 % of the optimum at every tabulated length, fewer are for comparison.

    Returns:
        A factor. It is optimised for one participation per customer; with more it is still valid, and what it then
        costs is in `StreamPlan.l2_squared`.

    Raises:
        InvalidArgument: Longer than the table, or no such number of buffers.
    """
    positive(length=length)
    in_range(1, _MOST_BUFFERS, buffers=buffers)
    for tabulated in tabulated_lengths():
        if tabulated >= length:
            return _table()[tabulated, buffers]
    raise InvalidArgument(
        f"length={length!r} must be <= {tabulated_lengths()[-1]}; restart the totals after fewer steps (StreamPlan.restarts), "
        "or pass your own Blt made by tools/blt_table.py"
    )
