"""The short way into OpenDP against OpenDP's own Python functions."""

import gc
import resource
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opendp import domains, measurements, metrics
from opendp.mod import OpenDPException

from dayfly.privacy import noise
from dayfly.privacy._opendp_calls import CCalls, PythonCalls, agrees

VECTORS = domains.vector_domain(domains.atom_domain(T="i64"))
CALLS = CCalls(measurements.lib)
EXTREMES = [-(2**63), -1, 0, 1, 2**63 - 1]


def laplace(scale: float) -> Any:
    return measurements.make_laplace(VECTORS, metrics.l1_distance(T="i64"), scale=scale)


def gaussian(scale: float) -> Any:
    return measurements.make_gaussian(VECTORS, metrics.l2_distance(T="f64"), scale=scale)


def test_noise_uses_the_short_way() -> None:
    assert isinstance(noise._calls(), CCalls)


@given(st.floats(1e-3, 1e15), st.integers(0, 2**40))
def test_the_loss_of_laplace_noise_is_what_opendp_states(scale: float, distance: int) -> None:
    assert CALLS.map(laplace(scale), distance) == laplace(scale).map(distance)


@given(st.floats(1e-3, 1e15), st.floats(0, 1e9))
def test_the_loss_of_gaussian_noise_is_what_opendp_states(scale: float, distance: float) -> None:
    assert CALLS.map(gaussian(scale), distance) == gaussian(scale).map(distance)


@pytest.mark.parametrize("make", [laplace, gaussian])
@given(values=st.lists(st.sampled_from(EXTREMES), max_size=50))
def test_values_arrive_and_return_in_order(make: Any, values: list[int]) -> None:
    """At scale 0 OpenDP adds nothing."""
    given_values = np.array(values, np.int64)

    assert CALLS.invoke(make(0.0), given_values).tolist() == values
    assert CALLS.invoke(make(0.0), given_values[::-1]).tolist() == values[::-1]


def test_each_invocation_draws_anew_and_independently() -> None:
    first, second = (CALLS.invoke(laplace(1e9), np.zeros(64, np.int64)) for _ in range(2))

    assert len({*first.tolist(), *second.tolist()}) > 120


def test_what_opendp_refuses_is_its_own_error() -> None:
    floats = measurements.make_laplace(
        domains.vector_domain(domains.atom_domain(T="f64", nan=False)),
        metrics.l1_distance(T="f64"),
        scale=1.0,
    )

    with pytest.raises(OpenDPException, match="must be positive"):
        CALLS.map(laplace(1.0), -1)
    with pytest.raises((OpenDPException, TypeError)):
        CALLS.invoke(floats, np.zeros(3, np.int64))


def test_nothing_is_left_behind() -> None:
    measurement, values = laplace(1.0), np.zeros(2, np.int64)

    def grown(times: int) -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(times):
            CALLS.invoke(measurement, values)
            CALLS.map(measurement, 3)
        gc.collect()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    grown(2_000)
    assert grown(20_000) < 1_000  # kB; 20,000 lost objects are more


class _Elsewhere(PythonCalls):
    def map(self, measurement: Any, distance: float) -> float:
        return super().map(measurement, distance) / 2


class _Short(PythonCalls):
    def invoke(self, measurement: Any, values: Any) -> Any:
        return super().invoke(measurement, values[1:])


def test_a_library_that_answers_otherwise_is_asked_by_opendps_functions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert agrees(CALLS, laplace(2.0), 3)
    assert not agrees(_Elsewhere(), laplace(2.0), 3)
    assert not agrees(_Short(), laplace(2.0), 3)

    for broken in (lambda _library: _Elsewhere(), _missing):
        monkeypatch.setattr(noise, "CCalls", broken)
        assert type(noise._calls.__wrapped__()) is PythonCalls
    assert noise.OpenDpNoise().laplace(np.zeros(3, np.int64), Fraction(2)).shape == (3,)


def _missing(_library: Any) -> CCalls:
    raise AttributeError("opendp_core__measurement_invoke")
