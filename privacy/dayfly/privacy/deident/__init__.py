"""De-identification: keyed pseudonyms, rotating probe keys, pairwise subjects and masking policies."""

from .masking import DROPPED, Band, Drop, Keep, Masking, Pseudonymise, Truncate, parse_masking
from .probes import ProbeIdentity, ProbeKeys, is_randomised_mac
from .pseudonyms import Pairwise, Pseudonym, PseudonymKeys, pairwise

__all__ = [
    "DROPPED",
    "Band",
    "Drop",
    "Keep",
    "Masking",
    "Pairwise",
    "ProbeIdentity",
    "ProbeKeys",
    "Pseudonym",
    "PseudonymKeys",
    "Pseudonymise",
    "Truncate",
    "is_randomised_mac",
    "pairwise",
    "parse_masking",
]
