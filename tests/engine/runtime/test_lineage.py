"""Explanations name what was sent; an erased person is in nothing that stays."""

import hashlib
from pathlib import Path
from typing import Any

import orjson
import pytest

from dayfly.engine.errors import LineageError
from dayfly.engine.lineage import LineageStore
from dayfly.privacy.errors import LeaseRefused
from dayfly.privacy.fragments import Fragment

from .world import CHINA, MINUTE_MS, T0, World

LINEAGE_KEY = bytes(range(32))


def digest(world: World, message: dict[str, Any]) -> str:
    """The keyed digest of a message's bytes, computed without the engine."""
    key = world.keys.intake.digest_key
    return hashlib.blake2b(
        orjson.dumps(message), key=key, digest_size=16, person=b"dayfly.digest"
    ).hexdigest()


def test_each_field_is_explained_by_exactly_the_events_that_were_sent() -> None:
    world = World()
    world.allow("u-1", T0)
    world.act("u-1", "Product Viewed", T0 + 1, product_id="t-1", category="table", material="oak", price=100)
    (fragment,) = world.compare_sofas("u-1", T0 + 1_000).fragments
    sofas = {digest(world, message): message for message in world.sent[1:]}
    explained = {item.field: item for item in world.engine.explain_all(fragment.jti)}
    assert set(explained) == set(world.open(fragment, T0 + 5_000).values)
    materials = explained["materials"]
    assert {event.digest.hex() for event in materials.events} == set(sofas)
    assert {event.channel for event in materials.events} == {"app"}
    assert sorted(event.time_ms for event in materials.events) == [T0 + 1_000, T0 + 2_000, T0 + 3_000]
    dearest = max(sofas, key=lambda name: sofas[name]["properties"]["price"])
    assert dearest in {event.digest.hex() for event in explained["budget"].events}


def test_an_explanation_names_the_rule_the_consent_and_its_validity() -> None:
    world = World()
    world.allow("u-1", T0, valid_until_ms=T0 + 20 * MINUTE_MS)
    (fragment,) = world.compare_sofas("u-1", T0 + 1).fragments
    found = world.engine.explain(fragment.order_id, "budget")  # by order id as well
    assert (found.jti, found.audience, found.purpose) == (fragment.jti, CHINA, "service.recommendation")
    assert 'max("Product Viewed", properties.price' in " ".join(rule.text for rule in found.rules)
    assert found.masking != "keep"
    (use,) = found.consents
    assert (use.record_id, use.version, use.valid_from_ms, use.valid_until_ms) == (
        "c-1",
        1,
        T0,
        T0 + 20 * MINUTE_MS,
    )


def test_a_field_or_fragment_that_is_not_there_is_an_error() -> None:
    world = World()
    world.allow("u-1", T0)
    (fragment,) = world.compare_sofas("u-1", T0 + 1).fragments
    with pytest.raises(LineageError, match="field='colour' must be"):
        world.engine.explain(fragment.jti, "colour")
    with pytest.raises(LineageError, match="jti='nobody' must be"):
        world.engine.explain_all("nobody")


def test_an_empty_lineage_store_that_was_passed_in_is_used(tmp_path: Path) -> None:
    store = LineageStore.open(tmp_path / "lineage", subject_key=LINEAGE_KEY)
    world = World(lineage=store)
    world.allow("u-1", T0)
    world.compare_sofas("u-1", T0 + 1)
    assert len(store) == 1


def secrets_of(world: World, user: str) -> dict[str, bytes]:
    return {
        "user id": user.encode(),
        "pseudonym": world.person(user),
        "pseudonym in hexadecimal": world.person(user).hex().encode(),
        "material": b"mother-of-pearl",
        "sku": b"sku-only-she-looked-at",
    }


def live_customer(world: World, user: str) -> list[Fragment]:
    world.allow(user, T0)
    outcome = world.compare_sofas(user, T0 + 1, ("leather", "fabric", "mother-of-pearl"))
    tapped = world.act(user, "Install Service Tapped", T0 + 10_000, sku="sku-only-she-looked-at")
    return [*outcome.fragments, *tapped.fragments]


def test_lineage_and_audit_hold_no_value_and_no_identifier_even_before_an_erasure(tmp_path: Path) -> None:
    path = tmp_path / "lineage"
    world = World(lineage=LineageStore.open(path, subject_key=LINEAGE_KEY))
    assert len(live_customer(world, "u-erase-me")) == 2
    kept = path.read_bytes() + b"".join(world.engine.audit_lines)
    assert [name for name, secret in secrets_of(world, "u-erase-me").items() if secret in kept] == []


def test_an_erased_person_is_in_no_snapshot_lineage_or_audit_line(tmp_path: Path) -> None:
    path = tmp_path / "lineage"
    world = World(lineage=LineageStore.open(path, subject_key=LINEAGE_KEY))
    fragments = live_customer(world, "u-erase-me")
    secrets = secrets_of(world, "u-erase-me")
    assert secrets["pseudonym"] in world.engine.shard.snapshot()  # the search finds what is there
    outcome = world.engine.erase(world.person("u-erase-me"), T0 + 60_000)
    assert {item.jti for item in outcome.destroyed} == {fragment.jti for fragment in fragments}
    kept = world.engine.shard.snapshot() + path.read_bytes() + b"".join(world.engine.audit_lines)
    assert [name for name, secret in secrets.items() if secret in kept] == []
    for fragment in fragments:
        assert fragment.jti.encode() not in path.read_bytes()
        with pytest.raises(LineageError, match="must be among"):
            world.engine.explain_all(fragment.jti)
        with pytest.raises(LeaseRefused, match="gone"):
            world.open(fragment, T0 + 61_000)


def test_erasing_one_person_leaves_the_others_fragments_explained() -> None:
    world = World()
    live_customer(world, "u-erase-me")
    world.allow("u-2", T0)
    (kept,) = world.compare_sofas("u-2", T0 + 20_000).fragments
    world.engine.erase(world.person("u-erase-me"), T0 + 60_000)
    assert len(world.engine.explain_all(kept.jti)) == 2
    assert world.open(kept, T0 + 61_000).values["budget"] == "2000..5000"
