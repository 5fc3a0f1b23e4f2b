"""Recorders around what an engine does, so that the host can write it into the log before anybody is told."""

from collections.abc import Callable, Iterable
from typing import Final

from dayfly.engine.decisions import OrderMade
from dayfly.engine.durable.effects import Counted, Ended, Minted
from dayfly.engine.lineage.explain import Explanation
from dayfly.engine.lineage.shape import LineageShape
from dayfly.engine.lineage.vault import LineageVault
from dayfly.engine.runtime import Outcome
from dayfly.privacy.fragments import Destroyed, Fragment, FragmentOrder, OrderField, Profile
from dayfly.privacy.transfers import FieldClass, TransferCounts

__all__ = ["LineageView", "RecordedCounts", "ended", "minted", "without_values"]


class RecordedCounts(TransferCounts):
    """Head-counts that remember who was counted since `drain`."""

    __slots__ = ("_fresh",)

    _fresh: list[Counted]

    def count(self, subject: bytes, recipient: str, field_class: FieldClass, now_ms: int) -> None:
        """Count a person, and remember it where it was new."""
        if not self.counted(subject, field_class, now_ms, recipient=recipient)[0]:
            self.fresh.append(Counted(subject, recipient, field_class.value, now_ms))
            super().count(subject, recipient, field_class, now_ms)

    @property
    def fresh(self) -> list[Counted]:
        """Counted since the last `drain`."""
        if not hasattr(self, "_fresh"):
            self._fresh = []
        return self._fresh

    def drain(self) -> tuple[Counted, ...]:
        """What was counted since the last call."""
        fresh, self._fresh = tuple(self.fresh), []
        return fresh


class LineageView:
    """A lineage vault that lags behind the log: what was put waits until the frame that states it is durable.

    A fragment whose frame was lost with a crash was never handed out; its order is minted again under another name, and
    the vault must not know the first one.
    """

    def __init__(self, vault: LineageVault) -> None:
        self.vault: Final = vault
        self._waiting: list[Callable[[int], object]] = []

    def declare(self, shapes: Iterable[LineageShape]) -> None:
        """At once: shapes are no decision and hold nothing of a person."""
        self.vault.declare(shapes)

    def put(self, jti: str, order: FragmentOrder) -> None:
        """Wait for durability."""
        self._waiting.append(lambda position: self.vault.put(jti, order, position=position))

    def merge(self, subject: bytes, other: bytes) -> None:
        """Wait for durability."""
        self._waiting.append(lambda position: self.vault.merge(subject, other, position=position))

    def erase(self, subject: bytes) -> int:
        """Wait for durability; nothing is gone yet, so 0."""
        self._waiting.append(lambda position: self.vault.erase(subject, position=position))
        return 0

    def take_waiting(self) -> list[Callable[[int], object]]:
        """What waits, to be called with its log position when that is durable."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def explain(self, jti: str, field: str) -> Explanation:
        """From the vault."""
        self.vault.flush()
        return self.vault.explain(jti, field)

    def explain_all(self, jti: str) -> tuple[Explanation, ...]:
        """From the vault."""
        self.vault.flush()
        return self.vault.explain_all(jti)

    def jti_of(self, order_id: str) -> str:
        """From the vault."""
        self.vault.flush()
        return self.vault.jti_of(order_id)

    def sync(self) -> None:
        """Make what reached the vault durable."""
        self.vault.sync()

    def close(self) -> None:
        """Release the vault."""
        self.vault.close()


def without_values(order: FragmentOrder) -> FragmentOrder:
    """The order as lineage needs it: what the fields are called, not what they say."""
    fields = tuple(OrderField(item.name, "", item.valid_until_ms) for item in order.fields)
    return FragmentOrder(
        **{name: getattr(order, name) for name in order.__struct_fields__ if name != "fields"},
        fields=fields,
    )


def minted(outcome: Outcome) -> tuple[Minted, ...]:
    """Records of the fragments that an outcome brought."""
    if not outcome.fragments:
        return ()
    orders = {made.order.order_id: made for made in outcome.decisions.orders}
    return tuple(_minted(fragment, orders[fragment.order_id]) for fragment in outcome.fragments)


def _minted(fragment: Fragment, made: OrderMade) -> Minted:
    clear = fragment.profile is Profile.F0
    return Minted(
        fragment.jti,
        fragment.kc,
        fragment.issued_at_ms // 1000,
        fragment.expires_at_ms // 1000,
        fragment.profile.value,
        "" if clear else fragment.token,
        without_values(made.order),
    )


def ended(destroyed: Iterable[Destroyed]) -> tuple[Ended, ...]:
    """Records of deaths."""
    return tuple(
        Ended(
            item.jti,
            item.order_id,
            item.audience,
            item.subject,
            item.reason.value,
            item.at_ms,
            item.leases,
            item.consent,
        )
        for item in destroyed
    )
