"""A channel's part in DP-FedAvg: one fit per user, clipped, rounded toward zero, summed, with a share of noise.

Claim: one round is zCDP with `PrivateSpec.loss`, for neighbours that differ in all of one user's data in one channel, or in up to
`channels_per_user` of them.
Precondition: as `noise_shares`.
Argument: a user's integers have an L2 norm of at most `unit`, checked in integers after rounding, and its bit adds `bit_unit` in one more
coordinate. A fit that gives no finite numbers counts as no change, so that it cannot end the run. Noise is drawn once per round.
Source: McMahan, Ramage, Talwar, Zhang, ICLR 2018 (user-level clipping); Andrew, Thakkar, McMahan, Ramaswamy, NeurIPS 2021 (adaptive).
"""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Final, Generic, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from dayfly.federation.accounting import ReleaseBudget, release_name
from dayfly.federation.errors import BadMessage, InvalidData, Refused
from dayfly.federation.horizontal.local_fit import split
from dayfly.federation.noise_shares import NoiseShares
from dayfly.federation.secagg import least_threshold
from dayfly.federation.secagg.messages import decode
from dayfly.federation.wire import SERVER
from dayfly.privacy.accounting import ZcdpLoss
from dayfly.privacy.accounting.rounding import sqrt_up
from dayfly.privacy.noise import NoiseSource

__all__ = ["PrivateFitWorkload", "PrivateSpec", "PrivateTask", "UserFit", "clipped"]

Floats = NDArray[np.float64]
_SHRINK: Final = (
    1 - 2.0**-40
)  # what float rounding could add to a norm is taken off before rounding toward zero

D = TypeVar("D")
UserFit = Callable[[list[Floats], D], Any]
"""`fit(weights, data)` of one user: the weights after some steps, in the same shapes."""


class PrivateSpec(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What all channels agree on.

    Attributes:
        shapes: Of the weights.
        noise_multiplier: Numerator and denominator of the noise's scale over the L2 sensitivity.
        channels: How many there are.
        most_users: Most users of a channel.
        channels_per_user: In how many channels a user may be.
        colluding: How many channels may tell others their noise.
        unit: Integer that a norm of the clip becomes.
        bit_unit: Integer that says "was not clipped"; 0 where the clip is fixed.
    """

    shapes: tuple[tuple[int, ...], ...]
    noise_multiplier: tuple[int, int]
    channels: int
    most_users: int
    channels_per_user: int = 1
    colluding: int = 0
    unit: int = 1 << 20
    bit_unit: int = 0

    @property
    def size(self) -> int:
        """Numbers in all weights."""
        return sum(int(np.prod(shape)) for shape in self.shapes)

    @property
    def l2_squared(self) -> int:
        """Squared L2 sensitivity in integers."""
        return self.channels_per_user**2 * (self.unit**2 + self.bit_unit**2)

    @property
    def shares(self) -> NoiseShares:
        """How the noise is spread.

        Raises:
            InvalidSetting: too many may collude, the noise is too small to be spread, or the sums do not fit the ring.
        """
        scale = Fraction(*self.noise_multiplier) * sqrt_up(self.l2_squared)
        shares = NoiseShares.among(scale, members=least_threshold(self.channels), colluding=self.colluding)
        shares.check_room(self.channels * self.most_users * self.unit, parties=self.channels)
        return shares

    @property
    def loss(self) -> ZcdpLoss:
        """Of one round."""
        return self.shares.loss(self.l2_squared, self.size + 1)


class PrivateTask(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Asks for one round.

    Attributes:
        number: Of the round, from 1.
        weights: float64, little-endian.
        clip: Largest L2 norm of a user's change.
    """

    number: int
    weights: bytes
    clip: float


def clipped(change: Floats, clip: float, *, unit: int, bit_unit: int) -> NDArray[np.int64]:
    """A user's integers: its change, at most `unit` long, and `bit_unit` if it was not clipped.

    Args:
        change: float64 (d,).
        clip: L2 norm that becomes `unit`.
        unit: See `PrivateSpec`.
        bit_unit: See `PrivateSpec`.

    Returns:
        int64 (d + 1,).
    """
    found = np.zeros(change.size + 1, np.int64)
    largest = float(np.abs(change).max(initial=0.0))
    if not largest < float("inf"):
        return found
    norm = largest * float(np.linalg.norm(change / largest)) if largest else 0.0
    whole = norm <= clip
    length = unit * _SHRINK / (clip if whole else norm)
    integers = np.trunc(change * length).astype(np.int64)
    if int((integers**2).sum()) <= unit**2:
        found[:-1] = integers
        found[-1] = bit_unit if whole else 0
    return found


class PrivateFitWorkload(Generic[D]):
    """A channel with one data set per user.

    Args:
        party: Its name.
        fit: Of one user.
        users: Every user's data; one entry per user.
        noise: Where shares come from.
        run: Of the protocol.
        budget: Is charged `PrivateSpec.loss` once per round, before a fit is run.

    Raises:
        InvalidData: there are no users.
    """

    def __init__(
        self,
        party: str,
        fit: UserFit[D],
        users: Mapping[str, D],
        *,
        noise: NoiseSource,
        run: bytes,
        budget: ReleaseBudget,
    ) -> None:
        if not users:
            raise InvalidData(party, "has no users; leave it out of the run")
        self._party: Final = party
        self._fit: Final = fit
        self._users: Final = tuple(users.values())
        self._noise: Final = noise
        self._run: Final = run
        self._budget: Final = budget
        self._spec: PrivateSpec | None = None
        self._agreed = b""
        self._released: tuple[int, bytes, NDArray[np.uint64]] = (0, b"", np.zeros(0, np.uint64))

    def prepare(self, spec: bytes, *, threshold: int) -> None:
        """Agree to the model and the noise.

        Raises:
            BadMessage: it cannot be read, or has numbers that cannot be.
            InvalidData: there are more users than agreed.
            InvalidSetting: the noise cannot be spread.
            Refused: sums may hold fewer channels than the noise is spread over.
        """
        agreed = decode(spec, PrivateSpec, party=SERVER)
        if agreed.channels < 2 or agreed.channels_per_user < 1 or agreed.unit < 1 or agreed.bit_unit < 0:
            raise BadMessage(SERVER, "must send at least two channels, and units above 0")
        if agreed.noise_multiplier[1] < 1:
            raise BadMessage(SERVER, "must send a noise multiplier that is a fraction")
        if len(self._users) > agreed.most_users:
            raise InvalidData(
                self._party,
                f"has {len(self._users)} users, more than most_users={agreed.most_users}; agree on more",
            )
        if threshold < least_threshold(agreed.channels):
            raise Refused(
                f"threshold={threshold} must be at least {least_threshold(agreed.channels)} with {agreed.channels} channels, or"
                " sums could have too little noise; begin a session with that threshold"
            )
        _ = agreed.loss
        self._spec, self._agreed = agreed, spec

    def words(self, task: bytes, *, members: int) -> NDArray[np.uint64]:
        """Noisy sums as ring words; the same task again gives the same.

        Raises:
            BadMessage: the task cannot be read, or is for another model.
            Refused: the round was answered for another task, or more channels take part than agreed.
        """
        spec = self._spec
        if spec is None or members > spec.channels:
            raise Refused(f"members={members} must be at most the agreed channels; agree again")
        number, answered, words = self._released
        if task == answered:
            return words
        asked = decode(task, PrivateTask, party=SERVER)
        if asked.number <= number:
            raise Refused(f"round={asked.number} must be asked once; its noise was drawn for another task")
        if len(asked.weights) != 8 * spec.size or not 0 < asked.clip < float("inf"):
            raise BadMessage(SERVER, f"must send {spec.size} weights and a clip above 0")
        self._budget.spend(
            run=self._run,
            release=release_name(f"dp-fedavg round {asked.number}", self._agreed, task),
            loss=spec.loss,
        )
        sent = np.frombuffer(asked.weights, "<f8").astype(np.float64)
        total = np.zeros(spec.size + 1, np.int64)
        for data in self._users:
            total += clipped(
                self._change(spec, sent, data), asked.clip, unit=spec.unit, bit_unit=spec.bit_unit
            )
        words = spec.shares.add(total, self._noise).view(np.uint64)
        self._released = (asked.number, task, words)
        return words

    def _change(self, spec: PrivateSpec, sent: Floats, data: D) -> Floats:
        weights = self._fit(split(sent, spec.shapes), data)
        if tuple(np.shape(array) for array in weights) != spec.shapes:
            raise InvalidData(
                self._party, f"has a fit whose weights must keep the shapes {list(spec.shapes)}"
            )
        return np.concatenate([np.asarray(array, np.float64).reshape(-1) for array in weights]) - sent
