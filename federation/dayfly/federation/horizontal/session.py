"""The coordinator's end of secure sums: set up once, then two messages for each sum, whoever is lost on the way."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from dayfly.federation.errors import BadMessage, Declined, TooFewParties
from dayfly.federation.grid import Failure
from dayfly.federation.horizontal.messages import MaskBody, Opening
from dayfly.federation.secagg import (
    Aggregator,
    Hello,
    Joined,
    Masked,
    Round,
    Settings,
    Unmasked,
    least_threshold,
)
from dayfly.federation.secagg.messages import T, decode, encode
from dayfly.federation.wire import Caller

__all__ = ["SecureSession", "SecureSum"]


@dataclass(frozen=True, slots=True)
class SecureSum:
    """A sum and who is in it.

    Attributes:
        words: Modulo 2^64, uint64 (settings.words,).
        included: Whose summands it holds, sorted.
        lost: Who was asked and is not in it, or did not help to open it, and why.
    """

    words: NDArray[np.uint64]
    included: tuple[str, ...]
    lost: tuple[Failure, ...]


class SecureSession:
    """Sums over the parties of a grid.

    A party that is lost is asked again in the next round, and given up after `patience` rounds in a row. A party that
    declines, or sends what is no reply, ends the run with an error that names it: that is no accident to work around.

    Args:
        caller: The coordinator's end of the wire.
        session: 16 to 64 random bytes.
        rounds: Most sums.
        words: Length of a summand.
        patience: Rounds that a party may miss in a row.
    """

    def __init__(self, caller: Caller, *, session: bytes, rounds: int, words: int, patience: int = 2) -> None:
        self._caller: Final = caller
        self._patience: Final = patience
        self._parties: Final = caller.grid.parties()
        self.settings: Final = Settings(session, least_threshold(len(self._parties)), rounds, words)
        self._server: Final = Aggregator(caller.identities, self.settings)
        self._missed: Final[Counter[str]] = Counter()
        self._members: tuple[str, ...] = ()
        self._round = 0

    @property
    def members(self) -> tuple[str, ...]:
        """Who joined, sorted."""
        return self._members

    @property
    def there(self) -> tuple[str, ...]:
        """Members that are not given up."""
        return tuple(name for name in self._members if self._missed[name] < self._patience)

    def start(self, spec: bytes) -> tuple[str, ...]:
        """Set up: two messages to each party. Returns who joined.

        Raises:
            Declined: a party does not agree to `spec`; names it and its cause.
            TooFewParties: fewer than the threshold are there.
        """
        opening = encode(Opening(self.settings, spec))
        hellos = self._ask("hello", dict.fromkeys(self._parties, opening), Hello)[0]
        self._check_enough(tuple(hellos))
        roster = encode(self._server.roster(hellos.values()))
        joined = self._ask("join", dict.fromkeys(hellos, roster), Joined)[0]
        self._check_enough(tuple(joined))
        self._members = self._server.joined(joined.values())
        return self._members

    def sum(self, task: bytes) -> SecureSum:
        """One sum: two messages to each party that is there.

        Raises:
            Declined: a party declines; names it and its cause.
            TooFewParties: fewer than the threshold are left.
            PartyFault: a reply is none; names whose.
        """
        self._round += 1
        round_ = self._server.begin(self._round, hashlib.sha256(task).digest(), self.there)
        masked, away = self._ask(
            "mask",
            {name: encode(MaskBody(round_.request(name), task)) for name in round_.present},
            Masked,
        )
        for reply in masked.values():
            round_.add(reply)
        opened, silent = self._ask("unmask", self._unmask(round_), Unmasked)
        words = round_.open(opened)
        for name in round_.present:
            self._missed[name] = 0 if name in opened else self._missed[name] + 1
        return SecureSum(words, round_.included, (*away, *silent))

    def _unmask(self, round_: Round) -> dict[str, bytes]:
        return {name: encode(round_.unmask_request(name)) for name in round_.included}

    def _check_enough(self, names: tuple[str, ...]) -> None:
        if len(names) < self.settings.threshold:
            gone = sorted(set(self._parties) - set(names))
            raise TooFewParties(
                f"parties={sorted(names)} must be at least {self.settings.threshold}; {gone} did not answer: start them"
            )

    def _ask(
        self, kind: str, bodies: Mapping[str, bytes], reply: type[T]
    ) -> tuple[dict[str, T], list[Failure]]:
        found: dict[str, T] = {}
        lost: list[Failure] = []
        for party, answer in sorted(self._caller.ask(kind, bodies).items()):
            if isinstance(answer, Failure):
                if not answer.lost:
                    raise Declined(party, f"declined {kind!r}: {answer.cause}")
                lost.append(answer)
                continue
            read = decode(answer, reply, party=party)
            if msgspec.structs.asdict(read).get("party") != party:
                raise BadMessage(party, f"must answer {kind!r} in its own name; stop it and check its node")
            found[party] = read
        return found, lost
