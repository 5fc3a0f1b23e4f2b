"""Masking policies: what comes out, what is refused, what lineage says."""

import math
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.privacy.deident import DROPPED, PseudonymKeys, parse_masking
from dayfly.privacy.errors import DeidentificationError

KEYS = PseudonymKeys("shop", {1: bytes(range(32))})
NEW_YEAR = int(datetime(2026, 1, 1, tzinfo=ZoneInfo("Asia/Shanghai")).timestamp() * 1000)


@pytest.mark.parametrize(
    ("policy", "value", "masked", "text"),
    [
        ("keep", {"a": 1}, {"a": 1}, "kept"),
        ("drop", "x", DROPPED, "dropped"),
        ({"mask": "drop"}, None, DROPPED, "dropped"),
        ({"mask": "band", "edges": [10, 50]}, 9.99, "<10", "band at 10, 50"),
        ({"mask": "band", "edges": [10, 50]}, 10, "10..50", "band at 10, 50"),
        ({"mask": "band", "edges": [10, 50]}, 49.99, "10..50", "band at 10, 50"),
        ({"mask": "band", "edges": [10, 50]}, 50, ">=50", "band at 10, 50"),
        ({"mask": "band", "edges": [0]}, [-1, 0, None], ["<0", ">=0", None], "band at 0"),
        ({"mask": "truncate", "characters": 3}, "200120", "200", "first 3 characters"),
        ({"mask": "truncate", "characters": 3}, ["沙发床垫", "a"], ["沙发床", "a"], "first 3 characters"),
        ({"mask": "truncate", "characters": 0}, "abc", "", "first 0 characters"),
        ({"mask": "truncate", "decimals": 1}, 31.2399, 31.2, "1 decimals"),
        ({"mask": "truncate", "decimals": 1}, -31.2399, -31.3, "1 decimals"),
        ({"mask": "truncate", "decimals": -2}, 1299, 1200, "-2 decimals"),
        ({"mask": "truncate", "granularity": "day"}, 86_399_999, 0, "to the day (UTC)"),
        ({"mask": "truncate", "granularity": "hour"}, 7_199_999, 3_600_000, "to the hour (UTC)"),
        ({"mask": "truncate", "granularity": "second"}, -1, -1000, "to the second (UTC)"),
        ({"mask": "truncate", "granularity": "year", "zone": "Asia/Shanghai"}, NEW_YEAR + 5 * 86_400_000, NEW_YEAR, "to the year (Asia/Shanghai)"),
        ({"mask": "truncate", "granularity": "month", "zone": "Asia/Shanghai"}, NEW_YEAR + 1, NEW_YEAR, "to the month (Asia/Shanghai)"),
        ({"mask": "truncate", "characters": 2}, None, None, "first 2 characters"),
    ],
)  # fmt: skip
def test_mask(policy: Any, value: Any, masked: Any, text: str) -> None:
    mask = parse_masking(policy)
    assert mask.apply(value) == masked
    assert type(mask.apply(value)) is type(masked)
    assert mask.describe() == text


def test_pseudonymised_values_are_the_current_pseudonyms() -> None:
    mask = parse_masking({"mask": "pseudonymise", "kind": "order"})
    assert mask.apply(["o-1", 7, None], keys=KEYS) == [
        KEYS.current("order", "o-1").value.hex(),
        KEYS.current("order", "7").value.hex(),
        None,
    ]
    assert mask.describe() == "pseudonym (order)"
    with pytest.raises(DeidentificationError, match="keys=None must be the tenant's keys"):
        mask.apply("o-1")


@pytest.mark.parametrize(
    ("policy", "value", "wanted"),
    [
        ({"mask": "band", "edges": [1]}, "5", "a finite number"),
        ({"mask": "band", "edges": [1]}, True, "a finite number"),
        ({"mask": "band", "edges": [1]}, math.nan, "a finite number"),
        ({"mask": "band", "edges": [1]}, math.inf, "a finite number"),
        ({"mask": "band", "edges": [1]}, {"a": 1}, "a finite number"),
        ({"mask": "truncate", "characters": 1}, 5, "text"),
        ({"mask": "truncate", "decimals": 1}, "5", "a finite number"),
        ({"mask": "truncate", "decimals": 18}, 1e300, "at most 28 digits"),
        ({"mask": "truncate", "granularity": "day"}, 1.5, "an instant"),
        ({"mask": "truncate", "granularity": "day"}, False, "an instant"),
        ({"mask": "truncate", "granularity": "day"}, 2**62, "between the years 1 and 9999"),
        ({"mask": "pseudonymise", "kind": "order"}, 1.5, "text or a whole number"),
        ({"mask": "pseudonymise", "kind": "order"}, True, "text or a whole number"),
        ({"mask": "truncate", "characters": 1}, ["a", 5], "text"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_and_not_shown(policy: Any, value: Any, wanted: str) -> None:
    with pytest.raises(DeidentificationError, match=f"must be .*{wanted}.* for the mask"):
        parse_masking(policy).apply(value, keys=KEYS)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("hash", "Invalid value 'hash'"),
        ("band", "missing required field `edges`"),
        (None, "must follow the schema"),
        ({"mask": "band", "edges": []}, "length >= 1"),
        ({"mask": "band", "edges": [2, 1]}, r"edges=\(2, 1\) must be finite and strictly ascending"),
        ({"mask": "band", "edges": [1, 1]}, "strictly ascending"),
        ({"mask": "band", "edges": [math.inf]}, "must be finite"),
        ({"mask": "band", "edges": ["1"]}, "must follow the schema"),
        ({"mask": "truncate"}, "exactly one of characters, decimals, granularity"),
        ({"mask": "truncate", "characters": 1, "decimals": 1}, "exactly one"),
        ({"mask": "truncate", "characters": -1}, ">= 0"),
        ({"mask": "truncate", "decimals": 19}, "<= 18"),
        ({"mask": "truncate", "granularity": "week"}, "Invalid enum value 'week'"),
        ({"mask": "truncate", "granularity": "day", "zone": "Mars"}, "zone='Mars' must be an IANA time zone"),
        ({"mask": "truncate", "granularity": "day", "zone": "../x"}, "must be an IANA time zone"),
        ({"mask": "keep", "extra": 1}, "unknown field `extra`"),
        ({"mask": "pseudonymise", "kind": ""}, "length >= 1"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(policy: Any, message: str) -> None:
    with pytest.raises(DeidentificationError, match=message):
        parse_masking(policy)


@given(st.integers(-(10**9), 10**9), st.lists(st.integers(-100, 100), min_size=1, unique=True).map(sorted))
def test_a_band_holds_its_number(value: int, edges: list[int]) -> None:
    label = parse_masking({"mask": "band", "edges": edges}).apply(value)
    if label.startswith("<"):
        assert value < int(label[1:]) == edges[0]
    elif label.startswith(">="):
        assert value >= int(label[2:]) == edges[-1]
    else:
        low, high = (int(edge) for edge in label.split(".."))
        assert low <= value < high
        assert edges.index(high) == edges.index(low) + 1


@given(st.integers(-(10**15), 10**15), st.integers(-6, 6))
def test_decimals_round_down(value: int, decimals: int) -> None:
    number = value / 1000
    cut = parse_masking({"mask": "truncate", "decimals": decimals}).apply(number)
    step = Fraction(10) ** -decimals
    exact = math.floor(Fraction(str(number)) / step) * step
    assert cut == float(exact)


@given(st.integers(0, 4 * 10**12), st.sampled_from(["second", "minute", "hour", "day", "month", "year"]))
def test_an_instant_is_cut_to_its_unit(value: int, granularity: str) -> None:
    cut = parse_masking({"mask": "truncate", "granularity": granularity}).apply(value)
    assert cut <= value
    units = ["year", "month", "day", "hour", "minute", "second"]
    kept = units[: units.index(granularity) + 1]
    before, after = (datetime.fromtimestamp(one / 1000, tz=UTC) for one in (value, cut))
    assert [getattr(before, unit) for unit in kept] == [getattr(after, unit) for unit in kept]
    assert parse_masking({"mask": "truncate", "granularity": granularity}).apply(cut) == cut
