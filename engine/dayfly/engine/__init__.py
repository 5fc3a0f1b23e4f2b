"""The engine portion: events in, exact tags, fragment orders out, every value explained.

What most callers need, by name; everything else is in the subpackages. Names are imported when they are first used, so
importing this package loads no compiler.
"""

import typing

from dayfly.privacy import _lazy

__all__ = [
    "CatalogError",
    "ConsentGiven",
    "ConsentWithdrawn",
    "DeadLetter",
    "DeadLetterReason",
    "Decisions",
    "EngineError",
    "EngineKeys",
    "Erase",
    "Event",
    "EventBatch",
    "Explanation",
    "FragmentEnded",
    "Generator",
    "GeneratorError",
    "Intake",
    "IntakeError",
    "IntakeKeys",
    "IntakeResult",
    "LineageError",
    "LineageStore",
    "MemoryEngine",
    "Merge",
    "MintRefusal",
    "OrderMade",
    "OrderRefused",
    "Outcome",
    "Policy",
    "PolicyError",
    "Problem",
    "Publish",
    "Recall",
    "Refusal",
    "RejectedEvent",
    "Replay",
    "RunError",
    "Settings",
    "Shard",
    "ShardError",
    "SnapshotError",
    "Step",
    "Tag",
    "TagChange",
    "TagDocumentError",
    "TagError",
    "Tick",
    "ValueOutOfRange",
    "check_folder",
    "example_policy_folder",
    "in_order",
    "load_policy",
    "open_event_files",
    "policy_from_documents",
]

_HOMES: typing.Final = {
    "dayfly.engine.decisions": ("DeadLetter", "Decisions", "OrderMade", "Recall", "Refusal", "TagChange"),
    "dayfly.engine.errors": (
        "CatalogError",
        "EngineError",
        "GeneratorError",
        "IntakeError",
        "LineageError",
        "PolicyError",
        "RunError",
        "ShardError",
        "SnapshotError",
        "TagDocumentError",
        "TagError",
        "ValueOutOfRange",
    ),
    "dayfly.engine.events": ("Event", "EventBatch"),
    "dayfly.engine.generator": ("Generator",),
    "dayfly.engine.inputs": (
        "ConsentGiven",
        "ConsentWithdrawn",
        "Erase",
        "FragmentEnded",
        "Merge",
        "OrderRefused",
        "Publish",
        "Tick",
    ),
    "dayfly.engine.intake": ("DeadLetterReason", "Intake", "IntakeKeys", "IntakeResult", "RejectedEvent"),
    "dayfly.engine.lineage": ("Explanation", "LineageStore"),
    "dayfly.engine.policy.load": (
        "check_folder",
        "example_policy_folder",
        "load_policy",
        "policy_from_documents",
    ),
    "dayfly.engine.policy.model": ("Policy", "Settings"),
    "dayfly.engine.policy.problems": ("Problem",),
    "dayfly.engine.runtime": (
        "EngineKeys",
        "MemoryEngine",
        "MintRefusal",
        "Outcome",
        "Replay",
        "Step",
        "in_order",
        "open_event_files",
    ),
    "dayfly.engine.shard": ("Shard",),
    "dayfly.engine.tags.tree": ("Tag",),
}

if typing.TYPE_CHECKING:
    from .decisions import DeadLetter, Decisions, OrderMade, Recall, Refusal, TagChange
    from .errors import (
        CatalogError,
        EngineError,
        GeneratorError,
        IntakeError,
        LineageError,
        PolicyError,
        RunError,
        ShardError,
        SnapshotError,
        TagDocumentError,
        TagError,
        ValueOutOfRange,
    )
    from .events import Event, EventBatch
    from .generator import Generator
    from .inputs import (
        ConsentGiven,
        ConsentWithdrawn,
        Erase,
        FragmentEnded,
        Merge,
        OrderRefused,
        Publish,
        Tick,
    )
    from .intake import DeadLetterReason, Intake, IntakeKeys, IntakeResult, RejectedEvent
    from .lineage import Explanation, LineageStore
    from .policy.load import check_folder, example_policy_folder, load_policy, policy_from_documents
    from .policy.model import Policy, Settings
    from .policy.problems import Problem
    from .runtime import (
        EngineKeys,
        MemoryEngine,
        MintRefusal,
        Outcome,
        Replay,
        Step,
        in_order,
        open_event_files,
    )
    from .shard import Shard
    from .tags.tree import Tag
else:
    __getattr__ = _lazy.loader(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
