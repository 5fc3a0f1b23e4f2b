"""Commands that check what a run left, and those that check a policy: yes is 0, no is 1, unusable is 2."""

import json
from pathlib import Path

import jsonschema
import orjson
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from openlineage.client.run import RunEvent
from prov.model import ProvDocument

from .support import Run, dayfly, rows

# --- explain ------------------------------------------------------------------------------------------------------------


def test_explain_tells_every_field_in_a_sentence_and_a_table(run: Run) -> None:
    row = run.fragment()
    result = dayfly("explain", row["jti"], "--out", run.out)
    assert result.exit_code == 0
    assert f"{row['audience']} sees " in result.stdout
    assert "allows it for" in result.stdout
    assert f"fragment {row['jti']}" in result.stdout


def test_explain_as_json_by_jti_and_by_order_is_the_same(run: Run) -> None:
    row = run.fragment()
    found = [dayfly("explain", row[name], "--out", run.out, "--json").stdout for name in ("jti", "order_id")]
    document = orjson.loads(found[0])
    assert found[0] == found[1]
    assert document["jti"] == row["jti"]
    assert all(field["consents"] and field["rules"] for field in document["fields"])


def test_explain_of_one_field_tells_that_one(run: Run) -> None:
    row = run.fragment()
    fields = orjson.loads(dayfly("explain", row["jti"], "--out", run.out, "--json").stdout)["fields"]
    name = fields[0]["field"]
    told = orjson.loads(dayfly("explain", row["jti"], name, "--out", run.out, "--json").stdout)["fields"]
    assert told == fields[:1]


def test_explain_exports_what_openlineage_and_prov_read(run: Run) -> None:
    jti = run.fragment()["jti"]
    event = orjson.loads(dayfly("explain", jti, "--out", run.out, "--openlineage").stdout)
    assert RunEvent.__name__ in event["schemaURL"]
    assert event["outputs"][0]["facets"]["columnLineage"]["fields"]
    document = ProvDocument.deserialize(content=dayfly("explain", jti, "--out", run.out, "--prov").stdout)
    assert len(list(document.get_records())) > 5


def test_explain_refuses_what_it_cannot_explain(run: Run, tmp_path: Path) -> None:
    jti = run.fragment()["jti"]
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "lineage.dayfly").write_bytes(b"not lineage at all")
    cases: list[tuple[int, tuple[object, ...], str]] = [
        (1, (jti, "colour", "--out", run.out), "field='colour' must be"),
        (1, ("nobody", "--out", run.out), "jti='nobody' must be"),
        (2, (jti, "--out", tmp_path), "must be a folder that `dayfly run --out` left"),
        (2, (jti, "--out", damaged), "must be a lineage file"),
        (2, (jti, "--out", run.out, "--json", "--prov"), "choose one"),
        (2, (jti, "sku", "--out", run.out, "--prov"), "must be left out"),
        (2, (jti,), "--out"),
    ]
    for code, arguments, reason in cases:
        result = dayfly("explain", *arguments)
        assert (result.exit_code, reason in result.output) == (code, True), (arguments, result.output)
    assert not (tmp_path / "lineage.dayfly").exists()


def test_an_id_that_begins_with_a_hyphen_is_an_id(run: Run) -> None:
    for name in ("-hDPo2gqDZ5NBA6B-dT8Qi", "--Do2gqDZ5NBA6B-dT8Qxx"):
        result = dayfly("explain", name, "--out", run.out)
        assert (result.exit_code, f"jti={name!r} must be" in result.output) == (1, True)


# --- verify -------------------------------------------------------------------------------------------------------------


def verifying(run: Run, *arguments: object, audience: str | None = None, stdin: str | None = None):  # type: ignore[no-untyped-def]
    row = run.fragment()
    named = ("--audience", audience or row["audience"], "--jwks", run.out / "jwks.json")
    return dayfly("verify", *arguments, *named, stdin=stdin)


def test_verify_takes_the_token_a_file_of_it_standard_input_and_a_runs_file(run: Run, tmp_path: Path) -> None:
    row = run.fragment()
    at = ("--at", row["issued_at_ms"])
    file = tmp_path / "token.txt"
    file.write_text(row["token"] + "\n")
    ways = [
        verifying(run, row["token"], *at),
        verifying(run, file, *at),
        verifying(run, "-", *at, stdin=row["token"]),
        verifying(run, run.out / "fragments.jsonl", "--jti", row["jti"], *at),
    ]
    assert [way.exit_code for way in ways] == [0, 0, 0, 0]
    assert all(f"genuine for {row['audience']}" in way.stdout for way in ways)


def test_verify_as_json_tells_the_claims(run: Run) -> None:
    row = run.fragment()
    told = orjson.loads(verifying(run, row["token"], "--at", row["issued_at_ms"], "--json").stdout)
    assert (told["genuine"], told["profile"], told["claims"]["jti"]) == (True, "F1", row["jti"])


def test_verify_says_no_with_status_1(run: Run) -> None:
    row = run.fragment()
    at, token = ("--at", row["issued_at_ms"]), row["token"]
    changed = token[:-20] + ("A" if token[-20] != "A" else "B") + token[-19:]
    assert verifying(run, changed, *at).exit_code == 1
    assert verifying(run, token, *at, audience="crm-x").exit_code == 1
    assert verifying(run, token, *at, "--issuer", "https://evil.example").exit_code == 1
    over = verifying(run, token, "--at", row["expires_at_ms"])
    assert (over.exit_code, "genuine and over" in over.output) == (1, True)
    assert verifying(run, token, "--at", row["expires_at_ms"] - 1).exit_code == 0


def test_verify_refuses_unusable_files_with_status_2(run: Run, tmp_path: Path) -> None:
    row = run.fragment()
    broken, keys = tmp_path / "broken.json", tmp_path / "keys.json"
    broken.write_text("{")
    keys.write_text('{"keys": []}')
    named = ("--audience", row["audience"])
    cases: list[tuple[tuple[object, ...], str]] = [
        ((row["token"], *named, "--jwks", broken), "must be a JSON file"),
        ((row["token"], *named, "--jwks", keys), "must include a usable ES256 key"),
        ((row["token"], *named, "--jwks", tmp_path / "absent"), "must be usable"),
        ((tmp_path / "absent", *named, "--jwks", run.out / "jwks.json"), "must be usable"),
        ((run.out / "fragments.jsonl", *named, "--jwks", run.out / "jwks.json"), "give --jti"),
        ((broken, *named, "--jwks", run.out / "jwks.json"), "must be a token or a run's"),
        ((row["token"], *named, "--jwks", run.out / "jwks.json", "--at", "noon"), "must be a time such as"),
    ]
    for arguments, reason in cases:
        result = dayfly("verify", *arguments)
        assert (result.exit_code, reason in result.output) == (2, True), (arguments, result.output)


# --- receipts -----------------------------------------------------------------------------------------------------------


def test_every_receipt_of_a_run_holds(run: Run) -> None:
    named = (run.out / "receipts.jsonl", "--log-key", run.out / "log-key.pem")
    told = orjson.loads(dayfly("receipt", "verify", *named, "--json").stdout)
    assert told["holds"]
    assert {item["jti"] for item in told["tombstones"]} == {row["jti"] for row in run.fragments}
    jti = run.fragments[3]["jti"]
    assert f"fragment {jti}: destroyed" in dayfly("receipt", "verify", *named, "--jti", jti).stdout


@pytest.mark.parametrize(
    ("part", "value"),
    [("jti", "A" * 22), ("dead_ms", 1), ("reason", "operator"), ("leases", 7), ("kc", "B" * 43)],
)
def test_a_receipt_with_one_changed_fact_does_not_hold(
    run: Run, tmp_path: Path, part: str, value: object
) -> None:
    receipt = rows(run.out / "receipts.jsonl")[0]
    receipt["tombstone"][part] = value
    file = tmp_path / "receipt.json"
    file.write_text(json.dumps(receipt))
    result = dayfly("receipt", "verify", file, "--log-key", run.out / "log-key.pem")
    assert (result.exit_code, "does not hold" in result.output) == (1, True)


def pem(path: Path, key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> Path:
    path.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


def test_a_receipt_does_not_hold_under_another_key_or_for_another_log(run: Run, tmp_path: Path) -> None:
    other = pem(tmp_path / "other.pem", ec.generate_private_key(ec.SECP256R1()).public_key())
    receipts = run.out / "receipts.jsonl"
    assert dayfly("receipt", "verify", receipts, "--log-key", other).exit_code == 1
    named = ("--log-key", run.out / "log-key.pem", "--origin", "other.example/log")
    assert dayfly("receipt", "verify", receipts, *named).exit_code == 1


def test_receipt_verify_refuses_unusable_files_with_status_2(run: Run, tmp_path: Path) -> None:
    receipts, key = run.out / "receipts.jsonl", run.out / "log-key.pem"
    wrong = pem(
        tmp_path / "rsa.pem", rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    )
    text = tmp_path / "text"
    text.write_text("no key and no receipt")
    cases: list[tuple[tuple[object, ...], str]] = [
        ((receipts, "--log-key", wrong), "must be a PEM public key"),
        ((receipts, "--log-key", text), "must be a PEM public key"),
        ((text, "--log-key", key), "must hold deletion receipts"),
        ((receipts, "--log-key", key, "--jti", "nobody"), "must hold the receipt asked for"),
        ((tmp_path / "absent", "--log-key", key), "must be usable"),
    ]
    for arguments, reason in cases:
        result = dayfly("receipt", "verify", *arguments)
        assert (result.exit_code, reason in result.output) == (2, True), (arguments, result.output)


# --- audit --------------------------------------------------------------------------------------------------------------


def test_an_audit_log_holds_until_a_line_is_altered_removed_or_moved(run: Run, tmp_path: Path) -> None:
    lines = (run.out / "audit.jsonl").read_bytes().splitlines(keepends=True)
    head = orjson.loads(dayfly("audit", "verify", run.out / "audit.jsonl", "--json").stdout)
    assert (head["holds"], head["lines"]) == (True, len(lines))
    altered = [line.replace(b'"allowed":true', b'"allowed":false') for line in lines]
    for number, broken in enumerate(
        [altered, lines[1:], lines[:3] + lines[4:], [*lines[:2], lines[3], lines[2]]]
    ):
        file = tmp_path / f"{number}.jsonl"
        file.write_bytes(b"".join(broken))
        assert dayfly("audit", "verify", file).exit_code == 1
    kept = ("--lines", head["lines"], "--sha256", head["sha256"])
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(b"".join(lines[:-1]))
    assert dayfly("audit", "verify", run.out / "audit.jsonl", *kept).exit_code == 0
    assert dayfly("audit", "verify", cut).exit_code == 0
    assert dayfly("audit", "verify", cut, *kept).exit_code == 1
    half = dayfly("audit", "verify", cut, "--lines", 3)
    assert (half.exit_code, "must be given together" in half.output) == (2, True)
    assert dayfly("audit", "verify", tmp_path / "absent").exit_code == 2


# --- policies -----------------------------------------------------------------------------------------------------------


def test_policy_check_says_yes_and_no_with_every_place(tmp_path: Path) -> None:
    good = dayfly("policy", "check", Run.POLICY)
    assert (good.exit_code, good.stdout.strip()) == (0, "policy has no problems")
    (tmp_path / "tags.yaml").write_text(
        'kind: tags\ntags:\n  - tag: a\n    purpose: p\n    topic: t\n    when: "count("\n'
    )
    bad = dayfly("policy", "check", tmp_path)
    told = orjson.loads(dayfly("policy", "check", tmp_path, "--json").stdout)
    assert bad.exit_code == 1
    assert [line for line in bad.stdout.splitlines() if line.startswith("tags.yaml:6:")]
    assert not told["ok"]
    assert {problem["line"] for problem in told["problems"]} >= {6}
    assert dayfly("policy", "check", tmp_path / "nowhere").exit_code == 1


def test_policy_schema_is_a_schema_that_the_examples_follow() -> None:
    schema = orjson.loads(dayfly("policy", "schema").stdout)
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    assert list(validator.iter_errors(yaml.safe_load((Run.POLICY / "settings.yaml").read_text()))) == []
    assert list(validator.iter_errors({"kind": "settings", "histroy": "1d"})) != []
