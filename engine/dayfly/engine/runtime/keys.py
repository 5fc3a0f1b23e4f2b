"""The keys of one engine, in one place. Where they come from is the caller's choice."""

from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import ec

from dayfly.engine.intake import IntakeKeys
from dayfly.privacy.deident import ProbeKeys, PseudonymKeys
from dayfly.privacy.fragments import KeyRing, SigningKey, note_signer, note_verifier
from dayfly.privacy.fragments.tombstones.note import NoteSigner, NoteVerifier

__all__ = ["EngineKeys"]


@dataclass(frozen=True, slots=True)
class EngineKeys:
    """Everything secret that an engine holds; none of it is in any snapshot, log, lineage or repr.

    Attributes:
        intake: Pseudonym, probe and digest keys.
        signing: Keys that sign fragments.
        notes: Signer of the tombstone log's checkpoints, and `notes_verifier` for those who check them.
        notes_public: The same verifier's key as it is published.
        pairwise: 32 bytes; makes a person's name for each audience.
        lineage: 32 bytes; hides in the lineage store whose fragment it was.
        audit: 32 bytes; hides pseudonyms in the audit log.
    """

    intake: IntakeKeys = field(repr=False)
    signing: KeyRing = field(repr=False)
    notes: NoteSigner = field(repr=False)
    notes_verifier: NoteVerifier
    notes_public: ec.EllipticCurvePublicKey
    pairwise: bytes = field(repr=False)
    lineage: bytes = field(repr=False)
    audit: bytes = field(repr=False)

    @classmethod
    def generate(cls, tenant: str, random_bytes: Callable[[int], bytes]) -> "EngineKeys":
        """New keys for a tenant.

        Args:
            tenant: Name that separates tenants; part of every pseudonym.
            random_bytes: For the symmetric keys, for example `os.urandom`. Signing keys are drawn by `cryptography`.
        """
        notes = ec.generate_private_key(ec.SECP256R1())
        origin = f"dayfly.example/{tenant}"
        return cls(
            intake=IntakeKeys(
                PseudonymKeys(tenant, {1: random_bytes(32)}),
                random_bytes(32),
                ProbeKeys(tenant, claim_key=random_bytes(32), random_bytes=random_bytes),
            ),
            signing=KeyRing(SigningKey(ec.generate_private_key(ec.SECP256R1()))),
            notes=note_signer(origin, notes),
            notes_verifier=note_verifier(origin, notes.public_key()),
            notes_public=notes.public_key(),
            pairwise=random_bytes(32),
            lineage=random_bytes(32),
            audit=random_bytes(32),
        )
