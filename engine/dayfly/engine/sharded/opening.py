"""Opening a sharded store: the folder above, one process per shard, and what a crash left half done."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dayfly.engine.durable.cutting import check_fits
from dayfly.engine.durable.folder import open_folder
from dayfly.engine.durable.outside import Outside
from dayfly.engine.durable.part import Part
from dayfly.engine.durable.settings import EngineSettings
from dayfly.engine.inputs import Publish
from dayfly.engine.intake import IntakeKeys
from dayfly.engine.policy.load import policy_from_source
from dayfly.engine.policy.model import Policy
from dayfly.engine.sharded.clients import Client, Port
from dayfly.engine.sharded.member import Keys, MemberSpec, shard_verifier
from dayfly.engine.sharded.process import ProcessClient
from dayfly.engine.store import LOCAL_DISK, StoreMarker
from dayfly.engine.store.files import replace_file
from dayfly.privacy.errors import InvalidArgument
from dayfly.privacy.fragments.tombstones.note import NoteVerifier
from dayfly.privacy.keys import KeyName, ProbeDayKeys

__all__ = ["MOST_SHARDS", "PUBLISHING", "Opened", "Publishing", "Start", "open_shards", "shard_folder"]

PUBLISHING: Final = "publishing.policy"
"""A policy that is being published: whatever a crash leaves of that is done when the store is opened."""
MOST_SHARDS: Final = 64
_NONCE_KEY_BYTES: Final = 32

Start = Callable[[MemberSpec], Client]


@dataclass(frozen=True, slots=True)
class Opened:
    """A sharded store whose shards are open.

    Attributes:
        ports: The shards, by number.
        keys: What the intake works under.
        verifiers: For what each shard signs.
        made_ms: When the store was made.
        forget_probe_days: Destroys the probe keys of earlier days.
        stack: Closes everything.
    """

    ports: Sequence[Port]
    keys: IntakeKeys
    verifiers: tuple[NoteVerifier, ...]
    made_ms: int
    forget_probe_days: Callable[[int], object]
    stack: ExitStack


def shard_folder(folder: Path, number: int) -> Path:
    """Where a shard is."""
    return folder / f"shard-{number:02}"


def open_shards(
    folder: Path,
    keys: Keys,
    *,
    shards: int,
    policy: Policy | None,
    recipients: Mapping[str, str],
    settings: EngineSettings,
    outside: Outside,
    start: Start | None,
) -> Opened:
    """Open all shards at once; see `ShardedEngine.open`."""
    if isinstance(shards, bool) or not 2 <= shards <= MOST_SHARDS:
        raise InvalidArgument(f"shards={shards!r} must be 2 to {MOST_SHARDS}; use Engine for a store of one")
    secrets = keys()
    with ExitStack() as stack:
        slots = open_folder(folder, secrets, policy, outside, stack, shards=shards)
        made_ms = StoreMarker.read(folder).created_ms
        nonce_key = os.urandom(_NONCE_KEY_BYTES)
        clients = []
        for number in range(shards):
            path = shard_folder(folder, number)
            known = policy is None or StoreMarker.find(path) is not None
            spec = MemberSpec(
                path,
                Part(number, shards, made_ms, nonce_key),
                keys,
                None if known or policy is None else policy.source,
                recipients,
                settings,
                outside,
            )
            client = (start or ProcessClient)(spec)
            stack.callback(client.close)
            clients.append(client)
        for client in clients:
            opened: Any = getattr(client, "opened", None)
            if opened is not None:
                opened.result()
        days = ProbeDayKeys(slots)
        probes = secrets.probes(days)
        notes = secrets.notes()
        return Opened(
            [Port(client) for client in clients],
            IntakeKeys(secrets.pseudonyms(), secrets.key(KeyName.DIGEST), probes),
            tuple(shard_verifier(notes.signer.name, notes.public, number) for number in range(shards)),
            made_ms,
            lambda now_ms: None if probes is None else days.forget_before(probes.local_day(now_ms)),
            stack.pop_all(),
        )


class Publishing:
    """Publications to all shards, whole also across crashes.

    Args:
        folder: Of the store.
        ports: The shards.
        frame_bytes: Most bytes of a frame of their logs.
    """

    def __init__(self, folder: Path, ports: Sequence[Port], frame_bytes: int) -> None:
        self._pending: Final = folder / PUBLISHING
        self._ports: Final = ports
        self._frame_bytes: Final = frame_bytes

    def check(self, policy: Policy) -> None:
        """Refuse a policy that does not fit the log, before anybody is told of it.

        Raises:
            ValueOutOfRange: it is too large.
        """
        check_fits([Publish(0, policy)], self._frame_bytes)

    def finish(self, policy: Policy | None, now_ms: int) -> Policy:
        """Make all shards follow one policy when the store is opened: the one given, or one that was being published, or theirs."""
        sources = [policy_from_source(port.state().policy) for port in self._ports]
        if policy is None and self._pending.exists():
            policy = policy_from_source(self._pending.read_bytes())
        wanted = policy or sources[0]
        if any(source.digest != wanted.digest for source in sources):
            self.check(wanted)
            self.publish(wanted, now_ms)
        self._pending.unlink(missing_ok=True)
        return wanted

    def publish(self, policy: Policy, now_ms: int) -> None:
        """Put a policy in force everywhere."""
        replace_file(LOCAL_DISK, self._pending, policy.source)
        for told in [port.apply([Publish(now_ms, policy)], now_ms) for port in self._ports]:
            told.result()
        self._pending.unlink(missing_ok=True)
