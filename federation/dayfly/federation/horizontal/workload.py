"""What a channel computes when a generalised linear model is trained."""

import numpy as np
from numpy.typing import NDArray

from dayfly.federation.accounting import EXACT, ReleaseBudget, release_name
from dayfly.federation.errors import Refused
from dayfly.federation.horizontal.data import Shard
from dayfly.federation.horizontal.messages import GlmSpec, decode_spec, decode_task
from dayfly.federation.horizontal.starts import local_optimum
from dayfly.federation.horizontal.sums import scale_of_labels, sums_of
from dayfly.federation.secagg import FixedPoint

__all__ = ["GlmWorkload"]


class GlmWorkload:
    """A channel's part in training a generalised linear model.

    Args:
        shard: Its rows.
        run: Of the protocol.
        budget: Is asked for `EXACT` before every sum: the sums are no differential privacy.
    """

    __slots__ = ("_budget", "_run", "_shard", "_spec")

    def __init__(self, shard: Shard, *, run: bytes, budget: ReleaseBudget) -> None:
        self._shard = shard
        self._run = run
        self._budget = budget
        self._spec: GlmSpec | None = None

    def prepare(self, spec: bytes, *, threshold: int) -> None:  # noqa: ARG002 - secure aggregation's own minimum is enough here
        """Check the rows against what was agreed.

        Raises:
            BadMessage: the agreement cannot be read.
            InvalidData: the rows do not fit it.
        """
        agreed = decode_spec(spec)
        self._shard.check(agreed)
        self._spec = agreed

    def words(self, task: bytes, *, members: int) -> NDArray[np.uint64]:
        """Ring words of the sums.

        Raises:
            BadMessage: the task cannot be read.
            Refused: it does not fit what was agreed.
            SpendRefused: the channel does not take part in exact sums.
            RangeExceeded: a sum does not fit the encoding.
        """
        asked = decode_task(task)
        spec = self._spec
        if spec is None or asked.family not in (spec.family, "linear"):
            raise Refused(f"family={asked.family!r} must be the agreed one; begin a session for another")
        count = len(spec.features)
        sizes = (len(asked.center), len(asked.scale), len(asked.coefficients))
        if sizes != (count, count, count + 1) or len(asked.penalty) not in (0, count + 1):
            raise Refused(f"task must have {count} centers and scales and {count + 1} coefficients")
        if not all(0 < scale < float("inf") for scale in asked.scale) or min(asked.penalty, default=0) < 0:
            raise Refused(
                "scales must be above 0 and finite, and penalties not below 0; the coordinator is at fault"
            )
        self._budget.spend(run=self._run, release=release_name("exact glm sums", task), loss=EXACT)
        if asked.penalty:
            sums = local_optimum(self._shard, asked, members=members)
        else:
            sums = sums_of(self._shard, asked, label_scale=scale_of_labels(spec))
        return FixedPoint(members, asked.largest, asked.fraction_bits).encode(sums.packed())
