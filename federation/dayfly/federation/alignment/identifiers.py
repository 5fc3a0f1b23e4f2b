"""One form for one customer: identifiers normalised by rules that all channels share.

- ``email``: syntax and Unicode by `email-validator` (no look-up in the DNS), the domain in its ASCII form, and both parts in lower case. RFC 5321
  lets a mail server tell capitals in the local part apart; hardly one does, and customers do not. Dots and ``+tags`` stay as they are.
- ``phone``: E.164 by `phonenumbers`; must be a valid number. Without ``+`` and country code the channel's `region` is needed.
- ``id``: Unicode NFKC, spaces around it removed; capitals stay.

Messages show an identifier's first character and length, nothing else of it.
"""

import unicodedata
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from functools import partial
from itertools import islice
from typing import Final

from dayfly.federation.alignment.messages import Kind
from dayfly.federation.errors import InvalidIdentifier, InvalidSetting

__all__ = ["RULES", "mask", "normalise", "normalise_all"]

RULES: Final[dict[Kind, str]] = {
    "email": "an e-mail address as RFC 5322 writes it, such as name@example.com",
    "phone": "a valid phone number, with + and country code or of the given region",
    "id": "a text of 1 to 512 characters without control characters",
}
"""What an identifier of each kind must be."""

_LONGEST: Final = 512
_BATCH: Final = 4_096


def mask(identifier: object) -> str:
    """What a message may show of an identifier."""
    if not isinstance(identifier, str):
        return f"<{type(identifier).__name__}>"
    return f"<{identifier[:1]}…, {len(identifier)} characters>" if identifier else "<empty>"


def normalise(kind: Kind, identifier: str, *, region: str | None = None) -> str:
    """The form that all channels hash.

    Args:
        kind: Which rule.
        identifier: As the channel has it.
        region: ISO 3166-1 alpha-2 code of phone numbers without country code.

    Raises:
        InvalidIdentifier: it breaks the rule of its kind.
        InvalidSetting: there is no such kind.
    """
    if kind not in RULES:
        raise InvalidSetting(f"kind={kind!r} must be one of {sorted(RULES)}; pass one of these")
    text = identifier.strip() if isinstance(identifier, str) and len(identifier) <= _LONGEST else ""
    found = _found(kind, text, region) if text else None
    if not found:
        raise InvalidIdentifier(
            f"{kind}={mask(identifier)} must be {RULES[kind]}; correct it or leave the customer out"
        )
    return found


def normalise_all(
    kind: Kind,
    identifiers: Iterable[str],
    *,
    region: str | None = None,
    executor: Executor | None = None,
    done: Callable[[int], object] = lambda _: None,
) -> list[str]:
    """`normalise` for many, in order.

    Args:
        kind: Which rule.
        identifiers: As the channel has them.
        region: See `normalise`.
        executor: Runs batches elsewhere; None: in this process.
        done: Told how many more are done, batch by batch.

    Raises:
        InvalidIdentifier: one breaks the rule; says which row, from 0.
    """
    source = iter(identifiers)
    batches = iter(lambda: list(islice(source, _BATCH)), [])
    work = partial(_batch, kind, region)
    found: list[str] = []
    for normal, cause in map(work, batches) if executor is None else executor.map(work, batches):
        if cause:
            raise InvalidIdentifier(f"row={len(found) + len(normal)} {cause}")
        found.extend(normal)
        done(len(normal))
    return found


def _batch(kind: Kind, region: str | None, identifiers: list[str]) -> tuple[list[str], str]:
    """Normal forms up to the first that has none, and why that one has none."""
    found: list[str] = []
    for identifier in identifiers:
        try:
            found.append(normalise(kind, identifier, region=region))
        except InvalidIdentifier as error:
            return found, str(error)
    return found, ""


def _found(kind: Kind, text: str, region: str | None) -> str | None:
    match kind:
        case "email":
            return _email(text)
        case "phone":
            return _phone(text, region)
        case "id":
            return _plain(text)


def _missing(kind: Kind, library: str) -> InvalidSetting:
    return InvalidSetting(f"kind={kind!r} must have the library {library}; install dayfly[federation]")


def _email(text: str) -> str | None:
    try:
        from email_validator import EmailNotValidError, validate_email  # noqa: PLC0415 - extra, only for e-mail
    except ImportError:
        raise _missing("email", "email-validator") from None
    try:
        valid = validate_email(text, check_deliverability=False)
    except EmailNotValidError:
        return None
    return f"{valid.local_part}@{valid.ascii_domain}".lower()


def _phone(text: str, region: str | None) -> str | None:
    try:
        import phonenumbers  # noqa: PLC0415 - extra, only for phone numbers
    except ImportError:
        raise _missing("phone", "phonenumbers") from None
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(number):
        return None
    return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))


def _plain(text: str) -> str | None:
    normal = unicodedata.normalize("NFKC", text).strip()
    if normal.isprintable():  # what most are, found out faster
        return normal
    if any(unicodedata.category(sign) in {"Cc", "Cs", "Cn"} for sign in normal):
        return None
    return normal
