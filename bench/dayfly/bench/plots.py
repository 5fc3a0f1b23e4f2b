"""One picture of a report: every ratio to a peer, on a logarithmic scale. matplotlib comes with the extra `plots`."""

from pathlib import Path

from .rows import Report

__all__ = ["draw"]


def draw(report: Report, folder: Path) -> Path:
    """Draw the ratios of `report` and return the file.

    Raises:
        ImportError: matplotlib is not installed; install ``dayfly[plots]``.
    """
    import matplotlib as mpl  # noqa: PLC0415 - an extra, loaded only when a plot is asked for

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the backend is chosen

    rows = [row for row in report.rows if row.ratio is not None and row.ratio > 0]
    figure, axes = plt.subplots(figsize=(9, 0.5 * len(rows) + 1.5), layout="constrained")
    colours = ["tab:blue" if row.holds else "tab:red" for row in rows]
    axes.barh([row.case for row in rows], [row.ratio or 0.0 for row in rows], color=colours)
    axes.set_xscale("log")
    axes.set_xlabel("ratio to the peer (red: the bar does not hold)")
    axes.invert_yaxis()
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "ratios.svg"
    figure.savefig(target)
    plt.close(figure)
    return target
