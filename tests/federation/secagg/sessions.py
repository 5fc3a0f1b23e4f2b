"""Sessions of secure aggregation in one process."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dayfly.federation.identity import Identities, SigningIdentity
from dayfly.federation.secagg import Aggregator, Member, Round, Settings, least_threshold

Words = NDArray[np.uint64]


def digest(*parts: object) -> bytes:
    """32 bytes of test randomness."""
    return hashlib.sha256(repr(parts).encode()).digest()


@dataclass
class Session:
    """Members that have joined, and their server."""

    members: dict[str, Member]
    server: Aggregator
    identities: Identities

    def ask(self, round_: Round, inputs: dict[str, Words], late: Collection[str] = ()) -> None:
        """Masked inputs of everybody present but those who are `late`."""
        for name in round_.present:
            if name not in late:
                round_.add(self.members[name].masked(round_.request(name), inputs[name]))

    def open(self, round_: Round, silent: Collection[str] = ()) -> Words:
        """The sum, with answers of all included but those who are `silent`."""
        return round_.open(
            {
                name: self.members[name].unmasked(round_.unmask_request(name))
                for name in round_.included
                if name not in silent
            }
        )


def names_of(count: int) -> list[str]:
    return [f"channel-{number:02d}" for number in range(count)]


def identities_of(names: Sequence[str]) -> tuple[dict[str, SigningIdentity], Identities]:
    keys = {name: SigningIdentity(name, digest("node", name)) for name in names}
    return keys, Identities({name: key.public_key for name, key in keys.items()})


def session_of(
    count: int, words: int, *, threshold: int | None = None, rounds: int = 3, seed: int = 0
) -> Session:
    names = names_of(count)
    keys, identities = identities_of(names)
    settings = Settings(digest("session", seed)[:16], threshold or least_threshold(count), rounds, words)
    members = {name: Member(keys[name], identities, settings, digest("root", seed, name)) for name in names}
    server = Aggregator(identities, settings)
    roster = server.roster(member.hello() for member in members.values())
    server.joined(member.join(roster) for member in members.values())
    return Session(members, server, identities)


def inputs_of(names: Sequence[str], words: int, *, seed: int = 0) -> dict[str, Words]:
    generator = np.random.default_rng(seed)
    return {name: generator.integers(0, 2**64, words, dtype=np.uint64) for name in names}
