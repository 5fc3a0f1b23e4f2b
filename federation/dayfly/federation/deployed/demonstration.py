"""The demo's deployment from its start to its end: every process that it starts is ended, however it ends."""

import datetime as dt
import secrets
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import numpy as np
import yaml

from dayfly.federation.deployed.demo_world import DemoWorld, area_under_curve, logistic_scores
from dayfly.federation.deployed.folders import ServerFolder
from dayfly.federation.deployed.processes import free_port
from dayfly.federation.deployed.run_folder import RunFolder, with_alignment
from dayfly.federation.deployed.serving import Channel, Server, now_ms
from dayfly.federation.deployed.setting_up import set_up, spent
from dayfly.federation.runs.seats import Progress
from dayfly.federation.runs.vertical import VerticalPlan, scores_of

__all__ = ["Told", "demonstrate"]


@dataclass(frozen=True, slots=True)
class Told:
    """What happened, and what is waited for now."""

    line: str
    waiting_for: str


def demonstrate(
    root: Path,
    world: DemoWorld,
    *,
    steps: int,
    told: Callable[[Told], object],
    line: Callable[[Progress], str],
) -> dict[str, Any]:
    """Deploy, align, train, judge, end.

    Args:
        root: Folder of everything.
        world: The customers.
        steps: Gradients after the one-shot solution.
        told: Hears what happens.
        line: Puts a step of a run into words.

    Returns:
        AUCs, the curve, what was spent, and how long it took.

    Raises:
        DayflyError: a part of it failed; everything was ended.
    """
    told(Told(world.told, "keys and folders"))
    server, channels = set_up(
        root,
        world.tables(now_ms()),
        random_bytes=secrets.token_bytes,
        now=dt.datetime.now(dt.UTC),
        now_ms=now_ms,
    )
    with _interruptible(), ExitStack() as stack:
        began = time.monotonic()
        told(Told("keys, certificates and cards are made", "SuperLink"))
        link = stack.enter_context(Server(server))
        link.commands.register()
        told(Told(f"SuperLink, process {link.superlink.pid}, with TLS; keys registered", "SuperNodes"))
        running = [stack.enter_context(Channel(channel, port=free_port())) for channel in channels]
        for one in running:
            told(Told(f"channel {one.name}, SuperNode is process {one.supernode.pid}", "alignment"))

        def alive() -> None:
            link.revive()
            for one in running:
                one.revive()

        waits = {"align": "customers are aligned, a message takes some seconds", "train": "training"}
        plans = {
            "align": {"protocol": "align", "settings": world.alignment(), "return_within_seconds": 60},
            "train": {
                "protocol": "vertical",
                "settings": world.plan(steps=steps),
                "alignment": "align",
                "return_within_seconds": 60,
            },
        }
        runs = list[RunFolder]()
        path, seconds = list[Progress](), {"start": time.monotonic() - began}
        for name, plan in plans.items():
            run = RunFolder.make(
                server,
                name,
                yaml.safe_dump(plan, sort_keys=False).encode(),
                random_bytes=secrets.token_bytes,
                now_ms=now_ms(),
            )

            def shown(step: Progress, waiting: str = waits[name]) -> None:
                path.append(step)
                told(Told(line(step), waiting))

            runs.append(run)
            begun = time.monotonic()
            link.commands.follow(run, shown=shown, alive=alive)
            seconds[name] = time.monotonic() - begun
        told(Told("training is over", "processes to end"))
    return _judged(root, world, server, runs[-1], path, seconds)


def _judged(
    root: Path,
    world: DemoWorld,
    server: ServerFolder,
    run: RunFolder,
    path: list[Progress],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    spec = msgspec.convert(with_alignment(server, run.plan).settings, VerticalPlan).spec
    steps = spec.steps
    with np.load(server.runs / "train" / "arrays.npz") as saved:
        weights = saved["weights"]
    labels = world.testing_labels

    def area(scores: np.ndarray[Any, np.dtype[np.float64]]) -> float:
        return area_under_curve(scores, labels)

    releases = [step for step in path if step.get("step") == "release"]
    reached = [np.array(step["asked_at"]) for step in releases[1:]] + [weights]
    names = ["moments", *(f"step {number}" for number in range(1, steps + 1))]
    curve = [
        (name, area(scores_of(spec, one, world.testing))) for name, one in zip(names, reached, strict=True)
    ]
    single = {
        name: area(logistic_scores(values, world.training_labels, world.testing[name]))
        for name, values in world.training.items()
    }
    pooled = logistic_scores(
        np.column_stack(list(world.training.values())),
        world.training_labels,
        np.column_stack(list(world.testing.values())),
    )
    paid = {}
    for name in world.training:
        used, left, unit = spent(root / name / "budget.db", name, now_ms=now_ms)
        paid[name] = f"{unit} {float(used):.4f} spent, {float(left):.4f} left"
    return {
        "world": world.told,
        "auc": {
            "pooled, no privacy": area(pooled),
            "federated": curve[-1][1],
            "best single channel": max(single.values()),
            **{f"only {name}": value for name, value in single.items()},
        },
        "curve": curve,
        "epsilon": world.epsilon,
        "spent": paid,
        "messages": 3 + len(world.training) + 3 + 3 * steps,
        "seconds": {
            "start": seconds["start"],
            "alignment": seconds["align"],
            "training": seconds["train"],
        },
    }


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM ends the demo as Ctrl-C does, so that its processes are ended."""

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
