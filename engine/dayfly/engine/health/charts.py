"""The charts of the page: plain SVG, without scripts, coloured by the page's style, each with a title and a description."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Final

from dayfly.engine.health.model import Hour, Point

__all__ = ["clock_text", "hour_bars", "number_text", "share_bar", "time_line"]

WIDTH: Final = 480
_LEFT: Final = 46
_RIGHT: Final = 8
_TOP: Final = 8
_BARS_HEIGHT: Final = 120
_LINE_HEIGHT: Final = 150
_FOOT: Final = 20
_GAP: Final = 3


def clock_text(at_ms: int, form: str = "%H:%M") -> str:
    """An instant as text, UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime(form)


def number_text(value: float) -> str:
    """A number short enough for an axis: 950, 9,500, 12.3k, 4.56M."""
    if abs(value) < 1e4:
        return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"
    rounded = float(f"{value:.3g}")
    for size, letter in ((1e9, "G"), (1e6, "M")):
        if abs(rounded) >= size:
            return f"{rounded / size:g}{letter}"
    return f"{rounded / 1e3:g}k"


def hour_bars(hours: Sequence[Hour], *, name: str, title: str, text: str) -> str:
    """Events per hour: usable ones, on top of them what was lost, and a mark where they were expected to reach.

    Args:
        hours: Oldest first; at least one.
        name: For ids in the page; letters, digits and hyphens.
        title: What a screen reader calls the chart.
        text: What the chart shows, in words.
    """
    top = _ceiling(max(max(hour.seen + hour.lost, hour.expected or 0) for hour in hours))
    width = (WIDTH - _LEFT - _RIGHT) / len(hours)
    parts: list[str] = []
    for index, hour in enumerate(hours):
        x = _LEFT + index * width + _GAP / 2
        seen, lost = (value / top * _BARS_HEIGHT for value in (hour.seen, hour.lost))
        base = _TOP + _BARS_HEIGHT
        parts.append(_bar("seen", x, base - seen, width - _GAP, seen))
        parts.append(_bar("lost", x, base - seen - lost, width - _GAP, lost))
        if hour.expected is not None:
            y = base - hour.expected / top * _BARS_HEIGHT
            parts.append(f'<path class="expected" d="M{x - 1:.1f} {y:.1f}h{width - _GAP + 2:.1f}"/>')
    starts = [hour.start_ms for hour in hours]
    labels = [(_LEFT + (index + 0.5) * width, starts[index]) for index in range(0, len(hours), 6)]
    return _svg(name, title, text, _BARS_HEIGHT, [*_axes(top, _BARS_HEIGHT, labels), *parts])


def time_line(points: Sequence[Point], *, name: str, title: str, text: str) -> str:
    """Live fragments over time; arguments as for `hour_bars`."""
    top = _ceiling(max((point.live for point in points), default=0))
    first, last = points[0].at_ms, points[-1].at_ms
    span = max(last - first, 1)
    inside = WIDTH - _LEFT - _RIGHT
    base = _TOP + _LINE_HEIGHT

    def place(point: Point) -> tuple[float, float]:
        return _LEFT + (point.at_ms - first) / span * inside, base - point.live / top * _LINE_HEIGHT

    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, points))
    marks = [(_LEFT + inside * part / 4, first + span * part // 4) for part in range(5 if span > 1 else 1)]
    area = f"{_LEFT},{base} {line} {place(points[-1])[0]:.1f},{base}"
    x, y = place(points[-1])
    drawn = [
        f'<polygon class="area" points="{area}"/>',
        f'<polyline class="line" points="{line}"/>',
        f'<circle class="now" cx="{x:.1f}" cy="{y:.1f}" r="4"/>',
    ]
    return _svg(name, title, text, _LINE_HEIGHT, [*_axes(top, _LINE_HEIGHT, marks), *drawn])


def share_bar(parts: Iterable[tuple[str, float]], *, title: str) -> str:
    """A bar of one line: its parts with their colour class and their share of the whole bar.

    Args:
        parts: Class and share; together at most 1.
        title: What a screen reader says.
    """
    drawn, x = [], 0.0
    for colour, share in parts:
        width = max(0.0, min(share, 1.0 - x / 100)) * 100
        drawn.append(f'<rect class="{colour}" x="{x:.2f}" y="0" width="{width:.2f}" height="10"/>')
        x += width
    return (
        '<svg class="share" viewBox="0 0 100 10" preserveAspectRatio="none" role="img"'
        f' aria-label="{escape(title)}"><title>{escape(title)}</title>'
        f'<rect class="rest" x="0" y="0" width="100" height="10"/>{"".join(drawn)}</svg>'
    )


def _svg(name: str, title: str, text: str, height: int, parts: Iterable[str]) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {_TOP + height + _FOOT}" role="img"'
        f' aria-labelledby="{name}-title {name}-desc"><title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-desc">{escape(text)}</desc>{"".join(parts)}</svg>'
    )


def _axes(top: float, height: int, marks: Iterable[tuple[float, int]]) -> list[str]:
    """Lines at nothing, half and all, and instants below."""
    parts = []
    for share in (0.0, 0.5, 1.0):
        y = _TOP + height * (1 - share)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>')
        parts.append(
            f'<text class="tick" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{number_text(top * share)}</text>'
        )
    for x, at_ms in marks:
        anchor = "start" if x < _LEFT + 4 else "end" if x > WIDTH - _RIGHT - 4 else "middle"
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{_TOP + height + 15}" text-anchor="{anchor}">{clock_text(at_ms)}</text>'
        )
    return parts


def _bar(colour: str, x: float, y: float, width: float, height: float) -> str:
    if height <= 0:
        return ""
    return f'<rect class="{colour}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'


def _ceiling(value: float) -> float:
    """The next even number of the series 2, 4, 10, 20, 40, 100, so that the half of it can be written."""
    size = 2.0
    while size < value:
        for factor in (2.0, 2.5, 2.0):
            size *= factor
            if size >= value:
                break
    return size
