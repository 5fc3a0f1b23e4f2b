"""`dayfly erase` and `dayfly certificate verify`: forget a person in a stopped store, and check the proof."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .exits import ExitCode, fail, guarded
from .instants import instant_text
from .opening import Ask, KeyFile, PassphraseFile, Recipients, StoreFolder, open_keys, opened_engine
from .output import print_json, screen
from .proofs import note_key

if TYPE_CHECKING:
    from dayfly.engine.durable import ErasureCertificate

__all__ = ["certificate_app", "erase"]

certificate_app = typer.Typer(
    help="Erasure certificates: proofs that a person was erased.", no_args_is_help=True
)


@guarded
def erase(
    *,
    folder: StoreFolder,
    user: Annotated[str, typer.Option(metavar="ID", help="The person's identifier, as events carry it.")],
    keys: KeyFile,
    certificate: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="Where the certificates go, one JSON object a line; must not exist."
        ),
    ],
    kind: Annotated[
        str, typer.Option(metavar="KIND", help="What the identifier is: user, anonymous, device, ...")
    ] = "user",
    recipients: Recipients = None,
    passphrase_file: PassphraseFile = None,
    ask: Ask = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as one JSON object.")] = False,
) -> None:
    """Forget a person in a stopped store, everywhere. Every backup made before cannot be read any more.

    A person has one name per living pseudonym key; there is a certificate for each. A running service calls `Engine.erase`.

    Example: dayfly erase store --user u-17 --keys secrets/shop.keys --certificate erased.jsonl --passphrase-file passphrase
    """
    import msgspec  # noqa: PLC0415 - only commands load libraries

    if certificate.exists():
        fail(f"certificate={str(certificate)!r} must not exist; choose another file")
    provider = open_keys(keys, passphrase_file, ask)
    names = provider.pseudonyms()
    found: list[ErasureCertificate] = []
    with opened_engine(folder, provider, recipients) as engine, certificate.open("xb") as file:
        for name in (names.current(kind, user), *names.previous(kind, user)):
            found.append(engine.erase(name.value))
            file.write(msgspec.json.encode(found[-1]) + b"\n")
            file.flush()
    if as_json:
        print_json({"certificates": [msgspec.to_builtins(one) for one in found]})
        return
    for one in found:
        _print(one)


@certificate_app.command("verify")
@guarded
def verify(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Certificates, one JSON object a line.")],
    log_key: Annotated[Path, typer.Option(metavar="PEM", help="Public key of the tombstone log.")],
    origin: Annotated[str, typer.Option(metavar="NAME", help="Name of the tombstone log.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as one JSON object.")] = False,
) -> None:
    """Verify erasure certificates offline. Exit status 1 if one does not hold.

    Example: dayfly certificate verify erased.jsonl --log-key public/log-key.pem --origin dayfly.example/shop
    """
    import msgspec  # noqa: PLC0415 - see `erase`

    from dayfly.engine.durable import ErasureCertificate, verify_certificate  # noqa: PLC0415 - see `erase`
    from dayfly.privacy.errors import InvalidReceipt  # noqa: PLC0415 - see `erase`

    decoder = msgspec.json.Decoder(ErasureCertificate)
    try:
        found = [decoder.decode(line) for line in file.read_bytes().splitlines() if line.strip()]
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        fail(
            f"file={str(file)!r} must hold erasure certificates, one JSON object a line: {error}; check the file"
        )
    if not found:
        fail(f"file={str(file)!r} must hold at least one certificate; check the file")
    verifier = note_key(log_key, origin)
    for one in found:
        try:
            verify_certificate(one, verifier)
        except InvalidReceipt as error:
            fail(f"certificate of {one.who} does not hold: {error}", ExitCode.NO)
    if as_json:
        print_json({"holds": True, "certificates": [msgspec.to_builtins(one) for one in found]})
        return
    for one in found:
        _print(one)


def _print(certificate: "ErasureCertificate") -> None:
    keys = ", ".join(f"{len(ids)} {purpose}" for purpose, ids in certificate.destroyed_keys.items())
    screen().print(
        f"person {certificate.who}: erased at {instant_text(certificate.erased_ms)}, complete at "
        f"{instant_text(certificate.completed_ms)}; fragments destroyed: {len(certificate.fragments)}; "
        f"data keys destroyed: {keys}",
        markup=False,
        soft_wrap=True,
    )
