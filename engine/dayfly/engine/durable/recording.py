"""Recorders around what an engine does, so that the host can write it into the log before anybody is told."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
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
    the vault must not know the first one. Each write bears the position of the frame that a recovery would repeat it from.

    Attributes:
        inputs: Position of the newest frame of inputs.
    """

    def __init__(self, vault: LineageVault) -> None:
        self.vault: Final = vault
        self.inputs = 0
        self._waiting: list[tuple[int, Callable[[int], object]]] = []
        self._minted: list[Callable[[int], object]] = []
        self._erasing: tuple[int, list[bytes]] = (-1, [])

    def declare(self, shapes: Iterable[LineageShape]) -> None:
        """At once: shapes are no decision and hold nothing of a person."""
        self.vault.declare(shapes)

    def put(self, jti: str, order: FragmentOrder) -> None:
        """Wait for `logged`, and for durability."""
        self._minted.append(lambda position: self.vault.put(jti, order, position=position))

    def merge(self, subject: bytes, other: bytes) -> None:
        """Wait for durability."""
        self._waiting.append(
            (self.inputs, lambda position: self.vault.merge(subject, other, position=position))
        )

    def erase(self, subject: bytes) -> int:
        """Wait for durability; nothing is gone yet, so 0."""
        at, names = self._erasing
        if at == self.inputs:
            names.append(subject)
        else:
            at, names = self._erasing = self.inputs, [subject]
            self._waiting.append((at, lambda position: self.erase_now(names, position)))
        return 0

    def erase_now(self, names: Sequence[bytes], position: int) -> None:
        """Destroy what is about a person's pseudonyms, unless that has been done already."""
        if position > self.vault.applied:
            for name in names[:-1]:  # the vault passes over what comes at a position that it has seen
                self.vault.erase(name)
            self.vault.erase(names[-1], position=position)

    def logged(self, position: int) -> None:
        """The frame at a position states everything that was put since the last call."""
        self._waiting += [(position, write) for write in self._minted]
        self._minted = []

    def take_waiting(self) -> list[Callable[[], object]]:
        """What waits, in the order of the log, to be called when it is durable up to here."""
        waiting, self._waiting = self._waiting, []
        return [partial(write, position) for position, write in waiting]

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
