"""Reading all dead letters of a stopped store, without writing to it."""

import os
import shutil
import tempfile
from pathlib import Path

from dayfly.engine.errors import DeadLetterError
from dayfly.privacy.errors import KeyDestroyed
from dayfly.privacy.keys import DataKeys

from .letters import SUFFIX, tenant_digest
from .period_file import Head, PeriodFile, key_check

__all__ = ["check_letters"]


def check_letters(folder: Path, *, keys: DataKeys, tenant: bytes) -> tuple[int, int]:
    """How many periods and letters can be read; a torn last block and periods whose key is destroyed are passed over.

    Args:
        folder: Of `DeadLetters`; it is copied first, because opening a file cuts a torn block off.
        keys: Where the data keys of periods live.
        tenant: Whose letters these are.

    Raises:
        DeadLetterError: a file is damaged, another tenant's, of a newer version, or of other keys.
    """
    periods = letters = 0
    with tempfile.TemporaryDirectory() as place:
        copy = shutil.copytree(folder, Path(place) / "dead")
        for path in sorted(copy.glob(f"*{SUFFIX}")):
            head = Head.read(path)
            if head is None:
                continue
            if head.tenant != tenant_digest(tenant):
                raise DeadLetterError(f"file={path.name!r} must be of this tenant; open the right folder")
            try:
                key = keys.get(head.key_id)
            except KeyDestroyed:
                continue
            if key_check(key) != head.key_check:
                raise DeadLetterError(
                    f"key_id={head.key_id} must be the key that {path.name!r} was made with; open it with its own keys"
                )
            file = PeriodFile(path, head, key, os.urandom)
            try:
                letters += sum(len(block) for _, block in file.letters())
            finally:
                file.close()
            periods += 1
    return periods, letters
