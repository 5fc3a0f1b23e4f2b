"""Settings documents: what is read, and what is refused with the place and the way out."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dayfly.engine.delivery import load_settings
from dayfly.engine.errors import DeliverySettingsError

from .support import CRM, OTHER_SECRET, SECRET, endpoint, settings_of

DOCUMENT: dict[str, Any] = {
    "source": "https://cdp.example",
    "dataref": "https://cdp.example/fragments/{jti}",
    "endpoints": [endpoint()],
}


def test_yaml_and_json_say_the_same() -> None:
    assert load_settings(yaml.safe_dump(DOCUMENT)) == load_settings(json.dumps(DOCUMENT))


def test_what_is_not_written_has_the_stated_defaults() -> None:
    (read,) = settings_of(endpoint()).endpoints
    assert (read.form, read.connect_seconds, read.total_seconds) == ("thin", 5.0, 15.0)
    assert (read.concurrency, read.max_in_flight, read.max_response_bytes) == (4, 16, 16_384)
    assert read.allow_networks == ()


def test_audiences_are_those_of_endpoints_and_of_pull() -> None:
    assert settings_of(endpoint(), pull=["https://till.example"]).audiences == {CRM, "https://till.example"}


def test_a_named_secret_is_looked_up_and_stands_in_no_representation() -> None:
    document = yaml.safe_dump({**DOCUMENT, "endpoints": [endpoint(secrets=["named:next", SECRET])]})
    settings = load_settings(document, named_secret={"next": OTHER_SECRET}.__getitem__)
    assert settings == settings_of(endpoint(secrets=[OTHER_SECRET, SECRET]))
    assert SECRET[6:] not in repr(settings)
    with pytest.raises(DeliverySettingsError, match="endpoint crm-7: secret named 'next' must exist"):
        load_settings(document, named_secret={"other": SECRET}.__getitem__)
    with pytest.raises(DeliverySettingsError, match="secret named 'next' must be findable"):
        load_settings(document)


def test_messages_in_flight_are_never_fewer_than_connections() -> None:
    assert settings_of(endpoint(concurrency=32)).endpoints[0].max_in_flight == 32


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"name": "a b"}, r"\$\.endpoints\[0\]\.name"),
        ({"url": "http://crm.example"}, "endpoint crm-7: .*must begin with https"),
        ({"url": 7}, r"Expected `str`, got `int`.*\$\.endpoints\[0\]\.url"),
        ({"secrets": []}, "length >= 1"),
        ({"secrets": ["whsec_x"]}, "endpoint crm-7: a webhook secret must be base64"),
        ({"form": "fat"}, r"Invalid enum value 'fat'.*\.form"),
        ({"total_seconds": 0}, r"> 0(\.0)?.*total_seconds"),
        ({"total_seconds": 61}, r"<= 60(\.0)?.*total_seconds"),
        ({"connect_seconds": 20}, r"connect_seconds=20.* must be <= total_seconds=15"),
        ({"concurrency": 0}, ">= 1.*concurrency"),
        ({"allow_ports": [70_000]}, r"<= 65535.*allow_ports"),
        ({"allow_networks": ["10.0.0.1/8"]}, "'10.0.0.1/8' must be a network"),
        ({"colour": "red"}, "unknown field `colour`"),
        ({"backoff": {"delays_ms": []}}, "must be 1 to 32 numbers"),
        ({"backoff": {"delays_ms": [0]}}, "must end above 0"),
        ({"backoff": {"delays_ms": [-1, 5]}}, "must be 1 to 32 numbers"),
        ({"backoff": {"failures_to_open": 0}}, "failures_to_open=0 must be >= 1"),
        ({"backoff": {"rest_ms": 0}}, r"rest_ms=0 must lie in \[1"),
        ({"backoff": {"rest_ms": 70_000}}, r"rest_ms=70000 must lie in \[1, max_rest_ms=60000\]"),
    ],
)
def test_an_endpoint_that_breaks_a_rule_is_refused(changed: dict[str, Any], rule: str) -> None:
    with pytest.raises(DeliverySettingsError, match=rule):
        settings_of(endpoint(**changed))


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("a: [", "must be YAML or JSON at line 1"),
        ("", "Expected `object`, got `null`"),
        ("[]", "Expected `object`, got `array`"),
        ("source: !!binary aGk=", "must hold text, numbers and lists"),
        ("source: 2026-01-01", "must hold text, numbers and lists"),
        ("source: !!python/object:os.system x", "must be YAML or JSON"),
        (yaml.safe_dump({**DOCUMENT, "dataref": "https://cdp.example/x"}), "exactly once"),
        (yaml.safe_dump({**DOCUMENT, "dataref": "https://cdp.example/{jti}/{jti}"}), "exactly once"),
        (yaml.safe_dump({**DOCUMENT, "dataref": "http://cdp.example/{jti}"}), "must begin with https"),
        (yaml.safe_dump({**DOCUMENT, "endpoints": [endpoint(), endpoint()]}), "must be unique"),
    ],
)
def test_a_document_that_breaks_a_rule_is_refused(text: str, rule: str) -> None:
    with pytest.raises(DeliverySettingsError, match=rule):
        load_settings(text)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_with_our_error(text: str) -> None:
    try:
        load_settings(text)
    except DeliverySettingsError:
        return
    raise AssertionError("no short text is a settings document")
