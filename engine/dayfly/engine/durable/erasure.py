"""Erasure of one person: what is alive at once, and then every older file that could bring something back.

1. `Erase` is logged and applied: tags left, fragments shredded and recalled, history, windows and consents gone.
2. A snapshot without the person is written and read back.
3. The data keys of all older snapshots and log segments are destroyed and their files removed; lineage and dead letters of
   the person are destroyed; keys of older backups too.
4. A certificate says so, signed with the key of the tombstone log.

A crash in between is made good when the store is opened: the logged `Erase` is seen in the replay, or the snapshot says that
older files must go, and the rest is done before anything new is taken in.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from dayfly.engine.durable.feed import Feed
from dayfly.engine.durable.host import Host
from dayfly.engine.durable.keeping import Content, Keeper
from dayfly.privacy.errors import InvalidReceipt
from dayfly.privacy.fragments import NoteVerifier
from dayfly.privacy.fragments.tombstones.note import NoteSigner, open_note, sign_note
from dayfly.privacy.keys import DataKeys

__all__ = ["ErasureCertificate", "Erasures", "verify_certificate"]

_HEAD: Final = "dayfly-erasure-1"


class ErasureCertificate(msgspec.Struct, frozen=True, kw_only=True):
    """Proof that an erasure was carried out, for the person and for auditors. Holds no pseudonym.

    Attributes:
        who: Keyed hash of the pseudonym, as in the audit log.
        erased_ms: When the erasure was applied, and `completed_ms` when the last key that could bring anything back was gone.
        position: Log position before which nothing can be read any more.
        destroyed_keys: Data keys destroyed by it: ids by purpose; the ids are never used again.
        fragments: Live fragments that were shredded.
        note: All of the above as a signed note (C2SP), by the key of the tombstone log.
    """

    who: str
    erased_ms: int
    completed_ms: int
    position: int
    destroyed_keys: dict[str, tuple[int, ...]]
    fragments: tuple[str, ...]
    note: str = ""


@dataclass(slots=True)
class _Done:
    at_ms: int
    position: int
    fragments: tuple[str, ...]


class Erasures:
    """Carries erasures out. Several at once share one snapshot.

    Args:
        host, keeper, feed, keys: Of the engine.
        signer: Signs certificates; its name is their origin.
        now_ms: When an erasure is complete.
        random_bytes: Stand-ins for erased pseudonyms in head-counts.
    """

    def __init__(
        self,
        host: Host,
        keeper: Keeper,
        feed: Feed,
        keys: DataKeys,
        *,
        signer: NoteSigner,
        now_ms: Callable[[], int],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._random_bytes: Final = random_bytes
        self._host: Final = host
        self._keeper: Final = keeper
        self._feed: Final = feed
        self._keys: Final = keys
        self._signer: Final = signer
        self._now_ms: Final = now_ms
        self._completing = threading.Lock()
        self._applied = 0
        self._completed: tuple[int, dict[str, tuple[int, ...]]] = (-1, {})

    def erase(self, subject: bytes, do: Callable[[Callable[[int], Any]], Any]) -> ErasureCertificate:
        """Erase a person and wait until nothing can bring anything back.

        Args:
            subject: One of the person's pseudonyms.
            do: Runs something on the engine's thread and waits until it is durable.
        """
        done: _Done = do(lambda now_ms: self._apply(subject, now_ms))
        self._applied = max(self._applied, done.position)
        destroyed = self.complete(done.position, do)
        return self._certificate(subject, done, destroyed)

    def _apply(self, subject: bytes, now_ms: int) -> _Done:
        position, outcome = self._host.erase(subject, now_ms)
        return _Done(now_ms, position, tuple(item.jti for item in outcome.destroyed))

    def pending(self) -> int:
        """Position of the newest erasure that a crash interrupted; 0 when there is none."""
        standing = self._host.standing
        return max(standing.purging, *standing.erasing, 0)

    def complete(
        self, position: int, do: Callable[[Callable[[int], Any]], Any]
    ) -> dict[str, tuple[int, ...]]:
        """Destroy everything written up to `position`; returns the keys that are gone, by purpose."""
        with self._completing:
            if self._completed[0] >= position:  # another erasure has taken this one along
                return self._completed[1]
            position = max(position, self._applied)  # every erasure whose turn is told and published already
            purposes = ("log", "snapshot", "backup")
            before = {purpose: set(self._keys.live(purpose)) for purpose in purposes}
            at, parts = do(lambda _: self._without_traces(position))
            self._keeper.write(at, parts, keep=1, verify=True)
            self._keys.destroy(sorted(before["backup"]))
            destroyed = {
                purpose: tuple(sorted(before[purpose] - set(self._keys.live(purpose))))
                for purpose in purposes
            }
            do(lambda _: self._host.erased(position))
            self._completed = (position, destroyed)
            return destroyed

    def _without_traces(self, position: int) -> tuple[int, Callable[[], dict[str, Content]]]:
        """Take the persons out of what stands beside the shard, and the state then; on the engine's thread."""
        standing = self._host.standing
        for at in [at for at in standing.erasing if at <= position]:
            names = standing.erasing.pop(at)
            self._feed.forget(names)
            for name in names:
                standing.transfers.forget(name, self._random_bytes(16))
        # Says without a name that older files must go, should a crash come before they are gone.
        standing.purging = max(standing.purging, position)
        return self._keeper.image(roll=True)

    def _certificate(
        self, subject: bytes, done: _Done, destroyed: dict[str, tuple[int, ...]]
    ) -> ErasureCertificate:
        certificate = ErasureCertificate(
            who=self._host.engine.audit.who(subject),
            erased_ms=done.at_ms,
            completed_ms=self._now_ms(),
            position=done.position,
            destroyed_keys=destroyed,
            fragments=done.fragments,
        )
        note = sign_note(_text(self._signer.name, certificate), self._signer)
        return msgspec.structs.replace(certificate, note=note)


def _text(origin: str, certificate: ErasureCertificate) -> str:
    """What is signed: the certificate as canonical JSON under a heading that no checkpoint can have."""
    content = msgspec.json.encode(msgspec.structs.replace(certificate, note=""), order="sorted").decode()
    return f"{origin}\n{_HEAD}\n{content}\n"


def verify_certificate(certificate: ErasureCertificate, verifier: NoteVerifier) -> None:
    """Check a certificate offline.

    Raises:
        InvalidReceipt: not signed by that key, or altered.
    """
    if open_note(certificate.note, verifier) != _text(verifier.name, certificate):
        raise InvalidReceipt("certificate must say what its note says; it was altered, ask for it again")
