"""What a crash, or the last close, left undone, done before anything new is taken in."""

from collections.abc import Iterator

from dayfly.engine.decisions import Decisions, Recall
from dayfly.engine.durable.host import Host
from dayfly.engine.durable.recovered import Recovered
from dayfly.engine.durable.standing import Alive
from dayfly.engine.inputs import FragmentEnded
from dayfly.engine.runtime import Outcome
from dayfly.privacy.fragments import Destroyed, DestroyReason, Tombstone
from dayfly.privacy.fragments.tombstones.durable import DurableGraveyard
from dayfly.privacy.fragments.tombstones.log import TombstoneLog

__all__ = ["bury_the_lost", "carry_out_undone"]


def bury_the_lost(host: Host, graves: DurableGraveyard, log: TombstoneLog, now_ms: int) -> int:
    """Tombstones for fragments whose keys died with the last process; returns how many there were.

    Args:
        host: With the recovered standing.
        graves: Over `log`, with everything that the host's log knows appended already.
        log: The tombstone log; one that was closed in the middle may hold a stone whose end was not logged.
        now_ms: When they are found dead.
    """
    lost = list(host.standing.alive.values())
    graves.bury_lost(_stone(fragment, now_ms) for fragment in lost if log.find(fragment.minted.jti) is None)
    graves.settle(0)
    if lost:
        told = Decisions(recalls=tuple(_recalls(lost, now_ms)))
        host.note(Outcome(told, destroyed=tuple(_death(fragment, now_ms) for fragment in lost)))
        host.log_effects()
    return len(lost)


def _recalls(lost: list[Alive], now_ms: int) -> Iterator[Recall]:
    """One recall per audience, so that nobody waits to open what has no key any more."""
    by_audience: dict[str, list[str]] = {}
    for fragment in lost:
        by_audience.setdefault(fragment.minted.order.audience, []).append(fragment.minted.order.order_id)
    for audience, order_ids in by_audience.items():
        yield Recall(0, now_ms, tuple(order_ids), audience, "lost")


def carry_out_undone(host: Host, recovered: Recovered, now_ms: int) -> None:
    """Tell the shard which fragments ended, and mint and recall what was decided and shown to nobody."""
    live = host.engine.shard.orders.live
    ended = [
        FragmentEnded(now_ms, order_id, leases == 0)
        for order_id, leases in host.standing.untold.items()
        if order_id in live
    ]
    host.carried_out(recovered.position)
    # Tag changes of the past come before those that time has brought since.
    host.note(Outcome(Decisions(tags=tuple(recovered.undone_tags))))
    host.standing.untold.clear()
    host.note(host.engine.apply(ended, now_ms))
    recalls = recovered.undone_recalls
    void = {order_id for recall in recalls for order_id in recall.order_ids}
    orders = [made for made in recovered.undone_orders if made.order.order_id not in void]
    if orders or recalls:
        decided = Decisions(orders=tuple(orders), recalls=tuple(recalls))
        host.note(host.engine.carry_out(decided, now_ms))


def _stone(fragment: Alive, now_ms: int) -> Tombstone:
    minted = fragment.minted
    return Tombstone(
        jti=minted.jti,
        kc=minted.kc,
        iat=minted.iat,
        exp=minted.exp,
        dead_ms=now_ms,
        reason=DestroyReason.LOST,
        leases=fragment.leases,
    )


def _death(fragment: Alive, now_ms: int) -> Destroyed:
    minted = fragment.minted
    return Destroyed(
        jti=minted.jti,
        order_id=minted.order.order_id,
        audience=minted.order.audience,
        subject=minted.order.subject,
        reason=DestroyReason.LOST,
        at_ms=now_ms,
        leases=fragment.leases,
        consent=minted.order.consent,
    )
