"""The CRM module copied out of Dayfly, and the snippets of docs/fragments.md, executed."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dayfly.privacy import errors
from dayfly.privacy.fragments import LeaseRequest, wire
from dayfly.privacy.fragments.wire import SealedClaims

from .test_lease import _jwk
from .world import AUDIENCE, FIELDS, ISSUER, LEASE_URL, NOW_MS, World, order

ROOT = Path(__file__).parents[3]
VALUES = {
    field.name: list(field.value) if isinstance(field.value, tuple) else field.value for field in FIELDS
}


def snippet(language: str) -> str:
    text = (ROOT / "docs" / "fragments.md").read_text(encoding="utf-8")
    (found,) = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return str(found)


def test_the_python_snippet_reads_a_fragment() -> None:
    world = World()
    names: dict[str, Any] = {}
    exec(compile(snippet("python"), "docs/fragments.md", "exec"), names)
    crm = names["connect"](world.cdp.jwks(NOW_MS), ISSUER, AUDIENCE, LEASE_URL)
    world.recipients[AUDIENCE] = crm.jkt
    token = world.cdp.mint(order(), NOW_MS).token
    values, shown = names["read"](crm, token, NOW_MS, world.cdp.nonce(NOW_MS), world.lease)
    assert values == {field.name: field.value for field in FIELDS}
    assert shown.startswith(token)


COPIED = """
import json, os, sys
from cryptography.hazmat.primitives.serialization import load_pem_private_key
import msgspec
from dayfly.privacy.fragments.crm import CrmClient
from dayfly.privacy.fragments.wire import Lease
assert not [name for name in sys.modules if name.startswith("dayfly.") and name not in (
    "dayfly.privacy", "dayfly.privacy.errors", "dayfly.privacy.fragments", "dayfly.privacy.fragments.crm",
    "dayfly.privacy.fragments.strict", "dayfly.privacy.fragments.wire")], "imports more than it says"
given = json.loads(sys.stdin.readline())
crm = CrmClient(jwks=given["jwks"], issuer=given["issuer"], audience=given["audience"], lease_url=given["url"],
                key=load_pem_private_key(given["key"].encode(), None), random_bytes=os.urandom)
verified = crm.verify(given["token"], given["now"])
pending = crm.lease_request(verified, given["now"], given["nonce"])
print(msgspec.json.encode(pending.request).decode(), flush=True)
opened = crm.open(verified, pending, msgspec.json.decode(sys.stdin.readline(), type=Lease), given["now"])
print(json.dumps(dict(opened.values)))
"""


def given(world: World, token: str) -> dict[str, Any]:
    return {
        "jwks": world.cdp.jwks(NOW_MS),
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "url": LEASE_URL,
        "token": token,
        "now": NOW_MS,
        "nonce": world.cdp.nonce(NOW_MS),
    }


def converse(world: World, command: list[str], folder: Path, first: dict[str, Any]) -> str:
    """Start a CRM, answer its lease request, return its last words."""
    with subprocess.Popen(
        command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(first) + "\n")
        process.stdin.flush()
        request = msgspec.json.decode(process.stdout.readline(), type=LeaseRequest)
        lease = world.lease(request)
        return process.communicate(msgspec.json.encode(lease).decode() + "\n", timeout=60)[0]


def test_the_four_files_work_copied_out_of_dayfly(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    package = Path(wire.__file__).parent
    if "site-packages" in package.parts:
        pytest.skip("an installed dayfly would be found before the copied files; the source tree shows it")
    target = tmp_path / "dayfly" / "privacy" / "fragments"
    target.mkdir(parents=True)
    shutil.copy(errors.__file__, target.parent)
    for name in ("wire.py", "strict.py", "crm.py"):
        shutil.copy(package / name, target)
    (tmp_path / "main.py").write_text(COPIED)
    world = World()
    pem = world.crm_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    site = [path for path in sys.path if "site-packages" in path]
    runner = f"import sys; sys.path[:0] = {[str(tmp_path), *site]!r}; import runpy; runpy.run_path('main.py')"
    told = converse(
        world,
        [sys.executable, "-S", "-c", runner],
        tmp_path,
        {**given(world, world.cdp.mint(order(), NOW_MS).token), "key": pem},
    )
    assert json.loads(told) == VALUES


# --- Node ------------------------------------------------------------------------------------------------------------

DRIVER = """
import { createInterface } from "node:readline";
import { verifyFragment, leaseRequest, openFragment } from "./crm.mjs";
import { SDJwtInstance } from "@sd-jwt/core";
import { createHash, createPublicKey, verify } from "node:crypto";
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const given = JSON.parse((await lines.next()).value);
const now = new Date(given.now);
const claims = await verifyFragment(given.token, { ...given, now });
const { oneTime, request } = await leaseRequest(given.token, claims, { leaseUrl: given.url, crmJwk: given.key, nonce: given.nonce, now });
console.log(JSON.stringify(request));
const lease = JSON.parse((await lines.next()).value);
const opened = openFragment(given.token, claims, { oneTime, lease });
const key = createPublicKey({ key: given.jwks.keys[0], format: "jwk" });
const sdjwt = new SDJwtInstance({
  hasher: (data) => createHash("sha256").update(Buffer.from(data)).digest(), hashAlg: "sha-256",
  verifier: (data, sig) => verify("sha256", Buffer.from(data), { key, dsaEncoding: "ieee-p1363" }, Buffer.from(sig, "base64url")),
});
const { payload } = await sdjwt.verify(opened.presentation, { currentDate: Math.floor(given.now / 1000) });
console.log(JSON.stringify([opened.values, payload]));
process.exit(0);
"""


@pytest.mark.slow
def test_node_verifies_leases_and_opens_with_the_documented_code(tmp_path: Path) -> None:
    """`jose` for the documented snippet, `@sd-jwt/core` for what it would pass on."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node or npm is not installed")
    (tmp_path / "package.json").write_text('{"name":"crm","private":true,"type":"module"}')
    packages = ["jose@6", "@sd-jwt/core@0.15.0"]
    done = subprocess.run(
        [npm, "install", "--no-audit", "--no-fund", *packages], cwd=tmp_path, capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"npm could not install {packages}")
    (tmp_path / "crm.mjs").write_text(snippet("js"), encoding="utf-8")
    (tmp_path / "main.mjs").write_text(DRIVER)
    world = World()
    fragment = world.cdp.mint(order(), NOW_MS)
    told = converse(
        world,
        [node, "main.mjs"],
        tmp_path,
        {**given(world, fragment.token), "key": _jwk(world.crm_key, private=True)},
    )
    values, payload = json.loads(told)
    assert values == VALUES
    assert {name: payload[name] for name in VALUES} == VALUES
    assert payload["jti"] == fragment.jti


# --- the page itself -------------------------------------------------------------------------------------------------


def test_the_claims_table_names_the_claims_in_their_order() -> None:
    text = (ROOT / "docs" / "fragments.md").read_text(encoding="utf-8")
    told = [
        name
        for row in re.findall(r"^\| (`[^|]+) \|", text, re.MULTILINE)
        for name in re.findall(r"`([a-z_]+)", row)
    ]
    names = [field.encode_name for field in msgspec.structs.fields(SealedClaims)]
    assert list(dict.fromkeys(name for name in told if name in names)) == names


def test_the_refusal_table_names_every_reason() -> None:
    from dayfly.privacy.fragments import LeaseReason

    text = (ROOT / "docs" / "fragments.md").read_text(encoding="utf-8")
    assert not [reason for reason in LeaseReason if f"`{reason.value}`" not in text]
