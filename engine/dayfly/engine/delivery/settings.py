"""Settings of delivery: who gets which fragments, where, and how patiently.

A document in YAML or JSON::

    source: https://cdp.example            # CloudEvents source
    dataref: https://cdp.example/fragments/{jti}
    endpoints:
      - name: crm-7
        audience: https://crm.example
        url: https://crm.example/hooks/dayfly
        secrets: ["whsec_…", "named:crm-7-next"]
        form: thin                         # or full: the sealed fragment travels in the message
    pull: [https://till.example]           # audiences that fetch by themselves, without an endpoint
"""

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

import msgspec
import yaml

from dayfly.engine.errors import DeliverySettingsError

from .addresses import Network, Target, parse_target
from .schedule import Backoff
from .signing import WebhookSecret

__all__ = ["DeliverySettings", "Endpoint", "load_settings"]

Seconds = Annotated[float, msgspec.Meta(gt=0, le=60)]
_NAMED: Final = "named:"
_MAX_DELAYS: Final = 32
_DAY_MS: Final = 86_400_000
_PLACE: Final = "{jti}"


class _EndpointDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One endpoint as written."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    audience: Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
    url: str
    secrets: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=8)]
    form: Literal["thin", "full"] = "thin"
    connect_seconds: Seconds = 5.0
    total_seconds: Seconds = 15.0
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=256)] = 4
    max_in_flight: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 16
    max_response_bytes: Annotated[int, msgspec.Meta(ge=0, le=1_048_576)] = 16_384
    allow_http: bool = False
    allow_ports: tuple[Annotated[int, msgspec.Meta(ge=1, le=65_535)], ...] = ()
    allow_networks: tuple[str, ...] = ()
    backoff: Backoff = msgspec.field(default_factory=Backoff)


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole document as written."""

    source: Annotated[str, msgspec.Meta(min_length=1, max_length=2048)]
    dataref: Annotated[str, msgspec.Meta(min_length=1, max_length=2048)]
    endpoints: tuple[_EndpointDocument, ...] = ()
    pull: tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=512)], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One receiver, checked."""

    name: str
    audience: str
    target: Target
    secrets: tuple[WebhookSecret, ...] = field(repr=False)
    form: Literal["thin", "full"] = "thin"
    connect_seconds: float = 5.0
    """For the name, the connection and TLS together."""
    total_seconds: float = 15.0
    """For a whole attempt, answer included."""
    concurrency: int = 4
    """Connections at once."""
    max_in_flight: int = 16
    """Messages begun and not settled; more than `concurrency` share one commit."""
    max_response_bytes: int = 16_384
    """Of an answer's body, after which the connection is closed; the status has decided by then."""
    allow_networks: tuple[Network, ...] = ()
    backoff: Backoff = field(default_factory=Backoff)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySettings:
    """Everything delivery is told once.

    Attributes:
        source: CloudEvents `source` of every message.
        dataref: URL of a fragment, with `{jti}` where its id goes.
        endpoints: Who is pushed to; several may serve one audience.
        pull: Audiences that (also) fetch with `Delivery.pull`.
    """

    source: str
    dataref: str
    endpoints: tuple[Endpoint, ...] = ()
    pull: frozenset[str] = frozenset()

    @property
    def audiences(self) -> frozenset[str]:
        """Every audience that fragments are kept for."""
        return self.pull | {endpoint.audience for endpoint in self.endpoints}


def load_settings(text: str, *, named_secret: Callable[[str], str] | None = None) -> DeliverySettings:
    """Read and check a settings document.

    Args:
        text: YAML or JSON.
        named_secret: Finds the secret that a document names by `named:NAME`, so that none stands in it.

    Raises:
        DeliverySettingsError: with the place in the document, the rule and the way out; secrets are never repeated.
    """
    try:
        written = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark is not None else ""
        raise DeliverySettingsError(f"settings must be YAML or JSON{line}; correct the document") from None
    if _holds_binary(written):
        raise DeliverySettingsError(
            "settings must hold text, numbers and lists only; remove !!binary and timestamps"
        )
    try:
        document = msgspec.convert(written, _Document)
    except msgspec.ValidationError as error:
        raise DeliverySettingsError(f"settings: {error}; correct the document") from None
    if document.dataref.count(_PLACE) != 1:
        raise DeliverySettingsError(
            f"dataref={document.dataref!r} must hold {_PLACE} exactly once; write it where the fragment's id goes"
        )
    parse_target(document.dataref.replace(_PLACE, "x"), allow_ports=range(65_536))
    names = [endpoint.name for endpoint in document.endpoints]
    for name in names:
        if names.count(name) > 1:
            raise DeliverySettingsError(f"name={name!r} must be unique among the endpoints; rename one")
    endpoints = tuple(_endpoint(written, named_secret) for written in document.endpoints)
    return DeliverySettings(
        source=document.source,
        dataref=document.dataref,
        endpoints=endpoints,
        pull=frozenset(document.pull),
    )


def _endpoint(written: _EndpointDocument, named_secret: Callable[[str], str] | None) -> Endpoint:
    """An endpoint whose every part is checked; errors begin with its name."""
    try:
        _check_times(written)
        return Endpoint(
            name=written.name,
            audience=written.audience,
            target=parse_target(written.url, allow_http=written.allow_http, allow_ports=written.allow_ports),
            secrets=tuple(_secret(text, named_secret) for text in written.secrets),
            form=written.form,
            connect_seconds=written.connect_seconds,
            total_seconds=written.total_seconds,
            concurrency=written.concurrency,
            max_in_flight=max(written.max_in_flight, written.concurrency),
            max_response_bytes=written.max_response_bytes,
            allow_networks=_networks(written.allow_networks),
            backoff=written.backoff,
        )
    except DeliverySettingsError as error:
        raise DeliverySettingsError(f"endpoint {written.name}: {error}") from None


def _secret(text: str, named_secret: Callable[[str], str] | None) -> WebhookSecret:
    if not text.startswith(_NAMED):
        return WebhookSecret.parse(text)
    name = text.removeprefix(_NAMED)
    if named_secret is None:
        raise DeliverySettingsError(
            f"secret named {name!r} must be findable; pass named_secret to load_settings"
        )
    try:
        return WebhookSecret.parse(named_secret(name))
    except LookupError:
        raise DeliverySettingsError(f"secret named {name!r} must exist; add it to the key provider") from None


def _networks(texts: Iterable[str]) -> tuple[Network, ...]:
    networks = []
    for text in texts:
        try:
            networks.append(ipaddress.ip_network(text))
        except ValueError:
            raise DeliverySettingsError(
                f"allow_networks: {text!r} must be a network such as 10.1.2.0/24 without host bits; correct it"
            ) from None
    return tuple(networks)


def _check_times(written: _EndpointDocument) -> None:
    backoff = written.backoff
    if written.connect_seconds > written.total_seconds:
        raise DeliverySettingsError(
            f"connect_seconds={written.connect_seconds} must be <= total_seconds={written.total_seconds}; lower it"
        )
    if not 1 <= len(backoff.delays_ms) <= _MAX_DELAYS or not all(
        0 <= ms <= _DAY_MS for ms in backoff.delays_ms
    ):
        raise DeliverySettingsError(
            f"delays_ms={backoff.delays_ms} must be 1 to {_MAX_DELAYS} numbers from 0 to {_DAY_MS}; correct the list"
        )
    if backoff.delays_ms[-1] < 1:
        raise DeliverySettingsError("delays_ms must end above 0, for its last repeats; add a waiting time")
    if backoff.failures_to_open < 1:
        raise DeliverySettingsError(f"failures_to_open={backoff.failures_to_open} must be >= 1; raise it")
    if not 1 <= backoff.rest_ms <= backoff.max_rest_ms <= _DAY_MS:
        raise DeliverySettingsError(
            f"rest_ms={backoff.rest_ms} must lie in [1, max_rest_ms={backoff.max_rest_ms}] and that below {_DAY_MS + 1}; "
            "correct them"
        )


def _holds_binary(value: object) -> bool:
    """Whether the YAML holds what JSON has no word for."""
    if isinstance(value, Mapping):
        return any(_holds_binary(key) or _holds_binary(inner) for key, inner in value.items())
    if isinstance(value, list):
        return any(map(_holds_binary, value))
    return not isinstance(value, str | int | float | None)
