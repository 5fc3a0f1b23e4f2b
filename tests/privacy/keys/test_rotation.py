"""Rotation: what is old is still readable, or deliberately not."""

import hmac
import os
from pathlib import Path

import pytest
from joserfc import jws
from joserfc.errors import InvalidKeyIdError
from joserfc.jwk import KeySet

from dayfly.privacy.deident import ProbeKeys, pairwise
from dayfly.privacy.errors import (
    DeidentificationError,
    InvalidArgument,
    KeyDestroyed,
    KeyRotationError,
    UnknownKey,
    WrongKey,
)
from dayfly.privacy.fragments import Profile
from dayfly.privacy.keys import BareSeal, FileKeyProvider, KeyName, MemoryKeys, ProbeDayKeys, SlotKeys

from .support import NOW_MS, draw, files_holding, options

CACHE_MS, TTL_MS, SKEW_MS = 600_000, 1_800_000, 60_000
DAY_MS = 86_400_000


@pytest.fixture
def provider(tmp_path: Path) -> FileKeyProvider:
    return FileKeyProvider.create(
        tmp_path / "keys" / "k", "shop", seal=BareSeal(), random_bytes=os.urandom, now_ms=NOW_MS
    )


def again(provider: FileKeyProvider) -> FileKeyProvider:
    return FileKeyProvider.open(provider._path, seal=BareSeal(), random_bytes=os.urandom)


def kids(provider: FileKeyProvider, now_ms: int) -> list[str]:
    return [key["kid"] for key in provider.signing(now_ms).jwks(now_ms)["keys"]]


def verifies(token: bytes, provider: FileKeyProvider, now_ms: int) -> bool:
    """Ask another library, with the published set alone."""
    keys = KeySet.import_key_set(
        {"keys": [dict(key) for key in provider.signing(now_ms).jwks(now_ms)["keys"]]}
    )
    try:
        jws.deserialize_compact(token.decode(), keys, algorithms=["ES256"])
    except InvalidKeyIdError:  # no key of that name in the set
        return False
    return True


# --- signing ----------------------------------------------------------------------------------------------------------


def test_a_new_signing_key_is_published_at_once_and_used_one_cache_period_later(
    provider: FileKeyProvider,
) -> None:
    (old,) = kids(provider, NOW_MS)
    rotation = provider.rotate_signing(NOW_MS)
    assert rotation.use_from_ms == NOW_MS + CACHE_MS
    found = again(provider)
    assert kids(found, NOW_MS) == [old, rotation.key.kid]
    ring = found.signing(NOW_MS)
    assert ring.signing_key(rotation.use_from_ms - 1, NOW_MS).kid == old
    assert ring.signing_key(rotation.use_from_ms, NOW_MS).kid == rotation.key.kid


def test_an_old_signature_verifies_until_its_fragments_end_and_then_its_key_leaves_the_set(
    provider: FileKeyProvider,
) -> None:
    signer = provider.signing(NOW_MS).signing_key(NOW_MS, NOW_MS + TTL_MS)
    token, _ = signer.sign(Profile.F0, b'{"iss":"shop"}')
    (old,) = kids(provider, NOW_MS)
    new = provider.rotate_signing(NOW_MS).key.kid
    end = NOW_MS + CACHE_MS + TTL_MS + SKEW_MS
    assert kids(again(provider), end - 1) == [old, new]
    assert verifies(token, again(provider), end - 1)
    assert kids(again(provider), end) == [new]
    assert not verifies(token, again(provider), end)


def test_a_running_ring_takes_the_new_key_as_a_reopened_one_does(provider: FileKeyProvider) -> None:
    ring = provider.signing(NOW_MS)
    rotation = provider.rotate_signing(NOW_MS)
    ring.publish(rotation.key, NOW_MS, use_from_ms=rotation.use_from_ms)
    assert ring.jwks(NOW_MS) == again(provider).signing(NOW_MS).jwks(NOW_MS)


def test_a_third_signing_key_waits_until_the_first_has_ended(provider: FileKeyProvider) -> None:
    provider.rotate_signing(NOW_MS)
    end = NOW_MS + CACHE_MS + TTL_MS + SKEW_MS
    with pytest.raises(
        KeyRotationError, match=r"signing keys=2 must be < 2; wait until the replaced one has ended"
    ):
        provider.rotate_signing(end - 1)
    provider.rotate_signing(end)
    assert len(kids(provider, end)) == 2


def test_an_ended_signing_key_is_destroyed(provider: FileKeyProvider, tmp_path: Path) -> None:
    private = provider._material.signing[0].private[36:68]
    provider.rotate_signing(NOW_MS)
    end = NOW_MS + CACHE_MS + TTL_MS + SKEW_MS
    assert provider.drop_ended_signing(end - 1) == 0
    assert [one.state for one in provider.status(end).signing] == ["ended", "signing"]
    assert provider.drop_ended_signing(end) == 1
    assert len(again(provider)._material.signing) == 1
    assert files_holding(tmp_path, [private]) == []


def test_the_status_follows_a_signing_key_through_its_life(provider: FileKeyProvider) -> None:
    provider.rotate_signing(NOW_MS)

    def states(now_ms: int) -> list[str]:
        return [one.state for one in provider.status(now_ms).signing]

    assert states(NOW_MS) == ["signing", "published"]
    assert states(NOW_MS + CACHE_MS - 1) == ["signing", "published"]
    assert states(NOW_MS + CACHE_MS) == ["verifying", "signing"]


# --- pseudonyms -------------------------------------------------------------------------------------------------------


def test_after_a_rotation_the_same_person_is_found_under_the_old_version(provider: FileKeyProvider) -> None:
    before = provider.pseudonyms().current("user", "ada")
    assert provider.rotate_pseudonyms(NOW_MS) == 2
    after = again(provider).pseudonyms()
    assert after.current("user", "ada").version == 2
    assert after.previous("user", "ada") == (before,)


def test_a_retired_pseudonym_version_links_to_nobody_and_is_gone_from_the_folder(
    provider: FileKeyProvider, tmp_path: Path
) -> None:
    before = provider.pseudonyms().current("user", "ada")
    provider.rotate_pseudonyms(NOW_MS)
    retired = provider._material.pseudonyms[1].key
    provider.retire_pseudonym_version(1)
    keys = again(provider).pseudonyms()
    assert before not in (keys.current("user", "ada"), *keys.previous("user", "ada"))
    with pytest.raises(DeidentificationError, match="version=1 kind='user' must name a live key"):
        keys.at(1, "user", "ada")
    assert files_holding(tmp_path, [retired]) == []


def test_the_current_version_cannot_be_retired(provider: FileKeyProvider) -> None:
    with pytest.raises(
        InvalidArgument, match="pseudonym version=1 must not be the current one; rotate first"
    ):
        provider.retire_pseudonym_version(1)
    with pytest.raises(UnknownKey, match=r"pseudonym version=7 must be one of \[1\]"):
        provider.retire_pseudonym_version(7)


def test_a_version_number_never_comes_again(provider: FileKeyProvider) -> None:
    provider.rotate_pseudonyms(NOW_MS)
    provider.retire_pseudonym_version(1)
    assert provider.rotate_pseudonyms(NOW_MS) == 3


# --- named secrets ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [KeyName.AUDIT, KeyName.LINEAGE])
def test_what_an_old_audit_or_lineage_key_hid_is_found_with_its_version(
    provider: FileKeyProvider, name: KeyName
) -> None:
    hidden = hmac.digest(provider.key(name), b"person", "sha256")
    assert provider.rotate_key(name, NOW_MS) == 2
    found = again(provider)
    assert found.key_versions(name) == (1, 2)
    assert hmac.digest(found.key(name), b"person", "sha256") != hidden
    assert hmac.digest(found.key(name, version=1), b"person", "sha256") == hidden


@pytest.mark.parametrize("name", [KeyName.AUDIT, KeyName.LINEAGE])
def test_what_a_retired_audit_or_lineage_key_hid_stays_hidden(
    provider: FileKeyProvider, tmp_path: Path, name: KeyName
) -> None:
    old = provider.key(name)
    provider.rotate_key(name, NOW_MS)
    provider.retire_key_version(name, 1)
    with pytest.raises(
        UnknownKey, match=rf"{name.value} version=1 must be one of \[2\]; it may have been retired"
    ):
        again(provider).key(name, version=1)
    assert files_holding(tmp_path, [old]) == []


def test_a_new_pairwise_key_gives_every_person_a_new_name_for_each_audience(
    provider: FileKeyProvider,
) -> None:
    person = provider.pseudonyms().current("user", "ada").value
    before = pairwise(person, "crm-7", provider.key("pairwise"))
    provider.rotate_key("pairwise", NOW_MS)
    assert pairwise(person, "crm-7", provider.key("pairwise")) != before
    assert pairwise(person, "crm-7", provider.key("pairwise", version=1)) == before


@pytest.mark.parametrize("name", [KeyName.DIGEST, KeyName.PROBE_CLAIM])
def test_keys_that_repeated_events_and_claims_depend_on_stay(
    provider: FileKeyProvider, name: KeyName
) -> None:
    before = provider.key(name)
    with pytest.raises(InvalidArgument, match=f"name='{name.value}' must not be rotated"):
        provider.rotate_key(name, NOW_MS)
    assert provider.key(name) == before


def test_a_random_source_that_repeats_itself_makes_no_version(provider: FileKeyProvider) -> None:
    key = provider.key("audit")
    provider._random_bytes = lambda count: key[:count]  # type: ignore[misc]
    with pytest.raises(InvalidArgument, match=r"must be 32 new random bytes; repair the source"):
        provider.rotate_key("audit", NOW_MS)


# --- data keys --------------------------------------------------------------------------------------------------------


def slots_of(provider: FileKeyProvider, folder: Path, *, new: bool = False) -> SlotKeys:
    make = SlotKeys.new if new else SlotKeys.open
    return make(folder / "keys.slots", provider.keks(), **options(tenant=provider.tenant_id))


def test_data_keys_are_readable_through_a_rotation_of_the_key_encryption_key(
    provider: FileKeyProvider, tmp_path: Path
) -> None:
    with slots_of(provider, tmp_path, new=True) as slots:
        key_id, key = slots.create("log")
        assert provider.rotate_kek(NOW_MS) == 2
        with pytest.raises(
            InvalidArgument, match=r"version=1 must not be among in_use=\[1\]; let `SlotKeys.rewrap`"
        ):
            provider.retire_kek(1, in_use=slots.keks_in_use())
        assert slots.rewrap(provider.keks()) == 2
        provider.retire_kek(1, in_use=slots.keks_in_use())
    with slots_of(again(provider), tmp_path) as slots:
        assert slots.get(key_id) == key


def test_a_store_left_under_a_lost_key_encryption_key_is_deliberately_unreadable(
    provider: FileKeyProvider, tmp_path: Path
) -> None:
    with slots_of(provider, tmp_path, new=True) as slots:
        slots.create("log")
    provider.rotate_kek(NOW_MS)
    provider.retire_kek(1, in_use=())
    with pytest.raises(WrongKey, match=r"kek version=1 must be one of \(2,\)"):
        slots_of(provider, tmp_path)


def test_a_destroyed_data_key_stays_gone_through_a_rotation(
    provider: FileKeyProvider, tmp_path: Path
) -> None:
    with slots_of(provider, tmp_path, new=True) as slots:
        key_id, _ = slots.create("log")
        slots.destroy([key_id])
        provider.rotate_kek(NOW_MS)
        slots.rewrap(provider.keks())
        with pytest.raises(KeyDestroyed, match=f"key_id={key_id} purpose='log'"):
            slots.get(key_id)


# --- probes -----------------------------------------------------------------------------------------------------------

MAC = "dc:fb:48:12:34:56"


def test_a_probe_keeps_its_pseudonym_through_a_restart_within_the_day(
    provider: FileKeyProvider, tmp_path: Path
) -> None:
    noon = 20_000 * DAY_MS + DAY_MS // 2
    with slots_of(provider, tmp_path, new=True) as slots:
        before = provider.probes(ProbeDayKeys(slots)).identify(MAC, noon)
    with slots_of(provider, tmp_path) as slots:
        probes = again(provider).probes(ProbeDayKeys(slots))
        assert probes.identify(MAC, noon + 1) == before
        assert probes.identify(MAC, noon + DAY_MS) != before


def test_yesterdays_probe_key_is_gone_from_the_folder_once_today_begins(
    provider: FileKeyProvider, tmp_path: Path
) -> None:
    with slots_of(provider, tmp_path, new=True) as slots:
        days = ProbeDayKeys(slots)
        key = days(20_000)
        assert days(20_000) == key
        slot = slots._slots.read(slots._live[slots.live("probe.20000")[0]].slot)
        assert slot is not None
        days(20_001)
        assert slots.purposes() == ("probe.20001",)
        assert files_holding(tmp_path, [key, slot.wrapped]) == []


def test_midnight_without_a_probe_destroys_the_key_too() -> None:
    keys = MemoryKeys(random_bytes=draw(1), now_ms=lambda: NOW_MS)
    days = ProbeDayKeys(keys)
    days(-1)
    keys.create("log")
    assert days.forget_before(-1) == 0
    assert days.forget_before(0) == 1
    assert keys.purposes() == ("log",)


def test_after_a_restart_a_probe_of_yesterday_is_refused_when_today_has_begun() -> None:
    days = ProbeDayKeys(MemoryKeys(random_bytes=draw(1), now_ms=lambda: NOW_MS))
    days(20_001)
    fresh = ProbeKeys("shop", claim_key=bytes(range(32)), random_bytes=draw(2), day_key=days)
    with pytest.raises(
        DeidentificationError, match=r"day=20000 must be >= 20001, because earlier keys are destroyed"
    ):
        fresh.identify(MAC, 20_000 * DAY_MS)
    assert fresh.identify(MAC, 20_001 * DAY_MS).claimed is False


# --- in memory --------------------------------------------------------------------------------------------------------


def test_keys_in_memory_are_overwritten_when_destroyed_and_when_closed() -> None:
    keys = MemoryKeys(random_bytes=draw(1), now_ms=lambda: NOW_MS)
    first, second = keys.create("log")[0], keys.create("log")[0]
    kept = [keys._live[first][1], keys._live[second][1]]
    keys.destroy([first, first])
    assert not any(kept[0])
    assert any(kept[1])
    assert keys.destroyed([first])[0].destroyed_ms == NOW_MS
    assert repr(keys) == "MemoryKeys(live=1, destroyed=1)"
    keys.close()
    assert not any(kept[1])


def test_keys_in_memory_refuse_as_those_in_slots_do() -> None:
    from dayfly.privacy.errors import KeyStoreFailed

    keys = MemoryKeys(random_bytes=draw(1), now_ms=lambda: NOW_MS)
    key_id, key = keys.create("log")
    with pytest.raises(UnknownKey, match="key_id=9 must have been created here"):
        keys.destroy([key_id, 9])
    assert keys.get(key_id) == key
    with pytest.raises(UnknownKey, match="key_id=9 must have been created here"):
        keys.get(9)
    with pytest.raises(UnknownKey, match=f"key_id={key_id} must have been destroyed"):
        keys.destroyed([key_id])
    with pytest.raises(InvalidArgument, match="purpose='Log' must be 1 to 24"):
        keys.create("Log")
    keys.destroy([key_id])
    with pytest.raises(KeyDestroyed, match=f"key_id={key_id} purpose='log'"):
        keys.get(key_id)
    keys.close()
    with pytest.raises(KeyStoreFailed, match="keys=<closed> must be open"):
        keys.get(key_id)
