"""Two calls of OpenDP's C interface that every release makes: invoke a measurement on int64 values, and state its loss.

OpenDP's Python functions make about a dozen further calls for each of these, to find out types that are known here; for one number that is
more than drawing the noise. What draws the noise and what states the loss are the same functions of the same library either way.

Claim: `CCalls.invoke` and `CCalls.map` return what `measurement(...)` and `measurement.map(...)` return, or raise what they raise.
Argument: the calls and their order are those of OpenDP 0.16's own wrappers (`core.measurement_invoke`, `core.measurement_map`,
`_data.slice_as_object`, `_data.object_as_slice`), each object is freed once, and whatever fails is asked again of OpenDP's Python
function, which raises its own error. `agrees` compares both on a known measurement before the first use; where they differ, or a
function is missing, OpenDP's Python functions are used.
"""

import ctypes
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["CCalls", "Calls", "PythonCalls", "agrees"]

Values = NDArray[np.int64]


class Calls(Protocol):
    """How a measurement on int64 vectors is asked."""

    def invoke(self, measurement: Any, values: Values) -> Values:
        """The values with noise."""
        ...

    def map(self, measurement: Any, distance: float) -> float:
        """The loss that OpenDP states for neighbours at this distance: an int for int64 distances, a float for floats."""
        ...


class PythonCalls:
    """By OpenDP's Python functions."""

    __slots__ = ()

    def invoke(self, measurement: Any, values: Values) -> Values:
        """See `Calls`."""
        return np.asarray(measurement(np.ascontiguousarray(values)), dtype=np.int64)

    def map(self, measurement: Any, distance: float) -> float:
        """See `Calls`."""
        return float(measurement.map(distance))


class _Result(ctypes.Structure):
    _fields_ = (("failed", ctypes.c_uint32), ("payload", ctypes.c_void_p))


class _Slice(ctypes.Structure):
    _fields_ = (("start", ctypes.c_void_p), ("size", ctypes.c_size_t))


class _CallFailed(Exception):  # noqa: N818 - never leaves this module
    """The library returned an error."""


class CCalls:
    """By the library itself.

    Args:
        library: OpenDP's shared library.

    Raises:
        AttributeError: it lacks one of the functions.
    """

    __slots__ = ("_as_slice", "_error_free", "_free", "_invoke", "_make", "_map", "_slice_free")

    def __init__(self, library: ctypes.CDLL) -> None:
        pointer = ctypes.c_void_p

        def function(name: str, *types: Any) -> Any:
            found = library[name]  # not the attribute, whose types OpenDP's own wrappers set
            found.argtypes, found.restype = types, _Result
            return found

        self._make: Final = function("opendp_data__slice_as_object", pointer, ctypes.c_char_p)
        self._as_slice: Final = function("opendp_data__object_as_slice", pointer)
        self._free: Final = function("opendp_data__object_free", pointer)
        self._slice_free: Final = function("opendp_data__slice_free", pointer)
        self._invoke: Final = function("opendp_core__measurement_invoke", pointer, pointer)
        self._map: Final = function("opendp_core__measurement_map", pointer, pointer)
        self._error_free: Final = library["opendp_core___error_free"]
        self._error_free.argtypes, self._error_free.restype = (pointer,), ctypes.c_bool

    def invoke(self, measurement: Any, values: Values) -> Values:
        """See `Calls`."""
        given, noisy = np.ascontiguousarray(values), np.empty(values.size, np.int64)
        try:
            self._call(self._invoke, measurement, given, b"Vec<i64>", noisy)
        except _CallFailed:
            return PythonCalls().invoke(measurement, values)
        return noisy

    def map(self, measurement: Any, distance: float) -> float:
        """See `Calls`."""
        whole = isinstance(distance, int)
        given, loss = np.array([distance], np.int64 if whole else np.float64), np.empty(1, np.float64)
        try:
            self._call(self._map, measurement, given, b"i64" if whole else b"f64", loss)
        except _CallFailed:
            return PythonCalls().map(measurement, distance)
        return float(loss[0])

    def _call(
        self, function: Any, measurement: Any, given: NDArray[Any], kind: bytes, found: NDArray[Any]
    ) -> None:
        """Make an object of what is given, call, and copy the result's numbers, of eight bytes each, into `found`."""
        argument = self._made(self._make(ctypes.byref(_Slice(given.ctypes.data, given.size)), kind))
        try:
            result = self._made(function(measurement, argument))
        finally:
            self._free(argument)
        try:
            numbers = self._made(self._as_slice(result))
            try:
                part = _Slice.from_address(numbers)
                if part.size != found.size:
                    raise _CallFailed
                ctypes.memmove(found.ctypes.data, part.start, found.nbytes)
            finally:
                self._slice_free(numbers)
        finally:
            self._free(result)

    def _made(self, result: _Result) -> int:
        if result.failed:
            self._error_free(result.payload)
            raise _CallFailed
        return int(result.payload)


def agrees(calls: Calls, measurement: Any, distance: float) -> bool:
    """Whether `calls` states the loss that OpenDP's Python function states, and answers with as many numbers as it is given."""
    same = calls.map(measurement, distance) == PythonCalls().map(measurement, distance)
    return same and calls.invoke(measurement, np.zeros(3, np.int64)).shape == (3,)
