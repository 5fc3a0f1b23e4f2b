"""`dayfly federate local`: a plan over channels' folders in this process."""

from pathlib import Path
from typing import Annotated, Any

import typer

from dayfly.engine.cli.exits import fail, guarded
from dayfly.engine.cli.output import notes, print_json

from .display import stepper

__all__ = ["local"]


@guarded
def local(
    plans: Annotated[
        list[Path],
        typer.Argument(
            metavar="PLAN...",
            help="YAML documents, run in order; a later one may name an earlier one as its alignment.",
        ),
    ],
    *,
    channel: Annotated[
        list[Path], typer.Option(metavar="FILE", help="A channel's channel.yaml; may be repeated.")
    ],
    trial: Annotated[
        bool, typer.Option("--trial", help="Pay nothing: for data that promise nothing to anybody.")
    ] = False,
) -> None:
    """Run plans with the deployed protocols in one process, which sees all channels' data, and print the results.

    Example: dayfly federate local align.yaml churn.yaml --channel shop/channel.yaml --channel wifi/channel.yaml
    """
    import secrets  # noqa: PLC0415 - only commands load libraries
    from contextlib import ExitStack  # noqa: PLC0415 - as above

    import msgspec  # noqa: PLC0415 - as above

    from dayfly.federation.accounting import ReleaseBudget, TrialBudget  # noqa: PLC0415 - as above
    from dayfly.federation.deployed.folders import ChannelSettings, read_yaml  # noqa: PLC0415 - as above
    from dayfly.federation.deployed.serving import ledger_budget, now_ms  # noqa: PLC0415 - as above
    from dayfly.federation.runs import ChannelData, LocalFederation, Plan  # noqa: PLC0415 - as above
    from dayfly.privacy.ledger import Ledger  # noqa: PLC0415 - as above
    from dayfly.privacy.noise import OpenDpNoise  # noqa: PLC0415 - as above

    if len(channel) < 2:
        fail(f"channels={len(channel)} must be at least two; repeat --channel")
    settings = {path: read_yaml(path, ChannelSettings) for path in channel}
    with ExitStack() as stack:
        budgets: dict[str, ReleaseBudget] = {}
        for path, one in settings.items():
            if trial:
                budgets[one.name] = TrialBudget()
                continue
            ledger = stack.enter_context(Ledger.open(path.parent / one.budget.ledger, now_ms=now_ms))
            budgets[one.name] = ledger_budget(ledger, one, path.parent, resumed=False)
        federation = LocalFederation(
            [ChannelData.load(one.name, one.data, folder=path.parent) for path, one in settings.items()],
            budgets=budgets,
            random_bytes=secrets.token_bytes,
            noise=OpenDpNoise(),
            now_ms=now_ms,
        )
        results: dict[str, dict[str, Any]] = {}
        for path in plans:
            plan = read_yaml(path, Plan)
            if plan.alignment is not None:
                if plan.alignment not in results:
                    fail(
                        f"alignment={plan.alignment!r} must be an earlier plan of {sorted(results)}; put it before"
                    )
                aligned = results[plan.alignment]
                given = {key: aligned[key] for key in ("alignment", "universe", "purpose")}
                plan = msgspec.structs.replace(plan, settings={**plan.settings, **given})
            results[path.stem] = dict(federation.run(plan, shown=stepper(notes())).document)
    print_json(results)
