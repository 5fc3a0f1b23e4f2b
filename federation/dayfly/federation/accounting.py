"""What a channel's customers lose: every value that a protocol opens is a loss event in the ledger of the channel's data set.

Claim: for one customer, whatever rows it has in however many channels, all values that runs opened together compose to at most
`customer_loss` of the ledgers of the channels that it is in; and each data set's account never passes its limit.
Precondition: as the ledger's (`dayfly.privacy.ledger`); every protocol states the loss of a release for a customer that may be in all
channels at once, and spends before it draws.
Argument: one joint release has one sensitivity, which counts what the customer adds in all channels. Each of its channels charges that
loss to its own data set, so within a data set's ledger the release counts once, and it is the same release in the other ledgers: a
customer of several channels loses it once, not once per channel. Releases that only some channels took part in are different
releases, and compose. So a customer's loss is the sum over distinct (run, release) of the ledgers concerned: not above the sum of the
data sets' limits, and not above a single one's where all runs were joint runs of the same channels.
Exact sums (GLM, FedAvg) are no differential privacy. They ask for `EXACT`, (0, 1)-DP, which is true of anything and promises nothing; an
account's delta is below 1, so every ledger refuses it. A channel that opens them all the same says so with `ExactSums`: they are written down
there, in plain text, and the data set's account bounds only what else was released.
"""

import hashlib
import os
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Final, Protocol

import msgspec

from dayfly.federation.errors import AlreadyReleased, InvalidSetting, SpendRefused
from dayfly.privacy.accounting import ApproxLoss, LossEvent, cost_of
from dayfly.privacy.errors import LedgerError
from dayfly.privacy.ledger import Amounts, Ledger, Spend, Spending

__all__ = [
    "EXACT",
    "ExactSums",
    "LedgerBudget",
    "ReleaseBudget",
    "TrialBudget",
    "customer_loss",
    "release_name",
]

EXACT: Final = ApproxLoss(Fraction(0), Fraction(1))
"""The loss of an exact sum: nothing is promised."""

_RUN_BYTES: Final = range(16, 65)
_LONGEST_RELEASE: Final = 200


class ReleaseBudget(Protocol):
    """Where a channel pays for a release before it draws the noise for it."""

    def spend(self, *, run: bytes, release: str, loss: LossEvent) -> None:
        """Charge a release, durably; the same run, release and loss again charge nothing.

        Args:
            run: Of the protocol, 16 to 64 random bytes.
            release: Names the opened value within the run; the same after a crash and a replay, and another one for another question.
            loss: The most that one customer loses by it, whatever channels it is in.

        Raises:
            PartyFault: the channel's budget says no, or the key stands for another loss; names the channel. Draw nothing.
        """
        ...


class TrialBudget:
    """Remembers charges in memory and refuses nothing: for trials on data that promise nothing to anybody."""

    def __init__(self) -> None:
        self.spent: Final[dict[tuple[bytes, str], LossEvent]] = {}
        """(run, release) to loss, in the order of the charges."""

    def spend(self, *, run: bytes, release: str, loss: LossEvent) -> None:
        """See `ReleaseBudget`.

        Raises:
            InvalidSetting: the key stands for another loss.
        """
        _check(run, release)
        if self.spent.setdefault((run, release), loss) != loss:
            raise InvalidSetting(f"release={release!r} must keep its loss; name another release")


class ExactRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An exact sum that left a channel."""

    at_ms: int
    data_set: str
    run: str
    release: str


class ExactSums:
    """A channel's decision to take part in exact sums, and the list of them: one line of JSON each, only ever added to.

    Guarantees:
        None for the customers: coefficients and sums over few rows, or over sets of channels that differ by one, tell rows. A line is
        on disk before the sum is computed.

    Args:
        path: Of the file; made if it is missing.
        now_ms: The clock (ms UTC).
    """

    def __init__(self, path: Path, *, now_ms: Callable[[], int]) -> None:
        self._path: Final = path
        self._now_ms: Final = now_ms

    def history(self) -> list[ExactRecord]:
        """All of them, oldest first.

        Raises:
            InvalidSetting: a line is no record; a last line that a crash cut short was never acted on, and is left out.
        """
        if not self._path.exists():
            return []
        *lines, _ = self._path.read_bytes().split(b"\n")
        try:
            return [msgspec.json.decode(line, type=ExactRecord) for line in lines]
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InvalidSetting(
                f"path={self._path.name!r} must hold one record per line; put it back from a copy"
            ) from error

    def record(self, *, data_set: str, run: bytes, release: str) -> None:
        """Write one down, once."""
        history = self.history()
        if any((one.data_set, one.run, one.release) == (data_set, run.hex(), release) for one in history):
            return
        line = msgspec.json.encode(ExactRecord(self._now_ms(), data_set, run.hex(), release)) + b"\n"
        descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":  # cut short by a crash
                os.ftruncate(descriptor, os.pread(descriptor, size, 0).rfind(b"\n") + 1)
            os.write(descriptor, line)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class LedgerBudget:
    """A channel's data set in a budget ledger.

    Guarantees:
        The module's. A release that this object did not pay for itself, but an earlier process did, may have been seen with other
        noise: it is refused, unless the run was `resumed` from its journal, which draws the same noise again.

    Args:
        ledger: Of the channel; may hold several data sets.
        channel: Its name, for errors.
        data_set: Whose account is charged.
        analyst: Who trains or counts; has an account.
        purpose: Dotted; it or one above it has an account.
        exact: The channel's decision to take part in exact sums; None refuses them.
        resumed: The run goes on from its journal, with the recorded draws.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        channel: str,
        data_set: str,
        analyst: str,
        purpose: str,
        exact: ExactSums | None = None,
        resumed: bool = False,
    ) -> None:
        self._ledger: Final = ledger
        self._channel: Final = channel
        self._data_set: Final = data_set
        self._analyst: Final = analyst
        self._purpose: Final = purpose
        self._exact: Final = exact
        self._resumed: Final = resumed
        self._paid: Final[set[bytes]] = set()

    def spend(self, *, run: bytes, release: str, loss: LossEvent) -> None:
        """See `ReleaseBudget`.

        Raises:
            SpendRefused: the ledger says no, whatever its reason (`__cause__`), or the sum is exact and was not allowed.
            AlreadyReleased: an earlier process paid for it, and this run was not resumed.
            InvalidSetting: the run or the release's name breaks its rule.
        """
        _check(run, release)
        if loss == EXACT:
            self._insist_on_exact(run, release)
            return
        cost = cost_of(loss)
        if cost.epsilon == 0 and cost.delta == 0:
            return  # depends on no private data
        release_id = _release_id(self._data_set, run, release)
        try:
            receipt = self._ledger.spend(
                Spend(
                    data_set=self._data_set,
                    analyst=self._analyst,
                    purpose=self._purpose,
                    cost=cost,
                    what=_what(run, release),
                    release_id=release_id,
                )
            )
        except LedgerError as error:
            raise SpendRefused(
                self._channel, f"refuses release={release!r}, nothing was drawn: {error}"
            ) from error
        if not (receipt.fresh or self._resumed or release_id in self._paid):
            raise AlreadyReleased(
                self._channel,
                f"paid for release={release!r} of this run before; resume it from its journal, or begin a new run and pay for it",
            )
        self._paid.add(release_id)

    def _insist_on_exact(self, run: bytes, release: str) -> None:
        if self._exact is None:
            raise SpendRefused(
                self._channel,
                f"refuses release={release!r}: an exact sum is no differential privacy, and no account covers it; ask for noisy sums, or let"
                " the data owner allow exact ones, which are then listed (ExactSums)",
            )
        self._exact.record(data_set=self._data_set, run=run, release=release)


def customer_loss(histories: Iterable[Iterable[Spending]]) -> Amounts:
    """What a customer of these channels lost in all runs together: every joint release once.

    Args:
        histories: Of each channel's data set, `Ledger.history(scope="data_set", name=...)`. Spends that are no release of a run count each.

    Raises:
        InvalidSetting: two channels charged one release with different losses; the larger would hide a faulty channel.
    """
    found: dict[object, Amounts] = {}
    for place, history in enumerate(histories):
        for one in history:
            key = one.what if one.what.startswith(_PREFIX) else (place, one.release_id)
            if found.setdefault(key, one.cost) != one.cost:
                raise InvalidSetting(
                    f"what={one.what!r} must cost the same in every channel; audit the ledgers"
                )
    costs = list(found.values())
    epsilons = [cost.epsilon for cost in costs if cost.epsilon is not None]
    return Amounts(
        sum(epsilons, Fraction(0)) if len(epsilons) == len(costs) else None,
        sum((cost.rho for cost in costs), Fraction(0)),
        sum((cost.delta for cost in costs), Fraction(0)),
    )


def release_name(kind: str, *asked: bytes) -> str:
    """A release's name: what it is, and a digest of all that was asked, so that another question is another release.

    Args:
        kind: Short and printable, without data of a customer.
        asked: The agreed settings and the task, as they came over the wire.
    """
    digest = hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in asked))
    return f"{kind} {digest.hexdigest()[:32]}"


_PREFIX: Final = "federation run "


def _what(run: bytes, release: str) -> str:
    return f"{_PREFIX}{run.hex()} release {release}"


def _release_id(data_set: str, run: bytes, release: str) -> bytes:
    parts = [part.encode() for part in ("dayfly.federation.release", data_set, run.hex(), release)]
    return hashlib.sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).digest()


def _check(run: bytes, release: str) -> None:
    if len(run) not in _RUN_BYTES:
        raise InvalidSetting(f"run={len(run)} bytes must be 16 to 64; draw 16 at random")
    if not (0 < len(release) <= _LONGEST_RELEASE and release.isprintable()):
        raise InvalidSetting(
            f"release={release!r:.80} must be 1 to {_LONGEST_RELEASE} printable characters; name the opened value"
        )
