"""Scores as events: how a tag of the engine comes to depend on a model.

A tag reads events and nothing else, and that is what makes it explainable and replayable. So a score enters as an event of the channel that computed
it, declared in the catalogue like any other, and a tag asks for the last one:

    last("Model Scored", properties.score, where: properties.model == "churn", within: 30d) > 0.8

The event passes intake as every event does: consent at the door, pseudonyms, masking, duplicates, lineage. Nothing of the features is in it.
"""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from dayfly.federation.errors import InvalidSetting
from dayfly.federation.model.joint import JointModel

__all__ = ["SCORED", "catalog_entry", "score_events"]

SCORED: Final = "Model Scored"
"""Type of the events."""


def catalog_entry() -> dict[str, Any]:
    """The event type as a policy's catalogue declares it (`docs/policies.md`)."""
    return {
        SCORED: {
            "description": "A joint model's score of a customer.",
            "fields": {
                "model": {"type": "string", "required": True, "description": "What the model is for."},
                "model_digest": {"type": "string", "description": "Which model, in hexadecimal."},
                "score": {"type": "number", "required": True, "description": "Expected label."},
            },
        }
    }


def score_events(
    model: JointModel, name: str, users: Sequence[str], scores: NDArray[np.float64], *, at_ms: int
) -> list[bytes]:
    """Events in Segment's form, one per customer with a score.

    The same model, customer and time give the same message, so that sending it again changes nothing.

    Args:
        model: Whose scores they are.
        name: What the model is for; tags ask for it.
        users: User identifiers, as the channel's other events name them.
        scores: From `JointModel.score`, or of a `ScoringParty` after the inverse link; float64 (users,), NaN for none.
        at_ms: When they were computed, int64 milliseconds UTC.

    Raises:
        InvalidSetting: there is not one score per user.
    """
    if scores.shape != (len(users),):
        raise InvalidSetting(f"scores of shape {scores.shape} must be ({len(users)},); pass one per user")
    digest = model.digest.hex()
    time = (
        datetime.fromtimestamp(at_ms / 1_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
    return [
        msgspec.json.encode(
            {
                "type": "track",
                "messageId": hashlib.sha256(f"{digest}\x00{name}\x00{user}\x00{at_ms}".encode()).hexdigest(),
                "userId": user,
                "event": SCORED,
                "timestamp": time,
                "properties": {"model": name, "model_digest": digest, "score": float(score)},
            }
        )
        for user, score in zip(users, scores, strict=True)
        if np.isfinite(score)
    ]
