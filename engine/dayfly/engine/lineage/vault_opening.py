"""Making a lineage vault, and telling whether one is the caller's own."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dayfly.engine.errors import LineageError
from dayfly.privacy.keys import DataKeys

from .vault_file import VaultFile
from .vault_periods import PURPOSE, Period, key_check

__all__ = ["SHAPES", "VaultSettings", "found_vault", "load_periods", "recognise"]

SHAPES: Final = -(1 << 62)
"""The period whose key seals rule texts; it never ends."""
_MAX_PERIODS: Final = 1024


@dataclass(frozen=True, slots=True)
class VaultSettings:
    """Limits of a vault.

    Attributes:
        period_ms: Fragments of so many milliseconds share a data key; fixed when the vault is made.
        retention_ms: A period's key is destroyed so long after the period's end.
        at_once: Fragments put without a position that are written together.

    Raises:
        LineageError: A value is out of its range, or more than 1,024 periods would be alive at once.
    """

    period_ms: int = 86_400_000
    retention_ms: int = 30 * 86_400_000
    at_once: int = 256

    def __post_init__(self) -> None:
        """Check the ranges."""
        if (
            self.period_ms < 1
            or self.at_once < 1
            or not 0 <= self.retention_ms <= _MAX_PERIODS * self.period_ms
        ):
            raise LineageError(
                f"retention_ms={self.retention_ms} must be 0 to {_MAX_PERIODS} times period_ms={self.period_ms}, and "
                f"at_once={self.at_once} > 0; choose longer periods"
            )


def found_vault(
    file: VaultFile,
    *,
    keys: DataKeys,
    tenant: bytes,
    subject_key: bytes,
    random_bytes: Callable[[int], bytes],
    settings: VaultSettings,
) -> None:
    """Give a new file its id and the key of its shapes."""
    vault = random_bytes(16)
    key_id, key = keys.create(PURPOSE)
    with file.transaction():
        file.run(
            "INSERT INTO about VALUES (?, ?, ?, ?, 0, ?)",
            vault,
            tenant,
            _subject_check(subject_key, vault),
            settings.period_ms,
            SHAPES,
        )
        file.run(
            "INSERT INTO periods (period, key_id, key_check, next, indexed, alive, ended) VALUES (?, ?, ?, 0, 0, 0, 0)",
            SHAPES,
            key_id,
            key_check(key, vault),
        )


def recognise(
    file: VaultFile, *, tenant: bytes, subject_key: bytes, settings: VaultSettings
) -> tuple[bytes, int, int]:
    """Id, applied position and ended periods, once file, tenant, key and settings fit together."""
    ((vault, owner, check, period_ms, applied, ended),) = file.rows("SELECT * FROM about")
    if owner != tenant:
        raise LineageError(
            f"tenant={tenant.hex()} must be {owner.hex()}, whose vault this is; open the right one"
        )
    if check != _subject_check(subject_key, vault):
        raise LineageError(
            "subject_key=<key> must be the one that the vault was made with; nobody could be found under another"
        )
    if period_ms != settings.period_ms:
        raise LineageError(
            f"period_ms={settings.period_ms} must be {period_ms}, as the vault was made; keep the setting"
        )
    return vault, applied, ended


def load_periods(file: VaultFile) -> dict[int, Period]:
    """Periods that have not ended, each checked against its records: a number may never be given twice."""
    found = {}
    for row in file.rows(
        "SELECT serial, period, key_id, key_check, next, indexed, alive FROM periods WHERE ended = 0"
    ):
        if not all(isinstance(value, bytes if at == 3 else int) for at, value in enumerate(row)):
            raise LineageError("periods must hold numbers; the vault is damaged, restore it from a copy")
        serial, place, key_id, check, written, indexed, alive = row
        ((last,),) = file.rows(
            "SELECT max(id) FROM records WHERE id >= ? AND id < ?", serial << 32, (serial + 1) << 32
        )
        if not 0 <= indexed <= written or (last is not None and last & 0xFFFF_FFFF >= written):
            raise LineageError(
                f"next={written} of period {place} must be above its records; the vault is damaged, restore it from a copy"
            )
        found[place] = Period(serial, place, key_id, check, written, written, indexed, alive)
    if SHAPES not in found:
        raise LineageError(
            "periods must hold that of the shapes; the vault is damaged, restore it from a copy"
        )
    return found


def _subject_check(subject_key: bytes, vault: bytes) -> bytes:
    return hashlib.blake2b(vault, key=subject_key, digest_size=8, person=b"dayfly-lineage-c").digest()
