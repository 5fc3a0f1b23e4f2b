"""The full decision at the mint and at each lease: consent as it stands now, and the cross-border table. It fails closed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from dayfly.engine.policy.model import Policy
from dayfly.engine.shard.consent_needs import trigger_request
from dayfly.engine.triggers import Trigger
from dayfly.privacy.audit_log import AuditLog
from dayfly.privacy.consent import Decider, PersonConsents, ReasonCode
from dayfly.privacy.errors import ConsentRefused, TransferRefused
from dayfly.privacy.fragments import OrderView
from dayfly.privacy.transfers import (
    FieldClass,
    TransferCounts,
    TransferRequest,
    TransferTable,
    decide_transfer,
)

__all__ = ["Gate"]


class _Rule(NamedTuple):
    """What the gate needs to know of a trigger, whoever the person is."""

    country: str
    decider: Decider
    classes: dict[str, FieldClass]
    """Class of each field by its name."""


def _rule(trigger: Trigger) -> _Rule:
    classes = {
        entry.name: FieldClass.SENSITIVE if entry.sensitive else FieldClass.ORDINARY
        for entry in trigger.fields
    }
    return _Rule(trigger.recipient_country, Decider(trigger_request(trigger)), classes)


def _part_of(table: TransferTable | None, shards: int) -> TransferTable | None:
    """The table with an equal part of each threshold, rounded down."""
    if table is None or shards == 1:
        return table
    parts = tuple(
        msgspec.structs.replace(threshold, below=threshold.below // shards) for threshold in table.thresholds
    )
    return msgspec.structs.replace(table, thresholds=parts)


@dataclass(slots=True)
class Gate:
    """Called by the fragment service inside its atomic step.

    Attributes:
        policy: The policy in force, asked at each decision.
        consents: A person's consents by pseudonym.
        counts: People whose data crossed a border this year.
        audit: Gets every decision.
        shards: Number of stores that share the yearly head-counts. Each has an equal part of every threshold, so that all
            together stay below it whoever they count; that stops earlier than one common count would, never later.
    """

    policy: Callable[[], Policy]
    consents: Callable[[bytes], PersonConsents]
    counts: TransferCounts
    audit: AuditLog
    shards: int = 1
    _table: TransferTable | None = field(default=None, init=False)
    _of: Policy | None = field(default=None, init=False)
    _rules: dict[str, _Rule] = field(default_factory=dict, init=False)

    def __call__(self, view: OrderView) -> None:
        """Let the fragment through, or raise.

        Raises:
            ConsentRefused: the person's consents do not allow it now, or the trigger is no longer in the policy.
            TransferRefused: the table does not carry these fields to that country, or a head-count is full.
        """
        policy = self.policy()
        if policy is not self._of:
            self._of, self._rules = policy, {trigger.name: _rule(trigger) for trigger in policy.triggers}
            self._table = _part_of(policy.transfer_table, self.shards)
        rule = self._rules.get(view.rule.id)
        if rule is None:
            raise ConsentRefused(
                f"trigger={view.rule.id!r} must be in the policy in force; publish it again",
                request=view,
                reason=ReasonCode.NO_RECORD,
            )
        self._consent(rule, view)
        self._transfer(rule, policy, view)
        if view.at == "lease":
            self.audit.append(
                "lease",
                view.subject,
                view.now_ms,
                {"order_id": view.order_id, "audience": view.audience, "uses_before": view.uses},
            )

    def _consent(self, rule: _Rule, view: OrderView) -> None:
        person = self.consents(view.subject)
        decision = rule.decider(person, view.now_ms)
        self.audit.consent(decision, view.subject, view.now_ms)
        if decision.allowed:
            return
        reserved = any(use.reservation_id == view.order_id for use in person.uses)
        if decision.reason is ReasonCode.SPENT and reserved and view.order_id not in person.restored:
            return  # the use that this very fragment spent
        decision.require()

    def _transfer(self, rule: _Rule, policy: Policy, view: OrderView) -> None:
        table = self._table
        if table is None:
            if rule.country == policy.settings.controller_country:
                return
            raise TransferRefused(
                f"recipient_country={rule.country!r} must be in a transfer table and the policy has none;"
                " declare the transfer with its legal basis"
            )
        classes = {rule.classes[name] for name in view.field_names if name in rule.classes}
        for field_class in sorted(classes):
            request = TransferRequest(rule.country, view.audience, field_class, view.subject)
            decision = decide_transfer(request, table, self.counts, view.now_ms)
            self.audit.transfer(decision, view.now_ms)
            decision.require()
            if decision.row is not None:
                self.counts.count(view.subject, view.audience, field_class, view.now_ms)
