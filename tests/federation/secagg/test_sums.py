"""Sums are exact whoever drops out, and what the server sees is uniform."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dayfly.federation.errors import InvalidSetting, RangeExceeded, SharesDisagree, TooFewParties
from dayfly.federation.secagg import FixedPoint, Unmasked, least_threshold
from dayfly.federation.secagg.kernels import PRIME
from dayfly.federation.secagg.shamir import from_words, open_shares, share, to_words

from .sessions import digest, inputs_of, names_of, session_of

RING = 2**64


def plain_sum(inputs: dict[str, np.ndarray], names: tuple[str, ...]) -> list[int]:
    """With Python's integers."""
    return [sum(int(inputs[name][word]) for name in names) % RING for word in range(len(inputs[names[0]]))]


@given(st.data())
@settings(deadline=None)
def test_the_sum_is_exact_for_any_number_of_members_and_any_that_drop_out(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 9), label="members")
    threshold = data.draw(st.integers(least_threshold(count), count), label="threshold")
    late = data.draw(st.sets(st.sampled_from(names_of(count)), max_size=count - threshold), label="late")
    session = session_of(count, 5, threshold=threshold, seed=data.draw(st.integers(0, 9)))
    inputs = inputs_of(names_of(count), 5, seed=data.draw(st.integers(0, 9)))
    for number in (1, 2):
        round_ = session.server.begin(number, b"release", names_of(count))
        session.ask(round_, inputs, late)
        spare = len(round_.included) - threshold
        silent = data.draw(
            st.sets(st.sampled_from(round_.included), max_size=spare), label="silent when the sum is opened"
        )
        assert session.open(round_, silent).tolist() == plain_sum(inputs, round_.included)


def test_fifty_members_with_one_lost_in_each_round_add_up() -> None:
    names = names_of(50)
    session = session_of(50, 3, rounds=1)
    inputs = inputs_of(names, 3)
    round_ = session.server.begin(1, b"release", names)
    session.ask(round_, inputs, names[7:8])
    assert session.open(round_).tolist() == plain_sum(inputs, round_.included)


def test_a_member_that_was_away_for_a_round_takes_part_in_the_next() -> None:
    names = names_of(4)
    session, inputs = session_of(4, 2), inputs_of(names_of(4), 2)
    first = session.server.begin(1, b"release", names)
    session.ask(first, inputs, names[:1])
    session.open(first)
    without = session.server.begin(2, b"release", names[1:])
    session.ask(without, inputs)
    assert session.open(without).tolist() == plain_sum(inputs, tuple(names[1:]))
    last = session.server.begin(3, b"release", names)
    session.ask(last, inputs)
    assert session.open(last).tolist() == plain_sum(inputs, tuple(names))


def test_the_same_input_under_masks_is_uniform_and_never_the_same() -> None:
    words, names = 4_096, names_of(3)
    zeros = {name: np.zeros(words, np.uint64) for name in names}
    seen = []
    for seed in range(4):
        session = session_of(3, words, seed=seed)
        round_ = session.server.begin(1, b"release", names)
        seen += [
            np.frombuffer(session.members[name].masked(round_.request(name), zeros[name]).words, "<u8")
            for name in names
        ]
    assert len({row.tobytes() for row in seen}) == len(seen)
    octets = np.concatenate(seen).view(np.uint8)
    assert stats.chisquare(np.bincount(octets, minlength=256)).pvalue > 1e-6


def test_masks_of_two_rounds_and_of_two_releases_have_nothing_in_common() -> None:
    names = names_of(3)
    zeros = np.zeros(8, np.uint64)
    seen = set()
    for number, release in ((1, b"a"), (1, b"b"), (2, b"a")):
        session = session_of(3, 8)
        request = session.server.begin(number, release, names).request(names[0])
        seen.add(session.members[names[0]].masked(request, zeros).words)
    assert len(seen) == 3


def test_fewer_answers_than_the_threshold_open_nothing() -> None:
    names = names_of(5)
    session, inputs = session_of(5, 2), inputs_of(names_of(5), 2)
    round_ = session.server.begin(1, b"release", names)
    session.ask(round_, inputs)
    with pytest.raises(TooFewParties, match=r"answers=\['channel-00', 'channel-01'\] must be at least 3"):
        session.open(round_, silent=names[2:])


def test_fewer_inputs_than_the_threshold_are_not_opened() -> None:
    names = names_of(5)
    session, inputs = session_of(5, 2), inputs_of(names_of(5), 2)
    round_ = session.server.begin(1, b"release", names)
    session.ask(round_, inputs, late=names[:3])
    with pytest.raises(TooFewParties, match="must be at least 3 inputs; nothing was opened"):
        round_.unmask_request(names[3])
    with pytest.raises(TooFewParties, match="must be at least 3 members"):
        session.server.begin(2, b"release", names[:2])


def test_a_wrong_share_is_noticed_and_its_owner_named() -> None:
    names = names_of(4)
    session, inputs = session_of(4, 2), inputs_of(names_of(4), 2)
    round_ = session.server.begin(1, b"release", names)
    session.ask(round_, inputs, late=names[3:])
    replies = {name: session.members[name].unmasked(round_.unmask_request(name)) for name in round_.included}
    honest = replies[names[1]]
    for byte in (0, 40, 80):
        shares = bytearray(honest.shares)
        shares[byte] ^= 1
        replies[names[1]] = Unmasked(honest.party, honest.round_number, bytes(shares))
        with pytest.raises(SharesDisagree, match=f"seed of 'channel-0{byte // 80}'"):
            round_.open(replies)
    replies[names[1]] = honest
    assert round_.open(replies).tolist() == plain_sum(inputs, round_.included)


@given(st.integers(1, 6), st.data())
def test_any_threshold_shares_give_the_seeds_back_as_exact_arithmetic_says(
    threshold: int, data: st.DataObject
) -> None:
    parties = data.draw(st.integers(threshold, 8))
    seeds = data.draw(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=3))
    words = to_words(seeds)
    randomness = b"".join(digest(number) for number in range(words.size * threshold))[
        : 8 * words.size * (threshold - 1)
    ]
    shares = share(words, threshold, parties, randomness)
    coefficients = [words.tolist()] + [
        [
            int.from_bytes(randomness[8 * (row * words.size + word) :][:8], "little") // 8 % PRIME
            for word in range(words.size)
        ]
        for row in range(threshold - 1)
    ]
    for party in range(parties):
        expected = [
            sum(row[word] * pow(party + 1, power, PRIME) for power, row in enumerate(coefficients)) % PRIME
            for word in range(words.size)
        ]
        assert shares[party].tolist() == expected
    chosen = data.draw(st.permutations(range(parties)))[:threshold]
    opened = open_shares([place + 1 for place in chosen], shares[chosen])
    assert from_words(opened) == seeds


@pytest.mark.parametrize(
    ("points", "value", "message"),
    [([1, 1], 0, "distinct"), ([0, 1], 0, "positive"), ([1, 2], PRIME, "below 2")],
)
def test_shares_that_cannot_be_are_refused(points: list[int], value: int, message: str) -> None:
    with pytest.raises(InvalidSetting, match=message):
        open_shares(points, np.full((2, 1), value, np.uint64))


@given(st.integers(1, 50), st.floats(1e-6, 1e6), st.integers(0, 32), st.data())
def test_sums_of_encoded_values_are_those_of_the_rounded_ones(
    parties: int, largest: float, bits: int, data: st.DataObject
) -> None:
    code = FixedPoint(parties, largest, bits)
    values = data.draw(st.lists(st.floats(-largest, largest), min_size=1, max_size=parties))
    total = np.zeros(1, np.uint64)
    for value in values:
        total = total + code.encode([value])
    exact = sum(round(value * 2**bits) for value in map(float.__float__, values))
    assert total.view(np.int64)[0] == exact
    assert abs(code.decode(total)[0] - sum(values)) <= len(values) * 2.0**-bits + 1e-9 * largest * len(values)


def test_the_largest_sum_that_fits_is_exact_and_one_that_might_not_is_refused() -> None:
    code = FixedPoint(2, 2.0**61 - 2, 0)
    total = code.encode([2.0**61 - 1024]) * np.uint64(2)
    assert total.view(np.int64)[0] == 2**62 - 2048
    with pytest.raises(InvalidSetting, match=r"must stay below 2\^63"):
        FixedPoint(2, 2.0**62, 0)
    with pytest.raises(InvalidSetting, match=r"must stay below 2\^63"):
        FixedPoint(3, 2.0**31, 31)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0000001, 1.5])
def test_values_out_of_range_are_refused_before_they_are_sent(value: float) -> None:
    with pytest.raises(RangeExceeded, match="must be finite and at most 1 in size"):
        FixedPoint(4, 1.0).encode([0.0, value])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1.0), "parties=0"),
        ((1, 0.0), "largest=0.0"),
        ((1, float("inf")), "largest=inf"),
        ((1, 1.0, 53), "fraction_bits=53"),
    ],
)
def test_an_encoder_that_cannot_be_is_refused(arguments: tuple[int, float], message: str) -> None:
    with pytest.raises(InvalidSetting, match=message):
        FixedPoint(*arguments)
