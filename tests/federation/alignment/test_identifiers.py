"""Identifiers: what is one customer, what breaks a rule, and that messages keep identifiers to themselves."""

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.federation.alignment import RULES, normalise, normalise_all
from dayfly.federation.alignment.identifiers import mask
from dayfly.federation.errors import InvalidIdentifier, InvalidSetting


@pytest.mark.parametrize(
    ("kind", "ways", "normal"),
    [
        ("email", ["Ann.Lee+x@Example.COM", " ann.lee+x@example.com ", "ANN.LEE+X@EXAMPLE.COM"], "ann.lee+x@example.com"),
        ("email", ["jürgen@Bücher.example", "jürgen@xn--bcher-kva.example", "ju\u0308rgen@bücher.example"], "jürgen@xn--bcher-kva.example"),
        ("phone", ["+86 138 1234 5678", "+8613812345678", "０１３８１２３４５６７８", "138-1234-5678"], "+8613812345678"),
        ("phone", ["tel:+86-138-1234-5678"], "+8613812345678"),
        ("id", ["Ａ１２３", " A123", "A123\u3000"], "A123"),
        ("id", ["e\u0301", "é"], "é"),
    ],
)  # fmt: skip
def test_ways_to_write_one_customer_are_one(kind: str, ways: list[str], normal: str) -> None:
    assert {normalise(kind, way, region="CN") for way in ways} == {normal}  # type: ignore[arg-type]  # a table of kinds


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("email", "annlee@example.com", "ann.lee@example.com"),
        ("phone", "+8613812345678", "+8613812345679"),
        ("id", "a123", "A123"),
    ],
)
def test_different_customers_stay_different(kind: str, one: str, other: str) -> None:
    assert normalise(kind, one) != normalise(kind, other)  # type: ignore[arg-type]  # a table of kinds


def test_a_region_says_which_country_a_short_number_is_of() -> None:
    assert normalise("phone", "030 123456", region="DE") == "+4930123456"
    with pytest.raises(InvalidIdentifier, match="must be a valid phone number, with"):
        normalise("phone", "030 123456")


@pytest.mark.parametrize(
    ("kind", "broken"),
    [
        ("email", "ann.lee"),
        ("email", "ann@@example.com"),
        ("email", "ann@localhost"),
        ("email", "ann lee@example.com"),
        ("email", ""),
        ("phone", "+49 12"),
        ("phone", "hello there"),
        ("phone", "+1 555 000 0000 000"),
        ("id", " "),
        ("id", "a\x00b"),
        ("id", "a\ud800"),
        ("id", "x" * 513),
    ],
)
def test_what_breaks_its_rule_is_refused_and_the_rule_is_named(kind: str, broken: str) -> None:
    with pytest.raises(InvalidIdentifier, match="correct it or leave the customer out") as caught:
        normalise(kind, broken)  # type: ignore[arg-type]  # a table of kinds
    assert RULES[kind] in str(caught.value)  # type: ignore[index]  # a table of kinds
    assert len(broken) < 2 or broken not in str(caught.value).replace(RULES[kind], "")  # type: ignore[index]


def test_an_id_of_512_characters_is_one() -> None:
    assert normalise("id", "x" * 512) == "x" * 512


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(InvalidIdentifier, match="id=<int> must be a text"):
        normalise("id", 7)  # type: ignore[arg-type]  # the point


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InvalidSetting, match=r"kind='name' must be one of \['email', 'id', 'phone'\]"):
        normalise("name", "Ann")  # type: ignore[arg-type]  # the point


@given(st.text(min_size=2, max_size=60).filter(lambda text: len(set(text[1:])) > 1))
def test_a_mask_shows_one_character_and_the_length(identifier: str) -> None:
    assert mask(identifier) == f"<{identifier[0]}…, {len(identifier)} characters>"
    assert mask("") == "<empty>"


@given(st.text(max_size=30))
def test_normalising_twice_changes_nothing(identifier: str) -> None:
    try:
        once = normalise("id", identifier)
    except InvalidIdentifier:
        return
    assert normalise("id", once) == once


def test_many_are_normalised_in_order_here_and_elsewhere() -> None:
    many = [f"  N{number}" for number in range(4_100)]
    heard: list[int] = []
    assert normalise_all("id", many, done=heard.append) == [f"N{number}" for number in range(4_100)]
    assert heard == [4_096, 4]
    with ThreadPoolExecutor(2) as executor:
        assert normalise_all("id", many, executor=executor) == [f"N{number}" for number in range(4_100)]


def test_the_row_that_breaks_its_rule_is_named() -> None:
    many = [f"N{number}" for number in range(4_100)]
    many[4_098] = "\x07bell"
    with pytest.raises(InvalidIdentifier, match=r"row=4098 id=<\x07…, 5 characters> must be a text"):
        normalise_all("id", many)


@pytest.mark.parametrize(
    ("kind", "module", "library"),
    [("email", "email_validator", "email-validator"), ("phone", "phonenumbers", "phonenumbers")],
)
def test_a_missing_library_is_named(
    kind: str, module: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        InvalidSetting, match=rf"kind='{kind}' must have the library {library}; install dayfly\[federation\]"
    ):
        normalise(kind, "x")  # type: ignore[arg-type]  # a table of kinds
