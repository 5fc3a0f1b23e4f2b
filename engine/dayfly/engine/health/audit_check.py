"""Checking the audit log's chain while it grows: a little at a time, beside the engine."""

from pathlib import Path
from typing import Final

from dayfly.privacy.audit_log import GENESIS, AuditHead, verify_audit
from dayfly.privacy.errors import BrokenChain

__all__ = ["AuditCheck"]

PIECE_BYTES: Final = 1 << 16


class AuditCheck:
    """Follows an audit file from its first line on. Used by one thread.

    Args:
        path: The file; it may not be there yet.

    Attributes:
        checked: Lines found sound.
        broken: What is wrong with the first line that is not; empty as long as there is none.
    """

    def __init__(self, path: Path) -> None:
        self._path: Final = path
        self._offset = 0
        self._head: AuditHead = GENESIS
        self.broken = ""

    @property
    def checked(self) -> int:
        """Lines found sound."""
        return self._head.lines

    def step(self, *, piece_bytes: int = PIECE_BYTES) -> bool:
        """Check the next piece of the file; False when there is nothing more for now, or a line was broken."""
        if self.broken or not self._path.exists():
            return False
        with self._path.open("rb") as file:
            file.seek(self._offset)
            piece = file.read(piece_bytes)
            if b"\n" not in piece:  # a line longer than a piece
                piece += file.readline()
        whole = piece[: piece.rfind(b"\n") + 1]
        if not whole:
            return False
        try:
            self._head = verify_audit(whole.split(b"\n")[:-1], start=self._head)
        except BrokenChain as error:
            self.broken = str(error)
            return False
        self._offset += len(whole)
        return True
