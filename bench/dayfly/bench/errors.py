"""Errors of the bench.

::

    DayflyError                         (dayfly.privacy)
    └── BenchError
        ├── UnknownSuite (ValueError)   there is no such suite
        ├── BadRow (ValueError)         a case handed back something that is no row
        ├── BadLoad (ValueError)        a rate, a duration or a target that nothing can be measured at
        └── MarkersMissing (ValueError) a page has no place for the measured table
"""

from dayfly.privacy.errors import DayflyError

__all__ = ["BadLoad", "BadRow", "BenchError", "MarkersMissing", "UnknownSuite"]


class BenchError(DayflyError):
    """Root of the bench's errors."""


class UnknownSuite(BenchError, ValueError):  # noqa: N818 - reads as the fact it states
    """There is no such suite."""


class BadRow(BenchError, ValueError):  # noqa: N818 - reads as the fact it states
    """A case handed back something that is no row."""


class BadLoad(BenchError, ValueError):  # noqa: N818 - reads as the fact it states
    """A rate, a duration or a target that nothing can be measured at."""


class MarkersMissing(BenchError, ValueError):  # noqa: N818 - reads as the fact it states
    """A page has no place for the measured table."""
