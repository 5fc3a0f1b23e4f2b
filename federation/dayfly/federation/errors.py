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
        │   ├── WrongManifest             its manifest is of another run, purpose, channel or set
        │   ├── ManifestExpired           its manifest does not hold at this instant
        │   ├── ConsentWithdrawn          consents that its aligned rows rest on do not hold any more
        │   ├── Declined                  it answered that it does not take part in what it was asked
        │   ├── SpendRefused              its ledger does not pay for a release; nothing was drawn
        │   └── AlreadyReleased           it paid for a release before, whose noise may have been seen
        ├── NotEstimable                  the data of all parties together do not determine the model
        ├── NotConverged                  the model did not settle in the rounds that were agreed
        ├── Refused                       a party declines what the server asks, because it would reveal too much
        ├── TooFewParties                 fewer parties than the threshold are left; nothing was opened
        ├── InvalidIdentifier (ValueError)  an identifier breaks the rule of its kind; the message shows it masked
        ├── RowsDisagree                  channels found rows that they have in common at different places
        ├── RangeExceeded (ValueError)    a value does not fit the fixed-point range, so a sum could wrap around
        ├── SharesDisagree                shares do not give back the secret that was committed to
        ├── DamagedModel                  a stored model is not what was saved
        ├── JournalDiverged               a run that goes on does not do again what it did before it was stopped
        └── DeploymentError               a process, port, certificate or file of a deployment is not as it must be
            └── RunFailed                 a deployed run ended with an error; carries what it said
"""

from dayfly.privacy.errors import DayflyError

__all__ = [
    "AlreadyReleased",
    "BadMessage",
    "ConsentWithdrawn",
    "DamagedModel",
    "Declined",
    "DeploymentError",
    "FederationError",
    "InvalidData",
    "InvalidIdentifier",
    "InvalidSetting",
    "JournalDiverged",
    "ManifestExpired",
    "NotConverged",
    "NotEstimable",
    "PartyFault",
    "RangeExceeded",
    "Refused",
    "Replayed",
    "RowsDisagree",
    "RunFailed",
    "SharesDisagree",
    "SpendRefused",
    "TooFewParties",
    "WrongIdentity",
    "WrongManifest",
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


# --- what releases cost (accounting) ---------------------------------------------------------------------------------


class SpendRefused(PartyFault):
    """A channel's ledger does not pay for a release, whatever its reason; nothing was drawn."""


class AlreadyReleased(PartyFault):
    """A channel paid for a release in an earlier process, so other noise of it may have been seen; nothing was drawn."""


# --- going on after a crash, and deployment (journal, flower, command line) ------------------------------------------


class JournalDiverged(FederationError):  # noqa: N818 - reads as the fact it states
    """A run that goes on does not do again what it did before it was stopped: other data, settings or version."""


class DeploymentError(FederationError):
    """A process, port, certificate or file of a deployment is not as it must be."""


class RunFailed(DeploymentError):  # noqa: N818 - reads as the fact it states
    """A deployed run ended with an error; carries what it said."""


# --- alignment -------------------------------------------------------------------------------------------------------


class WrongManifest(PartyFault):
    """A manifest is of another run, purpose, channel or set."""


class ManifestExpired(PartyFault):
    """A manifest does not hold at this instant."""


class ConsentWithdrawn(PartyFault):
    """A consent that a channel's aligned rows rest on does not hold any more; nothing was spent."""


class InvalidIdentifier(FederationError, ValueError):  # noqa: N818 - reads as the fact it states
    """An identifier breaks the rule of its kind; the message shows it masked."""


class RowsDisagree(FederationError):  # noqa: N818 - reads as the fact it states
    """Channels found rows that they have in common at different places: a set was changed on its way.

    Attributes:
        parties: Whose places disagree with the others', sorted.
    """

    def __init__(self, parties: tuple[str, ...], cause: str) -> None:
        super().__init__(f"parties={list(parties)} {cause}")
        self.parties = parties


# --- trained models ---------------------------------------------------------------------------------------------------


class DamagedModel(FederationError):  # noqa: N818 - reads as the fact it states
    """A stored model is not what was saved."""
