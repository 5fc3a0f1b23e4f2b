"""Sums of discrete Gaussians by exact convolution in 60 digits: their laws, and the divergences of shifted copies."""

import functools
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import ParamSpec, TypeVar

from mpmath import exp, log, mp, mpf, sqrt

DIGITS = 60
Law = dict[int, mpf]
P = ParamSpec("P")
T = TypeVar("T")


def in_digits(function: Callable[P, T]) -> Callable[P, T]:
    """Computes in `DIGITS`, whatever precision its caller has, and leaves that as it was."""

    @functools.wraps(function)
    def inner(*args: P.args, **kwargs: P.kwargs) -> T:
        with mp.workdps(DIGITS):
            return function(*args, **kwargs)

    return inner


def precise(value: Fraction | int) -> mpf:
    return mpf(Fraction(value).numerator) / Fraction(value).denominator


@in_digits
def discrete_gaussian(variance: Fraction, reach: int) -> Law:
    """On -reach .. reach; what is left out weighs nothing in 60 digits if the reach is 17 standard deviations."""
    weights = {x: exp(-mpf(x * x) / (2 * precise(variance))) for x in range(-reach, reach + 1)}
    total = sum(weights.values())
    return {x: weight / total for x, weight in weights.items()}


@in_digits
def sum_of_shares(variance: Fraction, shares: int, *, beyond: int = 0) -> Law:
    """Law of the sum of `shares` discrete Gaussians, with exact tails on 17 standard deviations of the sum and `beyond` more."""
    reach = int(17 * sqrt(precise(variance) * shares)) + 2 + beyond
    one = discrete_gaussian(variance, reach)
    law = one
    for _ in range(shares - 1):
        law = {
            x: sum(law[y] * one[x - y] for y in range(max(-reach, x - reach), min(reach, x + reach) + 1))
            for x in range(-reach, reach + 1)
        }
    return law


@in_digits
def renyi_over_order(law: Law, shift: int, order: Fraction) -> mpf:
    """D_alpha / alpha between a law and its copy moved by `shift`; alpha 1 is Kullback and Leibler's divergence."""
    both = [x for x in law if x - shift in law]
    if order == 1:
        return sum(law[x] * log(law[x] / law[x - shift]) for x in both)
    alpha = precise(order)
    moment = sum(law[x] ** alpha * law[x - shift] ** (1 - alpha) for x in both)
    return log(moment) / (alpha - 1) / alpha


@in_digits
def exact_rho(variance: Fraction, shares: int, shift: int, orders: Sequence[Fraction]) -> mpf:
    """The largest D_alpha / alpha over `orders`: no smaller rho can be claimed."""
    beyond = int(max(orders)) * abs(shift)  # the moment of order alpha has its bulk there
    law = sum_of_shares(variance, shares, beyond=beyond)
    return max(renyi_over_order(law, shift, order) for order in orders)


@in_digits
def span(variance: Fraction, shares: int) -> mpf:
    """max - min of ln(P / G) within eight standard deviations; G is the discrete Gaussian of the summed variance, but for a constant."""
    law = sum_of_shares(variance, shares)
    total = precise(variance * shares)
    middle = range(-int(8 * sqrt(total)) - 1, int(8 * sqrt(total)) + 2)
    ratios = [log(law[x]) + mpf(x * x) / (2 * total) for x in middle]
    return max(ratios) - min(ratios)
