"""A channel's part in averaging models: a user's own `fit`, and what is summed of its result.

Claim: a channel's summand is its rows times the change of its weights (and of its control variate), rounded to fixed point.
Argument: the summand is computed once per round from the weights that were sent; a control variate becomes the channel's only when
the coordinator says that the round's sum held it, so that the coordinator's is always the average of the channels'.
Source: McMahan et al., AISTATS 2017 (FedAvg); Li et al., MLSys 2020 (FedProx); Karimireddy et al., ICML 2020 (SCAFFOLD, option II).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from dayfly.federation.accounting import EXACT, ReleaseBudget, release_name
from dayfly.federation.errors import BadMessage, InvalidData, Refused
from dayfly.federation.secagg import FixedPoint
from dayfly.federation.secagg.messages import decode
from dayfly.federation.wire import SERVER

__all__ = ["AverageSpec", "AverageTask", "Correction", "Fit", "FitWorkload", "LocalFit", "Method", "split"]

Floats = NDArray[np.float64]
Weights = list[Floats]
Method = Literal["fedavg", "fedprox", "scaffold"]
Correction = Callable[[Weights], Weights]
"""What `fit` adds to its gradient at the weights where it is."""


@dataclass(frozen=True, slots=True)
class LocalFit:
    """What a user's `fit` hands back.

    Attributes:
        weights: Shapes as they were given.
        distance: Sum of the step sizes over all local steps; SCAFFOLD needs it.
    """

    weights: Sequence[NDArray[np.floating]]
    distance: float


D = TypeVar("D")
Fit = Callable[[Weights, D, Correction], LocalFit]
"""`fit(weights, data, correction)`: some steps on the channel's own data, adding `correction(weights)` to each gradient."""


class AverageSpec(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What all channels agree on.

    Attributes:
        method: FedAvg, FedProx or SCAFFOLD.
        shapes: Of the weights.
        proximal: Pull of FedProx toward the weights that were sent; 0 for the others.
        most_rows: Most rows of a channel.
        largest_change: Largest magnitude by which a weight (or control variate) changes in a round.
    """

    method: Method
    shapes: tuple[tuple[int, ...], ...]
    proximal: float
    most_rows: int
    largest_change: float

    @property
    def size(self) -> int:
        """Numbers in all weights."""
        return sum(int(np.prod(shape)) for shape in self.shapes)

    @property
    def words(self) -> int:
        """Length of a summand: rows, changes of weights, and for SCAFFOLD of the control variate."""
        return 1 + self.size * (2 if self.method == "scaffold" else 1)

    def encoder(self, members: int) -> FixedPoint:
        """The encoding that this many summands cannot overflow.

        Raises:
            InvalidSetting: none does with the bounds.
        """
        largest = self.most_rows * max(1.0, self.largest_change)
        bits = min(44, int(np.floor(62 - np.log2(members * largest))))
        return FixedPoint(members, largest, bits)


class AverageTask(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Asks for one local fit.

    Attributes:
        number: Of the round, from 1.
        weights: float64, little-endian.
        control: As the weights; empty but for SCAFFOLD.
        included: Per party the last round whose sum held it; 0 for none.
    """

    number: int
    weights: bytes
    control: bytes
    included: dict[str, int]


def split(vector: Floats, shapes: Sequence[tuple[int, ...]]) -> Weights:
    """Arrays of these shapes from one vector."""
    found, place = [], 0
    for shape in shapes:
        size = int(np.prod(shape))
        found.append(vector[place : place + size].reshape(shape).copy())
        place += size
    return found


def _joined(arrays: Sequence[NDArray[np.floating]]) -> Floats:
    return np.concatenate([np.asarray(array, np.float64).reshape(-1) for array in arrays])


class FitWorkload(Generic[D]):
    """A channel with a model of its own making.

    Args:
        party: Its name.
        fit: Of the user; see `Fit`.
        data: Handed to `fit`; never leaves the channel.
        rows: Weight of this channel in the average.
        run: Of the protocol.
        budget: Is asked for `EXACT` before every sum: the averages are no differential privacy.

    Raises:
        InvalidData: there are no rows.
    """

    def __init__(
        self, party: str, fit: Fit[D], data: D, *, rows: int, run: bytes, budget: ReleaseBudget
    ) -> None:
        if rows < 1:
            raise InvalidData(party, "has no rows; leave it out of the run")
        self._party: Final = party
        self._fit: Final = fit
        self._data: Final = data
        self._rows: Final = rows
        self._run: Final = run
        self._budget: Final = budget
        self._spec: AverageSpec | None = None
        self._control: Floats = np.zeros(0)
        self._pending: tuple[int, Floats] | None = None

    def prepare(self, spec: bytes, *, threshold: int) -> None:  # noqa: ARG002 - secure aggregation's own minimum is enough here
        """Agree to the settings.

        Raises:
            BadMessage: they cannot be read.
            InvalidData: there are more rows than agreed.
        """
        agreed = decode(spec, AverageSpec, party=SERVER)
        if self._rows > agreed.most_rows:
            raise InvalidData(
                self._party, f"has {self._rows} rows, more than most_rows={agreed.most_rows}; agree on more"
            )
        self._spec = agreed
        self._control = np.zeros(agreed.size)

    def words(self, task: bytes, *, members: int) -> NDArray[np.uint64]:
        """Ring words of the summand: rows, rows times changes.

        Raises:
            BadMessage: the task cannot be read, or is for another model.
            InvalidData: `fit` handed back other shapes, or numbers that are not finite.
            SpendRefused: the channel does not take part in exact sums.
            RangeExceeded: a weight changed by more than agreed.
        """
        asked = decode(task, AverageTask, party=SERVER)
        spec = self._spec
        if spec is None:
            raise Refused("spec=<none> must be agreed on first; send hello")
        size = spec.size
        if len(asked.weights) != 8 * size or len(asked.control) != (
            8 * size if spec.method == "scaffold" else 0
        ):
            raise BadMessage(
                SERVER, f"must send {size} weights, and as many control variates with SCAFFOLD alone"
            )
        self._budget.spend(
            run=self._run, release=release_name(f"exact average round {asked.number}", task), loss=EXACT
        )
        self._settle(asked)
        sent = np.frombuffer(asked.weights, "<f8").astype(np.float64)
        control = np.frombuffer(asked.control, "<f8").astype(np.float64)
        change, distance = self._fitted(spec, sent, control)
        parts = [change]
        if spec.method == "scaffold":
            own = self._control - control - change / distance
            parts.append(own - self._control)
            self._pending = (asked.number, own)
        vector = np.concatenate([[1.0], *parts]) * self._rows
        return spec.encoder(members).encode(vector)

    def _settle(self, task: AverageTask) -> None:
        """Take over the control variate of a round whose sum held it; drop another."""
        if self._pending is not None and task.number > self._pending[0]:
            if task.included.get(self._party, 0) == self._pending[0]:
                self._control = self._pending[1]
            self._pending = None

    def _fitted(self, spec: AverageSpec, sent: Floats, control: Floats) -> tuple[Floats, float]:
        fixed = split(control - self._control, spec.shapes) if spec.method == "scaffold" else None
        start = split(sent, spec.shapes)

        def correction(weights: Weights) -> Weights:
            if fixed is not None:
                return fixed
            return [spec.proximal * (now - then) for now, then in zip(weights, start, strict=True)]

        result = self._fit(split(sent, spec.shapes), self._data, correction)
        if tuple(np.shape(array) for array in result.weights) != spec.shapes:
            raise InvalidData(
                self._party, f"has a fit whose weights must keep the shapes {list(spec.shapes)}"
            )
        change = _joined(result.weights) - sent
        if not np.isfinite(change).all() or not 0 < result.distance < float("inf"):
            raise InvalidData(
                self._party,
                "has a fit that must hand back finite weights and a distance above 0; lower its step size",
            )
        return change, result.distance
