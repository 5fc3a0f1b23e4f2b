"""What Flower costs and what we add to it: per message in one process, Flower's own secure aggregation beside ours, and a deployed training."""

import hashlib
import importlib
import importlib.util
import io
import logging
import os
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Final

import numpy as np

from dayfly.federation.identity import Identities, SigningIdentity
from dayfly.federation.secagg import Aggregator, Member, Settings, least_threshold
from dayfly.federation.wire import SERVER, Caller, Desk

from .measuring import median
from .rows import Row, at_most, missing_peer

__all__ = ["run"]

SUITE: Final = "federation"
MESSAGE_BAR_MS, DEPLOYED_BAR_SECONDS, MESSAGES_BAR = 1.0, 120.0, 14
MESSAGE_BYTES, WORDS = 4_096, 31
CUSTOMERS, STEPS = 20_000, 3


def run(*, quick: bool) -> list[Row]:
    """Rows of messages and of Flower's SecAgg+; in the long form also a training deployed with TLS."""
    if importlib.util.find_spec("flwr") is None:
        return [missing_peer(SUITE, "messages over Flower", "Flower", "install dayfly[federation]")]
    rows = [_message(100 if quick else 600)]
    rows.append(_secure_aggregation(10, sessions=1 if quick else 3))
    if not quick:
        rows.append(_secure_aggregation(30, sessions=1))
        rows += _deployed()
    return rows


def _digest(*parts: object) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()


def _message(messages: int) -> Row:
    """A request of the coordinator, through Flower's messages, the stub, the socket and the desk, and back."""
    from dayfly.federation.deployed.service import SocketServer  # noqa: PLC0415 - needs Flower to be of use
    from dayfly.federation.flower.in_process import plain_messages, stub_grid  # noqa: PLC0415 - as above

    keys = {name: SigningIdentity(name, _digest("node", name)) for name in ("shop", SERVER)}
    identities = Identities({name: key.public_key for name, key in keys.items()})
    run_id = _digest("run")[:16]
    desk = Desk(keys["shop"], identities, run=run_id)
    body = {"shop": os.urandom(MESSAGE_BYTES)}
    plain = plain_messages(body["shop"])
    with (
        tempfile.TemporaryDirectory(prefix="dayfly-") as folder,
        SocketServer(
            lambda message: desk.handle(message, lambda _, content: content), Path(folder) / "run" / "socket"
        ),
    ):
        caller = Caller(stub_grid({"shop": f"{folder}/run/socket"}), keys[SERVER], identities, run=run_id)
        ours, theirs = [], []
        for _ in range(messages):
            begin = time.process_time_ns()
            plain()
            middle = time.process_time_ns()
            caller.ask("ping", body)
            theirs.append((middle - begin) / 1e6)
            ours.append((time.process_time_ns() - middle) / 1e6)
    above = median(ours) - median(theirs)
    return Row(
        suite=SUITE,
        case=f"a message of {MESSAGE_BYTES:,} bytes and its reply over Flower in one process: our CPU above Flower's own",
        measured=round(above, 3),
        unit="ms",
        peer="Flower's message and reply of the same bytes, through protobuf",
        ratio=round(median(ours) / median(theirs), 2),
        note=f"medians of {messages}: {median(ours):.2f} ms with ours (signed, checked, numbered, over the channel's socket), {median(theirs):.2f} ms"
        " of Flower alone; the journal's write to disk is not in it",
        **at_most(above, MESSAGE_BAR_MS, "ms"),
    )


def _secure_aggregation(count: int, *, sessions: int) -> Row:
    """Flower's SecAgg+ through its legacy workflow and ours, one round with set-up, all parties in this process, nobody lost."""
    ours = median([_our_session(count) for _ in range(sessions + 1)][1:])
    case = f"secure aggregation, n={count}, d={WORDS}: ours beside Flower's SecAgg+, CPU of all parties"
    try:
        theirs = median([_flower_session(count) for _ in range(sessions)])
    except (ImportError, AttributeError, TypeError, RuntimeError, KeyError) as error:
        why = f"Flower's SecAgg+ does not run here: {error!r}"
        return Row(suite=SUITE, case=case, measured=round(ours, 1), unit="ms", note=why)
    return Row(
        suite=SUITE,
        case=case,
        measured=round(ours, 1),
        unit="ms",
        peer="Flower's SecAgg+",
        ratio=round(theirs / ours, 1),
        note=f"Flower {theirs:.0f} ms; its masks come from 28 bits, ours from 256; both with a complete graph and a threshold of more than half",
    )


def _our_session(count: int) -> float:
    names = tuple(f"channel-{number:02d}" for number in range(count))
    keys = {name: SigningIdentity(name, _digest("node", name)) for name in names}
    identities = Identities({name: key.public_key for name, key in keys.items()})
    settings = Settings(_digest("session")[:16], least_threshold(count), 1, WORDS)
    inputs = np.arange(WORDS, dtype=np.uint64)
    begin = time.process_time()
    members = {name: Member(keys[name], identities, settings, os.urandom(32)) for name in names}
    server = Aggregator(identities, settings)
    roster = server.roster(member.hello() for member in members.values())
    server.joined(member.join(roster) for member in members.values())
    round_ = server.begin(1, b"release", names)
    for name in names:
        round_.add(members[name].masked(round_.request(name), inputs))
    total = round_.open({name: members[name].unmasked(round_.unmask_request(name)) for name in names})
    spent = (time.process_time() - begin) * 1e3
    assert (total == inputs * np.uint64(count)).all()
    return spent


def _flower_session(count: int) -> float:
    """One round of `SecAggPlusWorkflow`; the bench reaches it by name, as only `dayfly.federation.flower` imports Flower."""
    app, client, server, workflow = (
        importlib.import_module(name)
        for name in ("flwr.app", "flwr.client", "flwr.server", "flwr.server.workflow")
    )
    mods = importlib.import_module("flwr.client.mod")
    in_process = importlib.import_module("dayfly.federation.flower.in_process").InProcess
    common = importlib.import_module("flwr.compat.common.parameter")
    logging.getLogger("flwr").setLevel(logging.CRITICAL)  # it sets its own when it is imported
    values = [np.arange(WORDS, dtype=np.float64) / WORDS]

    class Trains(client.NumPyClient):  # type: ignore[misc, name-defined]
        def fit(self, parameters: Any, config: Any) -> Any:
            del parameters, config
            return values, 1, {}

    client_app = client.ClientApp(lambda _: Trains().to_client(), mods=[mods.secaggplus_mod])
    grid = in_process(client_app, {node: {} for node in range(1, count + 1)})
    strategy = server.strategy.FedAvg(
        fraction_fit=1.0,
        fraction_evaluate=0.0,
        min_fit_clients=count,
        min_available_clients=count,
        initial_parameters=common.ndarrays_to_parameters(values),
    )
    context = server.LegacyContext(
        context=app.Context(run_id=1, node_id=0, node_config={}, state=app.RecordDict(), run_config={}),
        config=server.ServerConfig(num_rounds=1),
        strategy=strategy,
    )
    secure = workflow.SecAggPlusWorkflow(
        num_shares=count, reconstruction_threshold=least_threshold(count), max_weight=16
    )
    begin = time.process_time()
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        workflow.DefaultWorkflow(fit_workflow=secure)(grid, context)
    return (time.process_time() - begin) * 1e3


def _deployed() -> list[Row]:
    """The demo's deployment: a SuperLink and four SuperNodes over TLS with registered keys, alignment, then training."""
    from dayfly.federation.deployed.demo_world import synthetic  # noqa: PLC0415 - the long form alone
    from dayfly.federation.deployed.demonstration import demonstrate  # noqa: PLC0415 - as above

    world = synthetic(CUSTOMERS, epsilon=4.0)
    with tempfile.TemporaryDirectory(prefix="dayfly-bench-") as folder:
        found = demonstrate(
            Path(folder), world, steps=STEPS, told=lambda _: None, line=lambda step: str(step.get("step"))
        )
    seconds, messages = found["seconds"]["training"], 3 + 3 * STEPS
    load = os.getloadavg()[0]
    note = (
        f"{CUSTOMERS:,} customers, epsilon 4, {STEPS} steps, TLS and registered keys on loopback; AUC {found['auc']['federated']:.4f}, pooled"
        f" {found['auc']['pooled, no privacy']:.4f}; alignment before it {found['seconds']['alignment']:.0f} s; load {load:.1f} on {os.cpu_count()} cores"
    )
    return [
        Row(
            suite=SUITE,
            case="vertical training, 4 channels, deployed over Flower: wall time",
            measured=round(seconds, 1),
            unit="s",
            note=note,
            **at_most(seconds, DEPLOYED_BAR_SECONDS, "s"),
        ),
        Row(
            suite=SUITE,
            case="the same: messages per channel",
            measured=messages,
            unit="messages",
            note=note,
            **at_most(messages, MESSAGES_BAR, "messages"),
        ),
    ]
