"""The keys of an engine, from where they are kept."""

from collections.abc import Callable
from hashlib import blake2b

from dayfly.engine.intake import IntakeKeys
from dayfly.engine.runtime import EngineKeys
from dayfly.privacy.keys import KeyName, KeyProvider, ProbeDayKeys, SlotKeys

__all__ = ["engine_keys", "probe_days", "series_of"]


def engine_keys(keys: KeyProvider, slots: SlotKeys, now_ms: int) -> EngineKeys:
    """The keys of an engine, from where they are kept."""
    notes = keys.notes()
    return EngineKeys(
        intake=IntakeKeys(keys.pseudonyms(), keys.key(KeyName.DIGEST), keys.probes(ProbeDayKeys(slots))),
        signing=keys.signing(now_ms),
        notes=notes.signer,
        notes_verifier=notes.verifier,
        notes_public=notes.public,
        pairwise=keys.key(KeyName.PAIRWISE),
        lineage=keys.key(KeyName.LINEAGE),
        audit=keys.key(KeyName.AUDIT),
    )


def probe_days(secrets: EngineKeys, slots: SlotKeys) -> Callable[[int], object]:
    """Destroys the probe keys of earlier days, also when no probe comes."""
    probes, days = secrets.intake.probes, ProbeDayKeys(slots)
    return lambda now_ms: None if probes is None else days.forget_before(probes.local_day(now_ms))


def series_of(key: bytes) -> Callable[[bytes, str], bytes]:
    """Digest of a subject and a trigger under the lineage key: says which fragments replace each other, and no more."""

    def digest(subject: bytes, trigger: str) -> bytes:
        return blake2b(
            subject + trigger.encode(), digest_size=16, key=key, person=b"dayfly-series-1"
        ).digest()

    return digest
