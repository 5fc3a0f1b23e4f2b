"""A channel's part in one release of noisy counts: agree, pay, count, add a share of noise, once."""

from abc import ABC, abstractmethod
from typing import ClassVar, Final, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from dayfly.federation.accounting import ReleaseBudget, release_name
from dayfly.federation.errors import Refused
from dayfly.federation.noise_shares import NoiseShares
from dayfly.federation.secagg import least_threshold
from dayfly.privacy.accounting import ZcdpLoss
from dayfly.privacy.noise import NoiseSource

__all__ = ["CountsSpec", "CountsWorkload"]


class CountsSpec(Protocol):
    """What all channels agree on."""

    @property
    def channels(self) -> int:
        """How many there are."""
        ...

    @property
    def shares(self) -> NoiseShares:
        """How the noise is spread."""
        ...

    @property
    def loss(self) -> ZcdpLoss:
        """Of the release, for one customer in all channels."""
        ...


S = TypeVar("S", bound=CountsSpec)


class CountsWorkload(ABC, Generic[S]):
    """A workload of secure sums (`horizontal.ChannelParty`) that is asked once.

    Args:
        noise: Where its shares come from.
        run: Of the protocol.
        budget: Is charged the spec's loss once, before anything is computed.
    """

    kind: ClassVar[str]
    """Of the release, in ledgers."""

    def __init__(self, *, noise: NoiseSource, run: bytes, budget: ReleaseBudget) -> None:
        self._noise: Final = noise
        self._run: Final = run
        self._budget: Final = budget
        self._spec: S | None = None
        self._agreed = b""
        self._released: tuple[bytes, NDArray[np.uint64]] | None = None

    @abstractmethod
    def _read(self, spec: bytes) -> S:
        """Decode and check what the coordinator sent, or raise BadMessage."""

    @abstractmethod
    def _counts(self, spec: S) -> NDArray[np.int64]:
        """The channel's exact counts."""

    def prepare(self, spec: bytes, *, threshold: int) -> None:
        """Agree to what is counted and how noisy.

        Raises:
            BadMessage: it cannot be read, or contradicts itself.
            InvalidSetting: the noise cannot be spread.
            Refused: sums may hold fewer channels than the noise is spread over.
        """
        agreed = self._read(spec)
        if threshold < least_threshold(agreed.channels):
            raise Refused(
                f"threshold={threshold} must be at least {least_threshold(agreed.channels)} with {agreed.channels} channels, or sums"
                " could have too little noise; begin a session with that threshold"
            )
        _ = agreed.loss
        self._spec, self._agreed = agreed, spec

    def words(self, task: bytes, *, members: int) -> NDArray[np.uint64]:
        """Noisy counts as ring words; the same task again gives the same.

        Raises:
            Refused: another release was made, or more channels take part than agreed.
            PartyFault: the channel's budget says no; nothing was drawn.
        """
        spec = self._spec
        if spec is None or members > spec.channels:
            raise Refused(f"members={members} must be at most the agreed channels; agree again")
        if self._released is None:
            self._budget.spend(
                run=self._run, release=release_name(self.kind, self._agreed, task), loss=spec.loss
            )
            self._released = (task, spec.shares.add(self._counts(spec), self._noise).view(np.uint64))
        if self._released[0] != task:
            raise Refused(
                "release=<second> must be the first of the session; begin another one, and pay for it"
            )
        return self._released[1]
