"""Measure what each run-time dependency costs and write the table of docs/dependencies.md.

Run from the project's environment: `python tools/dependency_costs.py` writes, `--print` only shows.
"""

import argparse
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "dependencies.md"
USED = {  # what Dayfly imports, where that is not simply the distribution's name
    "cryptography": "cryptography.hazmat.primitives.asymmetric.ec, cryptography.hazmat.primitives.ciphers.aead",
    "email-validator": "email_validator",
    "flwr": "flwr.app, flwr.clientapp, flwr.serverapp",
    "opendp": "opendp.domains, opendp.measurements, opendp.metrics, opendp.mod",
    "pyarrow": "pyarrow.csv, pyarrow.parquet",
    "pyyaml": "yaml",
    "rich": "rich.console, rich.live, rich.progress, rich.table",
    "scipy": "scipy.fft, scipy.special",
}
ROUNDS = 5
BLOCKS: dict[str, str | None] = {"costs": None, "federation": "federation"}
"""Block of the page to the extra whose costs it shows."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one dependency costs.

    Attributes:
        name: Name of the distribution.
        version: Installed version.
        licence: As the distribution states it.
        size_bytes: Its own installed files, without compiled bytecode.
        brings: Distributions that it needs besides the other run-time dependencies, with their size in bytes.
        import_ms: Processor time of a first import, milliseconds.
    """

    name: str
    version: str
    licence: str
    size_bytes: int
    brings: tuple[tuple[str, int], ...]
    import_ms: float

    def row(self) -> str:
        """The dependency as one line of a Markdown table."""
        brought = ", ".join(f"{name} ({size / 1e6:.1f} MB)" for name, size in self.brings) or "nothing"
        figures = f"{self.size_bytes / 1e6:.1f} MB | {brought} | {self.import_ms:.0f} ms"
        return f"| {self.name} | {self.version} | {self.licence} | {figures} |"


def direct_dependencies(extra: str | None = None) -> list[str]:
    """Names of the run-time dependencies in pyproject.toml, or of those that an extra adds, sorted."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] if extra is None else project["optional-dependencies"][extra]
    return sorted(Requirement(line).name for line in lines)


def size_bytes(name: str) -> int:
    """Bytes of the installed files of a distribution, without bytecode."""
    files = distribution(name).files or []
    paths = (Path(str(file.locate())) for file in files if file.suffix != ".pyc")
    return sum(path.stat().st_size for path in paths if path.is_file())


def licence(name: str) -> str:
    """The licence that a distribution states: expression, else its classifier, else the free text's first line."""
    metadata = distribution(name).metadata
    if metadata["License-Expression"]:
        return str(metadata["License-Expression"])
    classified = [
        c.rpartition(" :: ")[2] for c in metadata.get_all("Classifier") or [] if c.startswith("License ::")
    ]
    return ", ".join(classified) or str(metadata["License"] or "not stated").splitlines()[0]


def needed_by(name: str, known: set[str]) -> Iterator[str]:
    """Installed distributions that `name` needs, directly or not, leaving out `known`."""
    for line in distribution(name).requires or []:
        requirement = Requirement(line)
        needed = requirement.name.lower().replace("_", "-")
        if needed in known or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        try:
            distribution(needed)
        except PackageNotFoundError:
            continue
        known.add(needed)
        yield needed
        yield from needed_by(needed, known)


def import_ms(name: str) -> float:
    """Lowest processor time of importing what we use of a distribution in a new interpreter, in milliseconds."""
    code = f"import time; t = time.process_time(); import {USED.get(name, name)}; print((time.process_time() - t) * 1e3)"
    runs = (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(ROUNDS)
    )
    return min(float(run.stdout) for run in runs)


def measure(extra: str | None = None) -> list[Cost]:
    """The cost of every run-time dependency, or of every one that an extra adds; what is there anyway is not counted again."""
    names, everywhere = direct_dependencies(extra), direct_dependencies()
    anyway = set(everywhere)
    for name in everywhere if extra else ():
        list(needed_by(name, anyway))
    return [
        Cost(
            name=name,
            version=distribution(name).version,
            licence=licence(name),
            size_bytes=size_bytes(name),
            brings=tuple(
                (needed, size_bytes(needed)) for needed in sorted(needed_by(name, anyway | set(names)))
            ),
            import_ms=import_ms(name),
        )
        for name in names
    ]


def table(costs: list[Cost]) -> str:
    """The costs as a Markdown table; what several dependencies bring counts once in its last row."""
    brought = {name: size for cost in costs for name, size in cost.brings}
    together = sum(cost.size_bytes for cost in costs) + sum(brought.values())
    return "\n".join(
        [
            "| dependency | version | licence | size | brings besides | first import |",
            "| --- | --- | --- | ---: | --- | ---: |",
            *(cost.row() for cost in costs),
            f"| together | | | {together / 1e6:.0f} MB | {len(brought)} packages | |",
        ]
    )


def main() -> None:
    """Write or print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--print", action="store_true", help="show the table and leave the page alone")
    options = parser.parse_args()
    text = PAGE.read_text()
    for block, extra in BLOCKS.items():
        costs = table(measure(extra))
        if options.print:
            sys.stdout.write(costs + "\n\n")
        pattern = re.compile(rf"(<!-- {block}:begin -->\n).*(<!-- {block}:end -->)", re.DOTALL)
        text = pattern.sub(lambda match, costs=costs: f"{match[1]}{costs}\n{match[2]}", text)  # type: ignore[misc]
    if not options.print:
        PAGE.write_text(text)


if __name__ == "__main__":
    main()
