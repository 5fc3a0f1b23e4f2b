"""The service of docs/embedding.md runs: from a batch over HTTP to a fragment that its CRM leases over HTTP and opens."""

import asyncio
import base64
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi.testclient import TestClient

from dayfly.engine.delivery.items import FragmentReady
from dayfly.engine.durable import Engine, EngineSettings, ErasureCertificate, Outside, verify_certificate
from dayfly.engine.errors import EngineBusy, EngineClosed, EngineFailed, StoreLocked
from dayfly.privacy.errors import LeaseRefused, UnknownKey
from dayfly.privacy.fragments import CrmClient, Lease, LeaseReason
from dayfly.privacy.fragments.wire import thumbprint
from dayfly.privacy.keys import BareSeal, FileKeyProvider, PassphraseSeal, ScryptCost
from tests.engine.runtime.world import CHINA, ISSUER, LEASE_URL, consent_record, furniture

from . import ROOT, blocks

PAGE = ROOT / "docs" / "embedding.md"
ADMIN = {"Authorization": "Bearer admin-secret"}
APP = {"Authorization": "Basic " + base64.b64encode(b"key-of-app:").decode()}
PASSPHRASE = "correct horse battery"


@pytest.fixture(scope="module")
def page() -> SimpleNamespace:
    """Names of all Python blocks of the page, executed in order as one module."""
    names: dict[str, Any] = {"__name__": "embedding"}
    for language, body in blocks(PAGE):
        if language == "python":
            exec(compile(body, PAGE.name, "exec"), names)
    return SimpleNamespace(**names)


class Site:
    """The service over one store."""

    def __init__(self, folder: Path, page: SimpleNamespace) -> None:
        self.page = page
        self.folder = folder
        self.store = folder / "store"
        self.crm_key = ec.generate_private_key(ec.SECP256R1())
        self.keys = FileKeyProvider.create(
            folder / "secrets" / "shop.keys", "shop", seal=BareSeal(), random_bytes=os.urandom, now_ms=1
        )
        self.engine: Engine
        self.numbers = iter(range(1_000_000))

    def open_engine(self) -> Engine:
        self.engine = Engine.open(
            self.store,
            self.keys,
            policy=furniture(),
            recipients={CHINA: thumbprint(self.crm_key.public_key())},
            settings=EngineSettings(tick_ms=5),
            outside=Outside(issuer=ISSUER, lease_url=LEASE_URL),
        )
        return self.engine

    def client(self) -> TestClient:
        app = self.page.create_app(self.open_engine, self.keys, {"key-of-app": "app"}, "admin-secret")
        return TestClient(app, raise_server_exceptions=False)

    def calls(self, user: str, *materials: str) -> bytes:
        now = time.time_ns() // 1_000_000
        events = [
            {
                "type": "track",
                "messageId": f"m-{next(self.numbers)}",
                "userId": user,
                "event": "Product Viewed",
                "properties": {
                    "product_id": f"p-{number}",
                    "category": "sofa",
                    "material": material,
                    "price": 4_000,
                },
                "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 1_000))
                + f".{now % 1_000:03d}Z",
            }
            for number, material in enumerate(materials)
        ]
        return orjson.dumps({"batch": events})

    def consent_of(self, user: str) -> dict[str, Any]:
        now = time.time_ns() // 1_000_000
        person = self.keys.pseudonyms().current("user", user).value
        record: dict[str, Any] = msgspec.to_builtins(consent_record(person, now))
        del record["principal"]
        return {"user": user, "record": record}

    def next_fragment(self) -> FragmentReady:
        with self.engine.fragments(0) as feed:
            while (item := feed.get(5)) is not None:
                if isinstance(item, FragmentReady):
                    return item
        raise AssertionError("no fragment came")


@pytest.fixture
def site(tmp_path: Path, page: SimpleNamespace) -> Site:
    return Site(tmp_path, page)


@pytest.fixture
def http(site: Site) -> Iterator[TestClient]:
    with site.client() as client:
        yield client


def minted(site: Site, http: TestClient, user: str = "u-1") -> FragmentReady:
    assert http.post("/consent", json=site.consent_of(user), headers=ADMIN).status_code == 200
    sent = http.post("/v1/batch", content=site.calls(user, "leather", "fabric", "velvet"), headers=APP)
    assert sent.json()["dead_letters"] == []
    return site.next_fragment()


def test_a_batch_becomes_a_fragment_that_its_crm_leases_and_opens(site: Site, http: TestClient) -> None:
    fragment = minted(site, http)
    crm = CrmClient(
        jwks=http.get("/.well-known/jwks.json").json(),
        issuer=ISSUER,
        audience=CHINA,
        key=site.crm_key,
        lease_url=LEASE_URL,
        random_bytes=os.urandom,
    )
    now = time.time_ns() // 1_000_000
    verified = crm.verify(fragment.token, now)

    def posted(nonce: str) -> tuple[Any, Any]:
        pending = crm.lease_request(verified, now, nonce)
        body = {"jti": pending.request.jti, "suite": pending.request.suite, "otk": pending.request.otk}
        return pending, http.post("/lease", json=body, headers={"DPoP": pending.request.proof})

    _, refused = posted("an-old-nonce")
    assert (refused.status_code, refused.json()) == (401, {"error": "use_dpop_nonce"})
    assert "use_dpop_nonce" in refused.headers["WWW-Authenticate"]
    pending, given = posted(refused.headers["DPoP-Nonce"])
    assert given.status_code == 200
    lease = msgspec.json.decode(given.content, type=Lease)
    assert crm.open(verified, pending, lease, now).values["materials"] == ("fabric", "leather", "velvet")

    assert http.post("/withdrawal", json={"user": "u-1"}, headers=ADMIN).status_code == 200
    _, gone = posted(given.headers["DPoP-Nonce"])
    assert (gone.status_code, gone.json()) == (403, {"error": "gone"})


def test_what_is_no_event_is_told_and_the_rest_of_the_batch_counts(http: TestClient) -> None:
    body = orjson.dumps(
        {
            "batch": [
                {"type": "track"},
                {"type": "track", "messageId": "m", "userId": "u", "event": "Login", "properties": {}},
            ]
        }
    )
    told = http.post("/v1/batch", content=body, headers=APP).json()
    (letter,) = told["dead_letters"]
    assert letter["place"].endswith("batch 0")
    assert "must" in letter["detail"]
    assert told["position"] > 0


def test_a_source_without_a_known_write_key_is_refused(http: TestClient) -> None:
    assert http.post("/v1/batch", content=b"{}").status_code == 401
    assert http.post("/v1/batch", content=b"{}", auth=("stranger", "")).status_code == 401


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/consent"), ("POST", "/withdrawal"), ("DELETE", "/people/u")]
)
def test_only_admins_record_consents_and_erase(http: TestClient, method: str, path: str) -> None:
    assert http.request(method, path, json={}).status_code in {401, 403}
    assert http.request(method, path, json={}, headers={"Authorization": "Bearer no"}).status_code == 403


def test_a_malformed_lease_request_is_400_and_a_malformed_consent_422(site: Site, http: TestClient) -> None:
    assert http.post("/lease", json={"jti": 7}).status_code == 400
    wrong = site.consent_of("u-1")
    wrong["record"]["state"] = "maybe"
    answer = http.post("/consent", json=wrong, headers=ADMIN)
    assert answer.status_code == 422
    assert "must" in answer.json()["error"]


def test_an_erasure_answers_with_certificates_that_verify(site: Site, http: TestClient) -> None:
    minted(site, http)
    answer = http.delete("/people/u-1", headers=ADMIN)
    assert answer.status_code == 200
    (certificate,) = msgspec.json.decode(answer.content, type=list[ErasureCertificate])
    verify_certificate(certificate, site.keys.notes().verifier)
    assert len(certificate.fragments) == 1


def test_health_and_metrics_are_served(http: TestClient) -> None:
    http.post("/v1/batch", content=b"{", headers=APP)
    assert json.loads(http.get("/health").content)
    answer = http.get("/metrics")
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert answer.text.rstrip().endswith("# EOF")


def test_a_second_worker_is_refused_with_the_process_id_of_the_first(site: Site, http: TestClient) -> None:
    with pytest.raises(StoreLocked, match=f"process {os.getpid()}"), site.client():
        pass
    assert http.get("/health").status_code == 200


def test_after_a_stop_the_next_start_goes_on(site: Site) -> None:
    with site.client() as http:
        body = site.calls("u-1", "leather", "fabric")
        http.post("/consent", json=site.consent_of("u-1"), headers=ADMIN)
        http.post("/v1/batch", content=body, headers=APP)
    with pytest.raises(EngineClosed):
        site.engine.nonce()
    with site.client() as http:
        http.post("/v1/batch", content=body, headers=APP)  # sent again: each event counts once
        http.post("/v1/batch", content=site.calls("u-1", "velvet"), headers=APP)
        assert site.next_fragment().audience == CHINA


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (EngineBusy("x"), 503, "1"),
        (EngineClosed("x"), 503, "10"),
        (EngineFailed("x"), 503, "10"),
        (LeaseRefused(LeaseReason.BUSY, "x"), 503, "60"),
        (LeaseRefused(LeaseReason.PROOF, "x"), 401, None),
        (LeaseRefused(LeaseReason.CONSENT, "x"), 403, None),
        (UnknownKey("x"), 500, None),
    ],
    ids=["busy", "closed", "failed", "lease-busy", "proof", "consent", "other"],
)
def test_errors_have_their_status(
    page: SimpleNamespace, error: Exception, status: int, retry: str | None
) -> None:
    found, headers = page.answer_to(error)
    assert (found, headers.get("Retry-After")) == (status, retry)


def test_a_busy_engine_is_told_to_the_caller(
    site: Site, http: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def busy(*_: object) -> None:
        raise EngineBusy("waiting=9 events must be fewer; submit more slowly")

    monkeypatch.setattr(site.engine, "asubmit", busy)
    answer = http.post("/v1/batch", content=b"{}", headers=APP)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


def test_the_service_starts_from_its_environment(
    tmp_path: Path, page: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dayfly.engine import example_policy_folder

    seal = PassphraseSeal(lambda: PASSPHRASE, random_bytes=os.urandom, cost=ScryptCost(2**14))
    keys = tmp_path / "secrets" / "shop.keys"
    FileKeyProvider.create(keys, "shop", seal=seal, random_bytes=os.urandom, now_ms=1)
    (tmp_path / "phrase").write_text(PASSPHRASE + "\n")
    (tmp_path / "recipients.json").write_text("{}")
    for name, value in {
        "PASSPHRASE_FILE": tmp_path / "phrase",
        "KEYS": keys,
        "STORE": tmp_path / "store",
        "POLICY": example_policy_folder(),
        "RECIPIENTS": tmp_path / "recipients.json",
        "CHANNELS": '{"key-of-app": "app"}',
        "ADMIN_TOKEN": "admin-secret",
    }.items():
        monkeypatch.setenv(f"SHOP_{name}", str(value))
    with TestClient(page.service()) as http:
        assert len(http.get("/.well-known/jwks.json").json()["keys"]) == 1


def test_the_feed_can_be_forwarded_by_hand(site: Site, http: TestClient, page: SimpleNamespace) -> None:
    fragment = minted(site, http)
    http.post("/withdrawal", json={"user": "u-1"}, headers=ADMIN)
    sent: list[tuple[str, str]] = []
    recalled: list[tuple[str, ...]] = []
    with site.engine.fragments(0) as feed:

        def recall(orders: tuple[str, ...]) -> None:
            recalled.append(orders)
            feed.close()

        position = page.forward(feed, lambda audience, token: sent.append((audience, token)), recall)
    assert sent == [(CHINA, fragment.token)]
    assert recalled == [(fragment.order_id,)]
    assert position >= fragment.position


def test_delivery_runs_beside_the_engine(site: Site, http: TestClient, page: SimpleNamespace) -> None:
    from dayfly.engine.delivery import Outcome, Result
    from tests.engine.delivery.support import endpoint, settings_of

    sent: list[bytes] = []

    class Recorder:
        async def post(self, send: Any, progress: Any) -> Result:
            sent.append(send.body)
            return Result(Outcome.DELIVERED, "http_200")

        async def close(self) -> None:
            await asyncio.sleep(0)

    failures: list[BaseException] = []
    settings = settings_of(endpoint(audience=CHINA))
    with page.start_delivery(site.engine, site.folder, settings, Recorder(), failures.append):
        fragment = minted(site, http)
        end = time.monotonic() + 20
        while not sent and time.monotonic() < end:
            time.sleep(0.01)
    assert failures == []
    assert fragment.jti.encode() in sent[0]
