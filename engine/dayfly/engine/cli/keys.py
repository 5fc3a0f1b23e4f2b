"""`dayfly keys`: the key file of a tenant. No command shows a key."""

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .exits import fail, guarded
from .instants import instant_text
from .opening import Ask, PassphraseFile, now_ms, open_keys, passphrase
from .output import print_json, screen

if TYPE_CHECKING:
    from dayfly.privacy.keys import FileKeyProvider, KeyStatus, Seal

__all__ = ["keys_app"]

keys_app = typer.Typer(help="The tenant's long-lived keys, in one sealed file.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(metavar="FILE", help="The key file.")]
Json = Annotated[bool, typer.Option("--json", help="Print the outcome as one JSON object.")]
Keyring = Annotated[
    str | None, typer.Option(metavar="USER", help="Seal under this entry of the operating system's keyring.")
]
Bare = Annotated[
    bool, typer.Option("--bare", help="Do not seal: the file's mode 0600 alone guards the keys.")
]
NewPassphraseFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="File whose first line is the new passphrase.")
]


class Rotated(StrEnum):
    """What can be rotated."""

    SIGNING = "signing"
    PSEUDONYM = "pseudonym"
    KEK = "kek"
    PAIRWISE = "pairwise"
    AUDIT = "audit"


class Retired(StrEnum):
    """Of what an old version can be destroyed."""

    SIGNING = "signing"
    PSEUDONYM = "pseudonym"
    KEK = "kek"
    PAIRWISE = "pairwise"
    AUDIT = "audit"


@keys_app.command("init")
@guarded
def init(
    *,
    file: File,
    tenant: Annotated[str, typer.Option(metavar="NAME", help="Name of the tenant; can never change.")],
    origin: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name under which the tombstone log is signed.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    ask: Ask = False,
    keyring: Keyring = None,
    bare: Bare = False,
    as_json: Json = False,
) -> None:
    """Draw all keys of a tenant and keep them in a new file (mode 0600, in a folder of mode 0700).

    Example: dayfly keys init secrets/shop.keys --tenant shop --passphrase-file passphrase
    """
    from dayfly.privacy.keys import FileKeyProvider  # noqa: PLC0415 - only commands load libraries

    seal = _new_seal(passphrase_file, ask=ask, keyring=keyring, bare=bare)
    at_ms = now_ms()
    keys = FileKeyProvider.create(
        file, tenant, seal=seal, random_bytes=os.urandom, now_ms=at_ms, origin=origin
    )
    _show(keys.status(at_ms), as_json=as_json)


@keys_app.command("status")
@guarded
def status(
    *, file: File, passphrase_file: PassphraseFile = None, ask: Ask = False, as_json: Json = False
) -> None:
    """Names, versions and times of all keys.

    Example: dayfly keys status secrets/shop.keys --passphrase-file passphrase
    """
    _show(open_keys(file, passphrase_file, ask).status(now_ms()), as_json=as_json)


@keys_app.command("rotate")
@guarded
def rotate(
    *,
    file: File,
    what: Annotated[
        Rotated, typer.Argument(metavar="KEY", help="signing, pseudonym, kek, pairwise or audit.")
    ],
    passphrase_file: PassphraseFile = None,
    ask: Ask = False,
    as_json: Json = False,
) -> None:
    """Make the next version of a key. A service that runs uses it from its next start; old data stays readable.

    signing: published at once and used ten minutes later. kek: the store's data keys are wrapped again at its next start.

    Example: dayfly keys rotate secrets/shop.keys signing --passphrase-file passphrase
    """
    keys, at_ms = open_keys(file, passphrase_file, ask), now_ms()
    if what is Rotated.SIGNING:
        keys.rotate_signing(at_ms)
    elif what is Rotated.PSEUDONYM:
        keys.rotate_pseudonyms(at_ms)
    elif what is Rotated.KEK:
        keys.rotate_kek(at_ms)
    else:
        keys.rotate_key(what.value, at_ms)
    _show(keys.status(at_ms), as_json=as_json)


@keys_app.command("retire")
@guarded
def retire(
    *,
    file: File,
    what: Annotated[
        Retired, typer.Argument(metavar="KEY", help="signing, pseudonym, kek, pairwise or audit.")
    ],
    version: Annotated[
        int | None, typer.Option(min=1, help="Which version; signing keys end by themselves and need none.")
    ] = None,
    store: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="kek only: every store of the tenant, stopped.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    ask: Ask = False,
    as_json: Json = False,
) -> None:
    """Destroy an old version for good: what only it can read or link is gone. The current version is refused.

    Example: dayfly keys retire secrets/shop.keys kek --version 1 --store store --passphrase-file passphrase
    """
    keys, at_ms = open_keys(file, passphrase_file, ask), now_ms()
    if what is Retired.SIGNING:
        keys.drop_ended_signing(at_ms)
    elif version is None:
        fail(f"version=<none> must be given to retire {what.value}; `dayfly keys status` lists the versions")
    elif what is Retired.PSEUDONYM:
        keys.retire_pseudonym_version(version)
    elif what is Retired.KEK:
        if not store:
            fail(
                "store=<none> must name every store of the tenant, so that no data key is lost; pass --store DIR"
            )
        keys.retire_kek(version, in_use={one for folder in store for one in _keks_in_use(folder, keys)})
    else:
        keys.retire_key_version(what.value, version)
    _show(keys.status(at_ms), as_json=as_json)


@keys_app.command("reseal")
@guarded
def reseal(
    *,
    file: File,
    passphrase_file: PassphraseFile = None,
    ask: Ask = False,
    new_passphrase_file: NewPassphraseFile = None,
    new_ask: Annotated[bool, typer.Option("--new-ask", help="Ask for the new passphrase, twice.")] = False,
    keyring: Keyring = None,
    bare: Bare = False,
    as_json: Json = False,
) -> None:
    """Seal the file in another way, or under another passphrase. Copies made before still open as before.

    Example: dayfly keys reseal secrets/shop.keys --passphrase-file old --new-passphrase-file new
    """
    keys = open_keys(file, passphrase_file, ask)
    keys.change_seal(_new_seal(new_passphrase_file, ask=new_ask, keyring=keyring, bare=bare))
    _show(keys.status(now_ms()), as_json=as_json)


@keys_app.command("public")
@guarded
def public(
    *,
    file: File,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for jwks.json and log-key.pem.")],
    passphrase_file: PassphraseFile = None,
    ask: Ask = False,
    as_json: Json = False,
) -> None:
    """Write the public halves: the key set that verifies fragments, and the key of the tombstone log.

    Example: dayfly keys public secrets/shop.keys --out public --passphrase-file passphrase
    """
    import json  # noqa: PLC0415 - only commands load libraries

    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415 - as above

    keys, at_ms = open_keys(file, passphrase_file, ask), now_ms()
    notes = keys.notes()
    out.mkdir(parents=True, exist_ok=True)
    jwks, log_key = out / "jwks.json", out / "log-key.pem"
    jwks.write_text(json.dumps(keys.signing(at_ms).jwks(at_ms), indent=1) + "\n", encoding="utf-8")
    log_key.write_bytes(notes.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    told = {"jwks": str(jwks), "log_key": str(log_key), "origin": notes.verifier.name}
    if as_json:
        print_json(told)
        return
    for name, value in told.items():
        screen().print(f"{name:>8}  {value}", markup=False, soft_wrap=True)


def _new_seal(file: Path | None, *, ask: bool, keyring: str | None, bare: bool) -> "Seal":
    from dayfly.privacy.keys import BareSeal, KeyringSeal, PassphraseSeal  # noqa: PLC0415 - see `init`

    if (file is not None) + ask + (keyring is not None) + bare != 1:
        fail("seal must be exactly one of a passphrase file, --ask, --keyring USER and --bare; choose one")
    if bare:
        return BareSeal()
    if keyring is not None:
        return KeyringSeal(keyring, random_bytes=os.urandom)
    return PassphraseSeal(lambda: passphrase(file, ask, twice=True), random_bytes=os.urandom)


def _keks_in_use(folder: Path, keys: "FileKeyProvider") -> tuple[int, ...]:
    """Versions that wrap data keys of a store; opening it wraps those under older versions again."""
    from dayfly.engine.store import StoreLock, StoreMarker  # noqa: PLC0415 - see `init`
    from dayfly.privacy.keys import SlotKeys  # noqa: PLC0415 - see `init`

    StoreMarker.read(folder, tenant=keys.tenant_id)
    with (
        StoreLock.acquire(folder, started_ms=now_ms()),
        SlotKeys.open(
            folder / "keys.slots",
            keys.keks(),
            tenant=keys.tenant_id,
            random_bytes=os.urandom,
            now_ms=now_ms,
        ) as slots,
    ):
        return slots.keks_in_use()


def _show(found: "KeyStatus", *, as_json: bool) -> None:
    if as_json:
        print_json(_document(found))
        return
    console = screen()
    console.print(
        f"tenant {found.tenant} ({found.tenant_id}), sealed by {found.seal}, tombstone log {found.origin}",
        markup=False,
        soft_wrap=True,
    )
    for key in found.signing:
        console.print(
            f"signing      {key.kid}  {key.state}, from {instant_text(key.use_from_ms)}",
            markup=False,
            soft_wrap=True,
        )
    for name, versions in found.versions.items():
        made = ", ".join(f"{one.version} ({instant_text(one.made_ms)})" for one in versions)
        console.print(f"{name:<12} {made}", markup=False, soft_wrap=True)


def _document(found: "KeyStatus") -> dict[str, Any]:
    from dataclasses import asdict  # noqa: PLC0415 - see `init`

    return {
        **{name: getattr(found, name) for name in ("tenant", "tenant_id", "origin", "seal")},
        "signing": [{**asdict(key), "state": key.state.value} for key in found.signing],
        "versions": {name: [one._asdict() for one in versions] for name, versions in found.versions.items()},
    }
