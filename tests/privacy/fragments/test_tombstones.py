"""The tombstone log: published tree vectors, an independent oracle, proofs, notes, receipts, files."""

import base64
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa
from hypothesis import given
from hypothesis import strategies as st

from dayfly.privacy.errors import InvalidArgument, InvalidReceipt
from dayfly.privacy.fragments import (
    AppendOnlyFile,
    Checkpoint,
    DeletionReceipt,
    DestroyReason,
    Tombstone,
    note_signer,
    note_verifier,
    verify_log_grew,
    verify_receipt,
)
from dayfly.privacy.fragments.tombstones import (
    MerkleTree,
    NoteKey,
    open_note,
    read_entries,
    root_from_inclusion,
    sign_note,
    verify_consistency,
)
from dayfly.privacy.fragments.wire import SealedClaims

from .world import NOW_MS, ORIGIN, World, order

# The test tree of RFC 6962 implementations (RFC 9162 hashes the same way).
ENTRIES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def slow_root(entries: list[bytes]) -> bytes:
    """MTH of RFC 9162 section 2.1.1, word for word."""
    if not entries:
        return hashlib.sha256().digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\0" + entries[0]).digest()
    split = 1
    while split * 2 < len(entries):
        split *= 2
    return hashlib.sha256(b"\1" + slow_root(entries[:split]) + slow_root(entries[split:])).digest()


def tree_of(entries: list[bytes]) -> MerkleTree:
    tree = MerkleTree()
    for entry in entries:
        tree.append(entry)
    return tree


@pytest.mark.parametrize("size", range(9))
def test_roots_equal_the_published_ones(size: int) -> None:
    assert tree_of(ENTRIES[:size]).root().hex() == ROOTS[size] == slow_root(ENTRIES[:size]).hex()
    assert tree_of(ENTRIES).root(size).hex() == ROOTS[size]


@given(st.integers(1, 70), st.data())
def test_every_inclusion_proof_leads_to_the_root_and_no_other_does(size: int, data: st.DataObject) -> None:
    entries = [os.urandom(3) + bytes([n]) for n in range(size + 5)]
    tree = tree_of(entries)
    index = data.draw(st.integers(0, size - 1))
    proof, root = tree.inclusion_proof(index, size), slow_root(entries[:size])
    assert root_from_inclusion(entries[index], index, size, proof) == root
    assert root_from_inclusion(b"other", index, size, proof) != root
    assert len(proof) <= (size - 1).bit_length()
    for wrong in ((*proof, bytes(32)), proof[:-1] if proof else (bytes(32),), (*proof[:-1], b"short")):
        with pytest.raises(InvalidReceipt, match="must fit index and size"):
            root_from_inclusion(entries[index], index, size, wrong)


@given(st.integers(0, 70), st.integers(0, 70))
def test_consistency_holds_between_any_two_sizes_and_breaks_on_any_change(first: int, second: int) -> None:
    old, new = sorted((first, second))
    entries = [bytes([n]) for n in range(new)]
    proof = tree_of(entries).consistency_proof(old, new)
    roots = slow_root(entries[:old]), slow_root(entries)
    verify_consistency(old, roots[0], new, roots[1], proof)
    if old > 0:
        with pytest.raises(InvalidReceipt):
            verify_consistency(old, bytes(32), new, roots[1], proof)
    if 0 < old < new:
        with pytest.raises(InvalidReceipt, match="the log was rewritten"):
            verify_consistency(old, roots[0], new, bytes(32), proof)
        with pytest.raises(InvalidReceipt):
            verify_consistency(old, roots[0], new, roots[1], proof[:-1])
        with pytest.raises(InvalidReceipt):
            verify_consistency(old, roots[0], new, roots[1], (*proof, bytes(32)))


def test_proofs_outside_the_tree_are_refused() -> None:
    tree = tree_of(ENTRIES)
    for act, message in (
        (lambda: tree.inclusion_proof(8, 8), r"index=8 must lie in \[0, 8\)"),
        (lambda: tree.inclusion_proof(-1, 8), "index=-1"),
        (lambda: tree.inclusion_proof(0, 9), r"size=9 must lie in \[0, 8\]"),
        (lambda: tree.consistency_proof(5, 4), "old_size=5"),
        (lambda: tree.root(-1), "size=-1"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            act()
    with pytest.raises(InvalidReceipt, match="index=8 must lie in"):
        root_from_inclusion(b"", 8, 8, ())
    with pytest.raises(InvalidReceipt, match="old_size=9 must lie in"):
        verify_consistency(9, b"", 8, b"", ())
    with pytest.raises(InvalidReceipt, match="must be empty"):
        verify_consistency(0, bytes(32), 8, bytes(32), (bytes(32),))


# --- notes -----------------------------------------------------------------------------------------------------------

KEYS: dict[
    str, Callable[[], ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | mldsa.MLDSA44PrivateKey]
] = {
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ML-DSA-44": mldsa.MLDSA44PrivateKey.generate,
}


@pytest.mark.parametrize("kind", KEYS)
def test_a_note_opens_with_its_key_and_no_other(kind: str) -> None:
    key = KEYS[kind]()
    note = sign_note("log\ntext\n", note_signer("log.example/1", key))
    public: NoteKey = key.public_key()
    assert open_note(note, note_verifier("log.example/1", public)) == "log\ntext\n"
    for verifier in (
        note_verifier("other", public),
        note_verifier("log.example/1", KEYS[kind]().public_key()),
    ):
        with pytest.raises(InvalidReceipt, match="must carry a valid signature"):
            open_note(note, verifier)
    for place in range(0, len(note), 11):
        altered = note[:place] + chr(ord(note[place]) ^ 1) + note[place + 1 :]
        with pytest.raises(InvalidReceipt):
            open_note(altered, note_verifier("log.example/1", public))


def test_the_note_example_of_c2sp_is_spelled_like_ours() -> None:
    """Text, blank line, em dash, name, base64 of key id and signature (c2sp.org/signed-note)."""
    key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))
    note = sign_note("a\n", note_signer("example.com/log", key))
    text, line, end = note.split("\n\n")[0] + "\n", note.split("\n\n")[1], note[-1]
    dash, name, encoded = line.rstrip("\n").split(" ")
    raw = base64.b64decode(encoded)
    identity = hashlib.sha256(b"example.com/log\n\x01" + key.public_key().public_bytes_raw()).digest()[:4]
    assert (text, dash, name, end, raw[:4]) == ("a\n", "\u2014", "example.com/log", "\n", identity)
    key.public_key().verify(raw[4:], b"a\n")


def test_other_signatures_on_a_note_are_ignored() -> None:
    ours, theirs = ed25519.Ed25519PrivateKey.generate(), ed25519.Ed25519PrivateKey.generate()
    note = (
        sign_note("a\n", note_signer("witness", theirs))
        + sign_note("a\n", note_signer("log", ours)).split("\n\n")[1]
    )
    assert open_note(note, note_verifier("log", ours.public_key())) == "a\n"


@pytest.mark.parametrize(
    "note",
    [
        "",
        "a\n",
        "a\n\n",
        "a\n\nx",
        "a\n\n\u2014 log !!!!\n",
        "a\n\n\u2014 log\n",
        "a\n\n" + "\u2014 x AAAA\n" * 17,
    ],
)
def test_a_malformed_note_is_refused(note: str) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    with pytest.raises(InvalidReceipt, match="checkpoint must"):
        open_note(note, note_verifier("log", key.public_key()))


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\nb", "a\u2003b"])
def test_a_name_that_a_note_cannot_carry_is_refused(name: str) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    with pytest.raises(InvalidArgument, match="must be non-empty without spaces"):
        note_signer(name, key)
    with pytest.raises(InvalidArgument, match="must be non-empty without spaces"):
        note_verifier(name, key.public_key())


GOOD = Checkpoint("log", 2, bytes(32), 5, 3, 1000)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("log\n2\n", "four lines"),
        (GOOD.text().replace("minted 5", "minted five"), "four lines"),
        (GOOD.text().replace("minted 5", "minted 05"), "canonically"),
        (GOOD.text().replace("live", "alive"), "canonically"),
        (GOOD.text().replace("\n2\n", "\n+2\n"), "canonically"),
        (GOOD.text().replace("minted 5", "minted 6"), r"minted=6 must equal live \+ tombstones = 5"),
        (GOOD.text().replace("live 3", "live 2"), "lost a fragment"),
    ],
)
def test_a_checkpoint_that_does_not_balance_is_refused(text: str, message: str) -> None:
    assert Checkpoint.from_text(GOOD.text()) == GOOD
    with pytest.raises(InvalidReceipt, match=message):
        Checkpoint.from_text(text)


# --- receipts --------------------------------------------------------------------------------------------------------


def dead(world: World, count: int) -> list[str]:
    names = [world.cdp.mint(order(f"o-{n}"), NOW_MS).jti for n in range(count)]
    for name in names:
        world.cdp.shred(name, DestroyReason.OPERATOR, NOW_MS + 5)
    return names


def test_a_receipt_is_checked_offline_from_its_json_alone() -> None:
    world = World()
    token = world.cdp.mint(order(), NOW_MS).token
    claims = world.crm.verify(token, NOW_MS).claims
    assert isinstance(claims, SealedClaims)
    world.cdp.shred_consent("c:7Q2mZk1b", NOW_MS + 5)
    wire = msgspec.json.encode(world.cdp.receipt(claims.jti))
    receipt = msgspec.json.decode(wire, type=DeletionReceipt)
    checkpoint = verify_receipt(receipt, world.note_verifier, ORIGIN, kc=claims.kc)
    assert (checkpoint.size, checkpoint.minted, checkpoint.live) == (1, 1, 0)
    assert receipt.tombstone == Tombstone(
        jti=claims.jti,
        kc=claims.kc,
        iat=claims.iat,
        exp=claims.exp,
        dead_ms=NOW_MS + 5,
        reason=DestroyReason.WITHDRAWN,
        leases=0,
    )
    assert not any(word in wire.decode() for word in ("small flat", "internal", "crm-7", "Personalisation"))


@pytest.mark.parametrize("count", [1, 2, 3, 8, 13])
def test_receipts_hold_for_every_tombstone_of_a_log(count: int) -> None:
    world = World()
    for name in dead(world, count):
        assert verify_receipt(world.cdp.receipt(name), world.note_verifier, ORIGIN).size == count


def test_an_altered_receipt_is_refused() -> None:
    world = World()
    names = dead(world, 5)
    receipt = world.cdp.receipt(names[2])
    stone = receipt.tombstone
    change = msgspec.structs.replace
    wrong = [
        change(receipt, index=3),
        change(receipt, index=-1),
        change(receipt, index=5),
        change(receipt, proof=receipt.proof[:-1]),
        change(receipt, proof=(bytes(32), *receipt.proof[1:])),
        change(receipt, tombstone=change(stone, dead_ms=stone.dead_ms - 1)),
        change(receipt, tombstone=change(stone, reason=DestroyReason.EXPIRED)),
        change(receipt, tombstone=change(stone, leases=1)),
        change(receipt, tombstone=change(stone, kc="A" * 43)),
        change(receipt, tombstone=world.cdp.receipt(names[1]).tombstone),
        change(receipt, checkpoint=World().cdp.checkpoint(NOW_MS)),
        change(receipt, checkpoint=receipt.checkpoint.replace("minted 5", "minted 6")),
    ]
    for altered in wrong:
        with pytest.raises(InvalidReceipt):
            verify_receipt(altered, world.note_verifier, ORIGIN)
    with pytest.raises(InvalidReceipt, match="must be 'other'"):
        verify_receipt(receipt, world.note_verifier, "other")
    with pytest.raises(InvalidReceipt, match="another key"):
        verify_receipt(receipt, world.note_verifier, ORIGIN, kc="A" * 43)


def test_there_is_no_receipt_for_the_living_and_the_unknown() -> None:
    world = World()
    fragment = world.cdp.mint(order(), NOW_MS)
    for jti in (fragment.jti, "A" * 22):
        with pytest.raises(InvalidArgument, match="must name a destroyed fragment"):
            world.cdp.receipt(jti)


def test_a_log_that_only_grew_is_told_from_one_that_was_rewritten() -> None:
    world = World()
    dead(world, 3)
    older = world.cdp.checkpoint(NOW_MS)
    world.cdp.shred(world.cdp.mint(order("more"), NOW_MS).jti, DestroyReason.OPERATOR, NOW_MS)
    newer = world.cdp.checkpoint(NOW_MS)
    proof = world.cdp.consistency_proof(3, 4)
    verify_log_grew(older, newer, proof, world.note_verifier)
    with pytest.raises(InvalidReceipt):
        verify_log_grew(older, newer, (), world.note_verifier)
    with pytest.raises(InvalidReceipt):
        verify_log_grew(newer, older, proof, world.note_verifier)


def test_a_clear_fragment_leaves_a_tombstone_without_commitment() -> None:
    from dayfly.privacy.fragments import Profile

    world = World()
    fragment = world.cdp.mint(order(profile=Profile.F0), NOW_MS)
    world.cdp.expire(NOW_MS + 60_000)
    assert world.cdp.receipt(fragment.jti).tombstone.kc == ""


# --- the file --------------------------------------------------------------------------------------------------------


def test_the_file_log_alone_rebuilds_the_signed_root(tmp_path: Path) -> None:
    with AppendOnlyFile(tmp_path / "log") as sink:
        world = World(sink=sink)
        dead(world, 7)
        world.cdp.close()
    entries = read_entries(tmp_path / "log")
    note = (tmp_path / "log" / "checkpoint").read_text()
    checkpoint = Checkpoint.from_text(open_note(note, world.note_verifier))
    assert (len(entries), checkpoint.size, checkpoint.root) == (7, 7, slow_root(entries))
    assert msgspec.json.decode(entries[0], type=Tombstone).reason == DestroyReason.OPERATOR


def test_a_cut_last_line_is_told(tmp_path: Path) -> None:
    (tmp_path / "tombstones.jsonl").write_bytes(b'{"v":1}\n{"v"')
    with pytest.raises(InvalidReceipt, match="must end in a newline"):
        read_entries(tmp_path)


def test_a_sink_that_fails_delays_the_checkpoint_and_loses_no_tombstone() -> None:
    class Flaky:
        def __init__(self) -> None:
            self.left, self.entries, self.notes = 2, [], []  # type: ignore[var-annotated]

        def tombstone(self, entry: bytes) -> None:
            if self.left == 0:
                raise OSError("disk full")
            self.left -= 1
            self.entries.append(entry)

        def checkpoint(self, note: str) -> None:
            self.notes.append(note)

    sink = Flaky()
    world = World(sink=sink)
    names = dead(world, 5)
    assert world.cdp.live_count() == 0
    with pytest.raises(OSError, match="disk full"):
        world.cdp.checkpoint(NOW_MS)
    assert sink.notes == []
    sink.left = 99
    world.cdp.checkpoint(NOW_MS)
    assert [msgspec.json.decode(entry)["jti"] for entry in sink.entries] == names
    assert len(sink.notes) == 1
