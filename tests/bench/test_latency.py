"""`dayfly bench latency`: the exit status follows the target, and what cannot be measured is refused."""

import numpy as np
import pytest

from dayfly.bench import latency
from dayfly.bench.errors import BadLoad
from dayfly.bench.load import LoadedEngine, Measured
from dayfly.bench.open_loop import Latencies


class Instant:
    """A loaded engine whose fragments took 1 to 100 ms."""

    def __init__(self, people: int, warm_events: int) -> None:
        self.people, self.warm_events = people, warm_events

    def measure(self, _rate: float, _seconds: float) -> Measured:
        seconds = np.arange(1, 101) / 1_000
        return Measured(Latencies(seconds, 1.0, 0.5, 10), seconds, 100)


@pytest.mark.parametrize(("target_ms", "status"), [(98.9, 1), (99.0, 0), (200.0, 0)])
def test_the_exit_status_says_whether_p99_is_within_the_target(
    target_ms: float, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(latency, "LoadedEngine", Instant)
    assert latency.main(1_000, 1, target_ms) == status
    shown = capsys.readouterr().out
    assert "p99 99.00 ms" in shown
    assert ("within" in shown) is (status == 0)


@pytest.mark.parametrize(
    ("rate", "seconds", "target_ms", "message"),
    [
        (100, 9.9, 200, "must bring at least 1,000 events"),
        (float("nan"), 1, 200, "rate=nan for seconds=1 must bring"),
        (1_000, 1, 0, "target_ms=0 must be a positive number; pass for example 200"),
        (1_000, 1, float("inf"), "target_ms=inf must be a positive number"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    rate: float, seconds: float, target_ms: float, message: str
) -> None:
    with pytest.raises(BadLoad, match=message):
        latency.main(rate, seconds, target_ms)


def test_classes_of_the_histogram_double_and_hold_everything() -> None:
    lines = latency.histogram(np.array([0.6, 0.7, 1.0, 1.9, 2.0, 16.0]))
    assert [line.split()[:4] for line in lines] == [
        ["0.5", "-", "1", "2"],
        ["1", "-", "2", "2"],
        ["2", "-", "4", "1"],
        ["4", "-", "8", "0"],
        ["8", "-", "16", "0"],
        ["16", "-", "32", "1"],
    ]


def test_wrong_arguments_of_the_module_end_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert latency._command(["1000", "5"]) == 2
    assert latency._command(["fast", "5", "200"]) == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.slow
def test_every_planned_fragment_is_minted_on_a_real_engine() -> None:
    loaded = LoadedEngine(200, 4_096)
    measured = loaded.measure(2_000, 0.5)
    assert measured.planned == len(measured.sealed_s) > 0
    again = loaded.measure(2_000, 0.5)
    assert again.planned > 0
