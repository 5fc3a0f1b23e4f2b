"""Noisy counts over channels: right on average, as noisy as they say, paid for once, and with a loss that peers confirm."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from dayfly.federation.analytics import HistogramSpec, HistogramWorkload, NoisyHistogram, secure_histogram
from dayfly.federation.errors import BadMessage, Declined, InvalidData, InvalidSetting, Refused
from dayfly.federation.local import lost_reply
from dayfly.federation.secagg.messages import encode
from dayfly.privacy.noise import OpenDpNoise
from tests.federation.horizontal.runs import RUN, Paid, grid_of
from tests.federation.secagg.sessions import digest

CITIES = ("Paris", "Lyon", "Nice")
SPEC = HistogramSpec(CITIES, (40, 1), 4)


def customers(number: int) -> dict[str, str]:
    return {f"{number}-{place}": CITIES[place % 2] for place in range(1_000 + number)}


def released(*, spec: HistogramSpec = SPEC, budget: Paid | None = None, **grid: Any) -> NoisyHistogram:
    workloads = {
        f"shop-{number}": HistogramWorkload(
            f"shop-{number}", customers(number), noise=OpenDpNoise(), run=RUN, budget=budget or Paid()
        )
        for number in range(4)
    }
    _, caller = grid_of(workloads, **grid)
    return secure_histogram(caller, spec, session=digest("session")[:16])


def test_counts_are_right_up_to_the_noise_that_is_stated() -> None:
    found = [released() for _ in range(25)]
    truth = {"Paris": sum((1_001 + number) // 2 for number in range(4)), "Nice": 0}
    truth["Lyon"] = 4_006 - truth["Paris"]
    errors = np.array([[one.counts[city] - truth[city] for city in CITIES] for one in found]).ravel()
    stated = found[0].standard_deviation
    assert stated == pytest.approx(40 * math.sqrt(4 / 3), rel=1e-6)
    # 75 draws: a standard deviation of the estimate is 8 %, of the mean stated / sqrt(75); six of each.
    assert 0.5 * stated < errors.std() < 1.5 * stated
    assert abs(errors.mean()) < 6 * stated / math.sqrt(75)


def test_the_noise_of_those_who_are_left_still_reaches_the_scale() -> None:
    found = released(faults={("shop-1", 3): lost_reply})
    assert found.included == ("shop-0", "shop-2", "shop-3")
    assert found.standard_deviation == pytest.approx(40, rel=1e-9)


def test_each_channel_pays_the_loss_once() -> None:
    budget = Paid()
    found = released(budget=budget)
    assert budget.losses == [found.loss] * 4
    assert len(set(budget.releases)) == 1


def test_the_loss_is_that_of_a_customer_in_all_channels() -> None:
    gaussian = Fraction(4**2, 2 * 40**2)
    assert gaussian * Fraction(999_999, 1_000_000) < SPEC.loss.rho <= gaussian + Fraction(1, 10**9)


def test_a_channel_whose_budget_is_used_up_ends_the_run() -> None:
    with pytest.raises(Declined, match="party='shop-0' declined 'mask': the budget of data_set='orders'"):
        released(budget=Paid("the budget of data_set='orders' is used up"))


def test_noise_is_drawn_once_and_a_second_release_is_refused() -> None:
    budget = Paid()
    shop = HistogramWorkload("shop", customers(0), noise=OpenDpNoise(), run=RUN, budget=budget)
    shop.prepare(encode(SPEC), threshold=3)
    first = shop.words(b"histogram", members=4)
    np.testing.assert_array_equal(shop.words(b"histogram", members=4), first)
    with pytest.raises(Refused, match="release=<second>"):
        shop.words(b"another", members=4)
    assert len(budget.losses) == 1


def test_nothing_is_counted_for_more_channels_than_agreed() -> None:
    shop = HistogramWorkload("shop", customers(0), noise=OpenDpNoise(), run=RUN, budget=Paid())
    with pytest.raises(Refused, match="must be at most the agreed channels"):
        shop.words(b"histogram", members=2)
    shop.prepare(encode(SPEC), threshold=3)
    with pytest.raises(Refused, match="members=5 must be at most"):
        shop.words(b"histogram", members=5)


@pytest.mark.parametrize(
    ("spec", "cause"),
    [
        (HistogramSpec(("a", "a"), (40, 1), 4), "must name categories, each once"),
        (HistogramSpec((), (40, 1), 4), "must name categories"),
        (HistogramSpec(("a",), (40, 0), 4), "a scale that is a fraction"),
        (HistogramSpec(("a",), (40, 1), 1), "at least two channels"),
    ],
)
def test_specs_that_contradict_themselves_are_refused(spec: HistogramSpec, cause: str) -> None:
    shop = HistogramWorkload("shop", customers(0), noise=OpenDpNoise(), run=RUN, budget=Paid())
    with pytest.raises(BadMessage, match=cause):
        shop.prepare(encode(spec), threshold=3)


def test_a_session_whose_sums_may_hold_fewer_shares_of_noise_is_refused() -> None:
    shop = HistogramWorkload("shop", customers(0), noise=OpenDpNoise(), run=RUN, budget=Paid())
    with pytest.raises(Refused, match="threshold=2 must be at least 3 with 4 channels"):
        shop.prepare(encode(SPEC), threshold=2)


def test_settings_that_protect_nobody_are_refused() -> None:
    with pytest.raises(InvalidSetting, match="honest=0 must be at least 1"):
        released(spec=HistogramSpec(CITIES, (40, 1), 4, colluding=3))
    with pytest.raises(InvalidSetting, match="colluding=-1 must be at least 0"):
        released(spec=HistogramSpec(CITIES, (40, 1), 4, colluding=-1))
    with pytest.raises(InvalidSetting, match="must leave room below"):
        released(spec=HistogramSpec(CITIES, (1 << 56, 1), 4))
    with pytest.raises(InvalidSetting, match=r"scale=3 must be at least 3\.46 with 3 honest parties"):
        released(spec=HistogramSpec(CITIES, (3, 1), 4))
    with pytest.raises(InvalidSetting, match="channels=5 must be the number of parties, 4"):
        released(spec=HistogramSpec(CITIES, (40, 1), 5))
    with pytest.raises(InvalidData, match="party='shop' has no customers"):
        HistogramWorkload("shop", {}, noise=OpenDpNoise(), run=RUN, budget=Paid())
