"""Named attacks on a token, each built from a genuine fragment. Families and order: the reference note's section 6.3.

Most are signed again with the genuine key: what they break is then the only thing left that can stop them.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dayfly.privacy.fragments.strict import P256_ORDER, sign_es256

from .world import NOW_MS, World, order

Json = dict[str, Any]


def b64(data: bytes) -> str:
    """Base64url, by the standard library."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    """The inverse of `b64`."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def dumps(value: Any) -> bytes:
    """Compact JSON in the order given, by the standard library."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


class Forge:
    """A genuine fragment taken apart, and the means of a very well placed attacker: issuer key and content key."""

    def __init__(self) -> None:
        self.world = World()
        self.key = self.world.signing_key
        tries = (self.world.cdp.mint(order(f"try-{n}", use=2), NOW_MS) for n in range(1000))
        self.fragment = next(one for one in tries if "-" in one.token[-87:] and "_" in one.token[-87:])
        self.other = self.world.cdp.mint(order("o-2", use=2), NOW_MS).token
        self.token = self.fragment.token
        self.jws = self.token[:-1]
        self.head, self.body, self.mark = self.jws.split(".")
        self.header: Json = json.loads(unb64(self.head))
        self.payload: Json = json.loads(unb64(self.body))
        state = self.world.cdp._state
        entry = state.live.get(self.fragment.jti)
        assert entry is not None
        self.content_key = bytes(state.key_of(entry))

    def sign(self, header: Any, payload: Any, key: ec.EllipticCurvePrivateKey | None = None) -> str:
        """A token over any header and payload (objects, or bytes as they are)."""
        head = b64(header if isinstance(header, bytes) else dumps(header))
        body = b64(payload if isinstance(payload, bytes) else dumps(payload))
        return f"{head}.{body}.{b64(sign_es256(key or self.key, f'{head}.{body}'.encode()))}~"

    def claims(self, **changes: Any) -> str:
        """The genuine token with claims replaced (or dropped: `DROP`)."""
        names = {"sd": "_sd", "sd_alg": "_sd_alg"}
        payload = dict(self.payload)
        for name, value in changes.items():
            wire = names.get(name, name)
            if value is DROP:
                del payload[wire]
            else:
                payload[wire] = value
        return self.sign(self.header, payload)

    def heads(self, **changes: Any) -> str:
        """The genuine token with header members replaced, dropped or added."""
        header = {**self.header, **changes}
        return self.sign({name: value for name, value in header.items() if value is not DROP}, self.payload)

    def reseal(self, plain: bytes, *, header: str | None = None, digests: list[str] | None = None) -> str:
        """The genuine token with other sealed content, and digests to match unless told otherwise."""
        old = self.payload["sealed"].split(".")
        head, iv = header or old[0], bytes(12)
        sealed = AESGCM(self.content_key).encrypt(iv, plain, head.encode())
        jwe = f"{head}..{b64(iv)}.{b64(sealed[:-16])}.{b64(sealed[-16:])}"
        found = plain.decode("latin-1").rstrip("~").split("~")
        sd = digests if digests is not None else sorted({digest(text) for text in found})
        return self.claims(sealed=jwe, sd=sd)

    def disclosures(self) -> list[str]:
        """The genuine disclosures."""
        head, _, iv, text, tag = self.payload["sealed"].split(".")
        plain = AESGCM(self.content_key).decrypt(unb64(iv), unb64(text) + unb64(tag), head.encode())
        return plain.decode().rstrip("~").split("~")

    def with_disclosure(self, content: Any) -> str:
        """The genuine token whose first disclosure is replaced by `content` (an object, or bytes as they are)."""
        text = b64(content if isinstance(content, bytes) else dumps(content))
        return self.reseal(pad("~".join([text, *self.disclosures()[1:]]).encode()))


DROP = object()
SALT = "A" * 22


def digest(text: str) -> str:
    """Digest of a disclosure."""
    return b64(hashlib.sha256(text.encode("latin-1")).digest())


def pad(plain: bytes) -> bytes:
    """Padding as the issuer does it."""
    return plain + b"~" * (256 - len(plain) % 256)


@dataclass(frozen=True)
class Attack:
    """A name and how to make the token. `opens`: verification may succeed, opening must not."""

    name: str
    make: Callable[[Forge], Any]
    opens: bool = False


def _do(method: str, *values: Any, **named: Any) -> Callable[[Forge], Any]:
    return lambda forge: getattr(forge, method)(*values, **named)


def _call(make: Callable[..., Any], **named: Any) -> Callable[[Forge], Any]:
    return lambda forge: make(forge, **named)


def _hmac_with_public_key(forge: Forge, material: bytes) -> str:
    head = b64(dumps({**forge.header, "alg": "HS256"}))
    return f"{head}.{forge.body}.{b64(hmac.digest(material, f'{head}.{forge.body}'.encode(), 'sha256'))}~"


def _public(forge: Forge, encoding: Encoding) -> bytes:
    return forge.key.public_key().public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)


def _other_curve(forge: Forge) -> str:
    from cryptography.hazmat.primitives import hashes

    der = ec.generate_private_key(ec.SECP384R1()).sign(
        f"{forge.head}.{forge.body}".encode(), ec.ECDSA(hashes.SHA384())
    )
    return f"{forge.head}.{forge.body}.{b64(der[:96])}~"


def _embedded(forge: Forge) -> str:
    """Signed by a key that the header brings along (CVE-2026-27962)."""
    mine = ec.generate_private_key(ec.SECP256R1())
    numbers = mine.public_key().public_numbers()
    jwk = {
        "kty": "EC",
        "crv": "P-256",
        "x": b64(numbers.x.to_bytes(32, "big")),
        "y": b64(numbers.y.to_bytes(32, "big")),
    }
    return forge.sign({**forge.header, "jwk": jwk}, forge.payload, mine)


def _eddsa(forge: Forge) -> str:
    head = b64(dumps({**forge.header, "alg": "EdDSA"}))
    return f"{head}.{forge.body}.{b64(ed25519.Ed25519PrivateKey.generate().sign(f'{head}.{forge.body}'.encode()))}~"


ALGORITHMS = [
    Attack("alg none, signature kept", lambda f: f.heads(alg="none")),
    Attack("alg none, no signature", lambda f: f"{b64(dumps({**f.header, 'alg': 'none'}))}.{f.body}.~"),
    *[
        Attack(f"alg {alg!r}", _do("heads", alg=alg))
        for alg in (
            "nOnE",
            "NONE",
            "None",
            "",
            "es256",
            "ES256 ",
            "ES256K",
            "ES384",
            "ES512",
            "HS256",
            "RS256",
            "PS256",
            "EdDSA",
            "Ed25519",
            "ML-DSA-44",
            ["ES256"],
            ["none"],
            None,
            256,
            True,
            {"alg": "ES256"},
        )
    ],
    Attack("alg missing", lambda f: f.heads(alg=DROP)),
    Attack(
        "HS256 keyed with the PEM public key", lambda f: _hmac_with_public_key(f, _public(f, Encoding.PEM))
    ),
    Attack(
        "HS256 keyed with the stripped PEM",
        lambda f: _hmac_with_public_key(f, _public(f, Encoding.PEM).strip()),
    ),
    Attack(
        "HS256 keyed with the DER public key", lambda f: _hmac_with_public_key(f, _public(f, Encoding.DER))
    ),
    Attack("HS256 keyed with nothing", lambda f: _hmac_with_public_key(f, b"")),
    Attack("key of another curve", _other_curve),
    Attack(
        "another P-256 key", lambda f: f.sign(f.header, f.payload, ec.generate_private_key(ec.SECP256R1()))
    ),
    Attack("the CRM's own key", lambda f: f.sign(f.header, f.payload, f.world.crm_key)),
    Attack("Ed25519 key", _eddsa),
    Attack("embedded jwk", _embedded),
    Attack("jku to the attacker", lambda f: f.heads(jku="https://evil.example/jwks")),
    Attack("jku to the issuer", lambda f: f.heads(jku="https://cdp.example/jwks")),
    Attack("x5u", lambda f: f.heads(x5u="https://evil.example/cert")),
    Attack("x5c", lambda f: f.heads(x5c=["MIIB"])),
    Attack("x5t", lambda f: f.heads(x5t="AAAA")),
    *[
        Attack(f"kid {kid!r}", _do("heads", kid=kid))
        for kid in (
            "../../../../dev/null",
            "' OR 1=1 --",
            "unknown",
            "",
            None,
            7,
            ["x"],
            "\u0000",
        )
    ],
    Attack("kid missing", lambda f: f.heads(kid=DROP)),
    Attack("kid of the CRM", lambda f: f.heads(kid=f.world.crm.jkt)),
    Attack("kid with a trailing blank", lambda f: f.heads(kid=f.header["kid"] + " ")),
]


def _mark(make: Callable[[Forge], bytes]) -> Callable[[Forge], str]:
    return lambda f: f"{f.head}.{f.body}.{b64(make(f))}~"


def _high_s(forge: Forge) -> bytes:
    raw = unb64(forge.mark)
    return raw[:32] + (P256_ORDER - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")


def _last_bits(forge: Forge) -> str:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return forge.jws[:-1] + alphabet[alphabet.index(forge.jws[-1]) ^ 1] + "~"


_N = P256_ORDER.to_bytes(32, "big")
SIGNATURES = [
    Attack("all zero", _mark(lambda f: bytes(64))),
    Attack("r = s = n", _mark(lambda f: _N + _N)),
    Attack("r = 0", _mark(lambda f: bytes(32) + unb64(f.mark)[32:])),
    Attack("s = 0", _mark(lambda f: unb64(f.mark)[:32] + bytes(32))),
    Attack("r = s = 1", _mark(lambda f: (bytes(31) + b"\1") * 2)),
    Attack("r = n", _mark(lambda f: _N + unb64(f.mark)[32:])),
    Attack("s + n", _mark(lambda f: unb64(f.mark)[:32] + b"\xff" * 32)),
    Attack("r and s swapped", _mark(lambda f: unb64(f.mark)[32:] + unb64(f.mark)[:32])),
    Attack("high-s twin", _mark(_high_s)),
    Attack("65 bytes", _mark(lambda f: unb64(f.mark) + b"\0")),
    Attack("leading zero byte", _mark(lambda f: b"\0" + unb64(f.mark))),
    Attack("63 bytes", _mark(lambda f: unb64(f.mark)[:-1])),
    Attack("128 bytes", _mark(lambda f: unb64(f.mark) * 2)),
    Attack("32 bytes", _mark(lambda f: unb64(f.mark)[:32])),
    Attack("empty signature", lambda f: f"{f.head}.{f.body}.~"),
    Attack(
        "DER signature",
        lambda f: f"{f.head}.{f.body}.{b64(f.key.sign(f'{f.head}.{f.body}'.encode(), _ecdsa()))}~",
    ),
    Attack("unused last bits set", _last_bits),
    Attack("signature of another fragment", lambda f: f"{f.head}.{f.body}.{f.other[:-1].split('.')[2]}~"),
    Attack("body of another fragment", lambda f: f"{f.head}.{f.other.split('.')[1]}.{f.mark}~"),
]


def _ecdsa() -> ec.ECDSA:
    from cryptography.hazmat.primitives import hashes

    return ec.ECDSA(hashes.SHA256())


HEADERS = [
    *[
        Attack(f"crit {crit!r}", _do("heads", crit=crit))
        for crit in (
            ["unknown"],
            ["alg"],
            ["exp"],
            [],
            "exp",
            None,
            {"exp": 1},
            ["b64"],
        )
    ],
    Attack("b64 false without crit", lambda f: f.heads(b64=False)),
    Attack("b64 false with crit", lambda f: f.heads(b64=False, crit=["b64"])),
    Attack("b64 true", lambda f: f.heads(b64=True)),
    Attack("typ missing", lambda f: f.heads(typ=DROP)),
    *[
        Attack(f"typ {typ!r}", _do("heads", typ=typ))
        for typ in (
            "at+jwt",
            "JWT",
            "dpop+jwt",
            "application/cdp-fragment+sd-jwt",
            "CDP-FRAGMENT+SD-JWT",
            "",
            1,
            None,
            "dc+sd-jwt",
            "cdp-fragment+jwt",
            "cdp-answer+jwt",
        )
    ],
    Attack("cty added", lambda f: f.heads(cty="JWT")),
    Attack("zip present", lambda f: f.heads(zip="DEF")),
    Attack("enc present", lambda f: f.heads(enc="A256GCM")),
    Attack("header is an array", lambda f: f.sign([f.header], f.payload)),
    Attack("header is a string", lambda f: f.sign("header", f.payload)),
    Attack("header is null", lambda f: f.sign(b"null", f.payload)),
    Attack("header empty", lambda f: f.sign(b"", f.payload)),
    Attack("header with a blank", lambda f: f.sign(json.dumps(f.header).encode(), f.payload)),
    Attack("header in another order", lambda f: f.sign(dict(reversed(f.header.items())), f.payload)),
    Attack("header repeats alg", lambda f: f.sign(dumps(f.header)[:-1] + b',"alg":"none"}', f.payload)),
    Attack(
        "header escapes a letter",
        lambda f: f.sign(dumps(f.header).replace(b"ES256", b"ES25\\u0036"), f.payload),
    ),
]

SHAPES = [
    Attack("empty", lambda f: ""),
    Attack("only a tilde", lambda f: "~"),
    Attack("only dots", lambda f: ".."),
    Attack("no trailing tilde", lambda f: f.jws),
    Attack("two trailing tildes", lambda f: f.token + "~"),
    Attack("leading tilde", lambda f: "~" + f.token),
    Attack("padding on the body", lambda f: f"{f.head}.{f.body}=.{f.mark}~"),
    Attack("padding on the signature", lambda f: f.jws + "==~"),
    Attack("newline inside", lambda f: f.token[:50] + "\n" + f.token[50:]),
    Attack("newline at the end", lambda f: f.token + "\n"),
    Attack("leading blank", lambda f: " " + f.token),
    Attack("trailing blank", lambda f: f.token + " "),
    Attack("junk character", lambda f: f.token.replace(".", ".!", 1)),
    Attack("standard alphabet", lambda f: f.token.replace("-", "+").replace("_", "/")),
    Attack("two parts", lambda f: f"{f.head}.{f.body}~"),
    Attack("four parts", lambda f: f.jws + ".AAAA~"),
    Attack("five parts", lambda f: f.payload["sealed"] + "~"),
    Attack("a JWE where a JWS is due", lambda f: f.payload["sealed"]),
    Attack(
        "JSON serialization",
        lambda f: json.dumps({"protected": f.head, "payload": f.body, "signature": f.mark}),
    ),
    Attack(
        "JSON and compact polyglot",
        lambda f: json.dumps({"payload": f.body, "signatures": []}) + "." + f.token,
    ),
    Attack("5 MB", lambda f: f.head + "." + "A" * 5_000_000 + "." + f.mark + "~"),
    Attack("just over the length cap", lambda f: f.sign(f.header, {**f.payload, "topic": "x" * 6000})),
    Attack("not ASCII", lambda f: f.token[:-2] + "é~"),
    Attack("full-width dot", lambda f: f.token.replace(".", "\uff0e")),
    Attack("lone surrogate", lambda f: f.token + "\ud800"),
    Attack("null byte", lambda f: f.token + "\0"),
    Attack("bytes instead of text", lambda f: f.token.encode()),
    Attack("None instead of text", lambda f: None),
    Attack("a number instead of text", lambda f: 7),
    Attack("invalid UTF-8 payload", lambda f: f.sign(f.header, dumps(f.payload)[:-1] + b',"x":"\xff"}')),
    Attack("byte order mark", lambda f: f.sign(f.header, b"\xef\xbb\xbf" + dumps(f.payload))),
    Attack("UTF-16 payload", lambda f: f.sign(f.header, dumps(f.payload).decode().encode("utf-16")[:4000])),
    Attack("deep nesting", lambda f: f.sign(f.header, b'{"iss":' + b"[" * 5000)),
    Attack(
        "deep nesting in an unknown claim",
        lambda f: f.sign(f.header, b'{"x":' + b"[" * 2500 + b"]" * 2500 + b"}"),
    ),
    Attack(
        "long integer",
        lambda f: f.sign(f.header, dumps(f.payload).replace(b'"ver":0', b'"ver":' + b"9" * 2000)),
    ),
    Attack("data after the object", lambda f: f.sign(f.header, dumps(f.payload) + b"{}")),
    Attack("blank after the object", lambda f: f.sign(f.header, dumps(f.payload) + b" ")),
    Attack("blanks inside", lambda f: f.sign(f.header, json.dumps(f.payload).encode())),
    Attack("claims in another order", lambda f: f.sign(f.header, dict(reversed(f.payload.items())))),
    Attack("claim repeated", lambda f: f.sign(f.header, dumps(f.payload)[:-1] + b',"aud":"crm-7"}')),
    Attack("claim repeated first", lambda f: f.sign(f.header, b'{"aud":"crm-8",' + dumps(f.payload)[1:])),
    Attack(
        "escaped letters", lambda f: f.sign(f.header, dumps(f.payload).replace(b'"crm-7"', b'"crm-\\u0037"'))
    ),
    Attack(
        "escaped solidus", lambda f: f.sign(f.header, dumps(f.payload).replace(b"https://", b"https:\\/\\/"))
    ),
    Attack("payload is an array", lambda f: f.sign(f.header, [f.payload])),
    Attack("payload is a string", lambda f: f.sign(f.header, b'"x"')),
    Attack("payload empty", lambda f: f.sign(f.header, b"")),
    Attack("payload is {}", lambda f: f.sign(f.header, b"{}")),
    Attack(
        "lone surrogate claim", lambda f: f.sign(f.header, dumps(f.payload).replace(b'"crm-7"', b'"\\ud800"'))
    ),
    Attack("times as 1.0", lambda f: f.sign(f.header, dumps(f.payload).replace(b'"ver":0', b'"ver":0.0'))),
    Attack("times as 0e0", lambda f: f.sign(f.header, dumps(f.payload).replace(b'"ver":0', b'"ver":0e0'))),
    Attack("minus zero", lambda f: f.sign(f.header, dumps(f.payload).replace(b'"ver":0', b'"ver":-0'))),
]

_WRONG_TYPES: dict[str, Any] = {"null": None, "true": True, "list": [], "object": {}}
_STRINGS = ("iss", "aud", "jti", "sub", "trg", "pur", "topic", "lin", "sealed", "kc", "lease", "_sd_alg")
_NUMBERS = ("iat", "nbf", "exp", "ver")


def _second() -> int:
    return NOW_MS // 1000


def _raw_exp(text: bytes) -> Callable[[Forge], str]:
    return lambda f: f.sign(
        f.header, dumps(f.payload).replace(f'"exp":{f.payload["exp"]}'.encode(), b'"exp":' + text)
    )


CLAIMS = [
    *[
        Attack(f"{name} missing", _do("claims", **{name: DROP}))
        for name in (
            *_STRINGS,
            *_NUMBERS,
            "cnf",
            "cst",
            "_sd",
        )
    ],
    *[
        Attack(f"{name} is {kind}", _do("claims", **{name: wrong}))
        for name in _STRINGS
        for kind, wrong in {**_WRONG_TYPES, "a number": 7, "empty": ""}.items()
        if (name, kind) != ("topic", "empty")
    ],
    *[
        Attack(f"{name} is {kind}", _do("claims", **{name: wrong}))
        for name in _NUMBERS
        for kind, wrong in {**_WRONG_TYPES, "a string": "1795358400", "negative": -1}.items()
    ],
    *[
        Attack(f"exp {text.decode()}", _raw_exp(text))
        for text in (
            b"1e400",
            b"NaN",
            b"Infinity",
            b"1e30",
            b"9" * 31,
            b"1795360200.0",
            b"1.7953602e9",
            b"01795360200",
            b"+1795360200",
        )
    ],
    Attack("in the past", lambda f: f.claims(iat=_second() - 900, nbf=_second() - 900, exp=_second())),
    Attack("ten-year life", lambda f: f.claims(exp=_second() + 315_360_000)),
    Attack("life of 1801 s", lambda f: f.claims(exp=f.payload["iat"] + 1801)),
    Attack("exp = iat", lambda f: f.claims(exp=f.payload["iat"])),
    Attack("nbf in the future", lambda f: f.claims(iat=_second() + 60, nbf=_second() + 60)),
    Attack("nbf before iat", lambda f: f.claims(nbf=f.payload["iat"] - 1)),
    Attack("nbf after iat", lambda f: f.claims(nbf=f.payload["iat"] + 1)),
    *[
        Attack(f"aud {aud!r}", _do("claims", aud=aud))
        for aud in (
            ["crm-7"],
            ["crm-8", "crm-7"],
            "crm-8",
            "crm-70",
            "crm",
            "CRM-7",
            "crm-7 ",
            "*",
            "crm-7\u0000",
            "https://crm-7",
        )
    ],
    *[
        Attack(f"iss {iss!r}", _do("claims", iss=iss))
        for iss in (
            "https://cdp.example.evil",
            "https://cdp.example/",
            "http://cdp.example",
            "HTTPS://CDP.EXAMPLE",
            ["https://cdp.example"],
        )
    ],
    *[
        Attack(f"jti {jti!r}", _do("claims", jti=jti))
        for jti in (
            "A" * 21,
            "A" * 23,
            "A" * 21 + "B",
            "A" * 21 + "=",
            "!" * 22,
        )
    ],
    Attack(
        "jti of another fragment", lambda f: f.claims(jti=json.loads(unb64(f.other.split(".")[1]))["jti"])
    ),
    Attack("sub too short", lambda f: f.claims(sub="AAAA")),
    Attack("lin too short", lambda f: f.claims(lin="A" * 42)),
    Attack("kc too long", lambda f: f.claims(kc="A" * 44)),
    Attack("ver negative", lambda f: f.claims(ver=-1)),
    Attack("ver of 2^53", lambda f: f.claims(ver=2**53)),
    Attack("ver of a thousand digits", lambda f: f.claims(ver=10**1000)),
    Attack("use of 2^53", lambda f: f.claims(use=2**53)),
    Attack("cst with a huge version", lambda f: f.claims(cst=[{"id": "c", "ver": 2**64}])),
    Attack("cst with a negative version", lambda f: f.claims(cst=[{"id": "c", "ver": -1}])),
    Attack("cst of 65 records", lambda f: f.claims(cst=[{"id": "c", "ver": 1}] * 65)),
    Attack("pur empty", lambda f: f.claims(pur="")),
    Attack("cst empty", lambda f: f.claims(cst=[])),
    Attack("cst of strings", lambda f: f.claims(cst=["c:7Q2mZk1b"])),
    Attack("cst without version", lambda f: f.claims(cst=[{"id": "c:7Q2mZk1b"}])),
    Attack("cst with an extra member", lambda f: f.claims(cst=[{"id": "c", "ver": 1, "until": 1}])),
    Attack("cnf empty", lambda f: f.claims(cnf={})),
    Attack("cnf with a whole key", lambda f: f.claims(cnf={"jwk": {"kty": "EC"}})),
    Attack("cnf with both", lambda f: f.claims(cnf={"jkt": f.payload["cnf"]["jkt"], "jwk": {}})),
    Attack("cnf with a short thumbprint", lambda f: f.claims(cnf={"jkt": "abc"})),
    *[Attack(f"use {use!r}", _do("claims", use=use)) for use in (0, 1, -1, "twice", "ONCE", None, 1.5, True)],
    *[
        Attack(f"lease {lease!r}", _do("claims", lease=lease))
        for lease in (
            "https://evil.example/lease",
            "//evil.example/lease",
            "lease",
            "/lease?x=1",
            "/lease#x",
            "/" + "a" * 200,
            "/a b",
        )
        if lease != "//evil.example/lease"
    ],
    Attack("unknown claim", lambda f: f.claims(admin=True)),
    Attack(
        "status list, 3 bits",
        lambda f: f.claims(status={"status_list": {"idx": 0, "uri": "https://e", "bits": 3}}),
    ),
    Attack("status list, zlib bomb", lambda f: f.claims(status={"status_list": {"lst": "eNrt" + "A" * 900}})),
    Attack("clear values beside sealed ones", lambda f: f.claims(val={"intent": "x"})),
    Attack("vct of a credential", lambda f: f.claims(vct="https://e")),
]

SD_JWT = [
    Attack("disclosures appended", lambda f: f.token + "~".join(f.disclosures()) + "~"),
    Attack("unreferenced disclosure appended", lambda f: f.token + b64(dumps([SALT, "admin", True])) + "~"),
    Attack("key binding token appended", lambda f: f.token + f.jws),
    Attack("20,000 disclosures", lambda f: f.token + (b64(dumps([SALT, "x", 1])) + "~") * 20_000),
    Attack("_sd with a repeated digest", lambda f: f.claims(sd=[f.payload["_sd"][0], *f.payload["_sd"]])),
    Attack("_sd unsorted", lambda f: f.claims(sd=f.payload["_sd"][::-1])),
    Attack("_sd empty", lambda f: f.claims(sd=[])),
    Attack("_sd with numbers", lambda f: f.claims(sd=[1, 2])),
    Attack("_sd with null", lambda f: f.claims(sd=[None])),
    Attack("_sd is a string", lambda f: f.claims(sd=f.payload["_sd"][0])),
    Attack("_sd of 65 digests", lambda f: f.claims(sd=sorted(digest(str(n)) for n in range(65)))),
    Attack("_sd with a short digest", lambda f: f.claims(sd=["AAAA"])),
    Attack("_sd with padding", lambda f: f.claims(sd=[f.payload["_sd"][0] + "="])),
    Attack("_sd nested", lambda f: f.claims(cst=[{"id": "c", "ver": 1, "_sd": f.payload["_sd"]}])),
    *[
        Attack(f"_sd_alg {alg!r}", _do("claims", sd_alg=alg))
        for alg in (
            "sha-512",
            "md5",
            "SHA-256",
            "sha256",
            "none",
            "sha3-256",
        )
    ],
    Attack("exp withheld behind a digest", lambda f: f.claims(exp=DROP)),
    Attack("aud withheld behind a digest", lambda f: f.claims(aud=DROP)),
]

OPENING = [
    Attack(
        "disclosure added under the key",
        lambda f: f.reseal(
            pad("~".join([*f.disclosures(), b64(dumps([SALT, "admin", True]))]).encode()),
            digests=f.payload["_sd"],
        ),
        opens=True,
    ),
    Attack(
        "disclosure withheld",
        lambda f: f.reseal(pad("~".join(f.disclosures()[1:]).encode()), digests=f.payload["_sd"]),
        opens=True,
    ),
    Attack(
        "digest left over",
        lambda f: f.reseal(
            pad("~".join(f.disclosures()).encode()), digests=sorted([*f.payload["_sd"], digest("decoy")])
        ),
        opens=True,
    ),
    Attack(
        "disclosure twice",
        lambda f: f.reseal(
            pad("~".join([f.disclosures()[0], *f.disclosures()]).encode()), digests=f.payload["_sd"]
        ),
        opens=True,
    ),
    Attack(
        "value changed",
        lambda f: f.reseal(
            pad("~".join([b64(dumps([SALT, "intent", "x"])), *f.disclosures()[1:]]).encode()),
            digests=f.payload["_sd"],
        ),
        opens=True,
    ),
    *[
        Attack(f"disclosure {label}", _do("with_disclosure", content), opens=True)
        for label, content in {
            "named _sd": [SALT, "_sd", 1],
            "named ...": [SALT, "...", 1],
            "named _sd_alg": [SALT, "_sd_alg", 1],
            "overwriting exp": [SALT, "exp", 99],
            "overwriting aud": [SALT, "aud", "crm-8"],
            "overwriting cnf": [SALT, "cnf", "x"],
            "overwriting a sibling": [SALT, "room", "other"],
            "of two elements": [SALT, 1],
            "of one element": [SALT],
            "of four elements": [SALT, "a", 1, 2],
            "empty": [],
            "as an object": {"salt": SALT, "a": 1},
            "as a string": "abc",
            "as null": None,
            "as a number": 7,
            "with an empty salt": ["", "a", 1],
            "with a short salt": ["A" * 21, "a", 1],
            "with a number as salt": [7, "a", 1],
            "with a number as name": [SALT, 7, 1],
            "with an object as value": [SALT, "a", {"_sd": []}],
            "with a nested list": [SALT, "a", [[1]]],
            "not canonical": b'["' + SALT.encode() + b'", "a", 1]',
            "with a repeated tail": b'["' + SALT.encode() + b'","a",1]]',
            "not JSON": b"\xff\xfe",
            "of no bytes": b"",
            "with NaN": b'["' + SALT.encode() + b'","a",NaN]',
            "with 1e400": b'["' + SALT.encode() + b'","a",1e400]',
            "with a lone surrogate": b'["' + SALT.encode() + b'","a","\\ud800"]',
            "of deep nesting": b'["' + SALT.encode() + b'","a",' + b"[" * 1500,
        }.items()
    ],
    Attack(
        "padded disclosure",
        lambda f: f.reseal(pad("~".join([f.disclosures()[0] + "=", *f.disclosures()[1:]]).encode())),
        opens=True,
    ),
    Attack("no padding block", lambda f: f.reseal("~".join(f.disclosures()).encode())),
    Attack(
        "padding of blanks", lambda f: f.reseal("~".join(f.disclosures()).encode().ljust(768)), opens=True
    ),
    Attack(
        "one block too many",
        lambda f: f.reseal(pad("~".join(f.disclosures()).encode()) + b"~" * 256),
        opens=True,
    ),
    Attack("only padding", lambda f: f.reseal(b"~" * 256, digests=f.payload["_sd"]), opens=True),
    Attack("not ASCII", lambda f: f.reseal(pad(b"\xff\xff"), digests=f.payload["_sd"]), opens=True),
    Attack(
        "commitment to another key",
        lambda f: f.claims(kc=b64(hashlib.sha256(b"cdp-kcother").digest())),
        opens=True,
    ),
]


def _jwe(f: Forge, **parts: str) -> str:
    names = ("header", "key", "iv", "text", "tag")
    old = dict(zip(names, f.payload["sealed"].split("."), strict=True))
    return f.claims(sealed=".".join({**old, **parts}.values()))


def _jwe_header(f: Forge, **changes: Any) -> str:
    header = {"alg": "dir", "enc": "A256GCM", "kid": f.payload["jti"], **changes}
    return _jwe(f, header=b64(dumps({name: value for name, value in header.items() if value is not DROP})))


SEALED = [
    *[
        Attack(f"alg {alg}", _call(_jwe_header, alg=alg))
        for alg in (
            "RSA1_5",
            "RSA-OAEP",
            "PBES2-HS256+A128KW",
            "ECDH-ES",
            "A256KW",
            "A256GCMKW",
            "none",
            "Dir",
        )
    ],
    Attack(
        "PBES2 with p2c of 30 million",
        lambda f: _jwe_header(f, alg="PBES2-HS256+A128KW", p2c=30_000_000, p2s="AAAA"),
    ),
    *[
        Attack(f"enc {enc}", _call(_jwe_header, enc=enc))
        for enc in (
            "A128GCM",
            "A192GCM",
            "A256CBC-HS512",
            "A128CBC-HS256",
            "none",
        )
    ],
    Attack("sealed zip", lambda f: _jwe_header(f, zip="DEF")),
    Attack("sealed kid of another fragment", lambda f: _jwe_header(f, kid="A" * 22)),
    Attack("sealed kid missing", lambda f: _jwe_header(f, kid=DROP)),
    Attack("sealed crit", lambda f: _jwe_header(f, crit=["x"])),
    Attack(
        "sealed epk of zeros",
        lambda f: _jwe_header(
            f, alg="ECDH-ES", epk={"kty": "EC", "crv": "P-256", "x": "A" * 43, "y": "A" * 43}
        ),
    ),
    Attack(
        "sealed epk X25519 of zeros",
        lambda f: _jwe_header(f, alg="ECDH-ES", epk={"kty": "OKP", "crv": "X25519", "x": "A" * 43}),
    ),
    Attack("encrypted key present", lambda f: _jwe(f, key="AAAA")),
    Attack("IV of 8 bytes", lambda f: _jwe(f, iv=b64(bytes(8)))),
    Attack("IV of 16 bytes", lambda f: _jwe(f, iv=b64(bytes(16)))),
    Attack("IV empty", lambda f: _jwe(f, iv="")),
    Attack("tag of 12 bytes", lambda f: _jwe(f, tag=b64(bytes(12)))),
    Attack("tag empty", lambda f: _jwe(f, tag="")),
    Attack("tag of 17 bytes", lambda f: _jwe(f, tag=b64(bytes(17)))),
    Attack("text empty", lambda f: _jwe(f, text="")),
    Attack(
        "sealed of another fragment",
        lambda f: f.claims(sealed=json.loads(unb64(f.other.split(".")[1]))["sealed"]),
    ),
    Attack("sealed is a JWS", lambda f: f.claims(sealed=f.jws)),
    Attack(
        "sealed JSON with two recipients", lambda f: f.claims(sealed=json.dumps({"recipients": [{}, {}]}))
    ),
    Attack("sealed with a trailing part", lambda f: f.claims(sealed=f.payload["sealed"] + ".AAAA")),
    Attack("tag zeroed", lambda f: _jwe(f, tag=b64(bytes(16))), opens=True),
    Attack("IV changed", lambda f: _jwe(f, iv=b64(bytes(12))), opens=True),
    Attack(
        "text cut by a block",
        lambda f: _jwe(f, text=b64(unb64(f.payload["sealed"].split(".")[3])[:-256])),
        opens=True,
    ),
    Attack("text of one byte with unused bits", lambda f: _jwe(f, text="AB")),
]

FAMILIES = {
    "algorithm": ALGORITHMS,
    "signature": SIGNATURES,
    "header": HEADERS,
    "shape": SHAPES,
    "claim": CLAIMS,
    "sd-jwt": SD_JWT,
    "opening": OPENING,
    "sealed": SEALED,
}
