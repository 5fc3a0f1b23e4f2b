"""Hostile tokens: every one refused, all with the same public error."""

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.privacy.errors import ExpiredFragment, InvalidFragment
from dayfly.privacy.fragments import Verifier
from dayfly.privacy.fragments.crm import open_sealed

from .attacks import FAMILIES, Attack, Forge
from .world import AUDIENCE, ISSUER, NOW_MS

CASES = [
    pytest.param(attack, id=f"{family}: {attack.name}")
    for family, attacks in FAMILIES.items()
    for attack in attacks
]
PUBLIC_TEXT = str(InvalidFragment())


@pytest.fixture(scope="module")
def forge() -> Forge:
    return Forge()


@pytest.fixture(scope="module")
def verifier(forge: Forge) -> Verifier:
    return Verifier(forge.world.cdp.jwks(NOW_MS), ISSUER, AUDIENCE)


def refusal(forge: Forge, verifier: Verifier, attack: Attack) -> InvalidFragment:
    token = attack.make(forge)
    assert token != forge.token
    if not attack.opens:
        with pytest.raises(InvalidFragment) as caught:
            verifier.verify(token, NOW_MS)
    else:
        verified = verifier.verify(token, NOW_MS)
        with pytest.raises(InvalidFragment) as caught:
            open_sealed(verified, forge.content_key, NOW_MS + 1)
    return caught.value


@pytest.mark.parametrize("attack", CASES)
def test_a_hostile_token_is_refused_without_a_reason(
    forge: Forge, verifier: Verifier, attack: Attack
) -> None:
    error = refusal(forge, verifier, attack)
    assert type(error) is (ExpiredFragment if attack.name == "in the past" else InvalidFragment)
    assert str(error) == PUBLIC_TEXT
    assert error.__cause__ is None
    assert error.__context__ is None
    assert vars(error) == {}


def test_the_list_has_at_least_the_166_cases_of_the_reference() -> None:
    names = {(family, attack.name) for family, attacks in FAMILIES.items() for attack in attacks}
    assert len(names) == len(CASES) >= 166


def test_the_forge_itself_can_make_genuine_tokens(forge: Forge, verifier: Verifier) -> None:
    """Otherwise the table would show nothing: what it re-signs unchanged must be accepted and open."""
    for token in (forge.sign(forge.header, forge.payload), forge.reseal(_plain(forge))):
        opened = open_sealed(verifier.verify(token, NOW_MS), forge.content_key, NOW_MS + 1)
        assert opened.values["room"] == "small flat"


def _plain(forge: Forge) -> bytes:
    joined = "~".join(forge.disclosures()).encode()
    return joined + b"~" * (256 - len(joined) % 256)


def test_expired_is_told_only_after_the_signature_held(forge: Forge, verifier: Verifier) -> None:
    dead_ms = forge.payload["exp"] * 1000
    with pytest.raises(ExpiredFragment):
        verifier.verify(forge.token, dead_ms)
    flipped = forge.token[:-4] + ("A" if forge.token[-4] != "A" else "B") + forge.token[-3:]
    with pytest.raises(InvalidFragment) as caught:
        verifier.verify(flipped, dead_ms)
    assert type(caught.value) is InvalidFragment


def test_the_reason_reaches_the_log_and_holds_nothing_of_the_token(forge: Forge) -> None:
    reasons: list[str] = []
    verifier = Verifier(forge.world.cdp.jwks(NOW_MS), ISSUER, AUDIENCE, log=reasons.append)
    for attacks in FAMILIES.values():
        for attack in attacks:
            if not attack.opens:
                with pytest.raises(InvalidFragment):
                    verifier.verify(attack.make(forge), NOW_MS)
    assert all(reason and len(reason) < 40 for reason in reasons)
    assert not any(part in reason for reason in reasons for part in (forge.head, forge.body, "crm", "cdp"))


def test_every_single_bit_flip_of_a_token_is_refused(forge: Forge, verifier: Verifier) -> None:
    raw = forge.token.encode()
    for place in range(0, len(raw), 7):
        for bit in range(8):
            flipped = raw[:place] + bytes([raw[place] ^ (1 << bit)]) + raw[place + 1 :]
            with pytest.raises(InvalidFragment):
                verifier.verify(flipped.decode("latin-1"), NOW_MS)


@given(st.text(max_size=300))
def test_any_text_is_refused_with_the_public_error(text: str) -> None:
    with pytest.raises(InvalidFragment):
        _SHARED.verify(text, NOW_MS)


@given(st.data())
def test_any_splice_of_a_genuine_token_is_refused(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(_FORGE.token) - 1))
    stop = data.draw(st.integers(start, len(_FORGE.token)))
    middle = data.draw(st.text("ABCxyz019-_.~=", max_size=8))
    token = _FORGE.token[:start] + middle + _FORGE.token[stop:]
    if token != _FORGE.token:
        with pytest.raises(InvalidFragment):
            _SHARED.verify(token, NOW_MS)


@pytest.mark.slow
def test_every_bit_of_every_byte_flipped_is_refused(forge: Forge, verifier: Verifier) -> None:
    raw = forge.token.encode()
    gc.disable()
    for place in range(len(raw)):
        for bit in range(8):
            flipped = raw[:place] + bytes([raw[place] ^ (1 << bit)]) + raw[place + 1 :]
            with pytest.raises(InvalidFragment):
                verifier.verify(flipped.decode("latin-1"), NOW_MS)
    gc.enable()


_FORGE = Forge()
_SHARED = Verifier(_FORGE.world.cdp.jwks(NOW_MS), ISSUER, AUDIENCE)
