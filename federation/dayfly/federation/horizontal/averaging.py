"""FedAvg, FedProx and SCAFFOLD over secure sums: the coordinator sees the average change of a round, no channel's own.

Claim: with one full-gradient step per round, FedAvg takes the step of gradient descent on the pooled rows, up to fixed point.
Argument: the gradient of a mean over rows is the mean of the channels' gradients weighted by their rows.
Not claimed: differential privacy; the averages are exact. SCAFFOLD converges to the pooled optimum with several local steps,
where FedAvg in general does not (Karimireddy et al., ICML 2020, section 3).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dayfly.federation.errors import InvalidSetting
from dayfly.federation.horizontal.local_fit import AverageSpec, AverageTask, Method, split
from dayfly.federation.horizontal.session import SecureSession
from dayfly.federation.secagg.messages import encode
from dayfly.federation.wire import Caller

__all__ = ["AverageRound", "AverageSettings", "Averaged", "average"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class AverageSettings:
    """How models are averaged.

    Attributes:
        method: FedAvg, FedProx or SCAFFOLD.
        rounds: Secure sums.
        most_rows: Most rows of a channel.
        largest_change: Largest magnitude by which a weight, or with SCAFFOLD a control variate, changes in a round.
        proximal: Of FedProx; above 0 with it, 0 otherwise.

    Raises:
        InvalidSetting: a number is out of range.
    """

    method: Method
    rounds: int
    most_rows: int
    largest_change: float
    proximal: float = 0.0

    def __post_init__(self) -> None:
        if (self.method == "fedprox") != (0 < self.proximal < float("inf")):
            raise InvalidSetting(
                f"proximal={self.proximal} must be above 0 with fedprox and 0 with {self.method}; pass another"
            )
        if not 0 < self.largest_change < float("inf"):
            raise InvalidSetting(
                f"largest_change={self.largest_change} must be above 0 and finite; pass the bound of a round's change"
            )
        if self.most_rows < 1:
            raise InvalidSetting(f"most_rows={self.most_rows} must be at least 1; pass the largest channel's")


@dataclass(frozen=True, slots=True)
class AverageRound:
    """One secure sum.

    Attributes:
        included: Whose fits it holds.
        rows: Of all of them.
        largest_change: Of the averaged weights.
        lost: Parties that were lost in it.
    """

    included: tuple[str, ...]
    rows: int
    largest_change: float
    lost: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Averaged:
    """The model after the last round.

    Attributes:
        weights: In the shapes that were given.
        rounds: What happened.
    """

    weights: tuple[Floats, ...]
    rounds: tuple[AverageRound, ...]


def average(
    caller: Caller,
    weights: Sequence[NDArray[np.floating]],
    settings: AverageSettings,
    *,
    session: bytes,
    shown: Callable[[AverageRound], object] = lambda _: None,
) -> Averaged:
    """Train over all parties of the caller's grid.

    Args:
        caller: The coordinator's end of the wire.
        weights: To start from.
        settings: Of the training.
        session: 16 random bytes, never used again.
        shown: Told each round.

    Raises:
        Declined: a party's fit fails or changes more than agreed; names the party and its cause.
        TooFewParties: fewer than the threshold are left.
    """
    arrays = [np.asarray(array, np.float64) for array in weights]
    spec = AverageSpec(
        settings.method,
        tuple(array.shape for array in arrays),
        settings.proximal,
        settings.most_rows,
        settings.largest_change,
    )
    secure = SecureSession(caller, session=session, rounds=settings.rounds, words=spec.words)
    members = secure.start(encode(spec))
    encoder = spec.encoder(len(members))
    point = np.concatenate([array.reshape(-1) for array in arrays])
    controls = np.zeros(spec.size if spec.method == "scaffold" else 0)  # rows times control variate, summed
    included = dict.fromkeys(members, 0)
    most_rows_seen, reports = 1.0, []
    for number in range(1, settings.rounds + 1):
        control = controls / most_rows_seen
        task = AverageTask(number, point.astype("<f8").tobytes(), control.astype("<f8").tobytes(), included)
        opened = secure.sum(encode(task))
        vector = encoder.decode(opened.words)
        rows, change = float(vector[0]), vector[1 : 1 + spec.size] / vector[0]
        most_rows_seen = max(
            most_rows_seen, rows
        )  # a channel that is away keeps its share of the control variate
        point = point + change
        controls = controls + vector[1 + spec.size :]
        included = included | dict.fromkeys(opened.included, number)
        reports.append(
            AverageRound(
                opened.included,
                round(rows),
                float(np.abs(change).max()),
                tuple(failure.party for failure in opened.lost),
            )
        )
        shown(reports[-1])
    return Averaged(tuple(split(point, spec.shapes)), tuple(reports))
