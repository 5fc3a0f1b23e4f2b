"""DP-FedAvg: averages of clipped user changes under distributed noise, with a fixed clip or one that follows a quantile."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dayfly.federation.errors import InvalidSetting
from dayfly.federation.horizontal.local_fit import split
from dayfly.federation.horizontal.private_fit import PrivateSpec, PrivateTask
from dayfly.federation.horizontal.session import SecureSession
from dayfly.federation.secagg.messages import encode
from dayfly.federation.wire import Caller
from dayfly.privacy.accounting import ZcdpLoss

__all__ = ["PrivateAverage", "PrivateSettings", "average_privately"]


@dataclass(frozen=True, slots=True)
class PrivateSettings:
    """How a model is trained.

    Attributes:
        spec: What the channels agree on; `spec.bit_unit` above 0 makes the clip adaptive.
        rounds: Secure sums, each of which loses `spec.loss`.
        clip: First L2 norm that a user's change is cut to.
        expected_users: Public number that sums are divided by; the real number stays unknown.
        quantile: Share of users that an adaptive clip leaves whole.
        clip_rate: How fast an adaptive clip moves.

    Raises:
        InvalidSetting: a number is out of range.
    """

    spec: PrivateSpec
    rounds: int
    clip: float
    expected_users: int
    quantile: float = 0.5
    clip_rate: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.clip < float("inf"):
            raise InvalidSetting(
                f"clip={self.clip} must be above 0 and finite; pass a typical norm of a change"
            )
        if self.expected_users < 1:
            raise InvalidSetting(
                f"expected_users={self.expected_users} must be at least 1; pass a public estimate"
            )
        if not 0 < self.quantile < 1 or not 0 < self.clip_rate <= 1:
            raise InvalidSetting(
                f"quantile={self.quantile} must be inside 0 to 1, and clip_rate={self.clip_rate} above 0 and at most 1"
            )


@dataclass(frozen=True, slots=True)
class PrivateAverage:
    """The model after the last round.

    Attributes:
        weights: In the shapes that were given.
        clips: Of every round.
        included: Who was in every round's sum.
        loss: Of all rounds together.
    """

    weights: tuple[NDArray[np.float64], ...]
    clips: tuple[float, ...]
    included: tuple[tuple[str, ...], ...]
    loss: ZcdpLoss


def average_privately(
    caller: Caller, weights: Sequence[NDArray[np.floating]], settings: PrivateSettings, *, session: bytes
) -> PrivateAverage:
    """Train over all parties of the caller's grid.

    Guarantees:
        `loss`, zCDP at user level (see `private_fit`); rounds add up, whatever each was chosen from.

    Args:
        caller: The coordinator's end of the wire.
        weights: To start from.
        settings: Of the training.
        session: 16 random bytes, never used again.

    Raises:
        InvalidSetting: `channels` is not the number of parties, or the weights have other shapes.
        Declined: a channel's budget is used up, or its fit fails; names it.
        TooFewParties: fewer than the threshold are left.
    """
    spec = settings.spec
    if spec.channels != len(caller.grid.parties()):
        raise InvalidSetting(
            f"channels={spec.channels} must be the number of parties, {len(caller.grid.parties())}"
        )
    if tuple(np.shape(array) for array in weights) != spec.shapes:
        raise InvalidSetting(f"weights must have the agreed shapes {list(spec.shapes)}; pass those")
    loss = spec.loss
    secure = SecureSession(caller, session=session, rounds=settings.rounds, words=spec.size + 1)
    secure.start(encode(spec))
    point = np.concatenate([np.asarray(array, np.float64).reshape(-1) for array in weights])
    clips, included = [settings.clip], []
    for number in range(1, settings.rounds + 1):
        clip = clips[-1]
        opened = secure.sum(encode(PrivateTask(number, point.astype("<f8").tobytes(), clip)))
        sums = opened.words.view(np.int64).astype(np.float64)
        point = point + sums[:-1] * (clip / spec.unit / settings.expected_users)
        if spec.bit_unit:
            whole = min(max(float(sums[-1]) / spec.bit_unit / settings.expected_users, 0.0), 1.0)
            clip = clip * math.exp(-settings.clip_rate * (whole - settings.quantile))
        clips.append(clip)
        included.append(opened.included)
    total = ZcdpLoss(loss.rho * settings.rounds)
    return PrivateAverage(tuple(split(point, spec.shapes)), tuple(clips[:-1]), tuple(included), total)
