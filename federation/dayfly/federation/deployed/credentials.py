"""Keys and certificates of a deployment: an Ed25519 identity and an EC node key per channel, a CA and a server certificate."""

import datetime as dt
import ipaddress
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dayfly.federation.errors import DeploymentError
from dayfly.federation.identity import KEY_BYTES, Identities, SigningIdentity
from dayfly.privacy.errors import DayflyError
from dayfly.privacy.keys.provider.private_files import make_private, read_private

__all__ = ["Card", "Cards", "make_identity", "make_node_key", "make_tls", "read_identity"]

_DAY: Final = dt.timedelta(days=1)
_PEM: Final = serialization.Encoding.PEM


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What others must know of a party; not secret, but must come from the party itself.

    Attributes:
        name: Of the channel, or `server`.
        identity: Ed25519 public key in hexadecimal: signs everything that is said.
        node: OpenSSH line of the SuperNode's public key: registers it with the SuperLink; empty for the server.
    """

    name: str
    identity: str
    node: str = ""


class Cards:
    """The cards in a folder.

    Args:
        folder: With files `<name>.card.json`.

    Raises:
        DeploymentError: a file is no card, or bears another's name.
    """

    def __init__(self, folder: Path) -> None:
        cards = [self.read(path) for path in sorted(folder.glob("*.card.json"))]
        self.found: Final = {card.name: card for card in cards}

    @property
    def identities(self) -> Identities:
        """All of them, registered."""
        return Identities({name: bytes.fromhex(card.identity) for name, card in self.found.items()})

    @staticmethod
    def read(path: Path) -> Card:
        """A card.

        Raises:
            DeploymentError: it is none, or bears another's name.
        """
        name = path.name.removesuffix(".card.json")
        try:
            card = msgspec.json.decode(path.read_bytes(), type=Card)
            right = card.name == name and len(bytes.fromhex(card.identity)) == KEY_BYTES
        except (OSError, msgspec.MsgspecError, ValueError) as error:
            raise DeploymentError(
                f"card={path.name!r} must be one that `dayfly federate keys` made ({error}); ask for it again"
            ) from None
        if not right:
            raise DeploymentError(f"card={path.name!r} must be that of {name!r}; ask for it again")
        return card

    @staticmethod
    def write(folder: Path, card: Card) -> Path:
        """Put a card into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{card.name}.card.json"
        path.write_bytes(msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n")
        return path


def make_identity(path: Path, name: str, random_bytes: Callable[[int], bytes]) -> SigningIdentity:
    """A new identity, its private key in a private file.

    Raises:
        KeyStoreError: there is one already, or the folder lets others in.
    """
    key = random_bytes(KEY_BYTES)
    make_private(path, key)
    return SigningIdentity(name, key)


def read_identity(path: Path, name: str) -> tuple[SigningIdentity, bytes]:
    """An identity and its private key.

    Raises:
        DeploymentError: it is missing, or others can read it.
    """
    try:
        key = read_private(path)
        return SigningIdentity(name, key), key
    except DayflyError as error:
        raise DeploymentError(f"identity of {name!r} must be readable: {error}") from error


def make_node_key(path: Path) -> str:
    """A SuperNode's key pair, its private key in a private file; returns the OpenSSH line of the public key.

    Raises:
        KeyStoreError: there is one already, or the folder lets others in.
    """
    key = ec.generate_private_key(ec.SECP384R1())
    make_private(
        path,
        key.private_bytes(_PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()),
    )
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        .decode()
    )


def make_tls(
    keys: Path, certificates: Path, hosts: Iterable[str], *, name: str, now: dt.datetime, days: int
) -> None:
    """A certificate authority and a server certificate for `hosts`: `ca.crt`, `<name>.pem`; private: `ca.key`, `<name>.key`.

    Args:
        keys: Folder of the private keys, made with mode 0700.
        certificates: Folder of the certificates.
        hosts: Host names and IP addresses.
        name: Of the certificate's files.
        now: Valid from a day before.
        days: Valid so long.

    Raises:
        KeyStoreError: there are such keys already, or the folder lets others in.
    """
    certificates.mkdir(parents=True, exist_ok=True)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Dayfly federation")])
    base = (
        x509.CertificateBuilder()
        .issuer_name(subject)
        .not_valid_before(now - _DAY)
        .not_valid_after(now + days * _DAY)
    )
    authority = (
        base.subject_name(subject)
        .public_key(authority_key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    named = list(hosts)
    certificate = (
        base.subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, named[0])]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.SubjectAlternativeName([_host(one) for one in named]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
        )
        .sign(authority_key, hashes.SHA256())
    )
    for file, private in (("ca.key", authority_key), (f"{name}.key", key)):
        make_private(
            keys / file,
            private.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        )
    (certificates / "ca.crt").write_bytes(authority.public_bytes(_PEM))
    (certificates / f"{name}.pem").write_bytes(certificate.public_bytes(_PEM))


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
