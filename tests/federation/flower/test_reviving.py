"""A channel starts its SuperNode again, unless it ended for a cause that does not pass."""

import sys
from pathlib import Path

import pytest

from dayfly.federation.deployed.processes import Child, flower_environment
from dayfly.federation.deployed.serving import Channel
from dayfly.federation.errors import DeploymentError
from tests.federation.journal.worlds import until

TAKEN = "SuperNode ID: 5"
REFUSED = "Failed to activate SuperNode."


class Stub(Channel):
    """A channel whose SuperNode says words and ends."""

    def __init__(self, folder: Path, *words: str) -> None:  # no service behind it
        self.folder_path = folder
        self.words = iter(words)
        self._socket = folder / "s"  # type: ignore[misc]
        self._node_began = 0.0
        self._refused_since = None
        self.supernode = self._started(self._socket)

    @property
    def name(self) -> str:
        return "shop"

    def _started(self, socket_path: Path) -> Child:
        del socket_path
        script = f"print({next(self.words)!r})"
        return Child(
            "node",
            [sys.executable, "-c", script],
            environment=flower_environment(self.folder_path),
            log=self.folder_path / "log",
        )

    def ended(self) -> None:
        until(lambda: not self.supernode.running())


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dayfly.federation.deployed.serving._AGAIN_SECONDS", 0.0)


def test_a_supernode_that_ended_is_started_again(tmp_path: Path) -> None:
    channel = Stub(tmp_path, "whatever", "again")
    channel.ended()
    assert channel.revive()
    channel.supernode.stop()


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (REFUSED, "party='shop' must be registered with the SuperLink, but it does not take its node key"),
        (
            "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed",
            "party='shop' must trust the SuperLink's certificate",
        ),
        ("[Errno 98] address already in use", "party='shop' must have a free port for its SuperNode"),
    ],
)
def test_a_cause_that_does_not_pass_is_told_with_the_party(tmp_path: Path, words: str, cause: str) -> None:
    channel = Stub(tmp_path, words)
    channel.ended()
    with pytest.raises(DeploymentError, match=cause):
        channel.revive()
    channel.supernode.stop()


def test_one_that_was_taken_before_is_tried_again_while_the_superlink_holds_its_forerunner_for_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = Stub(tmp_path, TAKEN, REFUSED, REFUSED, REFUSED)
    for _ in range(3):
        channel.ended()
        assert channel.revive()
    monkeypatch.setattr("dayfly.federation.deployed.serving._HELD_SECONDS", 0.0)
    channel.ended()
    with pytest.raises(DeploymentError, match="party='shop' must be registered"):
        channel.revive()
    channel.supernode.stop()
