"""Records: strict parsing, canonical bytes, chain, taxonomies."""

import hashlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dayfly.privacy.consent import (
    ConsentRecord,
    ConsentState,
    canonical_bytes,
    parse_record,
    record_digest,
    successor,
    verify_chain,
)
from dayfly.privacy.consent.taxonomy import covers, is_name, is_path, overlaps
from dayfly.privacy.errors import BrokenChain, InvalidConsent

from .cases import record, records


def plain(**changes: Any) -> dict[str, Any]:
    """JSON values of a sound record, changed."""
    values: dict[str, Any] = msgspec.to_builtins(record())
    return {**values, **changes}


@given(records())
def test_canonical_bytes_are_sorted_json_that_parses_to_the_same_record(one: ConsentRecord) -> None:
    data = canonical_bytes(one)
    assert (
        data
        == json.dumps(json.loads(data), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    )
    assert parse_record(json.loads(data)) == one
    assert record_digest(one) == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"extra": 1}, "unknown field `extra`"),
        ({"time_ms": "10"}, r"record\.time_ms='10' must follow the schema \(Expected `int`, got `str`\)"),
        ({"time_ms": True}, r"record\.time_ms=True must follow"),
        ({"time_ms": 1.5}, r"record\.time_ms=1\.5 must follow"),
        ({"time_ms": -1}, r"record\.time_ms=-1 must follow"),
        ({"time_ms": 2**63}, r"record\.time_ms=9223372036854775808 must follow"),
        ({"state": "granted"}, "Invalid enum value 'granted'"),
        ({"version": 0}, r"record\.version=0 must follow"),
        ({"scope": {"purposes": ["Service"]}}, r"record\.scope\.purposes\[0\]='Service' must follow"),
        ({"scope": {"purposes": ["a..b"]}}, r"purposes\[0\]='a\.\.b' must"),
        ({"scope": {"purposes": ["a."]}}, r"purposes\[0\]='a\.' must"),
        ({"scope": {"topics": ["a\n"]}}, r"topics\[0\]='a\\n' must"),
        ({"scope": {"topics": "furniture"}}, "Expected `array`, got `str`"),
        ({"scope": {"topics": ["*.a"]}}, r"topics\[0\]='\*\.a' must"),
        ({"scope": {"recipient_countries": ["cn"]}}, r"recipient_countries\[0\]='cn' must"),
        ({"scope": {"recipients": ["crm eu"]}}, r"recipients\[0\]='crm eu' must"),
        ({"scope": {"purposes": ["*"]}}, r"purposes='\*' must not be granted"),
        ({"use": {}}, "missing required field `max_uses`"),
        ({"use": {"max_uses": 0}}, r"record\.use\.max_uses=0 must follow"),
        ({"notice": {"sha256": "AB"}}, r"record\.notice\.sha256='AB' must"),
        ({"prev": "0" * 63}, r"record\.prev='0{63}' must"),
        ({"valid_until_ms": 10}, "valid_until_ms=10 must be > valid_from_ms=10"),
        ({"schema_version": "27560"}, "schema_version='27560' must be 'dayfly-consent-1'"),
        ({"record_id": "*"}, r"record_id and principal='\*' must name one record"),
        ({"principal": ""}, r"record\.principal='' must"),
        ({"consent_type": "\ud800"}, "record=.* must follow the schema"),
    ],
)
def test_parser_refuses_with_the_value_and_the_way_out(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConsent, match=message):
        parse_record(plain(**changes))


def test_parser_refuses_a_missing_field() -> None:
    values = plain()
    del values["principal"]
    with pytest.raises(InvalidConsent, match="missing required field `principal`"):
        parse_record(values)


@pytest.mark.parametrize("value", [None, 5, "record", [], [1]])
def test_parser_refuses_what_is_no_mapping(value: Any) -> None:
    with pytest.raises(InvalidConsent, match="must follow the schema"):
        parse_record(value)


def test_foreign_country_needs_a_transfer_basis() -> None:
    scope = {"purposes": ["service"], "recipient_countries": ["CN", "DE"]}
    with pytest.raises(
        InvalidConsent,
        match=r"recipient_countries=\['DE'\] must have a transfer basis because jurisdiction='CN'",
    ):
        parse_record(plain(scope=scope, terms={"jurisdiction": "CN"}))
    assert parse_record(plain(scope=scope, terms={"jurisdiction": "CN", "transfer_basis": "contract"}))
    assert parse_record(plain(scope={**scope, "recipient_countries": ["CN"]}, terms={"jurisdiction": "CN"}))


def test_defaults_grant_nothing() -> None:
    bare = ConsentRecord(record_id="c", principal="p", state=ConsentState.GIVEN, time_ms=0)
    assert bare.valid_from_ms == bare.valid_until_ms == 0
    assert not any(msgspec.structs.astuple(bare.scope))
    assert bare.use.max_uses == 1
    assert bare.terms.transfer_basis == "none"


def chain() -> list[ConsentRecord]:
    """Three chained versions."""
    one = record("requested", 5)
    two = successor(one, state=ConsentState.GIVEN, time_ms=10, valid_from_ms=10, valid_until_ms=20)
    return [one, two, successor(two, state=ConsentState.WITHDRAWN, time_ms=15)]


def test_chain_of_successors_holds() -> None:
    verify_chain(chain())
    verify_chain([])


def test_broken_chains_are_found_at_the_first_wrong_version() -> None:
    one, two, three = chain()
    for versions, place in (
        ([two, three], "version=2 must follow version 0"),
        ([one, three], "version=3 must follow version 1"),
        ([one, msgspec.structs.replace(two, valid_until_ms=99), three], "version=3 must follow version 2"),
        ([one, msgspec.structs.replace(two, prev="0" * 64)], "version=2 must follow version 1"),
        ([one, msgspec.structs.replace(two, record_id="c2")], "version=2 must follow"),
        ([one, msgspec.structs.replace(two, version=3)], "version=3 must follow"),
        (
            [*chain(), msgspec.structs.replace(two, version=4, prev=record_digest(three))],
            "version=4 must follow",
        ),
    ):
        with pytest.raises(BrokenChain, match=place):
            verify_chain(versions)


@pytest.mark.parametrize("ended", ["used", "withdrawn", "expired", "refused", "invalidated"])
@pytest.mark.parametrize("state", ["given", "requested"])
def test_no_successor_leaves_an_end(ended: str, state: str) -> None:
    with pytest.raises(InvalidConsent, match=f"state='{state}' must not follow '{ended}'; open a new record"):
        successor(record(ended), state=ConsentState(state), time_ms=20)


def test_a_question_does_not_follow_an_answer_and_a_renewal_does() -> None:
    with pytest.raises(InvalidConsent, match="state='requested' must not follow 'given'"):
        successor(record(), state=ConsentState.REQUESTED, time_ms=20)
    assert successor(record(), state=ConsentState.GIVEN, time_ms=20).version == 2
    with pytest.raises(InvalidConsent, match="valid_until_ms=1 must be"):
        successor(record(), state=ConsentState.GIVEN, time_ms=20, valid_until_ms=1)


WORD = st.from_regex(r"\A[a-z0-9][a-z0-9_-]{0,3}\Z")
PATH = st.lists(WORD, min_size=1, max_size=3).map(".".join)


@given(PATH, PATH)
def test_a_path_covers_itself_and_below_at_dots_only(one: str, two: str) -> None:
    assert is_path(one)
    assert covers(one, one)
    assert covers(one, f"{one}.{two}")
    assert not covers(f"{one}.{two}", one)
    assert not covers(one, f"{one}-{two}")
    assert covers("*", one)
    assert not covers(one, "*")
    assert covers(one, two) == (two.split(".")[: len(one.split("."))] == one.split("."))
    assert overlaps(one, two) == (covers(one, two) or covers(two, one)) == overlaps(two, one)


@pytest.mark.parametrize(
    "value", ["", ".", "a.", ".a", "a..b", "A", "a b", "a\n", "*.a", "a.*", "é", "-a", "a" * 201, None, 5]
)
def test_bad_paths_are_no_paths(value: object) -> None:
    assert not is_path(value)


@pytest.mark.parametrize("value", ["", " a", "a b", "a\n", "-a", "a" * 201, None, 5])
def test_bad_names_are_no_names(value: object) -> None:
    assert not is_name(value)
    assert is_name("crm-eu-1")
