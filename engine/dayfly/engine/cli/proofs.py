"""`dayfly verify`, `dayfly receipt verify` and `dayfly audit verify`: checks that need nothing of the engine."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .exits import ExitCode, fail, guarded
from .instants import instant_or_now, instant_text
from .output import print_json, screen

if TYPE_CHECKING:
    from dayfly.privacy.fragments import DeletionReceipt, NoteVerifier

__all__ = ["audit_app", "note_key", "receipt_app", "verify"]

receipt_app = typer.Typer(
    help="Deletion receipts: proofs that a fragment's key is destroyed.", no_args_is_help=True
)
audit_app = typer.Typer(help="The audit log of consent and transfer decisions.", no_args_is_help=True)

_FRAGMENT = "The token, or a file with it (- for standard input), or the fragments.jsonl of a run together with --jti."
_ISSUER = "https://cdp.example"
_ORIGIN = "dayfly.example/demo"


@guarded
def verify(
    *,
    fragment: Annotated[str, typer.Argument(metavar="FRAGMENT", help=_FRAGMENT)],
    jwks: Annotated[Path, typer.Option(metavar="FILE", help="The key set that the CDP publishes.")],
    audience: Annotated[str, typer.Option(metavar="NAME", help="Your name at the CDP.")],
    issuer: Annotated[str, typer.Option(metavar="URL", help="Name of the CDP.")] = _ISSUER,
    jti: Annotated[
        str | None, typer.Option(metavar="ID", help="Which fragment of a file with several.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="Instant to check at; now by default.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the claims as one JSON object.")] = False,
) -> None:
    """Verify a fragment as a CRM does: offline, with the key set alone. Exit status 1 if it is not genuine now.

    Example: dayfly verify out/fragments.jsonl --jti HYJjDm37nBIvS1jJt5wb1w --jwks out/jwks.json --audience crm-cn-1
    """
    import msgspec  # noqa: PLC0415 - only commands load libraries

    from dayfly.privacy.errors import ExpiredFragment, InvalidFragment, InvalidKeySet  # noqa: PLC0415 - as above
    from dayfly.privacy.fragments import Profile, Verifier  # noqa: PLC0415 - as above

    keys, token, now_ms = _json_file(jwks, "jwks"), _token(fragment, jti), instant_or_now(at, "--at")
    try:
        verifier = Verifier(keys, issuer, audience, profiles=tuple(Profile))
    except InvalidKeySet as error:
        fail(str(error))
    try:
        verified = verifier.verify(token, now_ms)
    except ExpiredFragment:
        fail("fragment=<token> is genuine and over; ask the CDP for a new one", ExitCode.NO)
    except InvalidFragment as error:
        fail(str(error), ExitCode.NO)
    claims: dict[str, Any] = msgspec.to_builtins(verified.claims)
    if as_json:
        print_json({"genuine": True, "profile": verified.profile.value, "claims": claims})
        return
    console = screen()
    console.print(f"genuine for {audience} at {instant_text(now_ms)}: profile {verified.profile.value}")
    for name, value in claims.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        console.print(
            f"{name:>8}  {text if len(text) <= 80 else text[:77] + '...'}", markup=False, soft_wrap=True
        )


@receipt_app.command("verify")
@guarded
def verify_receipts(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Receipts, one JSON object a line.")],
    log_key: Annotated[Path, typer.Option(metavar="PEM", help="Public key of the tombstone log.")],
    origin: Annotated[str, typer.Option(metavar="NAME", help="Name of the tombstone log.")] = _ORIGIN,
    jti: Annotated[str | None, typer.Option(metavar="ID", help="Only the receipt of this fragment.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as one JSON object.")] = False,
) -> None:
    """Verify deletion receipts offline: signature, balance and inclusion proof. Exit status 1 if one does not hold.

    Example: dayfly receipt verify out/receipts.jsonl --log-key out/log-key.pem
    """
    from dayfly.privacy.errors import InvalidReceipt  # noqa: PLC0415 - see `verify`
    from dayfly.privacy.fragments import verify_receipt  # noqa: PLC0415 - see `verify`

    receipts = [item for item in _receipts(file) if jti in {None, item.tombstone.jti}]
    if not receipts:
        fail(f"file={str(file)!r} must hold the receipt asked for (jti={jti!r}); check file and id")
    verifier = note_key(log_key, origin)
    checkpoints = []
    for receipt in receipts:
        try:
            checkpoints.append(verify_receipt(receipt, verifier, origin))
        except InvalidReceipt as error:
            fail(f"receipt of {receipt.tombstone.jti!r} does not hold: {error}", ExitCode.NO)
    checkpoint = checkpoints[-1]
    if as_json:
        stones = [
            {
                "jti": item.tombstone.jti,
                "reason": item.tombstone.reason.value,
                "dead_ms": item.tombstone.dead_ms,
            }
            for item in receipts
        ]
        print_json(
            {"holds": True, "tombstones": stones, "log_size": checkpoint.size, "minted": checkpoint.minted}
        )
        return
    console = screen()
    if jti is not None:
        stone = receipts[0].tombstone
        console.print(
            f"fragment {stone.jti}: destroyed ({stone.reason.value}) at {instant_text(stone.dead_ms)}",
            markup=False,
        )
    console.print(
        f"{len(receipts)} of {len(receipts)} receipts hold in a log of {checkpoint.size} tombstones: "
        f"{checkpoint.minted} minted = {checkpoint.live} alive + {checkpoint.size} destroyed"
    )


@audit_app.command("verify")
@guarded
def verify_audit_log(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The log, one JSON object a line.")],
    lines: Annotated[int | None, typer.Option(min=0, help="Number of lines that it must have.")] = None,
    sha256: Annotated[
        str | None, typer.Option(metavar="HEX", help="Digest that its last line must have.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the log's head as one JSON object.")] = False,
) -> None:
    """Verify that no line of an audit log was altered, removed or moved. Exit status 1 if one was.

    A cut end is only found against a head kept elsewhere: give --lines and --sha256.

    Example: dayfly audit verify out/audit.jsonl
    """
    from dayfly.privacy.audit_log import AuditHead, verify_audit  # noqa: PLC0415 - see `verify`
    from dayfly.privacy.errors import BrokenChain  # noqa: PLC0415 - see `verify`

    if (lines is None) != (sha256 is None):
        fail("lines and sha256 must be given together; they are the head that was kept")
    end = None if lines is None or sha256 is None else AuditHead(lines, sha256)
    with file.open("rb") as stream:
        try:
            head = verify_audit(stream, end=end)
        except BrokenChain as error:
            fail(f"file={str(file)!r}: {error}", ExitCode.NO)
    if as_json:
        print_json({"holds": True, "lines": head.lines, "sha256": head.sha256})
        return
    screen().print(f"{head.lines} lines hold; head {head.sha256}", soft_wrap=True)


# --- reading ------------------------------------------------------------------------------------------------------------


def _json_file(path: Path, name: str) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        fail(f"{name}={str(path)!r} must be a JSON file; check the path")


def _token(given: str, jti: str | None) -> str:
    """The token itself, or the one that a file holds."""
    if given.startswith("ey"):
        return given
    text = sys.stdin.read() if given == "-" else Path(given).read_text()
    if not text.lstrip().startswith("{"):
        return text.strip()
    found = [row for row in map(_row, text.splitlines()) if jti in {None, row.get("jti")}]
    if len(found) != 1 or not isinstance(found[0].get("token"), str):
        fail(
            f"fragment={given!r} must hold exactly one fragment with jti={jti!r}, it holds {len(found)}; give --jti"
        )
    token: str = found[0]["token"]
    return token


def _row(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        fail("fragment must be a token or a run's fragments.jsonl; check the file")
    return row


def _receipts(file: Path) -> "list[DeletionReceipt]":
    import msgspec  # noqa: PLC0415 - see `verify`

    from dayfly.privacy.fragments import DeletionReceipt  # noqa: PLC0415 - see `verify`

    decoder = msgspec.json.Decoder(DeletionReceipt)
    try:
        return [decoder.decode(line) for line in file.read_bytes().splitlines() if line.strip()]
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        fail(
            f"file={str(file)!r} must hold deletion receipts, one JSON object a line: {error}; check the file"
        )


def note_key(path: Path, origin: str) -> "NoteVerifier":
    """The verifier of a tombstone log, from its published key."""
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - see `verify`
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519  # noqa: PLC0415 - see `verify`
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415 - see `verify`

    from dayfly.privacy.fragments import note_verifier  # noqa: PLC0415 - see `verify`

    try:
        key = load_pem_public_key(path.read_bytes())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        fail(
            f"log_key={str(path)!r} must be a PEM public key (P-256 or Ed25519); use the log's published key"
        )
    return note_verifier(origin, key)
