"""Key files: sealing, safety, damage, and what a provider gives."""

import copy
import json
import os
import pickle
import stat
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dayfly.privacy.errors import (
    InvalidArgument,
    KeyFileUnsafe,
    KeyringUnavailable,
    KeyStoreBusy,
    KeyStoreDamaged,
    KeyStoreError,
    KeyStoreExists,
    KeyStoreFailed,
    KeyStoreForeign,
    KeyStoreVersion,
    KmsFailed,
    UnknownKey,
    WrongKey,
)
from dayfly.privacy.fragments.tombstones.note import open_note, sign_note
from dayfly.privacy.keys import (
    BareSeal,
    EnvelopeKeyProvider,
    FileKeyProvider,
    KeyName,
    KeyProvider,
    KeyringSeal,
    PassphraseSeal,
    Seal,
)
from dayfly.privacy.keys.provider import read_head

from .support import CHEAP, NOW_MS, DoubleKms, files_holding

PASSPHRASE = "correct horse battery"


class MemoryKeyring:
    """The keyring of an operating system, as a dictionary."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str], str] = {}
        self.error: Exception | None = None
        self.forgets = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.error is not None:
            raise self.error
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        if not self.forgets:
            self.entries[service, username] = password


def passphrase(text: str = PASSPHRASE) -> PassphraseSeal:
    return PassphraseSeal(lambda: text, random_bytes=os.urandom, cost=CHEAP)


def path_in(folder: Path) -> Path:
    return folder / "keys" / "tenant.keys"


def create(folder: Path, seal: Seal | None = None) -> FileKeyProvider:
    return FileKeyProvider.create(
        path_in(folder), "shop", seal=seal or BareSeal(), random_bytes=os.urandom, now_ms=NOW_MS
    )


def reopen(folder: Path, seal: Seal | None = None) -> FileKeyProvider:
    return FileKeyProvider.open(path_in(folder), seal=seal or BareSeal(), random_bytes=os.urandom)


def facts(provider: KeyProvider) -> list[Any]:
    """Everything that a provider gives, as values that can be compared."""
    public = provider.notes().public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return [
        provider.tenant,
        provider.tenant_id,
        provider.pseudonyms().current("user", "ada"),
        provider.signing(NOW_MS).jwks(NOW_MS),
        public,
        [provider.key(name) for name in KeyName],
        provider.keks().unwrap(1, provider.keks().wrap(b"k" * 32, b""), b""),
    ]


def secrets_of(provider: FileKeyProvider) -> list[bytes]:
    """All secret bytes of a provider."""
    material = provider._material
    groups = [material.pseudonyms, material.keks, *material.named.values()]
    return [one.key for group in groups for one in group.values()] + [
        entry.private[36:68] for entry in material.signing
    ]


def seals() -> list[Callable[[], Seal]]:
    keyring = MemoryKeyring()
    return [
        passphrase,
        lambda: KeyringSeal("shop", random_bytes=os.urandom, backend=keyring),
        BareSeal,
    ]


@pytest.mark.parametrize("make_seal", seals(), ids=["passphrase", "keyring", "bare"])
def test_a_provider_gives_the_same_secrets_after_reopening(
    tmp_path: Path, make_seal: Callable[[], Seal]
) -> None:
    made = create(tmp_path, make_seal())
    found = reopen(tmp_path, make_seal())
    assert facts(found) == facts(made)
    assert found.status(NOW_MS) == made.status(NOW_MS)


@pytest.mark.parametrize("make_seal", seals()[:2], ids=["passphrase", "keyring"])
def test_a_sealed_file_holds_no_secret_in_the_clear(tmp_path: Path, make_seal: Callable[[], Seal]) -> None:
    import base64

    made = create(tmp_path, make_seal())
    raw = path_in(tmp_path).read_bytes()
    unpacked = raw + base64.b64decode(json.loads(raw)["sealed"])
    for secret in secrets_of(made):
        assert secret not in unpacked
        assert secret.hex().encode() not in raw
        assert base64.b64encode(secret)[:40] not in raw


def test_all_secrets_differ_and_two_tenants_share_none(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    both = secrets_of(create(tmp_path / "a")) + secrets_of(create(tmp_path / "b"))
    assert len(set(both)) == len(both) == 2 * (2 + len(KeyName) + 1)


def test_the_head_can_be_read_without_the_passphrase(tmp_path: Path) -> None:
    create(tmp_path, passphrase())
    head = read_head(path_in(tmp_path).read_bytes(), "tenant.keys")
    assert (head.tenant, head.version, type(head.seal).__name__) == ("shop", 1, "PassphraseFacts")


def test_the_notes_key_signs_what_its_verifier_opens(tmp_path: Path) -> None:
    notes = create(tmp_path).notes()
    assert notes.signer.name == "dayfly.example/shop"
    assert open_note(sign_note("text\n", notes.signer), notes.verifier) == "text\n"


def test_an_origin_that_a_note_cannot_carry_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="name='a b' must be non-empty without spaces"):
        FileKeyProvider.create(
            path_in(tmp_path), "shop", seal=BareSeal(), random_bytes=os.urandom, now_ms=NOW_MS, origin="a b"
        )
    with pytest.raises(InvalidArgument, match="tenant='' must not be empty"):
        FileKeyProvider.create(
            path_in(tmp_path), "", seal=BareSeal(), random_bytes=os.urandom, now_ms=NOW_MS, origin="a"
        )
    assert not path_in(tmp_path).exists()


@pytest.mark.parametrize("show", [repr, str, lambda one: repr(one.status(NOW_MS))])
def test_nothing_shows_a_key(tmp_path: Path, show: Callable[[Any], str]) -> None:
    made = create(tmp_path)
    texts = [
        show(made),
        repr(made._material),
        repr(made._material.signing),
        repr(made.keks()),
        repr(made.notes()),
    ]
    texts.append(repr(made._material.pseudonyms))
    for secret in secrets_of(made):
        for text in texts:
            assert secret.hex() not in text
            assert repr(secret)[2:-1] not in text


@pytest.mark.parametrize("call", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_provider_and_its_keks_are_never_copied(tmp_path: Path, call: Callable[[Any], Any]) -> None:
    made = create(tmp_path)
    for secret in (made, made.keks()):
        with pytest.raises(KeyStoreError, match="must not be pickled or copied"):
            call(secret)


def test_an_unknown_name_or_version_is_refused(tmp_path: Path) -> None:
    made = create(tmp_path)
    with pytest.raises(UnknownKey, match="name='door' must be one of"):
        made.key("door")
    with pytest.raises(UnknownKey, match=r"audit version=2 must be one of \[1\]"):
        made.key("audit", version=2)


# --- wrong seals ------------------------------------------------------------------------------------------------------


def test_another_passphrase_is_refused_and_the_right_one_still_opens(tmp_path: Path) -> None:
    create(tmp_path, passphrase())
    with pytest.raises(WrongKey, match="passphrase=<secret> must be the one that sealed the file") as caught:
        reopen(tmp_path, passphrase("incorrect horse"))
    assert "incorrect horse" not in str(caught.value)
    assert reopen(tmp_path, passphrase()).tenant == "shop"


def test_a_short_passphrase_is_refused_and_twelve_characters_are_enough(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="must have at least 12 characters") as caught:
        create(tmp_path, passphrase("elevenchars"))
    assert "elevenchars" not in str(caught.value)
    assert not path_in(tmp_path).exists()
    create(tmp_path, passphrase("twelve chars"))


def test_the_passphrase_is_asked_once(tmp_path: Path) -> None:
    asked = []

    def ask() -> str:
        asked.append(1)
        return PASSPHRASE

    made = create(tmp_path, PassphraseSeal(ask, random_bytes=os.urandom, cost=CHEAP))
    made.rotate_pseudonyms(NOW_MS)
    made.rotate_kek(NOW_MS)
    assert asked == [1]
    assert reopen(tmp_path, passphrase()).keks().versions == (1, 2)


def test_a_changed_passphrase_opens_and_the_old_one_does_not(tmp_path: Path) -> None:
    made = create(tmp_path, passphrase())
    before = path_in(tmp_path).read_bytes()
    made.change_passphrase(lambda: "another long passphrase", cost=CHEAP)
    assert reopen(tmp_path, passphrase("another long passphrase")).key("audit") == made.key("audit")
    with pytest.raises(WrongKey, match="must be the one that sealed"):
        reopen(tmp_path, passphrase())
    old, new = json.loads(before), json.loads(path_in(tmp_path).read_bytes())
    assert old["seal"]["salt"] != new["seal"]["salt"]
    made.rotate_kek(NOW_MS)
    assert reopen(tmp_path, passphrase("another long passphrase")).keks().versions == (1, 2)


def test_a_refused_new_passphrase_leaves_the_old_one(tmp_path: Path) -> None:
    made = create(tmp_path, passphrase())
    with pytest.raises(InvalidArgument, match="at least 12 characters"):
        made.change_passphrase(lambda: "short", cost=CHEAP)
    made.rotate_kek(NOW_MS)
    assert reopen(tmp_path, passphrase()).keks().versions == (1, 2)


def test_a_file_sealed_in_another_way_says_how(tmp_path: Path) -> None:
    create(tmp_path, passphrase())
    with pytest.raises(InvalidArgument, match="seal='bare' must be 'passphrase', as the key file states"):
        reopen(tmp_path, BareSeal())
    with pytest.raises(InvalidArgument, match="seal='kms' must be 'passphrase'"):
        EnvelopeKeyProvider.open(path_in(tmp_path), kms=DoubleKms(), random_bytes=os.urandom)


def test_a_bare_file_can_be_sealed_later(tmp_path: Path) -> None:
    made = create(tmp_path)
    made.change_seal(passphrase())
    assert reopen(tmp_path, passphrase()).key("audit") == made.key("audit")


def test_scrypt_parameters_that_nobody_wrote_are_damage(tmp_path: Path) -> None:
    from dayfly.privacy.keys.provider.seals import PassphraseFacts

    with pytest.raises(KeyStoreDamaged, match=r"scrypt n=1073741824 .* must be a power of two"):
        passphrase().unseal(PassphraseFacts(2**30, 8, 1, b"s" * 16, b"w" * 60), {})


# --- keyring ----------------------------------------------------------------------------------------------------------


def test_a_missing_keyring_entry_is_a_wrong_key(tmp_path: Path) -> None:
    create(tmp_path, KeyringSeal("shop", random_bytes=os.urandom, backend=MemoryKeyring()))
    with pytest.raises(WrongKey, match="keyring entry service='dayfly' user='shop' must exist"):
        reopen(tmp_path, KeyringSeal("shop", random_bytes=os.urandom, backend=MemoryKeyring()))


@pytest.mark.parametrize(
    ("entry", "message"),
    [("!", "must hold a sealing key of Dayfly"), ("a" * 42 + "8=", "must be the one that sealed the file")],
)
def test_another_keyring_entry_is_a_wrong_key(tmp_path: Path, entry: str, message: str) -> None:
    keyring = MemoryKeyring()
    create(tmp_path, KeyringSeal("shop", random_bytes=os.urandom, backend=keyring))
    keyring.entries["dayfly", "shop"] = entry
    with pytest.raises(WrongKey, match=message):
        reopen(tmp_path, KeyringSeal("shop", random_bytes=os.urandom, backend=keyring))


def test_a_keyring_that_forgets_is_noticed_before_a_file_is_made(tmp_path: Path) -> None:
    keyring = MemoryKeyring()
    keyring.forgets = True
    with pytest.raises(KeyringUnavailable, match="must be kept; configure a keyring backend"):
        create(tmp_path, KeyringSeal("shop", random_bytes=os.urandom, backend=keyring))
    assert not path_in(tmp_path).exists()


def test_a_keyring_that_fails_is_named(tmp_path: Path) -> None:
    keyring = MemoryKeyring()
    keyring.error = RuntimeError("locked")
    with pytest.raises(
        KeyringUnavailable, match="must be within reach, but RuntimeError; unlock the keyring"
    ):
        create(tmp_path, KeyringSeal("shop", random_bytes=os.urandom, backend=keyring))


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(KeyringUnavailable, match=r"run pip install 'dayfly\[keyring\]'"):
        create(tmp_path, KeyringSeal("shop", random_bytes=os.urandom))


def test_the_library_keyring_keeps_the_entry(tmp_path: Path) -> None:
    keyring = pytest.importorskip("keyring", reason="the extra dayfly[keyring] is not installed")
    backend = import_module("keyring.backend")

    class InMemory(backend.KeyringBackend):  # type: ignore[name-defined, misc]
        priority = 1
        kept = MemoryKeyring()

        def get_password(self, service: str, username: str) -> str | None:
            return self.kept.get_password(service, username)

        def set_password(self, service: str, username: str, password: str) -> None:
            self.kept.set_password(service, username, password)

    before = keyring.get_keyring()
    keyring.set_keyring(InMemory())
    try:
        made = create(tmp_path, KeyringSeal("shop", random_bytes=os.urandom))
        found = reopen(tmp_path, KeyringSeal("shop", random_bytes=os.urandom))
        assert found.key("audit") == made.key("audit")
        assert list(InMemory.kept.entries) == [("dayfly", "shop")]
    finally:
        keyring.set_keyring(before)


# --- files ------------------------------------------------------------------------------------------------------------


def test_file_and_folder_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        create(tmp_path).rotate_kek(NOW_MS)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path_in(tmp_path).stat().st_mode) == 0o600
    assert stat.S_IMODE(path_in(tmp_path).parent.stat().st_mode) == 0o700
    assert [path.name for path in path_in(tmp_path).parent.iterdir()] == ["tenant.keys"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    create(tmp_path)
    path_in(tmp_path).chmod(mode)
    with pytest.raises(KeyFileUnsafe, match=rf"mode={mode:#o} of .* must be 0o600; run chmod 600"):
        reopen(tmp_path)


@pytest.mark.parametrize("mode", [0o750, 0o701])
def test_a_folder_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    made = create(tmp_path)
    path_in(tmp_path).parent.chmod(mode)
    for call in (lambda: reopen(tmp_path), lambda: made.rotate_kek(NOW_MS)):
        with pytest.raises(KeyFileUnsafe, match=rf"mode={mode:#o} of .* must be 0o700; run chmod 700"):
            call()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_owner_is_refused(tmp_path: Path) -> None:
    create(tmp_path)
    os.chown(path_in(tmp_path), 12345, -1)
    with pytest.raises(KeyFileUnsafe, match=r"owner=12345 of .* must be 0; run chown"):
        reopen(tmp_path)


def test_a_link_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    create(tmp_path)
    path = path_in(tmp_path)
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")
    with pytest.raises(KeyFileUnsafe, match="must not be a symbolic link"):
        reopen(tmp_path)


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    path_in(tmp_path).mkdir(parents=True, mode=0o700)
    path_in(tmp_path).parent.chmod(0o700)
    with pytest.raises((KeyFileUnsafe, KeyStoreFailed), match="must be"):
        reopen(tmp_path)


def test_a_missing_file_or_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyStoreFailed, match="must be within reach, but No such file"):
        reopen(tmp_path)
    path_in(tmp_path).parent.mkdir(mode=0o700)
    with pytest.raises(KeyStoreFailed, match="must be within reach, but No such file"):
        reopen(tmp_path)
    with pytest.raises(KeyStoreFailed, match="must be a folder, but"):
        create(tmp_path / "missing")


def test_a_new_file_never_replaces_one(tmp_path: Path) -> None:
    made = create(tmp_path)
    with pytest.raises(KeyStoreExists, match="must not exist; open it instead"):
        create(tmp_path)
    assert reopen(tmp_path).key("audit") == made.key("audit")
    assert [path.name for path in path_in(tmp_path).parent.iterdir()] == ["tenant.keys"]


def test_a_file_that_somebody_else_changed_is_not_overwritten(tmp_path: Path) -> None:
    one, other = create(tmp_path), reopen(tmp_path)
    other.rotate_kek(NOW_MS)
    with pytest.raises(KeyStoreBusy, match="must be as it was read, but another process changed it"):
        one.rotate_kek(NOW_MS)
    assert one.keks().versions == (1,)
    assert reopen(tmp_path).keks().versions == (1, 2)


def test_the_replaced_file_is_overwritten_before_it_goes(tmp_path: Path) -> None:
    made = create(tmp_path)
    descriptor = os.open(path_in(tmp_path), os.O_RDONLY)  # keeps the old file within reach
    try:
        made.rotate_kek(NOW_MS)
        size = os.fstat(descriptor).st_size
        assert size > 1000
        assert os.pread(descriptor, size, 0) == bytes(size)
        assert os.fstat(descriptor).st_nlink == 0
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("step", range(12))
def test_a_crash_at_any_step_of_a_rotation_leaves_the_old_or_the_new_keys(
    tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = create(tmp_path)
    made.rotate_pseudonyms(NOW_MS)
    retired = made._material.pseudonyms[1].key
    steps = iter(range(100))

    class Crash(BaseException):
        pass

    def crashing(name: str) -> None:
        original = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            if next(steps) == step:
                raise Crash
            return original(*arguments, **options)

        monkeypatch.setattr(os, name, call)

    for name in ("fsync", "fdatasync", "pwrite", "link", "replace", "unlink", "fchmod"):
        crashing(name)
    try:
        made.retire_pseudonym_version(1)
    except Crash:
        crashed = True
    else:
        crashed = False
    monkeypatch.undo()
    found = reopen(tmp_path).pseudonyms().versions
    assert found in ([(1, 2), (2,)] if crashed else [(2,)])
    assert [path.name for path in path_in(tmp_path).parent.iterdir()] == ["tenant.keys"]
    if found == (2,):
        assert files_holding(tmp_path, [retired]) == []
    assert crashed == (
        step < 10
    )  # ten system calls that change something; the rest of the steps do not crash


def test_every_flipped_bit_and_every_truncation_is_noticed(tmp_path: Path) -> None:
    create(tmp_path)
    path = path_in(tmp_path)
    whole = path.read_bytes()
    expected = (KeyStoreDamaged, KeyStoreForeign, KeyStoreVersion)
    for offset in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[offset] ^= 1 << (offset % 7)
        if json_or_none(bytes(changed)) == json_or_none(whole):
            continue  # white space
        path.write_bytes(changed)
        with pytest.raises(expected, match="must"):
            reopen(tmp_path)
        assert path.read_bytes() == changed
    for length in range(0, len(whole) - 2, 97):
        path.write_bytes(whole[:length])
        with pytest.raises(expected, match="must"):
            reopen(tmp_path)


def json_or_none(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return None


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"version": 2}, KeyStoreVersion, "version=2 of .* must be <= 1; use a newer Dayfly"),
        ({"format": "other"}, KeyStoreForeign, "must be a key file of Dayfly"),
        ({"tenant": "mall"}, KeyStoreDamaged, "must be a whole key file"),
        ({"extra": 1}, KeyStoreDamaged, "must be a whole key file"),
        ({"checksum": None}, KeyStoreDamaged, "must be a whole key file"),
    ],
)
def test_a_changed_field_is_noticed(
    tmp_path: Path, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    create(tmp_path)
    path = path_in(tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(error, match=message):
        reopen(tmp_path)


def test_secrets_that_are_not_complete_are_noticed(tmp_path: Path) -> None:
    import msgspec

    made = create(tmp_path)
    material = made._material
    for broken in (
        msgspec.structs.replace(material, keks={}),
        msgspec.structs.replace(material, named={}),
        msgspec.structs.replace(material, signing=()),
        msgspec.structs.replace(material, tenant_id=b"short"),
        msgspec.structs.replace(material, notes=b"no key"),
    ):
        with pytest.raises(KeyStoreDamaged, match=r"must (hold every key of a tenant|be a P-256 key)"):
            broken.check()


# --- key-management service -------------------------------------------------------------------------------------------


def envelope(folder: Path, kms: DoubleKms, tenant: str = "shop") -> EnvelopeKeyProvider:
    return EnvelopeKeyProvider.create(
        path_in(folder), tenant, kms=kms, random_bytes=os.urandom, now_ms=NOW_MS
    )


def open_envelope(folder: Path, kms: DoubleKms) -> EnvelopeKeyProvider:
    return EnvelopeKeyProvider.open(path_in(folder), kms=kms, random_bytes=os.urandom)


def test_a_service_wraps_a_content_key_for_one_tenant_and_sees_no_secret(tmp_path: Path) -> None:
    kms = DoubleKms()
    made = envelope(tmp_path, kms)
    assert facts(open_envelope(tmp_path, kms)) == facts(made)
    context = {"application": "dayfly", "purpose": "key file", "tenant": "shop"}
    assert kms.calls == [("wrap", context), ("unwrap", context)]


@pytest.mark.parametrize("error", [TimeoutError("slow"), PermissionError("denied"), RuntimeError("client")])
def test_a_service_that_fails_leaves_file_and_memory_as_they_were(tmp_path: Path, error: Exception) -> None:
    kms = DoubleKms()
    made = envelope(tmp_path, kms)
    raw = path_in(tmp_path).read_bytes()
    kms.error = error
    rotations: list[Callable[[], Any]] = [
        lambda: made.rotate_kek(NOW_MS),
        lambda: made.rotate_signing(NOW_MS),
        lambda: made.rotate_pseudonyms(NOW_MS),
        lambda: made.rotate_key("audit", NOW_MS),
        lambda: made.change_kms(kms),
    ]
    before = made.status(NOW_MS)
    for rotate in rotations:
        with pytest.raises(KmsFailed, match=f"wrap with context=.* must succeed, but {type(error).__name__}"):
            rotate()
        assert made.status(NOW_MS) == before
        assert path_in(tmp_path).read_bytes() == raw
    with pytest.raises(KmsFailed, match=f"unwrap with context=.* must succeed, but {type(error).__name__}"):
        open_envelope(tmp_path, kms)
    kms.error = None
    assert open_envelope(tmp_path, kms).status(NOW_MS) == before


def test_a_service_that_fails_at_first_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(KmsFailed, match="must succeed, but TimeoutError"):
        envelope(tmp_path, DoubleKms(error=TimeoutError()))
    assert not path_in(tmp_path).exists()


def test_another_key_of_the_service_is_refused(tmp_path: Path) -> None:
    envelope(tmp_path, DoubleKms())
    with pytest.raises(KmsFailed, match="must succeed, but PermissionError"):
        open_envelope(tmp_path, DoubleKms())


def test_a_wrapped_key_does_not_open_for_another_tenant(tmp_path: Path) -> None:
    from dayfly.privacy.keys.provider import KmsSeal

    seal = KmsSeal(DoubleKms())
    kept = seal.seal(b"c" * 32, {"tenant": "shop"})
    with pytest.raises(KmsFailed, match=r"unwrap with context=\{'tenant': 'mall'\} must succeed"):
        seal.unseal(kept, {"tenant": "mall"})


@pytest.mark.parametrize("answer", [b"short", b"x" * 33])
def test_an_answer_that_is_no_key_is_refused(tmp_path: Path, answer: bytes) -> None:
    kms = DoubleKms()
    envelope(tmp_path, kms)
    kms.answer = answer
    with pytest.raises(KmsFailed, match=rf"unwrap=<{len(answer)} bytes> must be 32 bytes"):
        open_envelope(tmp_path, kms)


def test_a_service_that_gives_the_plaintext_back_is_refused(tmp_path: Path) -> None:
    class Echo(DoubleKms):
        def wrap(self, plaintext: bytes, context: Any) -> bytes:
            return b"prefix" + plaintext

    class Nothing(DoubleKms):
        def wrap(self, plaintext: bytes, context: Any) -> bytes:
            return "text"  # type: ignore[return-value]

    for kms in (Echo(), Nothing()):
        with pytest.raises(KmsFailed, match=r"wrap=<.*> must be sealed bytes"):
            envelope(tmp_path, kms)
    assert not path_in(tmp_path).exists()


def test_a_file_moves_to_another_key_of_the_service(tmp_path: Path) -> None:
    old, new = DoubleKms(), DoubleKms()
    made = envelope(tmp_path, old)
    made.change_kms(new)
    assert facts(open_envelope(tmp_path, new)) == facts(made)
    with pytest.raises(KmsFailed, match="PermissionError"):
        open_envelope(tmp_path, old)
