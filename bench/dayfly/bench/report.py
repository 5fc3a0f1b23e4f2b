"""The measured table of the README, written from the bench's JSON so that no figure in prose is typed by hand.

``python -m dayfly.bench.report README.md bench/results/realtime.json`` replaces what stands between the markers.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from .cli import bar_text, figure, verdict
from .errors import MarkersMissing
from .rows import Report

__all__ = ["BEGIN", "END", "main", "markdown", "replaced"]

BEGIN: Final = "<!-- bench: begin, written by python -m dayfly.bench.report -->"
END: Final = "<!-- bench: end -->"


def markdown(reports: Sequence[Report]) -> str:
    """The rows of all reports as a Markdown table, with a line per report about where it was measured."""
    lines = ["| what | measured | against | ratio | bar | holds |", "| --- | ---: | --- | ---: | --- | --- |"]
    for report in reports:
        for row in report.rows:
            ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
            cells = (row.case, figure(row), row.peer or "", ratio, bar_text(row), verdict(row))
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines.append("")
    lines += [_measured_on(report) for report in reports]
    return "\n".join(lines)


def _measured_on(report: Report) -> str:
    header = report.header
    packages = ", ".join(f"{name} {number}" for name, number in header.versions.items())
    form = ", quick form" if header.quick else ""
    return f"Measured {header.date[:10]} on {header.machine} (load average {header.load}{form}): {packages}."


def replaced(page: str, table: str) -> str:
    """`page` with `table` between the markers.

    Raises:
        MarkersMissing: The page does not have both markers once, in order.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise MarkersMissing(
            f"page of {len(page)} characters must hold {BEGIN!r}, then {END!r}, once; add the lines"
        )
    head, _, rest = page.partition(BEGIN)
    return f"{head}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table of some JSON files into a page.

    Returns:
        0 done, 2 wrong arguments.
    """
    paths = [Path(item) for item in (sys.argv[1:] if arguments is None else arguments)]
    if len(paths) < 2:
        sys.stderr.write("usage: python -m dayfly.bench.report PAGE.md RESULTS.json ...\n")
        return 2
    page, results = paths[0], paths[1:]
    reports = [msgspec.json.decode(path.read_bytes(), type=Report) for path in results]
    page.write_text(replaced(page.read_text(encoding="utf-8"), markdown(reports)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
