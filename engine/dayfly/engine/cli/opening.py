"""What commands over a store share: the key file and how it is unsealed, and the engine over a stopped store."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .exits import fail

if TYPE_CHECKING:
    from dayfly.engine.durable import Engine
    from dayfly.engine.policy.model import Policy
    from dayfly.privacy.keys import FileKeyProvider, Seal

__all__ = [
    "Ask",
    "KeyFile",
    "PassphraseFile",
    "Recipients",
    "StoreFolder",
    "now_ms",
    "open_keys",
    "opened_engine",
    "recipients_of",
    "seal_for",
]

KeyFile = Annotated[Path, typer.Option("--keys", metavar="FILE", help="The tenant's key file.")]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="File whose first line is the passphrase of the key file (- for standard input)."
    ),
]
Ask = Annotated[
    bool, typer.Option("--ask", help="Ask for the passphrase; nothing is shown while it is typed.")
]
StoreFolder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the store.")]
Recipients = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="JSON object, audience to RFC 7638 thumbprint, as the service has it. Without it, orders that a crash left "
        "undone are refused.",
    ),
]


def now_ms() -> int:
    """The machine's clock."""
    return time.time_ns() // 1_000_000


def passphrase(file: Path | None, ask: bool, *, twice: bool = False) -> str:
    """The passphrase from a file or the keyboard."""
    if file is not None and ask:
        fail("passphrase_file and ask must not be given together; choose one")
    if ask:
        return str(typer.prompt("Passphrase", hide_input=True, confirmation_prompt=twice, err=True))
    if file is None:
        fail("passphrase=<none> must be given for this key file; pass --passphrase-file FILE or --ask")
    text = typer.get_text_stream("stdin").readline() if str(file) == "-" else file.read_text(encoding="utf-8")
    return text.split("\n", maxsplit=1)[0].removesuffix("\r")


def seal_for(path: Path, passphrase_file: Path | None, ask: bool) -> "Seal":
    """The seal that a key file states, with what opens it."""
    from dayfly.privacy.keys import BareSeal, KeyringSeal, PassphraseSeal  # noqa: PLC0415 - only commands load libraries
    from dayfly.privacy.keys.provider.keyfile import read_head  # noqa: PLC0415 - as above
    from dayfly.privacy.keys.provider.seals import BareFacts, KeyringFacts, PassphraseFacts  # noqa: PLC0415 - as above

    facts = read_head(path.read_bytes(), str(path)).seal
    if isinstance(facts, PassphraseFacts):
        return PassphraseSeal(lambda: passphrase(passphrase_file, ask), random_bytes=os.urandom)
    if isinstance(facts, KeyringFacts):
        return KeyringSeal(facts.user, service=facts.service, random_bytes=os.urandom)
    if not isinstance(facts, BareFacts):
        fail(
            f"keys={str(path)!r} must be sealed by a passphrase or a keyring to be used here; "
            "a key-management service is reached from the service's own code (EnvelopeKeyProvider)"
        )
    return BareSeal()


def open_keys(path: Path, passphrase_file: Path | None, ask: bool) -> "FileKeyProvider":
    """The key provider of a file."""
    from dayfly.privacy.keys import FileKeyProvider  # noqa: PLC0415 - only commands load libraries

    return FileKeyProvider.open(path, seal=seal_for(path, passphrase_file, ask), random_bytes=os.urandom)


def recipients_of(file: Path | None) -> Mapping[str, str]:
    """Audience to thumbprint."""
    if file is None:
        return {}
    try:
        found = json.loads(file.read_bytes())
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        fail(f"recipients={str(file)!r} must be a JSON object, audience to thumbprint; check the file")
    return found


@contextmanager
def opened_engine(
    folder: Path, keys: "FileKeyProvider", recipients: Path | None, *, policy: "Policy | None" = None
) -> "Iterator[Engine]":
    """The engine over a store that nobody else has open; recovered as at any start, and closed at the end."""
    from dayfly.engine.durable import Engine  # noqa: PLC0415 - only commands load the engine
    from dayfly.engine.store import StoreMarker  # noqa: PLC0415 - as above

    if policy is None:
        StoreMarker.read(folder, tenant=keys.tenant_id)
    with Engine.open(folder, keys, policy=policy, recipients=recipients_of(recipients)) as engine:
        yield engine
