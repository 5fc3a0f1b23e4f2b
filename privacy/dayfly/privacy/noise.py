"""The noise of every release, drawn by OpenDP on integer vectors behind one seam; the only module that imports OpenDP.

Claim:
    `OpenDpNoise.laplace(values, scale, l1=d)` is (d / scale)-DP and `gaussian(values, scale, l2_squared=d)` is d / (2 scale^2)-zCDP
    in the released integers, for neighbours whose values differ by at most d in the L1 norm (squared L2 norm).

Precondition:
    Values are exact int64 lattice units with the stated sensitivity.

Argument:
    OpenDP adds discrete Laplace or discrete Gaussian noise (Canonne, Kamath, Steinke 2020) in unbounded integers and clamps the
    sum to int64, which is post-processing. The float scale that OpenDP takes is rounded up, and moved up further, by a few units of the last
    place, until OpenDP's own privacy map of the sensitivity does not exceed the exact rational loss that we claim; where that
    never happens nothing is drawn. Thresholds: `accounting.selection`.

Source:
    OpenDP 0.16, `make_laplace`, `make_gaussian`, `make_laplace_threshold`, `make_gaussian_threshold` and their proof documents.
"""

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray
from opendp import (  # not the prelude: it imports scikit-learn where that is installed
    domains,
    measurements,
    metrics,
)
from opendp.mod import enable_features

from dayfly.privacy._opendp_calls import Calls, CCalls, PythonCalls, agrees
from dayfly.privacy.accounting.rounding import float_up, positive_exact, sqrt_up
from dayfly.privacy.errors import InvalidArgument, NoiseRefused

__all__ = ["NoiseSource", "OpenDpNoise"]

Values = NDArray[np.int64]

enable_features("contrib")

LARGEST_SCALE: Final = Fraction(1 << 62)
_NUDGES: Final = 16
_HEADROOM: Final = 1 + Fraction(
    1, 1 << 50
)  # what OpenDP's map loses to rounding, so that the first try is accepted
_INT64: Final = 1 << 63


class NoiseSource(Protocol):
    """Where noise comes from. Scales are exact; the result has the shape of the input and is clamped to int64."""

    def laplace(self, values: Values, scale: Fraction, *, l1: int = 1) -> Values:
        """`values` plus independent discrete Laplace noise of `scale`."""
        ...

    def gaussian(self, values: Values, scale: Fraction, *, l2_squared: int = 1) -> Values:
        """`values` plus independent discrete Gaussian noise of parameter `scale`."""
        ...

    def laplace_threshold(
        self,
        values: Mapping[int, int],
        scale: Fraction,
        threshold: int,
        *,
        sensitivity: tuple[int, int, int] = (1, 1, 1),
    ) -> dict[int, int]:
        """Noisy values of the keys whose noisy value is at least `threshold`; sensitivity is (l0, l1, linf)."""
        ...

    def gaussian_threshold(
        self,
        values: Mapping[int, int],
        scale: Fraction,
        threshold: int,
        *,
        sensitivity: tuple[int, int, int] = (1, 1, 1),
    ) -> dict[int, int]:
        """Noisy values of the keys whose noisy value is at least `threshold`; sensitivity is (l0, l2_squared, linf)."""
        ...


class OpenDpNoise:
    """Noise drawn by OpenDP. Holds no state; constructed measurements are kept per scale, so a scalar costs some 0.2 ms.

    Guarantees:
        A scale of zero, below zero, NaN or too large for int64 is refused and nothing is drawn. Loss: see the module.
    """

    __slots__ = ()

    def laplace(self, values: Values, scale: Fraction, *, l1: int = 1) -> Values:
        """`values` plus independent discrete Laplace noise.

        Args:
            values: int64, one-dimensional.
            scale: b of a probability proportional to exp(-|x| / b).
            l1: L1 sensitivity of `values`; OpenDP must confirm a loss of at most l1 / scale.

        Raises:
            InvalidArgument: Wrong dtype or shape, or a scale that cannot be drawn.
            NoiseRefused: OpenDP states a larger loss than claimed.
        """
        checked = _vector(values)
        return _drawn(_laplace(_scale(scale), _sensitivity("l1", l1)), checked)

    def gaussian(self, values: Values, scale: Fraction, *, l2_squared: int = 1) -> Values:
        """`values` plus independent discrete Gaussian noise.

        Args:
            values: int64, one-dimensional.
            scale: sigma of a probability proportional to exp(-x^2 / (2 sigma^2)).
            l2_squared: Squared L2 sensitivity of `values`; OpenDP must confirm a loss of at most l2_squared / (2 scale^2).

        Raises:
            InvalidArgument: Wrong dtype or shape, or a scale that cannot be drawn.
            NoiseRefused: OpenDP states a larger loss than claimed.
        """
        checked = _vector(values)
        return _drawn(
            _gaussian(_scale(scale), _sensitivity("l2_squared", l2_squared, below=_INT64**2)), checked
        )

    def laplace_threshold(
        self,
        values: Mapping[int, int],
        scale: Fraction,
        threshold: int,
        *,
        sensitivity: tuple[int, int, int] = (1, 1, 1),
    ) -> dict[int, int]:
        """Noisy values of the keys whose noisy value is at least `threshold`.

        Args:
            values: Integer key codes -> int64 values; a key that no customer has must not be in it.
            scale: b of the discrete Laplace noise.
            threshold: Smallest noisy value that is shown.
            sensitivity: (l0, l1, linf) of one customer.

        Raises:
            InvalidArgument: A value outside int64, a scale that cannot be drawn, or a threshold that shows keys of one customer always.
            NoiseRefused: OpenDP states a larger loss than claimed.
        """
        measure = _laplace_threshold(_scale(scale), _threshold(threshold, sensitivity), _norms(sensitivity))
        return _drawn_map(measure, values)

    def gaussian_threshold(
        self,
        values: Mapping[int, int],
        scale: Fraction,
        threshold: int,
        *,
        sensitivity: tuple[int, int, int] = (1, 1, 1),
    ) -> dict[int, int]:
        """Noisy values of the keys whose noisy value is at least `threshold`.

        Args:
            values: Integer key codes -> int64 values; a key that no customer has must not be in it.
            scale: sigma of the discrete Gaussian noise.
            threshold: Smallest noisy value that is shown.
            sensitivity: (l0, l2_squared, linf) of one customer.

        Raises:
            InvalidArgument: A value outside int64, a scale that cannot be drawn, or a threshold that shows keys of one customer always.
            NoiseRefused: OpenDP states a larger loss than claimed.
        """
        measure = _gaussian_threshold(
            _scale(scale), _threshold(threshold, sensitivity), _norms(sensitivity, below=_INT64**2)
        )
        return _drawn_map(measure, values)


def _vector(values: object) -> Values:
    if not isinstance(values, np.ndarray) or values.dtype != np.int64 or values.ndim != 1:
        kind = getattr(values, "dtype", type(values).__name__)
        raise InvalidArgument(
            f"values={kind} must be a one-dimensional int64 array; put floats on a lattice first"
        )
    return values


def _scale(scale: object) -> Fraction:
    if isinstance(scale, float):
        raise InvalidArgument(
            f"scale={scale!r} must be an int or a Fraction; a float's rounding has no direction"
        )
    checked = positive_exact("scale", scale)
    if checked > LARGEST_SCALE:
        raise InvalidArgument(
            f"scale={float_up(checked)!r} must be <= 2^62; such noise does not fit int64, use a coarser lattice"
        )
    return checked


def _sensitivity(name: str, value: object, *, below: int = _INT64) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < below:
        raise InvalidArgument(
            f"{name}={value!r} must be an integer >= 1 and < {below}; nothing private needs no noise, and more needs a coarser lattice"
        )
    return value


def _norms(sensitivity: tuple[int, int, int], *, below: int = _INT64) -> tuple[int, int, int]:
    l0, norm, linf = sensitivity
    _sensitivity("l0", l0, below=1 << 32)
    _sensitivity("norm", norm, below=below)
    _sensitivity("linf", linf)
    return l0, norm, linf


def _threshold(threshold: object, sensitivity: tuple[int, int, int]) -> int:
    if (
        isinstance(threshold, bool)
        or not isinstance(threshold, int)
        or not sensitivity[2] < threshold < _INT64
    ):
        raise InvalidArgument(
            f"threshold={threshold!r} must be an integer above linf={sensitivity[2]!r} and below 2^63; "
            "take it from accounting.selection.laplace_threshold or gaussian_threshold"
        )
    return threshold


def _accepted(scale: Fraction, build: Callable[[float], Any], within: Callable[[Any], bool]) -> Any:
    """The measurement of the smallest tried float scale, not below `scale`, whose loss OpenDP itself finds within the claim."""
    tried = float_up(scale * _HEADROOM)
    for _ in range(_NUDGES):
        measurement = build(tried)
        if within(measurement):
            return measurement
        tried = math.nextafter(tried, math.inf)
    raise NoiseRefused(
        f"scale={float_up(scale)!r} must have the claimed loss in OpenDP's own privacy map; it states a larger one, so nothing was drawn"
    )


@lru_cache(maxsize=1)
def _vectors() -> Any:
    return domains.vector_domain(domains.atom_domain(T="i64"))


@lru_cache(maxsize=1)
def _l1() -> Any:
    return metrics.l1_distance(T="i64")


@lru_cache(maxsize=1)
def _l2() -> Any:
    return metrics.l2_distance(T="f64")


@lru_cache(maxsize=1)
def _maps() -> Any:
    return domains.map_domain(domains.atom_domain(T="i64"), domains.atom_domain(T="i64"))


@lru_cache(maxsize=256)
def _laplace(scale: Fraction, l1: int) -> Any:
    claim = l1 / scale
    return _accepted(
        scale,
        lambda b: measurements.make_laplace(_vectors(), _l1(), scale=b),
        lambda measurement: _calls().map(measurement, l1) <= claim,
    )


@lru_cache(maxsize=256)
def _gaussian(scale: Fraction, l2_squared: int) -> Any:
    distance, claim = float_up(sqrt_up(l2_squared)), l2_squared / (2 * scale * scale)
    return _accepted(
        scale,
        lambda sigma: measurements.make_gaussian(_vectors(), _l2(), scale=sigma),
        lambda measurement: _calls().map(measurement, distance) <= claim,
    )


@lru_cache(maxsize=64)
def _laplace_threshold(scale: Fraction, threshold: int, norms: tuple[int, int, int]) -> Any:
    l0, l1, linf = norms
    metric = metrics.l01inf_distance(metrics.absolute_distance(T="i64"))
    return _accepted(
        scale,
        lambda b: measurements.make_laplace_threshold(_maps(), metric, scale=b, threshold=threshold),
        lambda measurement: measurement.map((l0, l1, linf))[0] <= l1 / scale,
    )


@lru_cache(maxsize=64)
def _gaussian_threshold(scale: Fraction, threshold: int, norms: tuple[int, int, int]) -> Any:
    l0, l2_squared, linf = norms
    metric = metrics.l02inf_distance(metrics.absolute_distance(T="f64"))
    distance, claim = float_up(sqrt_up(l2_squared)), l2_squared / (2 * scale * scale)
    return _accepted(
        scale,
        lambda sigma: measurements.make_gaussian_threshold(_maps(), metric, scale=sigma, threshold=threshold),
        lambda measurement: measurement.map((l0, distance, float(linf)))[0] <= claim,
    )


@lru_cache(maxsize=1)
def _calls() -> Calls:
    """OpenDP's C interface, where it does what OpenDP's Python functions do; else these."""
    try:
        calls = CCalls(getattr(measurements, "lib"))  # noqa: B009 - not among OpenDP's declared names
    except AttributeError:
        return PythonCalls()
    laplace = measurements.make_laplace(_vectors(), _l1(), scale=3.0)
    gaussian = measurements.make_gaussian(_vectors(), _l2(), scale=3.0)
    return calls if agrees(calls, laplace, 7) and agrees(calls, gaussian, 0.3) else PythonCalls()


def _drawn(measurement: Any, values: Values) -> Values:
    if values.size == 0:
        return values.copy()
    return _calls().invoke(measurement, values)


def _drawn_map(measurement: Any, values: Mapping[int, int]) -> dict[int, int]:
    plain = {int(key): int(value) for key, value in values.items()}
    for number in (*plain.keys(), *plain.values()):
        if not -_INT64 <= number < _INT64:
            raise InvalidArgument(f"values={number!r} must fit int64; saturate before noise is added")
    if not plain:
        return {}
    noisy: dict[int, int] = measurement(plain)
    return noisy
