"""WiFi probe ids: pseudonyms under a key that lives one local day, and claims by consented identities."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, NamedTuple, NoReturn

from dayfly.privacy.errors import DeidentificationError

from .keyed import check_key, keyed_state

__all__ = ["ProbeIdentity", "ProbeKeys", "is_randomised_mac"]

_MAC = re.compile(r"\A[0-9A-Fa-f]{2}([:-]?)(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}\Z")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class ProbeIdentity(NamedTuple):
    """Who a probe belongs to, as far as may be known.

    Attributes:
        value: The claiming subject's pseudonym, else the day's pseudonym (16 bytes).
        claimed: Whether a consented identity has claimed the device.
        session: Whether the address is randomised: it names a session, not a device.
    """

    value: bytes
    claimed: bool
    session: bool


def _octets(mac: str) -> bytes:
    if not isinstance(mac, str) or not _MAC.match(mac):
        raise DeidentificationError(
            f"mac=<{type(mac).__name__}> must be six hexadecimal octets; drop the probe"
        )
    return bytes.fromhex(re.sub("[:-]", "", mac))


def is_randomised_mac(mac: str) -> bool:
    """Whether the address is locally administered (IEEE 802, bit 0x02 of the first octet): random, one session."""
    return bool(_octets(mac)[0] & 2)


class ProbeKeys:
    """Pseudonyms of WiFi probes under a key drawn anew each local day.

    State is explicit: a day begins with the first probe of it, and the old key is overwritten by the new one. Devices
    that a consented identity claimed are recognised on later days under a separate claim key; nothing about other
    devices is kept.

    Args:
        tenant: Name of the tenant.
        claim_key: 32 to 64 bytes, used for claimed devices only.
        random_bytes: Source of the day keys.
        zone: Time zone whose midnight rotates the key.
        day_key: Gives the key of a local day instead of `random_bytes`, for days that survive a restart
            (`dayfly.privacy.keys.ProbeDayKeys`). It must have destroyed the keys of earlier days when it returns.

    Guarantees:
        Without a claim, two days' pseudonyms of one device cannot be joined by anybody, this object included, once the
        later day has begun. A randomised address is never recognised on another day, claimed or not.
    """

    __slots__ = (
        "_claim_state",
        "_claims",
        "_day",
        "_day_key",
        "_key_state",
        "_random_bytes",
        "_today",
        "_zone",
        "tenant",
    )

    def __init__(
        self,
        tenant: str,
        *,
        claim_key: bytes,
        random_bytes: Callable[[int], bytes],
        zone: tzinfo = UTC,
        day_key: Callable[[int], bytes] | None = None,
    ) -> None:
        self.tenant: Final = tenant
        self._claim_state: Final = keyed_state(
            check_key(claim_key, "claim_key"), tenant=tenant, kind="probe-claim"
        )
        self._random_bytes: Final = random_bytes
        self._day_key: Final = day_key
        self._zone: Final = zone
        self._day = -(2**62)
        self._key_state = self._claim_state
        self._today: dict[bytes, bytes] = {}
        self._claims: dict[bytes, bytes] = {}

    def __repr__(self) -> str:
        return f"ProbeKeys(tenant={self.tenant!r}, claims={len(self._claims)})"

    def __reduce__(self) -> NoReturn:
        raise DeidentificationError(
            "keys=<secret> must not be pickled or copied; a restart begins a new day key"
        )

    def local_day(self, at_ms: int) -> int:
        """Number of the local day (days since 1970-01-01 on the local calendar) that holds an instant."""
        local = (_EPOCH + timedelta(milliseconds=at_ms)).astimezone(self._zone)
        return local.date().toordinal() - _EPOCH.date().toordinal()

    def _enter(self, at_ms: int) -> None:
        day = self.local_day(at_ms)
        if day < self._day:
            raise DeidentificationError(
                f"at_ms={at_ms} must not lie before local day {self._day}, whose predecessor's key is gone; drop the probe"
            )
        if day > self._day:
            if self._day_key is None:
                key = check_key(self._random_bytes(32), "random_bytes(32)")
            else:
                key = check_key(self._day_key(day), f"day_key({day})")
            self._key_state = keyed_state(key, tenant=self.tenant, kind="probe")
            self._today = {}
            self._day = day

    def _device(self, octets: bytes) -> bytes:
        state = self._claim_state.copy()
        state.update(octets)
        return state.digest()

    def identify(self, mac: str, at_ms: int) -> ProbeIdentity:
        """Who a probe belongs to.

        Args:
            mac: Source address, `aa:bb:cc:dd:ee:ff`.
            at_ms: Time of the probe, int64 milliseconds UTC. A later day than before rotates the key.

        Raises:
            DeidentificationError: Not an address, or a day whose key is gone.
        """
        octets = _octets(mac)
        self._enter(at_ms)
        session = bool(octets[0] & 2)
        if self._claims:
            subject = self._claims.get(self._device(octets))
            if subject is not None:
                return ProbeIdentity(subject, claimed=True, session=False)
        state = self._key_state.copy()
        state.update(octets)
        value = state.digest()
        subject = self._today.get(value)
        if subject is None:
            return ProbeIdentity(value, claimed=False, session=session)
        if not session:
            self._claims[self._device(octets)] = subject
        return ProbeIdentity(subject, claimed=True, session=session)

    def claim(self, pseudonym: bytes, subject: bytes, at_ms: int) -> None:
        """Let a consented identity claim a pseudonym of today.

        From its next probe today the device is known as `subject` until `withdraw`; a randomised address for today only.
        The caller decides consent first.

        Args:
            pseudonym: The day's pseudonym, 16 bytes.
            subject: The claiming person's pseudonym.
            at_ms: Now.

        Raises:
            DeidentificationError: Claimed by somebody else already, or a day whose key is gone.
        """
        self._enter(at_ms)
        if self._today.get(pseudonym, subject) != subject:
            raise DeidentificationError(
                f"pseudonym={pseudonym.hex()} must not be claimed twice; withdraw the other claim first"
            )
        self._today[pseudonym] = subject

    def withdraw(self, subject: bytes) -> int:
        """Forget every claim of a person; the devices are strangers again from now on.

        Returns:
            How many claims were forgotten.
        """
        before = len(self._today) + len(self._claims)
        self._today = {name: owner for name, owner in self._today.items() if owner != subject}
        self._claims = {name: owner for name, owner in self._claims.items() if owner != subject}
        return before - len(self._today) - len(self._claims)
