"""Tables of the sandbox's commands: answers, foreseen errors and budgets."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from .instants import instant_text

if TYPE_CHECKING:
    from dayfly.privacy.ledger import BudgetRow, Remaining
    from dayfly.privacy.sandbox import Preview, Release

__all__ = ["accounts_table", "budgets", "cost_line", "preview_table", "release_table"]

_BAR = 20


def release_table(release: "Release") -> Table:
    """Keys, estimates, and half of each interval behind a plus-minus."""
    table = Table(box=None, pad_edge=False)
    keys = [key.column for key in release.query.group_by]
    for name in keys:
        table.add_column(name)
    for name in release.columns:
        table.add_column(name, justify="right")
        table.add_column(f"{release.confidence:.0%}", justify="right", style="dim")
    for row in release.rows():
        cells = [Text(_key(row[name])) for name in keys]
        for name in release.columns:
            cells.append(Text(_number(row[name])))
            cells.append(Text(f"{_number(row[f'{name}_low'])} .. {_number(row[f'{name}_high'])}"))
        table.add_row(*cells)
    return table


def cost_line(release: "Release") -> str:
    """What a release cost."""
    loss = release.loss
    parts = [f"{name} {float(value):.6g}" for name, value in _named(loss) if value]
    return f"cost at most {', '.join(parts)}; release {release.lineage.release_id}"


def _named(loss: Any) -> Iterable[tuple[str, Any]]:
    return ((name, getattr(loss, name)) for name in ("epsilon", "rho", "delta"))


def accounts_table(remaining: "Iterable[Remaining]") -> Table:
    """What is left of the accounts that paid."""
    table = Table(box=None, pad_edge=False)
    for name in ("account", "left", "of", "full again"):
        table.add_column(name)
    for one in remaining:
        limit = one.account.limit
        renews = "-" if one.renews_at_ms is None else instant_text(one.renews_at_ms)
        table.add_row(
            Text(f"{one.account.scope} {one.account.name}"),
            f"{limit.unit} {float(one.left):.6g}",
            f"{float(limit.amount):.6g}",
            renews,
        )
    return table


def preview_table(preview: "Preview") -> Table:
    """Foreseen errors."""
    table = Table(box=None, pad_edge=False)
    table.add_column("column")
    for name in ("std", f"{preview.confidence:.0%} +/-", "bias", "error", "relative"):
        table.add_column(name, justify="right")
    for one in preview.columns:
        cells = (one.std, one.half_width, one.bias, one.error, one.relative_error)
        unit = " (ranks)" if one.unit == "rank" else ""
        table.add_row(Text(one.name + unit), *(_optional(cell) for cell in cells))
    return table


def budgets(rows: "Iterable[BudgetRow]") -> Table:
    """Accounts with a bar of what is spent."""
    table = Table(box=None, pad_edge=False)
    for name in ("account", "spent", "left", "of", "", "delta left", "ever", "full again"):
        table.add_column(name)
    for row in rows:
        filled = round(row.share * _BAR)
        renews = "-" if row.renews_at_ms is None else instant_text(row.renews_at_ms)
        table.add_row(
            Text(f"{row.scope} {row.name}"),
            Text(row.spent),
            Text(row.left),
            Text(f"{row.unit} {row.limit}"),
            Text("#" * filled + "." * (_BAR - filled)),
            Text(row.delta_left),
            Text(row.ever),
            renews,
        )
    return table


def _key(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.6g}"


def _optional(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
