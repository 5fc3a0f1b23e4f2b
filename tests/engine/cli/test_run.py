"""`dayfly run` and `dayfly generate`: what they leave, and that nothing is left when they are refused."""

import contextlib
import hashlib
import os
from collections import Counter
from pathlib import Path
from typing import cast

import jwt
import orjson
import pytest
from jwt.types import Options

from dayfly.engine.generator import MARKETPLACE_COLUMNS, Generator, RawEvent
from dayfly.engine.intake import FileMapping, IntakeResult
from dayfly.engine.policy.load import example_policy_folder, load_policy
from dayfly.engine.runtime import EngineKeys, MemoryEngine

from .support import Run, dayfly, rows

FILES = {
    "audit.jsonl",
    "dead-letters.jsonl",
    "decisions.jsonl",
    "fragments.jsonl",
    "jwks.json",
    "lineage.dayfly",
    "log-key.pem",
    "receipts.jsonl",
    "summary.json",
    "tombstones",
}
START_MS = 1_794_787_200_000


def test_a_run_leaves_its_files_and_nothing_else(run: Run) -> None:
    assert {path.name for path in run.out.iterdir()} == FILES
    assert [path.name for path in run.out.parent.iterdir()] == ["out"]


def test_the_summary_that_is_printed_is_the_one_that_is_left(run: Run) -> None:
    assert orjson.loads((run.out / "summary.json").read_bytes()) == run.summary


def test_a_run_does_something_on_every_channel_and_balances(run: Run) -> None:
    summary = run.summary
    assert summary["fragments_minted"] == len(run.fragments) > 10
    assert summary["fragments_minted"] == summary["fragments_live"] + sum(summary["destroyed"].values())
    assert summary["intake"]["received"] == summary["intake"]["accepted"] + summary["intake"]["dead"]
    assert sum(summary["dead_letters"].values()) == len(rows(run.out / "dead-letters.jsonl"))


def test_every_fragment_has_a_tombstone_in_the_log_in_the_end(run: Run) -> None:
    stones = {row["jti"] for row in rows(run.out / "tombstones" / "tombstones.jsonl")}
    assert stones == {row["jti"] for row in run.fragments}
    assert f"minted {len(stones)} live 0" in (run.out / "tombstones" / "checkpoint").read_text()


def test_fragments_are_genuine_for_a_stock_verifier(run: Run) -> None:
    keys = jwt.PyJWKSet.from_json((run.out / "jwks.json").read_text())
    for row in run.fragments:
        token = row["token"].partition("~")[0]
        key = keys[jwt.get_unverified_header(token)["kid"]]
        options: Options = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
        claims = jwt.decode(token, key, algorithms=["ES256"], audience=row["audience"], options=options)
        assert (claims["jti"], claims["exp"] * 1000) == (row["jti"], row["expires_at_ms"])


def test_no_file_of_a_run_holds_an_identifier_or_a_search(run: Run, events: Path) -> None:
    app = []
    for line in (events / "app.segment.jsonl").read_bytes().splitlines():
        with contextlib.suppress(orjson.JSONDecodeError):
            app.append(orjson.loads(line))
    app = [message for message in app if isinstance(message, dict)]
    secrets = {message["userId"].encode() for message in app if "userId" in message}
    secrets |= {message["anonymousId"].encode() for message in app if "anonymousId" in message}
    # Lineage holds the texts of rules, and some rules name what people search for.
    policy = b"".join(path.read_bytes() for path in Run.POLICY.iterdir())
    secrets |= {
        message["properties"]["query"].encode()
        for message in app
        if message.get("event") == "Product Searched"
    }
    assert len(secrets) > 30
    secrets = {secret for secret in secrets if secret not in policy}
    kept = b"".join(path.read_bytes() for path in run.out.rglob("*") if path.is_file())
    assert [secret for secret in secrets if secret in kept] == []


def received(engine: MemoryEngine, event: RawEvent, folder: Path) -> list[IntakeResult]:
    """One generated event, taken in the way its channel sends it."""
    intake, mappings = engine.intake, cast("dict[str, FileMapping]", engine.shard.policy.mappings)
    if event.form in {"segment", "rudderstack"}:
        return [intake.segment([event.payload], event.channel, event.received_ms)]
    if event.form == "cloudevents":
        headers = {"Content-Type": "application/cloudevents+json"}
        return [intake.cloudevents(headers, event.payload, event.channel, event.received_ms)]
    if event.form == "jsonl":
        return list(intake.jsonl(event.payload, mappings["hotline-calls"], event.received_ms))
    path = folder / "row.csv"
    path.write_bytes(",".join(MARKETPLACE_COLUMNS).encode() + b"\n" + event.payload + b"\n")
    return list(intake.csv(path, mappings["marketplace-orders"], event.received_ms))


def test_a_run_over_files_counts_what_feeding_the_generator_directly_counts(run: Run, tmp_path: Path) -> None:
    policy = load_policy(example_policy_folder(), version=1)
    recipients = {name: hashlib.sha256(name.encode()).hexdigest()[:43] for name in ("crm-cn-1", "crm-eu-1")}
    counts: dict[str, Counter[str]] = {
        name: Counter() for name in ("intake", "events", "entered", "left", "minted")
    }
    with MemoryEngine(
        policy, EngineKeys.generate("t", os.urandom), recipients=recipients, random_bytes=os.urandom
    ) as engine:
        now_ms = START_MS
        for event in Generator(5, 60, START_MS, 12 * 3_600_000):
            outcomes = []
            while now_ms // 1_000 < (event.received_ms - 1) // 1_000:
                now_ms = (now_ms // 1_000 + 1) * 1_000
                outcomes.append(engine.tick(now_ms))
            outcomes += [
                engine.take(result, event.received_ms) for result in received(engine, event, tmp_path)
            ]
            now_ms = event.received_ms
            for outcome in outcomes:
                counts["intake"].update(outcome.intake)
                counts["events"].update(outcome.decisions.counts)
                for tag in outcome.decisions.tags:
                    counts["entered" if tag.change == "enter" else "left"][tag.tag] += 1
                orders = {made.order.order_id: made.order.rule.id for made in outcome.decisions.orders}
                counts["minted"].update(orders[item.order_id] for item in outcome.fragments)
    assert {name: dict(sorted(found.items())) for name, found in counts.items()} == {
        name: run.summary[name] for name in counts
    }


def test_generated_events_need_no_files_and_give_the_same(run: Run) -> None:
    result = dayfly("run", "--generate", "--people", 60, "--hours", 12, "--seed", 5, "--json")
    summary = orjson.loads(result.stdout)
    same = ("intake", "events", "entered", "left", "minted", "destroyed", "refusals", "first_ms", "now_ms")
    assert {name: summary[name] for name in same} == {name: run.summary[name] for name in same}
    assert summary["out"] is None


def test_for_people_the_summary_is_tables_without_escape_codes() -> None:
    result = dayfly("run", "--generate", "--people", 10, "--hours", 1)
    assert result.exit_code == 0
    for title in (
        "events/s",
        "tags",
        "fragments",
        "refusals by reason",
        "dead letters by reason",
        "batch latency",
    ):
        assert title in result.stdout
    assert "\x1b" not in result.output


def test_equal_seeds_write_equal_files_and_other_seeds_others(events: Path, tmp_path: Path) -> None:
    for name, seed in (("same", 5), ("other", 6)):
        dayfly("generate", "--out", tmp_path / name, "--people", 60, "--hours", 12, "--seed", seed)
    content = {name: (tmp_path / name / "app.segment.jsonl").read_bytes() for name in ("same", "other")}
    assert content["same"] == (events / "app.segment.jsonl").read_bytes() != content["other"]


def test_generate_tells_the_lines_of_each_file(tmp_path: Path) -> None:
    result = dayfly("generate", "--out", tmp_path / "events", "--people", 5, "--hours", 1, "--json")
    told = orjson.loads(result.stdout)["lines"]
    for name, lines in told.items():
        header = 1 if name.endswith(".csv") else 0
        assert len((tmp_path / "events" / name).read_bytes().splitlines()) - header == lines


@pytest.fixture
def broken_policy(tmp_path: Path) -> Path:
    folder = tmp_path / "policy"
    folder.mkdir()
    (folder / "tags.yaml").write_text("kind: tags\ntags:\n  - tag: a b\n")
    return folder


def test_refused_arguments_end_with_status_2_a_reason_and_nothing_written(
    events: Path, tmp_path: Path, broken_policy: Path
) -> None:
    app = events / "app.segment.jsonl"
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("keep me")
    other = tmp_path / "till.jsonl"
    other.write_text("{}\n")
    untimed = tmp_path / "app.jsonl"
    untimed.write_text('{"type":"track"}\n')
    policy = ("--policy", Run.POLICY)
    cases: list[tuple[list[object], str]] = [
        ([], "events must come from files or from the generator"),
        (["--generate", "--events", app], "not both"),
        (["--events", app], "policy must be given"),
        (["--events", tmp_path / "absent.jsonl", *policy], "absent.jsonl' must be an existing file"),
        (["--events", other, *policy], "must begin with the name of a channel"),
        (["--events", untimed, *policy], "must say in its lines when they arrived"),
        (["--events", app, app, *policy], "must be different"),
        (["--events", app, "--policy", tmp_path / "nowhere"], "must be a folder"),
        (["--events", app, "--policy", broken_policy], "tags.yaml:3:"),
        (["--events", app, *policy, "--out", full], "must not exist or be an empty folder"),
        (["--events", app, *policy, "--out", app], "must not exist or be an empty folder"),
        (["--events", app, *policy, "--recipient", "crm-cn-1"], "must be AUDIENCE=THUMBPRINT"),
        (
            ["--events", app, *policy, "--recipient", "nobody=" + "x" * 43],
            "must be an audience of the policy",
        ),
        (["--generate", "--start", "yesterday"], "must be a time such as"),
        (["--generate", "--people", "0"], "people"),
        (["--generate", "--hours", "-1"], "hours"),
        (["--generate", "--tick-ms", "0"], "tick-ms"),
        (["--generate", "--speed", "-2"], "speed"),
        (["--generate", "--no-such-option"], "No such option"),
    ]
    before = sorted(path.name for path in tmp_path.iterdir())
    for arguments, reason in cases:
        out = [] if "--out" in arguments else ["--out", tmp_path / "out"]
        result = dayfly("run", *arguments, *out)
        assert (result.exit_code, reason in result.output) == (2, True), (arguments, result.output)
        assert "Traceback" not in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (full / "mine.txt").read_text() == "keep me"


def test_generate_refuses_a_folder_that_holds_something(events: Path) -> None:
    before = {path.name: path.read_bytes() for path in events.iterdir()}
    result = dayfly("generate", "--out", events)
    assert result.exit_code == 2
    assert "must not exist or be an empty folder" in result.output
    assert {path.name: path.read_bytes() for path in events.iterdir()} == before


def test_a_registered_key_is_bound_into_the_fragments(tmp_path: Path) -> None:
    thumbprint = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT"[:43]
    arguments = ("--generate", "--people", 40, "--hours", 6, "--out", tmp_path / "out")
    assert dayfly("run", *arguments, "--recipient", f"crm-cn-1={thumbprint}").exit_code == 0
    row = next(
        row
        for row in rows(tmp_path / "out" / "fragments.jsonl")
        if row["profile"] == "F1" and row["audience"] == "crm-cn-1"
    )
    claims = jwt.decode(row["token"].partition("~")[0], options={"verify_signature": False})
    assert claims["cnf"]["jkt"] == thumbprint
