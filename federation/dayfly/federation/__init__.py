"""The federation portion: channels train models and count together without showing each other their customers.

What most callers need, by name; the protocols are in the subpackages, each with its claim and its argument. Names are imported when they
are first used, so importing this package loads neither a compiler nor Flower.
"""

import typing

from dayfly.privacy import _lazy

__all__ = [
    "Caller",
    "ChannelData",
    "DataSettings",
    "ExactSums",
    "Features",
    "FederationError",
    "Grid",
    "Identities",
    "JointModel",
    "LedgerBudget",
    "LocalFederation",
    "LocalGrid",
    "NoiseShares",
    "Outcome",
    "Party",
    "PartyFault",
    "Plan",
    "ReleaseBudget",
    "SigningIdentity",
    "StoreWindows",
    "TrialBudget",
    "customer_loss",
    "load_model",
    "save_model",
]

_HOMES: typing.Final = {
    "dayfly.federation.accounting": (
        "ExactSums",
        "LedgerBudget",
        "ReleaseBudget",
        "TrialBudget",
        "customer_loss",
    ),
    "dayfly.federation.errors": ("FederationError", "PartyFault"),
    "dayfly.federation.features": ("Features", "StoreWindows"),
    "dayfly.federation.grid": ("Grid", "Party"),
    "dayfly.federation.identity": ("Identities", "SigningIdentity"),
    "dayfly.federation.local": ("LocalGrid",),
    "dayfly.federation.model": ("JointModel", "load_model", "save_model"),
    "dayfly.federation.noise_shares": ("NoiseShares",),
    "dayfly.federation.runs": ("ChannelData", "DataSettings", "LocalFederation", "Outcome", "Plan"),
    "dayfly.federation.wire": ("Caller",),
}

if typing.TYPE_CHECKING:
    from .accounting import ExactSums, LedgerBudget, ReleaseBudget, TrialBudget, customer_loss
    from .errors import FederationError, PartyFault
    from .features import Features, StoreWindows
    from .grid import Grid, Party
    from .identity import Identities, SigningIdentity
    from .local import LocalGrid
    from .model import JointModel, load_model, save_model
    from .noise_shares import NoiseShares
    from .runs import ChannelData, DataSettings, LocalFederation, Outcome, Plan
    from .wire import Caller
else:
    __getattr__ = _lazy.loader(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
