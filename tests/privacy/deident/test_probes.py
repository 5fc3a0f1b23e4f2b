"""Probe keys: one local day each; claims; randomised addresses."""

import copy
import pickle
from collections.abc import Callable
from datetime import UTC, date, datetime, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from dayfly.privacy.deident import ProbeKeys, is_randomised_mac
from dayfly.privacy.errors import DeidentificationError

CLAIM_KEY = bytes(range(32))
FIXED, RANDOM = "dc:fb:48:12:34:56", "da:a1:19:00:00:01"
SHANGHAI = ZoneInfo("Asia/Shanghai")
DAY = 86_400_000


def source(fill: int = 0) -> Callable[[int], bytes]:
    """Distinct bytes at each call."""
    state = [fill]

    def draw(size: int) -> bytes:
        state[0] += 1
        return bytes((state[0] + index) % 256 for index in range(size))

    return draw


def keys(zone: tzinfo = UTC) -> ProbeKeys:
    """Fresh keys."""
    return ProbeKeys("shop", claim_key=CLAIM_KEY, random_bytes=source(), zone=zone)


def at(text: str, zone: tzinfo = UTC) -> int:
    """Milliseconds of a local time."""
    return int(datetime.fromisoformat(text).replace(tzinfo=zone).timestamp() * 1000)


def test_a_device_has_one_name_a_day_and_another_the_next() -> None:
    probes = keys()
    today = probes.identify(FIXED, at("2026-03-10T00:00:00"))
    assert probes.identify(FIXED.upper().replace(":", "-"), at("2026-03-10T23:59:59.999")) == today
    tomorrow = probes.identify(FIXED, at("2026-03-11T00:00:00"))
    assert tomorrow.value != today.value
    assert (today.claimed, today.session, len(today.value)) == (False, False, 16)


def test_the_day_turns_at_local_midnight() -> None:
    probes = keys(SHANGHAI)
    one = probes.identify(FIXED, at("2026-03-10T23:59:59.999", SHANGHAI))
    two = probes.identify(FIXED, at("2026-03-11T00:00:00", SHANGHAI))
    assert one.value != two.value
    assert probes.identify(FIXED, at("2026-03-11T00:00:00", SHANGHAI) + DAY - 1).value == two.value


def test_local_days_follow_the_calendar_through_a_clock_change() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    probes = keys(berlin)
    days = [
        probes.local_day(at(f"2026-03-{day}T{hour}:30:00", berlin))
        for day in (28, 29, 30)
        for hour in ("00", "23")
    ]
    assert [day - days[0] for day in days] == [0, 0, 1, 1, 2, 2]


def test_yesterdays_key_is_gone() -> None:
    probes = keys()
    probes.identify(FIXED, at("2026-03-11T00:00:00"))
    for stale in (probes.identify, lambda mac, when: probes.claim(b"x" * 16, b"u" * 16, when)):
        with pytest.raises(DeidentificationError, match="predecessor's key is gone; drop the probe"):
            stale(FIXED, at("2026-03-10T23:59:59.999"))


def test_a_claimed_device_is_known_until_withdrawal() -> None:
    probes, subject = keys(), b"s" * 16
    day1, day2, day3 = (at(f"2026-03-1{day}T12:00:00") for day in (0, 1, 2))
    name = probes.identify(FIXED, day1)
    probes.claim(name.value, subject, day1)
    assert probes.identify(FIXED, day1) == (subject, True, False)
    assert probes.identify(FIXED, day2) == (subject, True, False)
    assert probes.withdraw(subject) == 1
    stranger = probes.identify(FIXED, day2)
    assert not stranger.claimed
    assert stranger.value not in {subject, name.value}
    assert not probes.identify(FIXED, day3).claimed
    assert probes.withdraw(subject) == 0


def test_withdrawal_on_the_day_of_the_claim_forgets_both_tables() -> None:
    probes, subject, noon = keys(), b"s" * 16, at("2026-03-10T12:00:00")
    name = probes.identify(FIXED, noon)
    probes.claim(name.value, subject, noon)
    probes.identify(FIXED, noon)
    assert probes.withdraw(subject) == 2
    assert probes.identify(FIXED, noon) == name


def test_a_claim_without_a_further_probe_ends_with_the_day() -> None:
    probes, noon = keys(), at("2026-03-10T12:00:00")
    probes.claim(probes.identify(FIXED, noon).value, b"s" * 16, noon)
    assert not probes.identify(FIXED, noon + DAY).claimed


def test_a_randomised_address_is_a_session_and_never_known_on_another_day() -> None:
    probes, noon = keys(), at("2026-03-10T12:00:00")
    name = probes.identify(RANDOM, noon)
    assert name.session
    probes.claim(name.value, b"s" * 16, noon)
    assert probes.identify(RANDOM, noon) == (b"s" * 16, True, True)
    assert not probes.identify(RANDOM, noon + DAY).claimed


def test_a_pseudonym_is_claimed_by_one_person_only() -> None:
    probes, noon = keys(), at("2026-03-10T12:00:00")
    name = probes.identify(FIXED, noon).value
    probes.claim(name, b"s" * 16, noon)
    probes.claim(name, b"s" * 16, noon)
    with pytest.raises(DeidentificationError, match="must not be claimed twice"):
        probes.claim(name, b"t" * 16, noon)


@pytest.mark.parametrize(
    "mac", ["", "dc:fb:48:12:34", "dc:fb:48:12:34:5g", "dc:fb-48:12:34:56", "dc:fb:48:12:34:56\n", None, 5]
)
def test_what_is_no_address_is_refused_without_showing_it(mac: Any) -> None:
    with pytest.raises(DeidentificationError, match="must be six hexadecimal octets"):
        keys().identify(mac, 0)


def test_constant_random_bytes_are_refused() -> None:
    probes = ProbeKeys("shop", claim_key=CLAIM_KEY, random_bytes=bytes)
    with pytest.raises(DeidentificationError, match="<constant> must be random"):
        probes.identify(FIXED, 0)


def test_probe_keys_leave_by_no_door() -> None:
    assert repr(keys()) == "ProbeKeys(tenant='shop', claims=0)"
    for leave in (pickle.dumps, copy.copy):
        with pytest.raises(DeidentificationError, match="must not be pickled or copied"):
            leave(keys())


def test_real_probes_are_unjoinable_over_days_and_joinable_within(shared_data: Path) -> None:
    frame = pl.read_parquet(shared_data / "wifi_probes" / "wifi_probes_2024_02_08_to_03_14.parquet")
    frame = (
        frame.select("ts", "src_mac_anon", "mac_randomized")
        .sort("ts")
        .unique(maintain_order=True)
        .gather_every(20)
    )
    probes = keys()
    names: dict[tuple[date, str], set[bytes]] = {}
    for when, mac, randomised in frame.iter_rows():
        address = (RANDOM[:8] if randomised else FIXED[:8]) + mac[-9:]
        seen = probes.identify(address, int(when.replace(tzinfo=UTC).timestamp() * 1000))
        assert seen.session == randomised == is_randomised_mac(address)
        names.setdefault((when.date(), address), set()).add(seen.value)
    assert all(len(values) == 1 for values in names.values())
    assert len({value for values in names.values() for value in values}) == len(names)
    addresses = {address for _, address in names}
    assert len(addresses) < len(names)  # some devices came on several days and are not to be recognised
