"""Vectors that channels send each other through the coordinator, which cannot read them.

Claim: a vector that opens was made by the registered node of its sender, for this run, these channels, all tasks so far and this label; the
coordinator learns its size alone.
Precondition: node keys are the registered ones; the root is 32 uniform bytes, used for one run.
Argument: the content is encrypted once (AES-256-GCM) under a key that belongs to one label, which is encrypted for each other channel under a key of
the pair (X25519, HKDF). The transcript, a digest of the agreement, the channels' keys and every public task, is associated data of both and is signed
with the content's digest: channels that were told different things cannot open each other's vectors.
Source: RFC 7748, RFC 5869, NIST SP 800-38D; each key encrypts one message, so the nonce may be zero.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from dayfly.federation.alignment import Manifest
from dayfly.federation.errors import BadMessage, WrongIdentity, WrongManifest
from dayfly.federation.identity import Identities, SigningIdentity
from dayfly.federation.secagg.messages import encode
from dayfly.federation.secagg.seeds import Seeds, derive, mask

__all__ = ["Hello", "Letter", "Roster", "Sealer", "hello_body", "insist_on_manifest"]

_NONCE: Final = bytes(12)
_HELLO: Final = b"vertical hello"
_LETTER: Final = b"vertical letter"


class Hello(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A channel's agreement key and its manifest, signed by its node for one run and agreement."""

    party: str
    public_key: bytes
    manifest: Manifest
    signature: bytes

    def verify(self, identities: Identities, *, run: bytes, agreement: bytes, alignment: bytes) -> None:
        """Insist on the signatures.

        Raises:
            WrongIdentity: the party's registered node did not sign it for this run and agreement.
            WrongManifest: its manifest is another channel's, or of another alignment.
        """
        body = hello_body(run, agreement, self.public_key, self.manifest)
        identities.verify(self.party, _HELLO, body, self.signature)
        insist_on_manifest(self.manifest, self.party, identities, alignment=alignment)


class Roster(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Every channel's hello, in the agreement's order."""

    hellos: tuple[Hello, ...]


class Letter(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A sealed vector.

    Attributes:
        sender: Whose it is.
        keys: The content's key, encrypted for each other channel in the agreement's order.
        content: Encrypted ring words.
        signature: Of the sender's node.
    """

    sender: str
    keys: tuple[bytes, ...]
    content: bytes
    signature: bytes


def insist_on_manifest(manifest: Manifest, party: str, identities: Identities, *, alignment: bytes) -> None:
    """Insist on a channel's own manifest of the agreed alignment.

    Raises:
        WrongIdentity: the channel's registered node did not sign it.
        WrongManifest: it is another channel's, or of another alignment.
    """
    if manifest.party != party:
        raise WrongManifest(party, f"must have its own manifest, not that of {manifest.party!r}; align again")
    manifest.verify(identities, run=alignment)


def hello_body(run: bytes, agreement: bytes, public_key: bytes, manifest: Manifest) -> bytes:
    """What a node signs."""
    return encode((run, agreement, public_key, manifest.digest(), manifest.signature))


class Sealer:
    """A channel's secrets of a run.

    Args:
        identity: Its node's.
        identities: All registered parties.
        run: Of the wire.
        agreement: 32 bytes that name what was agreed on.
        root: 32 random bytes, used for this run alone.
    """

    def __init__(
        self, identity: SigningIdentity, identities: Identities, *, run: bytes, agreement: bytes, root: bytes
    ) -> None:
        self._identity: Final = identity
        self._identities: Final = identities
        self._run: Final = run
        self._agreement: Final = agreement
        self._root: Final = root
        self._seeds: Final = Seeds(derive(root, "vertical agreement"))
        self._pairs: dict[str, bytes] = {}
        self._names: tuple[str, ...] = ()
        self._transcript = b""

    def hello(self, manifest: Manifest) -> Hello:
        """The agreement key, signed."""
        body = hello_body(self._run, self._agreement, self._seeds.public_key, manifest)
        return Hello(self._identity.name, self._seeds.public_key, manifest, self._identity.sign(_HELLO, body))

    def join(self, roster: Roster, names: tuple[str, ...], mine: Hello, *, alignment: bytes) -> None:
        """Check who takes part, and agree on keys.

        Args:
            roster: As the coordinator sent it.
            names: The agreed channels.
            mine: What this channel sent.
            alignment: Run of the agreed alignment.

        Raises:
            BadMessage: the roster does not list the agreed channels, or this one with another key.
            WrongIdentity: a key or manifest is not signed by the channel's registered node for this run and agreement.
            WrongManifest: a manifest is of another alignment.
        """
        if tuple(hello.party for hello in roster.hellos) != names:
            raise BadMessage("server", f"must list the agreed channels {list(names)}, in order")
        if mine not in roster.hellos:
            raise BadMessage("server", f"must list {mine.party!r} with the key that it sent; it was replaced")
        for hello in roster.hellos:
            hello.verify(self._identities, run=self._run, agreement=self._agreement, alignment=alignment)
        self._names = names
        self._transcript = hashlib.sha256(b"dayfly vertical v1" + self._agreement + encode(roster)).digest()
        self._pairs = {
            hello.party: derive(
                self._seeds.secret_with(hello.party, hello.public_key),
                "vertical pair",
                self._transcript,
                *(name.encode() for name in sorted((hello.party, mine.party))),
            )
            for hello in roster.hellos
            if hello.party != mine.party
        }

    def told(self, task: bytes) -> None:
        """Bind everything that follows to a public task."""
        self._transcript = hashlib.sha256(self._transcript + hashlib.sha256(task).digest()).digest()

    @property
    def others(self) -> tuple[str, ...]:
        """The other channels, in the agreement's order."""
        return tuple(self._pairs)

    def sealed(self, label: str, words: NDArray[np.uint64], *, readers: tuple[str, ...] = ()) -> Letter:
        """A vector for other channels; one per label.

        Args:
            label: What it is.
            words: The vector.
            readers: Who can open it; all, where none is named.
        """
        me = self._identity.name
        bound = self._bound(label, me)
        key = derive(self._root, "vertical content", label.encode(), bound)
        content = AESGCM(key).encrypt(_NONCE, np.ascontiguousarray(words, "<u8").tobytes(), bound)
        keys = tuple(
            AESGCM(self._wrap(name, me, label)).encrypt(_NONCE, key, bound)
            for name in self._readers(me, readers)
        )
        return Letter(me, keys, content, self._identity.sign(_LETTER, _signed(bound, keys, content)))

    def opened(
        self,
        label: str,
        letters: tuple[Letter, ...],
        sizes: Mapping[str, int],
        *,
        readers: tuple[str, ...] = (),
    ) -> dict[str, NDArray[np.uint64]]:
        """The other channels' vectors, by name.

        Args:
            label: What they are.
            letters: One of each channel in `sizes`, in order.
            sizes: Channel to its vector's words.
            readers: As the senders named them.

        Raises:
            BadMessage: a channel is missing, or its vector is none for this run, label and task, or too long or short.
            WrongIdentity: a vector is not signed by its sender's node.
        """
        if [letter.sender for letter in letters] != list(sizes):
            raise BadMessage("server", f"must relay one vector of each of {list(sizes)}, in order")
        return {
            letter.sender: self._opened(
                label, letter, sizes[letter.sender], self._readers(letter.sender, readers)
            )
            for letter in letters
        }

    def zero_share(self, label: str, words: int, *, without: str = "") -> NDArray[np.uint64]:
        """This channel's share of zero: the shares of all channels cancel; one per label.

        Unknown to the coordinator, so that of its summands it learns the sum alone.

        Args:
            label: Of what it hides.
            words: How many.
            without: A channel that has no share of it, and so learns the sum of the others' alone, too.
        """
        found = np.zeros(words, np.uint64)
        for name in self._readers(without, ()):
            if name == self._identity.name:
                continue
            pair = self._pairs[name]
            stream = mask(derive(pair, "vertical zero", label.encode(), self._transcript), words)
            if self._identity.name < name:
                found += stream
            else:
                found -= stream
        return found

    def _readers(self, sender: str, readers: tuple[str, ...]) -> list[str]:
        """Who opens a letter of `sender`."""
        return [name for name in self._names if name != sender and (not readers or name in readers)]

    def _opened(self, label: str, letter: Letter, size: int, addressees: list[str]) -> NDArray[np.uint64]:
        bound = self._bound(label, letter.sender)
        me = self._identity.name
        if len(letter.keys) != len(addressees):
            raise BadMessage(letter.sender, f"must seal {label!r} for each of {addressees}")
        try:
            self._identities.verify(
                letter.sender, _LETTER, _signed(bound, letter.keys, letter.content), letter.signature
            )
            wrapped = letter.keys[addressees.index(me)]
            key = AESGCM(self._wrap(letter.sender, letter.sender, label)).decrypt(_NONCE, wrapped, bound)
            data = AESGCM(key).decrypt(_NONCE, letter.content, bound)
        except WrongIdentity as error:
            raise WrongIdentity(
                letter.sender,
                f"must sign its {label!r} for this run and for what {me!r} was told; the coordinator told them different things,"
                " or relays another one",
            ) from error
        except (InvalidTag, ValueError):
            raise BadMessage(
                letter.sender, f"must send {label!r} that {me!r} can open; stop it and check its node"
            ) from None
        if len(data) != 8 * size:
            raise BadMessage(letter.sender, f"must send {label!r} of {size} words, not {len(data)} bytes")
        return np.frombuffer(data, "<u8")

    def _wrap(self, other: str, sender: str, label: str) -> bytes:
        return derive(self._pairs[other], "vertical wrap", sender.encode(), label.encode(), self._transcript)

    def _bound(self, label: str, sender: str) -> bytes:
        return encode((self._transcript, label, sender))


def _signed(bound: bytes, keys: tuple[bytes, ...], content: bytes) -> bytes:
    digest = hashlib.sha256(content).digest()
    return encode((bound, keys, digest))
