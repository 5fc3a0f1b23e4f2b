"""What callers pass, checked before it is queued: what is wrong with one call must not reach the calls beside it."""

from collections.abc import Sequence
from typing import Final

from dayfly.engine.errors import PolicyError
from dayfly.engine.policy.load import policy_from_source
from dayfly.engine.policy.model import Policy
from dayfly.privacy.errors import InvalidArgument

__all__ = ["check_policy", "check_pseudonym", "check_type", "payloads_of"]

PSEUDONYM_BYTES: Final = 16


def payloads_of(payloads: Sequence[bytes]) -> tuple[bytes, ...]:
    """Payloads of one call.

    Raises:
        InvalidArgument: not a sequence of bytes.
    """
    if isinstance(payloads, bytes | bytearray | memoryview | str) or not all(
        isinstance(payload, bytes) for payload in payloads
    ):
        raise InvalidArgument(
            f"payloads={type(payloads).__name__} must be a sequence of bytes; pass one encoded call or envelope each"
        )
    return tuple(payloads)


def check_pseudonym(subject: bytes) -> None:
    """Refuse what is no pseudonym.

    Raises:
        InvalidArgument: not 16 bytes.
    """
    if not isinstance(subject, bytes) or len(subject) != PSEUDONYM_BYTES:
        raise InvalidArgument(
            f"subject of type {type(subject).__name__} must be a pseudonym of {PSEUDONYM_BYTES} bytes; take it from"
            " the tenant's pseudonym keys"
        )


def check_type(kind: type, **values: object) -> None:
    """Refuse arguments of another type.

    Raises:
        InvalidArgument: one of them.
    """
    for name, value in values.items():
        if not isinstance(value, kind):
            wanted = "text" if kind is str else f"a {kind.__name__}"
            raise InvalidArgument(f"{name}={type(value).__name__} must be {wanted}; pass one")


def check_policy(policy: Policy) -> None:
    """Refuse a policy that its documents do not stand for: those are what the log keeps, and what a recovery reads.

    Raises:
        InvalidArgument: no policy, made without documents, or changed since it was loaded.
    """
    check_type(Policy, policy=policy)
    try:
        known = policy_from_source(policy.source) == policy
    except PolicyError:
        known = False
    if not known:
        raise InvalidArgument(
            f"policy version={policy.version} must be as it was loaded from its documents; change the documents and load them"
        )
