"""`dayfly store`, `dayfly backup` and `dayfly restore`: the folder of a durable engine that is stopped."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from .exits import ExitCode, guarded
from .instants import instant_text
from .opening import Ask, KeyFile, PassphraseFile, Recipients, StoreFolder, now_ms, open_keys, opened_engine
from .output import print_json, screen

__all__ = ["backup", "restore", "store_app"]

store_app = typer.Typer(help="The folder of a durable engine.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print the outcome as one JSON object.")]


@store_app.command("init")
@guarded
def init(
    *,
    folder: StoreFolder,
    keys: KeyFile,
    policy: Annotated[Path, typer.Option(metavar="DIR", help="Folder of policy files.")],
    version: Annotated[int, typer.Option(min=1, help="Version number of the policy.")] = 1,
    passphrase_file: PassphraseFile = None,
    ask: Ask = False,
    as_json: Json = False,
) -> None:
    """Make a store with its first policy.

    Example: dayfly store init store --keys secrets/shop.keys --policy policy --passphrase-file passphrase
    """
    from dayfly.engine.errors import StoreForeign  # noqa: PLC0415 - only commands load the engine
    from dayfly.engine.policy.load import load_policy  # noqa: PLC0415 - as above

    if folder.is_dir() and any(folder.iterdir()):
        raise StoreForeign(
            f"folder={str(folder)!r} must be absent or empty to become a store; choose another"
        )
    provider = open_keys(keys, passphrase_file, ask)
    with opened_engine(folder, provider, None, policy=load_policy(folder=policy, version=version)):
        pass
    _tell({"folder": str(folder), "tenant": provider.tenant}, as_json=as_json)


@store_app.command("status")
@guarded
def status(*, folder: StoreFolder, as_json: Json = False) -> None:
    """What is there, who writes to it, and how large it is; needs no key, and may be asked of a store in use.

    Example: dayfly store status store
    """
    from dayfly.engine.store import StoreMarker  # noqa: PLC0415 - see `init`

    marker = StoreMarker.read(folder)
    snapshots = sorted(int(path.stem) for path in (folder / "snapshots").glob("*.snap"))
    note = folder / "tombstones" / "checkpoint"
    _tell(
        {
            "tenant_id": marker.tenant,
            "created": instant_text(marker.created_ms),
            "writer": _writer(folder),
            "snapshots": snapshots,
            "segments": len(list((folder / "log").glob("*.seg"))),
            "bytes": {
                part: _size(folder / part)
                for part in (
                    "log",
                    "snapshots",
                    "lineage.db",
                    "lineage.secrets",
                    "tombstones",
                    "audit.jsonl",
                    "dead",
                )
            },
            "checkpoint": note.read_text(encoding="utf-8") if note.is_file() else None,
        },
        as_json=as_json,
    )


def _writer(folder: Path) -> int | None:
    """Process id of who writes, if anybody does."""
    import fcntl  # noqa: PLC0415 - see `init`

    try:
        with (folder / "LOCK").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        words = (folder / "LOCK").read_bytes().split()
        return int(words[0]) if words and words[0].isdigit() else 0
    except FileNotFoundError:
        pass
    return None


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())


@store_app.command("check")
@guarded
def check(
    *,
    folder: StoreFolder,
    keys: KeyFile,
    passphrase_file: PassphraseFile = None,
    ask: Ask = False,
    as_json: Json = False,
) -> None:
    """Read every file of a stopped store to its end. Exit status 1 if anything is not as it was written.

    Example: dayfly store check store --keys secrets/shop.keys --passphrase-file passphrase
    """
    from dayfly.engine.durable.checking import check_store  # noqa: PLC0415 - see `init`

    found = check_store(folder, open_keys(keys, passphrase_file, ask), now_ms=now_ms)
    holds = all(one.holds for one in found)
    if as_json:
        print_json({"holds": holds, "parts": [asdict(one) for one in found]})
    else:
        for one in found:
            screen().print(
                f"{one.part:>10}  {'holds' if one.holds else 'DOES NOT HOLD'}: {one.told}",
                markup=False,
                soft_wrap=True,
            )
    if not holds:
        raise typer.Exit(ExitCode.NO)


@guarded
def backup(
    *,
    folder: StoreFolder,
    to: Annotated[Path, typer.Option(metavar="FILE", help="The backup; must not exist.")],
    keys: KeyFile,
    recipients: Recipients = None,
    passphrase_file: PassphraseFile = None,
    ask: Ask = False,
    as_json: Json = False,
) -> None:
    """Write a stopped store into one sealed file, and read it back. A running service calls `Engine.backup`.

    Example: dayfly backup store --to store.backup --keys secrets/shop.keys --passphrase-file passphrase
    """
    with opened_engine(folder, open_keys(keys, passphrase_file, ask), recipients) as engine:
        info = engine.backup(to)
    _tell({**asdict(info), "path": str(info.path)}, as_json=as_json)


@guarded
def restore(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")],
    to: Annotated[Path, typer.Option(metavar="DIR", help="The new store: absent or empty.")],
    slots: Annotated[
        Path, typer.Option(metavar="FILE", help="keys.slots of the old store; it moves into the new one.")
    ],
    keys: KeyFile,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The newest published checkpoint; a backup older than it is refused."
        ),
    ] = None,
    passphrase_file: PassphraseFile = None,
    ask: Ask = False,
    as_json: Json = False,
) -> None:
    """Make a store from a backup. The old folder cannot be opened afterwards: its keys live on in the new one.

    Example: dayfly restore store.backup --to store --slots store.old/keys.slots --keys secrets/shop.keys --passphrase-file passphrase
    """
    from dayfly.engine.durable import restore as made_again  # noqa: PLC0415 - see `init`

    done = made_again(
        file,
        to,
        open_keys(keys, passphrase_file, ask),
        slots=slots,
        random_bytes=os.urandom,
        now_ms=now_ms,
        checkpoint=None if checkpoint is None else checkpoint.read_text(encoding="utf-8"),
    )
    _tell({**asdict(done), "folder": str(done.folder)}, as_json=as_json)


def _tell(document: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(document)
        return
    for name, value in document.items():
        screen().print(f"{name:>10}  {value}", markup=False, soft_wrap=True)
