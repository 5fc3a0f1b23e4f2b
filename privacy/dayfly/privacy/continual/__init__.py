"""Continual release: running totals and sliding windows for dashboards that refresh for a year, paid for once.

    plan = StreamPlan.running(series=1_200, length=8_760)
    scale = plan.scale(rho_of_epsilon_delta(2, Fraction(1, 10**6)))     # for all 8,760 steps together
    ledger.spend(... cost_of(plan.loss(scale)) ...)
    stream = StreamFile.create(path, RunningTotals(plan, scale, name="orders by shop"))
    published = stream.publish(0, increments, OpenDpNoise())

Where what is proven: `factors` (how far one contribution reaches through rounded arithmetic), `participation` (worst case
over a customer's steps), `plan` (the privacy of the whole stream), `windows`, `limiter`, `files` (crashes).
"""

from .factors import Blt, SquareRoot, blt, tabulated_lengths
from .files import StreamFile
from .limiter import ParticipationLimiter
from .participation import Participation
from .plan import StreamPlan
from .published import Published
from .snapshots import Stream, dump_stream, load_stream
from .totals import RunningTotals
from .windows import SlidingTotals

__all__ = [
    "Blt",
    "Participation",
    "ParticipationLimiter",
    "Published",
    "RunningTotals",
    "SlidingTotals",
    "SquareRoot",
    "Stream",
    "StreamFile",
    "StreamPlan",
    "blt",
    "dump_stream",
    "load_stream",
    "tabulated_lengths",
]
