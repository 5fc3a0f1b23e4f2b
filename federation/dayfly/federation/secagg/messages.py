"""What server and members send each other; msgpack on the wire."""

from typing import Any, TypeVar

import msgspec

from dayfly.federation.errors import BadMessage

__all__ = [
    "Bundle",
    "Hello",
    "Joined",
    "MaskRequest",
    "Masked",
    "Roster",
    "Settings",
    "Unmask",
    "Unmasked",
    "decode",
    "encode",
]


class Settings(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What all members must agree on, part of every signature.

    Attributes:
        session: 16 to 64 random bytes, never used again.
        threshold: Fewest members whose inputs are added up, and whose shares open a sum.
        rounds: For how many rounds shares are made.
        words: Ring words of an input.
    """

    session: bytes
    threshold: int
    rounds: int
    words: int


class Hello(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A member's agreement key, signed by its node."""

    party: str
    settings: Settings
    public_key: bytes
    signature: bytes


class Roster(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """All members of the session; their order numbers them from 1."""

    members: tuple[Hello, ...]


class Bundle(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One member's shares for another, for all rounds, encrypted."""

    sender: str
    recipient: str
    sealed: bytes


class Joined(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A member's bundles for the others, and commitments to the seeds that they share: per round, its own and one per member."""

    party: str
    bundles: tuple[Bundle, ...]
    commitments: bytes


class MaskRequest(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Asks for an input under masks.

    Attributes:
        round_number: From 1, rising.
        release: Names what is released; masks depend on it.
        present: Members still there, sorted.
        bundles: Those for this member, in the first round only.
    """

    round_number: int
    release: bytes
    present: tuple[str, ...]
    bundles: tuple[Bundle, ...] = ()


class Masked(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An input under masks.

    Attributes:
        words: Ring words, little-endian.
        tags: For each other present member, in the order of `present`: proof of what this member took part in.
    """

    party: str
    round_number: int
    words: bytes
    tags: tuple[bytes, ...]


class Unmask(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Asks for the shares that open the sum of the inputs of `included`.

    Attributes:
        included: Members whose inputs arrived, sorted.
        tags: Their proofs for this member, in the same order; empty for the member itself.
    """

    round_number: int
    included: tuple[str, ...]
    tags: tuple[bytes, ...]


class Unmasked(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Shares: for each included member its self-mask's, then one for each missing member's pair with it; 40 bytes each."""

    party: str
    round_number: int
    shares: bytes


T = TypeVar("T", bound=msgspec.Struct)

encode = msgspec.msgpack.Encoder().encode


def decode(data: bytes, kind: type[T], *, party: str) -> T:
    """Read a message.

    Raises:
        BadMessage: it is not of that kind; names who sent it.
    """
    try:
        found: Any = msgspec.msgpack.decode(data, type=kind, strict=True)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:  # msgspec lets the second through for texts
        raise BadMessage(
            party,
            f"must send a {kind.__name__}, not {len(data)} bytes that are none ({error}); check its version",
        ) from None
    return found  # type: ignore[no-any-return]
