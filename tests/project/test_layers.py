"""Imports run one way: bench, federation, engine, privacy."""

import subprocess
from pathlib import Path

from . import ROOT, script

UPSIDE_DOWN = """
[importlinter]
root_packages =
    dayfly.engine
    dayfly.privacy

[importlinter:contract:layers]
name = privacy over engine
type = layers
layers =
    dayfly.privacy
    dayfly.engine
"""


def lint_imports(config: Path) -> subprocess.CompletedProcess[str]:
    command = [script("lint-imports"), "--no-logo", "--no-cache", "--config", str(config)]
    return subprocess.run(command, cwd=config.parent, capture_output=True, text=True, check=False)


def test_every_import_contract_is_kept() -> None:
    result = lint_imports(ROOT / "pyproject.toml")
    assert result.returncode == 0, result.stdout
    assert "0 broken" in result.stdout


def test_an_import_against_the_grain_would_be_seen(tmp_path: Path) -> None:
    config = tmp_path / "upside_down.ini"
    config.write_text(UPSIDE_DOWN)
    result = lint_imports(config)
    assert result.returncode == 1
    assert "dayfly.engine.errors -> dayfly.privacy.errors" in result.stdout
