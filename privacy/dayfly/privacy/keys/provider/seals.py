"""How a key file is sealed: a passphrase, the keyring of the operating system, a key-management service, or not at all.

Each save draws a new content key, which encrypts the secrets; a seal keeps that content key. What a seal puts into the file is its
*facts*: parameters and the wrapped content key.
"""

import base64
import binascii
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, Final, Protocol, TypeVar, cast

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from dayfly.privacy.errors import (
    InvalidArgument,
    KeyringUnavailable,
    KeyStoreDamaged,
    KmsFailed,
    WrongKey,
)
from dayfly.privacy.keys.interfaces import KEY_BYTES, Kms
from dayfly.privacy.keys.kek import NONCE_BYTES, seal_bytes, unseal_bytes

__all__ = [
    "BareFacts",
    "BareSeal",
    "Facts",
    "KeyringBackend",
    "KeyringFacts",
    "KeyringSeal",
    "KmsFacts",
    "KmsSeal",
    "PassphraseFacts",
    "PassphraseSeal",
    "ScryptCost",
    "Seal",
    "derive",
]

_SALT_BYTES: Final = 16
_MIN_PASSPHRASE: Final = 12
_MIN_N: Final = 2**14
_MAX_N: Final = 2**20


@dataclass(frozen=True, slots=True)
class ScryptCost:
    """Parameters of scrypt (RFC 7914). The default takes 128 MiB and some tenths of a second.

    Attributes:
        n: Rounds and memory, a power of two from 2**14 to 2**20.
        r: Block size, 8 to 32.
        p: Parallel runs, 1 to 16.

    Raises:
        InvalidArgument: Outside, so too cheap, or a header that would exhaust the memory.
    """

    n: int = 2**17
    r: int = 8
    p: int = 1

    def __post_init__(self) -> None:
        """Check the bounds."""
        fits = _MIN_N <= self.n <= _MAX_N and self.n & (self.n - 1) == 0
        if not (fits and 8 <= self.r <= 32 and 1 <= self.p <= 16):
            raise InvalidArgument(
                f"n={self.n!r} r={self.r!r} p={self.p!r} must be a power of two in [2**14, 2**20], 8 to 32 and 1 to 16; "
                f"use ScryptCost()"
            )


class _Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    pass


class PassphraseFacts(_Facts, frozen=True, tag="passphrase"):
    """scrypt parameters and the content key under the derived key."""

    n: int
    r: int
    p: int
    salt: bytes
    wrapped: bytes


class KeyringFacts(_Facts, frozen=True, tag="keyring"):
    """Where the sealing key is, and the content key under it."""

    service: str
    user: str
    wrapped: bytes


class KmsFacts(_Facts, frozen=True, tag="kms"):
    """The content key as the service wrapped it."""

    wrapped: bytes


class BareFacts(_Facts, frozen=True, tag="bare"):
    """The content key itself: whoever reads the file has the secrets."""

    content_key: bytes

    def __repr__(self) -> str:
        return "BareFacts(<secret>)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


Facts = PassphraseFacts | KeyringFacts | KmsFacts | BareFacts
Context = Mapping[str, str]


class Seal(Protocol):
    """Keeps content keys."""

    kind: ClassVar[str]

    def seal(self, content_key: bytes, context: Context) -> Facts:
        """Keep a content key, bound to the context."""
        ...

    def unseal(self, facts: Facts, context: Context) -> bytes:
        """The content key again. Raises `WrongKey`, `KeyringUnavailable` or `KmsFailed`."""
        ...


_FactsT = TypeVar("_FactsT", PassphraseFacts, KeyringFacts, KmsFacts, BareFacts)


def _of_kind(facts: Facts, kind: type[_FactsT]) -> _FactsT:
    if not isinstance(facts, kind):
        there = facts.__struct_config__.tag
        raise InvalidArgument(
            f"seal={kind.__struct_config__.tag!r} must be {there!r}, as the key file states; open it with that seal"
        )
    return facts


def _bound(context: Context) -> bytes:
    return msgspec.json.encode(dict(context), order="sorted")


def derive(passphrase: str, salt: bytes, cost: ScryptCost) -> bytearray:
    """32 bytes from a passphrase (scrypt, RFC 7914; the text as UTF-8 in Unicode form NFC)."""
    key = bytearray(KEY_BYTES)
    text = unicodedata.normalize("NFC", passphrase).encode()
    Scrypt(salt=salt, length=KEY_BYTES, n=cost.n, r=cost.r, p=cost.p).derive_into(text, key)
    return key


class PassphraseSeal:
    """Sealed under a passphrase.

    Args:
        passphrase: Gives it; asked once per seal object, for example a prompt or the reader of a service's credential.
        random_bytes: Source of salt and nonces.
        cost: scrypt parameters of new files; an existing file states its own.
    """

    kind: ClassVar[str] = "passphrase"

    def __init__(
        self,
        passphrase: Callable[[], str],
        *,
        random_bytes: Callable[[int], bytes],
        cost: ScryptCost | None = None,
    ) -> None:
        self._passphrase: Final = passphrase
        self._random_bytes: Final = random_bytes
        self._cost: Final = cost or ScryptCost()
        self._derived: tuple[ScryptCost, bytes, AESGCM] | None = None

    def __repr__(self) -> str:
        return "PassphraseSeal()"

    def _cipher(self, cost: ScryptCost, salt: bytes) -> AESGCM:
        if self._derived is not None and self._derived[:2] == (cost, salt):
            return self._derived[2]
        passphrase = self._passphrase()
        if not isinstance(passphrase, str) or len(passphrase) < _MIN_PASSPHRASE:
            raise InvalidArgument(
                f"passphrase=<secret> must have at least {_MIN_PASSPHRASE} characters; choose a longer one"
            )
        key = derive(passphrase, salt, cost)
        self._derived = cost, salt, AESGCM(key)
        key[:] = bytes(len(key))
        return self._derived[2]

    def seal(self, content_key: bytes, context: Context) -> PassphraseFacts:
        """Keep a content key.

        Raises:
            InvalidArgument: The passphrase is too short.
        """
        if self._derived is None:
            self._cipher(self._cost, self._random_bytes(_SALT_BYTES))
        assert self._derived is not None
        cost, salt, cipher = self._derived
        wrapped = seal_bytes(cipher, content_key, _bound(context), self._random_bytes(NONCE_BYTES))
        return PassphraseFacts(cost.n, cost.r, cost.p, salt, wrapped)

    def unseal(self, facts: Facts, context: Context) -> bytes:
        """The content key.

        Raises:
            WrongKey: Another passphrase.
            InvalidArgument: Not sealed by a passphrase, or the passphrase is too short.
            KeyStoreDamaged: scrypt parameters that no version of Dayfly wrote.
        """
        own = _of_kind(facts, PassphraseFacts)
        try:
            cost = ScryptCost(own.n, own.r, own.p)
        except InvalidArgument as error:
            raise KeyStoreDamaged(f"scrypt {error}") from None
        try:
            return bytes(unseal_bytes(self._cipher(cost, own.salt), own.wrapped, _bound(context)))
        except WrongKey:
            self._derived = None
            raise WrongKey("passphrase=<secret> must be the one that sealed the file; try again") from None


class KeyringBackend(Protocol):
    """The part of the library `keyring` that is used; its module has these functions too."""

    def get_password(self, service: str, username: str, /) -> str | None:
        """An entry's text, or None."""
        ...

    def set_password(self, service: str, username: str, password: str, /) -> None:
        """Keep an entry."""
        ...


class KeyringSeal:
    """Sealed under a random key that the keyring of the operating system keeps.

    Args:
        user: Name of the entry, one for each key file.
        random_bytes: Source of the sealing key and nonces.
        service: Service name of the entry.
        backend: What keeps entries; by default the library `keyring` of the extra `dayfly[keyring]`.
    """

    kind: ClassVar[str] = "keyring"

    def __init__(
        self,
        user: str,
        *,
        random_bytes: Callable[[int], bytes],
        service: str = "dayfly",
        backend: KeyringBackend | None = None,
    ) -> None:
        self._user: Final = user
        self._service: Final = service
        self._random_bytes: Final = random_bytes
        self._backend: Final = backend

    def __repr__(self) -> str:
        return f"KeyringSeal(user={self._user!r}, service={self._service!r})"

    def _entries(self) -> KeyringBackend:
        if self._backend is not None:
            return self._backend
        try:
            library = cast("KeyringBackend", import_module("keyring"))
        except ImportError:
            raise KeyringUnavailable(
                "library='keyring' must be installed; run pip install 'dayfly[keyring]', or seal with a passphrase"
            ) from None
        return library

    def _read(self, service: str, user: str) -> bytes | None:
        try:
            text = self._entries().get_password(service, user)
        except KeyringUnavailable:
            raise
        except Exception as error:
            raise _no_keyring(service, user, error) from error
        if text is None:
            return None
        try:
            key = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != KEY_BYTES:
            raise WrongKey(
                f"keyring entry service={service!r} user={user!r} must hold a sealing key of Dayfly; restore the entry"
            )
        return key

    def _make(self) -> bytes:
        key = self._random_bytes(KEY_BYTES)
        try:
            self._entries().set_password(self._service, self._user, base64.b64encode(key).decode("ascii"))
        except KeyringUnavailable:
            raise
        except Exception as error:
            raise _no_keyring(self._service, self._user, error) from error
        if self._read(self._service, self._user) != key:
            raise KeyringUnavailable(
                f"keyring entry service={self._service!r} user={self._user!r} must be kept; configure a keyring backend"
            )
        return key

    def seal(self, content_key: bytes, context: Context) -> KeyringFacts:
        """Keep a content key; the entry is made when it is missing.

        Raises:
            KeyringUnavailable: The extra is missing, or no backend keeps the entry.
            WrongKey: The entry holds something else.
        """
        key = self._read(self._service, self._user)
        cipher = AESGCM(self._make() if key is None else key)
        wrapped = seal_bytes(cipher, content_key, _bound(context), self._random_bytes(NONCE_BYTES))
        return KeyringFacts(self._service, self._user, wrapped)

    def unseal(self, facts: Facts, context: Context) -> bytes:
        """The content key.

        Raises:
            WrongKey: The entry is missing or another one.
            KeyringUnavailable: The extra is missing, or no backend answers.
            InvalidArgument: Not sealed by a keyring.
        """
        own = _of_kind(facts, KeyringFacts)
        key = self._read(own.service, own.user)
        place = f"keyring entry service={own.service!r} user={own.user!r}"
        if key is None:
            raise WrongKey(f"{place} must exist; unlock or restore the keyring that sealed the file")
        try:
            return bytes(unseal_bytes(AESGCM(key), own.wrapped, _bound(context)))
        except WrongKey:
            raise WrongKey(f"{place} must be the one that sealed the file; restore it") from None


def _no_keyring(service: str, user: str, error: Exception) -> KeyringUnavailable:
    return KeyringUnavailable(
        f"keyring entry service={service!r} user={user!r} must be within reach, but {type(error).__name__}; "
        f"unlock the keyring, or seal with a passphrase"
    )


class KmsSeal:
    """Sealed by a key-management service, which never sees more than the content key.

    Args:
        kms: The service.
    """

    kind: ClassVar[str] = "kms"

    def __init__(self, kms: Kms) -> None:
        self._kms: Final = kms

    def __repr__(self) -> str:
        return "KmsSeal()"

    def seal(self, content_key: bytes, context: Context) -> KmsFacts:
        """Let the service wrap a content key. Raises `KmsFailed`."""
        return KmsFacts(self._ask("wrap", self._kms.wrap, content_key, context))

    def unseal(self, facts: Facts, context: Context) -> bytes:
        """The content key.

        Raises:
            KmsFailed: Denied, timed out, another context or key, or an answer that is no key.
            InvalidArgument: Not sealed by a key-management service.
        """
        key = self._ask("unwrap", self._kms.unwrap, _of_kind(facts, KmsFacts).wrapped, context)
        if len(key) != KEY_BYTES:
            raise KmsFailed(
                f"unwrap=<{len(key)} bytes> must be {KEY_BYTES} bytes; check which service answers"
            )
        return key

    @staticmethod
    def _ask(name: str, method: Callable[[bytes, Context], bytes], text: bytes, context: Context) -> bytes:
        try:
            answer = method(text, context)
        except Exception as error:  # an adapter may raise whatever its client library raises
            raise KmsFailed(
                f"{name} with context={dict(context)!r} must succeed, but {type(error).__name__}; check access, key and network"
            ) from error
        if not isinstance(answer, bytes) or not answer or (name == "wrap" and text in answer):
            raise KmsFailed(
                f"{name}=<{type(answer).__name__}> must be sealed bytes; check which service answers"
            )
        return answer


class BareSeal:
    """Not sealed: the file's mode alone guards the secrets. To construct it is to say so."""

    kind: ClassVar[str] = "bare"

    def __repr__(self) -> str:
        return "BareSeal()"

    def seal(self, content_key: bytes, context: Context) -> BareFacts:
        """Write the content key beside what it encrypts."""
        del context
        return BareFacts(content_key)

    def unseal(self, facts: Facts, context: Context) -> bytes:
        """The content key. Raises `InvalidArgument` when the file is sealed."""
        del context
        return _of_kind(facts, BareFacts).content_key
