"""Errors of the federation portion. Each names the party and the cause; none carries a secret or a part of one.

::

    DayflyError
    └── FederationError
        ├── InvalidSetting (ValueError)   a parameter of a run broke its rule; nothing was sent
        ├── PartyFault                    a party is at fault; carries its name
        │   ├── WrongIdentity             a signature or key is not that of the registered node
        │   ├── BadMessage                cannot be read, has the wrong shape, or belongs elsewhere
        │   ├── Replayed                  seen before, or of an earlier round
        │   ├── InvalidData               its own data cannot be trained on
        │   └── Declined                  it answered that it does not take part in what it was asked
        ├── NotEstimable                  the data of all parties together do not determine the model
        ├── NotConverged                  the model did not settle in the rounds that were agreed
        ├── Refused                       a party declines what the server asks, because it would reveal too much
        ├── TooFewParties                 fewer parties than the threshold are left; nothing was opened
        ├── RangeExceeded (ValueError)    a value does not fit the fixed-point range, so a sum could wrap around
        └── SharesDisagree                shares do not give back the secret that was committed to
"""

from dayfly.privacy.errors import DayflyError

__all__ = [
    "BadMessage",
    "Declined",
    "FederationError",
    "InvalidData",
    "InvalidSetting",
    "NotConverged",
    "NotEstimable",
    "PartyFault",
    "RangeExceeded",
    "Refused",
    "Replayed",
    "SharesDisagree",
    "TooFewParties",
    "WrongIdentity",
]


class FederationError(DayflyError):
    """Base of all errors of the federation portion."""


class InvalidSetting(FederationError, ValueError):  # noqa: N818 - reads as the fact it states
    """A parameter of a run broke its rule; nothing was sent."""


class PartyFault(FederationError):  # noqa: N818 - reads as the fact it states
    """A party is at fault.

    Attributes:
        party: Its name.
    """

    def __init__(self, party: str, cause: str) -> None:
        super().__init__(f"party={party!r} {cause}")
        self.party = party


class WrongIdentity(PartyFault):
    """A signature or key is not that of the registered node."""


class BadMessage(PartyFault):
    """A message that cannot be read, has the wrong shape, or belongs to another run, round or party."""


class Replayed(PartyFault):
    """A message that was seen before, or is of an earlier round."""


class Refused(FederationError):  # noqa: N818 - reads as the fact it states
    """A party declines what the server asks, because answering would reveal more than a sum."""


class TooFewParties(FederationError):  # noqa: N818 - reads as the fact it states
    """Fewer parties than the threshold are left; nothing was opened."""


class RangeExceeded(FederationError, ValueError):  # noqa: N818 - reads as the fact it states
    """A value does not fit the fixed-point range, so that a sum could wrap around."""


class SharesDisagree(FederationError):  # noqa: N818 - reads as the fact it states
    """Shares do not give back the secret that was committed to."""


# --- training on rows of the parties' own (horizontal) ---------------------------------------------------------------


class InvalidData(PartyFault):
    """A party's own data cannot be trained on; raised by the party, before anything is sent."""


class Declined(PartyFault):
    """A party answered that it does not take part in what it was asked; carries the party's own words."""


class NotEstimable(FederationError):  # noqa: N818 - reads as the fact it states
    """The data of all parties together do not determine the model; names the features."""


class NotConverged(FederationError):  # noqa: N818 - reads as the fact it states
    """The model did not settle in the rounds that were agreed."""
