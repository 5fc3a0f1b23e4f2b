"""Answers as pictures: bars with error bars, or a line over time. Needs the extra `plots`."""

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from dayfly.privacy.errors import InvalidQuery, SandboxError

from .results import Release

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["figure"]

_MOST_TICKS = 40


def figure(release: Release, column: str = "") -> "Figure":
    """A column of an answer with its intervals, one bar per group; with one key of times a line.

    Args:
        release: The answer.
        column: Name of the estimate; the first one where none is given.

    Raises:
        InvalidQuery: there is no such column.
        SandboxError: matplotlib is not installed.
    """
    name = column or release.columns[0]
    if name not in release.columns:
        raise InvalidQuery(f"column={name!r} must be one of {', '.join(release.columns)}; choose one")
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - an extra
    except ImportError:
        raise SandboxError(
            "plots=<missing> must be installed to draw; run pip install 'dayfly[plots]'"
        ) from None
    keys = [key.column for key in release.query.group_by]
    found = Figure(figsize=(8, 4), layout="constrained")
    axes = found.subplots()
    if len(keys) == 1 and pa.types.is_timestamp(release.table[keys[0]].type):
        _line(axes, release, keys[0], name)
    else:
        _bars(axes, release, keys, name)
    axes.set_ylabel(name)
    axes.set_title(f"{name}, {release.confidence:.0%} intervals of the noise", fontsize="medium")
    return found


def _values(release: Release, name: str) -> tuple[Any, Any, Any]:
    table = release.table
    return table[name].to_numpy(), table[f"{name}_low"].to_numpy(), table[f"{name}_high"].to_numpy()


def _line(axes: "Axes", release: Release, key: str, name: str) -> None:
    value, low, high = _values(release, name)
    times = release.table[key].to_numpy()
    axes.plot(times, value, marker="o", markersize=3)
    axes.fill_between(times, low, high, alpha=0.25, linewidth=0)
    axes.tick_params(axis="x", rotation=30)


def _bars(axes: "Axes", release: Release, keys: list[str], name: str) -> None:
    value, low, high = _values(release, name)
    labels = [
        " / ".join(str(row[key]) for key in keys) or "all" for row in release.table.select(keys).to_pylist()
    ]
    labels = labels or ["all"]
    places = range(len(value))
    below, above = (value - low).clip(0), (high - value).clip(0)
    axes.bar(places, value, yerr=[below, above], capsize=2, alpha=0.8)
    if len(labels) <= _MOST_TICKS:
        axes.set_xticks(
            list(places),
            labels,
            rotation=60 if len(labels) > 6 else 0,
            ha="right" if len(labels) > 6 else "center",
        )
