"""A retailer with one engine and two CRMs; the clock only moves when told."""

import functools
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import orjson
import yaml
from cryptography.hazmat.primitives.asymmetric import ec

from dayfly.engine.generator.times import iso_ms
from dayfly.engine.policy.load import example_policy_folder, policy_from_documents
from dayfly.engine.policy.model import Policy
from dayfly.engine.runtime import EngineKeys, MemoryEngine, Outcome
from dayfly.privacy.consent import ConsentRecord, ConsentState, Scope, Terms, TransferBasis, UseBudget
from dayfly.privacy.fragments import CrmClient, Fragment, LeaseRequest, OpenedFragment, PendingLease, Verified
from dayfly.privacy.fragments.wire import thumbprint

T0 = 1_795_358_400_000
MINUTE_MS = 60_000
DAY_MS = 86_400_000
ISSUER = "https://cdp.example"
LEASE_URL = "https://cdp.example/lease"
CHINA, EUROPE = "crm-cn-1", "crm-eu-1"
TERMS = Terms(jurisdiction="CN", transfer_basis=TransferBasis.CONTRACT)


def documents() -> list[dict[str, Any]]:
    """The furniture retailer's policy as plain documents."""
    return [
        document
        for path in sorted(example_policy_folder().glob("*.yaml"))
        for document in _flat(yaml.safe_load_all(path.read_text()))
    ]


def _flat(read: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for document in read:
        found += document if isinstance(document, list) else [document]
    return found


def changed(kind: str, change: Callable[[dict[str, Any]], None], *, version: int = 1) -> Policy:
    """The retailer's policy with one document changed."""
    read = documents()
    for document in read:
        if document["kind"] == kind:
            change(document)
    return policy_from_documents(read, version=version)


@functools.cache
def furniture() -> Policy:
    return policy_from_documents(documents(), version=1)


def wrapping_kernels() -> AbstractContextManager[object]:
    """Integers wrap in the kernels by design; without the JIT, NumPy would warn of it."""
    return np.errstate(over="ignore")


class World:
    """One engine under seeded keys."""

    def __init__(self, policy: Policy | None = None, *, seed: int = 1, **options: Any) -> None:
        draw = random.Random(seed)
        self.keys = EngineKeys.generate("shop", draw.randbytes)
        self.crm_keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in (CHINA, EUROPE)}
        self.random = draw.randbytes
        self.engine = MemoryEngine(
            policy or furniture(),
            self.keys,
            recipients={name: thumbprint(key.public_key()) for name, key in self.crm_keys.items()},
            random_bytes=draw.randbytes,
            issuer=ISSUER,
            lease_url=LEASE_URL,
            **options,
        )
        self.sent: list[dict[str, Any]] = []

    # --- what customers do ----------------------------------------------------------------------------------------------

    def person(self, user: str) -> bytes:
        return self.keys.intake.pseudonyms.current("user", user).value

    def act(
        self,
        user: str,
        event: str,
        at_ms: int,
        /,
        consent: Mapping[str, bool] | None = None,
        received_ms: int | None = None,
        **properties: Any,
    ) -> Outcome:
        """One event of the app, received when it happened unless said otherwise."""
        message: dict[str, Any] = {
            "type": "track",
            "messageId": f"m-{len(self.sent)}",
            "userId": user,
            "event": event,
            "properties": properties,
            "timestamp": iso_ms(at_ms),
        }
        if consent is not None:
            message["context"] = {"consent": {"categoryPreferences": dict(consent)}}
        self.sent.append(message)
        return self.engine.segment([orjson.dumps(message)], "app", received_ms or at_ms)

    def compare_sofas(
        self, user: str, at_ms: int, materials: Sequence[str] = ("leather", "fabric", "velvet")
    ) -> Outcome:
        """Look at sofas, one a second; the outcome of the last look."""
        for number, material in enumerate(materials):
            seen: dict[str, Any] = {
                "product_id": f"p-{number}",
                "category": "sofa",
                "material": material,
                "price": 4_000 + number,
            }
            outcome = self.act(user, "Product Viewed", at_ms + number * 1_000, **seen)
        return outcome

    def allow(self, user: str, at_ms: int, **changes: Any) -> Outcome:
        """A consent to everything that the triggers need, unless changed."""
        return self.engine.consent(
            self.person(user), consent_record(self.person(user), at_ms, **changes), at_ms
        )

    # --- what CRMs do ---------------------------------------------------------------------------------------------------

    def client(self, audience: str, now_ms: int) -> CrmClient:
        return CrmClient(
            jwks=self.engine.fragments.jwks(now_ms),
            issuer=ISSUER,
            audience=audience,
            key=self.crm_keys[audience],
            lease_url=LEASE_URL,
            random_bytes=self.random,
        )

    def ask(
        self, fragment: Fragment, now_ms: int, *, question: str | None = None
    ) -> tuple[Verified, PendingLease]:
        """A verified fragment and a lease request for it."""
        client = self.client(fragment.audience, now_ms)
        verified = client.verify(fragment.token, now_ms)
        nonce = self.engine.fragments.nonce(now_ms)
        return verified, client.lease_request(verified, now_ms, nonce, question=question)

    def request(self, fragment: Fragment, now_ms: int) -> LeaseRequest:
        return self.ask(fragment, now_ms)[1].request

    def open(self, fragment: Fragment, now_ms: int) -> OpenedFragment:
        verified, pending = self.ask(fragment, now_ms)
        lease = self.engine.lease(pending.request, now_ms)
        return self.client(fragment.audience, now_ms).open(verified, pending, lease, now_ms)


def consent_record(subject: bytes, at_ms: int, **changes: Any) -> ConsentRecord:
    """A consent to everything that the triggers need; `scope` parts and record fields can be changed by name."""
    wide: dict[str, Any] = {
        "purposes": ("service", "marketing"),
        "topics": ("*",),
        "data_categories": ("*",),
        "recipients": ("*",),
        "channels": ("*",),
        "recipient_countries": ("*",),
    }
    scope = Scope(**{name: changes.pop(name, value) for name, value in wide.items()})
    state = ConsentState(changes.pop("state", "given"))
    window = (at_ms, at_ms + 365 * DAY_MS) if state is ConsentState.GIVEN else (0, 0)
    values: dict[str, Any] = {
        "record_id": "c-1",
        "principal": subject.hex(),
        "state": state,
        "time_ms": at_ms,
        "valid_from_ms": window[0],
        "valid_until_ms": window[1],
        "scope": scope,
        "use": UseBudget(max_uses=None),
        "terms": TERMS,
    }
    return ConsentRecord(**{**values, **changes})


def fragments_of(outcome: Outcome, trigger: str) -> list[Fragment]:
    orders = {made.order.order_id: made.order.rule.id for made in outcome.decisions.orders}
    return [fragment for fragment in outcome.fragments if orders[fragment.order_id] == trigger]
