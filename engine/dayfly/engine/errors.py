"""Errors of the engine portion.

::

    DayflyError                             (dayfly.privacy)
    └── EngineError
        ├── CatalogError (ValueError)       a declaration of events, fields or channels is wrong
        ├── ValueOutOfRange (ValueError)    a value cannot be held exactly
        ├── IntakeError (ValueError)        an input is not an event; carries the dead-letter reason
        ├── TagError (ValueError)           a tag is refused; carries the place in its text
        │   └── TagDocumentError            a tag written as objects is refused; carries the way to the node
        ├── PolicyError (ValueError)        a policy file is refused; carries file and line
        ├── ShardError                      an input that the shard cannot apply
        │   └── SnapshotError (ValueError)  bytes that are no snapshot of this version
        ├── LineageError                    no lineage for what was asked
        ├── DeadLetterError                 dead letters on disk are damaged, foreign or in use
        ├── HealthError                     there is no health report that can be read
        ├── DeliveryError                   delivery to CRMs cannot go on; `delivery.db` is damaged, foreign or cannot be written
        │   ├── DeliverySettingsError (ValueError)  settings of the endpoints are refused
        │   ├── FeedOutOfOrder (ValueError) a feed item contradicts what was read before
        │   ├── UnknownRecipient (LookupError)      no endpoint or audience of that name
        │   └── AddressRefused              an endpoint's address may not be connected to
        ├── StoreError                      the store on disk cannot be used as asked
        │   ├── StoreLocked                 another process writes to the folder; carries its pid
        │   ├── StoreForeign                not ours: another tenant, other keys, or not a store at all
        │   ├── StoreDamaged                what was written is not there any more; carries file and offset
        │   ├── StoreVersion                written by a newer version
        │   ├── StoreFull                   no room left on the disk
        │   ├── StoreUnusable               the system refuses: read-only, no permission, input/output error
        │   ├── StoreTimeout (TimeoutError) not durable in the time given
        │   ├── BackupEnded                 an erasure destroyed the key of a backup
        │   ├── LogFailed                   the log failed or is closed; it takes nothing more
        │   └── FrameError                  a durable frame holds something that this version cannot read
        ├── EngineClosed                    the engine is closed
        ├── EngineBusy                      more waits than may wait
        ├── EngineFailed                    the engine stopped; what was acknowledged is safe on disk
        ├── FeedGap (LookupError)           feed items asked for are gone
        └── GeneratorError (ValueError)     a setting of the event generator breaks its rule

Each message names the value, the rule and the way out.
"""

from dayfly.privacy.errors import DayflyError

__all__ = [
    "AddressRefused",
    "BackupEnded",
    "CatalogError",
    "DeadLetterError",
    "DeliveryError",
    "DeliverySettingsError",
    "EngineBusy",
    "EngineClosed",
    "EngineError",
    "EngineFailed",
    "FeedGap",
    "FeedOutOfOrder",
    "FrameError",
    "GeneratorError",
    "HealthError",
    "IntakeError",
    "LineageError",
    "LogFailed",
    "PolicyError",
    "RunError",
    "ShardError",
    "SnapshotError",
    "StoreDamaged",
    "StoreError",
    "StoreForeign",
    "StoreFull",
    "StoreLocked",
    "StoreTimeout",
    "StoreUnusable",
    "StoreVersion",
    "TagDocumentError",
    "TagError",
    "UnknownRecipient",
    "ValueOutOfRange",
]


class EngineError(DayflyError):
    """Root of the engine's errors."""


class CatalogError(EngineError, ValueError):
    """A declaration of events, fields or channels is wrong."""


class ValueOutOfRange(EngineError, ValueError):  # noqa: N818 - reads as the fact it states
    """A value cannot be held exactly in the engine's fixed-point or integer form."""


# --- intake ----------------------------------------------------------------------------------------------------------


class IntakeError(EngineError, ValueError):
    """An input is not an event that may enter; `reason` is the dead-letter code."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


# --- tags and policies -----------------------------------------------------------------------------------------------


class TagError(EngineError, ValueError):
    """A tag is refused. `start` and `end` are character offsets in `text`, or -1 when the tag had no text."""

    def __init__(self, message: str, *, text: str = "", start: int = -1, end: int = -1) -> None:
        super().__init__(message)
        self.text = text
        self.start = start
        self.end = end


class TagDocumentError(TagError):
    """A tag written as objects is refused. `path` leads to the node: keys and positions from the root of the document."""

    def __init__(self, message: str, *, path: tuple[str | int, ...] = ()) -> None:
        shown = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
        super().__init__(f"at ${shown}: {message}")
        self.path = path


class PolicyError(EngineError, ValueError):
    """One or more policy files are refused; `problems` lists every finding with file and line."""

    def __init__(self, message: str, *, problems: tuple[object, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems


# --- shard and lineage -----------------------------------------------------------------------------------------------


class ShardError(EngineError):
    """An input that the shard cannot apply; its state is unchanged."""


class SnapshotError(ShardError, ValueError):
    """Bytes that are not a snapshot of this version, or are damaged."""


class LineageError(EngineError):
    """There is no lineage for the fragment or field asked for."""


# --- dead letters ----------------------------------------------------------------------------------------------------


class DeadLetterError(EngineError):
    """Dead letters on disk are damaged, foreign, of a newer version, or in use; nothing was overwritten."""


# --- generator -------------------------------------------------------------------------------------------------------


class GeneratorError(EngineError, ValueError):
    """A setting of the event generator breaks its rule."""


# --- runtime ---------------------------------------------------------------------------------------------------------


class RunError(EngineError, ValueError):
    """A run cannot begin: an event file, a setting or the output folder is refused; nothing was written."""


# --- delivery --------------------------------------------------------------------------------------------------------


class DeliveryError(EngineError):
    """Delivery to CRMs cannot go on: its state on disk is damaged, foreign, or cannot be written."""


class DeliverySettingsError(DeliveryError, ValueError):
    """Settings of the endpoints are refused; no secret is repeated in the message."""


class FeedOutOfOrder(DeliveryError, ValueError):  # noqa: N818 - reads as the fact it states
    """A feed item contradicts what was read before; nothing of its batch was taken."""


class UnknownRecipient(DeliveryError, LookupError):  # noqa: N818 - reads as the fact it states
    """There is no endpoint or audience of that name."""


class AddressRefused(DeliveryError):  # noqa: N818 - reads as the fact it states
    """An endpoint's address may not be connected to: it is not public, and its network is not listed."""


# --- health ----------------------------------------------------------------------------------------------------------


class HealthError(EngineError):
    """There is no health report where one was looked for, or it cannot be read."""


# --- store: log, snapshots, directory --------------------------------------------------------------------------------


class StoreError(EngineError):
    """The store on disk cannot be used as asked."""


class StoreLocked(StoreError):  # noqa: N818 - reads as the fact it states
    """Another process writes to the folder. `pid` is that process, or None when it could not be read."""

    def __init__(self, message: str, *, pid: int | None = None) -> None:
        super().__init__(message)
        self.pid = pid


class StoreForeign(StoreError):  # noqa: N818 - reads as the fact it states
    """The files are not ours: another tenant's, written under other keys, or no store at all. Nothing was changed."""


class StoreDamaged(StoreError):  # noqa: N818 - reads as the fact it states
    """What was acknowledged is not there as it was written. `path` and `offset` say where; nothing was changed."""

    def __init__(self, message: str, *, path: str = "", offset: int = -1) -> None:
        super().__init__(message)
        self.path = path
        self.offset = offset


class StoreVersion(StoreError):  # noqa: N818 - reads as the fact it states
    """The files were written by a newer version. Nothing was changed."""


class StoreFull(StoreError):  # noqa: N818 - reads as the fact it states
    """No room is left on the disk, in the quota or under the file size limit."""


class StoreUnusable(StoreError):  # noqa: N818 - reads as the fact it states
    """The operating system refuses: read-only, no permission, input/output error. `errno` is its number."""

    def __init__(self, message: str, *, errno: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno


class StoreTimeout(StoreError, TimeoutError):  # noqa: N818 - reads as the fact it states
    """A position was not durable in the time given; it may still become so."""


class LogFailed(StoreError):  # noqa: N818 - reads as the fact it states
    """The log failed, or is closed: it takes nothing more. What was acknowledged before is safe."""


class FrameError(StoreError):
    """A durable frame or host state holds something that this version cannot read."""


# --- backups ---------------------------------------------------------------------------------------------------------


class BackupEnded(StoreError):  # noqa: N818 - reads as the fact it states
    """An erasure destroyed the key of this backup, because it could bring the erased person back."""


# --- the durable engine ----------------------------------------------------------------------------------------------


class EngineClosed(EngineError):  # noqa: N818 - reads as the fact it states
    """The engine is closed."""


class EngineBusy(EngineError):  # noqa: N818 - reads as the fact it states
    """More waits than may wait; nothing of the call was taken."""


class EngineFailed(EngineError):  # noqa: N818 - reads as the fact it states
    """The engine stopped because its log or its state cannot be trusted any more. What was acknowledged is safe on disk."""


class FeedGap(EngineError, LookupError):  # noqa: N818 - reads as the fact it states
    """Feed items between the position asked for and the oldest kept are gone. `resume_after` is where a consumer can go on.

    Of a store of several shards, `resume_positions` is: a position for each.
    """

    def __init__(
        self, message: str, *, resume_after: int = 0, resume_positions: tuple[int, ...] = ()
    ) -> None:
        super().__init__(message)
        self.resume_after = resume_after
        self.resume_positions = resume_positions
