"""Signed checkpoints: C2SP tlog-checkpoint text in a C2SP signed note."""

import base64
import binascii
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dayfly.privacy.errors import InvalidArgument, InvalidReceipt

__all__ = [
    "Checkpoint",
    "NoteKey",
    "NoteSigner",
    "NoteVerifier",
    "note_signer",
    "note_verifier",
    "open_note",
    "sign_note",
]

_ECDSA = ec.ECDSA(SHA256())
_MAX_NOTE_BYTES = 65_536
_MAX_SIGNATURES = 16
_DASH = "\N{EM DASH} "
_ED25519 = b"\x01"
_ML_DSA_44 = b"\xffdayfly.note/ml-dsa-44"  # 0xff: types without an assigned byte carry a longer name

NoteKey = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | mldsa.MLDSA44PublicKey
NotePrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | mldsa.MLDSA44PrivateKey


class NoteSigner(Protocol):
    """Signs note texts under a name."""

    @property
    def name(self) -> str:
        """Key name, for example `cdp.example/fragments`."""
        ...

    @property
    def key_id(self) -> bytes:
        """Four bytes."""
        ...

    def sign(self, text: bytes, /) -> bytes:
        """Signature over the text."""
        ...


@dataclass(frozen=True, slots=True)
class _Signer:
    name: str
    key_id: bytes
    sign: Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class NoteVerifier:
    """A trusted note key."""

    name: str
    key_id: bytes
    verify: Callable[[bytes, bytes], None]
    """Takes signature and text; raises `InvalidSignature`."""


def _key_id(name: str, key: NoteKey) -> bytes:
    """C2SP signed-note, section Signatures; P-256 is identified by its SubjectPublicKeyInfo alone."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()[:4]
    kind = _ED25519 if isinstance(key, ed25519.Ed25519PublicKey) else _ML_DSA_44
    return hashlib.sha256(name.encode() + b"\n" + kind + key.public_bytes_raw()).digest()[:4]


def _checked_name(name: str) -> str:
    if not name or "+" in name or any(letter.isspace() for letter in name):
        raise InvalidArgument(
            f"name={name!r} must be non-empty without spaces and plus signs; use a host and a path"
        )
    return name


def note_signer(name: str, key: NotePrivateKey) -> NoteSigner:
    """A signer for an Ed25519, P-256 or ML-DSA-44 key.

    Raises:
        InvalidArgument: A name that a note cannot carry.
    """
    key_id = _key_id(_checked_name(name), key.public_key())
    if isinstance(key, ec.EllipticCurvePrivateKey):
        curve_key = key
        return _Signer(name, key_id, lambda text: curve_key.sign(text, _ECDSA))
    return _Signer(name, key_id, key.sign)


def note_verifier(name: str, key: NoteKey) -> NoteVerifier:
    """A verifier for an Ed25519, P-256 or ML-DSA-44 key.

    Raises:
        InvalidArgument: A name that a note cannot carry.
    """
    key_id = _key_id(_checked_name(name), key)
    if isinstance(key, ec.EllipticCurvePublicKey):
        curve_key = key
        return NoteVerifier(name, key_id, lambda signature, text: curve_key.verify(signature, text, _ECDSA))
    return NoteVerifier(name, key_id, key.verify)


def sign_note(text: str, signer: NoteSigner) -> str:
    """A signed note over `text`, which ends in a newline."""
    signature = base64.b64encode(signer.key_id + signer.sign(text.encode())).decode("ascii")
    return f"{text}\n{_DASH}{signer.name} {signature}\n"


def open_note(note: str, verifier: NoteVerifier) -> str:
    """The text of a note, once the trusted key's signature held.

    Raises:
        InvalidReceipt: Malformed, not signed by that key, or altered.
    """
    text, separator, lines = note.rpartition("\n\n")
    signatures = lines.split("\n")
    if not separator or len(note) > _MAX_NOTE_BYTES or signatures.pop() or len(signatures) > _MAX_SIGNATURES:
        raise InvalidReceipt("checkpoint must be a signed note; ask for the receipt again")
    text += "\n"
    for line in signatures:
        name, _, encoded = line.removeprefix(_DASH).partition(" ")
        try:
            raw = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            raw = b""
        if line.startswith(_DASH) and name == verifier.name and raw[:4] == verifier.key_id:
            try:
                verifier.verify(raw[4:], text.encode())
            except InvalidSignature:
                break
            return text
    raise InvalidReceipt(f"checkpoint must carry a valid signature of {verifier.name!r}; do not trust it")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the log commits to at one instant. Conservation: `minted == live + size`.

    Attributes:
        origin: Name of the log.
        size: Number of tombstones.
        root: Merkle root over them.
        minted: Fragments minted since the log began.
        live: Fragments alive.
        at_ms: When.
    """

    origin: str
    size: int
    root: bytes
    minted: int
    live: int
    at_ms: int

    def text(self) -> str:
        """C2SP tlog-checkpoint: origin, size, root, and one extension line with the balance."""
        root = base64.b64encode(self.root).decode("ascii")
        return f"{self.origin}\n{self.size}\n{root}\nminted {self.minted} live {self.live} at {self.at_ms}\n"

    @classmethod
    def from_text(cls, text: str) -> "Checkpoint":
        """Read the text of an opened note.

        Raises:
            InvalidReceipt: Not the canonical text, or the balance does not hold.
        """
        try:
            origin, size, root, balance, _ = text.split("\n")
            minted_word, minted, live_word, live, at_word, at_ms = balance.split(" ")
            found = cls(
                origin, int(size), base64.b64decode(root, validate=True), int(minted), int(live), int(at_ms)
            )
        except ValueError:
            raise InvalidReceipt(
                "checkpoint must have a log's four lines; ask for the receipt again"
            ) from None
        if (minted_word, live_word, at_word) != ("minted", "live", "at") or found.text() != text:
            raise InvalidReceipt("checkpoint must be spelled canonically; ask for the receipt again")
        if found.minted != found.live + found.size:
            raise InvalidReceipt(
                f"minted={found.minted} must equal live + tombstones = {found.live + found.size}; the log lost a fragment"
            )
        return found
