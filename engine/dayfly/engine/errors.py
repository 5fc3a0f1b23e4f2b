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
        ├── DeliveryError                   delivery to CRMs cannot go on; `delivery.db` is damaged, foreign or cannot be written
        │   ├── DeliverySettingsError (ValueError)  settings of the endpoints are refused
        │   ├── FeedOutOfOrder (ValueError) a feed item contradicts what was read before
        │   ├── UnknownRecipient (LookupError)      no endpoint or audience of that name
        │   └── AddressRefused              an endpoint's address may not be connected to
        └── GeneratorError (ValueError)     a setting of the event generator breaks its rule

Each message names the value, the rule and the way out.
"""

from dayfly.privacy.errors import DayflyError

__all__ = [
    "AddressRefused",
    "CatalogError",
    "DeliveryError",
    "DeliverySettingsError",
    "EngineError",
    "FeedOutOfOrder",
    "GeneratorError",
    "IntakeError",
    "LineageError",
    "PolicyError",
    "RunError",
    "ShardError",
    "SnapshotError",
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
