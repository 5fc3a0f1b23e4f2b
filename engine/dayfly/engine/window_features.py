"""Windows of customers' events as the columns of a feature matrix, as far as consent covers the purpose of the model.

What is taken is what the privacy sandbox takes (`sandbox_source`): the event log as the shard knows it, within the policy's history, duplicates
counted once, merged identities one customer, erased persons gone, and an event only if `consent.decide` says yes, now, for its customer and
the channel that it came through.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from dayfly.engine.catalog import NULL, FieldType
from dayfly.engine.sandbox_source import consented_channels, usable_events
from dayfly.engine.shard import Shard, identity
from dayfly.privacy.consent import ConsentRequest
from dayfly.privacy.errors import InvalidArgument

__all__ = ["WindowColumns", "WindowFeature", "window_features"]

Rows: TypeAlias = npt.NDArray[np.int64]
Aggregate: TypeAlias = Literal["count", "sum", "mean", "largest", "days_since"]

_DAY_MS: Final = 86_400_000
_MICRO: Final = 1e6
_OF_A_FIELD: Final = ("sum", "mean", "largest")
_ANY: Final = -1


@dataclass(frozen=True, slots=True)
class WindowFeature:
    """One column.

    Attributes:
        name: Of the column.
        window_ms: How far back, up to the policy's history.
        event: Name of the event type; None for any.
        aggregate: Number of events; sum, mean or largest value of a field (0 without one); days since the last, at most the window.
        field: Number or boolean that is aggregated; None for `count` and `days_since`.
    """

    name: str
    window_ms: int
    event: str | None = None
    aggregate: Aggregate = "count"
    field: str | None = None


@dataclass(frozen=True, slots=True)
class WindowColumns:
    """What was computed.

    Attributes:
        values: float64 (subjects, features); zeros where a subject may not be used.
        usable: bool (subjects,), whether the subject is known and consents to the purpose for one channel at least.
    """

    values: npt.NDArray[np.float64]
    usable: npt.NDArray[np.bool_]


def window_features(
    shard: Shard,
    subjects: Sequence[bytes],
    wanted: Sequence[WindowFeature],
    need: ConsentRequest,
    now_ms: int,
) -> WindowColumns:
    """Columns over one shard, at one instant.

    Args:
        shard: Whose history; nothing of it is changed.
        subjects: Pseudonyms of 16 bytes, in the order of the rows.
        wanted: The columns.
        need: What consent must cover: the purpose of the model above all. Its channel is replaced by each event's own.
        now_ms: The instant at which consent is decided and windows end.

    Guarantees:
        Fail closed: an event counts only where its customer's consent covers `need` and the event's channel.

    Raises:
        InvalidArgument: a column names no event type or field of the policy, or its window is out of range.
    """
    plans = [_plan(shard, feature) for feature in wanted]
    kept = consented_channels(shard, need, now_ms)
    values = np.zeros((len(subjects), len(wanted)))
    usable = np.zeros(len(subjects), np.bool_)
    cells = shard.arrays.core.world.rows.values
    for row, subject in enumerate(subjects):
        person = identity.find(shard.arrays, subject)
        if person not in kept:
            continue
        usable[row] = True
        events = usable_events(shard, person, kept[person], now_ms)
        for column, (kind, slot, unit) in enumerate(plans):
            chosen = events[events[:, 3] > now_ms - wanted[column].window_ms]
            if kind != _ANY:
                chosen = chosen[chosen[:, 1] == kind]
            held = chosen[:, 3] if wanted[column].field is None else cells[chosen[:, 4] + slot]
            values[row, column] = _aggregated(wanted[column], chosen[:, 3], held, unit, now_ms)
    return WindowColumns(values, usable)


def _plan(shard: Shard, feature: WindowFeature) -> tuple[int, int, float]:
    """Numbers of the event type and the field, and what a stored value is divided by."""
    catalog, history_ms = shard.policy.catalog, shard.policy.settings.history_ms
    if not 0 < feature.window_ms <= history_ms:
        raise InvalidArgument(
            f"window_ms={feature.window_ms} of {feature.name!r} must be above 0 and at most the history, {history_ms}; shorten it"
        )
    if (feature.field is not None) != (feature.aggregate in _OF_A_FIELD):
        raise InvalidArgument(
            f"field={feature.field!r} of {feature.name!r} must be given with {', '.join(_OF_A_FIELD)} and with nothing else"
        )
    if feature.event is None:
        if feature.field is not None:
            raise InvalidArgument(
                f"event=None of {feature.name!r} must name the type whose field {feature.field!r} is"
            )
        return _ANY, 0, 1.0
    kinds = [kind.name for kind in catalog.types]
    if feature.event not in kinds:
        raise InvalidArgument(
            f"event={feature.event!r} of {feature.name!r} must be one of the policy's types, {kinds}; correct it"
        )
    number = kinds.index(feature.event)
    if feature.field is None:
        return number, 0, 1.0
    fields = {
        field.name: (slot, _MICRO if field.type is FieldType.NUMBER else 1.0)
        for slot, field in enumerate(catalog.types[number].fields)
        if field.type in (FieldType.NUMBER, FieldType.BOOLEAN)
    }
    if feature.field not in fields:
        raise InvalidArgument(
            f"field={feature.field!r} of {feature.name!r} must be a number or boolean of {feature.event!r}, {sorted(fields)}; correct it"
        )
    return number, *fields[feature.field]


def _aggregated(feature: WindowFeature, times: Rows, held: Rows, unit: float, now_ms: int) -> float:
    if feature.aggregate == "count":
        return float(len(times))
    if feature.aggregate == "days_since":
        last = int(times.max()) if len(times) else now_ms - feature.window_ms
        return (now_ms - last) / _DAY_MS
    numbers = held[held != NULL] / unit
    if not len(numbers):
        return 0.0
    if feature.aggregate == "sum":
        return float(numbers.sum())
    return float(numbers.mean() if feature.aggregate == "mean" else numbers.max())
