"""End to end."""

import pytest

from dayfly.privacy.errors import LeaseRefused
from dayfly.privacy.fragments import OrderField, Profile, SuiteName, verify_receipt

from .world import FIELDS, NOW_MS, ORIGIN, World, order


@pytest.mark.parametrize("suite", list(SuiteName))
def test_a_fragment_is_minted_verified_leased_and_opened(suite):
    world = World()
    fragment = world.cdp.mint(order(use=1), NOW_MS)
    print(len(fragment.token))
    verified = world.crm.verify(fragment.token, NOW_MS)
    pending = world.ask(verified, suite=suite)
    opened = world.crm.open(verified, pending, world.lease(pending.request), NOW_MS)
    assert opened.values == {f.name: f.value for f in FIELDS}
    with pytest.raises(LeaseRefused, match="gone"):
        world.lease(world.ask(verified).request)
    (death,) = world.cdp.expire(NOW_MS)
    assert death.reason == "used"
    receipt = world.cdp.receipt(fragment.jti)
    verify_receipt(receipt, world.note_verifier, ORIGIN, kc=verified.claims.kc)
    print(receipt.checkpoint)


def test_f2_and_f0():
    world = World()
    fragment = world.cdp.mint(
        order(profile=Profile.F2, fields=(OrderField("green", True), OrderField("red", False))), NOW_MS
    )
    v = world.crm.verify(fragment.token, NOW_MS)
    p = world.ask(v, question="green")
    assert world.crm.answer(v, p, world.lease(p.request), NOW_MS).yes
    f = world.cdp.mint(order("o-2", profile=Profile.F0), NOW_MS)
    assert world.crm.verify(f.token, NOW_MS).claims.val["room"] == "small flat"
