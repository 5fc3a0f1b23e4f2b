"""The health board: one report of an engine, as a value, as OpenMetrics text, as a table and as a page.

Names are imported when they are first used, so that reading a report loads no compiler.
"""

import typing

from dayfly.privacy import _lazy

__all__ = [
    "HEALTH_FILE",
    "Attention",
    "Budget",
    "ChannelHealth",
    "ChannelMeter",
    "DeliveryCounts",
    "HealthFile",
    "HealthReport",
    "Limits",
    "Point",
    "Watched",
    "read_health",
    "render_html",
    "render_openmetrics",
    "up_to_date",
    "write_health",
]

_HOMES = {
    "dayfly.engine.health.attention": ("Limits",),
    "dayfly.engine.health.collect": ("DeliveryCounts", "Watched"),
    "dayfly.engine.health.files": ("HEALTH_FILE", "HealthFile", "read_health", "up_to_date", "write_health"),
    "dayfly.engine.health.meter": ("ChannelMeter",),
    "dayfly.engine.health.model": ("Attention", "Budget", "ChannelHealth", "HealthReport", "Point"),
    "dayfly.engine.health.openmetrics": ("render_openmetrics",),
    "dayfly.engine.health.page": ("render_html",),
}

if typing.TYPE_CHECKING:
    from .attention import Limits
    from .collect import DeliveryCounts, Watched
    from .files import HEALTH_FILE, HealthFile, read_health, up_to_date, write_health
    from .meter import ChannelMeter
    from .model import Attention, Budget, ChannelHealth, HealthReport, Point
    from .openmetrics import render_openmetrics
    from .page import render_html
else:
    __getattr__ = _lazy.loader(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
