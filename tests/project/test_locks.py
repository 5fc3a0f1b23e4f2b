"""The locks pin everything by version and hash and record no address."""

import re
import tomllib
from pathlib import Path

import pytest

from . import ROOT

LOCKS = ("run.lock", "dev.lock")
ENTRY = re.compile(
    r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>\S+)(?: ; (?P<marker>[^\\]+?))?(?: \\)?$", re.MULTILINE
)


def requirements(lock: str) -> list[str]:
    """One string per requirement, its continuation lines joined."""
    text = (ROOT / "requirements" / lock).read_text()
    return [part for part in text.replace("\\\n", " ").splitlines() if part.strip()]


def pins(lock: str) -> set[tuple[str, str]]:
    return {(e["name"], e["version"]) for e in ENTRY.finditer((ROOT / "requirements" / lock).read_text())}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_requirement_is_pinned_by_version_and_hash(lock: str) -> None:
    loose = [r for r in requirements(lock) if not re.match(r"^[\w.-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", r)]
    assert requirements(lock)
    assert loose == []


@pytest.mark.parametrize("lock", LOCKS)
def test_no_lock_records_where_packages_come_from(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text()
    assert re.search(r"https?://|file:|^-", text, re.MULTILINE) is None


def test_what_users_run_is_what_developers_test() -> None:
    assert pins("run.lock") <= pins("dev.lock")


def test_the_run_lock_covers_every_run_time_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {re.split(r"[^A-Za-z0-9._-]", line)[0] for line in project["dependencies"]}
    assert asked <= {name for name, _ in pins("run.lock")}


def test_a_lock_line_without_a_hash_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "run.lock").write_text("loose==1.0\n")
    monkeypatch.setattr("tests.project.test_locks.ROOT", tmp_path)
    with pytest.raises(AssertionError, match="loose"):
        test_every_requirement_is_pinned_by_version_and_hash("run.lock")
