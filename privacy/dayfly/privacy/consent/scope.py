"""What a consent is about (`Scope`) and what is asked of it (`ConsentRequest`)."""

from dataclasses import dataclass
from typing import Final

import msgspec

from dayfly.privacy.errors import InvalidConsent

from .taxonomy import ANY, Country, Name, Path, is_name, is_path, name_matches, overlaps

__all__ = [
    "DIMENSIONS",
    "EVERYTHING",
    "ConsentRequest",
    "Scope",
    "first_miss",
    "request_is_sound",
    "scopes_meet",
    "touches",
]

DIMENSIONS: Final = ("purposes", "topics", "data_categories", "recipients", "channels", "recipient_countries")
"""The dimensions in the order in which a miss is reported."""


class Scope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, cache_hash=True):
    """The extent of a consent or of its withdrawal, six lists.

    An empty list means *nothing* where something is granted, and *cannot be limited* where something is denied: no
    default ever widens what is allowed. `"*"` means the whole dimension; a grant may not use it for purposes.

    Attributes:
        purposes: Dotted taxonomy, covered downwards.
        topics: Dotted tree, covered downwards.
        data_categories: Dotted taxonomy, covered downwards.
        recipients: Names of those who may receive.
        channels: Names of the channels that the person was asked about.
        recipient_countries: ISO 3166-1 alpha-2 codes of the recipients' countries.
    """

    purposes: tuple[Path, ...] = ()
    topics: tuple[Path, ...] = ()
    data_categories: tuple[Path, ...] = ()
    recipients: tuple[Name, ...] = ()
    channels: tuple[Name, ...] = ()
    recipient_countries: tuple[Country, ...] = ()


EVERYTHING: Final = Scope(
    purposes=(ANY,),
    topics=(ANY,),
    data_categories=(ANY,),
    recipients=(ANY,),
    channels=(ANY,),
    recipient_countries=(ANY,),
)
"""The scope of a complete withdrawal."""


@dataclass(frozen=True, slots=True)
class ConsentRequest:
    """A use of personal data for which a consent is needed.

    `"*"` in any field asks for the whole dimension and is met only by a grant that says `"*"` itself; so does an
    empty `data_categories`. Nothing is checked here: `decide` answers a malformed request with no.

    Attributes:
        purpose: One path of the purpose taxonomy.
        topic: One path of the topic tree.
        data_categories: All categories that would be used; each must be covered.
        recipient: Who would receive.
        channel: The channel the data came through or the answer leaves by, as the policy names it.
        recipient_country: ISO 3166-1 alpha-2 code of the recipient's country.
    """

    purpose: str
    topic: str = ANY
    data_categories: tuple[str, ...] = ()
    recipient: str = ANY
    channel: str = ANY
    recipient_country: str = ANY

    def checked(self) -> "ConsentRequest":
        """Return the request itself.

        Raises:
            InvalidConsent: A field breaks its syntax.
        """
        if not request_is_sound(self):
            raise InvalidConsent(
                f"request={self!r} must hold one dotted purpose and topic, names and a two-letter country;"
                " correct the policy that asks"
            )
        return self


def request_is_sound(request: object) -> bool:
    """Whether `request` is a `ConsentRequest` whose every field follows its syntax."""
    if not isinstance(request, ConsentRequest):
        return False
    country = request.recipient_country
    return (
        is_path(request.purpose)
        and is_path(request.topic)
        and isinstance(request.data_categories, tuple)
        and all(is_path(category) for category in request.data_categories)
        and is_name(request.recipient)
        and is_name(request.channel)
        and isinstance(country, str)
        and (
            country == ANY
            or (len(country) == 2 and country.isascii() and country.isalpha() and country.isupper())
        )
    )


def _covered(paths: tuple[str, ...], wanted: str) -> bool:
    for path in paths:  # noqa: SIM110 - the inner loop of the decision; a generator doubles its cost
        if path in (wanted, ANY) or wanted.startswith(path + "."):
            return True
    return False


def first_miss(scope: Scope, request: ConsentRequest) -> int:
    """Index into `DIMENSIONS` of the first dimension in which `scope` does not cover `request`; 6 when it covers all."""
    if not _covered(scope.purposes, request.purpose):
        return 0
    if not _covered(scope.topics, request.topic):
        return 1
    for wanted in request.data_categories or (ANY,):
        if not _covered(scope.data_categories, wanted):
            return 2
    if request.recipient not in scope.recipients and ANY not in scope.recipients:
        return 3
    if request.channel not in scope.channels and ANY not in scope.channels:
        return 4
    if request.recipient_country not in scope.recipient_countries and ANY not in scope.recipient_countries:
        return 5
    return 6


def _meets_path(denied: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    return not denied or any(overlaps(path, want) for path in denied for want in wanted)


def _meets_name(denied: tuple[str, ...], wanted: str) -> bool:
    return not denied or any(name_matches(name, wanted) for name in denied)


def touches(scope: Scope, request: ConsentRequest) -> bool:
    """Whether a denial of `scope` denies any part of `request`. An empty list limits nothing and so meets everything."""
    return (
        _meets_path(scope.purposes, (request.purpose,))
        and _meets_path(scope.topics, (request.topic,))
        and _meets_path(scope.data_categories, request.data_categories or (ANY,))
        and _meets_name(scope.recipients, request.recipient)
        and _meets_name(scope.channels, request.channel)
        and _meets_name(scope.recipient_countries, request.recipient_country)
    )


def scopes_meet(one: Scope, other: Scope) -> bool:
    """Whether two scopes have any use of data in common; an empty list limits nothing here."""
    paths = (
        (one.purposes, other.purposes),
        (one.topics, other.topics),
        (one.data_categories, other.data_categories),
    )
    names = (
        (one.recipients, other.recipients),
        (one.channels, other.channels),
        (one.recipient_countries, other.recipient_countries),
    )
    return all(not mine or _meets_path(theirs, mine) for mine, theirs in paths) and all(
        not mine or any(_meets_name(theirs, name) for name in mine) for mine, theirs in names
    )
