"""`dayfly federate demo`: a server and its channels on this machine, which train a model together."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dayfly.engine.cli.exits import ExitCode, fail, guarded
from dayfly.engine.cli.output import notes, print_json, screen

from .display import step_line
from .needs import need_flower

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from dayfly.federation.deployed.demo_world import DemoWorld
    from dayfly.federation.deployed.demonstration import Told

__all__ = ["demo"]

_MARK = "federation-demo"


@guarded
def demo(
    *,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where its files go; an earlier demo there is replaced.")
    ] = Path("federation-demo"),
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            envvar="DAYFLY_SHARED_DATA",
            help="Folder with public data sets (bank_marketing); without it scikit-learn's breast cancer patients, too few for noise, or made-up customers.",
        ),
    ] = None,
    customers: Annotated[
        int | None, typer.Option(min=1000, help="Made-up customers instead of real ones, and how many.")
    ] = None,
    epsilon: Annotated[
        float,
        typer.Option(min=0.1, max=64.0, help="Of all releases together, for one customer, at delta 1e-6."),
    ] = 4.0,
    steps: Annotated[int, typer.Option(min=0, max=5, help="Gradients after the one-shot solution.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as one JSON object.")] = False,
) -> None:
    """Start a SuperLink and a SuperNode per channel over TLS, align customers, train a model on columns of all, and clean up.

    Example: dayfly federate demo --out federation-demo
    """
    need_flower()
    from dayfly.federation.deployed.demonstration import demonstrate  # noqa: PLC0415 - only commands load libraries

    _remove_earlier(out)
    console = notes() if as_json else screen()
    world = _world(data, customers, epsilon)
    with console.status("") as status:

        def told(one: "Told") -> None:
            console.print(one.line, soft_wrap=True)
            status.update(one.waiting_for)

        found = demonstrate(out, world, steps=steps, told=told, line=step_line)
    (out / _MARK).touch()
    if as_json:
        print_json(found)
    else:
        _table(console, found)
    picture = _drawn(found, out)
    console.print(
        f"curve: {picture}" if picture else "curve: not drawn, install dayfly[plots]", soft_wrap=True
    )


def _world(data: Path | None, customers: int | None, epsilon: float) -> "DemoWorld":
    from dayfly.federation.deployed.demo_world import (  # noqa: PLC0415 - only commands load libraries
        bank_marketing,
        breast_cancer,
        synthetic,
    )

    if customers is not None:
        return synthetic(customers, epsilon=epsilon)
    found = bank_marketing(data, epsilon=epsilon) if data is not None else None
    return found or breast_cancer() or synthetic(20_000, epsilon=epsilon)


def _remove_earlier(out: Path) -> None:
    if not out.exists() or not any(out.iterdir()):
        return
    if not (out / _MARK).exists() and not (out / "server" / "server.yaml").exists():
        fail(f"out={str(out)!r} must be empty or an earlier demo; choose another folder", ExitCode.BAD_INPUT)
    shutil.rmtree(out)


def _table(console: "Console", found: "Mapping[str, Any]") -> None:
    from rich.table import Table  # noqa: PLC0415 - only commands load libraries

    table = Table(title=found["world"], title_justify="left")
    table.add_column("model")
    table.add_column("AUC", justify="right")
    for name, area in found["auc"].items():
        table.add_row(name, f"{area:.4f}")
    console.print(table)
    for name, spent in found["spent"].items():
        console.print(f"budget of {name}: {spent}")
    console.print(
        f"{found['messages']} messages per channel, {found['seconds']['alignment']:.0f} s to align,"
        f" {found['seconds']['training']:.0f} s to train"
    )


def _drawn(found: "Mapping[str, Any]", out: Path) -> Path | None:
    try:
        import matplotlib as mpl  # noqa: PLC0415 - an extra

        mpl.use("Agg")
        from matplotlib import pyplot as plt  # noqa: PLC0415 - after the backend is chosen
    except ImportError:
        return None
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    names, areas = zip(*found["curve"], strict=True)
    axes.plot(names, areas, marker="o", label="federated")
    for name, style in (("pooled, no privacy", "--"), ("best single channel", ":")):
        axes.axhline(found["auc"][name], linestyle=style, color="grey", label=name)
    axes.set_ylabel("AUC on customers kept apart")
    axes.legend()
    target = out / "auc.png"
    figure.savefig(target, dpi=120)
    plt.close(figure)
    return target
