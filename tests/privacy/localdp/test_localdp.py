"""Local mechanisms: epsilon and unbiasedness exactly by exhaustion, variance and peers by statistics."""

import math
import random
from collections.abc import Callable, Hashable
from decimal import Context
from fractions import Fraction
from functools import cache, partial
from typing import Any

import numpy as np
import opendp.prelude as dp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.privacy.accounting import PureLoss, RandomizedResponseLoss
from dayfly.privacy.errors import InvalidArgument
from dayfly.privacy.localdp import FrequencyEstimate, HadamardResponse, RandomizedResponse, UnaryEncoding

from ...oracles.dp_local import distribution, largest_ratio, sylvester

dp.enable_features("contrib")

Mechanism = RandomizedResponse | UnaryEncoding | HadamardResponse
EPSILONS = [Fraction(1, 4), Fraction(1), 3]
ABC = ("a", "b", "c")


def symmetric(categories: tuple[str, ...], epsilon: Fraction | int, **settings: Any) -> UnaryEncoding:
    return UnaryEncoding(categories, epsilon, symmetric=True, **settings)


MAKERS: dict[str, tuple[Callable[..., Mechanism], tuple[str, ...], int]] = {
    "response": (RandomizedResponse, ABC, 1),
    "response-2": (RandomizedResponse, ABC[:2], 1),
    "unary": (UnaryEncoding, ABC[:2], 2),
    "symmetric": (symmetric, ABC[:2], 2),
    "hadamard": (HadamardResponse, ABC, 2),
}


def made(name: str, epsilon: Fraction | int) -> Mechanism:
    maker, categories, _ = MAKERS[name]
    return maker(categories, epsilon, precision_bytes=1)


@cache
def distributions(name: str, mechanism: Mechanism) -> dict[str, dict[Hashable, Fraction]]:
    size = MAKERS[name][2]
    return {
        category: distribution(partial(mechanism.encode, category), size) for category in mechanism.categories
    }


def support_of(mechanism: Mechanism, report: Hashable) -> list[int]:
    if isinstance(mechanism, UnaryEncoding):
        assert isinstance(report, bytes)
        return list(map(int, mechanism.supports([report])))
    return list(map(int, mechanism.supports(np.array([report]))))


def exp(value: Fraction | int) -> Fraction:
    """e^value to 40 digits, by the decimal module."""
    context = Context(prec=40)
    fraction = Fraction(value)
    return Fraction(context.exp(context.divide(fraction.numerator, fraction.denominator)))


@pytest.mark.parametrize("epsilon", EPSILONS, ids=str)
@pytest.mark.parametrize("name", MAKERS)
def test_by_exhaustion_no_two_values_differ_by_more_than_epsilon(name: str, epsilon: Fraction | int) -> None:
    mechanism = made(name, epsilon)
    found = distributions(name, mechanism)
    worst = max(largest_ratio(one, other) for one in found.values() for other in found.values())
    assert worst <= exp(epsilon)
    assert worst >= min(exp(epsilon) * Fraction(8, 10), Fraction(40)), "far below what was allowed"
    assert mechanism.loss == PureLoss(Fraction(epsilon))


@pytest.mark.parametrize("epsilon", EPSILONS, ids=str)
@pytest.mark.parametrize("name", MAKERS)
def test_by_exhaustion_decoding_is_unbiased_and_has_the_stated_variance(
    name: str, epsilon: Fraction | int
) -> None:
    mechanism = made(name, epsilon)
    p, q = mechanism.keep, mechanism.stray
    for category, reports in distributions(name, mechanism).items():
        assert sum(reports.values()) == 1
        for place, other in enumerate(mechanism.categories):
            decoded = {report: (support_of(mechanism, report)[place] - q) / (p - q) for report in reports}
            mean = sum((reports[report] * decoded[report] for report in reports), Fraction(0))
            square = sum((reports[report] * decoded[report] ** 2 for report in reports), Fraction(0))
            chance = p if other == category else q
            assert mean == (other == category)
            assert square - mean**2 == chance * (1 - chance) / (p - q) ** 2


@given(
    epsilon=st.fractions(Fraction(1, 1_000), 64),
    count=st.integers(2, 300),
    precision=st.integers(4, 8),
    maker=st.sampled_from([RandomizedResponse, UnaryEncoding, symmetric, HadamardResponse]),
)
def test_the_odds_of_every_size_stay_below_those_of_epsilon(
    epsilon: Fraction, count: int, precision: int, maker: Callable[..., Mechanism]
) -> None:
    mechanism = maker(tuple(map(str, range(count))), epsilon, precision_bytes=precision)
    p, q = mechanism.keep, mechanism.stray
    odds = p / (1 - p) if isinstance(mechanism, HadamardResponse) else p / q
    if isinstance(mechanism, UnaryEncoding):
        odds *= (1 - q) / (1 - p)
    assert 1 < odds <= exp(epsilon)
    if precision == 8 and epsilon < 20:
        assert odds >= exp(epsilon) * (1 - Fraction(1, 10**6))


@pytest.mark.parametrize("epsilon", EPSILONS, ids=str)
def test_opendp_and_the_accountant_find_the_same_epsilon_for_randomised_response(
    epsilon: Fraction | int,
) -> None:
    mechanism = RandomizedResponse(ABC, epsilon)
    peer = dp.m.make_randomized_response(list(ABC), float(mechanism.keep))
    found: float = peer.map(1)  # type: ignore[no-untyped-call]  # OpenDP publishes no type for it
    assert found == pytest.approx(float(epsilon), rel=1e-9)
    event = RandomizedResponseLoss(noise=3 * mechanism.stray, categories=3)
    assert event.odds == mechanism.keep / mechanism.stray
    assert math.log(event.odds) == pytest.approx(float(epsilon), rel=1e-12)


def test_opendp_answers_randomised_response_as_often_alike() -> None:
    mechanism, source = RandomizedResponse(ABC, 1), random.Random(4)
    peer = dp.m.make_randomized_response(list(ABC), float(mechanism.keep))
    ours = np.bincount([mechanism.encode("b", source.randbytes) for _ in range(4_000)], minlength=3)
    theirs = np.array([0, 0, 0])
    for _ in range(4_000):
        theirs[ABC.index(peer("b"))] += 1
    expected = 4_000 * np.array([float(mechanism.stray), float(mechanism.keep), float(mechanism.stray)])
    for found in (ours, theirs):
        assert float(np.sum((found - expected) ** 2 / expected)) < 18.4  # chi-square, 2 degrees, 1e-4


@pytest.mark.parametrize("maker", [RandomizedResponse, UnaryEncoding, symmetric, HadamardResponse])
def test_a_population_is_estimated_within_its_intervals(maker: Callable[..., Mechanism]) -> None:
    categories = tuple("abcdefghijk")
    mechanism, source = maker(categories, 2), random.Random(9)
    truth = [400, 300, 0, 100, 0, 100, 50, 0, 50, 0, 0]
    reports: list[Any] = [
        mechanism.encode(category, source.randbytes)
        for category, people in zip(categories, truth, strict=True)
        for _ in range(people)
    ]
    if isinstance(mechanism, UnaryEncoding):
        supports = mechanism.supports(reports[:333]) + mechanism.supports(reports[333:])
    else:
        supports = mechanism.supports(np.array(reports[:333])) + mechanism.supports(np.array(reports[333:]))
    found = mechanism.estimate(supports, 1_000)
    low, high = found.interval(0.9999)
    assert np.all((low <= truth) & (truth <= high))
    p, q = float(mechanism.keep), float(mechanism.stray)
    exact = [math.sqrt(one * p * (1 - p) + (1_000 - one) * q * (1 - q)) / (p - q) for one in truth]
    assert found.standard_errors == pytest.approx(exact, rel=0.2)
    assert found.count("a") == found.counts[0]


def test_standard_errors_are_those_seen_over_many_populations() -> None:
    mechanism, source = HadamardResponse(ABC, 1), random.Random(3)
    found = []
    for _ in range(300):
        reports = np.array([mechanism.encode("a" if i < 30 else "b", source.randbytes) for i in range(100)])
        found.append(mechanism.estimate(mechanism.supports(reports), 100))
    counts = np.array([one.counts for one in found])
    stated = np.mean([one.standard_errors for one in found], axis=0)
    assert counts.std(axis=0) / stated == pytest.approx(np.ones(3), abs=0.15)
    assert counts.mean(axis=0) == pytest.approx([30, 70, 0], abs=5)


@pytest.mark.parametrize("count", [2, 3, 4, 7, 8, 100])
def test_supports_of_words_are_those_of_the_dense_hadamard_matrix(count: int) -> None:
    mechanism = HadamardResponse(tuple(map(str, range(count))), 1)
    words = np.random.default_rng(1).integers(0, mechanism.words, 500)
    dense = sylvester(mechanism.words)
    assert mechanism.words > count
    assert mechanism.supports(words).tolist() == [
        int(np.sum(dense[row, words] == 1)) for row in range(1, count + 1)
    ]


@given(bits=st.lists(st.lists(st.booleans(), min_size=11, max_size=11), max_size=30))
def test_supports_of_bits_are_plain_sums(bits: list[list[bool]]) -> None:
    mechanism = UnaryEncoding(tuple("abcdefghijk"), 1)
    reports = [int("".join(str(int(bit)) for bit in row) + "00000", 2).to_bytes(2, "big") for row in bits]
    expected = [sum(row[place] for row in bits) for place in range(11)]
    assert mechanism.supports(reports).tolist() == expected


def test_more_reports_than_a_batch_are_all_counted() -> None:
    mechanism = UnaryEncoding(ABC, 1)
    assert mechanism.supports([b"\xa0"] * 4_097).tolist() == [4_097, 0, 4_097]


class Counted:
    """Zeros, and how many were asked for at a time."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, size: int) -> bytes:
        self.sizes.append(size)
        return bytes(size)


def test_reports_read_the_same_number_of_bytes_whatever_the_value() -> None:
    for mechanism in (RandomizedResponse(ABC, 1), UnaryEncoding(ABC, 1), HadamardResponse(ABC, 1)):
        read = []
        for category in ABC:
            source = Counted()
            mechanism.encode(category, source)
            read.append(source.sizes)
        assert read[0] == read[1] == read[2]


@pytest.mark.parametrize("epsilon", [0, -1, Fraction(-1, 2), 1.0, float("nan"), float("inf"), "1", True, 65])
@pytest.mark.parametrize("maker", [RandomizedResponse, UnaryEncoding, HadamardResponse])
def test_an_epsilon_that_is_no_exact_number_in_range_is_refused(
    maker: Callable[..., Mechanism], epsilon: object
) -> None:
    with pytest.raises(InvalidArgument, match=r"epsilon=.* must be"):
        maker(ABC, epsilon)


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        (("a",), "categories=1 must lie in"),
        ((), "categories=0 must lie in"),
        (("a", "b", "a"), r"categories=\('a', 'b', 'a'\) must differ"),
        ("abc", "categories='abc' must be a tuple"),
        (["a", "b"], "must be a tuple"),
    ],
)
def test_categories_that_cannot_be_told_apart_are_refused(categories: object, message: str) -> None:
    for maker in (RandomizedResponse, UnaryEncoding, HadamardResponse):
        with pytest.raises(InvalidArgument, match=message):
            maker(categories, 1)  # type: ignore[arg-type]


def test_precision_that_cannot_tell_truth_from_untruth_is_refused() -> None:
    many = tuple(map(str, range(200)))
    with pytest.raises(InvalidArgument, match="precision_bytes=1 must tell 200 answers apart"):
        RandomizedResponse(many, Fraction(1, 2), precision_bytes=1)
    with pytest.raises(InvalidArgument, match="precision_bytes=8 must tell 2 answers apart"):
        HadamardResponse(ABC, Fraction(1, 10**30))
    for precision in (0, 9):
        with pytest.raises(InvalidArgument, match=f"precision_bytes={precision} must lie in"):
            UnaryEncoding(ABC, 1, precision_bytes=precision)


def test_an_unknown_category_is_refused() -> None:
    for mechanism in (RandomizedResponse(ABC, 1), UnaryEncoding(ABC, 1), HadamardResponse(ABC, 1)):
        with pytest.raises(InvalidArgument, match="category='d' must be one of"):
            mechanism.encode("d", bytes)
    with pytest.raises(InvalidArgument, match="category='d' must be one of"):
        RandomizedResponse(ABC, 1).estimate(np.array([1, 0, 0]), 1).count("d")


@pytest.mark.parametrize(
    "source",
    [lambda size: b"", lambda size: bytes(size + 1), lambda size: "x" * size],
    ids=["few", "many", "text"],
)
def test_a_random_source_that_gives_something_else_is_refused(source: Any) -> None:
    for mechanism in (RandomizedResponse(ABC, 1), UnaryEncoding(ABC, 1), HadamardResponse(ABC, 1)):
        with pytest.raises(InvalidArgument, match=r"random_bytes=.* must be \d bytes; pass os.urandom"):
            mechanism.encode("a", source)


@pytest.mark.parametrize(
    ("reports", "message"),
    [
        (np.array([0, 3]), r"reports\[1\]=3 must lie in \[0, 2\]"),
        (np.array([-1]), r"reports\[0\]=-1 must lie in"),
        (np.array([0.0]), "reports=float64 must be a one-dimensional integer array"),
        (np.array([[0]]), "must be a one-dimensional integer array"),
        ([0], "reports=list must be"),
    ],
)
def test_reports_of_another_mechanism_are_refused(reports: Any, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        RandomizedResponse(ABC, 1).supports(reports)


def test_words_and_bits_of_another_mechanism_are_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"reports\[0\]=4 must lie in \[0, 3\]"):
        HadamardResponse(ABC, 1).supports(np.array([4]))
    for wrong in (b"", b"\0\0", [1]):
        with pytest.raises(InvalidArgument, match=r"reports\[1\]=.* must be 1 bytes"):
            UnaryEncoding(ABC, 1).supports([b"\0", wrong])  # type: ignore[list-item]
    with pytest.raises(InvalidArgument, match="reports=1 ones after category 3 must be 0"):
        UnaryEncoding(ABC, 1).supports([b"\x10"])


@pytest.mark.parametrize(
    ("supports", "reports", "message"),
    [
        ([0, 0, 0], 0, "reports=0 must be > 0"),
        ([0, 0], 2, r"supports=.* must be 3 counts in \[0, 2\]"),
        ([0, 0, 3], 2, "must be 3 counts in"),
        ([0, 0, -1], 2, "must be 3 counts in"),
    ],
)
def test_supports_that_so_many_reports_cannot_give_are_refused(
    supports: list[int], reports: int, message: str
) -> None:
    with pytest.raises(InvalidArgument, match=message):
        RandomizedResponse(ABC, 1).estimate(np.array(supports), reports)


def test_a_confidence_outside_zero_and_one_is_refused() -> None:
    estimate = RandomizedResponse(ABC, 1).estimate(np.array([1, 0, 0]), 1)
    assert isinstance(estimate, FrequencyEstimate)
    for confidence in (0, 1, float("nan")):
        with pytest.raises(InvalidArgument, match=r"confidence=.* must lie in \(0, 1\)"):
            estimate.interval(confidence)
