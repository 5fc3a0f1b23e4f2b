"""Errors of the privacy portion.

::

    DayflyError
    ├── InvalidArgument (ValueError)      a parameter broke its rule
    ├── ConsentError
    │   ├── InvalidConsent (ValueError)    a record, mapping or stored state cannot be read
    │   ├── ConsentRefused                 the answer to a request is no
    │   └── BrokenChain                    a hash chain of records or of the audit log does not hold
    ├── DeidentificationError
    ├── TransferRefused
    └── FragmentError
        ├── InvalidOrder (ValueError)     an order breaks a rule of the format; nothing was minted
        ├── MintRefused                   consent, supersession or repetition says no; nothing was minted
        ├── InvalidFragment               not genuine for this verifier; never says why
        │   └── ExpiredFragment           genuine, but its time is over
        ├── LeaseRefused                  the key (or answer) is not given; `reason` is a code
        │   └── NonceRequired             prove again with the nonce it carries
        ├── InvalidReceipt                a receipt, proof or checkpoint does not hold
        ├── InvalidKeySet (ValueError)    a key set cannot be used at all
        ├── KeyRotationError              a signing key would be used before it was published, or too late
        ├── MemoryNotLocked               the operating system refused to lock the key memory
        └── FragmentServiceClosed         closed, or a forked child that must never hold keys

Each message names the value, the rule and the way out.
"""

__all__ = [
    "BrokenChain",
    "ConsentError",
    "ConsentRefused",
    "DayflyError",
    "DeidentificationError",
    "ExpiredFragment",
    "FragmentError",
    "FragmentServiceClosed",
    "InvalidArgument",
    "InvalidFragment",
    "InvalidKeySet",
    "InvalidOrder",
    "InvalidReceipt",
    "KeyRotationError",
    "LeaseRefused",
    "MemoryNotLocked",
    "MintRefused",
    "NonceRequired",
    "TransferRefused",
]


class DayflyError(Exception):
    """Root of every error that Dayfly raises on purpose."""


class InvalidArgument(DayflyError, ValueError):  # noqa: N818 - reads as the fact it states
    """A parameter broke its rule; nothing was changed."""


# --- consent and transfers -------------------------------------------------------------------------------------------


class ConsentError(DayflyError):
    """Root of the consent errors."""


class InvalidConsent(ConsentError, ValueError):  # noqa: N818 - reads as the fact it states
    """A consent record, mapping, stored state or use does not follow its rules; nothing was changed."""


class ConsentRefused(ConsentError):  # noqa: N818 - reads as the fact it states
    """The answer to a request is no.

    Attributes:
        request: What was asked, as given.
        reason: The reason code, a `dayfly.privacy.consent.ReasonCode`.
    """

    def __init__(self, message: str, *, request: object, reason: str) -> None:
        super().__init__(message)
        self.request = request
        self.reason = reason


class BrokenChain(ConsentError):  # noqa: N818 - reads as the fact it states
    """A hash chain was cut, reordered or altered."""


class TransferRefused(DayflyError):  # noqa: N818 - reads as the fact it states
    """A cross-border transfer is not covered by the table or would cross a yearly threshold."""


# --- de-identification -----------------------------------------------------------------------------------------------


class DeidentificationError(DayflyError):
    """A pseudonym key is missing, retired or of the wrong length, or a masking rule does not fit its value."""


# --- fragments -------------------------------------------------------------------------------------------------------


class FragmentError(DayflyError):
    """Root of the fragment errors."""


class InvalidOrder(FragmentError, ValueError):  # noqa: N818 - reads as the fact it states
    """An order breaks a rule of the fragment format; nothing was minted."""


class MintRefused(FragmentError):  # noqa: N818 - reads as the fact it states
    """Consent, supersession or repetition says no; nothing was minted."""


class InvalidFragment(FragmentError):  # noqa: N818 - reads as the fact it states
    """The token is not a genuine fragment for this verifier. The one public refusal: it never says why."""

    def __init__(self) -> None:
        super().__init__("token must be a genuine fragment for this audience; ask the issuer for a new one")


class ExpiredFragment(InvalidFragment):
    """The token was genuine, and its time is over. Raised only after the signature held."""


class LeaseRefused(FragmentError):  # noqa: N818 - reads as the fact it states
    """The CDP does not give the key or the answer.

    Attributes:
        reason: A code of `dayfly.privacy.fragments.LeaseReason`; names no fact about a person.
    """

    def __init__(self, reason: str, way_out: str) -> None:
        super().__init__(f"lease reason={str(reason)!r} must not stand in the way; {way_out}")
        self.reason = reason


class NonceRequired(LeaseRefused):
    """The proof lacks a current server nonce (RFC 9449 section 8); prove again with `nonce`."""

    def __init__(self, nonce: str) -> None:
        super().__init__("use_dpop_nonce", "prove again with the nonce that this error carries")
        self.nonce = nonce


class InvalidReceipt(FragmentError):  # noqa: N818 - reads as the fact it states
    """A deletion receipt, a log proof or a checkpoint does not hold."""


class InvalidKeySet(FragmentError, ValueError):  # noqa: N818 - reads as the fact it states
    """A key set is malformed, holds a private key, or has no usable key."""


class KeyRotationError(FragmentError):
    """A signing key is missing, would be used before it was published, or was retired."""


class MemoryNotLocked(FragmentError):  # noqa: N818 - reads as the fact it states
    """The operating system refused to lock the key memory, so keys could reach the swap device."""


class FragmentServiceClosed(FragmentError):  # noqa: N818 - reads as the fact it states
    """The service was closed, or this process is a forked child; its keys are gone."""
