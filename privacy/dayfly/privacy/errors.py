"""Errors of the privacy portion.

::

    DayflyError
    ├── InvalidArgument (ValueError)      a parameter broke its rule
    │   ├── InvalidColumns                 a column is missing, of a wrong type or length, or its keys do not fit
    │   ├── TooManyGroups                  more groups than the query said it may have
    │   └── InvalidPartial                 a partial result is damaged, or made under another salt or other bounds
    ├── ConsentError
    │   ├── InvalidConsent (ValueError)    a record, mapping or stored state cannot be read
    │   ├── ConsentRefused                 the answer to a request is no
    │   └── BrokenChain                    a hash chain of records or of the audit log does not hold
    ├── DeidentificationError
    ├── TransferRefused
    ├── AuditFailed                        draws of a mechanism show more loss than it claims
    ├── LedgerError                       the budget ledger; whatever it is, nothing was spent
    │   ├── BudgetExceeded                 an account has less left than was asked
    │   ├── EpsilonUnbounded               the account counts epsilon, and the cost has no finite one
    │   ├── AccountMissing                 no account of that data set, analyst or purpose: the answer is no
    │   ├── AccountConflict                declared already, with another limit or period
    │   ├── ReleaseConflict                the release id stands for another spend
    │   ├── ClockSteppedBack               the clock is behind the newest entry
    │   ├── LedgerMissing                  no file at that path
    │   ├── LedgerForeign                  a file, but no ledger
    │   ├── LedgerVersion                  written by a newer format than this one reads
    │   ├── LedgerDamaged                  truncated, reordered or edited
    │   ├── LedgerRolledBack               whole, but older than a head that it once had
    │   ├── LedgerBusy                     other writers did not let go in time
    │   ├── LedgerUnwritable               read-only, or the disk is full or fails
    │   └── LedgerClosed                   closed, or opened by the process that forked this one
    ├── KeyStoreError
    │   ├── KeyDestroyed                   a data key is gone for good; carries its id and purpose
    │   ├── UnknownKey                     no key of that id, version or name was ever made
    │   ├── WrongKey                       a passphrase, key-encryption key or keyring entry does not open it
    │   ├── KeyStoreDamaged                truncated, flipped bits, or parts that do not belong together
    │   ├── KeyStoreForeign                a whole file, but of another tenant or of another kind
    │   ├── KeyStoreVersion                written by a newer format than this one reads
    │   ├── KeyStoreExists                 a new one was asked for where one is already
    │   ├── KeyStoreBusy                   another process has it open, or changed it since it was read
    │   ├── KeyStoreFailed                 the disk refused, or the store is closed
    │   ├── KeyFileUnsafe                  mode, owner or kind of a file or folder lets others in
    │   ├── KeyringUnavailable             no OS keyring: extra not installed, or no backend that keeps secrets
    │   └── KmsFailed                      the KMS refused, timed out or answered nonsense; nothing was changed
    ├── NoiseRefused                   the noise source states a larger loss than claimed; nothing was drawn
    ├── FilterExceeded                 one more loss would pass a privacy filter's budget; nothing was spent
    ├── StreamError                       continual release; nothing was published
    │   ├── StreamEnded                    every step that was paid for is published
    │   ├── StreamOrder                    another step than the next or the last
    │   ├── StreamInterrupted              a call was cut off in the middle, or writing failed: restore the saved state
    │   ├── StreamDamaged                  a saved state is truncated, altered, of another stream or newer
    │   ├── StreamRolledBack               a saved state is older than what was published
    │   └── StreamBusy                     another process publishes this stream
    └── FragmentError
        ├── InvalidOrder (ValueError)     an order breaks a rule of the format; nothing was minted
        ├── MintRefused                   consent, supersession or repetition says no; nothing was minted
        ├── InvalidFragment               not genuine for this verifier; never says why
        │   └── ExpiredFragment           genuine, but its time is over
        ├── LeaseRefused                  the key (or answer) is not given; `reason` is a code
        │   └── NonceRequired             prove again with the nonce it carries
        ├── InvalidReceipt                a receipt, proof or checkpoint does not hold
        ├── TombstoneLogError             the tombstone log on disk is damaged, rolled back, foreign or in use
        │   └── TombstoneConflict         an entry does not continue the log
        ├── InvalidKeySet (ValueError)    a key set cannot be used at all
        ├── KeyRotationError              a signing key would be used before it was published, or too late
        ├── MemoryNotLocked               the operating system refused to lock the key memory
        └── FragmentServiceClosed         closed, or a forked child that must never hold keys

Each message names the value, the rule and the way out.
"""

from fractions import Fraction

__all__ = [
    "AccountConflict",
    "AccountMissing",
    "AuditFailed",
    "BrokenChain",
    "BudgetExceeded",
    "ClockSteppedBack",
    "ConsentError",
    "ConsentRefused",
    "DayflyError",
    "DeidentificationError",
    "EpsilonUnbounded",
    "ExpiredFragment",
    "FilterExceeded",
    "FragmentError",
    "FragmentServiceClosed",
    "InvalidArgument",
    "InvalidColumns",
    "InvalidFragment",
    "InvalidKeySet",
    "InvalidOrder",
    "InvalidPartial",
    "InvalidQuery",
    "InvalidReceipt",
    "KeyDestroyed",
    "KeyFileUnsafe",
    "KeyRotationError",
    "KeyStoreBusy",
    "KeyStoreDamaged",
    "KeyStoreError",
    "KeyStoreExists",
    "KeyStoreFailed",
    "KeyStoreForeign",
    "KeyStoreVersion",
    "KeyringUnavailable",
    "KmsFailed",
    "LeaseRefused",
    "LedgerBusy",
    "LedgerClosed",
    "LedgerDamaged",
    "LedgerError",
    "LedgerForeign",
    "LedgerMissing",
    "LedgerRolledBack",
    "LedgerUnwritable",
    "LedgerVersion",
    "MemoryNotLocked",
    "MintRefused",
    "NoiseRefused",
    "NonceRequired",
    "QueryTooLarge",
    "ReleaseConflict",
    "ReleaseFailed",
    "SandboxError",
    "StreamBusy",
    "StreamDamaged",
    "StreamEnded",
    "StreamError",
    "StreamInterrupted",
    "StreamOrder",
    "StreamRolledBack",
    "TombstoneConflict",
    "TombstoneLogError",
    "TooManyGroups",
    "TransferRefused",
    "UnknownKey",
    "WrongKey",
]


class DayflyError(Exception):
    """Root of every error that Dayfly raises on purpose."""


class InvalidArgument(DayflyError, ValueError):  # noqa: N818 - reads as the fact it states
    """A parameter broke its rule; nothing was changed."""


# --- bounded aggregation ----------------------------------------------------------------------------------------------


class InvalidColumns(InvalidArgument):
    """A column is missing, of a wrong type or length, or its keys do not fit; no value was read."""


class TooManyGroups(InvalidArgument):
    """More groups than the query said it may have."""


class InvalidPartial(InvalidArgument):
    """A partial result is damaged, or made under another salt, other bounds or other keys; nothing was merged."""


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


class AuditFailed(DayflyError):
    """A lower bound of epsilon, from draws, is above what the mechanism claims."""


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


class TombstoneLogError(FragmentError):
    """The tombstone log on disk is damaged, was put back to an older state, is of another kind, or is in use."""


class TombstoneConflict(TombstoneLogError):  # noqa: N818 - reads as the fact it states
    """An entry stands in the log already with other content, or would leave a gap; nothing was changed."""


class InvalidKeySet(FragmentError, ValueError):  # noqa: N818 - reads as the fact it states
    """A key set is malformed, holds a private key, or has no usable key."""


class KeyRotationError(FragmentError):
    """A signing key is missing, would be used before it was published, or was retired."""


class MemoryNotLocked(FragmentError):  # noqa: N818 - reads as the fact it states
    """The operating system refused to lock the key memory, so keys could reach the swap device."""


class FragmentServiceClosed(FragmentError):  # noqa: N818 - reads as the fact it states
    """The service was closed, or this process is a forked child; its keys are gone."""


# --- Keys ------------------------------------------------------------------------------------------------------------


class KeyStoreError(DayflyError):
    """Root of the errors of key files, slot files and key services. No message ever holds a byte of a key."""


class KeyDestroyed(KeyStoreError):  # noqa: N818 - reads as the fact it states
    """A data key was destroyed; what it encrypted can never be read again.

    Attributes:
        key_id: Which key.
        purpose: What it was for; empty where only the id is still known.
    """

    def __init__(self, key_id: int, purpose: str) -> None:
        super().__init__(
            f"key_id={key_id!r} purpose={purpose!r} must be a live key; it was destroyed, so treat its data as erased"
        )
        self.key_id = key_id
        self.purpose = purpose


class UnknownKey(KeyStoreError):  # noqa: N818 - reads as the fact it states
    """No key of that id, version or name was ever made here."""


class WrongKey(KeyStoreError):  # noqa: N818 - reads as the fact it states
    """The passphrase, key-encryption key or keyring entry is not the one that sealed this."""


class KeyStoreDamaged(KeyStoreError):  # noqa: N818 - reads as the fact it states
    """A key file or slot file is truncated, altered or incomplete; nothing was overwritten."""


class KeyStoreForeign(KeyStoreError):  # noqa: N818 - reads as the fact it states
    """The file is whole, but belongs to another tenant or is no key store at all; nothing was overwritten."""


class KeyStoreVersion(KeyStoreError):  # noqa: N818 - reads as the fact it states
    """The file was written in a newer format; nothing was overwritten."""


class KeyStoreExists(KeyStoreError):  # noqa: N818 - reads as the fact it states
    """A new store was asked for where one is already; nothing was overwritten."""


class KeyStoreBusy(KeyStoreError):  # noqa: N818 - reads as the fact it states
    """Another process holds the store open, or changed the key file after this one had read it."""


class KeyStoreFailed(KeyStoreError):  # noqa: N818 - reads as the fact it states
    """The operating system refused to read or write, or the store was closed."""


class KeyFileUnsafe(KeyStoreError):  # noqa: N818 - reads as the fact it states
    """Others than the owner can read, write or replace a key file."""


class KeyringUnavailable(KeyStoreError):  # noqa: N818 - reads as the fact it states
    """There is no keyring of the operating system to keep the sealing key in."""


class KmsFailed(KeyStoreError):  # noqa: N818 - reads as the fact it states
    """The key-management service did not wrap or unwrap; the key file and the keys in memory are as before."""


# --- sandbox ---------------------------------------------------------------------------------------------------------


class SandboxError(DayflyError):
    """Root of the errors of the privacy sandbox. No message ever holds a value of a row."""


class InvalidQuery(SandboxError, ValueError):  # noqa: N818 - reads as the fact it states
    """A query, document or budget breaks a rule that can be checked without reading a row; nothing was spent."""


class QueryTooLarge(InvalidQuery):
    """The answer would have too many groups, or its numbers could leave the fixed-point range; nothing was spent."""


class ReleaseFailed(SandboxError):  # noqa: N818 - reads as the fact it states
    """A release was paid for and could not be finished. Its loss stays spent, and no number of it is shown."""


# --- The budget ledger -----------------------------------------------------------------------------------------------


class LedgerError(DayflyError):
    """Root of the errors of the privacy budget ledger. Whichever is raised, nothing was spent and nothing was lost."""


class BudgetExceeded(LedgerError):  # noqa: N818 - reads as the fact it states
    """An account that the spend would charge has less left than it asks for.

    Attributes:
        account: Which, a `dayfly.privacy.ledger.Account`.
        component: Of what there is too little: `epsilon`, `rho` or `delta`.
        asked: How much of it the spend would take, a `Fraction`.
        left: How much is left, a `Fraction`.
        renews_at_ms: When all of it is free again (ms UTC); None for never.
    """

    def __init__(
        self,
        message: str,
        *,
        account: object,
        component: str,
        asked: Fraction,
        left: Fraction,
        renews_at_ms: int | None,
    ) -> None:
        super().__init__(message)
        self.account = account
        self.component = component
        self.asked = asked
        self.left = left
        self.renews_at_ms = renews_at_ms


class EpsilonUnbounded(LedgerError, ValueError):  # noqa: N818 - reads as the fact it states
    """An account counts epsilon, and the cost has no finite one."""


class AccountMissing(LedgerError):  # noqa: N818 - reads as the fact it states
    """No account covers a data set, analyst or purpose, so nothing may be spent.

    Attributes:
        scope: `data_set`, `analyst` or `purpose`.
        name: Whose account is missing.
    """

    def __init__(self, message: str, *, scope: str, name: str) -> None:
        super().__init__(message)
        self.scope = scope
        self.name = name


class AccountConflict(LedgerError):  # noqa: N818 - reads as the fact it states
    """An account stands already with another limit or period; it was not changed."""


class ReleaseConflict(LedgerError):  # noqa: N818 - reads as the fact it states
    """A release id was spent for something else before."""


class ClockSteppedBack(LedgerError):  # noqa: N818 - reads as the fact it states
    """The clock is behind the newest entry by more than it may be.

    Attributes:
        now_ms: What the clock says (ms UTC).
        latest_ms: When the newest entry was written (ms UTC).
    """

    def __init__(self, message: str, *, now_ms: int, latest_ms: int) -> None:
        super().__init__(message)
        self.now_ms = now_ms
        self.latest_ms = latest_ms


class LedgerMissing(LedgerError):  # noqa: N818 - reads as the fact it states
    """There is no ledger at the path, and none was to be made."""


class LedgerForeign(LedgerError):  # noqa: N818 - reads as the fact it states
    """The file is no ledger; it was not changed."""


class LedgerVersion(LedgerError):  # noqa: N818 - reads as the fact it states
    """The ledger was written in a newer format; it was not changed."""


class LedgerDamaged(LedgerError):  # noqa: N818 - reads as the fact it states
    """The ledger was truncated, reordered or edited; it was not changed.

    Attributes:
        entry: The first entry found to be wrong; None where it is the file itself.
    """

    def __init__(self, message: str, *, entry: int | None = None) -> None:
        super().__init__(message)
        self.entry = entry


class LedgerRolledBack(LedgerError):  # noqa: N818 - reads as the fact it states
    """The ledger lacks an entry that it once had: an older copy was put in its place."""


class LedgerBusy(LedgerError):  # noqa: N818 - reads as the fact it states
    """Other writers kept the ledger for longer than the caller waits."""


class LedgerUnwritable(LedgerError):  # noqa: N818 - reads as the fact it states
    """The ledger cannot be written: read-only file or folder, full disk, or a disk that fails."""


class LedgerClosed(LedgerError):  # noqa: N818 - reads as the fact it states
    """The ledger was closed, or belongs to the process that forked this one."""


# --- Accounting and noise ---------------------------------------------------------------------------------------------


class NoiseRefused(DayflyError):  # noqa: N818 - reads as the fact it states
    """The noise source itself states a larger loss than was claimed; nothing was drawn."""


class FilterExceeded(DayflyError):  # noqa: N818 - reads as the fact it states
    """One more loss would pass the budget of a privacy filter; nothing was spent.

    Attributes:
        asked: The `Cost` that was refused.
        left: What is left of the budget, an exact fraction in the filter's currency.
    """

    def __init__(self, message: str, *, asked: object, left: object) -> None:
        super().__init__(message)
        self.asked = asked
        self.left = left


# --- Continual release ------------------------------------------------------------------------------------------------


class StreamError(DayflyError):
    """Root of the errors of continual release. Whatever it is, nothing was published."""


class StreamEnded(StreamError):  # noqa: N818 - reads as the fact it states
    """Every step that was paid for is published."""


class StreamOrder(StreamError):  # noqa: N818 - reads as the fact it states
    """A step was asked for that is neither the next nor the last one published."""


class StreamInterrupted(StreamError):  # noqa: N818 - reads as the fact it states
    """A call was cut off in the middle, or the state could not be written; the saved state is what counts."""


class StreamDamaged(StreamError):  # noqa: N818 - reads as the fact it states
    """A saved state is truncated, altered, of another stream, or of a newer format; it was not changed."""


class StreamRolledBack(StreamError):  # noqa: N818 - reads as the fact it states
    """A saved state is older than what was published: going on would publish steps twice with different noise."""


class StreamBusy(StreamError):  # noqa: N818 - reads as the fact it states
    """Another process has the stream open."""
