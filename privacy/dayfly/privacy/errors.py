"""Errors of the privacy portion.

::

    DayflyError
    ├── InvalidArgument (ValueError)      a parameter broke its rule
    ├── ConsentError
    ├── DeidentificationError
    ├── TransferRefused
    └── FragmentError

Each message names the value, the rule and the way out.
"""

__all__ = [
    "ConsentError",
    "DayflyError",
    "DeidentificationError",
    "FragmentError",
    "InvalidArgument",
    "TransferRefused",
]


class DayflyError(Exception):
    """Root of every error that Dayfly raises on purpose."""


class InvalidArgument(DayflyError, ValueError):  # noqa: N818 - reads as the fact it states
    """A parameter broke its rule; nothing was changed."""


# --- consent and transfers -------------------------------------------------------------------------------------------


class ConsentError(DayflyError):
    """Root of the consent errors."""


class TransferRefused(DayflyError):  # noqa: N818 - reads as the fact it states
    """A cross-border transfer is not covered by the table or would cross a yearly threshold."""


# --- de-identification -----------------------------------------------------------------------------------------------


class DeidentificationError(DayflyError):
    """A pseudonym key is missing, retired or of the wrong length, or a masking rule does not fit its value."""


# --- fragments -------------------------------------------------------------------------------------------------------


class FragmentError(DayflyError):
    """Root of the fragment errors."""
