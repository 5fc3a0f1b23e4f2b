"""Opening a ledger: recognise the file, check its end and the head file, in time that does not grow with history."""

from collections.abc import Callable
from pathlib import Path

from dayfly.privacy.errors import LedgerDamaged, LedgerRolledBack, LedgerVersion

from .anchor import Anchor
from .entries import FORMAT_VERSION, ZERO, Entry, Genesis, Head, Spent, decode, encode, release_of
from .file import LedgerFile

__all__ = ["entry_at", "must_hold", "new_genesis", "newest", "open_files"]


def new_genesis(at_ms: int, identity: bytes) -> Genesis:
    """The first entry of a new ledger."""
    return Genesis(seq=1, prev=ZERO, at_ms=at_ms, ledger=identity.hex(), version=FORMAT_VERSION)


def open_files(
    path: Path,
    *,
    create: Callable[[], Genesis] | None,
    expected: Head | None,
    renew_anchor: bool,
    busy_seconds: float,
) -> tuple[LedgerFile, Anchor, Head]:
    """Open the ledger at `path` and its head file.

    Args:
        path: Of the ledger.
        create: Gives the first entry of a new one; None to open only.
        expected: A head that it must hold.
        renew_anchor: Do without what the head file says.
        busy_seconds: How long to wait for other writers.

    Raises:
        LedgerError: it is missing, foreign, newer, damaged, rolled back or not writable.
    """
    head_path = path.with_name(path.name + ".head")
    if not head_path.exists() and (create is None or path.exists()):
        _peek(path, busy_seconds)  # a foreign file gets no head file beside it
    if create is None and not path.exists():
        LedgerFile(path, busy_seconds=busy_seconds)  # raises LedgerMissing, and no head file was made
    anchor = Anchor(head_path)
    file = None
    try:
        with anchor.alone():
            known = None if renew_anchor else anchor.read()
            if create is not None and known is None:
                LedgerFile.make(path)
            file = _present(path, busy_seconds)
            if file.empty():
                _begin(file, path.name, create, known)
            file.recognise()
            with file.reading():
                ledger, head = _admit(file, path.name, known, expected, renew_anchor=renew_anchor)
            anchor.belong(ledger)
            if renew_anchor:
                anchor.forget()
            anchor.note(head)
            anchor.settle()
    except BaseException:
        if file is not None:
            file.close()
        anchor.close()
        raise
    return file, anchor, head


def newest(file: LedgerFile) -> tuple[Entry, Head]:
    """The last entry, checked against its digest."""
    found = file.rows("SELECT seq, body, digest FROM entries ORDER BY seq DESC LIMIT 1")
    if not found:
        raise file.damaged("it has no entries")
    seq, body, digest = found[0]
    return decode(seq, body, digest), Head(seq, digest.hex())


def entry_at(file: LedgerFile, seq: int) -> Entry:
    """An entry by number, checked against its digest.

    Raises:
        LedgerDamaged: it is missing or was changed.
    """
    found = file.rows("SELECT body, digest FROM entries WHERE seq = ?", seq)
    if not found:
        raise file.damaged(f"entry {seq} is missing")
    return decode(seq, *found[0])


def must_hold(file: LedgerFile, head: Head, once: Head, who: str) -> None:
    """A head that the ledger once had must be part of it.

    Raises:
        LedgerRolledBack: it is not.
    """
    if head == once:
        return
    found = file.rows("SELECT digest FROM entries WHERE seq = ?", once.entries)
    if not found or _hexadecimal(found[0][0]) != once.sha256:
        raise LedgerRolledBack(
            f"entries={head.entries} must include entry {once.entries} {once.sha256[:16]}…, {who}; an older or other copy "
            "stands in its place: restore the newest copy with its -wal file, or treat the missing spends as spent"
        )


def _hexadecimal(digest: object) -> str:
    """Of what stands where a digest should."""
    return digest.hex() if isinstance(digest, bytes) else ""


def _peek(path: Path, busy_seconds: float) -> None:
    file = LedgerFile(path, busy_seconds=busy_seconds)
    try:
        if not file.empty():
            file.recognise()
    finally:
        file.close()


def _present(path: Path, busy_seconds: float) -> LedgerFile:
    if not path.exists():
        raise _rolled_back(path.name, "and it is gone")
    return LedgerFile(path, busy_seconds=busy_seconds)


def _begin(
    file: LedgerFile, name: str, create: Callable[[], Genesis] | None, known: tuple[str, Head] | None
) -> None:
    if known is not None:
        raise _rolled_back(name, f"and had {known[1].entries} entries, but it is empty")
    if create is None:
        raise LedgerDamaged(
            f"path={name!r} must be a ledger, but it is empty; open it with create=True to begin one"
        )
    file.settle_mode()
    with file.changing():
        if file.empty():
            file.prepare()
            file.run("INSERT INTO entries VALUES (1, ?, ?)", *encode(create()))


def _admit(
    file: LedgerFile,
    name: str,
    known: tuple[str, Head] | None,
    expected: Head | None,
    *,
    renew_anchor: bool,
) -> tuple[str, Head]:
    first = entry_at(file, 1)
    if not isinstance(first, Genesis):
        raise file.damaged("its first entry is not the beginning of a ledger")
    if first.version > FORMAT_VERSION:
        raise LedgerVersion(
            f"version={first.version} must be at most {FORMAT_VERSION}; open it with a newer release"
        )
    entry, head = newest(file)
    _check_tail(file, entry)
    if known is None and head.entries > 1 and not renew_anchor:
        raise LedgerRolledBack(
            f"path={name + '.head'!r} must name the ledger's head, but it is missing or empty; put it back, "
            "or check the ledger against a head kept elsewhere and open it with renew_anchor=True"
        )
    if known is not None:
        if known[0] != first.ledger:
            raise _rolled_back(name, f"as ledger {known[0]}, but this is ledger {first.ledger}")
        must_hold(file, head, known[1], "named by the head file")
    if expected is not None:
        must_hold(file, head, expected, "which the caller expects")
    return first.ledger, head


def _check_tail(file: LedgerFile, entry: Entry) -> None:
    """The last entry continues the one before, and is listed where later spends look for it."""
    if entry.seq > 1:
        found = file.rows("SELECT digest FROM entries WHERE seq = ?", entry.seq - 1)
        if not found or _hexadecimal(found[0][0]) != entry.prev:
            raise file.damaged(f"entry {entry.seq} does not continue entry {entry.seq - 1}")
    if isinstance(entry, Spent):
        for one in entry.charges:
            if file.rows("SELECT max(seq) FROM charged WHERE account = ?", one.account) != [(entry.seq,)]:
                raise file.damaged(f"entry {entry.seq} is not listed as the newest of account {one.account}")
        if file.rows("SELECT seq FROM releases WHERE release_id = ?", release_of(entry)) != [(entry.seq,)]:
            raise file.damaged(f"entry {entry.seq} is not listed by its release id")


def _rolled_back(name: str, fact: str) -> LedgerRolledBack:
    return LedgerRolledBack(
        f"path={name!r} must be the ledger that its head file names {fact}; restore the newest copy with its -wal file"
    )
