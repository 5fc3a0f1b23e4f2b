"""The lease under attack: proofs, one-time keys, replays, and a thousand at once."""

import base64
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jws
from joserfc.jwk import ECKey

from dayfly.privacy.errors import InvalidArgument, InvalidFragment, LeaseRefused, NonceRequired
from dayfly.privacy.fragments import (
    LeaseRequest,
    OrderField,
    PendingLease,
    Profile,
    ServiceSettings,
    SuiteName,
    Verified,
)
from dayfly.privacy.fragments.cdp.proof import NonceSource, SeenOnce
from dayfly.privacy.fragments.orders import LeaseReason
from dayfly.privacy.fragments.wire import b64url, new_one_time_key, thumbprint

from .attacks import b64, unb64
from .world import AUDIENCE, LEASE_URL, NOW_MS, World, order


class Desk:
    """A world with one fragment, and a proof maker on another library (joserfc)."""

    def __init__(self, **changes: Any) -> None:
        self.world = World()
        self.token = self.world.cdp.mint(order(**changes), NOW_MS).token
        self.verified = self.world.crm.verify(self.token, NOW_MS)
        self.key = ECKey.import_key(_jwk(self.world.crm_key, private=True))

    def request(
        self, *, header: dict[str, Any] | None = None, key: ECKey | None = None, **changes: Any
    ) -> LeaseRequest:
        """A request whose proof is made by joserfc, with header members and claims replaced."""
        _, public = new_one_time_key(SuiteName.X25519)
        claims = {
            "jti": b64(os.urandom(16)),
            "htm": "POST",
            "htu": LEASE_URL,
            "iat": NOW_MS // 1000,
            "nonce": self.world.cdp.nonce(NOW_MS),
            "ath": b64(hashlib.sha256(self.token.encode()).digest()),
            "otk": b64(hashlib.sha256(public).digest()),
        }
        claims = {name: value for name, value in {**claims, **changes}.items() if value is not ...}
        signer = key or self.key
        head = {"typ": "dpop+jwt", "alg": "ES256", "jwk": _public(signer), **(header or {})}
        head = {name: value for name, value in head.items() if value is not ...}
        proof = sign_any(head, claims, signer)
        return LeaseRequest(self.verified.claims.jti, SuiteName.X25519, b64url(public), proof)


def sign_any(head: Any, claims: Any, signer: ECKey) -> str:
    """A JWS over any header and payload; by joserfc where its own rules allow it, else put together by hand."""
    if (
        isinstance(head, dict)
        and head.get("alg") == "ES256"
        and isinstance(head.get("jwk"), dict)
        and not ({"crit", "b64", "zip"} & head.keys())
    ):
        algorithms = jws.JWSRegistry(algorithms=["ES256"], strict_check_header=False)
        return jws.serialize_compact(head, json.dumps(claims).encode(), signer, registry=algorithms)
    text = f"{b64(json.dumps(head).encode())}.{b64(json.dumps(claims).encode())}"
    good = jws.serialize_compact({"alg": "ES256"}, text.encode(), signer)
    return f"{text}.{good.rsplit('.', 1)[1]}"


def _jwk(key: ec.EllipticCurvePrivateKey, *, private: bool = False) -> dict[str, Any]:
    numbers = key.private_numbers()
    point = numbers.public_numbers
    jwk = {
        "kty": "EC",
        "crv": "P-256",
        "x": b64(point.x.to_bytes(32, "big")),
        "y": b64(point.y.to_bytes(32, "big")),
    }
    return {**jwk, "d": b64(numbers.private_value.to_bytes(32, "big"))} if private else jwk


def _public(key: ECKey) -> dict[str, str]:
    return {name: str(key.as_dict(private=False)[name]) for name in ("kty", "crv", "x", "y")}


@pytest.fixture(scope="module")
def desk() -> Desk:
    return Desk()


def test_a_proof_made_by_another_library_is_accepted() -> None:
    desk = Desk()
    lease = desk.world.lease(desk.request())
    assert lease.jti == desk.verified.claims.jti
    assert desk.world.cdp.live()[0].leases == 1


STRANGER = ECKey.import_key(_jwk(ec.generate_private_key(ec.SECP256R1()), private=True))
SECOND = NOW_MS // 1000
PROOFS: dict[str, Callable[[Desk], LeaseRequest]] = {
    "htm GET": lambda d: d.request(htm="GET"),
    "htm in small letters": lambda d: d.request(htm="post"),
    "htm missing": lambda d: d.request(htm=...),
    "htu of another host": lambda d: d.request(htu="https://evil.example/v1/lease"),
    "htu with a query": lambda d: d.request(htu=LEASE_URL + "?x=1"),
    "htu in capitals": lambda d: d.request(htu=LEASE_URL.upper()),
    "htu missing": lambda d: d.request(htu=...),
    "ath of another token": lambda d: d.request(ath=b64(bytes(32))),
    "ath missing": lambda d: d.request(ath=...),
    "otk of another key": lambda d: d.request(otk=b64(bytes(32))),
    "otk missing": lambda d: d.request(otk=...),
    "iat 61 s old": lambda d: d.request(iat=SECOND - 61),
    "iat 61 s ahead": lambda d: d.request(iat=SECOND + 61),
    "iat as a float": lambda d: d.request(iat=float(SECOND)),
    "iat as text": lambda d: d.request(iat=str(SECOND)),
    "iat true": lambda d: d.request(iat=True),
    "iat missing": lambda d: d.request(iat=...),
    "iat huge": lambda d: d.request(iat=10**400),
    "jti short": lambda d: d.request(jti="x" * 15),
    "jti long": lambda d: d.request(jti="x" * 257),
    "jti a number": lambda d: d.request(jti=7),
    "jti missing": lambda d: d.request(jti=...),
    "key of a stranger": lambda d: d.request(key=STRANGER),
    "key of the issuer": lambda d: d.request(key=ECKey.import_key(_jwk(d.world.signing_key, private=True))),
    "jwk of ours, signed by a stranger": lambda d: d.request(key=STRANGER, header={"jwk": _public(d.key)}),
    "jwk private": lambda d: d.request(header={"jwk": _jwk(d.world.crm_key, private=True)}),
    "jwk missing": lambda d: d.request(header={"jwk": ...}),
    "jwk a string": lambda d: d.request(header={"jwk": "x"}),
    "jwk of another curve": lambda d: d.request(header={"jwk": {**_public(d.key), "crv": "P-384"}}),
    "jwk symmetric": lambda d: d.request(header={"jwk": {"kty": "oct", "k": "AAAA"}}),
    "jwk off the curve": lambda d: d.request(header={"jwk": {**_public(d.key), "x": b64(bytes(31) + b"\1")}}),
    "jwk point of 33 bytes": lambda d: d.request(
        header={"jwk": {**_public(d.key), "x": b64(b"\0" + unb64(_public(d.key)["x"]))}}
    ),
    "typ missing": lambda d: d.request(header={"typ": ...}),
    "typ JWT": lambda d: d.request(header={"typ": "JWT"}),
    "alg none": lambda d: d.request(header={"alg": "none"}),
    "alg HS256": lambda d: d.request(header={"alg": "HS256"}),
    "crit": lambda d: d.request(header={"crit": ["x"]}),
    "b64 false": lambda d: d.request(header={"b64": False}),
    "kid in the header": lambda d: d.request(header={"kid": "x"}),
    "header a list": lambda d: _proof(d, sign_any(["x"], {}, d.key)),
    "payload a list": lambda d: _proof(
        d, sign_any({"typ": "dpop+jwt", "alg": "ES256", "jwk": _public(d.key)}, [], d.key)
    ),
    "empty": lambda d: _proof(d, ""),
    "two parts": lambda d: _proof(d, "a.b"),
    "the fragment itself": lambda d: _proof(d, d.token),
    "5 MB": lambda d: _proof(d, "A" * 5_000_000),
    "repeated claim": lambda d: _repeat(d, "GET"),
    "signature cut": lambda d: _proof(d, d.request().proof[:-4]),
    "signature zero": lambda d: _proof(d, d.request().proof.rsplit(".", 1)[0] + "." + b64(bytes(64))),
    "not ASCII": lambda d: _proof(d, "é.é.é"),
    "deep nesting": lambda d: _proof(d, b64(b"[" * 2000) + ".e30." + b64(bytes(64))),
}


def _proof(desk: Desk, proof: str) -> LeaseRequest:
    return msgspec.structs.replace(desk.request(), proof=proof)


def _repeat(desk: Desk, method: str) -> LeaseRequest:
    """Two `htm`, the last one right: readers that keep the last one would accept it."""
    request = desk.request()
    head, body, _ = request.proof.split(".")
    repeated = b'{"htm":"' + method.encode() + b'",' + unb64(body)[1:]
    text = f"{head}.{b64(repeated)}"
    from dayfly.privacy.fragments.strict import sign_es256

    return msgspec.structs.replace(
        request, proof=f"{text}.{b64(sign_es256(desk.world.crm_key, text.encode()))}"
    )


@pytest.mark.parametrize("name", PROOFS)
def test_a_bad_proof_is_refused_without_saying_which_part(desk: Desk, name: str) -> None:
    with pytest.raises(LeaseRefused, match="reason='proof'") as caught:
        desk.world.lease(PROOFS[name](desk))
    assert caught.value.reason == LeaseReason.PROOF
    assert str(caught.value) == str(
        LeaseRefused("proof", "send a DPoP proof by the registered key for exactly this request")
    )
    assert desk.world.cdp.live()[0].leases == 0


@pytest.mark.parametrize("iat", [SECOND - 60 + 1, SECOND + 60])
def test_a_proof_within_its_minute_is_accepted(iat: int) -> None:
    desk = Desk()
    desk.world.lease(desk.request(iat=iat))


@pytest.mark.parametrize("nonce", [..., "", "x", 7, "é", "A" * 24])
def test_without_a_current_nonce_the_right_one_is_handed_out(desk: Desk, nonce: Any) -> None:
    with pytest.raises(NonceRequired, match="use_dpop_nonce") as caught:
        desk.world.lease(desk.request(nonce=nonce))
    assert caught.value.nonce == desk.world.cdp.nonce(NOW_MS)


def test_a_nonce_lives_for_its_window_and_the_next() -> None:
    nonces = NonceSource(bytes(32), window_ms=1000)
    nonce = nonces.current(5_999)
    assert [nonces.accepts(nonce, at) for at in (4_999, 5_000, 6_999, 7_000)] == [False, True, True, False]
    assert not NonceSource(b"\1" * 32, window_ms=1000).accepts(nonce, 5_000)


# --- replays and one-time keys ---------------------------------------------------------------------------------------


def test_the_same_request_twice_is_a_replay() -> None:
    desk = Desk()
    request = desk.request()
    desk.world.lease(request)
    with pytest.raises(LeaseRefused, match="reason='replay'"):
        desk.world.lease(request)


def test_a_static_key_in_place_of_a_one_time_key_is_refused_the_second_time() -> None:
    desk = Desk()
    _, public = new_one_time_key(SuiteName.X25519)
    otk = b64(hashlib.sha256(public).digest())
    requests = [msgspec.structs.replace(desk.request(otk=otk), otk=b64url(public)) for _ in range(2)]
    desk.world.lease(requests[0])
    with pytest.raises(LeaseRefused, match="reason='one_time_key'"):
        desk.world.lease(requests[1])
    assert desk.world.cdp.live()[0].leases == 1


def test_a_refused_attempt_burns_its_proof() -> None:
    closed = [True]

    def gate(view: Any) -> None:
        from dayfly.privacy.errors import ConsentError

        if view.at == "lease" and closed[0]:
            raise ConsentError("no")

    desk = Desk()
    desk.world = World(gate=gate)
    desk.token = desk.world.cdp.mint(order(), NOW_MS).token
    desk.verified = desk.world.crm.verify(desk.token, NOW_MS)
    desk.key = ECKey.import_key(_jwk(desk.world.crm_key, private=True))
    request = desk.request()
    with pytest.raises(LeaseRefused, match="reason='consent'"):
        desk.world.lease(request)
    closed[0] = False
    with pytest.raises(LeaseRefused, match="reason='replay'"):
        desk.world.lease(request)


ONE_TIME_KEYS = {
    "empty": (SuiteName.X25519, b""),
    "31 bytes": (SuiteName.X25519, bytes(31)),
    "all zero X25519": (SuiteName.X25519, bytes(32)),
    "X25519 point of order eight": (
        SuiteName.X25519,
        bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    ),
    "P-256 point off the curve": (SuiteName.P256, b"\4" + bytes(63) + b"\1"),
    "P-256 all zero": (SuiteName.P256, bytes(65)),
    "P-256 infinity": (SuiteName.P256, b"\0"),
    "P-256 compressed": (SuiteName.P256, b"\2" + bytes(32)),
    "X-Wing cut": (SuiteName.X_WING, bytes(1215)),
    "X-Wing long": (SuiteName.X_WING, bytes(1217)),
    "X-Wing coefficients out of range": (SuiteName.X_WING, b"\xff" * 1184 + bytes(32)),
    "X25519 key for P-256": (SuiteName.P256, bytes(32)),
}


@pytest.mark.parametrize("name", ONE_TIME_KEYS)
def test_a_malformed_one_time_key_is_refused(desk: Desk, name: str) -> None:
    suite, public = ONE_TIME_KEYS[name]
    request = desk.request(otk=b64(hashlib.sha256(public).digest()))
    with pytest.raises(LeaseRefused, match="reason='one_time_key'"):
        desk.world.lease(msgspec.structs.replace(request, suite=suite, otk=b64url(public)))


@pytest.mark.parametrize("otk", ["=", "AA==", "é", "AB", "A A"])
def test_a_one_time_key_in_another_spelling_is_refused(desk: Desk, otk: str) -> None:
    with pytest.raises(LeaseRefused, match="reason='one_time_key'"):
        desk.world.lease(msgspec.structs.replace(desk.request(), otk=otk))


def test_full_memories_refuse_and_forget_nothing_early() -> None:
    seen = SeenOnce(capacity=2, keep_ms=1000)
    seen.admit(b"a", 0, LeaseReason.REPLAY)
    seen.admit(b"b", 500, LeaseReason.REPLAY)
    with pytest.raises(LeaseRefused, match="reason='busy'"):
        seen.admit(b"c", 999, LeaseReason.REPLAY)
    with pytest.raises(LeaseRefused, match="reason='replay'"):
        seen.admit(b"a", 999, LeaseReason.REPLAY)
    seen.admit(b"c", 1000, LeaseReason.REPLAY)
    assert len(seen) == 2
    with pytest.raises(LeaseRefused, match="reason='replay'"):
        seen.admit(b"b", 1499, LeaseReason.REPLAY)
    seen.admit(b"a", 1500, LeaseReason.REPLAY)


def test_a_busy_service_says_so() -> None:
    desk = Desk()
    desk.world = World(settings=ServiceSettings(replay_capacity=1))
    desk.token = desk.world.cdp.mint(order(), NOW_MS).token
    desk.verified = desk.world.crm.verify(desk.token, NOW_MS)
    desk.key = ECKey.import_key(_jwk(desk.world.crm_key, private=True))
    desk.world.lease(desk.request())
    with pytest.raises(LeaseRefused, match="ask again in a minute"):
        desk.world.lease(desk.request())


# --- which fragment --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jti", ["", "A" * 22, "x", "é", "A" * 10_000])
def test_a_forged_name_is_simply_gone(desk: Desk, jti: str) -> None:
    with pytest.raises(LeaseRefused, match="reason='gone'"):
        desk.world.lease(msgspec.structs.replace(desk.request(), jti=jti))


def test_the_name_of_another_fragment_does_not_fit_the_proof() -> None:
    desk = Desk()
    other = desk.world.cdp.mint(order("o-2"), NOW_MS)
    with pytest.raises(LeaseRefused, match="reason='proof'"):
        desk.world.lease(msgspec.structs.replace(desk.request(), jti=other.jti))


def test_a_clear_fragment_and_a_wrong_question_are_not_leased() -> None:
    desk = Desk()
    clear = desk.world.cdp.mint(order("o-2", profile=Profile.F0), NOW_MS)
    asks = desk.world.cdp.mint(
        order("o-3", profile=Profile.F2, fields=(OrderField("q", value=True),)), NOW_MS
    )
    for jti, ask in (
        (clear.jti, None),
        (asks.jti, None),
        (asks.jti, "other"),
        (desk.verified.claims.jti, "room"),
    ):
        with pytest.raises(LeaseRefused, match="reason='not_leased'"):
            desk.world.lease(msgspec.structs.replace(desk.request(), jti=jti, ask=ask))


def test_after_the_tombstone_there_is_no_lease() -> None:
    desk = Desk()
    desk.world.cdp.shred_consent("c:7Q2mZk1b", NOW_MS)
    with pytest.raises(LeaseRefused, match="reason='gone'"):
        desk.world.lease(desk.request())


@pytest.mark.parametrize("budget", [1, 2, 5])
def test_a_budget_of_n_gives_n_leases_and_then_the_key_is_gone(budget: int) -> None:
    desk = Desk(use=budget)
    for _ in range(budget):
        desk.world.lease(desk.request())
    with pytest.raises(LeaseRefused, match="reason='gone'"):
        desk.world.lease(desk.request())
    (death,) = desk.world.cdp.expire(NOW_MS)
    assert (death.reason, death.leases, len(desk.world.cdp._state.slab)) == ("used", budget, 0)


def concurrent_leases(budget: int, attempts: int) -> tuple[list[int], World]:
    """How many of `attempts` simultaneous leases opened the fragment."""
    world = World()
    verified = world.crm.verify(world.cdp.mint(order(use=budget), NOW_MS).token, NOW_MS)
    pending = [world.ask(verified) for _ in range(attempts)]
    start, opened, reasons = threading.Barrier(16), [], set()

    def run(share: list[PendingLease]) -> None:
        start.wait()
        for one in share:
            try:
                lease = world.lease(one.request)
            except LeaseRefused as refusal:
                reasons.add(refusal.reason)
            else:
                opened.append(len(world.crm.open(verified, one, lease, NOW_MS).values))

    threads = [threading.Thread(target=run, args=(pending[number::16],)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reasons == {"gone"}
    return opened, world


@pytest.mark.parametrize("budget", [1, 3])
def test_of_a_thousand_simultaneous_leases_exactly_the_budget_wins(budget: int) -> None:
    opened, world = concurrent_leases(budget, 1000)
    assert opened == [8] * budget
    assert (world.cdp.live_count(), world.cdp.tombstones) == (0, 1)


def test_a_withdrawal_beside_leases_leaves_no_lease_after_it() -> None:
    for _ in range(20):
        world = World()
        verified = world.crm.verify(world.cdp.mint(order(), NOW_MS).token, NOW_MS)
        pending = [world.ask(verified) for _ in range(8)]
        order_of_events: list[str] = []

        def run(
            pending: list[PendingLease] = pending, world: World = world, told: list[str] = order_of_events
        ) -> None:
            for one in pending:
                try:
                    world.lease(one.request)
                except LeaseRefused:
                    told.append("refused")

        thread = threading.Thread(target=run)
        thread.start()
        time.sleep(0)
        world.cdp.shred_consent("c:7Q2mZk1b", NOW_MS)
        thread.join()
        kinds = [event.kind for event in world.events]
        assert "leased" not in kinds[kinds.index("destroyed") :]


# --- the CRM's side --------------------------------------------------------------------------------------------------


def leased(world: World, verified: Verified) -> tuple[PendingLease, Any]:
    pending = world.ask(verified)
    return pending, world.lease(pending.request)


def test_a_lease_opens_only_its_own_request_and_fragment() -> None:
    world = World()
    first = world.crm.verify(world.cdp.mint(order("a"), NOW_MS).token, NOW_MS)
    second = world.crm.verify(world.cdp.mint(order("b"), NOW_MS).token, NOW_MS)
    (pending, lease), (other_pending, other_lease) = leased(world, first), leased(world, second)
    wrong = [
        (first, other_pending, other_lease),
        (second, pending, lease),
        (first, pending, other_lease),
        (first, pending, msgspec.structs.replace(lease, sealed=other_lease.sealed)),
        (first, pending, msgspec.structs.replace(lease, sealed=lease.sealed[:-4])),
        (first, pending, msgspec.structs.replace(lease, sealed="")),
        (first, pending, msgspec.structs.replace(lease, jti=other_lease.jti)),
    ]
    for verified, asked, answer in wrong:
        with pytest.raises(InvalidFragment):
            world.crm.open(verified, asked, answer, NOW_MS)
    assert len(world.crm.open(first, pending, lease, NOW_MS).values) == 8


def test_somebody_who_sees_the_lease_answer_cannot_open_it() -> None:
    world = World()
    verified = world.crm.verify(world.cdp.mint(order(), NOW_MS).token, NOW_MS)
    pending, lease = leased(world, verified)
    thief = PendingLease(pending.request, new_one_time_key(SuiteName.X25519)[0])
    with pytest.raises(InvalidFragment):
        world.crm.open(verified, thief, lease, NOW_MS)


def test_a_request_needs_a_leased_profile_and_an_offered_question() -> None:
    world = World()
    clear = world.crm.verify(world.cdp.mint(order(profile=Profile.F0), NOW_MS).token, NOW_MS)
    asks = world.crm.verify(
        world.cdp.mint(order("o-2", profile=Profile.F2, fields=(OrderField("q", value=True),)), NOW_MS).token,
        NOW_MS,
    )
    with pytest.raises(InvalidArgument, match="profile='F0' must be F1 or F2"):
        world.ask(clear)
    with pytest.raises(InvalidArgument, match="question='other' must be one that the fragment offers"):
        world.ask(asks, question="other")


def test_an_answer_is_not_read_from_a_key_lease() -> None:
    world = World()
    verified = world.crm.verify(world.cdp.mint(order(), NOW_MS).token, NOW_MS)
    pending, lease = leased(world, verified)
    with pytest.raises(InvalidFragment):
        world.crm.answer(verified, pending, lease, NOW_MS)


def test_a_presentation_discloses_what_was_chosen_and_nothing_else() -> None:
    world = World()
    verified = world.crm.verify(world.cdp.mint(order(), NOW_MS).token, NOW_MS)
    pending, lease = leased(world, verified)
    opened = world.crm.open(verified, pending, lease, NOW_MS)
    shown = opened.present(["room", "member"]).split("~")
    assert shown[0] == verified.jws
    assert shown[-1] == ""
    assert [json.loads(base64.urlsafe_b64decode(text + "==="))[1:] for text in shown[1:-1]] == [
        ["room", "small flat"],
        ["member", True],
    ]
    assert opened.present([]) == verified.token
    with pytest.raises(InvalidArgument, match=r"names=\['income'\] must be fields of the fragment"):
        opened.present(["income"])


def test_secrets_stay_out_of_representations() -> None:
    world = World()
    verified = world.crm.verify(world.cdp.mint(order(), NOW_MS).token, NOW_MS)
    pending, lease = leased(world, verified)
    text = repr(pending) + repr(world.crm.open(verified, pending, lease, NOW_MS))
    assert "small flat" not in text
    assert "PrivateKey" not in text


def test_the_registered_thumbprint_is_the_rfc_7638_one() -> None:
    world = World()
    assert (
        world.crm.jkt
        == ECKey.import_key(_jwk(world.crm_key)).thumbprint()
        == thumbprint(world.crm_key.public_key())
    )
    assert AUDIENCE in world.recipients
