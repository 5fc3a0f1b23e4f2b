"""Views of the log on disk: audit file, lineage, dead letters, tombstones. Each may lag behind the log, none runs ahead."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from dayfly.engine.deadletters import DeadLetters
from dayfly.engine.durable.effects import Minted
from dayfly.engine.durable.host import Turn
from dayfly.engine.durable.recording import LineageView
from dayfly.engine.durable.recovered import Recovered
from dayfly.engine.errors import StoreDamaged
from dayfly.engine.inputs import Merge
from dayfly.privacy.audit_log import GENESIS, AuditHead
from dayfly.privacy.fragments.tombstones.durable import DurableGraveyard

__all__ = ["AuditFile", "Views", "heal_views"]

_LONGEST_LINE: Final = 1 << 16


class _Numbered(msgspec.Struct):
    """What of an audit line says where it stands."""

    seq: int
    prev: str


class AuditFile:
    """`audit.jsonl`: the audit log, one line per decision, each with the digest of the line before.

    A line that a crash tore is cut off; lines that are in the file already are passed over, so that the log may bring
    them again.

    Args:
        path: Made where there is none.

    Raises:
        StoreDamaged: the last line is none of an audit log.
    """

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        self._file = path.open("a+b")
        try:
            self.head = self._last()
        except BaseException:
            self._file.close()
            raise

    def _last(self) -> AuditHead:
        """Head after the last whole line."""
        end = self._file.seek(0, os.SEEK_END)
        self._file.seek(max(0, end - _LONGEST_LINE))
        tail = self._file.read()
        whole = tail[: tail.rfind(b"\n") + 1]
        if len(whole) != len(tail):
            self._file.truncate(end - len(tail) + len(whole))
        if not whole:
            return GENESIS
        line = whole[:-1].rpartition(b"\n")[2]
        try:
            number = msgspec.json.decode(line, type=_Numbered).seq
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise StoreDamaged(
                f"audit log {self.path.name!r} must end in a line of an audit log; restore it from a backup",
                path=str(self.path),
                offset=end - len(tail),
            ) from error
        return AuditHead(number + 1, hashlib.sha256(line).hexdigest())

    def add(self, lines: Iterable[bytes]) -> None:
        """Hand lines over to the operating system.

        Raises:
            StoreDamaged: a line does not follow from the one before.
        """
        fresh: list[bytes] = []
        for line in lines:
            entry = msgspec.json.decode(line, type=_Numbered)
            if entry.seq < self.head.lines:
                continue
            if (entry.seq, entry.prev) != self.head:
                raise StoreDamaged(
                    f"audit line seq={entry.seq} must follow {self.head.lines} lines; restore {self.path.name!r} from a backup",
                    path=str(self.path),
                )
            self.head = AuditHead(entry.seq + 1, hashlib.sha256(line.removesuffix(b"\n")).hexdigest())
            fresh.append(line)
        self._file.write(b"".join(fresh))
        self._file.flush()

    def sync(self) -> None:
        """Make everything durable."""
        self._file.flush()
        os.fdatasync(self._file.fileno())

    def close(self) -> None:
        """Make everything durable and close."""
        self.sync()
        self._file.close()


class Views:
    """All views of one engine, written by its thread when the log is durable.

    Args:
        audit, lineage, letters, graves: The views.
    """

    def __init__(
        self, audit: AuditFile, lineage: LineageView, letters: DeadLetters, graves: DurableGraveyard
    ) -> None:
        self.audit: Final = audit
        self.lineage: Final = lineage
        self.letters: Final = letters
        self.graves: Final = graves

    def write(self, turns: Iterable[Turn]) -> None:
        """Take in what became durable."""
        for turn in turns:
            if turn.audit:
                self.audit.add(turn.audit)
            if turn.letters:
                self.letters.append(turn.letters, position=turn.position)
            for write in turn.lineage:
                write()
            self.graves.release(turn.stones)

    def flush(self) -> None:
        """Hand over what was gathered to the files."""
        self.lineage.vault.flush()
        self.letters.flush()

    def expire(self, now_ms: int) -> None:
        """Destroy the keys of lineage and dead letters whose retention is over."""
        self.lineage.vault.expire(now_ms)
        self.letters.expire(now_ms)

    def sync(self) -> None:
        """Make everything durable, before the log that it came from is forgotten."""
        self.audit.sync()
        self.letters.flush()
        self.lineage.sync()


def heal_views(views: Views, recovered: Recovered) -> None:
    """Bring views up to the log after a crash: whatever they have already is passed over."""
    views.audit.add(recovered.audit)
    for position, item in recovered.lineage:
        if isinstance(item, Minted):
            views.lineage.vault.put(item.jti, item.order, position=position)
        elif isinstance(item, Merge):
            views.lineage.vault.merge(item.subject, item.other, position=position)
        else:
            views.lineage.erase_now(item, position)
    for position, letters in recovered.letters:
        views.letters.append(letters, position=position)
    views.flush()
    known, told = views.audit.head, recovered.standing.audit
    if known != told:
        raise StoreDamaged(
            f"audit log {views.audit.path.name!r} of {known.lines} lines must have {told.lines} and end as the log says; put"
            " the missing files back, or restore the store from a backup",
            path=str(views.audit.path),
        )
    if len(views.graves) != recovered.standing.stones:
        raise StoreDamaged(
            f"tombstones={len(views.graves)} must be {recovered.standing.stones}, as the log says; put the missing files back,"
            " or restore the store from a backup"
        )
