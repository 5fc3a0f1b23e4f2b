"""What a channel's customers lose: every value that a protocol opens is a loss event in the ledger of the channel's data set."""

from typing import Protocol

from dayfly.privacy.accounting import LossEvent

__all__ = ["ReleaseBudget"]


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
