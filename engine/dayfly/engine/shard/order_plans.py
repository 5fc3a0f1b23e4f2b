"""What of an order does not depend on the person, worked out once per policy and trigger."""

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from dayfly.engine.lineage.derive import shapes_of
from dayfly.engine.lineage.shape import LineageShape
from dayfly.engine.policy.model import Policy
from dayfly.engine.shard.consent_needs import trigger_request
from dayfly.engine.shard.reading import MeasurePlan, Reader, Want
from dayfly.engine.tags.tree import Measure
from dayfly.engine.triggers import OnTag, TagHeld, Trigger, TriggerField
from dayfly.privacy.consent import Decider
from dayfly.privacy.deident import Keep, Masking, Pseudonymise, parse_masking
from dayfly.privacy.fragments import Profile, RuleRef

__all__ = ["FieldPlan", "OrderPlan", "plans_of"]


class FieldPlan(msgspec.Struct, frozen=True, gc=False):
    """One field of a trigger.

    Attributes:
        name: Claim name.
        index: Position in the lineage shape.
        mask: Masking to apply here; None where the value stays as it is or only the mint has the key.
        tag: Number of the tag that must be asked, -1 for none.
        measure: How the gathered cells become a value; None where the field says whether the tag is held.
        first, end: Range in `OrderPlan.wants`.
    """

    name: str
    index: int
    mask: Masking | None
    tag: int
    measure: MeasurePlan | None
    first: int
    end: int


class OrderPlan(msgspec.Struct, frozen=True, gc=False):
    """One trigger.

    Attributes:
        decider: Its consent request.
        wants: int64[n, 4], all that is gathered for an order, in one walk over the person's history.
        cause: First row of `wants` for the tag that fires it; None for a trigger on an event.
    """

    name: str
    audience: str
    purpose: str
    topic: str
    rule: RuleRef
    uses: int | None
    ttl_seconds: int
    cooldown_ms: int
    profile: Profile
    decider: Decider
    shape: LineageShape
    fields: tuple[FieldPlan, ...]
    wants: npt.NDArray[np.int64]
    cause: int | None


def plans_of(policy: Policy, reader: Reader) -> tuple[OrderPlan, ...]:
    """Plans of the triggers of the policy in force, in its order."""
    shapes = shapes_of(policy)
    return tuple(_plan(trigger, shapes[trigger.name], reader) for trigger in policy.triggers)


def _plan(trigger: Trigger, shape: LineageShape, reader: Reader) -> OrderPlan:
    wants: list[Want] = []
    fields = tuple(_field(entry, shape.index(entry.name), wants, reader) for entry in trigger.fields)
    cause = len(wants) if isinstance(trigger.when, OnTag) else None
    if isinstance(trigger.when, OnTag):
        wants += _tag_wants(trigger.when.tag, reader)
    return OrderPlan(
        name=trigger.name,
        audience=trigger.audience,
        purpose=trigger.purpose,
        topic=trigger.topic,
        rule=RuleRef(trigger.name, trigger.version),
        uses=trigger.uses,
        ttl_seconds=trigger.ttl_seconds,
        cooldown_ms=trigger.cooldown_seconds * 1000,
        profile=Profile(trigger.profile),
        decider=Decider(trigger_request(trigger)),
        shape=shape,
        fields=fields,
        wants=np.array(wants, np.int64).reshape(-1, 4),
        cause=cause,
    )


def _field(entry: TriggerField, index: int, wants: list[Want], reader: Reader) -> FieldPlan:
    first, source = len(wants), entry.source
    tag, measure = -1, None
    if isinstance(source, Measure):
        measure = reader.plan(source)
    else:
        tag = reader.tag_number(source.tag)
        if isinstance(source, TagHeld):
            wants += _tag_wants(source.tag, reader)
        else:
            captures = reader.arrays.compiled.tags[tag].captures
            measure = reader.plan(next(item.measure for item in captures if item.name == source.capture))
    if measure is not None:
        wants.append(measure.want)
    return FieldPlan(entry.name, index, _mask(entry.masking), tag, measure, first, len(wants))


def _tag_wants(name: str, reader: Reader) -> list[Want]:
    return reader.tag_wants(reader.arrays.compiled.tags[reader.tag_number(name)])


def _mask(masking: Any) -> Masking | None:
    mask = parse_masking(masking)
    return None if isinstance(mask, Keep | Pseudonymise) else mask
