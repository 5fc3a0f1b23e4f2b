"""Shares of noise: the stated loss against exact divergences, the ripple against exact ratios, and room in the ring."""

import math
from fractions import Fraction

import numpy as np
import pytest
from mpmath import mpf

from dayfly.federation.errors import InvalidSetting
from dayfly.federation.noise_shares import NoiseShares, loss_of_sum, ripple
from dayfly.federation.vertical import ChannelColumns, agree, plan_noise
from dayfly.privacy.noise import OpenDpNoise
from tests.oracles.dp_noise_shares import exact_rho, precise, span

ORDERS = [Fraction(1), Fraction(9, 8), Fraction(3, 2), Fraction(2), Fraction(4), Fraction(8)]
CASES = [(Fraction(1, 2), 2), (Fraction(1, 2), 4), (Fraction(1), 3), (Fraction(2), 2), (Fraction(4), 2)]


@pytest.mark.parametrize(("variance", "shares"), CASES)
@pytest.mark.parametrize("shift", [1, 2, 3])
def test_the_loss_is_not_below_the_exact_divergence_of_the_sum(
    variance: Fraction, shares: int, shift: int
) -> None:
    exact = exact_rho(variance, shares, shift, ORDERS)
    claimed = precise(loss_of_sum(variance, shares, shift**2, 1).rho)
    assert exact <= claimed
    assert claimed <= exact + precise(ripple(variance, shares))


@pytest.mark.parametrize(("variance", "shares"), CASES)
def test_a_gaussians_rho_alone_would_claim_too_little_for_one_unit(variance: Fraction, shares: int) -> None:
    """The ripple is no scruple of the proof: without it the claim is wrong, if only in the digits after the first."""
    assert exact_rho(variance, shares, 1, [Fraction(1)]) > precise(Fraction(1) / (2 * shares * variance))


@pytest.mark.parametrize(("variance", "shares"), CASES)
def test_the_ripple_is_no_smaller_than_that_of_the_exact_law_and_not_much_larger(
    variance: Fraction, shares: int
) -> None:
    exact, claimed = span(variance, shares), precise(ripple(variance, shares))
    assert exact <= claimed
    if shares == 2:
        assert claimed <= exact * mpf(2) ** (variance / 4 + 2)  # 14 for 14.24 bits, 5 for 4


def test_moved_coordinates_alone_add_ripple() -> None:
    one = loss_of_sum(Fraction(1), 3, 1, 1)
    assert loss_of_sum(Fraction(1), 3, 1, 1_000) == one
    two = loss_of_sum(Fraction(1), 3, 2, 1_000).rho
    assert two == 2 * one.rho
    exact = 2 * exact_rho(Fraction(1), 3, 1, ORDERS)  # a unit in each of two coordinates
    assert exact <= precise(two)


def test_one_honest_share_is_a_discrete_gaussian() -> None:
    assert NoiseShares(Fraction(10), 1).loss(4, 50).rho == Fraction(4, 200)


@pytest.mark.parametrize("honest", [1, 2, 3, 7])
def test_shares_reach_the_scale_together_and_never_less(honest: int) -> None:
    shares = NoiseShares(Fraction(101, 3), honest)
    assert 0 <= honest * shares.share_scale**2 - Fraction(101, 3) ** 2 < Fraction(1, 10**6)


def test_a_share_is_added_modulo_the_ring() -> None:
    shares = NoiseShares(Fraction(100), 2)
    edge = np.array([2**63 - 1, -(2**63), 0], np.int64)
    moved = shares.add(np.tile(edge, 400), OpenDpNoise()).view(np.uint64) - np.tile(edge, 400).view(np.uint64)
    noise = moved.view(np.int64).astype(float)
    assert np.abs(noise).max() < 1_000
    assert noise.std() == pytest.approx(math.sqrt(100**2 / 2), rel=0.2)


def test_settings_without_room_or_noise_are_refused() -> None:
    with pytest.raises(InvalidSetting, match="honest=0 must be at least 1"):
        NoiseShares(Fraction(10), 0)
    with pytest.raises(InvalidSetting, match=r"scale=3 must be at least 3\.46 with 3 honest parties"):
        NoiseShares(Fraction(3), 3)
    with pytest.raises(InvalidSetting, match="must give shares below 2\\^56; count in coarser units"):
        NoiseShares(Fraction(2**57), 1)
    shares = NoiseShares(Fraction(2**50), 1)
    room = 2**63 - 4 * 64 * (2**50 + 1)
    shares.check_room(room - 1, parties=4)
    with pytest.raises(InvalidSetting, match="must leave room below 2\\^63 for the noise of 4 parties"):
        shares.check_room(room, parties=4)


def test_fewer_than_none_colluding_would_thin_the_noise_and_is_refused_everywhere() -> None:
    with pytest.raises(InvalidSetting, match="colluding=-1 must be at least 0"):
        NoiseShares.among(Fraction(100), members=3, colluding=-1)
    columns = [ChannelColumns(name, (f"{name}_x",), ((0.0, 1.0),), 1.0) for name in ("app", "shop")]
    for colluding, cause in ((-1, "colluding=-1 must be at least 0"), (2, "honest=0 must be at least 1")):
        noise = plan_noise(Fraction(1), Fraction(1, 10**6), 1, colluding=colluding)
        with pytest.raises(InvalidSetting, match=cause):
            agree(
                columns,
                label="y",
                label_channel="shop",
                alignment=bytes(16),
                universe=20_000,
                purpose="joint-model",
                noise=noise,
                steps=1,
            )
