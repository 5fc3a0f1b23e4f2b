"""Raw identifiers to pseudonyms, event ids and digests: what intake does before anything is kept."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from dayfly.engine.catalog import FieldSpec, FieldType
from dayfly.engine.errors import CatalogError, IntakeError
from dayfly.engine.intake.fields import Mask
from dayfly.engine.intake.kernels_blake2b import keyed_state
from dayfly.engine.intake.reasons import DeadLetterReason
from dayfly.engine.policy.model import Channel, Policy
from dayfly.privacy.deident import (
    Band,
    Keep,
    Masking,
    ProbeKeys,
    Pseudonymise,
    PseudonymKeys,
    Truncate,
    parse_masking,
)
from dayfly.privacy.errors import DeidentificationError

__all__ = ["Identities", "IdentityKind", "IntakeKeys", "Known", "consent_digest"]

IdentityKind: TypeAlias = Literal["user", "anonymous", "probe"]

KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class IntakeKeys:
    """The keys that intake works under; none of them is ever shown.

    Attributes:
        pseudonyms: Versioned pseudonym keys of the tenant.
        digest_key: 32 bytes; event ids and digests of original bytes are keyed with it, so that neither can be guessed back.
        probes: Daily keys for channels with ``probe: true``.

    Raises:
        IntakeError: `digest_key` is not 32 bytes long.
    """

    pseudonyms: PseudonymKeys = field(repr=False)
    digest_key: bytes = field(repr=False)
    probes: ProbeKeys | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Check the digest key's length."""
        if len(self.digest_key) != KEY_BYTES:
            raise IntakeError(
                "bad_key",
                f"digest_key of {len(self.digest_key)} bytes must have {KEY_BYTES}; generate 32 random bytes",
            )


@dataclass(frozen=True, slots=True)
class Known:
    """An identifier after de-identification: today's pseudonym and, while keys overlap, the ones before."""

    pseudonym: bytes
    previous: tuple[bytes, ...] = ()
    randomised: bool = False


class Identities:
    """Pseudonyms, event ids and digests of one policy and key set.

    Guarantees:
        A raw identifier leaves every method only as a keyed 128-bit hash; nothing is cached or logged.
        Equal identifiers of one kind have one pseudonym under one key version, different kinds never share one.
    """

    def __init__(self, policy: Policy, keys: IntakeKeys) -> None:
        self._keys = keys
        self._digest = hashlib.blake2b(key=keys.digest_key, digest_size=16, person=b"dayfly.digest")
        self._event_ids: Mapping[str, hashlib.blake2b] = {
            channel.name: hashlib.blake2b(key=self.channel_key(channel), digest_size=16)
            for channel in policy.channels
        }
        missing = [channel.name for channel in policy.channels if channel.probe and keys.probes is None]
        if missing:
            raise IntakeError(
                "bad_key",
                f"probes=None must be ProbeKeys for probe channels {missing}; pass probes to IntakeKeys",
            )

    def known(self, kind: IdentityKind, raw: str, received_ms: int) -> Known:
        """The pseudonym of a raw identifier.

        Raises:
            IntakeError: a probe id where there are no probe keys, or one that the keys refuse.
        """
        if kind == "probe":
            return self._probe(raw, received_ms)
        pseudonyms = self._keys.pseudonyms
        older = tuple(item.value for item in pseudonyms.previous(kind, raw))
        return Known(pseudonyms.current(kind, raw).value, older)

    def _probe(self, raw: str, received_ms: int) -> Known:
        if self._keys.probes is None:
            raise IntakeError(
                DeadLetterReason.BAD_IDENTIFIER,
                "subject=<hidden> must not be a probe id here; pass ProbeKeys",
            )
        try:
            found = self._keys.probes.identify(raw, received_ms)
        except DeidentificationError:
            raise IntakeError(
                DeadLetterReason.BAD_IDENTIFIER,
                "probe id=<hidden> must be a hardware address of today; send six octets on arrival",
            ) from None
        return Known(found.value, randomised=found.session)

    def mask_of(self, spec: FieldSpec) -> Mask | None:
        """The masking rule of a declared field, None where the value is kept as it is."""
        return self.mask_of_rule(spec.masking, spec)

    def mask_of_rule(self, rule: object, spec: FieldSpec) -> Mask | None:
        """A masking rule ready for `spec`, None for ``keep``.

        Raises:
            CatalogError: the rule is malformed.
        """
        try:
            masking = parse_masking(rule)  # type: ignore[arg-type]  # any object: it refuses what is no rule
        except DeidentificationError as error:
            raise CatalogError(f"field={spec.name!r} must have a masking rule: {error}") from error
        if isinstance(masking, Keep):
            return None
        raw_type, kept_type = _types_of(masking, spec.type)
        if kept_type is not spec.type:
            raise CatalogError(
                f"type={spec.type.value!r} of field {spec.name!r} must be {kept_type.value!r}, which its masking leaves; change one"
            )
        return Mask(masking, raw_type, self._keys.pseudonyms)

    def channel_key(self, channel: Channel) -> bytes:
        """Key of the channel's event ids: equal message ids of two sources never meet."""
        source = (channel.source or channel.name).encode()
        return hashlib.blake2b(
            source, key=self._keys.digest_key, digest_size=KEY_BYTES, person=b"dayfly.event-id"
        ).digest()

    @property
    def older_versions(self) -> int:
        """How many pseudonym key versions before the current one are still alive."""
        return len(self._keys.pseudonyms.versions) - 1

    def hash_states(self, channel: Channel) -> npt.NDArray[np.uint64]:
        """BLAKE2b states for the compiled path: user, anonymous, older user, older anonymous, event id, digest.

        Returns:
            uint64[6, 8]; without an older key version its rows repeat the current ones and are not used.
        """
        pseudonyms = self._keys.pseudonyms
        versions = (pseudonyms.current_version, pseudonyms.versions[-min(2, len(pseudonyms.versions))])
        states = []
        for version in versions:
            for kind in ("user", "anonymous"):
                key, salt, person = pseudonyms.hash_parameters(kind, version=version)
                states.append(keyed_state(key, digest_bytes=16, salt=salt, person=person))
        states.append(keyed_state(self.channel_key(channel), digest_bytes=16))
        states.append(keyed_state(self._keys.digest_key, digest_bytes=16, person=b"dayfly.digest"))
        return np.array(states, np.uint64)

    def event_id(self, channel: Channel, message_id: bytes) -> bytes:
        """16 bytes by which duplicates within the channel's source are told."""
        state = self._event_ids[channel.name].copy()
        state.update(message_id)
        return state.digest()

    def digest(self, raw: bytes) -> bytes:
        """16-byte keyed hash of the original bytes, for lineage."""
        state = self._digest.copy()
        state.update(raw)
        return state.digest()


def _types_of(masking: Masking, declared: FieldType) -> tuple[FieldType, FieldType]:
    """The type a masked field has on the wire, and the type of what is kept."""
    if isinstance(masking, Band):
        return FieldType.NUMBER, FieldType.STRING
    if isinstance(masking, Pseudonymise):
        return FieldType.STRING, FieldType.STRING
    if isinstance(masking, Truncate):
        kind = FieldType.STRING if masking.characters is not None else FieldType.NUMBER
        kind = FieldType.TIME if masking.granularity is not None else kind
        return kind, kind
    return declared, declared


def consent_digest(form: str, raw: bytes) -> int:
    """Eight bytes of BLAKE2b over form and original bytes, never zero (zero stands for no consent object)."""
    return int.from_bytes(hashlib.blake2b(form.encode() + b"\0" + raw, digest_size=8).digest(), "little") or 1


def identifier_text(value: object, name: str, max_bytes: int) -> str | None:
    """An identifier as text: text stays, an integer becomes its decimal form, absent, null and empty are None.

    Raises:
        IntakeError: `BAD_IDENTIFIER`.
    """
    if value is None or value == "":
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str) and len(value.encode()) <= max_bytes:
        return value
    raise IntakeError(
        DeadLetterReason.BAD_IDENTIFIER,
        f"{name}=<hidden> must be text of at most {max_bytes} bytes or an integer; fix the sender",
    )
