"""The folder that a run leaves behind. It holds tokens, lineage and proofs; no key and no pseudonym."""

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dayfly.engine.decisions import Decisions
from dayfly.engine.errors import RunError
from dayfly.engine.intake import DeadLetterFile
from dayfly.engine.lineage import LineageStore
from dayfly.engine.runtime.replay import Step
from dayfly.privacy.fragments import AppendOnlyFile, DeletionReceipt, Fragment

__all__ = ["RunFolder"]

_encode = msgspec.json.Encoder(order="sorted").encode


class RunFolder:
    """Writes a run's files beside `folder` and puts them there, all at once, when the run has ended well.

    ::

        fragments.jsonl     token, id, audience and end of each fragment
        lineage.dayfly      why each audience sees each field (`dayfly explain`)
        audit.jsonl         every consent and transfer decision, hash-chained (`dayfly audit verify`)
        decisions.jsonl     tags entered and left, orders, refusals and recalls
        dead-letters.jsonl  inputs that did not become events, with the reason
        tombstones/         the log of destroyed fragments and its signed checkpoint
        receipts.jsonl      deletion receipts with inclusion proofs (`dayfly receipt verify`)
        log-key.pem         public key of that log
        jwks.json           public keys for verifying fragments (`dayfly verify`)
        summary.json        what was counted

    Args:
        folder: Where the files will be; absent, or empty.
        lineage_key: 32 bytes; hides in the lineage whose fragment it was.
        who: Keyed hash of a pseudonym, as in the audit log.

    Raises:
        RunError: the folder holds something already, or cannot be made.
    """

    def __init__(self, folder: Path, *, lineage_key: bytes, who: Callable[[bytes], str]) -> None:
        check_free(folder)
        self.folder = folder
        self._part = folder.parent / f".{folder.name}.part-{os.getpid()}"
        self._who = who
        self._done = False
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, self._part, ignore_errors=True)
            try:
                self._part.mkdir(parents=True)
                self.lineage = LineageStore.open(self._part / LINEAGE, subject_key=lineage_key)
                self.tombstones = AppendOnlyFile(self._part / "tombstones")
                self._audit = (self._part / "audit.jsonl").open("wb")
                self._fragments = (self._part / "fragments.jsonl").open("wb")
                self._decisions = (self._part / "decisions.jsonl").open("wb")
                self._dead = DeadLetterFile(self._part / "dead-letters.jsonl")
            except OSError as error:
                raise RunError(
                    f"out={str(folder)!r} must be a folder that can be written: {error.strerror}; choose another"
                ) from error
            self._unmade = stack.pop_all()

    def audit(self, line: bytes) -> None:
        """Keep one line of the audit log."""
        self._audit.write(line)

    def add(self, step: Step) -> None:
        """Keep what one step brought."""
        if not step.eventful:
            return
        outcome = step.outcome
        self.add_fragments(outcome.fragments)
        self._dead.append(step.rejected)
        for row in _decision_rows(outcome.decisions, self._who):
            self._decisions.write(_encode(row) + b"\n")

    def add_fragments(self, fragments: Iterable[Fragment]) -> None:
        """Keep minted tokens."""
        for item in fragments:
            row = {
                "jti": item.jti,
                "order_id": item.order_id,
                "audience": item.audience,
                "profile": item.profile,
                "issued_at_ms": item.issued_at_ms,
                "expires_at_ms": item.expires_at_ms,
                "token": item.token,
            }
            self._fragments.write(_encode(row) + b"\n")

    def finish(
        self,
        *,
        jwks: Mapping[str, Any],
        log_key: ec.EllipticCurvePublicKey,
        receipts: Iterable[DeletionReceipt],
        summary: Mapping[str, Any],
    ) -> None:
        """Write what is known at the end and put the folder in its place; the engine is closed already."""
        self._close()
        pem = log_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (self._part / "log-key.pem").write_bytes(pem)
        (self._part / "jwks.json").write_bytes(msgspec.json.format(_encode(jwks)) + b"\n")
        with (self._part / "receipts.jsonl").open("wb") as file:
            file.writelines(msgspec.json.encode(receipt) + b"\n" for receipt in receipts)
        (self._part / "summary.json").write_bytes(msgspec.json.format(_encode(summary)) + b"\n")
        if self.folder.is_dir():
            self.folder.rmdir()
        self._part.rename(self.folder)
        self._done = True

    def _close(self) -> None:
        for file in (self._audit, self._fragments, self._decisions, self._dead, self.tombstones):
            file.close()

    def __enter__(self) -> Self:
        """The folder itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave nothing behind unless the run was finished."""
        if not self._done:
            self._close()
            self._unmade.close()


LINEAGE: Final = "lineage.dayfly"


def check_free(folder: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        RunError: it does, or is no folder.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise RunError(
            f"out={str(folder)!r} must not exist or be an empty folder; choose another or remove it"
        )


def _decision_rows(decisions: Decisions, who: Callable[[bytes], str]) -> list[dict[str, object]]:
    """One row per decision, by rising sequence, with the keyed hash of whom it is about."""
    rows: list[dict[str, object]] = [
        {
            "sequence": tag.sequence,
            "at_ms": tag.at_ms,
            "kind": tag.change,
            "who": who(tag.subject),
            "tag": tag.tag,
            "reason": tag.reason if tag.change == "leave" else "",
        }
        for tag in decisions.tags
    ]
    rows += [
        {
            "sequence": made.sequence,
            "at_ms": made.at_ms,
            "kind": "order",
            "who": who(made.order.subject),
            "order_id": made.order.order_id,
            "trigger": made.order.rule.id,
            "audience": made.order.audience,
            "fields": [item.name for item in made.order.fields],
            "supersedes": made.order.supersedes,
        }
        for made in decisions.orders
    ]
    rows += [
        {
            "sequence": refusal.sequence,
            "at_ms": refusal.at_ms,
            "kind": "refusal",
            "who": who(refusal.subject),
            "trigger": refusal.trigger,
            "reason": refusal.reason,
        }
        for refusal in decisions.refusals
    ]
    rows += [
        {
            "sequence": recall.sequence,
            "at_ms": recall.at_ms,
            "kind": "recall",
            "audience": recall.audience,
            "order_ids": recall.order_ids,
            "reason": recall.reason,
        }
        for recall in decisions.recalls
    ]
    rows += [
        {
            "sequence": 0,
            "at_ms": letter.at_ms,
            "kind": "dead_letter",
            "channel": letter.channel,
            "reason": letter.reason,
        }
        for letter in decisions.dead_letters
    ]
    return sorted(rows, key=_sequence)


def _sequence(row: Mapping[str, object]) -> int:
    sequence = row["sequence"]
    assert isinstance(sequence, int)
    return sequence
