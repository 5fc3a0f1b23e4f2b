"""`dayfly keys`: files that only their owner reads, nothing secret shown, and rotations that keep old data readable."""

import base64
import json
import os
import stat
from pathlib import Path

import orjson
import pytest

from dayfly.engine.store import StoreMarker
from dayfly.privacy.errors import UnknownKey
from dayfly.privacy.keys import BareSeal, FileKeyProvider, PassphraseSeal, SlotKeys
from dayfly.privacy.keys.interfaces import Kms
from dayfly.privacy.keys.provider import EnvelopeKeyProvider

from .support import dayfly

PASSPHRASE = "correct horse battery"


@pytest.fixture
def phrase(tmp_path: Path) -> Path:
    path = tmp_path / "phrase"
    path.write_text(PASSPHRASE + "\n")
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A key file that is not sealed, which is quick."""
    path = tmp_path / "secrets" / "shop.keys"
    assert dayfly("keys", "init", path, "--tenant", "shop", "--bare").exit_code == 0
    return path


def opened(path: Path, phrase: str = PASSPHRASE) -> FileKeyProvider:
    return FileKeyProvider.open(
        path, seal=PassphraseSeal(lambda: phrase, random_bytes=os.urandom), random_bytes=os.urandom
    )


def test_init_makes_a_private_file_that_the_passphrase_opens(tmp_path: Path, phrase: Path) -> None:
    path = tmp_path / "secrets" / "shop.keys"
    result = dayfly("keys", "init", path, "--tenant", "shop", "--passphrase-file", phrase, "--json")
    assert result.exit_code == 0, result.output
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert orjson.loads(result.stdout)["seal"] == "passphrase"
    assert opened(path).tenant == "shop"
    shown = dayfly("keys", "status", path, "--passphrase-file", "-", stdin=PASSPHRASE + "\n")
    assert shown.exit_code == 0
    assert "sealed by passphrase, tombstone log dayfly.example/shop" in shown.stdout


def test_a_passphrase_can_be_typed(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "shop.keys"
    typed = f"{PASSPHRASE}\n{PASSPHRASE}\n"
    assert dayfly("keys", "init", path, "--tenant", "shop", "--ask", stdin=typed).exit_code == 0
    result = dayfly("keys", "status", path, "--ask", stdin=f"{PASSPHRASE}\n")
    assert result.exit_code == 0
    assert PASSPHRASE not in result.output


@pytest.mark.parametrize("command", ["status", "rotate", "public"])
def test_no_command_shows_a_key(file: Path, tmp_path: Path, command: str) -> None:
    options: dict[str, list[object]] = {
        "status": [],
        "rotate": ["kek"],
        "public": ["--out", tmp_path / "public"],
    }
    more = options[command]
    result = dayfly("keys", command, file, *more, "--json")
    assert result.exit_code == 0, result.output
    provider = FileKeyProvider.open(file, seal=_bare(), random_bytes=os.urandom)
    material = provider._material
    secrets = [
        one.key
        for versions in (material.keks, material.pseudonyms, *material.named.values())
        for one in versions.values()
    ]
    written = result.output.encode() + b"".join(path.read_bytes() for path in tmp_path.glob("public/*"))
    for secret in [*secrets, material.notes, *(entry.private for entry in material.signing)]:
        for form in (
            secret,
            secret.hex().encode(),
            base64.b64encode(secret),
            base64.urlsafe_b64encode(secret).rstrip(b"="),
        ):
            assert form not in written


def _bare() -> BareSeal:

    return BareSeal()


def test_without_a_passphrase_nothing_is_asked_and_the_way_out_is_told(tmp_path: Path, phrase: Path) -> None:
    path = tmp_path / "secrets" / "shop.keys"
    dayfly("keys", "init", path, "--tenant", "shop", "--passphrase-file", phrase)
    result = dayfly("keys", "status", path)
    assert result.exit_code == 2
    assert "pass --passphrase-file FILE or --ask" in result.output
    (tmp_path / "wrong").write_text("another passphrase\n")
    result = dayfly("keys", "status", path, "--passphrase-file", tmp_path / "wrong")
    assert result.exit_code == 2
    assert "must be the one that sealed the file" in result.output
    result = dayfly("keys", "status", path, "--passphrase-file", phrase, "--ask")
    assert "must not be given together" in result.output


@pytest.mark.parametrize("seals", [[], ["--bare", "--keyring", "shop"]])
def test_init_needs_exactly_one_seal(tmp_path: Path, seals: list[str]) -> None:
    result = dayfly("keys", "init", tmp_path / "s" / "k", "--tenant", "shop", *seals)
    assert result.exit_code == 2
    assert "must be exactly one of" in result.output
    assert not (tmp_path / "s").exists()


def test_a_file_that_is_there_is_not_replaced(file: Path) -> None:
    before = file.read_bytes()
    result = dayfly("keys", "init", file, "--tenant", "other", "--bare")
    assert (result.exit_code, file.read_bytes()) == (2, before)
    assert "must not exist" in result.output


@pytest.mark.parametrize("what", ["pseudonym", "kek", "pairwise", "audit"])
def test_a_rotation_adds_a_version_and_retiring_takes_one_away(file: Path, tmp_path: Path, what: str) -> None:
    result = dayfly("keys", "rotate", file, what, "--json")
    assert [one["version"] for one in orjson.loads(result.stdout)["versions"][what]] == [1, 2]
    store = [] if what != "kek" else ["--store", _store(file, tmp_path)]
    assert dayfly("keys", "retire", file, what, *store).exit_code == 2, "no version"
    result = dayfly("keys", "retire", file, what, "--version", 1, *store, "--json")
    assert [one["version"] for one in orjson.loads(result.stdout)["versions"][what]] == [2]
    result = dayfly("keys", "retire", file, what, "--version", 2, *store)
    assert result.exit_code == 2
    assert "must" in result.output


def _store(file: Path, tmp_path: Path) -> Path:
    """A store's marker and data keys, one of them under the first key-encryption key."""

    folder = tmp_path / "store"
    keys = FileKeyProvider.open(file, seal=_bare(), random_bytes=os.urandom)
    StoreMarker.create(folder, tenant=keys.tenant_id, created_ms=1)
    with SlotKeys.new(
        folder / "keys.slots", keys.keks(), tenant=keys.tenant_id, random_bytes=os.urandom, now_ms=lambda: 1
    ) as slots:
        slots.create("log")
    return folder


def test_a_key_encryption_key_is_not_retired_without_looking_at_the_stores(file: Path) -> None:
    dayfly("keys", "rotate", file, "kek")
    result = dayfly("keys", "retire", file, "kek", "--version", 1)
    assert result.exit_code == 2
    assert "must name every store of the tenant" in result.output


def test_a_signing_key_is_published_before_it_signs_and_ends_by_itself(file: Path) -> None:
    found = orjson.loads(dayfly("keys", "rotate", file, "signing", "--json").stdout)["signing"]
    assert [key["state"] for key in found] == ["signing", "published"]
    assert found[1]["use_from_ms"] - found[1]["published_ms"] == 600_000
    again = dayfly("keys", "rotate", file, "signing")
    assert again.exit_code == 2
    kept = orjson.loads(dayfly("keys", "retire", file, "signing", "--json").stdout)["signing"]
    assert len(kept) == 2


def test_lineage_and_digest_keys_cannot_be_rotated_because_stores_hang_on_them(file: Path) -> None:
    for name in ("lineage", "digest", "probe-claim"):
        assert dayfly("keys", "rotate", file, name).exit_code == 2


def test_resealing_changes_what_opens_the_file(file: Path, phrase: Path) -> None:
    assert dayfly("keys", "reseal", file, "--new-passphrase-file", phrase).exit_code == 0
    assert dayfly("keys", "status", file).exit_code == 2
    assert opened(file).tenant == "shop"


def test_the_public_halves_are_what_verifiers_need(file: Path, tmp_path: Path) -> None:
    result = dayfly("keys", "public", file, "--out", tmp_path / "public")
    assert result.exit_code == 0
    jwks = json.loads((tmp_path / "public" / "jwks.json").read_text())
    assert [sorted(key) for key in jwks["keys"]] == [["alg", "crv", "kid", "kty", "use", "x", "y"]]
    assert (tmp_path / "public" / "log-key.pem").read_text().startswith("-----BEGIN PUBLIC KEY-----")


def test_a_file_of_a_key_service_is_left_to_the_service(tmp_path: Path) -> None:
    class Backwards(Kms):
        def wrap(self, plaintext: bytes, context: object) -> bytes:
            return bytes(reversed(plaintext))

        def unwrap(self, ciphertext: bytes, context: object) -> bytes:
            return bytes(reversed(ciphertext))

    path = tmp_path / "s" / "k"
    EnvelopeKeyProvider.create(path, "shop", kms=Backwards(), random_bytes=os.urandom, now_ms=1)
    result = dayfly("keys", "status", path)
    assert result.exit_code == 2
    assert "EnvelopeKeyProvider" in result.output


def test_what_was_retired_is_gone(file: Path) -> None:
    dayfly("keys", "rotate", file, "pairwise")
    dayfly("keys", "retire", file, "pairwise", "--version", 1)
    keys = FileKeyProvider.open(file, seal=_bare(), random_bytes=os.urandom)
    with pytest.raises(UnknownKey, match="version=1 must be one of"):
        keys.key("pairwise", version=1)
